"""Judges an explanation without a rule by the words that it shares with a passage, weighted by rarity (IDF).

Weak on purpose, and not random: the lexical floor for explanations by people and models. In a trial on sentences with
known explanations the AUROC of such an overlap was 0.65.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from harness.questions.render import unescape
from harness.values import Passage

__all__ = ["overlap", "quotations", "stems_of", "telling"]

_WORD = re.compile(r"[^\W\d_]+|\d+")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.){1,60})\"|“([^”]{1,60})”|`([^`]{1,60})`|(?<!\w)'([^'\n]{1,60})'(?!\w)")
_QUOTED_WEIGHT = 2.0  # text that the explanation quotes says more than a word that it uses
_ENDINGS = ("ings", "ing", "ies", "ed", "es", "ly", "s")
# words of English, and of explanations, that say nothing of what a passage is about
_EMPTY = frozenset(
    _WORD.findall(
        "a about above after all also an and any are as at be because been before being between both but by can "
        "containing contains context contexts could do does e each either else especially etc example examples "
        "explanation expression expressions feature fires followed following for from g had has have he her his how i "
        "if in indicating into is it its kind latent letter letters like mainly may more most mostly names neuron no "
        "not noun nouns of often on one only or other others particularly passage passages pattern phrase phrases "
        "preceding referring refers related relating sentence sentences she should so some specific specifically such "
        "t term terms text texts than that the their them then there these they this those to token tokens typically "
        "used usually various verb verbs was were what when where which while who with word words would you "
    )
)


def overlap(explanation: str, passages: Sequence[Passage], *, marked: bool) -> list[float]:
    """For each passage the guessed probability that the explanation holds, above 0.5 where words are shared.

    With `marked`, that it holds for every marked token.
    """
    quoted = quotations(explanation)
    stems = list(dict.fromkeys(stems_of(_QUOTED.sub(" ", explanation))))
    texts = [passage.text for passage in passages]
    found = [_found(text, stems, quoted) for text in texts]
    weights = _weights(found, len(stems), len(passages))
    shares = [_share(hits, weights) for hits in found]
    if not marked:
        return [0.55 + 0.4 * share if share else 0.25 for share in shares]
    return [
        0.15 + 0.65 * _marked_share(passage, stems, quoted) ** 2 + 0.15 * share
        for passage, share in zip(passages, shares, strict=True)
    ]


def telling(explanation: str) -> list[str]:
    """What an explanation quotes, else the words of it that say something; words begin with a space."""
    words = [word for word in _WORD.findall(explanation) if word.casefold() not in _EMPTY]
    return list(dict.fromkeys(f" {text}" if text[0].isalnum() else text for text in quotations(explanation) or words))


def quotations(explanation: str) -> list[str]:
    """What an explanation quotes, unescaped."""
    return [unescape(next(filter(None, match.groups()))) for match in _QUOTED.finditer(explanation)]


def stems_of(text: str) -> list[str]:
    """A text's words but for those that say nothing, without their endings."""
    words = [word.casefold() for word in _WORD.findall(text)]
    return [_stem(word) for word in words if word not in _EMPTY]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _found(text: str, stems: Sequence[str], quoted: Sequence[str]) -> list[bool]:
    """Which of the explanation's words and quotations a text holds, words first."""
    held = set(stems_of(text))
    return [stem in held for stem in stems] + [_quotes(piece, text) for piece in quoted]


def _quotes(piece: str, text: str) -> bool:
    """Whether a text holds a quotation, as an ending of a word at least: "of" is not in "often"."""
    return re.search(re.escape(piece) + (r"(?!\w)" if piece[-1].isalnum() else ""), text) is not None


def _weights(found: Sequence[Sequence[bool]], words: int, count: int) -> list[float]:
    """How much each word and quotation says: the rarer among the passages, the more."""
    holders = [sum(hits) for hits in zip(*found, strict=True)]
    rarity = [math.log((count + 1) / (held + 1)) + 1 for held in holders]
    return [value * (_QUOTED_WEIGHT if order >= words else 1.0) for order, value in enumerate(rarity)]


def _share(hits: Sequence[bool], weights: Sequence[float]) -> float:
    total = sum(weights)
    return sum(weight for weight, hit in zip(weights, hits, strict=True) if hit) / total if total else 0.0


def _marked_share(passage: Passage, stems: Sequence[str], quoted: Sequence[str]) -> float:
    """The share of marked tokens that are quoted or belong to a word of the explanation."""
    if not passage.marks:
        return 0.0
    right = 0
    for mark in passage.marks:
        token, word = passage.tokens[mark], _whole_word(passage.tokens, mark)
        right += token in quoted or any(stem in stems for stem in stems_of(word))
    return right / len(passage.marks)


def _whole_word(tokens: Sequence[str], at: int) -> str:
    """The word that a token belongs to, with the pieces beside it."""
    first, last = at, at
    while first > 0 and tokens[first][:1].isalpha() and tokens[first - 1][-1:].isalpha():
        first -= 1
    while last + 1 < len(tokens) and tokens[last][-1:].isalpha() and tokens[last + 1][:1].isalpha():
        last += 1
    return "".join(tokens[first : last + 1])
