"""What the fake provider says: answers to this package's questions, made from the prompt alone, always the same."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from statistics import NormalDist
from typing import Any, Literal

from harness.questions.messages import ToolCall
from harness.testing.tokens import CHARACTERS, Tokens
from harness.values import TokenLogprob, digest, seed_of

__all__ = [
    "Answer",
    "Answering",
    "by_hash",
    "by_keywords",
    "labels_11",
    "labels_220",
    "lognormal",
    "scored",
    "tokens_of",
]

Messages = Sequence[Mapping[str, Any]]

# "Passage 1: the text", one a line
_EXAMPLE = re.compile(
    r"^\W*(?:example|passage|text|excerpt|sentence|item)\s+\d+\W*:[ \t]*(.*)$", re.MULTILINE | re.IGNORECASE
)
_TOLD = re.compile(r"^\W*(?:explanation|description)\W*:(.*)", re.MULTILINE | re.IGNORECASE | re.DOTALL)
_MARKED = re.compile(r"<<(.+?)>>")
_QUOTED = re.compile(r"[\"“](.+?)[\"”]")
_WORD = re.compile(r"[^\W\d_]{4,}")
# "Write 10 texts in which ..."
_WRITE = re.compile(r"^Write (\d+) texts? (.*)", re.MULTILINE)
_FILLERS = ("\n", " ", "[", ",", "]", "The", "the", "A", "yes", "no", "2", "-", ".", "**", "```", "Example", "I", "10")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the fake model says.

    `tokens` are its tokens with logprobs, made up from the text where None; a token that holds a part of a character
    is a string of surrogates, as in `bytes.decode("utf-8", "surrogateescape")`. `calls` are the tools that it wishes
    to have called. `reasoning` tokens come before the text and count against the limit; None takes the provider's.
    """

    text: str
    tokens: tuple[TokenLogprob, ...] | None = None
    finish: Literal["stop", "length", "refusal"] = "stop"
    calls: tuple[ToolCall, ...] = ()
    reasoning: int | None = None


Answering = Callable[[Messages, Mapping[str, Any]], str | Answer]


def by_hash(messages: Messages, body: Mapping[str, Any]) -> str:  # noqa: ARG001 - an Answering's shape
    """Labels by a hash of the prompt and the example's number; for an explanation, the first marked token.

    Texts hold their number.
    """
    prompt = str(messages[-1]["content"])
    if (wanted := _WRITE.search(prompt)) is not None:
        return _texts(int(wanted[1]), ())
    if _explains(messages):
        return _explanation(_MARKED.findall(prompt)[:1])
    seed = seed_of("labels", *(str(message["content"]) for message in messages))
    return _labels([seed_of(seed, number) % 2 for number in range(len(_EXAMPLE.findall(prompt)))])


def by_keywords(messages: Messages, body: Mapping[str, Any]) -> str:
    """Labels by whether an example, or what is marked in it, holds what the explanation quotes or a longer word of it.

    An explanation is the token marked most often, quoted; so a judge that reads it does better than chance. Texts hold
    what is quoted, or a longer word, where it is wanted. Where a prompt gives no words to go by, labels are hashed.
    """
    prompt = str(messages[-1]["content"])
    if (wanted := _WRITE.search(prompt)) is not None:
        without = re.search(r"\b(?:nowhere|without)\b", wanted[2]) is not None
        return _texts(int(wanted[1]), () if without else sorted(_keywords(prompt[: wanted.start()])))
    if _explains(messages):
        counts = Counter(token.strip() for token in _MARKED.findall(prompt) if token.strip())
        return _explanation([token for token, _ in counts.most_common(1)])
    words = _keywords(prompt)
    if not words:
        return by_hash(messages, body)
    texts = [" ".join(_MARKED.findall(text) or [text]).lower() for text in _EXAMPLE.findall(prompt)]
    return _labels([int(any(word in text for word in words)) for text in texts])


def labels_11(messages: Messages, body: Mapping[str, Any]) -> str:  # noqa: ARG001 - an Answering's shape
    """Five labels that are 11 tokens, for measurements."""
    return "[1,0,1,0,1]"


def labels_220(messages: Messages, body: Mapping[str, Any]) -> str:  # noqa: ARG001 - an Answering's shape
    """109 labels that are 220 tokens, for measurements."""
    return "[" + ",".join("10" * 54 + "1") + "]\n"


def lognormal(answer: Answering, mean: float, sigma: float) -> Answering:
    """Answers made longer, so that their lengths in tokens are lognormal; always the same for the same request.

    `mean` is that of the lengths, `sigma` the standard deviation of their logarithms. Words are put before the answer,
    as models do that think aloud; an answer that is longer by itself stays as it is.
    """
    middle = math.log(mean) - sigma**2 / 2

    def lengthened(messages: Messages, body: Mapping[str, Any]) -> str | Answer:
        said = answer(messages, body)
        text = said if isinstance(said, str) else said.text
        even = ((seed_of("length", digest(body)) >> 11) + 0.5) / 2.0**53
        wanted = round(math.exp(middle + sigma * NormalDist().inv_cdf(even)))
        missing = wanted - len(CHARACTERS.split(text)) - 1
        if missing <= 0:
            return said
        text = "Well" + " well" * (missing - 1) + "\n" + text
        return text if isinstance(said, str) else replace(said, text=text, tokens=None)

    return lengthened


def tokens_of(answer: Answer, seed: int, top: int, tokens: Tokens = CHARACTERS) -> tuple[TokenLogprob, ...]:
    """The answer's tokens with made-up logprobs and `top` alternatives each, most likely first.

    A token "0" or "1" has both among its alternatives, and more than half of their probability.
    """
    if answer.tokens is not None:
        return tuple(TokenLogprob(t.token, t.logprob, tuple(t.top[:top])) for t in answer.tokens)
    draws = Random(seed)
    return tuple(_token(piece, draws.randrange(1000), top, given=False) for piece in tokens.split(answer.text))


def scored(pieces: Sequence[str], top: int) -> tuple[TokenLogprob, ...]:
    """Given tokens with made-up logprobs, each decided by the token and all before it, and `top` alternatives.

    A given token may be unlikely, and then is not among the alternatives.
    """
    seen = hashlib.sha256()
    found: list[TokenLogprob] = []
    for piece in pieces:
        seen.update(piece.encode("utf-8", "surrogatepass") + b"\n")
        found.append(_token(piece, int.from_bytes(seen.digest()[:4], "big") % 1000, top, given=True))
    return tuple(found)


# the same few tokens come again and again
@lru_cache(maxsize=1 << 16)
def _token(piece: str, draw: int, top: int, *, given: bool) -> TokenLogprob:
    share = (draw + 0.5) / 1000
    if given:
        likely = [(piece, 0.02 + 0.96 * share)]
    elif piece.strip() in ("0", "1"):
        other = piece.replace(piece.strip(), "1" if piece.strip() == "0" else "0")
        chance = 0.98 * (0.55 + 0.4 * share)  # the other label stays likelier than any filler
        likely = [(piece, chance), (other, 0.98 - chance)]
    else:
        likely = [(piece, 0.9 + 0.09 * share)]
    left = 1 - sum(chance for _, chance in likely)
    fillers = [filler for filler in _FILLERS if filler not in {text for text, _ in likely}]
    ranked = likely + [(filler, left / 2 ** (rank + 1)) for rank, filler in enumerate(fillers)]
    ranked.sort(key=lambda pair: -pair[1])
    return TokenLogprob(piece, math.log(likely[0][1]), tuple((text, math.log(p)) for text, p in ranked[:top]))


def _explains(messages: Messages) -> bool:
    """Whether a prompt asks for an explanation: as its worked examples answer, else as its instructions say."""
    worked = [str(message["content"]) for message in messages if message["role"] == "assistant"]
    told = worked or [str(message["content"]) for message in messages]
    return any("[explanation]" in text.lower() for text in told)


def _explanation(tokens: Sequence[str]) -> str:
    token = tokens[0].strip() if tokens else "the"
    return f'The marked tokens have something in common.\n[explanation]: The token "{token}".'


def _keywords(prompt: str) -> set[str]:
    """What an explanation, told before the first example, quotes, else its longer words; nothing of one withheld."""
    first = _EXAMPLE.search(prompt)
    head = prompt[: first.start()] if first else prompt
    match = _TOLD.search(head)
    told = (match[1] if match else head).strip().lower()
    if told.startswith("("):
        return set()
    return {word.strip() for word in _QUOTED.findall(told)} or set(_WORD.findall(told))


def _texts(count: int, words: Sequence[str]) -> str:
    about = [f" about {words[n % len(words)]}" if words else "" for n in range(count)]
    return "\n".join(f"{n}. Here is text {n}{end}." for n, end in enumerate(about, 1))


def _labels(labels: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, labels)) + "]"
