"""Calibration: the strengths at which adding latents moves the next-token distribution by given KL divergences."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from harness.subject.calibrate_search import Calibration, search
from harness.subject.hookpoints import Hookpoint, first
from harness.subject.steer import Padded, Steering, shallow
from harness.subject.tracing import Skip, Traced, Write

__all__ = ["TARGETS", "CalibrationSettings", "Prompts", "calibrate", "kl_divergence"]

TARGETS = (0.1, 0.33, 1.0, 3.0)

# A first strength: this share of the hidden state's norm moves most models by a few hundredths of a nat.
_START = 0.1


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """Targets in nats; how far from them is near enough; rounds at most; rows of one forward pass at most.

    With `sign` -1 the latents' directions are taken away instead of added.
    """

    targets: tuple[float, ...] = TARGETS
    tolerance: float = 0.1
    max_rounds: int = 16
    rows: int = 512
    sign: int = 1


def calibrate(
    steering: Steering,
    prompts: Padded,
    latents: Sequence[int],
    settings: CalibrationSettings | None = None,
    after_pass: Callable[[], None] = lambda: None,
) -> list[Calibration]:
    """The strength for each latent and target, latent by latent, at which the mean over prompts of
    KL(clean || steered) at the last position is the target.

    All latents are tried together, round by round. `after_pass` is called after each forward pass.

    Raises:
        CoderError: there is no such latent.
        SubjectError: a prompt is longer than the subject's context.
    """
    settings = settings or CalibrationSettings()
    read = Prompts(steering, prompts)
    directions = {latent: steering.direction(latent) for latent in latents}

    def measure(wanted: Sequence[tuple[int, float]]) -> list[float]:
        at_once = max(1, settings.rows // len(prompts.tokens))
        found: list[float] = []
        for begin in range(0, len(wanted), at_once):
            part = wanted[begin : begin + at_once]
            added = torch.stack([settings.sign * strength * directions[latent] for latent, strength in part])
            found += read.kl(added).tolist()
            after_pass()
        return found

    return search(
        measure, read.starts(latents), settings.targets, tolerance=settings.tolerance, max_rounds=settings.max_rounds
    )


class Prompts:
    """Prompts read once: what is kept of them lets the last token be read again from the hookpoint's block upward.

    Only the last position is changed, and no earlier position sees it: the keys and values of the others hold, and so
    do the blocks below the hookpoint's. The result is that of a whole forward pass but for rounding.
    """

    def __init__(self, steering: Steering, prompts: Padded) -> None:
        from transformers import DynamicCache

        steering.check_length(prompts)
        self.steering = steering
        self._traced: Traced = steering.traced
        self._last = prompts.tokens[:, -1:].to(steering.device)
        self._mask = prompts.mask.to(steering.device)
        self._cache: Any = DynamicCache(config=self._traced.model.config)  # pyright: ignore[reportArgumentType] - is one
        if prompts.tokens.shape[1] > 1:
            self._traced.step(prompts.tokens[:, :-1], self._mask[:, :-1], self._cache)
        self._block = _Block.of(self._traced.model, steering.write)
        seen: dict[str, torch.Tensor] = {}
        with (
            _noting(self._traced.model, steering.write, "held", seen),
            _noting_block(self._traced.model, self._block, seen),
        ):
            logits = self._traced.step(self._last, self._mask, shallow(self._cache))
        self._clean = logits.float().log_softmax(-1)
        self._hidden = seen.get("below")
        self._held = seen["held"]
        self.norm = float(self._held.float().norm(dim=-1).mean())

    @torch.no_grad()
    def kl(self, added: torch.Tensor) -> torch.Tensor:
        """The mean KL(clean || steered) in nats for each of the vectors `[n, d]` added, `[n]`; not finite where
        logits are not."""
        count, size = len(added), len(self._last)
        rows = torch.arange(size, device=added.device).repeat(count)
        more = added.repeat_interleave(size, dim=0)
        cache = shallow(self._cache)
        if cache.get_seq_length():
            cache.batch_select_indices(rows)
        logits = self._logits(rows, more, cache).float().log_softmax(-1)
        clean = self._clean[rows]
        each = kl_divergence(clean, logits).view(count, size)
        found = each.double().mean(-1)
        return torch.where(found.isfinite(), found, torch.full_like(found, math.nan))

    def starts(self, latents: Sequence[int]) -> dict[int, float]:
        """First strengths: a set share of the mean norm of what the hookpoint holds; 1 where either is no number."""
        norms = {latent: float(self.steering.direction(latent).norm()) for latent in latents}
        found = {latent: self.norm * _START / max(norm, 1e-12) for latent, norm in norms.items()}
        return {latent: start if start > 0 and math.isfinite(start) else 1.0 for latent, start in found.items()}

    def _logits(self, rows: torch.Tensor, more: torch.Tensor, cache: Any) -> torch.Tensor:
        tokens, mask = self._last[rows], self._mask[rows]
        block = self._block
        if block is not None and block.whole:
            changed = self._held[rows]
            changed[:, -1] = changed[:, -1] + more.to(changed.dtype)
            # the input of the first block cannot be skipped to: it is written
            if block.number + 1 > 0:
                return self._traced.step(tokens, mask, cache, skip=Skip(block.layers, block.number + 1, changed))

        def change(_: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
            written = held.clone()
            written[:, -1] = held[:, -1] + more.to(held.dtype)
            return written

        write = Write(self.steering.write, change, self.steering.write)
        if block is None or self._hidden is None:
            return self._traced.step(tokens, mask, cache, write=write)
        skip = Skip(block.layers, block.number, self._hidden[rows])
        return self._traced.step(tokens, mask, cache, write=write, skip=skip)


def kl_divergence(clean: torch.Tensor, steered: torch.Tensor) -> torch.Tensor:
    """KL(clean || steered) in nats of log-probabilities `[n, vocabulary]`, `[n]`: the sum of p (log p - log q)."""
    return (clean.exp() * (clean - steered)).sum(-1)


@dataclass(frozen=True, slots=True)
class _Block:
    """Where a hookpoint is among a model's blocks.

    `whole`: what it holds is what block `number` of `layers` gives; else it is inside that block.
    """

    layers: str
    number: int
    whole: bool

    @classmethod
    def of(cls, model: torch.nn.Module, point: Hookpoint) -> _Block | None:
        """None where the hookpoint is in no list of blocks."""
        match = re.match(r"(.+?)\.(\d+)(\..+)?$", point.path)
        if match is None or not isinstance(model.get_submodule(match[1]), torch.nn.ModuleList):
            return None
        number = int(match[2])
        if match[3]:
            return cls(match[1], number, whole=False)
        return cls(match[1], number - 1 if point.input else number, whole=True)


def _noting(model: torch.nn.Module, point: Hookpoint, name: str, seen: dict[str, torch.Tensor]) -> Any:
    """A plain hook that keeps what a hookpoint holds; to be used in a `with`."""
    module = model.get_submodule(point.path)
    if point.input:

        def before(_: Any, args: Any, kwargs: Any) -> None:
            seen[name] = first(args[0] if args else next(iter(kwargs.values())))

        return module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_: Any, __: Any, output: Any) -> None:
        seen[name] = first(output)

    return module.register_forward_hook(after)


def _noting_block(model: torch.nn.Module, block: _Block | None, seen: dict[str, torch.Tensor]) -> Any:
    """The same for what goes into a hookpoint's block, where blocks below it can be left out."""
    if block is None or block.whole or block.number == 0:
        return nullcontext()
    return _noting(model, Hookpoint(f"{block.layers}.{block.number - 1}"), "below", seen)
