"""Generation: rows of a batch that each have their own temperature, seed, stops and limit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch

from harness.clients.local.asked import Asked
from harness.clients.local.forward import Forward, told
from harness.clients.local.tokens import Tokens
from harness.clients.protocol import FinishReason, Reply
from harness.values import TokenLogprob, Usage, digest, seed_of

__all__ = ["Draft", "write"]


class Draft:
    """A reply being written; the prompt is the token `ids`.

    `limit` is the most tokens it may have, `ends` the ids that end a text. Draws come from the request's seed, its
    sample number and its prompt alone, so that the text depends on nothing else of its batch.
    """

    def __init__(self, asked: Asked, ids: Sequence[int], limit: int, ends: Collection[int]) -> None:
        request = asked.request
        self.how = asked.how
        self.ids = ids
        self.temperature = request.temperature or 0.0
        self.top = request.top_logprobs
        self.finish: FinishReason | None = None if limit else "length"
        self._limit = limit
        self._ends = ends
        self._stops = [stop.encode("utf-8", "surrogatepass") for stop in request.stop]
        seed = "none" if request.seed is None else request.seed
        self._generator = torch.Generator().manual_seed(seed_of("local", seed, request.sample, digest(list(ids))))
        self._taken = 0
        self._text = bytearray()
        self._tokens: list[tuple[int, TokenLogprob | None]] = []

    @property
    def size(self) -> int:
        """The most tokens there can be in all."""
        return len(self.ids) + self._limit

    def noise(self, vocabulary: int) -> torch.Tensor:
        """What decides the next token: exponential draws, float64 `[vocabulary]`."""
        return torch.empty(vocabulary, dtype=torch.float64).exponential_(generator=self._generator)

    def take(self, token: int, logprob: TokenLogprob | None, piece: str) -> None:
        """Add a token; `finish` says afterwards whether it was the last."""
        self._taken += 1
        if token in self._ends:
            self.finish = "stop"
            return
        before = len(self._text)
        self._tokens.append((before, logprob))
        self._text += piece.encode("utf-8", "surrogateescape")
        cuts = [self._text.find(stop, max(before - len(stop) + 1, 0)) for stop in self._stops]
        if found := [cut for cut in cuts if cut >= 0]:
            self._cut(min(found))
            self.finish = "stop"
        elif self._taken == self._limit:
            self.finish = "length"

    def reply(self) -> Reply:
        """The reply; a character that was left unfinished is U+FFFD in its text."""
        assert self.finish is not None
        return Reply(
            text=self._text.decode("utf-8", "replace"),
            finish=self.finish,
            usage=Usage(input=len(self.ids), output=self._taken, requests=1),
            logprobs=None if self.top is None else tuple(item for _, item in self._tokens if item is not None),
            model=self.how.name,
        )

    def _cut(self, at: int) -> None:
        """Leave out what stands from a stop string on; a token that begins before it stays whole in the logprobs."""
        del self._text[at:]
        self._tokens = [(start, logprob) for start, logprob in self._tokens if start < at]


def write(forward: Forward, tokens: Tokens, drafts: Sequence[Draft], left: Callable[[Draft], bool]) -> Iterator[Draft]:
    """Write every draft to its end, one token of each at a time, and yield it then.

    Rows are padded on the left and share one cache of keys and values. A row whose draft is done, or whose caller has
    `left`, goes out of it.
    """
    live = [draft for draft in drafts if draft.finish is None]
    yield from (draft for draft in drafts if draft.finish is not None)
    if not live:
        return
    ids, mask = forward.padded([draft.ids for draft in live], left=True)
    logits, cache = forward(ids, mask, keep=1, use_cache=True)
    while True:
        taken = _step(live, logits[:, -1], tokens)
        yield from (draft for draft in live if draft.finish is not None)
        kept = [at for at, draft in enumerate(live) if draft.finish is None and not left(draft)]
        if not kept:
            return
        if len(kept) < len(live):
            mask = _select(kept, mask, cache)
            live, taken = [live[at] for at in kept], [taken[at] for at in kept]
        ids = torch.tensor(taken, dtype=torch.int64, device=forward.device)[:, None]
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        logits, cache = forward(ids, mask, keep=1, cache=cache, use_cache=True)


def _select(kept: Sequence[int], mask: torch.Tensor, cache: Any) -> torch.Tensor:
    rows = torch.tensor(kept, dtype=torch.int64, device=mask.device)
    cache.reorder_cache(rows)
    return mask[rows]


def _step(drafts: Sequence[Draft], logits: torch.Tensor, tokens: Tokens) -> list[int]:
    """Give each draft its next token from its row of logits `[rows, vocabulary]`."""
    taken: list[int] = logits.argmax(-1).tolist()
    for at, draft in enumerate(drafts):
        if draft.temperature:
            taken[at] = _sampled(logits[at], draft.temperature, draft.noise(logits.shape[-1]))
    asked = [at for at, draft in enumerate(drafts) if draft.top is not None]
    found: dict[int, TokenLogprob] = {}
    if asked:
        top = max(drafts[at].top or 0 for at in asked)
        logprobs = logits[asked].log_softmax(-1)
        for at, item in zip(asked, told(logprobs, [taken[at] for at in asked], top), strict=True):
            found[at] = tokens.logprob(item, drafts[at].top or 0)
    for at, (draft, token) in enumerate(zip(drafts, taken, strict=True)):
        draft.take(token, found.get(at), tokens.piece(token))
    return taken


def _sampled(logits: torch.Tensor, temperature: float, noise: torch.Tensor) -> int:
    """The token that an exponential race draws from softmax(logits / temperature), `noise` being its clocks.

    Which of two tokens wins hangs on a rounding error only if they finish within it, where a walk along the summed
    distribution would have as many such places as there are tokens: texts would change with a batch's shape.
    """
    wide = logits.double().cpu()
    return int(((wide - wide.max()) / temperature - noise.log()).argmax())
