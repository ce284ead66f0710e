"""Training a TopK SAE: known directions are found again, the folding is exact, the report is of the saved files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import CoderError, CorpusError, HookpointError
from harness.subject.activations import ActivationStream, is_held_out
from harness.subject.coders.protocol import CoderInfo
from harness.subject.coders.sae import SAECoder
from harness.subject.coders.sparse import SparseCoder, SparseWeights
from harness.subject.evaluate import evaluate
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import find_model, load_model
from harness.subject.tracing import Traced
from harness.subject.train import TrainingReport, TrainingSettings, _Trainer, train_sae
from harness.task import CoderSettings, CorpusSettings


class Made:
    """A stand-in for a stream: sparse sums of known directions, shifted and scaled."""

    def __init__(self, directions: torch.Tensor, active: int) -> None:
        self._directions = directions
        self._active = active
        self._draw = torch.Generator().manual_seed(0)

    def draw(self, count: int) -> torch.Tensor:
        rows, width = len(self._directions), self._directions.shape[1]
        chosen = torch.rand(count, rows, generator=self._draw).topk(self._active, dim=-1).indices
        strengths = torch.rand(count, self._active, generator=self._draw) + 0.5
        made = torch.zeros(count, rows).scatter(-1, chosen, strengths) @ self._directions
        return made * 7 + torch.linspace(-3, 5, width)

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.draw(20_000)
        return found.mean(0), (found - found.mean(0)).square().mean().sqrt()


def test_known_directions_are_found_again() -> None:
    directions = torch.nn.functional.normalize(torch.randn(24, 16, generator=torch.Generator().manual_seed(3)), dim=-1)
    settings = TrainingSettings(hookpoint="made", latents=32, k=2, steps=500, batch=512, lr=4e-3)
    trainer = _Trainer(settings, Made(directions, 2))  # type: ignore[arg-type]  # the stand-in has what is used
    losses = [trainer.step(number) for number in range(settings.steps)]
    assert losses[-1] < 0.15 * losses[0]
    found = trainer.folded().w_dec
    assert torch.allclose(found.norm(dim=-1), torch.ones(32), atol=1e-5)
    closest = (directions @ found.T).max(-1).values
    assert (closest > 0.95).float().mean() > 0.8


def test_the_folded_weights_do_on_raw_activations_what_training_did() -> None:
    made = Made(torch.randn(12, 8, generator=torch.Generator().manual_seed(1)), 2)
    settings = TrainingSettings(hookpoint="made", latents=20, k=3, steps=40, batch=256)
    trainer = _Trainer(settings, made)  # type: ignore[arg-type]  # the stand-in has what is used
    for number in range(settings.steps):
        trainer.step(number)
    x = made.draw(64)
    inner = (x - trainer._mean) / trainer._scale
    with torch.no_grad():
        before = (inner - trainer._b_dec) @ trainer._w_enc + trainer._b_enc
        values, latents = before.topk(3, dim=-1)
        acts = torch.zeros_like(before).scatter(-1, latents, values.relu())
        expected = (acts @ trainer._w_dec + trainer._b_dec) * trainer._scale + trainer._mean
    coder = SparseCoder(CoderInfo(20, 8, 8, "made", ""), trainer.folded())
    rows = coder.encode(x)
    np.testing.assert_allclose(coder.decode(rows, x).numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rows.values.sum(), float((acts * trainer._scale).sum()), rtol=1e-4)


def test_dead_latents_are_drawn_to_what_is_left_unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.subject import train

    monkeypatch.setattr(train, "_DEAD_TOKENS", 512)
    monkeypatch.setattr(train, "_ALIVE_TOKENS", 2048)
    made = Made(torch.randn(40, 8, generator=torch.Generator().manual_seed(1)), 1)
    alive = {}
    for share in (0.0, 1 / 32):
        monkeypatch.setattr(train, "_AUXILIARY", share)
        settings = TrainingSettings(hookpoint="made", latents=64, k=1, steps=150, batch=256)
        trainer = _Trainer(settings, made)  # type: ignore[arg-type]  # the stand-in has what is used
        with torch.no_grad():
            trainer._b_enc[:32] = -2
        for number in range(settings.steps):
            trainer.step(number)
        alive[share] = trainer.alive()
    assert alive[0.0] <= 32
    assert alive[1 / 32] > alive[0.0]


@pytest.fixture
def traced(llama: Path) -> Traced:
    return Traced(load_model(find_model(str(llama), None, Path()), "float32", "cpu"))


def batches(count: int = 6) -> list[tuple[Any, Any]]:
    draw = np.random.default_rng(0)
    found = []
    for number in range(count):
        tokens = draw.integers(2, 300, (2, 8)).astype(np.uint32)
        documents = np.full((2, 8), number, np.int32)
        documents[:, 0] = -1
        found.append((tokens, documents))
    return found


def hidden(traced: Traced, count: int = 6) -> torch.Tensor:
    ids = torch.from_numpy(np.concatenate([tokens for tokens, _ in batches(count)]).astype(np.int64))
    with torch.no_grad():
        return traced.model(input_ids=ids, output_hidden_states=True).hidden_states[2]


def sorted_rows(rows: torch.Tensor) -> np.ndarray:
    found = rows.numpy().round(5)
    return found[np.lexsort(found.T)]


def test_a_corpus_that_fits_is_read_once_and_drawn_without_replacement(traced: Traced) -> None:
    reads = []

    def source() -> Any:
        reads.append(1)
        return iter(batches())

    stream = ActivationStream(traced, Hookpoint("model.layers.1"), source, seed=1)
    expected = hidden(traced)[:, 1:].reshape(-1, 16)
    assert stream.collected == len(expected) == 6 * 14
    once, twice = stream.draw(84), stream.draw(84)
    np.testing.assert_allclose(sorted_rows(once), sorted_rows(expected), atol=2e-5)
    np.testing.assert_allclose(sorted_rows(twice), sorted_rows(expected), atol=2e-5)
    assert not torch.equal(once, twice)
    assert len(reads) == 1
    mean, scale = stream.moments()
    np.testing.assert_allclose(mean, expected.mean(0), atol=1e-5)
    np.testing.assert_allclose(scale, (expected - expected.mean(0)).pow(2).mean().sqrt(), rtol=1e-5)


def test_a_corpus_that_does_not_fit_flows_through_the_buffer(traced: Traced) -> None:
    stream = ActivationStream(
        traced, Hookpoint("model.layers.1"), lambda: iter(batches(12)), seed=1, buffer_bytes=40 * 16 * 4
    )
    drawn = sorted_rows(stream.draw(12 * 14))
    assert len(stream._buffer) < 80
    everything = sorted_rows(hidden(traced, 12)[:, 1:].reshape(-1, 16))
    known = {tuple(row.round(3)) for row in everything}
    assert sum(tuple(row.round(3)) in known for row in drawn) > 0.95 * len(drawn)
    assert len({tuple(row) for row in drawn}) > 100
    assert stream.collected > 100


def test_a_splice_is_valued_as_plain_hooks_value_it(traced: Traced) -> None:
    draw = torch.Generator().manual_seed(0)
    weights = SparseWeights(
        torch.randn(16, 30, generator=draw),
        torch.zeros(30),
        torch.randn(30, 16, generator=draw),
        torch.zeros(16),
        "relu",
    )
    coder = SparseCoder(CoderInfo(30, 16, 16, "", ""), weights)
    read = batches()
    for _, documents in read:
        documents[1, 4] = -1
    found = evaluate(traced, Hookpoint("model.layers.1"), coder, read)
    ids = torch.from_numpy(np.concatenate([tokens for tokens, _ in read]).astype(np.int64))
    kept = torch.from_numpy(np.concatenate([documents for _, documents in read]) >= 0)

    def loss(change: Any) -> float:
        def hook(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
            return torch.where(kept[..., None], change(output), output)

        handle = traced.model.get_submodule("model.layers.1").register_forward_hook(hook)
        with torch.no_grad():
            logits = traced.model(input_ids=ids).logits
        handle.remove()
        lost = -logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
        return float(lost[kept[:, 1:]].mean())

    def made(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ weights.w_enc) @ weights.w_dec

    assert found.loss_clean == pytest.approx(loss(lambda x: x), rel=1e-5)
    assert found.loss_spliced == pytest.approx(loss(made), rel=1e-4)
    assert found.loss_zero == pytest.approx(loss(torch.zeros_like), rel=1e-5)
    assert found.recovered == pytest.approx(
        (found.loss_zero - found.loss_spliced) / (found.loss_zero - found.loss_clean)
    )


def test_one_document_in_twenty_is_held_out() -> None:
    share = sum(is_held_out(number) for number in range(20_000)) / 20_000
    assert share == pytest.approx(0.05, abs=0.006)


SETTINGS = TrainingSettings(hookpoint="model.layers.1", latents=48, k=4, steps=60, batch=256, context=16)


def corpus_of(path: Path, count: int = 500) -> CorpusSettings:
    draw = np.random.default_rng(0)
    words = ["cat", "dog", "bird", "tree", "sees", "finds", "holds", "river"]
    rows = [json.dumps({"text": " ".join(draw.choice(words, 12))}) for _ in range(count)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return CorpusSettings(path=path)


def test_training_end_to_end(llama: Path, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus.jsonl")
    calls: list[tuple[int, int]] = []
    report = train_sae(str(llama), corpus, SETTINGS, tmp_path / "sae", lambda done, total: calls.append((done, total)))
    assert calls == [(number, 60) for number in range(1, 61)]
    assert report.fvu < 0.5
    assert report.l0 <= 4
    assert 20 < report.alive <= 48
    assert report.trained_tokens == 60 * 256
    assert report.held_out_tokens > 100
    assert report == TrainingReport.model_validate_json((tmp_path / "sae" / "report.json").read_text())
    settings = CoderSettings(name="sae", hookpoint="model.layers.1", path=str(tmp_path / "sae"))
    info = SAECoder.describe(settings, Path())
    assert (info.n_latents, info.d_in) == (48, 16)
    again = train_sae(str(llama), corpus, SETTINGS, tmp_path / "again")
    assert again.model_dump(exclude={"seconds"}) == report.model_dump(exclude={"seconds"})
    assert SAECoder.describe(settings.model_copy(update={"path": str(tmp_path / "again")}), Path()) == info


def test_mistakes_are_told_before_anything_is_trained(llama: Path, tmp_path: Path, corpus_file: Path) -> None:
    corpus = CorpusSettings(path=corpus_file)

    def trained(corpus: CorpusSettings = corpus, **changes: Any) -> None:
        train_sae(str(llama), corpus, SETTINGS.model_copy(update=changes), tmp_path / "out")

    with pytest.raises(CoderError, match=r"k \(100\) is more than there are latents \(48\)"):
        trained(k=100)
    with pytest.raises(CoderError, match="steps has to be above 0, not 0"):
        trained(steps=0)
    with pytest.raises(HookpointError, match=r"model\.layers\.9"):
        trained(hookpoint="model.layers.9")
    (tmp_path / "short.txt").write_text("cat", encoding="utf-8")
    with pytest.raises(CorpusError, match="less than one context"):
        trained(CorpusSettings(path=tmp_path / "short.txt"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cfg.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CoderError, match="holds an SAE already"):
        trained()
