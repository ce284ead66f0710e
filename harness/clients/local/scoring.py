"""Exact logprobs of given text: one forward pass, with what prefixes of several texts share computed once."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from harness.clients.local.asked import Asked
from harness.clients.local.batching import around
from harness.clients.local.forward import Forward, told
from harness.clients.local.prefixes import Prefixes
from harness.clients.local.tokens import Tokens
from harness.clients.protocol import Reply
from harness.values import TokenLogprob, Usage

__all__ = ["Span", "choose_spans", "score"]

# numbers of logits of one pass, 1 GiB of float32
_LOGITS = 2**28


@dataclass(eq=False, slots=True)
class Span:
    """A text to score: token `ids`, the first `start` of them its prefix; `logprobs` once they are known."""

    asked: Asked
    ids: Sequence[int]
    start: int
    logprobs: tuple[TokenLogprob, ...] | None = field(default=None, init=False)

    @property
    def prefix(self) -> tuple[int, ...]:
        """What stands before the scored tokens."""
        return tuple(self.ids[: self.start])

    @property
    def scored(self) -> Sequence[int]:
        """The tokens to score."""
        return self.ids[self.start :]

    @property
    def size(self) -> int:
        """Tokens in all."""
        return len(self.ids)

    def reply(self) -> Reply:
        """The reply."""
        assert self.logprobs is not None
        usage = Usage(input=len(self.ids), requests=1)
        return Reply(self.asked.request.continuation or "", "stop", usage, self.logprobs, self.asked.how.name)


def choose_spans(own: Span, ready: Sequence[Span]) -> Sequence[Span]:
    """All spans of its prefix, if there are any that it shares; else some of its length that share none."""
    by_prefix: dict[tuple[int, ...], list[Span]] = {}
    for span in ready:
        by_prefix.setdefault(span.prefix, []).append(span)
    mine = by_prefix.pop(own.prefix)
    if _sharing(mine):
        return mine
    others = [span for group in by_prefix.values() if not _sharing(group) for span in group]
    how = own.asked.how
    return around(own, [*mine, *others], lambda span: span.size, rows=how.rows, room=how.room)


def score(
    forward: Forward, prefixes: Prefixes, tokens: Tokens, spans: Sequence[Span], left: Callable[[Span], bool]
) -> Iterator[Span]:
    """Score spans and yield each when it is done; those whose caller has `left` before their pass are dropped.

    Spans of one prefix share a pass over it, or over what follows the part of it that `prefixes` keeps. A pass has no
    more rows and tokens, padding and cached prefix included, than the first span's limits say, but for a span that is
    longer alone.
    """
    done = [span for span in spans if not _needed(span)]
    for span in done:
        span.logprobs = _read(tokens, span, torch.zeros(0, forward.vocabulary))
        yield span
    waiting = sorted((span for span in spans if span.logprobs is None), key=lambda span: span.size)
    if not waiting:
        return
    together = len({span.prefix for span in waiting}) == 1 and _sharing(waiting)
    run = _Shared(forward, prefixes, waiting[0].prefix) if together else _Apart(forward)
    for batch in _slices(waiting, forward.vocabulary):
        present = [span for span in batch if not left(span)]
        if present:
            for span, logits in zip(present, run(present), strict=True):
                span.logprobs = _read(tokens, span, logits)
                yield span


class _Apart:
    """Whole texts, padded on the left so that their ends are in line."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward

    def __call__(self, spans: Sequence[Span]) -> list[torch.Tensor]:
        """For each span logits `[needed, vocabulary]`: of the last token of its prefix and all its own but the last."""
        ids, mask = self._forward.padded([span.ids[:-1] for span in spans], left=True)
        logits, _ = self._forward(ids, mask, keep=max(map(_needed, spans)))
        return [row[len(row) - _needed(span) :] for row, span in zip(logits, spans, strict=True)]


class _Shared:
    """Texts after one prefix, which is computed once."""

    def __init__(self, forward: Forward, prefixes: Prefixes, prefix: tuple[int, ...]) -> None:
        self._forward = forward
        _, self._mask = forward.padded([prefix], left=True)
        self._last, self._cache = prefixes.read(prefix)

    def __call__(self, spans: Sequence[Span]) -> list[torch.Tensor]:
        """The same as `_Apart` gives."""
        if max(map(_needed, spans)) == 1:
            return [self._last] * len(spans)
        ids, mask = self._forward.padded([span.scored[:-1] for span in spans], left=False)
        cache = copy.deepcopy(self._cache)
        cache.reorder_cache(torch.zeros(len(spans), dtype=torch.int64, device=ids.device))
        mask = torch.cat([self._mask.expand(len(spans), -1), mask], dim=1)
        logits, _ = self._forward(ids, mask, keep=ids.shape[1], cache=cache, use_cache=True)
        return [torch.cat([self._last, row[: _needed(span) - 1]]) for row, span in zip(logits, spans, strict=True)]


def _needed(span: Span) -> int:
    """How many of the scored tokens have something before them."""
    return len(span.ids) - max(span.start, 1) if span.ids else 0


def _sharing(group: Sequence[Span]) -> bool:
    """Whether spans of one prefix are better off with a pass over it of its own."""
    return len(group) > 1 and group[0].start > 1


def _slices(spans: Sequence[Span], vocabulary: int) -> Iterator[list[Span]]:
    """Spans in their order, cut where a pass would be too large."""
    how = spans[0].asked.how
    batch: list[Span] = []
    for span in spans:
        grown = [*batch, span]
        padded = len(grown) * max(each.size for each in grown)
        logits = len(grown) * max(map(_needed, grown)) * vocabulary
        if batch and (len(grown) > how.rows or padded > how.room or logits > _LOGITS):
            yield batch
            grown = [span]
        batch = grown
    yield batch


def _read(tokens: Tokens, span: Span, logits: torch.Tensor) -> tuple[TokenLogprob, ...]:
    """The scored tokens' logprobs from their logits; a token before which nothing stands has none, NaN."""
    request = span.asked.request
    top, among = request.top_logprobs or 0, tokens.among(request.among) if request.among else ()
    known = span.scored[len(span.scored) - len(logits) :]
    found = [TokenLogprob(tokens.piece(token), math.nan) for token in span.scored[: len(span.scored) - len(logits)]]
    return (
        *found,
        *(tokens.logprob(item, len(among) or top) for item in told(logits.log_softmax(-1), known, top, among)),
    )
