"""Adds a latent's direction, or ablates the latent, after prompts of anybody's, and looks at what is said then."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from harness.errors import SubjectError
from harness.subject.calibrate import CalibrationSettings, calibrate, kl_divergence
from harness.subject.effect import Change, Effect, Moved
from harness.subject.steer import Edit, Generation, Padded, Steering, pad_left
from harness.subject.texts import Loaded
from harness.subject.threads import torch_threads
from harness.values import Latent

__all__ = ["changed"]

# tokens that are told of those that rose, and of those that fell
_TOP = 6


def changed(
    loaded: Loaded,
    latent: Latent,
    prompts: Sequence[str],
    change: Change,
    *,
    nats: float,
    tokens: int,
    seed: int,
    after: Callable[[], None],
) -> list[Effect]:
    """As `SubjectTexts.effects`; `after` is called after each forward pass and each new token."""
    with torch_threads(loaded.plan.subject.threads):
        steering = loaded.steering(latent.coder)
        # refuses a latent that is not there, whatever the change
        steering.direction(latent.index)
        rows = [_cut(loaded, prompt, tokens) for prompt in prompts]
        padded = pad_left(rows)
        edit = _edit(steering, padded, latent.index, change, nats, after)
        edits, none = [edit] * len(rows), [None] * len(rows)
        before = steering.logits(padded, none).log_softmax(-1)
        behind = steering.logits(padded, edits).log_softmax(-1)
        kls = kl_divergence(before, behind).tolist()
        how = Generation(tokens, seed=seed)
        clean = steering.generate(padded, none, how, after_token=after)
        other = steering.generate(padded, edits, how, after_token=after)
        said = loaded.vocabulary
        opening = 0 if loaded.plan.tokenizer.bos is None else 1
        return [
            Effect(
                "".join(said.pieces(ids[opening:])),
                kl,
                _moved(loaded, was.exp(), now.exp(), 1),
                _moved(loaded, was.exp(), now.exp(), -1),
                "".join(said.pieces(one.tokens, ids)),
                "".join(said.pieces(two.tokens, ids)),
            )
            for ids, kl, was, now, one, two in zip(rows, kls, before, behind, clean, other, strict=True)
        ]


def _edit(
    steering: Steering,
    padded: Padded,
    latent: int,
    change: Change,
    nats: float,
    after: Callable[[], None],
) -> Edit:
    if change == "ablate":
        return Edit(latent, 0.0, "clamp")
    found = calibrate(steering, padded, [latent], CalibrationSettings(targets=(nats,)), after)
    return Edit(latent, found[0].strength)


def _cut(loaded: Loaded, prompt: str, tokens: int) -> list[int]:
    """A prompt's token ids with room for new ones; of a long one the end."""
    ids = loaded.opened(prompt)
    opening = ids[:1] if loaded.plan.tokenizer.bos is not None else []
    room = loaded.plan.subject.context - tokens - len(opening)
    if room < 1:
        raise SubjectError(f"a context of {loaded.plan.subject.context} tokens has no room for {tokens} new ones")
    if not ids[len(opening) :]:
        raise SubjectError("a prompt has no token")
    return [*opening, *ids[len(opening) :][-room:]]


def _moved(loaded: Loaded, was: torch.Tensor, now: torch.Tensor, sign: int) -> tuple[Moved, ...]:
    """The tokens whose probability rose (`sign` 1) or fell most; a model's head may be wider than its tokenizer."""
    change = sign * (now - was).nan_to_num()[: len(loaded.vocabulary)]
    values, ids = change.topk(min(_TOP, len(change)))
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return tuple(Moved(loaded.vocabulary.strings[at], float(was[at]), float(now[at])) for at, by in pairs if by > 0)
