"""OpenAI's and Anthropic's batch APIs, through the connections that live requests take."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import httpx2
import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from harness.clients.batches import Look, Result, Search
from harness.clients.protocol import Reply, Request
from harness.errors import ClientError, Expired, Overloaded, RateLimited, TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["AnthropicBatches", "OpenAIBatches"]

# what is left free of the providers' 200 and 256 MB, for the envelope
_SPARE = 1_000_000
# a provider's clock may be behind this one's by so many seconds
_SKEW = 3600.0
# tries of what may be sent twice, and the longest wait between two, in seconds
_TRIES, _LONGEST = 5, 60.0
# the status that a live request has of an error of this type
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class Caller(Protocol):
    """The part of a live client that its batches use."""

    name: str

    def check(self, request: Request) -> None: ...

    def line(self, text: str) -> str: ...

    def answered(self, response: httpx2.Response, request: Request) -> Reply | ClientError: ...

    async def call(
        self,
        path: str,
        content: bytes | None = None,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, Any] | None = None,
    ) -> httpx2.Response: ...


class _Response(msgspec.Struct):
    status_code: int
    body: msgspec.Raw
    request_id: str | None = None


class _OpenAILine(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: dict[str, Any] | None = None


class _AnthropicResult(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None


class _AnthropicLine(msgspec.Struct):
    custom_id: str
    result: _AnthropicResult


_OPENAI = msgspec.json.Decoder(_OpenAILine)
_ANTHROPIC = msgspec.json.Decoder(_AnthropicLine)


class OpenAIBatches:
    """Batches of OpenAI's: a file of requests goes up, and files of replies and of errors come down."""

    most_requests = 50_000
    most_bytes = 200_000_000 - _SPARE

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.check = caller.check

    def line(self, custom_id: str, path: str, body: bytes) -> bytes:
        """A request as a line of the file."""
        head = json.dumps({"custom_id": custom_id, "method": "POST", "url": f"/v1{path}"})
        return b"".join((head[:-1].encode(), b', "body": ', body, b"}\n"))

    async def submit(self, lines: Sequence[bytes], path: str, mark: str) -> str:
        """Upload the file and submit it; the mark stands in the batch's metadata.

        Raises:
            ClientError: it was not taken; where the error is `billed` that is not known.
        """
        uploaded = await _patiently(partial(self._upload, b"".join(lines), mark))
        order = {
            "input_file_id": uploaded["id"],
            "endpoint": f"/v1{path}",
            "completion_window": "24h",
            "metadata": {"latent_harness_batch": mark},
        }
        body = msgspec.json.encode(order)
        return (await _patiently(lambda: _json(self._caller.call("/batches", body)), RateLimited))["id"]

    async def find(self, mark: str, requests: int, since: float, ours: Callable[[str], bool]) -> Search:  # noqa: ARG002 - see BatchAPI
        """The batch of a mark."""
        async for batch in _pages(self._caller, "/batches", "after"):
            if (batch.get("metadata") or {}).get("latent_harness_batch") == mark:
                return Search(batch["id"])
        return Search(None)

    async def look(self, batch: str) -> Look:
        """How a batch is getting on."""
        found = await self._found(batch)
        if found["status"] == "failed":
            errors = (found.get("errors") or {}).get("data") or [{}]
            line = f"line {errors[0]['line']}: " if errors[0].get("line") is not None else ""
            told = self._caller.line(line + (errors[0].get("message") or "no reason is given"))
            return Look("refused", told=told, crowded=errors[0].get("code") == "token_limit_exceeded")
        counts = found.get("request_counts") or {}
        ended = found["status"] in ("completed", "expired", "cancelled")
        done = counts.get("completed", 0) + counts.get("failed", 0)
        return Look("ended" if ended else "running", done, counts.get("total", 0))

    async def results(self, batch: str) -> Iterable[Result]:
        """The lines of the file of replies, then those of the file of errors."""
        found = await self._found(batch)
        files = [found[name] for name in ("output_file_id", "error_file_id") if found.get(name)]
        fetch = [partial(self._caller.call, f"/files/{file}/content") for file in files]
        return self._results([(await _patiently(each)).content for each in fetch])

    def _results(self, contents: Iterable[bytes]) -> Iterator[Result]:
        for content in contents:
            for line in _lines(content):
                yield Result(*_of(_OPENAI, line, self._caller.name, self._read))

    def _read(self, line: _OpenAILine, request: Request) -> Reply | ClientError:
        if line.response is not None:
            headers = {"x-request-id": line.response.request_id} if line.response.request_id else {}
            response = httpx2.Response(line.response.status_code, headers=headers, content=bytes(line.response.body))
            return self._caller.answered(response, request)
        error = line.error or {}
        told = self._caller.line(error.get("message") or "no reason is given")
        if error.get("code") in ("batch_expired", "batch_cancelled"):
            return Expired(f"the batch ended before the request's turn: {told}", model=self._caller.name)
        return Overloaded(f"the batch has no reply to the request: {told}", model=self._caller.name)

    async def _found(self, batch: str) -> Mapping[str, Any]:
        return await _patiently(lambda: _json(self._caller.call(f"/batches/{batch}")))

    async def _upload(self, content: bytes, mark: str) -> Mapping[str, Any]:
        file = {"file": (f"{mark}.jsonl", content, "application/jsonl")}
        return await _json(self._caller.call("/files", form={"body": {"purpose": "batch"}, "files": file}))


class AnthropicBatches:
    """Batches of Anthropic's: requests go up in one body, and lines of results come down."""

    most_requests = 100_000
    most_bytes = 256_000_000 - _SPARE

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.check = caller.check

    def line(self, custom_id: str, path: str, body: bytes) -> bytes:  # noqa: ARG002 - there is one path
        """A request as an item of the body."""
        return b"".join((b'{"custom_id": ', json.dumps(custom_id).encode(), b', "params": ', body, b"}"))

    async def submit(self, lines: Sequence[bytes], path: str, mark: str) -> str:  # noqa: ARG002 - marks are not kept
        """Submit requests.

        Raises:
            ClientError: they were not taken; where the error is `billed` that is not known.
        """
        body = b'{"requests": [' + b", ".join(lines) + b"]}"
        return (await _patiently(lambda: _json(self._caller.call("/v1/messages/batches", body)), RateLimited))["id"]

    async def find(self, mark: str, requests: int, since: float, ours: Callable[[str], bool]) -> Search:  # noqa: ARG002 - marks are not kept
        """The batch whose results have our custom ids, among those of so many requests.

        A batch that has not ended shows no custom ids: while there is one that it might be nothing is sure.
        """
        sure = True
        async for batch in _pages(self._caller, "/v1/messages/batches", "after_id"):
            early = datetime.fromisoformat(batch["created_at"]).timestamp() < since - _SKEW
            if early or sum(batch["request_counts"].values()) != requests:
                continue
            if batch["processing_status"] != "ended":
                sure = False
            elif any(ours(result.custom_id) for result in await self.results(batch["id"])):
                return Search(batch["id"])
        return Search(None, sure)

    async def look(self, batch: str) -> Look:
        """How a batch is getting on."""
        found = await _patiently(lambda: _json(self._caller.call(f"/v1/messages/batches/{batch}")))
        counts = found["request_counts"]
        total = sum(counts.values())
        state = "ended" if found["processing_status"] == "ended" else "running"
        return Look(state, total - counts.get("processing", 0), total)

    async def results(self, batch: str) -> Iterable[Result]:
        """The lines of the results."""
        path = f"/v1/messages/batches/{batch}/results"
        content = (await _patiently(lambda: self._caller.call(path))).content
        return (Result(*_of(_ANTHROPIC, line, self._caller.name, self._read)) for line in _lines(content))

    def _read(self, line: _AnthropicLine, request: Request) -> Reply | ClientError:
        result = line.result
        if result.type == "succeeded":
            return self._caller.answered(httpx2.Response(200, content=bytes(result.message)), request)
        if result.type in ("expired", "canceled"):
            return Expired(f"the batch ended before the request's turn ({result.type})", model=self._caller.name)
        error = result.error or {}
        inner = error.get("error") or {}
        status = _STATUS.get(inner.get("type", ""), 500)
        return self._caller.answered(httpx2.Response(status, content=msgspec.json.encode(error)), request)


def _of(
    decoder: msgspec.json.Decoder[Any], line: bytes, name: str, read: Callable[[Any, Request], Reply | ClientError]
) -> tuple[str, Callable[[Request], Reply | ClientError]]:
    """A line's custom id and how to read it.

    Raises:
        Overloaded: it is no result.
    """
    try:
        found = decoder.decode(line)
    except ValueError as error:
        raise Overloaded(f"the results of the batch hold a line that is no result: {error}", model=name) from None
    return found.custom_id, partial(read, found)


def _lines(content: bytes) -> Iterator[bytes]:
    """The lines that hold something, without a copy of all of them at once."""
    start = 0
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        if line := content[start:end].strip():
            yield line
        start = end + 1


async def _json(call: Awaitable[httpx2.Response]) -> Any:
    """The JSON of a response; an answer that is none may have come after the thing was done.

    Raises:
        ClientError: there is none.
    """
    response = await call
    try:
        found = json.loads(response.content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        unread = Overloaded("the provider sent something that is not JSON about a batch")
        unread.billed = True
        raise unread
    return found


async def _pages(caller: Caller, path: str, cursor: str) -> AsyncIterator[Any]:
    """All items of a list, page by page."""
    params = {"limit": "100"}
    while True:
        page = await _patiently(lambda: _json(caller.call(path, params=params)))  # noqa: B023 - awaited at once
        for item in page["data"]:
            yield item
        if not page.get("has_more") or not page["data"]:
            return
        params = {**params, cursor: page["data"][-1]["id"]}


async def _patiently(call: Callable[[], Awaitable[Any]], after: type[TransientError] = TransientError) -> Any:
    """What a call gives, tried again after errors after which it does no harm to make it twice."""

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after if isinstance(error, TransientError) else None
        return min(_LONGEST, 2.0 ** (state.attempt_number - 1) if asked is None else asked)

    async def attempt() -> Any:
        return await call()

    retrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, after)),
        stop=stop_after_attempt(_TRIES),
        wait=wait,
        sleep=anyio.sleep,
        reraise=True,
    )
    return await retrying(attempt)
