"""The two protocols that the fake provider speaks: its replies and errors in the shapes that the real ones send."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from typing import Protocol as Shape

from harness.testing.answers import Answer, tokens_of
from harness.testing.rate import Level, duration
from harness.values import TokenLogprob

__all__ = ["ERRORS", "Anthropic", "OpenAI", "Protocol", "Sent", "spoiled"]

# kind of fault -> status, code or type, message
ERRORS: dict[str, tuple[int, str, str]] = {
    "bad_request": (400, "invalid_request_error", "The request is not valid."),
    "content_filter": (400, "content_filter", "The response was filtered."),
    "context": (400, "context_length_exceeded", "This model's maximum context length is 4096 tokens."),
    "echo_key_error": (401, "invalid_api_key", "Incorrect API key provided: {key}. Header: Bearer {key}"),
    "not_found": (404, "model_not_found", "The model does not exist."),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "quota": (429, "insufficient_quota", "You exceeded your current quota, please check your plan."),
    "rate_limit": (429, "rate_limit_error", "Too many requests."),
    "redirect": (307, "moved", "Moved."),
    "server_error": (500, "server_error", "The server had an error."),
    "unauthorized": (401, "authentication_error", "Incorrect API key provided."),
    "unavailable": (503, "server_error", "The server is starting."),
}


@dataclass(slots=True)
class Sent:
    """A response to be sent; `text` where its body is not `data` as JSON."""

    status: int
    data: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    text: str | None = None


class Protocol(Shape):
    """How a provider's API reads requests and writes replies."""

    id_header: str

    def messages(self, body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The conversation in a request, the system prompt first."""
        ...

    def check(self, body: Mapping[str, Any]) -> str | None:
        """What is wrong with a request, None where nothing is."""
        ...

    def reply(self, body: Mapping[str, Any], answer: Answer, request_id: str, seed: int, *, unbounded: bool) -> Sent:
        """A reply of at most as many tokens as were asked for, unless `unbounded`."""
        ...

    def wanted(self, body: Mapping[str, Any]) -> int:
        """The tokens of the prompt and the most that are asked for."""
        ...

    def error(self, status: int, code: str, message: str, request_id: str) -> Sent:
        """An error."""
        ...

    def rate_headers(self, levels: Mapping[str, Level]) -> dict[str, str]:
        """How much is left of the rates of `requests` and `tokens`."""
        ...


class OpenAI:
    """Chat completions."""

    id_header = "x-request-id"

    def messages(self, body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The conversation in a request, the system prompt first."""
        return body["messages"]

    def check(self, body: Mapping[str, Any]) -> str | None:
        """What is wrong with a request, None where nothing is."""
        if "max_tokens" in body and "max_completion_tokens" in body:
            return "Give max_completion_tokens or max_tokens, not both."
        if "top_logprobs" in body and not body.get("logprobs"):
            return "top_logprobs needs logprobs."
        if not 0 <= body.get("top_logprobs", 0) <= 20:
            return "top_logprobs has to be from 0 to 20."
        return _wrong_messages(body, ("system", "developer", "user", "assistant"))

    def reply(self, body: Mapping[str, Any], answer: Answer, request_id: str, seed: int, *, unbounded: bool) -> Sent:
        """A chat completion."""
        limit = None if unbounded else body.get("max_completion_tokens", body.get("max_tokens"))
        tokens, text, finish = _bounded(answer, seed, body.get("top_logprobs", 0), limit, body.get("stop") or ())
        refused = answer.finish == "refusal"
        choice = {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None if refused else text,
                "refusal": text if refused else None,
            },
            "logprobs": {"content": [_token(t) for t in tokens], "refusal": None} if body.get("logprobs") else None,
            "finish_reason": "stop" if finish == "refusal" else finish,
        }
        prompt, cached = _prompt_tokens(self.messages(body))
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": len(tokens),
            "total_tokens": prompt + len(tokens),
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }
        data = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.get("model", ""),
            "choices": [choice],
            "usage": usage,
            "system_fingerprint": "fp_fake",
        }
        return Sent(200, data, {self.id_header: request_id})

    def wanted(self, body: Mapping[str, Any]) -> int:
        """The tokens of the prompt and the most that are asked for."""
        return _wanted(body)

    def error(self, status: int, code: str, message: str, request_id: str) -> Sent:
        """An error."""
        data = {"error": {"message": message, "type": code, "param": None, "code": code}}
        return Sent(status, data, {self.id_header: request_id} | _location(status))

    def rate_headers(self, levels: Mapping[str, Level]) -> dict[str, str]:
        """How much is left of the rates of `requests` and `tokens`; resets are durations."""
        headers: dict[str, str] = {}
        for what, level in levels.items():
            headers[f"x-ratelimit-limit-{what}"] = str(int(level.minute))
            headers[f"x-ratelimit-remaining-{what}"] = str(int(level.remaining))
            headers[f"x-ratelimit-reset-{what}"] = duration(level.reset)
        return headers


class Anthropic:
    """Messages."""

    id_header = "request-id"

    def messages(self, body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The conversation in a request, the system prompt first."""
        system = [{"role": "system", "content": body["system"]}] if "system" in body else []
        return [*system, *body["messages"]]

    def check(self, body: Mapping[str, Any]) -> str | None:
        """What is wrong with a request, None where nothing is."""
        if "max_tokens" not in body:
            return "max_tokens: Field required"
        unknown = sorted({"logprobs", "top_logprobs", "seed", "stop", "max_completion_tokens"} & set(body))
        if unknown:
            return f"{unknown[0]}: Extra inputs are not permitted"
        return _wrong_messages(body, ("user", "assistant"))

    def reply(self, body: Mapping[str, Any], answer: Answer, request_id: str, seed: int, *, unbounded: bool) -> Sent:
        """A message."""
        limit = None if unbounded else body["max_tokens"]
        tokens, text, finish = _bounded(answer, seed, 0, limit, body.get("stop_sequences") or ())
        prompt, cached = _prompt_tokens(self.messages(body))
        data = {
            "id": f"msg_{request_id}",
            "type": "message",
            "role": "assistant",
            "model": body.get("model", ""),
            "content": [{"type": "text", "text": text}] if text else [],
            "stop_reason": {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal"}[finish],
            "stop_sequence": None,
            "usage": {
                "input_tokens": prompt - cached,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": cached,
                "output_tokens": len(tokens),
            },
        }
        return Sent(200, data, {self.id_header: request_id})

    def wanted(self, body: Mapping[str, Any]) -> int:
        """The tokens of the prompt and the most that are asked for."""
        return _wanted(body)

    def error(self, status: int, code: str, message: str, request_id: str) -> Sent:
        """An error."""
        data = {"type": "error", "error": {"type": code, "message": message}, "request_id": request_id}
        return Sent(status, data, {self.id_header: request_id} | _location(status))

    def rate_headers(self, levels: Mapping[str, Level]) -> dict[str, str]:
        """How much is left of the rates of `requests` and `tokens`; resets are times."""
        headers: dict[str, str] = {}
        now = datetime.now(UTC)
        for what, level in levels.items():
            headers[f"anthropic-ratelimit-{what}-limit"] = str(int(level.minute))
            headers[f"anthropic-ratelimit-{what}-remaining"] = str(int(level.remaining))
            headers[f"anthropic-ratelimit-{what}-reset"] = (now + timedelta(seconds=level.reset)).isoformat()
        return headers


def spoiled(answer: Answer, kind: str | None, key: str) -> Answer:
    """The answer as a fault leaves it: cut, empty, refused, longer than asked, or with the key in it."""
    match kind:
        case "truncated":
            tokens = None if answer.tokens is None else answer.tokens[: len(answer.tokens) // 2]
            return Answer(answer.text[: len(answer.text) // 2], tokens, "length")
        case "empty":
            return Answer("")
        case "refusal":
            return Answer("I cannot help with that.", finish="refusal")
        case "longer":
            return Answer(" ".join([answer.text] * 100))
        case "echo_key":
            return Answer(f"{answer.text} Your key is {key}.")
        case _:
            return answer


def _bounded(
    answer: Answer, seed: int, top: int, limit: int | None, stop: Sequence[str]
) -> tuple[tuple[TokenLogprob, ...], str, str]:
    """Tokens, text and finish after stop sequences and the limit."""
    ends = [answer.text.find(sequence) for sequence in stop if sequence in answer.text]
    if ends:
        answer = replace(answer, text=answer.text[: min(ends)], tokens=None)
    tokens = tokens_of(answer, seed, top)
    if limit is None or len(tokens) <= limit:
        return tokens, answer.text, answer.finish
    tokens = tokens[:limit]
    raw = b"".join(token.token.encode("utf-8", "surrogateescape") for token in tokens)
    return tokens, raw.decode("utf-8", "replace"), "length"


def _token(item: TokenLogprob) -> dict[str, Any]:
    return _alternative(item.token, item.logprob) | {"top_logprobs": [_alternative(*pair) for pair in item.top]}


def _alternative(text: str, logprob: float) -> dict[str, Any]:
    """A token as OpenAI writes it: what is no text by itself stands as its bytes, escaped."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        shown = raw.decode()
    except UnicodeDecodeError:
        shown = "".join(f"\\x{byte:02x}" for byte in raw)
    return {"token": shown, "logprob": logprob, "bytes": list(raw)}


def _prompt_tokens(messages: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """About four characters a token; all before the last message counts as cached from 1,024 tokens on."""
    counts = [len(str(message["content"])) // 4 + 3 for message in messages]
    before = sum(counts[:-1])
    return sum(counts), before if before >= 1024 else 0


def _wanted(body: Mapping[str, Any]) -> int:
    """An estimate, of requests that may be malformed too."""
    said = len(str(body.get("messages", ""))) + len(str(body.get("system", "")))
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    return said // 4 + (limit if isinstance(limit, int) else 0)


def _wrong_messages(body: Mapping[str, Any], roles: Sequence[str]) -> str | None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    for message in messages:
        if message.get("role") not in roles or not isinstance(message.get("content"), str):
            return f"messages: a message needs text and one of the roles {', '.join(roles)}"
    return None


def _location(status: int) -> dict[str, str]:
    return {"location": "/elsewhere"} if 300 <= status < 400 else {}
