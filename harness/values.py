"""The nouns: small frozen values that pass between the parts of the house."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Example",
    "Explanation",
    "Failure",
    "FailureStatus",
    "Latent",
    "Pair",
    "Passage",
    "PieceSource",
    "Place",
    "ReadText",
    "Rise",
    "ScoredSet",
    "Split",
    "Status",
    "TokenLogprob",
    "Usage",
    "digest",
    "seed_of",
]

FailureStatus = Literal[
    "refused", "truncated", "unparsable", "provider_error", "over_budget", "too_few_examples", "no_partner", "no_rule"
]
Status = Literal["ok"] | FailureStatus
Split = Literal["shown", "select", "scored"]


def digest(value: Any) -> str:
    """The SHA-256, in hex, of a JSON-able value's canonical form (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def seed_of(*parts: str | int) -> int:
    """A 64-bit seed from parts such as (run seed, coder, latent, purpose); equal parts give an equal seed."""
    return int(digest(list(parts))[:16], 16)


@dataclass(frozen=True, slots=True, order=True)
class Latent:
    """One column of a coder; its identity everywhere."""

    coder: str
    index: int


class PieceSource(Protocol):
    """Whatever can give the token strings of a context; a store's reader does."""

    def pieces(self, context: int, start: int, stop: int) -> tuple[str, ...]:
        """The token strings of positions `start` to `stop` of a context."""
        ...

    def log_counts(self, context: int, start: int, stop: int) -> NDArray[np.float64]:
        """The logarithm of how often each of these tokens stands in all of the text, `[stop - start]`."""
        ...


# The next three are made by the hundred for each latent, and msgspec makes one in a fifth of a frozen dataclass's time.


class Place(msgspec.Struct, frozen=True):
    """Where a passage stands: a store's id, a context of it and the first position."""

    store: str
    context: int
    start: int


class Passage(msgspec.Struct, frozen=True, eq=False):
    """A window of text as token strings, without activations: what a judge may see.

    `marks` are the positions in the window shown between markers (fuzzing), ascending; empty where nothing is
    marked. `place` and `source` are None for passages that come from no store, as few-shot examples do. Passages are
    equal where all but their sources is.
    """

    tokens: tuple[str, ...]
    marks: tuple[int, ...] = ()
    place: Place | None = None
    source: PieceSource | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Passage):
            return NotImplemented
        return (self.tokens, self.marks, self.place) == (other.tokens, other.marks, other.place)

    def __hash__(self) -> int:
        return hash((self.tokens, self.marks, self.place))

    def __repr__(self) -> str:
        return f"Passage(tokens={self.tokens!r}, marks={self.marks!r}, place={self.place!r})"

    @property
    def text(self) -> str:
        """The window's text."""
        return "".join(self.tokens)

    def preceding(self) -> tuple[str, ...]:
        """What the subject read in the same context before this window."""
        if self.place is None or self.source is None:
            return ()
        return self.source.pieces(self.place.context, 0, self.place.start)

    def log_counts(self) -> NDArray[np.float64]:
        """The logarithm of how often each token stands in the text that it comes from, 0 where there is none."""
        if self.place is None or self.source is None:
            return np.zeros(len(self.tokens))
        return self.source.log_counts(self.place.context, self.place.start, self.place.start + len(self.tokens))

    def identity(self) -> list[Any]:
        """A JSON-able value that tells this passage from any other."""
        place = None if self.place is None else [self.place.store, self.place.context, self.place.start]
        return [place, list(self.tokens), list(self.marks)]


class Example(msgspec.Struct, frozen=True, eq=False):
    """A window of a context with a latent's activations on it.

    `activations` is float32 `[positions]`, zero where the latent is silent. `quantile` is 1 (weakest) to 10
    (strongest) for activating windows and None for others; `rung` names where a non-activating one comes from.
    """

    passage: Passage
    activations: NDArray[np.float32]
    quantile: int | None = None
    rung: str | None = None

    @property
    def activating(self) -> bool:
        """Whether the latent fires anywhere in the window; on the rung `misplaced`, whether the marks are right."""
        return self.rung is None


@dataclass(frozen=True, slots=True, eq=False)
class ReadText:
    """A text as the subject read it: its token strings, without a BOS, and a latent's activations on them.

    `activations` is float32 `[positions]`, zero where the latent is silent.
    """

    pieces: tuple[str, ...]
    activations: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSet:
    """The examples a scorer is asked about for one rung, one half activating, in their seeded order.

    `latent` is whose they are, `maximum` its largest activation in the store.
    """

    rung: str
    examples: tuple[Example, ...]
    latent: Latent | None = None
    maximum: float = 0.0


@dataclass(frozen=True, slots=True)
class Rise:
    """What an intervention does to the next token: those that rose and fell most, with by how much.

    `text` is what stands before it, None where no text does. Changes are of probability, of logits where there is no
    text; rises descend, falls ascend.
    """

    text: str | None
    rose: tuple[tuple[str, float], ...]
    fell: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """How the subject went on with a prompt, without and with an intervention.

    `place` is where the prompt begins and `quantile` that of its window, from 1.
    """

    prompt: str
    clean: str
    steered: str
    place: Place | None = None
    quantile: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Words for what a latent does; `rule` is their machine-readable form where the explainer gives one."""

    text: str
    rule: Mapping[str, Any] | None = None

    def identity(self) -> list[Any]:
        """A JSON-able value that tells this explanation from any other."""
        return [self.text, self.rule]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer; recorded and counted, never scored and never dropped."""

    status: FailureStatus
    message: str


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token with its logprob in nats and the most likely alternatives, `(token, logprob)`."""

    token: str
    logprob: float
    top: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens billed: `input` at full rate, read from and written to a prompt cache, and generated.

    `output` includes `reasoning`. `cost` is in dollars, None where no price is known.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    requests: int = 0
    cost: float | None = None

    def __add__(self, other: Usage) -> Usage:
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(
            self.input + other.input,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.requests + other.requests,
            sum(costs) if costs else None,
        )
