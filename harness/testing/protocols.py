"""What the protocols that the fake provider speaks have in common: the shape of each, and how answers are bounded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from typing import Protocol as Shape

from harness.questions.messages import ToolCall
from harness.testing.answers import Answer, tokens_of
from harness.testing.bill import Counted
from harness.testing.rate import Level
from harness.testing.tokens import Tokens
from harness.values import TokenLogprob

__all__ = [
    "Conversation",
    "Protocol",
    "Sent",
    "Spoken",
    "compact",
    "location",
    "spoiled",
    "spoken",
    "text_of",
    "wanted",
]

Conversation = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Sent:
    """A response to be sent; `text` where its body is not `data` as JSON; `counted` where a model was asked."""

    status: int
    data: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    text: str | None = None
    counted: Counted | None = None


class Protocol(Shape):
    """How a provider's API reads requests and writes replies."""

    id_header: str

    def conversations(self, body: Mapping[str, Any]) -> Sequence[Conversation]:
        """What is to be answered: messages with a role and text, the system prompt first."""
        ...

    def check(self, body: Mapping[str, Any]) -> str | None:
        """What is wrong with a request, None where nothing is."""
        ...

    def reply(
        self, body: Mapping[str, Any], answers: Sequence[Answer], request_id: str, seed: int, *, unbounded: bool
    ) -> Sent:
        """A reply to each conversation, of at most as many tokens as were asked for, unless `unbounded`.

        Raises:
            ValueError: the protocol cannot carry the answer.
        """
        ...

    def without_logprobs(self, data: dict[str, Any]) -> None:
        """Take the logprobs out of a reply's data."""
        ...

    def error(self, status: int, code: str, message: str, request_id: str) -> Sent:
        """An error."""
        ...

    def rate_headers(self, levels: Mapping[str, Level]) -> dict[str, str]:
        """How much is left of the rates of `requests` and `tokens`."""
        ...


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is left of an answer within the limit; `output` counts all of its tokens, with the `reasoning` ones."""

    tokens: tuple[TokenLogprob, ...]
    text: str
    finish: str
    calls: tuple[ToolCall, ...]
    reasoning: int
    output: int


def spoken(answer: Answer, seed: int, top: int, limit: int | None, stop: Sequence[str], tokens: Tokens) -> Spoken:
    """An answer after stop sequences and the limit; `finish` is `stop`, `length`, `refusal` or `calls`."""
    thought = answer.reasoning or 0
    if limit is not None and thought >= limit > 0:
        return Spoken((), "", "length", (), limit, limit)
    ends = [answer.text.find(sequence) for sequence in stop if sequence in answer.text]
    if ends:
        answer = replace(answer, text=answer.text[: min(ends)], tokens=None)
    left = None if limit is None else limit - thought
    said = tokens_of(answer, seed, top, tokens)
    if left is not None and len(said) > left:
        said = said[:left]
        raw = b"".join(token.token.encode("utf-8", "surrogateescape") for token in said)
        return Spoken(said, raw.decode("utf-8", "replace"), "length", (), thought, thought + left)
    called = sum(len(tokens.split(f"{call.name} {call.arguments}")) for call in answer.calls)
    if left is not None and len(said) + called > left:
        return Spoken(said, answer.text, "length", (), thought, thought + left)
    finish = "calls" if answer.calls else answer.finish
    return Spoken(said, answer.text, finish, answer.calls, thought, thought + len(said) + called)


def spoiled(answer: Answer, kind: str | None, key: str) -> Answer:
    """The answer as a fault leaves it: cut, empty, refused, longer than asked, or with the key in it."""
    match kind:
        case "truncated":
            tokens = None if answer.tokens is None else answer.tokens[: len(answer.tokens) // 2]
            return Answer(answer.text[: len(answer.text) // 2], tokens, "length", (), answer.reasoning)
        case "empty":
            return Answer("", reasoning=answer.reasoning)
        case "refusal":
            return Answer("I cannot help with that.", finish="refusal", reasoning=answer.reasoning)
        case "longer":
            return Answer(" ".join([answer.text] * 100), reasoning=answer.reasoning)
        case "echo_key":
            return Answer(f"{answer.text} Your key is {key}.")
        case _:
            return answer


def text_of(content: Any) -> str:
    """The text of a message's content: of a string, of its parts, or of nothing."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text", "") for part in content)


def compact(value: Any) -> str:
    """JSON in as few bytes as a client may write it in."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def wanted(body: Mapping[str, Any]) -> int:
    """An estimate of the tokens of a prompt and the most that are asked for, of a request that may be malformed."""
    said = sum(len(str(body.get(key, ""))) for key in ("messages", "system", "prompt", "input"))
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    return said // 4 + (limit if isinstance(limit, int) else 0)


def location(status: int) -> dict[str, str]:
    """The header that a redirect has."""
    return {"location": "/elsewhere"} if 300 <= status < 400 else {}
