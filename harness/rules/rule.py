"""A rule: a condition, how strong it is where it holds, and how well two rules agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.rules.language import Condition, Mask
from harness.rules.text import Text, scramble
from harness.values import digest

__all__ = ["RECOVERED", "Graded", "Rule", "f1", "parse", "recovered"]

# the F1 from which on an explanation's rule counts as the concept found
RECOVERED = 0.8
# no rank rounds to 1, whose strength would be infinite
_HIGHEST = 1 - 1e-12


class Graded(BaseModel):
    """A condition with strengths, and with the impurities that latents have.

    Where `rule` holds the latent fires. A share `core_share` of the firings at which `core` holds, too, are its
    strongest ones; `stray` holds at other places, of which the share `stray_rate` fires as well, among its weakest.
    `tenth` is the share of all firings that counts as the strongest tenth and as the weakest: 0.1 for a latent that
    fires once in a window, less for one that fires on stretches of words, so that it is a tenth of windows. With rates
    fitted so that core firings are a `tenth` of all and strays the share `stray_share` of a `tenth`, the ranks of all
    firings are even on (0, 1), and the strength of rank r is (-log(1 - r)) ** shape: a stretched exponential,
    heavy-tailed for a shape above 1.

    Every choice is a hash of `seed`, the word and the twelve words and marks before it: equal text, equal strength.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["graded"]
    rule: Condition
    core: Condition | None = None
    core_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    stray: Condition | None = None
    stray_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    stray_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tenth: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    shape: Annotated[float, Field(gt=0, le=4)] = 1.5
    seed: str

    def strengths(self, text: Text) -> NDArray[np.float32]:
        """`[entries]`: the strength, 0 where the rule does not fire."""
        held = self.rule.holds(text)
        core = self._some(self.core, self.core_share, held, text, 1)
        stray = self._some(self.stray, self.stray_rate, ~held, text, 2)
        result = np.zeros(len(held), dtype=np.float32)
        at = np.flatnonzero(held | stray)
        if len(at) == 0:
            return result
        rank = self._chance(text, 0, at)
        low = self.tenth * rank
        ranks = np.where(core[at], 1.0 - self.tenth + low, np.where(stray[at], low, self._plain(rank)))
        result[at] = (-np.log1p(-np.minimum(ranks, _HIGHEST))) ** self.shape
        return result

    def _plain(self, rank: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ranks of firings neither core nor stray: none among the strongest, fewer where strays fill the weakest."""
        top = 1.0 - (self.tenth if self.core else 0.0)
        low = self.tenth * (1.0 - (self.stray_share if self.stray else 0.0))
        mass = rank * (low + top - self.tenth)
        return np.where(mass < low, mass / low * self.tenth, self.tenth + mass - low)

    def ranks(self, strengths: NDArray[np.float32]) -> NDArray[np.float64]:
        """The ranks in [0, 1) of strengths above 0: the share of firings that are weaker."""
        return -np.expm1(-(strengths.astype(np.float64) ** (1 / self.shape)))

    def _some(self, condition: Condition | None, share: float, among: Mask, text: Text, stream: int) -> Mask:
        """A share, by hash, of where the condition holds among some entries."""
        mask = np.zeros_like(among)
        if condition is not None and share > 0:
            at = np.flatnonzero(condition.holds(text) & among)
            mask[at] = self._chance(text, stream, at) < share
        return mask

    def _chance(self, text: Text, stream: int, at: NDArray[np.int64]) -> NDArray[np.float64]:
        """Numbers in (0, 1), even, one for each of the entries `at`."""
        if len(at) == 0:
            return np.empty(0)
        mixed = scramble(text.hashes[at] ^ self._streams[stream])
        return ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53

    @cached_property
    def _streams(self) -> NDArray[np.uint64]:
        whole = digest([self.seed])
        return np.array([int(whole[start : start + 16], 16) for start in (0, 16, 32)], dtype=np.uint64)


class Rule:
    """An executable predicate over the token pieces of a context.

    Its value at a position depends on the pieces up to that position alone, and on how the text is cut into pieces only
    in where it stands: on the piece that completes a word. `data` is what it was parsed from.
    """

    __slots__ = ("_rule", "data")

    def __init__(self, rule: BaseModel, data: Mapping[str, Any]) -> None:
        self._rule = rule
        self.data = data

    def strengths(self, pieces: Sequence[str] | Text) -> NDArray[np.float32]:
        """`[positions]`: above 0 where the rule fires, 0 elsewhere; 1 where it fires without a grade."""
        text = pieces if isinstance(pieces, Text) else Text(pieces)
        if isinstance(self._rule, Graded):
            return text.to_pieces(self._rule.strengths(text))
        return text.to_pieces(self._rule.holds(text).astype(np.float32))  # type: ignore[attr-defined]  # a condition

    def fires(self, pieces: Sequence[str] | Text) -> NDArray[np.bool_]:
        """`[positions]`: where the rule fires."""
        return self.strengths(pieces) > 0

    def ranks(self, strengths: NDArray[np.float32]) -> NDArray[np.float64]:
        """For each strength above 0 the share of all firings that are weaker, in [0, 1]; 1 where there is no grade."""
        if isinstance(self._rule, Graded):
            return self._rule.ranks(strengths)
        return np.ones(len(strengths))


_PARSER: TypeAdapter[Any] = TypeAdapter(Annotated[Condition | Graded, Field(discriminator="kind")])


def parse(data: Mapping[str, Any]) -> Rule:
    """The rule that the data describes; `harness.rules.language` lists the kinds.

    Raises:
        ValueError: it describes none; the message says where and why, in one sentence.
    """
    try:
        return Rule(_PARSER.validate_python(data), data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the rule"
        told = 'a rule needs a "kind"' if first["type"] == "union_tag_not_found" else first["msg"]
        raise ValueError(f"not a rule: {where}: {told}") from error


def f1(rule: Rule, concept: Rule, contexts: Iterable[Sequence[str] | Text]) -> float:
    """How well a rule finds the positions at which a concept fires: the F1 over all positions of all contexts.

    NaN where neither fires anywhere.
    """
    both = either = 0
    for pieces in contexts:
        text = pieces if isinstance(pieces, Text) else Text(pieces)
        ours, theirs = rule.fires(text), concept.fires(text)
        both += int((ours & theirs).sum())
        either += int(ours.sum()) + int(theirs.sum())
    return 2 * both / either if either else float("nan")


def recovered(rule: Rule, concept: Rule, contexts: Iterable[Sequence[str] | Text]) -> bool:
    """Whether the rule has an F1 of at least 0.8 with the concept; False where neither fires anywhere."""
    return f1(rule, concept, contexts) >= RECOVERED
