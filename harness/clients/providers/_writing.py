"""Texts by clients without a language model: stretches of known text, and phrases put into plain sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import rules

__all__ = ["Library", "from_phrases", "library", "peak", "pieces_of", "put_in", "spelled"]

# documents that stretches are taken from: enough for the most concepts, read by a rule in some milliseconds
_DOCUMENTS = 150
# sentences of a long stretch
_LONG = 3
# how often a phrase is put elsewhere until the rule takes notice of it
_TRIES = 8
_SENTENCE = re.compile(r"(?<=[.?!])[ ]+|\n+")
_PIECE = re.compile(r"[ ]?[^\W\d_]+|[ ]?\d+|[ ]?(?:[^\w\s]|_)|\s")
_PLAIN = (
    "The committee met again on a grey morning and talked about the plan.",
    "Nobody in the office had expected the letter to arrive so early.",
    "She put the box on the table, opened it slowly and said nothing.",
    "We walked along the river until the road turned away from the water.",
    "His report gives a short history of the company and its three owners.",
    "If the pump does not start, check the switch and try it once more.",
    "They sold the old house last year and moved to a small flat in town.",
    "Most people who were asked agreed with the first of these answers.",
    "A new bridge will be finished soon, said the engineer, but at a price.",
    "Please read both pages before you sign anything or send it back.",
    "The team lost two games in a row and then changed its whole defence.",
    "In that country every child learns to swim before the age of ten.",
    "I remember the smell of the kitchen and the noise of the street below.",
    "This method is simple, quick and cheap, which is why it is often used.",
    "Her brother works at night, so the children have to be very quiet.",
    "Water boils sooner on a mountain than it does beside the sea.",
    "There were four chairs, a broken lamp and a pile of old newspapers.",
    "Prices went up during the winter and have not fallen since.",
    "He wanted to leave at once, but his friends talked him out of it.",
    "The second part of the book is about music and dancing in cities.",
    "You can change the colour of the window in the settings of the program.",
    "After the storm the harbour was full of wood, rope and torn sails.",
    "Why anyone would build a tower here is something that I cannot explain.",
    "Both teachers were kind, helpful and patient with the younger pupils.",
)


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """Stretches of text, single sentences and several together, that rules can be looked up in.

    `text` is all of them, cut into words, each from its place in `starts` on.
    """

    stretches: tuple[str, ...]
    text: rules.Text
    starts: NDArray[np.int64]

    def strengths(self, rule: rules.Rule) -> NDArray[np.float32]:
        """`[stretches]`: a rule's largest strength in each, 0 where it is silent."""
        return np.maximum.reduceat(rule.strengths(self.text), self.starts)


@lru_cache(maxsize=4)
def library(path: Path) -> Library:
    """The stretches of a JSONL file's first documents, each once."""
    found: dict[str, None] = {}
    with path.open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(_DOCUMENTS), strict=False):
            sentences = [part for part in _SENTENCE.split(json.loads(line)["text"]) if part.strip()]
            found |= dict.fromkeys(sentences)
            together = (sentences[at : at + _LONG] for at in range(0, len(sentences), _LONG))
            found |= dict.fromkeys(" ".join(part) for part in together)
    pieces = [pieces_of(text) for text in found]
    starts = np.cumsum([0, *map(len, pieces)])[:-1]
    return Library(tuple(found), rules.Text([piece for part in pieces for piece in part]), starts)


def peak(rule: rules.Rule, text: str) -> float:
    """A rule's largest strength in a text, 0 where it is silent."""
    return float(rule.strengths(pieces_of(text)).max())


def pieces_of(text: str) -> list[str]:
    """A text cut into words, each with the space before it; "" opens it, so that nothing stands before."""
    return ["", *_PIECE.findall(text)]


def spelled(rule: Mapping[str, Any]) -> list[str]:
    """Phrases that a rule's data spell out, each once: tokens with what has to stand before them, words, endings."""
    return list(dict.fromkeys(_spelled(rule)))


def _spelled(rule: Mapping[str, Any]) -> Iterator[str]:
    match rule.get("kind"):
        case "tokens":
            yield from rule["tokens"]
        case "after":
            following = rule.get("token")
            yield from (f"{before}{' thing' if following is None else following}" for before in rule["previous"])
        case "suffix":
            yield from rule["suffixes"]
        case "words":
            yield from (f" {word}" for word in rule["words"])
        case "graded":
            yield from _spelled(rule["rule"])
        case "any" | "all":
            for part in rule["rules"]:
                yield from _spelled(part)


def from_phrases(phrases: Sequence[str], rule: rules.Rule | None, draw: Random, *, activating: bool) -> str:
    """Two plain sentences, one of the phrases put in or all taken out; without phrases as they are."""
    text = " ".join(draw.sample(_PLAIN, 2))
    if activating:
        return put_in(text, draw.choice(phrases), rule, draw) if phrases else text
    for phrase in phrases:
        text = re.sub(re.escape(phrase) + (r"(?!\w)" if phrase[-1:].isalnum() else ""), "", text)
    return text


def put_in(text: str, phrase: str, rule: rules.Rule | None, draw: Random) -> str:
    """A text with a phrase put in behind one of its words, where the rule takes notice of it if it does anywhere."""
    places = [match.end() for match in re.finditer(r"\w+", text)][1:]
    made = text
    for _ in range(_TRIES if places else 0):
        at = draw.choice(places)
        made = text[:at] + phrase + text[at:]
        if rule is None or peak(rule, made):
            break
    return made
