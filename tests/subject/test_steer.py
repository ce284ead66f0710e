"""Steering: logits and generations equal those of hand-written hooks, whatever the batch mates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from harness.errors import CoderError, HookpointError, SubjectError
from harness.subject.coders.protocol import CoderInfo
from harness.subject.coders.sparse import SparseCoder, SparseWeights
from harness.subject.hookpoints import Hookpoint, first, put
from harness.subject.models import find_model, load_model
from harness.subject.steer import Edit, Generation, Steering, gumbel, noise_of, pad_left
from harness.subject.tracing import Traced

LAYERS = {"llama": "model.layers", "gemma2": "model.layers", "gpt2": "transformer.h", "neox": "gpt_neox.layers"}
ATTENTION = {"llama": "self_attn", "gemma2": "self_attn", "gpt2": "attn", "neox": "attention"}
PROMPTS = [[5, 80, 41, 122, 9], [200, 17], [33], [7, 8, 9]]
STRENGTHS = [3.0, -2.0, 8.0, 5.0]
LATENTS = [0, 7, 3, 3]
HOW = Generation(tokens=6, seed=3)


def sae(width: int = 16, latents: int = 24) -> SparseCoder:
    draw = torch.Generator().manual_seed(1)
    w_enc = torch.randn(width, latents, generator=draw)
    w_dec = torch.nn.functional.normalize(torch.randn(latents, width, generator=draw), dim=-1).half().float()
    bias = torch.randn(width, generator=draw) * 0.1
    weights = SparseWeights(w_enc, torch.zeros(latents), w_dec, bias, "relu")
    return SparseCoder(CoderInfo(latents, width, width, "", "random"), weights)


@pytest.fixture(scope="module")
def traced(model_folders: dict[str, Path]) -> dict[str, Traced]:
    return {
        name: Traced(load_model(find_model(str(folder), None, Path()), "float32", "cpu"))
        for name, folder in model_folders.items()
    }


def steering(traced: dict[str, Traced], kind: str = "llama", part: str = "") -> Steering:
    return Steering(traced[kind], Hookpoint(f"{LAYERS[kind]}.1{part}"), sae())


def edits() -> list[Edit | None]:
    return [Edit(latent, strength) for latent, strength in zip(LATENTS, STRENGTHS, strict=True)]


class RowNoise(LogitsProcessor):
    """Temperature-1 sampling by Hugging Face's greedy search, with the noise of steering."""

    def __init__(self, seed: int, rows: int) -> None:
        self.draws = [noise_of(seed, str(row)) for row in range(rows)]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> Any:
        return scores.float() + torch.stack([gumbel(scores.shape[-1], draw) for draw in self.draws])


def hooked(model: Any, path: str, directions: torch.Tensor, *, prefill_only: bool = False) -> Any:
    """A plain hook that adds each row's strength times its direction at the last position."""

    def hook(_: Any, __: Any, output: Any) -> Any:
        hidden = first(output).clone()
        if prefill_only and hidden.shape[1] == 1:
            return None
        hidden[:, -1] += torch.tensor(STRENGTHS)[:, None] * directions
        return put(output, hidden)

    return model.get_submodule(path).register_forward_hook(hook)


def by_hooks(model: Any, path: str, directions: torch.Tensor, *, prefill_only: bool = False) -> list[list[int]]:
    """What Hugging Face's `generate` gives under a plain hook, with its key-value cache."""
    padded = pad_left(PROMPTS)
    handle = hooked(model, path, directions, prefill_only=prefill_only)
    found = model.generate(
        input_ids=padded.tokens,
        attention_mask=padded.mask,
        max_new_tokens=HOW.tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([RowNoise(HOW.seed, len(PROMPTS))]),
    )
    handle.remove()
    return found[:, padded.tokens.shape[1] :].tolist()


@pytest.mark.parametrize("part", ["", "mlp", "attention"])
@pytest.mark.parametrize("kind", LAYERS)
def test_logits_equal_a_hooks_bit_for_bit(traced: dict[str, Traced], kind: str, part: str) -> None:
    ending = {"": "", "mlp": ".mlp", "attention": f".{ATTENTION[kind]}"}[part]
    steer = steering(traced, kind, ending)
    model: Any = traced[kind].model
    padded = pad_left(PROMPTS)
    directions = sae()._w_dec[LATENTS]
    positions = (padded.mask.cumsum(-1) - 1).clamp(min=0)
    handle = hooked(model, steer.write.path, directions)
    with torch.no_grad():
        # the head on the last position alone: a product of another size rounds otherwise
        expected = model(
            input_ids=padded.tokens, attention_mask=padded.mask, position_ids=positions, logits_to_keep=1
        ).logits[:, -1]
    handle.remove()
    found = steer.logits(padded, edits())
    assert torch.equal(found, expected)
    assert not torch.allclose(found, steer.logits(padded, [None] * 4), atol=1e-4)


@pytest.mark.parametrize("kind", LAYERS)
def test_generations_equal_a_hooks_with_cache_at_every_token(traced: dict[str, Traced], kind: str) -> None:
    steer = steering(traced, kind)
    model: Any = traced[kind].model
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    directions = sae()._w_dec[LATENTS]
    found = [list(row.tokens) for row in steer.generate(pad_left(PROMPTS), edits(), HOW)]
    assert found == by_hooks(model, steer.write.path, directions)


def test_an_edit_of_the_prompt_alone_would_give_other_tokens(traced: dict[str, Traced]) -> None:
    steer = steering(traced)
    found = [list(row.tokens) for row in steer.generate(pad_left(PROMPTS), edits(), HOW)]
    assert found != by_hooks(traced["llama"].model, steer.write.path, sae()._w_dec[LATENTS], prefill_only=True)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_row_is_the_same_alone_and_among_others(traced: dict[str, Traced], kind: str) -> None:
    steer = steering(traced, kind)
    together = steer.generate(pad_left(PROMPTS), edits(), HOW, identities=["a", "b", "c", "d"])
    alone = steer.generate(pad_left([PROMPTS[2]]), [edits()[2]], HOW, identities=["c"])
    assert alone[0].tokens == together[2].tokens
    torch.testing.assert_close(alone[0].logits, together[2].logits, rtol=1e-4, atol=1e-5)


def test_clean_and_unsteered_runs_share_their_noise(traced: dict[str, Traced]) -> None:
    steer = steering(traced)
    padded = pad_left(PROMPTS)
    clean = steer.generate(padded, [None] * 4, HOW)
    nothing = steer.generate(padded, [Edit(0, 0.0)] * 4, HOW)
    other = steer.generate(padded, [None] * 4, Generation(tokens=6, seed=4))
    assert [row.tokens for row in clean] == [row.tokens for row in nothing]
    assert [row.tokens for row in clean] != [row.tokens for row in other]


def test_noise_samples_from_the_softmax() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    draw = torch.Generator().manual_seed(0)
    chosen = torch.stack([(logits + gumbel(4, draw)).argmax() for _ in range(8000)])
    frequencies = torch.bincount(chosen, minlength=4) / 8000
    torch.testing.assert_close(frequencies, logits.softmax(-1), rtol=0, atol=0.02)


@pytest.mark.parametrize(("kind", "amount"), [("clamp", 0.0), ("clamp", 4.0), ("scale", 3.0)])
def test_clamps_and_scales_keep_what_the_coder_leaves_out(traced: dict[str, Traced], kind: Any, amount: float) -> None:
    steer = steering(traced)
    coder = sae()
    weights = coder._weights
    hidden = torch.randn(4, 1, 16, generator=torch.Generator().manual_seed(2))
    write = steer.change([Edit(latent, amount, kind) for latent in LATENTS])
    assert write is not None
    found = write.change(hidden, hidden)[:, 0]
    was = ((hidden[:, 0] - weights.b_dec) @ weights.w_enc).relu()[range(4), LATENTS]
    wanted = was * amount if kind == "scale" else torch.full((4,), amount)
    expected = hidden[:, 0] + (wanted - was)[:, None] * weights.w_dec[LATENTS]
    torch.testing.assert_close(found, expected)


def test_only_the_last_position_changes(traced: dict[str, Traced]) -> None:
    write = steering(traced).change([Edit(0, 2.0), None])
    hidden = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(2))
    assert write is not None
    found = write.change(hidden, hidden)
    changed = (found != hidden).any(-1).tolist()
    assert changed == [[False, False, True], [False, False, False]]


def test_a_row_ends_with_the_end_of_text(traced: dict[str, Traced], monkeypatch: pytest.MonkeyPatch) -> None:
    steer = steering(traced)
    whole = steer.generate(pad_left([[5, 6]]), [None], HOW)[0].tokens
    monkeypatch.setattr(steer.traced.model.generation_config, "eos_token_id", [whole[2]])
    assert steer.generate(pad_left([[5, 6]]), [None], HOW)[0].tokens == whole[: whole.index(whole[2])]


def test_the_checkpoints_own_settings_decide_nothing(
    traced: dict[str, Traced], monkeypatch: pytest.MonkeyPatch
) -> None:
    steer = steering(traced)
    before = steer.generate(pad_left(PROMPTS), edits(), HOW)
    for key, value in {"top_k": 1, "temperature": 0.01, "repetition_penalty": 9.0, "do_sample": True}.items():
        monkeypatch.setattr(steer.traced.model.generation_config, key, value)
    assert [row.tokens for row in steer.generate(pad_left(PROMPTS), edits(), HOW)] == [row.tokens for row in before]


def test_a_strength_beyond_numbers_crashes_nothing(traced: dict[str, Traced]) -> None:
    steer = steering(traced)
    found = steer.generate(pad_left([[5, 6]]), [Edit(0, 1e38)], HOW)
    assert len(found[0].tokens) <= HOW.tokens


def test_wrong_input_is_told(traced: dict[str, Traced]) -> None:
    steer = steering(traced)
    with pytest.raises(SubjectError, match="62 tokens and 6 new ones is more than the subject's 64"):
        steer.generate(pad_left([[1] * 62]), [None], HOW)
    with pytest.raises(SubjectError, match="at least one token"):
        pad_left([[1], []])
    with pytest.raises(CoderError, match="no latent 24; they are 0 to 23"):
        steer.logits(pad_left([[1]]), [Edit(24, 1.0)])


def test_a_coder_without_decoder_is_refused_by_name(traced: dict[str, Traced]) -> None:
    class NoDecoder:
        info = CoderInfo(3, None, None, "", "")
        decoder = None

    with pytest.raises(CoderError, match='coder "planted" has no decoder'):
        Steering(traced["llama"], Hookpoint("model.layers.1"), NoDecoder(), "planted")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("path", ["model.layers.1.mlp.gate_proj", "model.rotary_emb"])
def test_what_cannot_be_written_back_is_told(traced: dict[str, Traced], path: str) -> None:
    with pytest.raises(HookpointError, match="cannot be written back"):
        Steering(traced["llama"], Hookpoint(path), sae())


def test_a_transcoder_reads_one_place_and_writes_another(traced: dict[str, Traced]) -> None:
    read, target = Hookpoint("model.layers.1.mlp", input=True), Hookpoint("model.layers.1.mlp")
    base = sae()
    coder = SparseCoder(CoderInfo(24, 16, 16, "", "random", d_out=16, target=target), base._weights)
    steer = Steering(traced["llama"], read, coder)
    padded = pad_left([PROMPTS[0]])
    seen: list[torch.Tensor] = []
    model: Any = traced["llama"].model

    def hook(_: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        source = args[0][:, -1]
        rows = coder.encode(source)
        strongest = int(rows.latents[np.argmax(rows.values)])
        value = float(max(rows.values))
        seen.append(torch.tensor(strongest))
        changed = output.clone()
        changed[:, -1] -= value * base._w_dec[strongest]
        return changed

    handle = model.get_submodule(target.path).register_forward_hook(hook)
    with torch.no_grad():
        expected = model(input_ids=padded.tokens).logits[:, -1]
    handle.remove()
    found = steer.logits(padded, [Edit(int(seen[0]), 0.0, "clamp")])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(found, steer.logits(padded, [None]))
