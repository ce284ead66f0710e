from __future__ import annotations

import base64
import html
import json
import logging
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clients.logprobs import RawLogprobs
from harness.clients.protocol import Reply
from harness.clients.redact import REDACTED, Redactor, guard_logs, release_logs
from harness.values import TokenLogprob, Usage

KEY = "sk-proj-Zk3v9QxT7bLw2RfYc8HdNs5JgPa1MuEo"
keys = st.text(string.ascii_letters + string.digits + "-_+/=&<", min_size=20, max_size=60)
# nothing around the key shares a character with it, so that what is left can be told from what was added
around = st.text(" .,:;!?(){}\n", max_size=20)

FORMS = {
    "plain": lambda key: key,
    "bearer": lambda key: f"Bearer {key}",
    "quoted": lambda key: quote(key, safe=""),
    "json": json.dumps,
    "html": html.escape,
    "hex": lambda key: key.encode().hex(),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 after a user": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "base64 of a header": lambda key: base64.urlsafe_b64encode(f"Bearer {key}\n".encode()).decode(),
    "repr": lambda key: repr(key.encode()),
}


@pytest.mark.parametrize("form", FORMS)
@given(key=keys, before=around, after=around)
def test_the_key_goes_in_every_form(form: str, key: str, before: str, after: str) -> None:
    written = FORMS[form](key)
    clean = Redactor(key).clean(before + written + after)
    assert key not in clean
    assert REDACTED in clean
    assert clean.startswith(before)
    assert clean.endswith(after)
    if form.startswith("base64"):
        inner = clean[len(before) : len(clean) - len(after) or None].replace(REDACTED, "")
        assert len(inner) <= len(written) - len(key), "more than the edges of the Base64 is left"


@given(key=keys, start=st.integers(0, 20), length=st.integers(19, 40), before=around)
def test_long_pieces_of_the_key_go_too(key: str, start: int, length: int, before: str) -> None:
    piece = key[start : start + length]
    clean = Redactor(key).clean(f"{before}{piece}{before}")
    if len(piece) >= 19:
        assert piece not in clean
        assert all(key[at : at + 10] not in clean for at in range(len(key) - 9))


@given(key=keys, text=st.text(string.ascii_lowercase + " \n", max_size=200))
def test_text_without_the_key_stays_as_it_is(key: str, text: str) -> None:
    assert Redactor(key.upper()).clean(text) == text


@pytest.mark.parametrize("masked", ["sk-proj-****MuEo", "sk-pr•••••1MuEo", "sk-proj-Zk3v...", "sk-***"])
def test_a_key_that_the_provider_masked_goes(masked: str) -> None:
    assert Redactor(KEY).clean(f"Incorrect API key: {masked}!") == f"Incorrect API key: {REDACTED}!"


@pytest.mark.parametrize("text", ["**bold** and ***bolder***", "wait... what", "a list: * * *", "1...2"])
def test_stars_and_dots_of_honest_text_stay(text: str) -> None:
    assert Redactor(KEY).clean(text) == text


@pytest.mark.parametrize("key", ["none", "EMPTY", "token", ""])
def test_a_placeholder_is_no_key(key: str) -> None:
    assert Redactor(key).clean("none of them is EMPTY, a token") == "none of them is EMPTY, a token"


def test_a_reply_without_the_key_is_handed_on_as_it_is() -> None:
    reply = Reply("[1]", "stop", Usage(), (TokenLogprob("[1]", -0.1, (("[1]", -0.1),)),), "m", "r")
    assert Redactor(KEY).reply(reply) is reply


def test_a_reply_loses_the_key_from_every_string() -> None:
    token = TokenLogprob(KEY, -1.0, ((KEY, -1.0), ("fine", -2.0)))
    reply = Redactor(KEY).reply(Reply(f"it is {KEY}", "stop", Usage(), (token,), f"m-{KEY}", KEY))
    assert KEY not in repr(reply)
    assert reply.text == f"it is {REDACTED}"
    assert reply.logprobs is not None
    assert len(reply.logprobs) == 1


@pytest.mark.parametrize("escaped", [False, True])
def test_a_key_among_the_alternatives_of_raw_logprobs_goes(escaped: bool) -> None:
    shown = "".join(f"\\u{ord(char):04x}" for char in KEY) if escaped else KEY
    raw = '{"content":[{"token":"1","logprob":-1,"top_logprobs":[{"token":"KEY","logprob":-1}]}]}'.replace("KEY", shown)
    assert json.loads(raw)["content"][0]["top_logprobs"][0]["token"] == KEY
    reply = Redactor(KEY).reply(Reply("1", "stop", Usage(), RawLogprobs(raw.encode())))
    assert KEY not in repr(reply)
    assert reply.logprobs is not None
    assert reply.logprobs[0].token == "1"


def test_a_key_spelled_by_tokens_cannot_be_put_together_again() -> None:
    pieces = [KEY[at : at + 3] for at in range(0, len(KEY), 3)]
    logprobs = tuple(TokenLogprob(piece, -0.5, ((piece, -0.5),)) for piece in ["it is ", *pieces, " ok"])
    reply = Redactor(KEY).reply(Reply(f"it is {KEY} ok", "stop", Usage(), logprobs))
    assert reply.logprobs is not None
    assert "".join(item.token for item in reply.logprobs) == "it is  ok"
    assert all(item.top == () for item in reply.logprobs if not item.token)
    assert [item.logprob for item in reply.logprobs] == [-0.5] * len(logprobs)


def test_a_traceback_loses_the_keys_of_every_account(caplog: pytest.LogCaptureFixture) -> None:
    other = "sk-other-0123456789abcdef"
    guards = [guard_logs(Redactor(key)) for key in (other, KEY)]
    try:
        raise ValueError(f"bad headers {KEY} {other}")
    except ValueError:
        logging.getLogger("anthropic._base_client").exception("failed")
    finally:
        for guard in guards:
            release_logs(guard)
    assert "bad headers" in caplog.text
    assert KEY not in caplog.text
    assert other not in caplog.text


def test_what_the_sdks_log_loses_the_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    guard = guard_logs(Redactor(KEY))
    logger = logging.getLogger("anthropic._base_client")
    try:
        logger.debug("response headers %s", {"x-echo": KEY})
        try:
            raise ValueError(f"bad header {KEY}")
        except ValueError:
            logger.debug("failed", exc_info=True)
        logger.debug("%d of %d", 1, 2)
    finally:
        release_logs(guard)
    assert KEY not in caplog.text
    assert REDACTED in caplog.text
    assert "bad header" in caplog.text
    assert "1 of 2" in caplog.text
    assert guard not in logger.filters
