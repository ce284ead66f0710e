"""Forward passes with nnsight: what modules give, and what follows when a module gives something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import nnsight
import torch
from nnsight import _c as nnsight_c

from harness.errors import HookpointError
from harness.subject.hookpoints import Hookpoint, check_path, first, put

__all__ = ["Skip", "Traced", "Write"]

# nnsight puts a `save` method on every object of the process; code elsewhere that looks for one would find it.
# `nnsight.save(value)` does the same without.
if nnsight_c.unmount is not None and hasattr(object, "save"):
    nnsight_c.unmount("save")

# A dry run's length in tokens: modules run in the same order at any length.
_DRY = 4


@dataclass(frozen=True, slots=True)
class Write:
    """A change of what `hookpoint` holds: `change` maps (what `read` holds, what `hookpoint` holds) to the new value.

    All are `[batch, seq, d]`; `read` comes before `hookpoint` in the forward pass, or is the same.
    """

    hookpoint: Hookpoint
    change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    read: Hookpoint


@dataclass(frozen=True, slots=True)
class Skip:
    """The first `count` blocks of the list at `layers` do not run; `hidden`, `[batch, seq, d]`, is what they gave."""

    layers: str
    count: int
    hidden: torch.Tensor


class Traced:
    """A model wrapped once for tracing; used by one thread at a time."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self._envoy: Any = nnsight.NNsight(model)
        self._device = next(model.parameters()).device
        self._orders: dict[frozenset[Hookpoint], tuple[Hookpoint, ...]] = {}

    @torch.no_grad()
    def collect(
        self, tokens: torch.Tensor, hookpoints: Sequence[Hookpoint], mask: torch.Tensor | None = None
    ) -> dict[Hookpoint, torch.Tensor]:
        """What each hookpoint holds, `[batch, seq, d]`, from one forward pass that stops after the last of them.

        Args:
            tokens: ids, int64 `[batch, seq]`.
            hookpoints: in any order.
            mask: 1 for tokens and 0 for padding at the end of rows, int64 `[batch, seq]`; None where there is none.

        Raises:
            HookpointError: there is no such module, or it does not run exactly once in a forward pass.
        """
        order = self.order(tokens, hookpoints)
        more = {} if mask is None else {"attention_mask": mask.to(self._device)}
        with self._envoy.trace(input_ids=tokens.to(self._device), use_cache=False, **more) as tracer:
            found = nnsight.save([])
            for hookpoint in order:
                module = self._envoy.get(hookpoint.path)
                found.append(first(module.input if hookpoint.input else module.output))
            tracer.stop()
        return dict(zip(order, found, strict=True))

    @torch.no_grad()
    def logits(
        self,
        tokens: torch.Tensor,
        hookpoint: Hookpoint | None = None,
        change: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Next-token logits `[batch, seq, vocabulary]`; `change` maps what the hookpoint holds, `[batch, seq, d]`."""
        tokens = tokens.to(self._device)
        if hookpoint is None or change is None:
            return self.model(input_ids=tokens, use_cache=False).logits
        self.order(tokens, [hookpoint])
        with self._envoy.trace(input_ids=tokens, use_cache=False):
            module = self._envoy.get(hookpoint.path)
            if hookpoint.input:
                module.input = change(module.input)
            else:
                whole = module.output
                module.output = put(whole, change(first(whole)))
            logits = nnsight.save(self._envoy.output.logits)
        # a block that is traced runs elsewhere: it cannot return
        return logits  # noqa: RET504 - set inside the trace

    @torch.no_grad()
    def step(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor,
        cache: Any = None,
        *,
        write: Write | None = None,
        skip: Skip | None = None,
    ) -> torch.Tensor:
        """Logits after the last token, `[batch, vocabulary]`, of tokens that follow those in the `cache`.

        Args:
            tokens: ids, int64 `[batch, seq]`; padding is on the left.
            mask: 1 for tokens and 0 for padding, int64 `[batch, cached + seq]`.
            cache: keys and values of what was read before, which this adds to; None to keep none.
            write: a change on the way.
            skip: blocks that do not run, because what they give is known.
        """
        mask = mask.to(self._device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        more = {"use_cache": False} if cache is None else {"use_cache": True, "past_key_values": cache}
        inputs = {"attention_mask": mask, "position_ids": positions, "logits_to_keep": 1, **more}
        tokens = tokens.to(self._device)
        if write is None and skip is None:
            return self.model(input_ids=tokens, **inputs).logits[:, -1]
        with self._envoy.trace(input_ids=tokens, **inputs):
            if skip is not None:
                for number in range(skip.count):
                    self._envoy.get(f"{skip.layers}.{number}").skip(skip.hidden)
            if write is not None:
                self._change(write)
            logits = nnsight.save(self._envoy.output.logits[:, -1])
        # a block that is traced runs elsewhere: it cannot return
        return logits  # noqa: RET504 - set inside the trace

    @torch.no_grad()
    def patched(
        self, tokens: torch.Tensor, write: Write, read: Hookpoint, cache: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits after the last token, `[batch, vocabulary]`, and what `read` holds there, `[batch, d]`, with a change.

        Args:
            tokens: ids, int64 `[batch, seq]`, without padding.
            write: the change.
            read: a hookpoint that comes after it.
            cache: takes the keys and values of what was read; None to keep none.
        """
        tokens = tokens.to(self._device)
        more = {"use_cache": False} if cache is None else {"use_cache": True, "past_key_values": cache}
        with self._envoy.trace(input_ids=tokens, logits_to_keep=1, **more):
            self._change(write)
            module = self._envoy.get(read.path)
            held = nnsight.save(first(module.input if read.input else module.output)[:, -1])
            logits = nnsight.save(self._envoy.output.logits[:, -1])
        return logits, held

    def _change(self, write: Write) -> None:
        """Inside a trace: read, and write where the forward pass comes to it."""
        source = None
        if write.read != write.hookpoint:
            module = self._envoy.get(write.read.path)
            source = first(module.input if write.read.input else module.output)
        module = self._envoy.get(write.hookpoint.path)
        if write.hookpoint.input:
            held = module.input
            module.input = write.change(held if source is None else source, held)
        else:
            whole = module.output
            held = first(whole)
            module.output = put(whole, write.change(held if source is None else source, held))

    def order(self, tokens: torch.Tensor, hookpoints: Sequence[Hookpoint]) -> tuple[Hookpoint, ...]:
        """The hookpoints in the order in which a forward pass reaches them: they have to be read in it.

        Raises:
            HookpointError: there is no such module, or it does not run exactly once in a forward pass.
        """
        key = frozenset(hookpoints)
        if key not in self._orders:
            self._orders[key] = self._dry_run(tokens[:1, :_DRY], key)
        return self._orders[key]

    def _dry_run(self, tokens: torch.Tensor, hookpoints: frozenset[Hookpoint]) -> tuple[Hookpoint, ...]:
        modules = dict(self.model.named_modules())
        reached: list[Hookpoint] = []
        hooks: list[Any] = []
        try:
            for hookpoint in hookpoints:
                check_path(hookpoint.path, modules)
                hooks.append(_watch(modules[hookpoint.path], hookpoint, reached))
            with torch.no_grad():
                self.model(input_ids=tokens.to(self._device), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        for hookpoint in hookpoints:
            if reached.count(hookpoint) != 1:
                raise HookpointError(
                    f'hookpoint "{hookpoint.path}": this module runs {reached.count(hookpoint)} times in a forward '
                    "pass, and a hookpoint has to run once"
                )
        return tuple(reached)


def _watch(module: torch.nn.Module, hookpoint: Hookpoint, reached: list[Hookpoint]) -> Any:
    def note(*_: Any) -> None:
        reached.append(hookpoint)

    return module.register_forward_pre_hook(note) if hookpoint.input else module.register_forward_hook(note)
