"""A latent's direction put in the place of a word, so that the subject says what the word means.

Self-explanation of Kharlapenko et al. 2024 ("Self-explaining SAE features"), which puts to latents what SelfIE (Chen et
al. 2024) and Patchscopes (Ghandeharioun et al. 2024) put to hidden states. How strongly decides whether anything comes
out. Two signs of a good scale need no reading: that the model's last hidden state at the prompt's end is like the
direction again, and that it is sure of the next token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.errors import CoderError, SubjectError
from harness.subject.hookpoints import Hookpoint
from harness.subject.introspection import Asking, Introspection, Said
from harness.subject.steer import choose, ends, noise_of
from harness.subject.texts import Loaded
from harness.subject.threads import torch_threads
from harness.subject.tracing import Traced, Write
from harness.values import Latent

__all__ = ["MARK", "blocks_of", "choose_scale", "introspect", "place_of"]

MARK = "{latent}"
# what stands in the prompt where the direction goes: one token or few in most vocabularies
_WORD = "X"


def introspect(loaded: Loaded, latent: Latent, asking: Asking, seed: int, after: Callable[[], None]) -> Introspection:
    """What the subject says of a latent at each scale; equal arguments give equal words.

    `after` is called after each forward pass. All scales are asked at once, a row each.

    Raises:
        CoderError: the coder has no directions, no such latent, or directions of another width than the subject's
            hidden states.
        SubjectError: the prompt has no place for the direction, is too long, or the subject has too few blocks.
    """
    with torch_threads(loaded.plan.subject.threads):
        steering = loaded.steering(latent.coder)
        traced, direction = steering.traced, steering.direction(latent.index)
        ids, places = place_of(loaded, asking.prompt)
        room = loaded.plan.subject.context
        if len(ids) + asking.tokens > room:
            raise SubjectError(
                f"the prompt has {len(ids)} tokens: with {asking.tokens} new ones the context of {room} is too short"
            )
        point, end = _points(traced, asking.layer)
        tokens = torch.tensor([ids])
        held = traced.collect(tokens, [point])[point][0].float()
        after()
        if held.shape[-1] != len(direction):
            raise CoderError(
                f'coder "{latent.coder}": its directions have {len(direction)} numbers, and what a block gives '
                f"{held.shape[-1]}: they cannot stand for one another"
            )
        # a first token takes up all attention in many models, and its norm is no measure
        norm = float(held[1:].norm(dim=-1).mean()) if len(held) > 1 else float(held.norm())
        unit = direction / direction.norm().clamp_min(1e-12)
        wanted = norm * torch.tensor(asking.scales, device=unit.device)[:, None] * unit
        texts, hidden, logits = _go_on(loaded, traced, tokens, places, (point, end), wanted, asking, seed, after)
        likeness = torch.nn.functional.cosine_similarity(hidden.float(), unit[None], dim=-1)
        chances = logits.log_softmax(-1)
        entropies = -(chances.exp() * chances).nan_to_num(0.0).sum(-1)
        similarity, entropy = likeness.cpu().double().numpy(), entropies.cpu().double().numpy()
        said = [Said(*found) for found in zip(asking.scales, similarity.tolist(), entropy.tolist(), texts, strict=True)]
        return Introspection(tuple(said), choose_scale(similarity, entropy))


def choose_scale(similarity: NDArray[np.float64], entropy: NDArray[np.float64]) -> int:
    """The place of the scale with the largest difference of similarity and entropy, each as a share of its own range.

    Of equals it is the first; scales without numbers are passed over, and without any it is the first of all.
    """
    kept = np.isfinite(similarity) & np.isfinite(entropy)
    if not kept.any():
        return 0
    shares = _shares(similarity, kept) - _shares(entropy, kept)
    return int(np.where(kept, shares, -math.inf).argmax())


def place_of(loaded: Loaded, prompt: str) -> tuple[list[int], list[int]]:
    """A prompt's token ids as the subject reads it, and the places of those that stand for the latent.

    Names of special tokens in it mean these tokens, as in a chat's prompt.

    Raises:
        SubjectError: the latent has no place in it.
    """
    if MARK not in prompt:
        raise SubjectError(f"the prompt has no {MARK}, where the latent's direction goes")
    parts = prompt.split(MARK)
    text = _WORD.join(parts)
    starts = np.cumsum([len(part) + len(_WORD) for part in parts])[:-1] - len(_WORD)
    backend = loaded.plan.tokenizer.backend
    backend.encode_special_tokens = False
    try:
        encoded = backend.encode(text, add_special_tokens=False)
    finally:
        backend.encode_special_tokens = True
    opening = [] if loaded.plan.tokenizer.bos is None else [loaded.plan.tokenizer.bos]
    ids = list(encoded.ids)
    if opening and ids[:1] == opening:
        # a chat's prompt may begin with it
        opening = []
    places = [
        len(opening) + at
        for at, (begin, stop) in enumerate(encoded.offsets)
        if any(begin < start + len(_WORD) and stop > start for start in starts.tolist())
    ]
    if not places:
        raise SubjectError(f"the prompt's tokenizer leaves no token where {MARK} stands")
    return [*opening, *ids], places


def blocks_of(model: Any) -> str:
    """The path of a model's list of blocks.

    Raises:
        SubjectError: there is none that has as many as the configuration says.
    """
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    count = getattr(config, "num_hidden_layers", None)
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    ]
    if not lists:
        raise SubjectError("this model has no list of blocks to put a direction behind one of them")
    return min(lists, key=len)


def _points(traced: Traced, layer: int) -> tuple[Hookpoint, Hookpoint]:
    """Where the direction is put, and where the end is read."""
    model: Any = traced.model
    path = blocks_of(model)
    count = len(model.get_submodule(path))
    if layer > count - 2:
        raise SubjectError(
            f"layer {layer}: the subject has {count} blocks, 0 to {count - 1}, and behind the last of them a direction "
            f"reaches no other token; take {count - 2} or less"
        )
    return Hookpoint(f"{path}.{layer}"), Hookpoint(f"{path}.{count - 1}")


def _go_on(
    loaded: Loaded,
    traced: Traced,
    tokens: torch.Tensor,
    places: Sequence[int],
    points: tuple[Hookpoint, Hookpoint],
    wanted: torch.Tensor,
    asking: Asking,
    seed: int,
    after: Callable[[], None],
) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """What follows with each of the vectors `[rows, d]` at the places: texts, last hidden states, first logits."""
    from transformers import DynamicCache

    def put(_: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        changed = held.clone()
        changed[:, list(places)] = wanted[:, None].to(held)
        return changed

    model: Any = traced.model
    point, end = points
    rows = tokens.repeat(len(wanted), 1)
    mask = torch.ones_like(rows)
    cache = DynamicCache(config=model.config)
    logits, hidden = traced.patched(rows, Write(point, put, point), end, cache)
    begun = logits = logits.float()
    after()
    noise = [noise_of(seed, f"{scale:g}") for scale in asking.scales]
    stops = ends(model)
    made: list[list[int]] = [[] for _ in asking.scales]
    ended = [False] * len(made)
    for step in range(asking.tokens):
        chosen = choose(logits, asking.temperature, noise)
        for row, token in enumerate(chosen.tolist()):
            ended[row] = ended[row] or token in stops
            if not ended[row]:
                made[row].append(token)
        if all(ended) or step == asking.tokens - 1:
            break
        mask = torch.cat([mask, mask.new_ones(len(made), 1)], dim=1)
        logits = traced.step(chosen[:, None], mask, cache).float()
        after()
    before = tokens[0].tolist()
    return ["".join(loaded.vocabulary.pieces(ids, before)) for ids in made], hidden, begun


def _shares(values: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Values from 0 to 1 over the range of those that are kept."""
    low, high = values[kept].min(), values[kept].max()
    return np.zeros(len(values)) if high == low else (values - low) / (high - low)
