"""A context prepared once for any number of rules: its words, and where they stand."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Text", "scramble"]

# letters, or digits, or one mark, or one line break; spaces only part words
_UNIT = re.compile(r"[^\W\d_]+|\d+|\n|[^\w\s]|_")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
# how many words and marks before a word decide, with the word itself, how strong it is
_HASHED = 12
# the stretches of text, each made of the next
_DOCUMENT, _LINE, _SENTENCE, _CLAUSE = range(4)


@dataclass(frozen=True, slots=True)
class _Structure:
    """Where every unit stands, known before the unit itself is read; arrays `[units]`.

    `document`, `line`, `sentence` and `clause` number the stretch that the unit belongs to, the `_place` arrays how
    many words of it stand before the unit.
    """

    document: NDArray[np.int64]
    line: NDArray[np.int64]
    sentence: NDArray[np.int64]
    clause: NDArray[np.int64]
    document_place: NDArray[np.int64]
    line_place: NDArray[np.int64]
    sentence_place: NDArray[np.int64]
    clause_place: NDArray[np.int64]
    quoted: NDArray[np.bool_]
    bracketed: NDArray[np.bool_]


class Text:
    """The token pieces of one context, joined into units: words, numbers, single marks and line breaks.

    The pieces of a document are concatenated and cut into units, so that a rule does not depend on how a tokenizer
    splits words. A piece may end inside a unit: there the rule sees the unit so far, because nothing after a position
    may decide its value. So there is one *entry* for every pair of a unit and a piece that it reaches into; a unit is
    whole in its last entry. A piece without any unit (a space, a special token) has one blank entry. The piece `""`
    stands for a special token: it ends a document, and everything that a reader remembers ends with it.

    `words` holds the entries' texts (`""` for a blank one), `unit` `[entries]` the number of the unit or -1, `piece`
    `[entries]` the position, `whole` `[units]` each unit's last entry.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = tuple(pieces)
        self._memo: dict[str, NDArray[np.bool_]] = {}
        self.words: list[str] = []
        self._units: list[str] = []
        unit: list[int] = []
        piece: list[int] = []
        whole: list[int] = []
        borders: list[int] = []

        start = 0
        while start < len(self.pieces):
            if self.pieces[start] == "":
                self.words.append("")
                unit.append(-1)
                piece.append(start)
                borders.append(len(self._units))
                start += 1
                continue
            stop = start
            while stop < len(self.pieces) and self.pieces[stop] != "":
                stop += 1
            self._cut(start, stop, unit, piece, whole)
            start = stop
        self.unit = np.array(unit, dtype=np.int64)
        self.piece = np.array(piece, dtype=np.int64)
        self.whole = np.array(whole, dtype=np.int64)
        self._borders = borders

    def _cut(self, first: int, stop: int, unit: list[int], piece: list[int], whole: list[int]) -> None:
        """Cut the pieces `first` to `stop`, none of them empty, into units and append their entries."""
        text = "".join(self.pieces[first:stop])
        at, end, covered = first, len(self.pieces[first]), False
        words, units = self.words, self._units
        for found in _UNIT.finditer(text):
            begin, finish = found.span()
            while end <= begin:
                if not covered:
                    words.append("")
                    unit.append(-1)
                    piece.append(at)
                at, covered = at + 1, False
                end += len(self.pieces[at])
            number = len(units)
            while end < finish:
                words.append(text[begin:end])
                unit.append(number)
                piece.append(at)
                at += 1
                end += len(self.pieces[at])
            words.append(found.group())
            units.append(found.group())
            unit.append(number)
            piece.append(at)
            whole.append(len(words) - 1)
            covered = True
        for left in range(at + covered, stop):
            words.append("")
            unit.append(-1)
            piece.append(left)

    def memo(self, key: str, compute: Callable[[], NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """What `compute` gives, computed once for a key; rules share the parts that they have in common."""
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = compute()
        return found

    def where(self, matches: Callable[[str], bool], *, folded: bool = False) -> NDArray[np.bool_]:
        """`[entries]`: whether the entry's text, `folded` to lower case or as it is, matches; never for a blank entry.

        Asked once for each distinct text.
        """
        distinct, inverse = self._distinct_folded if folded else self._distinct
        return _ask(matches, distinct)[inverse] & (self.unit >= 0)

    def where_piece(self, matches: Callable[[str], bool]) -> NDArray[np.bool_]:
        """`[positions]`: whether the piece as a whole matches, spaces and all."""
        distinct, inverse = self._distinct_pieces
        return _ask(matches, distinct)[inverse]

    def from_pieces(self, values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """`[entries]` from `[positions]`: a piece's value stands on its last entry."""
        last = np.append(self.piece[1:] != self.piece[:-1], True)[: len(self.piece)]
        return values[self.piece] & last

    def to_pieces(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """`[positions]` from `[entries]`, the largest where several entries share a piece."""
        if len(self.piece) == len(self.pieces):
            return values
        result = np.zeros(len(self.pieces), dtype=np.float32)
        np.maximum.at(result, self.piece, values)
        return result

    def on_entries(self, values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """`[entries]` from `[units]`; False on blank entries."""
        if len(values) == 0:
            return np.zeros(len(self.unit), dtype=np.bool_)
        return values[self.unit] & (self.unit >= 0)

    @cached_property
    def wordlike(self) -> NDArray[np.bool_]:
        """`[units]`: letters or digits, no mark."""
        return np.fromiter((unit[0].isalnum() for unit in self._units), dtype=np.bool_, count=len(self._units))

    @cached_property
    def repeated(self) -> NDArray[np.bool_]:
        """`[entries]`: whether the document held the same text, as a whole unit and in any case, before this unit."""
        result = np.zeros(len(self.words), dtype=np.bool_)
        documents = self.structure.document
        seen: set[str] = set()
        document, pending = -1, -1
        for entry, unit in enumerate(self.unit.tolist()):
            if unit < 0:
                continue
            if documents[unit] != document:
                document, pending = documents[unit], -1
                seen = set()
            if pending >= 0 and unit != pending:
                seen.add(self._units[pending].casefold())
            pending = unit
            result[entry] = self.words[entry].casefold() in seen
        return result

    @cached_property
    def structure(self) -> _Structure:
        """Where every unit stands; see `_Reader` for what ends a sentence and what opens a quotation."""
        reader = _Reader()
        borders = set(self._borders)
        rows = [reader.read(unit, fresh=number in borders) for number, unit in enumerate(self._units)]
        table = np.array(rows, dtype=np.int64).reshape(len(rows), 10)
        return _Structure(*table.T[:8], quoted=table[:, 8] > 0, bracketed=table[:, 9] > 0)

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """`[entries]`: a hash of the text so far and the twelve units before it in the document."""
        whole = scramble(_codes(self._units))
        before = np.zeros(len(whole), dtype=np.uint64)
        document = self.structure.document
        for back in range(1, min(_HASHED, len(whole) - 1) + 1):
            same = document[back:] == document[:-back]
            before[back:] += np.where(same, scramble(whole[:-back] + np.uint64(back)), np.uint64(0))
        own = scramble(_codes(self.words))
        return own if len(whole) == 0 else own ^ np.where(self.unit >= 0, before[self.unit], np.uint64(0))

    @cached_property
    def _distinct(self) -> tuple[list[str], NDArray[np.int64]]:
        return _number(self.words)

    @cached_property
    def _distinct_folded(self) -> tuple[list[str], NDArray[np.int64]]:
        distinct, inverse = self._distinct
        return [text.casefold() for text in distinct], inverse

    @cached_property
    def _distinct_pieces(self) -> tuple[list[str], NDArray[np.int64]]:
        return _number(self.pieces)


class _Reader:
    """Reads units one by one and tells where each stands.

    A sentence ends at `.`, `?` or `!` when the next word does not begin in lower case (`"Where?" asked Anna.` is one
    sentence), a clause at every mark but `-`; both end with their line, and that with its document. Marks belong to the
    stretch of the word before them. Straight quotation marks open and close in turn; those, like brackets, that a line
    leaves open end with it.
    """

    def __init__(self) -> None:
        # of the document, the line, the sentence and the clause: its number and how many of its words were read
        self.numbers = [0, 0, 0, 0]
        self.places = [0, 0, 0, 0]
        self.quoted = False
        self.depth = 0
        self.paused = False
        self.ended = False

    def read(self, unit: str, *, fresh: bool) -> tuple[int, ...]:
        """The unit's row for `_Structure`; `fresh` where a new document begins with it."""
        if fresh:
            self._begin(_DOCUMENT)
        first = unit[0]
        word = first.isalnum()
        if word and self.ended and not first.islower():
            self._begin(_SENTENCE)
        elif word and self.paused:
            self._begin(_CLAUSE)
        row = (*self.numbers, *self.places, self.quoted, self.depth)
        if word:
            self.places = [place + 1 for place in self.places]
            self.ended = self.paused = False
        else:
            self._mark(first)
        return row

    def _begin(self, widest: int) -> None:
        """Begin a stretch, and with it those that it is made of."""
        for stretch in range(widest, 4):
            self.numbers[stretch] += 1
            self.places[stretch] = 0
        self.ended = self.paused = False
        if widest <= _LINE:
            self.quoted, self.depth = False, 0

    def _mark(self, mark: str) -> None:
        self.paused = self.paused or mark != "-"
        if mark == "\n":
            self._begin(_LINE)
        elif mark in ".?!":
            self.ended = True
        elif mark == '"':
            self.quoted = not self.quoted
        elif mark in "“”":
            self.quoted = mark == "“"
        elif mark in _OPENING:
            self.depth += 1
        elif mark in _CLOSING:
            self.depth = max(0, self.depth - 1)


def _ask(matches: Callable[[str], bool], distinct: Iterable[str]) -> NDArray[np.bool_]:
    return np.fromiter(map(matches, distinct), dtype=np.bool_)


def _number(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct texts and which of them each is."""
    numbers: dict[str, int] = {}
    inverse = [numbers.setdefault(text, len(numbers)) for text in texts]
    return list(numbers), np.array(inverse, dtype=np.int64)


def _codes(texts: Sequence[str]) -> NDArray[np.uint64]:
    codes = (zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in texts)
    return np.fromiter(codes, dtype=np.uint64, count=len(texts))


def scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): spreads every bit of the input over all of the output."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
