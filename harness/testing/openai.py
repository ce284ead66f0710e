"""OpenAI's protocols of text as the fake provider speaks them: chat completions, and completions with echo.

Of the servers that share them it has vLLM's `prompt_logprobs` and OpenRouter's cost in the usage.
"""

from __future__ import annotations

import codecs
import time
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from harness.testing.answers import Answer, scored
from harness.testing.bill import Counted
from harness.testing.protocols import Conversation, Sent, Spoken, compact, location, spoken, text_of
from harness.testing.rate import Level, duration
from harness.testing.tokens import Tokens
from harness.values import TokenLogprob

__all__ = ["Chat", "Completions", "OpenAIProtocol"]

_ROLES = ("system", "developer", "user", "assistant", "tool")
_FINISH = {"stop": "stop", "length": "length", "refusal": "stop", "calls": "tool_calls"}
_CACHED = 1024  # tokens from which on a prefix counts as cached


class OpenAIProtocol:
    """What all have in common."""

    id_header = "x-request-id"

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def error(self, status: int, code: str, message: str, request_id: str) -> Sent:
        """An error."""
        data = {"error": {"message": message, "type": code, "param": None, "code": code}}
        return Sent(status, data, {self.id_header: request_id} | location(status))

    def rate_headers(self, levels: Mapping[str, Level]) -> dict[str, str]:
        """How much is left of the rates of `requests` and `tokens`; resets are durations."""
        headers: dict[str, str] = {}
        for what, level in levels.items():
            headers[f"x-ratelimit-limit-{what}"] = str(int(level.minute))
            headers[f"x-ratelimit-remaining-{what}"] = str(int(level.remaining))
            headers[f"x-ratelimit-reset-{what}"] = duration(level.reset)
        return headers

    def without_logprobs(self, data: dict[str, Any]) -> None:
        """Take the logprobs out of a reply's data."""
        for choice in data.get("choices", ()):
            choice["logprobs"] = None

    def _sent(self, body: Mapping[str, Any], data: dict[str, Any], counted: Counted, request_id: str) -> Sent:
        prompt = counted.input + counted.cache_read
        data |= {
            "created": int(time.time()),
            "model": body.get("model", ""),
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": counted.output,
                "total_tokens": prompt + counted.output,
                "prompt_tokens_details": {"cached_tokens": counted.cache_read},
                "completion_tokens_details": {"reasoning_tokens": counted.reasoning},
            },
            "system_fingerprint": "fp_fake",
        }
        return Sent(200, data, {self.id_header: request_id}, counted=counted)


class Chat(OpenAIProtocol):
    """`/v1/chat/completions`."""

    def conversations(self, body: Mapping[str, Any]) -> Sequence[Conversation]:
        """The conversation, with the text of its messages' parts."""
        return ([{**message, "content": text_of(message.get("content"))} for message in body["messages"]],)

    def check(self, body: Mapping[str, Any]) -> str | None:
        """What is wrong with a request, None where nothing is."""
        if "max_tokens" in body and "max_completion_tokens" in body:
            return "Give max_completion_tokens or max_tokens, not both."
        if "top_logprobs" in body and not body.get("logprobs"):
            return "top_logprobs needs logprobs."
        if not 0 <= body.get("top_logprobs", 0) <= 20:
            return "top_logprobs has to be from 0 to 20."
        return _wrong_tools(body) or _wrong_messages(body)

    def reply(
        self, body: Mapping[str, Any], answers: Sequence[Answer], request_id: str, seed: int, *, unbounded: bool
    ) -> Sent:
        """A chat completion."""
        (answer,) = answers
        limit = None if unbounded else body.get("max_completion_tokens", body.get("max_tokens"))
        said = spoken(answer, seed, body.get("top_logprobs", 0), limit, _stop(body), self._tokens)
        refused = said.finish == "refusal"
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if refused or (said.calls and not said.text) else said.text,
            "refusal": said.text if refused else None,
        }
        if said.reasoning and _thinks(body):
            message["reasoning_content"] = "Let me think."
        if said.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in said.calls
            ]
        logprobs = {"content": [_token(t) for t in said.tokens], "refusal": None} if body.get("logprobs") else None
        finish = _FINISH[said.finish]
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}
        data: dict[str, Any] = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion",
            "choices": [choice],
        }
        if (top := body.get("prompt_logprobs")) is not None:
            data["prompt_logprobs"] = _prompt_logprobs(scored(self._rendered(body), top))
        return self._sent(body, data, self._counted(body, said), request_id)

    def _counted(self, body: Mapping[str, Any], said: Spoken) -> Counted:
        """Tokens; all before the last message counts as cached where it is long enough."""
        counts = [self._tokens.message + self._tokens.count(_said(message)) for message in body["messages"]]
        tools = self._tokens.count(compact(body["tools"])) if body.get("tools") else 0
        before = tools + sum(counts[:-1])
        cached = before if before >= _CACHED else 0
        return Counted(tools + sum(counts) - cached, said.output, cached, reasoning=said.reasoning)

    def _rendered(self, body: Mapping[str, Any]) -> list[str]:
        """The tokens of the conversation by a chat template, the last turn left open where that is asked for."""
        pieces: list[str] = []
        for message in body["messages"]:
            pieces += [f"<|{message['role']}|>", *self._tokens.split(text_of(message.get("content"))), "<|end|>"]
        if body.get("continue_final_message"):
            return pieces[:-1]
        return [*pieces, "<|assistant|>"] if body.get("add_generation_prompt", True) else pieces


class Completions(OpenAIProtocol):
    """`/v1/completions`, with one prompt of text or several."""

    def conversations(self, body: Mapping[str, Any]) -> Sequence[Conversation]:
        """A conversation of one message for each prompt."""
        return [[{"role": "user", "content": prompt}] for prompt in _prompts(body)]

    def check(self, body: Mapping[str, Any]) -> str | None:
        """What is wrong with a request, None where nothing is."""
        if not _prompts(body) or not all(isinstance(prompt, str) for prompt in _prompts(body)):
            return "prompt: text, or a list of texts, is required"
        logprobs = body.get("logprobs")
        if logprobs is not None and (not isinstance(logprobs, int) or not 0 <= logprobs <= 20):
            return "logprobs has to be from 0 to 20."
        return None

    def reply(
        self, body: Mapping[str, Any], answers: Sequence[Answer], request_id: str, seed: int, *, unbounded: bool
    ) -> Sent:
        """A completion with a choice for each prompt."""
        limit = None if unbounded else body.get("max_tokens", 16)
        top = body.get("logprobs") or 0
        said = [spoken(answer, seed, top, limit, _stop(body), self._tokens) for answer in answers]
        choices = [
            self._choice(body, index, prompt, one)
            for index, (prompt, one) in enumerate(zip(_prompts(body), said, strict=True))
        ]
        counted = Counted(
            sum(self._tokens.message + self._tokens.count(prompt) for prompt in _prompts(body)),
            sum(one.output for one in said),
            reasoning=sum(one.reasoning for one in said),
        )
        data = {"id": f"cmpl-{request_id}", "object": "text_completion", "choices": choices}
        return self._sent(body, data, counted, request_id)

    def _choice(self, body: Mapping[str, Any], index: int, prompt: str, said: Spoken) -> dict[str, Any]:
        pieces = self._tokens.split(prompt)
        echoed = scored(pieces, body.get("logprobs") or 0) if body.get("echo") else ()
        choice: dict[str, Any] = {
            "index": index,
            "text": (prompt if echoed else "") + said.text,
            "logprobs": None if body.get("logprobs") is None else _legacy((*echoed, *said.tokens), echoed=bool(echoed)),
            "finish_reason": "length" if said.finish == "length" else "stop",
        }
        if (top := body.get("prompt_logprobs")) is not None:
            choice["prompt_logprobs"] = _prompt_logprobs(scored(pieces, top))
        return choice


def _stop(body: Mapping[str, Any]) -> Sequence[str]:
    stop = body.get("stop") or ()
    return (stop,) if isinstance(stop, str) else stop


def _prompts(body: Mapping[str, Any]) -> list[Any]:
    prompt = body.get("prompt")
    return list(prompt) if isinstance(prompt, list) else [prompt]


def _said(message: Mapping[str, Any]) -> str:
    """All text of a message, with the calls in it."""
    calls = message.get("tool_calls")
    return text_of(message.get("content")) + (compact(calls) if calls else "")


def _wrong_tools(body: Mapping[str, Any]) -> str | None:
    tools = body.get("tools")
    if tools is None:
        return None
    if not isinstance(tools, list) or not tools:
        return "tools: has to be a list of at least one tool"
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not function.get("name"):
            return "tools: each has to be a function with a name"
    return None


def _thinks(body: Mapping[str, Any]) -> bool:
    """Whether thoughts are told and wanted back, as DeepSeek has it."""
    return (body.get("thinking") or {}).get("type") == "enabled"


def _wrong_messages(body: Mapping[str, Any]) -> str | None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    called: set[str] = set()
    for message in messages:
        role, calls = message.get("role"), message.get("tool_calls") or ()
        if role not in _ROLES or not (_is_text(message.get("content")) or (role == "assistant" and calls)):
            return f"messages: a message needs text and one of the roles {', '.join(_ROLES)}"
        if role == "tool" and message.get("tool_call_id") not in called:
            return "messages: a message of the role tool has to answer a tool call before it"
        if calls and _thinks(body) and not isinstance(message.get("reasoning_content"), str):
            return "The reasoning_content in the thinking mode must be passed back to the API."
        called |= {call["id"] for call in calls}
    return None


def _is_text(content: Any) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content)
    return isinstance(content, str)


@lru_cache(maxsize=1 << 14)
def _token(item: TokenLogprob) -> dict[str, Any]:
    return _alternative(item.token, item.logprob) | {"top_logprobs": [_alternative(*pair) for pair in item.top]}


def _alternative(text: str, logprob: float) -> dict[str, Any]:
    """A token as chat completions write it: what is no text by itself stands as its bytes, escaped."""
    raw = text.encode("utf-8", "surrogateescape")
    return {"token": _shown(raw, ""), "logprob": logprob, "bytes": list(raw)}


def _shown(raw: bytes, mark: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return mark + "".join(f"\\x{byte:02x}" for byte in raw)


def _legacy(tokens: Sequence[TokenLogprob], *, echoed: bool) -> dict[str, Any]:
    """Logprobs as completions write them; before the first token of an echo nothing stands, so it has none."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offset, offsets = 0, []
    names, top = [], []
    for item in tokens:
        raw = item.token.encode("utf-8", "surrogateescape")
        offsets.append(offset)
        offset += len(decoder.decode(raw))
        names.append(_shown(raw, "bytes:"))
        alternatives = {_shown(text.encode("utf-8", "surrogateescape"), "bytes:"): value for text, value in item.top}
        top.append(alternatives | {names[-1]: item.logprob})
    logprobs: list[float | None] = [item.logprob for item in tokens]
    if echoed:
        return {"tokens": names, "token_logprobs": [None, *logprobs[1:]], "top_logprobs": [None, *top[1:]], "text_offset": offsets}  # fmt: skip  # noqa: E501
    return {"tokens": names, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets}


def _prompt_logprobs(tokens: Sequence[TokenLogprob]) -> list[dict[str, Any] | None]:
    """As vLLM writes them: by token id, the real token first; of the first token there are none."""
    return [None, *map(_by_id, tokens[1:])] if tokens else []


def _by_id(item: TokenLogprob) -> dict[str, Any]:
    entries = [(item.token, item.logprob), *(pair for pair in item.top if pair[0] != item.token)]
    return {
        str(zlib.crc32(text.encode("utf-8", "surrogateescape"))): {
            "logprob": logprob,
            "rank": 1 + sum(other > logprob for _, other in item.top),
            "decoded_token": text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        }
        for text, logprob in entries
    }
