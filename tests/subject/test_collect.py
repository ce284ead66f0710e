"""Collection end to end on tiny models: what the store holds, against hooks and a formula; resuming; mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from harness import registry
from harness.errors import CoderError, CorpusError, HookpointError, StoreError, SubjectError
from harness.store import Rows, Store
from harness.subject.coders.protocol import CoderInfo, TokenCoder
from harness.subject.coders.saelens import save_saelens
from harness.subject.coders.sparse import SparseWeights
from harness.subject.collect import collect, read_figures, store_config
from harness.subject.reading import Reading
from harness.task import CoderSettings, CorpusSettings, SubjectSettings

D, F, K = 16, 40, 3


class VowelCoder:
    """Reads text: latent i fires on pieces that hold the i-th vowel, as often as it does."""

    reads: ClassVar[str] = "tokens"
    info = CoderInfo(5, None, None, "", "vowels-1")
    decoder = None

    @classmethod
    def describe(cls, settings: CoderSettings, base: Path) -> CoderInfo:
        return cls.info

    @classmethod
    def load(
        cls, settings: CoderSettings, base: Path, device: str = "cpu", info: CoderInfo | None = None
    ) -> VowelCoder:
        return cls()

    def encode_pieces(self, contexts: Sequence[Sequence[str]]) -> Rows:
        counts = np.array([[piece.count(vowel) for vowel in "aeiou"] for row in contexts for piece in row], np.float32)
        rows, latents = np.nonzero(counts)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(counts)))])
        return Rows(indptr.astype(np.int64), latents, counts[rows, latents])


@pytest.fixture(autouse=True)
def _vowels(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {**registry.BUILT_IN["coders"], "vowels": f"{__name__}:VowelCoder"}
    monkeypatch.setitem(registry.BUILT_IN, "coders", kinds)
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[VowelCoder.__module__])


def weights(seed: int = 0, width: int = D) -> SparseWeights:
    draw = torch.Generator().manual_seed(seed)
    w_enc = torch.randn(width, F, generator=draw)
    return SparseWeights(w_enc, torch.zeros(F), w_enc.T.contiguous() / width, torch.zeros(width), "topk", K)


@pytest.fixture
def sae(tmp_path: Path) -> CoderSettings:
    save_saelens(tmp_path / "sae", weights(), {})
    return CoderSettings(name="sae", hookpoint="model.layers.1", path=str(tmp_path / "sae"))


@pytest.fixture
def subject(llama: Path, corpus_file: Path) -> SubjectSettings:
    # random coders leave everything unexplained
    corpus = CorpusSettings(path=corpus_file)
    return SubjectSettings(model=str(llama), corpus=corpus, context=16, batch=4, threads=1, max_fvu=10)


def test_a_store_holds_what_hooks_and_the_formula_give(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path
) -> None:
    before = CoderSettings(name="before", hookpoint="model.layers.1", input=True, path=sae.path)
    store = collect(subject, [sae, before], tmp_path / "store")
    assert store.n_contexts > 20
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(subject.model)
    ids = torch.from_numpy(np.asarray(store.tokens).astype(np.int64))
    with torch.no_grad():
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
    w_enc = weights().w_enc
    for name, layer in (("sae", 2), ("before", 1)):
        flat = hidden[layer].reshape(-1, D) @ w_enc
        kept = flat.topk(K, dim=-1)
        expected = torch.zeros_like(flat).scatter(-1, kept.indices, kept.values.relu()).numpy()
        expected[np.asarray(store.documents).reshape(-1) < 0] = 0
        found = np.zeros_like(expected)
        for latent in range(F):
            firings = store.coder(name).latent(latent)
            found[firings.positions, latent] = firings.values
        assert ((found > 0) == (expected > 0)).mean() > 0.9999
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert (np.asarray(store.tokens)[:, 0] == 0).all()
    assert store.manifest.frame.bos == 0


def test_text_and_manifest_say_what_was_read(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path, texts: list[str]
) -> None:
    store = collect(subject, [sae], tmp_path / "store")
    assert "".join(store.pieces(0, 0, 16)).startswith(texts[0][:20])
    assert store.manifest.counts["documents"] == len(texts)
    assert 0 <= store.manifest.counts["dropped_tokens"] < 16
    frame = store.manifest.frame
    assert frame.collection == {"batch": 4, "dtype": "float32", "device": "cpu", "threads": 1}
    assert frame.model == Path(subject.model).name
    assert frame.versions["torch"] == version("torch")
    coder = store.coder("sae")
    assert (coder.n_latents, coder.hookpoint) == (F, "model.layers.1")
    np.testing.assert_allclose(np.asarray(coder.decoder), weights().w_dec.numpy(), rtol=1e-3, atol=1e-4)


def test_figures_are_those_of_a_naive_computation(subject: SubjectSettings, sae: CoderSettings, tmp_path: Path) -> None:
    store = collect(subject, [sae], tmp_path / "store")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(subject.model)
    ids = torch.from_numpy(np.asarray(store.tokens).astype(np.int64))
    with torch.no_grad():
        x = model(input_ids=ids, output_hidden_states=True).hidden_states[2].double()
    x = x[torch.from_numpy(np.asarray(store.documents) >= 0)]
    acts = x @ weights().w_enc.double()
    kept = acts.topk(K, dim=-1)
    acts = torch.zeros_like(acts).scatter(-1, kept.indices, kept.values.relu())
    fvu = (x - acts @ weights().w_dec.double()).square().sum() / (x - x.mean(0)).square().sum()
    figures = read_figures(store)["sae"]
    assert figures.fvu == pytest.approx(float(fvu), rel=1e-4)
    assert figures.l0 == pytest.approx(float((acts > 0).sum(1).double().mean()))
    assert figures.tokens == len(x)


def test_a_coder_of_text_fires_where_it_should(subject: SubjectSettings, tmp_path: Path) -> None:
    assert isinstance(VowelCoder(), TokenCoder)
    store = collect(subject, [CoderSettings(name="vowels", kind="vowels", hookpoint="", path="")], tmp_path / "store")
    coder = store.coder("vowels")
    for latent, vowel in enumerate("aeiou"):
        firings = coder.latent(latent)
        found = dict(zip(firings.positions.tolist(), firings.values.tolist(), strict=True))
        for context in range(store.n_contexts):
            for offset, piece in enumerate(store.pieces(context, 0, 16)):
                assert found.get(context * 16 + offset, 0) == piece.count(vowel)
    assert store.manifest.frame.collection == {}
    assert read_figures(store) == {}


def test_an_interrupted_collection_goes_on_to_the_same_store(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.store import writer

    whole = collect(subject, [sae], tmp_path / "whole")
    append = writer.StoreWriter.append

    # a segment a batch, so that there is something to go on with
    def append_and_flush(self: Any, *args: Any) -> None:
        append(self, *args)
        self._flush()

    monkeypatch.setattr(writer.StoreWriter, "append", append_and_flush)

    def stop(done: int, _: int) -> None:
        if done == 3 * 4 * 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(subject, [sae], tmp_path / "cut", stop)
    with pytest.raises(StoreError, match="not finished"):
        Store.open(tmp_path / "cut")
    read: list[int] = []
    rows = Reading.rows
    monkeypatch.setattr(Reading, "rows", lambda *parts: (read.append(len(parts[1])), rows(*parts))[1])
    resumed = collect(subject, [sae], tmp_path / "cut")
    assert resumed.id == whole.id
    assert sum(read) == whole.n_contexts - 3 * 4


def test_a_finished_store_is_opened_and_not_collected_again(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = collect(subject, [sae], tmp_path / "store")
    monkeypatch.setattr("harness.subject.models.load_model", None)
    assert collect(subject, [sae], tmp_path / "store").id == first.id
    with pytest.raises(StoreError):
        collect(subject.model_copy(update={"context": 8}), [sae], tmp_path / "store")


def test_the_configuration_is_found_without_torch_and_matches(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path
) -> None:
    store = collect(subject, [sae], tmp_path / "store")
    code = (
        "import sys, json; from pathlib import Path\n"
        "from harness.subject.collect import store_config; from harness.task import CoderSettings, SubjectSettings\n"
        f"subject = SubjectSettings.model_validate_json({subject.model_dump_json()!r})\n"
        f"coder = CoderSettings.model_validate_json({sae.model_dump_json()!r})\n"
        "print(store_config(subject, [coder]))\n"
        "assert not {'torch', 'transformers', 'nnsight', 'datasets'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == store.manifest.config == store_config(subject, [sae])


@pytest.mark.parametrize(
    "change",
    [
        {"context": 8},
        {"batch": 5},
        {"dtype": "bfloat16"},
        {"threads": 2},
        {"corpus": {"tokens": 64}},
        {"corpus": {"path": "other"}},
        {"coder": {"path": "other"}},
        {"coder": {"hookpoint": "model.layers.0"}},
        {"coder": {"input": True}},
        {"model": "gpt2"},
    ],
)
def test_what_decides_the_content_changes_the_configuration(
    subject: SubjectSettings,
    sae: CoderSettings,
    tmp_path: Path,
    model_folders: dict[str, Path],
    change: dict[str, Any],
) -> None:
    before = store_config(subject, [sae])
    data, coder = subject.model_dump(), sae.model_dump()
    for key, value in change.items():
        if key == "coder":
            if "path" in value:
                save_saelens(tmp_path / "other", weights(1), {})
                value = {"path": str(tmp_path / "other")}
            coder |= value
        elif key == "corpus":
            if "path" in value:
                (tmp_path / "other.jsonl").write_text(json.dumps({"text": "the cat sees a dog."}), encoding="utf-8")
                value = {"path": tmp_path / "other.jsonl"}
            data["corpus"] |= value
        else:
            data[key] = str(model_folders["gpt2"]) if key == "model" else value
    assert store_config(SubjectSettings.model_validate(data), [CoderSettings.model_validate(coder)]) != before


def test_where_things_lie_does_not_change_the_configuration(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path
) -> None:
    import shutil

    moved = tmp_path / "elsewhere"
    shutil.copytree(subject.model, moved / Path(subject.model).name)
    shutil.copytree(sae.path or "", moved / "sae")
    assert subject.corpus.path is not None
    shutil.copy(subject.corpus.path, moved / "corpus.jsonl")
    there = subject.model_copy(
        update={"model": Path(subject.model).name, "corpus": CorpusSettings(path=Path("corpus.jsonl"))}
    )
    coder = sae.model_copy(update={"path": "sae"})
    assert store_config(there, [coder], moved) == store_config(subject, [sae])


def test_progress_ends_at_the_whole(subject: SubjectSettings, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    vowels = CoderSettings(name="vowels", kind="vowels", hookpoint="", path="")
    store = collect(subject, [vowels], tmp_path / "store", lambda done, total: calls.append((done, total)))
    assert calls[-1] == (store.n_tokens, store.n_tokens)
    assert all(done <= total for done, total in calls)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_mistakes_are_told_and_leave_no_store(subject: SubjectSettings, sae: CoderSettings, tmp_path: Path) -> None:
    out = tmp_path / "store"
    save_saelens(tmp_path / "wide", weights(width=24), {})
    wide = sae.model_copy(update={"path": str(tmp_path / "wide")})
    with pytest.raises(CoderError, match=r'"sae" reads vectors of width 24, and hookpoint "model.layers.1" has \[16\]'):
        collect(subject, [wide], out)
    with pytest.raises(HookpointError, match=r'"model.layers.7".*did you mean "model.layers.0" or "model.layers.2"'):
        collect(subject, [sae.model_copy(update={"hookpoint": "model.layers.7"})], out)
    with pytest.raises(SubjectError, match=r"subject.context \(128\) is more than the 64 positions"):
        collect(subject.model_copy(update={"context": 128}), [sae], out)
    with pytest.raises(SubjectError, match="no such folder"):
        collect(subject.model_copy(update={"model": "./nowhere"}), [sae], out)
    with pytest.raises(CorpusError, match="no such corpus"):
        collect(subject.model_copy(update={"corpus": CorpusSettings(path=Path("gone.txt"))}), [sae], out)
    with pytest.raises(SubjectError, match=r'subject.device "cuda" cannot be used'):
        collect(subject.model_copy(update={"device": "cuda"}), [sae], out)
    assert not out.exists()


def test_halved_batches_are_recorded_and_a_resumed_collection_keeps_the_record(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.subject.coders.sparse import SparseCoder

    whole = collect(subject, [sae], tmp_path / "whole")
    encode = SparseCoder.encode

    def small(self: SparseCoder, activations: torch.Tensor) -> Rows:
        if len(activations) > 2 * 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, activations)

    def stop(done: int, _: int) -> None:
        if done == 3 * 4 * 16:
            raise KeyboardInterrupt

    monkeypatch.setattr(SparseCoder, "encode", small)
    with pytest.raises(KeyboardInterrupt):
        collect(subject, [sae], tmp_path / "cut", stop)
    halved = tmp_path / "cut" / "halved.json"
    assert json.loads(halved.read_text()) == [{"start": 0, "stop": 12, "batch": 2}]
    monkeypatch.setattr(SparseCoder, "encode", encode)
    resumed = collect(subject, [sae], tmp_path / "cut")
    assert resumed.manifest.counts["halved_contexts"] == 12
    assert resumed.manifest.counts["smallest_batch"] == 2
    assert "halved_contexts" not in whole.manifest.counts
    # the same latents, the values within a rounding of float16
    for latent in range(F):
        one, two = whole.coder("sae").latent(latent), resumed.coder("sae").latent(latent)
        np.testing.assert_array_equal(one.positions, two.positions)
        np.testing.assert_allclose(one.values, two.values, rtol=1e-3)


def test_an_sae_on_another_block_is_caught_by_what_it_leaves_unexplained(
    subject: SubjectSettings, tmp_path: Path
) -> None:
    from harness.resources import fixture

    corpus = CorpusSettings(path=fixture("text/demo.jsonl"), tokens=6_000)
    subject = SubjectSettings(model=str(fixture("subject")), corpus=corpus, batch=4, threads=1)
    right = CoderSettings(name="sae", hookpoint="model.layers.1", path=str(fixture("subject/sae")))
    # the output of block 1 is the input of block 2
    same = right.model_copy(update={"name": "pre", "hookpoint": "model.layers.2", "input": True})
    figures = read_figures(collect(subject, [right, same], tmp_path / "right"))
    assert figures["sae"].fvu == figures["pre"].fvu < 0.1
    wrong = right.model_copy(update={"hookpoint": "model.layers.3", "overrule": ("hookpoint",)})
    with pytest.raises(CoderError, match=r'coder "sae" at model.layers.3: FVU 0\.\d+, L0 4.0 .*max_fvu is 0.5'):
        collect(subject, [wrong], tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
    allowed = collect(subject.model_copy(update={"max_fvu": 2.0}), [wrong], tmp_path / "wrong")
    assert 0.5 < read_figures(allowed)["sae"].fvu < 2


def test_padded_rows_are_collected_and_counted_apart(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path, texts: list[str]
) -> None:
    corpus = subject.corpus.model_copy(update={"packing": "rows"})
    store = collect(subject.model_copy(update={"corpus": corpus}), [sae], tmp_path / "store")
    documents = np.asarray(store.documents)
    first_rows = [np.flatnonzero((documents == number).any(1))[0] for number in range(len(texts))]
    assert (documents[first_rows, 1] == np.arange(len(texts))).all()
    kept = documents >= 0
    assert store.manifest.counts["padding"] == (~kept).sum() - len(documents)
    assert (kept[:, :-1] | ~kept[:, 1:])[:, 1:].all()  # nothing of a document behind padding
    assert store.coder("sae").firings.sum() == pytest.approx(K * kept.sum(), rel=0.02)
    assert store.manifest.frame.corpus["packing"] == "rows"


def test_a_corpus_of_ids_gives_the_store_of_its_text(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path, texts: list[str]
) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(subject.model) / "tokenizer.json"))
    rows = [[0, *tokenizer.encode(text, add_special_tokens=False).ids] for text in texts]
    lines = "".join(json.dumps({"input_ids": row}) + "\n" for row in rows)
    (tmp_path / "ids.jsonl").write_text(lines, encoding="utf-8")
    np.save(tmp_path / "flat.npy", np.concatenate(rows).astype(np.uint16))
    of_text = collect(subject, [sae], tmp_path / "text")
    for name, column in (("ids.jsonl", "input_ids"), ("flat.npy", "text")):
        corpus = CorpusSettings(path=tmp_path / name, column=column)
        found = collect(subject.model_copy(update={"corpus": corpus}), [sae], tmp_path / f"of-{name}")
        np.testing.assert_array_equal(np.asarray(found.tokens), np.asarray(of_text.tokens))
        assert found.coder("sae").firings.tolist() == of_text.coder("sae").firings.tolist()
    beyond = "".join(json.dumps({"text": [5, 6, 7, number]}) + "\n" for number in (8, 300))
    (tmp_path / "beyond.jsonl").write_text(beyond, encoding="utf-8")
    corpus = CorpusSettings(path=tmp_path / "beyond.jsonl")
    with pytest.raises(CorpusError, match=r"beyond.jsonl: document 1, position 3: token id 300 is beyond .* of 300"):
        collect(subject.model_copy(update={"corpus": corpus}), [sae], tmp_path / "beyond")


def test_rows_without_a_bos(subject: SubjectSettings, sae: CoderSettings, tmp_path: Path) -> None:
    store = collect(subject.model_copy(update={"bos": False}), [sae], tmp_path / "store")
    assert store.manifest.frame.bos is None
    assert (np.asarray(store.documents)[:, 0] >= 0).mean() > 0.5


def test_a_full_disk_is_told_and_what_is_written_is_gone_on_from(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from harness.store import writer

    whole = collect(subject, [sae], tmp_path / "whole")
    append = writer.StoreWriter.append
    calls: list[int] = []

    def until_full(self: Any, *args: Any) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, *args)
        self.flush()

    monkeypatch.setattr(writer.StoreWriter, "append", until_full)
    with pytest.raises(StoreError, match="the disk is full; free some space and do the same again"):
        collect(subject, [sae], tmp_path / "cut")
    monkeypatch.setattr(writer.StoreWriter, "append", append)
    read: list[int] = []
    rows = Reading.rows
    monkeypatch.setattr(Reading, "rows", lambda *parts: (read.append(len(parts[1])), rows(*parts))[1])
    assert collect(subject, [sae], tmp_path / "cut").id == whole.id
    assert sum(read) == whole.n_contexts - 3 * 4


def test_other_settings_for_a_finished_store_are_told_before_anything_is_loaded(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(subject, [sae], tmp_path / "store")
    monkeypatch.setattr("harness.subject.plan.load_model", None)
    with pytest.raises(StoreError, match="is finished and was collected with other settings"):
        collect(subject.model_copy(update={"context": 8}), [sae], tmp_path / "store")


def test_rows_are_added_to_a_finished_store_without_collecting_again(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = collect(subject, [sae], tmp_path / "store")
    monkeypatch.setattr("harness.subject.plan.load_model", None)
    found = collect(subject.model_copy(update={"rows": True}), [sae], tmp_path / "store")
    assert found.id == whole.id
    assert found.coder(sae.name).has_rows


KILLED = """
import os, signal, sys
from pathlib import Path
from harness.store import writer
from harness.subject.collect import collect
from harness.task import CoderSettings, SubjectSettings

subject = SubjectSettings.model_validate_json({subject!r})
coder = CoderSettings.model_validate_json({coder!r})
begin, left = writer.StoreWriter.begin, int(sys.argv[2])
writer.StoreWriter.begin = lambda *parts, **more: begin(*parts, **more, segment_tokens=128)

def count(event, _):
    global left
    if event in ("os.rename", "os.remove", "os.mkdir"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
store = collect(subject, [coder], Path(sys.argv[1]))
print(store.id, int(sys.argv[2]) - left)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_random_points_and_started_again_it_ends_in_the_same_store(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path
) -> None:
    code = KILLED.format(subject=subject.model_dump_json(), coder=sae.model_dump_json())

    def run(folder: str, kill_at: int) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", code, str(tmp_path / folder), str(kill_at)]
        return subprocess.run(
            arguments, cwd=Path(__file__).parents[2], timeout=120, capture_output=True, text=True, check=False
        )

    whole = run("whole", 10**9)
    assert whole.returncode == 0, whole.stderr
    expected, events = whole.stdout.split()
    for place in np.random.default_rng(0).choice(np.arange(1, int(events) + 1), 10, replace=False).tolist():
        folder = f"killed-{place}"
        assert run(folder, place).returncode == -9
        assert run(folder, 10**9).stdout.split()[0] == expected, place
    files = {path.relative_to(tmp_path / "whole"): path.read_bytes() for path in (tmp_path / "whole").rglob("*.npy")}
    for path, content in files.items():
        assert (tmp_path / folder / path).read_bytes() == content, path


def test_a_broken_model_is_told(subject: SubjectSettings, sae: CoderSettings, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(subject.model, folder)
    weight = folder / "model.safetensors"
    weight.write_bytes(weight.read_bytes()[:1000])
    with pytest.raises(SubjectError, match="broken: the model cannot be loaded"):
        collect(subject.model_copy(update={"model": str(folder)}), [sae], tmp_path / "store")
    weight.unlink()
    with pytest.raises(SubjectError, match=r"model\.safetensors: missing"):
        collect(subject.model_copy(update={"model": str(folder)}), [sae], tmp_path / "store")
    (folder / "config.json").unlink()
    with pytest.raises(SubjectError, match=r"no config\.json"):
        collect(subject.model_copy(update={"model": str(folder)}), [sae], tmp_path / "store")


def test_planted_latents_are_collected_without_torch(llama: Path, corpus_file: Path, tmp_path: Path) -> None:
    subject = SubjectSettings(model=str(llama), corpus=CorpusSettings(path=corpus_file), context=16)
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.subject.collect import collect; from harness.task import CoderSettings, SubjectSettings\n"
        f"subject = SubjectSettings.model_validate_json({subject.model_dump_json()!r})\n"
        "coder = CoderSettings(name='planted', kind='planted')\n"
        f"store = collect(subject, [coder], Path({str(tmp_path / 'store')!r}))\n"
        "assert store.n_contexts > 20 and store.coder('planted').n_latents > 30\n"
        "assert not {'torch', 'transformers', 'nnsight'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)


def test_progress_is_whole_only_at_the_end(subject: SubjectSettings, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    vowels = CoderSettings(name="vowels", kind="vowels", hookpoint="", path="")
    collect(subject, [vowels], tmp_path / "store", lambda done, total: calls.append((done, total)))
    assert [done == total for done, total in calls] == [False] * (len(calls) - 1) + [True]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_types_give_the_same_within_their_precision(
    subject: SubjectSettings, sae: CoderSettings, tmp_path: Path, dtype: str
) -> None:
    wide = collect(subject, [sae], tmp_path / "wide")
    narrow = collect(subject.model_copy(update={"dtype": dtype}), [sae], tmp_path / dtype)
    assert narrow.manifest.frame.collection["dtype"] == dtype
    for latent in range(0, F, 7):
        one, two = wide.coder("sae").latent(latent), narrow.coder("sae").latent(latent)
        shared, at, where = np.intersect1d(one.positions, two.positions, return_indices=True)
        # which latents are the k strongest depends on the last bits of those that nearly are
        assert len(shared) >= 0.9 * max(len(one.positions), len(two.positions))
        np.testing.assert_allclose(one.values[at], two.values[where], rtol=0.05, atol=0.002)
