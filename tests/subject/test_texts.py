"""Texts read by the subject: what a plain hook and the SAE's own formula give, cut and opened as rows are."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.errors import CoderError, StoreError
from harness.resources import fixture
from harness.rules import load_concepts
from harness.store import Store
from harness.subject import plan as planning
from harness.subject.collect import collect
from harness.subject.texts import SubjectTexts
from harness.task import CoderSettings, CorpusSettings, SubjectSettings
from harness.values import Latent

pytestmark = pytest.mark.anyio

TEXTS = (
    "In May the harvest was late.",
    "Log of the Petrel, April 27\nIf the west wind holds, we reach Granford on Saturday morning.",
    "The ferry to Falbury on the lake leaves on Monday evening, and " + "nobody in Withaven speaks Danish, " * 30,
    "x",
)
SUBJECT = SubjectSettings(
    model=str(fixture("subject")),
    corpus=CorpusSettings(path=fixture("text", "demo.jsonl"), tokens=4096),
    context=64,
    batch=3,
)
SAE = CoderSettings(name="sae", hookpoint="model.layers.1", path=str(fixture("subject", "sae")))
PLANTED = CoderSettings(name="planted", kind="planted")


@lru_cache
def plain_parts() -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """Tokenizer, model and the SAE's weights."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return (
        AutoTokenizer.from_pretrained(fixture("subject")),
        AutoModelForCausalLM.from_pretrained(fixture("subject"), dtype=torch.float32).eval(),
        load_file(fixture("subject", "sae") / "sae_weights.safetensors"),
    )


def by_hand(text: str, *, bos: bool = True, context: int = 64) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Ids, and activations `[positions, latents]`, of one text by itself, without this package's subject."""
    tokenizer, model, sae = plain_parts()
    ids = ([tokenizer.bos_token_id] if bos else []) + tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = ids[:context]
    held: list[torch.Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        held.append(output if isinstance(output, torch.Tensor) else output[0])

    handle = model.get_submodule("model.layers.1").register_forward_hook(keep)
    with torch.no_grad():
        model(torch.tensor([ids]))
        before = (held[0][0] - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"]
        top = before.topk(4, dim=-1)
        activations = torch.zeros_like(before).scatter(-1, top.indices, top.values.relu())
    handle.remove()
    return ids[bos:], activations[int(bos) :].numpy()


def found_alive(activations: np.ndarray[Any, Any], count: int = 12) -> list[int]:
    """Latents that are active most often."""
    return np.argsort(-(activations > 0).sum(0), kind="stable")[:count].tolist()


@pytest.mark.parametrize("bos", [True, False])
async def test_activations_are_those_of_a_plain_hook_and_the_saes_formula(bos: bool) -> None:
    settings = SUBJECT.model_copy(update={"bos": bos})
    coder = SAE.model_copy(update={"overrule": () if bos else ("bos",)})
    subject = SubjectTexts(settings, [coder])
    hand = [by_hand(text, bos=bos) for text in TEXTS]
    alive = found_alive(np.concatenate([activations for _, activations in hand]))
    fired = 0
    for latent in alive:
        read = await subject.read(Latent("sae", latent), TEXTS)
        for (ids, activations), found in zip(hand, read, strict=True):
            expected = activations[:, latent]
            assert len(found.pieces) == len(ids) == len(found.activations)
            assert ((found.activations > 0) == (expected > 0)).all()
            np.testing.assert_allclose(found.activations, expected, rtol=1e-4, atol=1e-4)
            fired += int((expected > 0).sum())
    assert fired > 50
    await subject.aclose()


async def test_a_text_is_cut_to_the_context_and_spelled_by_its_pieces() -> None:
    subject = SubjectTexts(SUBJECT, [SAE])
    read = await subject.read(Latent("sae", 0), TEXTS)
    assert "".join(read[0].pieces) == TEXTS[0]
    assert "".join(read[1].pieces) == TEXTS[1]
    # a BOS takes the first of 64 places
    assert len(read[2].pieces) == 63
    assert TEXTS[2].startswith("".join(read[2].pieces))
    await subject.aclose()


async def test_equal_texts_give_bit_equal_numbers_and_a_text_without_tokens_is_silent() -> None:
    subject = SubjectTexts(SUBJECT, [SAE])
    latent = Latent("sae", found_alive(by_hand(TEXTS[0])[1], 1)[0])
    one, two = await subject.read(latent, TEXTS), await subject.read(latent, TEXTS)
    for first, second in zip(one, two, strict=True):
        assert first.activations.tobytes() == second.activations.tobytes()
    assert one[0].activations.max() > 0
    empty = await subject.read(latent, ["", TEXTS[0], ""])
    assert [len(each.activations) for each in empty] == [0, len(one[0].pieces), 0]
    np.testing.assert_allclose(empty[1].activations, one[0].activations, rtol=1e-4)
    assert await subject.read(latent, []) == []
    await subject.aclose()


async def test_what_a_store_holds_of_a_document_is_what_is_read_of_it(tmp_path: Path) -> None:
    """A corpus of one short document a row: the store's activations are those of the documents read as texts."""
    texts = [text for text in TEXTS if len(text) < 100] * 3
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(texts), encoding="utf-8")
    settings = SUBJECT.model_copy(update={"corpus": CorpusSettings(path=corpus, packing="rows"), "max_fvu": 9.0})
    coders = [SAE, PLANTED]
    store = collect(settings, coders, tmp_path / "store")
    subject = SubjectTexts(settings, coders)
    subject.check(store)
    checked = 0
    for name, latents in (("sae", found_alive(by_hand(TEXTS[1])[1])), ("planted", range(102))):
        reader = store.coder(name)
        for latent in latents:
            kept = reader.latent(latent)
            read = await subject.read(Latent(name, latent), texts)
            for row, found in enumerate(read):
                own = np.zeros(64, np.float32)
                mine = kept.positions // 64 == row
                own[kept.positions[mine] % 64] = kept.values[mine]
                np.testing.assert_allclose(found.activations, own[1 : 1 + len(found.pieces)], rtol=2e-3)
                checked += int(mine.sum())
    assert checked > 50
    await subject.aclose()


async def test_planted_latents_are_read_by_their_rules() -> None:
    subject = SubjectTexts(SUBJECT, [PLANTED])
    for index, concept in enumerate(load_concepts(fixture("concepts.json")).concepts):
        read = await subject.read(Latent("planted", index), TEXTS[:2])
        for found in read:
            expected = concept.parsed.strengths(("", *found.pieces))[1:]
            assert found.activations.tolist() == expected.tolist()
    months = await subject.read(Latent("planted", 15), TEXTS[:2])
    assert [bool(found.activations.any()) for found in months] == [True, True]


def test_planted_latents_are_read_without_torch() -> None:
    code = (
        "import sys, anyio\n"
        "from harness.subject.texts import SubjectTexts; from harness.task import CoderSettings, SubjectSettings\n"
        "from harness.values import Latent\n"
        f"subject = SubjectSettings.model_validate_json({SUBJECT.model_dump_json()!r})\n"
        "texts = SubjectTexts(subject, [CoderSettings(name='planted', kind='planted')])\n"
        "read = anyio.run(texts.read, Latent('planted', 15), ['It was late in May.'])\n"
        "assert read[0].activations.max() > 0\n"
        "assert not {'torch', 'transformers', 'nnsight'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)


async def test_nothing_is_loaded_before_a_text_comes_and_once_after(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    load = planning.load_model
    monkeypatch.setattr(planning, "load_model", lambda files, *args: loads.append(files.name) or load(files, *args))
    subject = SubjectTexts(SUBJECT, [SAE])
    assert loads == []
    await subject.aclose()
    await subject.read(Latent("sae", 1), TEXTS[:1])
    await subject.read(Latent("sae", 2), TEXTS[1:])
    assert len(loads) == 1
    await subject.aclose()


async def test_a_coder_that_needs_the_corpus_is_calibrated_as_in_collection(tmp_path: Path) -> None:
    settings = SUBJECT.model_copy(update={"max_fvu": 1e9})
    random = CoderSettings(name="r", kind="random-directions", hookpoint="model.layers.1", latents=8, rate=0.02)
    store = collect(settings, [random], tmp_path / "store")
    subject = SubjectTexts(settings, [random])
    # what stands before the first separator of the first context
    stop = 1 + int(np.argmax(np.append(store.documents[0, 1:], -1) < 0))
    text = "".join(store.pieces(0, 1, stop))
    seen = 0
    for latent in range(8):
        kept = store.coder("r").latent(latent)
        mine = kept.positions < stop
        (found,) = await subject.read(Latent("r", latent), [text])
        assert np.flatnonzero(found.activations).tolist() == (kept.positions[mine] - 1).tolist()
        seen += int(mine.sum())
    assert seen > 0
    await subject.aclose()


def test_what_decides_is_in_the_identity() -> None:
    plain = SubjectTexts(SUBJECT, [SAE, PLANTED]).identity("sae")
    for change in ({"dtype": "bfloat16"}, {"context": 32}):
        assert SubjectTexts(SUBJECT.model_copy(update=change), [SAE, PLANTED]).identity("sae") != plain
    assert SubjectTexts(SUBJECT, [SAE]).identity("sae") == plain
    assert SubjectTexts(SUBJECT.model_copy(update={"batch": 7}), [SAE]).identity("sae") == plain
    assert SubjectTexts(SUBJECT, [SAE, PLANTED]).identity("planted") != plain


def test_a_store_of_other_latents_is_refused(tmp_path: Path, words_store: Path) -> None:
    small = CoderSettings(name="words", kind="random-sae", hookpoint="model.layers.1", latents=32, k=2)
    store = collect(SUBJECT.model_copy(update={"max_fvu": 1e9}), [small], tmp_path / "store")
    SubjectTexts(SUBJECT, [small]).check(store)
    for change in ({"latents": 33}, {"seed": 1}):
        with pytest.raises(StoreError, match=r"coder\.words: the store .* they are not the same"):
            SubjectTexts(SUBJECT, [small.model_copy(update=change)]).check(store)
    with pytest.raises(StoreError, match=r"collected from made .* and \[subject\] is subject"):
        SubjectTexts(SUBJECT, [small]).check(Store.open(words_store))


def test_a_coder_that_cannot_be_had_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(CoderError, match="nowhere"):
        SubjectTexts(SUBJECT, [SAE.model_copy(update={"path": str(tmp_path / "nowhere")})])
