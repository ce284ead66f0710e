"""Replies as real servers send them, with their differences from the protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from harness.clients import Capabilities, Request
from harness.clients.providers._chat import ChatDialect
from harness.clients.providers._errors import Translator
from harness.clients.providers._messages import MessagesDialect
from harness.clients.redact import Redactor
from harness.errors import (
    AccountError,
    AuthenticationFailed,
    BadRequest,
    ClientError,
    ContextTooLong,
    MissingLogprobs,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Refused,
    TimedOut,
)
from harness.values import TokenLogprob, Usage

Ask = Callable[..., Request]

CHAT = ChatDialect("m", Capabilities(logprobs=True), "max_tokens", {})
MESSAGES = MessagesDialect("m", Capabilities(logprobs=False), {})


def chat(content: Any = "[1]", finish: str | None = "stop", logprobs: Any = None, **message: Any) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return {
        "model": "m",
        "choices": [choice | ({} if logprobs is None else {"logprobs": json.dumps(logprobs).encode()})],
    }


@pytest.mark.parametrize(
    ("data", "text", "finish"),
    [
        (chat("a"), "a", "stop"),
        (chat("a", None), "a", "stop"),
        (chat("a", "eos"), "a", "stop"),
        (chat("a", "length"), "a", "length"),
        (chat("a", "max_tokens"), "a", "length"),
        (chat("a", "model_length"), "a", "length"),
        (chat("a", "content_filter"), "a", "refusal"),
        (chat(None), "", "stop"),
        (chat(None, refusal="I cannot"), "I cannot", "refusal"),
        (chat([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]), "ab", "stop"),
        (chat("a", reasoning_content="thoughts"), "a", "stop"),
    ],
)
def test_text_and_finish_of_a_chat_completion(ask: Ask, data: dict[str, Any], text: str, finish: str) -> None:
    reply = CHAT.reply(data, ask())
    assert (reply.text, reply.finish) == (text, finish)
    assert reply.usage == Usage(requests=1)


def test_usage_of_a_chat_completion_is_split_by_price(ask: Ask) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 70,
        "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 50},
    }
    reply = CHAT.reply(chat() | {"usage": usage}, ask())
    assert reply.usage == Usage(300, 600, 100, 70, 50, 1)


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": None}])
def test_usage_without_details_is_taken(ask: Ask, details: Any) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": details}
    assert CHAT.reply(chat() | {"usage": usage}, ask()).usage == Usage(10, output=2, requests=1)


def token(text: str, logprob: float = -0.1, **more: Any) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, **more}


def test_servers_may_leave_the_sampled_token_out_of_the_alternatives_or_add_it(ask: Ask) -> None:
    without = [token("0", -3.0, top_logprobs=[token("1", -0.1), token("2", -4.0)])]
    added = [token("0", -3.0, top_logprobs=[token("1", -0.1), token("2", -2.0), token("0", -3.0)])]
    for content, count in ((without, 2), (added, 3)):
        logprobs = CHAT.reply(chat("0", logprobs={"content": content}), ask(top_logprobs=2)).logprobs
        assert logprobs is not None
        assert logprobs[0].token == "0"
        assert len(logprobs[0].top) == count


def test_bytes_may_be_null_and_byte_tokens_empty(ask: Ask) -> None:
    content = [token("", bytes=None), token("é", bytes=None, top_logprobs=None)]
    logprobs = CHAT.reply(chat("é", logprobs={"content": content}), ask(top_logprobs=1)).logprobs
    assert logprobs == (TokenLogprob("", -0.1), TokenLogprob("é", -0.1))


def test_escaped_bytes_are_told_by_the_bytes_and_other_backslashes_stay(ask: Ask) -> None:
    content = [
        token("\\xf0\\x9f", bytes=[240, 159]),
        token("\\x98\\x80", bytes=[152, 128]),
        token("\\n", bytes=[92, 110]),
    ]
    logprobs = CHAT.reply(chat("\U0001f600\\n", logprobs={"content": content}), ask(top_logprobs=1)).logprobs
    assert logprobs is not None
    joined = "".join(item.token for item in logprobs)
    assert joined.encode("utf-8", "surrogateescape").decode() == "\U0001f600\\n"


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}])
def test_promised_logprobs_that_are_not_there_are_an_error(ask: Ask, logprobs: Any) -> None:
    with pytest.raises(MissingLogprobs):
        CHAT.reply(chat("[1]", logprobs=logprobs), ask(top_logprobs=5))


@pytest.mark.parametrize("text", ["", "half a charact\ufffd"])
def test_a_reply_without_tokens_or_cut_within_a_character_has_empty_logprobs(ask: Ask, text: str) -> None:
    assert CHAT.reply(chat(text, "length"), ask(top_logprobs=5)).logprobs == ()


def test_logprobs_that_nobody_asked_for_are_left_out(ask: Ask) -> None:
    assert CHAT.reply(chat("1", logprobs={"content": [token("1")]}), ask()).logprobs is None


def test_a_temperature_is_left_out_for_models_that_take_none(ask: Ask) -> None:
    dialect = ChatDialect("m", Capabilities(logprobs=True, temperature=False), "max_completion_tokens", {})
    assert "temperature" not in dialect.body(ask(temperature=0.0))
    assert CHAT.body(ask(temperature=0.0))["temperature"] == 0.0
    assert "temperature" not in CHAT.body(ask())


def test_the_text_blocks_of_a_message_are_joined(ask: Ask) -> None:
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 7,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }
    reply = MESSAGES.reply({"content": content, "stop_reason": "end_turn", "usage": usage}, ask())
    assert reply.text == "ab"
    assert reply.usage == Usage(10, 7, 5, 9, 4, 1)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        (None, "stop"),
    ],
)
def test_why_a_message_ended(ask: Ask, reason: str | None, finish: str) -> None:
    assert MESSAGES.reply({"content": [], "stop_reason": reason}, ask()).finish == finish


def answered(status: int, body: Any, **headers: str) -> ClientError:
    translator = Translator("openai/m", "https://host/v1", Redactor("sk-0123456789-abcdefghij"))
    content = {"text": body} if isinstance(body, str) else {"json": body}
    return translator.answered(httpx2.Response(status, headers=headers, **content))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "bad", "code": "x"}}, BadRequest),
        (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, ContextTooLong),
        (400, {"error": {"message": "too long", "type": "exceed_context_size_error"}}, ContextTooLong),
        (
            400,
            {"error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8 tokens"}},
            ContextTooLong,
        ),
        (500, {"error": {"message": "Requested tokens exceed context window of 512"}}, ContextTooLong),
        (413, "too large", ContextTooLong),
        (400, {"error": {"message": "Your credit balance is too low to access the API."}}, QuotaExhausted),
        (402, {"error": {"message": "Insufficient credits"}}, QuotaExhausted),
        (429, {"error": {"message": "quota", "code": "insufficient_quota"}}, QuotaExhausted),
        (429, {"error": {"message": "hard limit", "code": "billing_hard_limit_reached"}}, QuotaExhausted),
        (429, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}, RateLimited),
        (429, "slow down", RateLimited),
        (401, {"error": "no"}, AuthenticationFailed),
        (403, {"error": {"message": "country not supported"}}, AuthenticationFailed),
        (403, {"error": {"message": "input was flagged", "code": 403}}, Refused),
        (400, {"error": {"message": "filtered", "code": "content_filter"}}, Refused),
        (404, {"error": "model 'x' not found, try pulling it first"}, AccountError),
        (404, {"error": {"message": "No endpoints found that can handle the requested parameters."}}, BadRequest),
        (408, "", TimedOut),
        (409, "", Overloaded),
        (422, {"detail": [{"msg": "Extra inputs", "loc": ["n"]}]}, BadRequest),
        (500, "<html>oops</html>", Overloaded),
        (502, "", Overloaded),
        (504, "", TimedOut),
        (529, {"error": {"type": "overloaded_error"}}, Overloaded),
    ],
)
def test_status_and_body_decide_the_kind_of_error(status: int, body: Any, kind: type[ClientError]) -> None:
    error = answered(status, body)
    assert type(error) is kind
    assert error.status == status
    assert error.model == "openai/m"
    assert str(error).startswith(f"https://host/v1 answered {status}: ")


@pytest.mark.parametrize("option", ["logprobs", "temperature"])
def test_an_option_that_the_model_refuses_says_what_to_set(option: str) -> None:
    error = answered(
        400, {"error": {"message": f"'{option}' is not supported with this model.", "code": "unsupported"}}
    )
    assert f'set {option} = false in [model."openai/m"]' in str(error)


def test_messages_of_servers_are_one_short_line_without_control_characters() -> None:
    error = answered(400, {"error": {"message": "a\n\x1b[31mred\x00\u202e " + "x" * 5000}})
    assert str(error).isprintable()
    assert len(str(error)) < 500


def test_an_error_can_be_told_with_a_status_of_success(ask: Ask) -> None:
    error = answered(200, {"error": {"code": 429, "message": "upstream is busy"}})
    translator = Translator("m", "https://host", Redactor(""))
    response = httpx2.Response(200, json={"error": {"code": 429, "message": "upstream is busy"}})
    assert isinstance(translator.answered(response, 429), RateLimited)
    assert error.status == 200
