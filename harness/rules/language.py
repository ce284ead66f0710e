"""The language of rules: conditions on one word or piece and on what came before it, composed freely.

Written as data, a condition is a mapping with a `kind`:

    words         the word is one of `words` (in any case, unless `case` is true)
    ending        the word ends in one of `endings`, has at least `least` letters and is none of `but`
    beginning     the word begins with one of `beginnings`, has at least `least` letters and is none of `but`
    wordlike      letters or digits: no mark
    number        digits
    capitalised   the first letter is a capital
    position      `first` to `last` words stand before it in its `within` (clause, sentence, line or document)
    inside        between quotation marks (`marks` = "quotes") or brackets ("brackets"), the marks themselves excluded
    repeated      the document held the same word before
    previous      the word or mark `distance` before it (1 unless said) in the document satisfies `rule`
    earlier       at least `count` words or marks before it satisfy `rule`, `within` its clause, sentence, line or
                  document, or among as many words and marks of the document as `within` says
    after_sentence  the sentence before, in the same document, holds something that satisfies `rule`
    all, any      every one or any one of `rules`
    not           `rule` fails
    tokens        the piece is one of `tokens`, exactly
    suffix        the piece ends in one of `suffixes`
    after         the piece is `token` (any, where it is left out) and the piece before it one of `previous`

The last three read token pieces as they are, the others words (see `Text`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from harness.rules.text import Text
from harness.values import digest

__all__ = [
    "After",
    "AfterSentence",
    "AllOf",
    "AnyOf",
    "Beginning",
    "Capitalised",
    "Condition",
    "Earlier",
    "Ending",
    "Inside",
    "Mask",
    "Not",
    "Number",
    "OneOf",
    "Position",
    "Previous",
    "Repeated",
    "Suffix",
    "Tokens",
    "Wordlike",
]

Mask = NDArray[np.bool_]
Stretch = Literal["clause", "sentence", "line", "document"]
Words = Annotated[tuple[str, ...], Field(min_length=1)]


class _Condition(BaseModel):
    """A condition; `holds` tells at which entries of a text it holds, each a function of what stands up to it alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @cached_property
    def key(self) -> str:
        """The same for equal conditions, so that a text evaluates each once."""
        return digest(self.model_dump(mode="json"))

    def holds(self, text: Text) -> Mask:
        """`[entries]`: where the condition holds; never on a blank entry, but for conditions on pieces."""
        return text.memo(self.key, lambda: self._holds(text))

    def _holds(self, text: Text) -> Mask:
        raise NotImplementedError


class OneOf(_Condition):
    """The word is one of a list."""

    kind: Literal["words"]
    words: Words
    case: bool = False

    def _holds(self, text: Text) -> Mask:
        return text.where(self._set.__contains__, folded=not self.case)

    @cached_property
    def _set(self) -> frozenset[str]:
        return frozenset(self.words if self.case else (word.casefold() for word in self.words))


class Ending(_Condition):
    """The word ends in one of a list."""

    kind: Literal["ending"]
    endings: Words
    least: int = 0
    but: tuple[str, ...] = ()

    def _holds(self, text: Text) -> Mask:
        return text.where(
            lambda word: len(word) >= self.least and word.endswith(self.endings) and word not in self.but, folded=True
        )


class Beginning(_Condition):
    """The word begins with one of a list."""

    kind: Literal["beginning"]
    beginnings: Words
    least: int = 0
    but: tuple[str, ...] = ()

    def _holds(self, text: Text) -> Mask:
        return text.where(
            lambda word: len(word) >= self.least and word.startswith(self.beginnings) and word not in self.but,
            folded=True,
        )


class Wordlike(_Condition):
    """Letters or digits."""

    kind: Literal["wordlike"]

    def _holds(self, text: Text) -> Mask:
        return text.on_entries(text.wordlike)


class Number(_Condition):
    """Digits."""

    kind: Literal["number"]

    def _holds(self, text: Text) -> Mask:
        return text.where(str.isdigit)


class Capitalised(_Condition):
    """The first letter is a capital."""

    kind: Literal["capitalised"]

    def _holds(self, text: Text) -> Mask:
        return text.where(lambda word: word[:1].isupper())


class Position(_Condition):
    """So many words stand before the word in its stretch of text; `last` None is without end."""

    kind: Literal["position"]
    first: Annotated[int, Field(ge=0)]
    last: int | None = None
    within: Stretch = "sentence"

    def _holds(self, text: Text) -> Mask:
        place = getattr(text.structure, f"{self.within}_place")
        far = place > self.last if self.last is not None else np.zeros(len(place), dtype=np.bool_)
        return text.on_entries(text.wordlike & (place >= self.first) & ~far)


class Inside(_Condition):
    """Between quotation marks or brackets."""

    kind: Literal["inside"]
    marks: Literal["quotes", "brackets"]

    def _holds(self, text: Text) -> Mask:
        inside = text.structure.quoted if self.marks == "quotes" else text.structure.bracketed
        closing = '"”' if self.marks == "quotes" else ")]}"
        return text.on_entries(inside) & ~text.where(lambda word: word in closing)


class Repeated(_Condition):
    """The document held the same word before."""

    kind: Literal["repeated"]

    def _holds(self, text: Text) -> Mask:
        return text.repeated


class Previous(_Condition):
    """A word or mark before it in the document satisfies another condition."""

    kind: Literal["previous"]
    rule: Condition
    distance: Annotated[int, Field(ge=1)] = 1

    def _holds(self, text: Text) -> Mask:
        held = self.rule.holds(text)[text.whole]
        document = text.structure.document
        result = np.zeros(len(held), dtype=np.bool_)
        back = self.distance
        if len(held) > back:
            result[back:] = held[:-back] & (document[back:] == document[:-back])
        return text.on_entries(result)


class Earlier(_Condition):
    """Enough words or marks before it satisfy another condition."""

    kind: Literal["earlier"]
    rule: Condition
    within: Stretch | Annotated[int, Field(ge=1)]
    count: Annotated[int, Field(ge=1)] = 1

    def _holds(self, text: Text) -> Mask:
        held = self.rule.holds(text)[text.whole]
        total = np.concatenate([[0], np.cumsum(held)])
        index = np.arange(len(held))
        if isinstance(self.within, int):
            begin = np.maximum(_starts(text.structure.document), index - self.within)
        else:
            begin = _starts(getattr(text.structure, self.within))
        return text.on_entries(total[index] - total[begin] >= self.count)


class AfterSentence(_Condition):
    """The sentence before holds something that satisfies another condition."""

    kind: Literal["after_sentence"]
    rule: Condition

    def _holds(self, text: Text) -> Mask:
        held = self.rule.holds(text)[text.whole]
        total = np.concatenate([[0], np.cumsum(held)])
        begin = _starts(text.structure.sentence)
        # the unit just before a sentence belongs to the one before it, unless a document begins here
        before = np.maximum(begin - 1, 0)
        fresh = (begin == 0) | (text.structure.document[before] != text.structure.document)
        return text.on_entries(~fresh & (total[begin] > total[begin[before]]))


class AllOf(_Condition):
    """Every one of several conditions."""

    kind: Literal["all"]
    rules: Annotated[tuple[Condition, ...], Field(min_length=1)]

    def _holds(self, text: Text) -> Mask:
        return np.logical_and.reduce([rule.holds(text) for rule in self.rules])


class AnyOf(_Condition):
    """Any one of several conditions."""

    kind: Literal["any"]
    rules: Annotated[tuple[Condition, ...], Field(min_length=1)]

    def _holds(self, text: Text) -> Mask:
        return np.logical_or.reduce([rule.holds(text) for rule in self.rules])


class Not(_Condition):
    """A condition fails."""

    kind: Literal["not"]
    rule: Condition

    def _holds(self, text: Text) -> Mask:
        return ~self.rule.holds(text) & (text.unit >= 0)


class Tokens(_Condition):
    """The piece is one of a list, exactly."""

    kind: Literal["tokens"]
    tokens: Words

    def _holds(self, text: Text) -> Mask:
        return text.from_pieces(text.where_piece(frozenset(self.tokens).__contains__))


class Suffix(_Condition):
    """The piece ends in one of a list."""

    kind: Literal["suffix"]
    suffixes: Words

    def _holds(self, text: Text) -> Mask:
        return text.from_pieces(text.where_piece(lambda piece: piece.endswith(self.suffixes)))


class After(_Condition):
    """The piece is one certain token, or any, and the piece before it one of a list."""

    kind: Literal["after"]
    token: str | None = None
    previous: Words

    def _holds(self, text: Text) -> Mask:
        found = text.where_piece(bool if self.token is None else self.token.__eq__)
        before = text.where_piece(frozenset(self.previous).__contains__)
        found[1:] &= before[:-1]
        found[:1] = False
        return text.from_pieces(found)


Condition = Annotated[
    OneOf
    | Ending
    | Beginning
    | Wordlike
    | Number
    | Capitalised
    | Position
    | Inside
    | Repeated
    | Previous
    | Earlier
    | AfterSentence
    | AllOf
    | AnyOf
    | Not
    | Tokens
    | Suffix
    | After,
    Field(discriminator="kind"),
]
for _recursive in (Previous, Earlier, AfterSentence, AllOf, AnyOf, Not):
    _recursive.model_rebuild()


def _starts(stretch: NDArray[np.int64]) -> NDArray[np.int64]:
    """`[units]`: the first unit of the stretch that each unit belongs to; stretches are numbered in order."""
    return np.searchsorted(stretch, stretch, side="left")
