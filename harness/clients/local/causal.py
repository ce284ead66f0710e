"""A loaded causal language model, and its two kinds of work: text to write and text to score."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from harness.clients.local.asked import Asked
from harness.clients.local.batching import around
from harness.clients.local.forward import Forward
from harness.clients.local.place import Place
from harness.clients.local.prefixes import Prefixes
from harness.clients.local.scoring import Span, choose_spans, score
from harness.clients.local.tokens import Tokens
from harness.clients.local.writing import Draft, write
from harness.clients.protocol import Reply
from harness.errors import ContextTooLong
from harness.subject.models import load_model
from harness.subject.threads import torch_threads

__all__ = ["Causal", "Scoring", "Writing"]


class Causal:
    """The model and its tokenizer, for both kinds of work; used on one thread."""

    def __init__(self, place: Place, dtype: str, device: str) -> None:
        model: Any = load_model(place.files, dtype, device)
        forward, tokens = Forward(model, place.vocabulary or 1), Tokens(place.files)
        self.writing = Writing(forward, tokens, _ends(model))
        self.scoring = Scoring(forward, tokens)


class Writing:
    """Text to write; see `batching.Kind`."""

    def __init__(self, forward: Forward, tokens: Tokens, ends: Collection[int]) -> None:
        self._forward = forward
        self._tokens = tokens
        self._ends = ends

    def prepare(self, asked: Asked) -> Draft:
        """A draft, at most as long as the context has room.

        Raises:
            ContextTooLong: the prompt leaves no room for a token.
            BadRequest: the chat template does not take such messages.
        """
        request = asked.request
        ids, _ = self._tokens.encode(request.messages, chat=asked.how.chat)
        limit = request.max_tokens
        if asked.how.context is not None:
            _check(len(ids) + min(limit, 1), asked)
            limit = min(limit, asked.how.context - len(ids))
        return Draft(asked, ids, limit, self._ends)

    def choose(self, own: Draft, ready: Sequence[Draft]) -> Sequence[Draft]:
        """Drafts of like length."""
        return around(own, ready, lambda draft: draft.size, rows=own.how.rows, room=own.how.room)

    def work(self, batch: Sequence[Draft], left: Callable[[Draft], bool]) -> Iterator[tuple[Draft, Reply]]:
        """Write them all in one batch."""
        with torch_threads(batch[0].how.threads):
            for draft in write(self._forward, self._tokens, batch, left):
                yield draft, draft.reply()


class Scoring:
    """Text to score; see `batching.Kind`."""

    def __init__(self, forward: Forward, tokens: Tokens) -> None:
        self._forward = forward
        self._prefixes = Prefixes(forward)
        self._tokens = tokens

    def prepare(self, asked: Asked) -> Span:
        """A span.

        Raises:
            ContextTooLong: prompt and continuation do not fit the context.
            BadRequest: the chat template does not take such messages.
        """
        request = asked.request
        ids, start = self._tokens.encode(request.messages, request.continuation or "", chat=asked.how.chat)
        _check(len(ids), asked)
        return Span(asked, ids, start)

    def choose(self, own: Span, ready: Sequence[Span]) -> Sequence[Span]:
        """Those of one prefix, else of like length."""
        return choose_spans(own, ready)

    def work(self, batch: Sequence[Span], left: Callable[[Span], bool]) -> Iterator[tuple[Span, Reply]]:
        """Score them in as few passes as their limits allow."""
        with torch_threads(batch[0].asked.how.threads):
            for span in score(self._forward, self._prefixes, self._tokens, batch, left):
                yield span, span.reply()


def _check(needed: int, asked: Asked) -> None:
    name, context = asked.how.name, asked.how.context
    if context is not None and needed > context:
        raise ContextTooLong(f"{name} takes {context} tokens, and this request needs at least {needed}", model=name)


def _ends(model: Any) -> frozenset[int]:
    """The tokens that end a text, as the model's files name them."""
    named = [model.config.eos_token_id, getattr(model.generation_config, "eos_token_id", None)]
    flat = [each for one in named for each in (one if isinstance(one, list | tuple) else [one])]
    return frozenset(int(each) for each in flat if each is not None)
