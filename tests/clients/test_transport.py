"""Requests that are built from the first one's parts are those that the SDKs would build."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest
from anthropic._models import FinalRequestOptions as AnthropicOptions
from openai._models import FinalRequestOptions as OpenAIOptions

from harness.clients.providers._transport import Repeating, transport

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/v1/chat/completions"


class AsyncOpenAI(Repeating, openai.AsyncOpenAI): ...


class AsyncAnthropic(Repeating, anthropic.AsyncAnthropic): ...


PAIRS: list[tuple[Any, Any, Any]] = [
    (AsyncOpenAI, openai.AsyncOpenAI, OpenAIOptions),
    (AsyncAnthropic, anthropic.AsyncAnthropic, AnthropicOptions),
]


def made(kind: Any) -> Any:
    return kind(api_key="sk-test", base_url="http://127.0.0.1:9/v1", **transport(30.0, 4))


@pytest.mark.parametrize(("quick", "plain", "options"), PAIRS, ids=["openai", "anthropic"])
async def test_requests_that_differ_in_their_body_are_those_of_the_sdk(quick: Any, plain: Any, options: Any) -> None:
    ours, theirs = made(quick), made(plain)
    for body in (b'{"a":1}', b'{"a":22}', "é".encode()):
        asked = {"method": "post", "url": URL, "content": body}
        one = ours._build_request(options.construct(**asked))
        other = theirs._build_request(options.construct(**asked))
        assert (one.method, str(one.url), one.content) == (other.method, str(other.url), body)
        headers = dict(other.headers)
        # aiohttp adds the length of the body
        assert headers.pop("content-length") == str(len(body))
        assert dict(one.headers) == headers
        assert dict(one.extensions["fields"]) == headers
        assert one.extensions["timeout"] == other.extensions["timeout"]
    await ours.close()
    await theirs.close()


@pytest.mark.parametrize(("quick", "plain", "options"), PAIRS, ids=["openai", "anthropic"])
async def test_requests_of_another_kind_are_built_by_the_sdk(quick: Any, plain: Any, options: Any) -> None:
    ours = made(quick)
    made_first = ours._build_request(options.construct(method="post", url=URL, content=b"{}"))
    more = options.construct(method="post", url=URL, content=b"{}", headers={"x-more": "1"})
    assert ours._build_request(more).headers["x-more"] == "1"
    assert "x-more" not in made_first.headers
    again = ours._build_request(options.construct(method="post", url=URL, content=b"{}"), retries_taken=2)
    assert again.headers["x-stainless-retry-count"] == "2"
    await ours.close()


async def test_nothing_is_sent_after_closing() -> None:
    ours = made(AsyncOpenAI)
    request = ours._build_request(OpenAIOptions.construct(method="post", url=URL, content=b"{}"))
    await ours.close()
    with pytest.raises(RuntimeError, match="closed"):
        await ours._client.send(request)
