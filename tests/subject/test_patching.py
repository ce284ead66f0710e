"""A direction in the place of a word: as hand-written hooks on the model have it, for four architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from harness.errors import CoderError, SubjectError
from harness.subject.coders.directions import unit_directions
from harness.subject.introspection import Asking
from harness.subject.patching import blocks_of, choose_scale, place_of
from harness.subject.texts import SubjectTexts
from harness.task import CoderSettings, CorpusSettings, SubjectSettings
from harness.values import Latent

pytestmark = pytest.mark.anyio

LAYERS = {"llama": "model.layers", "gemma2": "model.layers", "gpt2": "transformer.h", "neox": "gpt_neox.layers"}
PROMPT = 'the bird sees "{latent}" a dog. the "{latent}" is'
ASKING = Asking(PROMPT, 0, (0.5, 1.0, 4.0), 6)
LATENTS, SEED = 12, 5


def subject_of(folder: Path, corpus: Path, layers: str, **settings: Any) -> SubjectTexts:
    settings = {"model": str(folder), "corpus": CorpusSettings(path=corpus, tokens=640), "context": 64, **settings}
    coder = CoderSettings(name="sae", kind="random-sae", hookpoint=f"{layers}.1", latents=LATENTS, k=2, seed=SEED)
    return SubjectTexts(SubjectSettings(**settings), [coder])


def by_hand(folder: Path, layers: str, latent: int, scale: float, tokens: int) -> tuple[float, float, list[int]]:
    """Similarity, entropy and the tokens said, by plain hooks and without a cache."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = PROMPT.replace("{latent}", "X")
    encoded = tokenizer.encode(text, add_special_tokens=False)
    bos = tokenizer.token_to_id("<s>")
    ids = [bos, *encoded.ids]
    spots = [at for at, char in enumerate(text) if char == "X"]
    places = [1 + at for at, (a, b) in enumerate(encoded.offsets) if any(a <= spot < b for spot in spots)]
    direction = unit_directions(LATENTS, model.config.hidden_size, SEED)[latent].half().float()
    unit = direction / direction.norm()
    count = len(model.get_submodule(layers))
    first_block, last_block = model.get_submodule(f"{layers}.0"), model.get_submodule(f"{layers}.{count - 1}")
    whole = lambda output: output if isinstance(output, torch.Tensor) else output[0]  # noqa: E731 - used twice
    held: list[torch.Tensor] = []

    def run(now: list[int], vector: torch.Tensor | None) -> torch.Tensor:
        def put(_: Any, __: Any, output: Any) -> Any:
            if vector is None:
                held[:] = [whole(output)[0]]
                return None
            changed = whole(output).clone()
            changed[0, places] = vector
            return changed if isinstance(output, torch.Tensor) else (changed, *output[1:])

        hooks = [first_block.register_forward_hook(put)]
        if vector is not None:
            hooks.append(last_block.register_forward_hook(lambda _, __, output: held.append(whole(output)[0, -1])))
        with torch.no_grad():
            logits = model(torch.tensor([now]), use_cache=False).logits[0, -1]
        for hook in hooks:
            hook.remove()
        return logits

    run(ids, None)
    vector = scale * held[0][1:].norm(dim=-1).mean() * unit
    held.clear()
    said: list[int] = []
    logits = run(ids, vector)
    chances = logits.softmax(-1)
    similarity = float(torch.cosine_similarity(held[0], unit, dim=0))
    entropy = float(torch.distributions.Categorical(probs=chances).entropy())
    for _ in range(tokens):
        said.append(int(logits.argmax()))
        logits = run([*ids, *said], vector)
    return similarity, entropy, said


@pytest.mark.parametrize("name", LAYERS)
async def test_what_is_said_is_what_plain_hooks_give(
    name: str, model_folders: dict[str, Path], corpus_file: Path
) -> None:
    folder = model_folders[name]
    subject = subject_of(folder, corpus_file, LAYERS[name])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for latent in (0, 7):
        found = await subject.introspect(Latent("sae", latent), ASKING, 0)
        assert [said.scale for said in found.said] == list(ASKING.scales)
        for said in found.said:
            similarity, entropy, tokens = by_hand(folder, LAYERS[name], latent, said.scale, ASKING.tokens)
            assert said.similarity == pytest.approx(similarity, abs=1e-4)
            assert said.entropy == pytest.approx(entropy, abs=1e-4)
            ends = [at for at, token in enumerate(tokens) if token == tokenizer.token_to_id("</s>")]
            spoken = tokens[: min(ends, default=len(tokens))]
            assert said.text == tokenizer.decode(spoken)
        assert found == await subject.introspect(Latent("sae", latent), ASKING, 0)
    await subject.aclose()


async def test_sampled_words_depend_on_the_seed_alone(llama: Path, corpus_file: Path) -> None:
    subject = subject_of(llama, corpus_file, "model.layers")
    warm = Asking(PROMPT, 0, (1.0, 2.0), 12, 1.0)
    one, again, other = [await subject.introspect(Latent("sae", 3), warm, seed) for seed in (1, 1, 2)]
    assert one == again
    assert one.text != other.text
    alone = await subject.introspect(Latent("sae", 3), Asking(PROMPT, 0, (2.0,), 12, 1.0), 1)
    assert alone.said[0].text == one.said[1].text
    await subject.aclose()


async def test_special_tokens_in_a_prompt_are_these_tokens_and_a_bos_stands_there_once(
    llama: Path, corpus_file: Path
) -> None:
    subject = subject_of(llama, corpus_file, "model.layers")

    def places(loaded: Any, _: Any) -> Any:
        before = loaded.opened("the <s> dog")
        found = place_of(loaded, "<s>the {latent} sees</s>"), place_of(loaded, "the {latent} sees")
        assert loaded.opened("the <s> dog") == before, "texts are read as before"
        return found

    (chat, chat_places), (plain, plain_places) = await subject.call(places)
    tokenizer = Tokenizer.from_file(str(llama / "tokenizer.json"))
    assert chat == [*plain, tokenizer.token_to_id("</s>")]
    assert chat_places == plain_places
    assert all("X" in tokenizer.id_to_token(plain[at]) for at in plain_places)
    await subject.aclose()


async def test_what_cannot_be_asked_is_said(llama: Path, corpus_file: Path) -> None:
    subject = subject_of(llama, corpus_file, "model.layers")
    latent = Latent("sae", 0)
    with pytest.raises(SubjectError, match=r"layer 2: the subject has 3 blocks, 0 to 2.*take 1 or less"):
        await subject.introspect(latent, Asking(PROMPT, 2, (1.0,), 6), 0)
    with pytest.raises(SubjectError, match="with 60 new ones the context of 64 is too short"):
        await subject.introspect(latent, Asking(PROMPT, 0, (1.0,), 60), 0)
    with pytest.raises(SubjectError, match=r"has no \{latent\}"):
        await subject.introspect(latent, Asking("the dog", 0, (1.0,), 6), 0)
    with pytest.raises(CoderError, match="there is no latent 12"):
        await subject.introspect(Latent("sae", 12), ASKING, 0)
    await subject.aclose()


@pytest.mark.parametrize("name", LAYERS)
def test_the_blocks_of_a_model_are_found(name: str, model_folders: dict[str, Path]) -> None:
    assert blocks_of(AutoModelForCausalLM.from_pretrained(model_folders[name])) == LAYERS[name]


def test_a_scale_is_taken_by_likeness_less_uncertainty_over_their_ranges() -> None:
    likeness = np.array([0.0, 0.5, 1.0, 0.9])
    entropy = np.array([4.0, 2.0, 4.0, 2.5])
    # by hand: 0 - 1, 0.5 - 0, 1 - 1, 0.9 - 0.25
    assert choose_scale(likeness, entropy) == 3
    assert choose_scale(likeness, np.full(4, 2.0)) == 2
    assert choose_scale(np.full(4, 0.3), np.full(4, 2.0)) == 0
    assert choose_scale(np.array([0.1, np.nan, 0.2]), np.array([1.0, 0.0, np.nan])) == 0
    assert choose_scale(np.array([np.nan]), np.array([np.nan])) == 0
