"""The HTTP client that the SDKs are given: aiohttp connections, whole replies, requests built quickly."""

from __future__ import annotations

import functools
import ssl
from typing import Any

import aiohttp
import httpx2
from multidict import CIMultiDict
from yarl import URL

__all__ = ["Repeating", "transport"]

# Generous: with hundreds of requests a busy event loop reaches a new connection late, and 5 s gave storms of retries.
_CONNECT = 60.0
# addresses and time-outs that are remembered; a client has one or two
_REMEMBERED = 64
# the extension of a request that holds its headers without the length of its body, which aiohttp adds
_FIELDS = "fields"
# what aiohttp has undone by the time a reply is handed on
_UNDONE = (b"content-encoding", b"content-length", b"transfer-encoding")


class Connections(httpx2.AsyncBaseTransport):
    """Sends requests over aiohttp's connections, at most `limit` at once, and reads every reply to its end.

    The SDKs' own transport over aiohttp hands replies on in pieces, each of which passes through six layers; and their
    usual one looks at every connection for every request and collapses beyond a hundred.
    """

    def __init__(self, limit: int, tls: ssl.SSLContext) -> None:
        self._limit = limit
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The reply to a request.

        Raises:
            aiohttp.ClientError, TimeoutError: there is none.
        """
        patience = request.extensions["timeout"]
        try:
            body = request.content
        except httpx2.RequestNotRead:  # a form
            body = await request.aread()
        async with self._opened().request(
            request.method,
            _url(str(request.url)),
            headers=request.extensions.get(_FIELDS, request.headers),
            data=body,
            allow_redirects=False,
            timeout=_timeout(patience["connect"], patience["read"], patience["pool"]),
        ) as response:
            content = await response.read()
        headers = [(name, value) for name, value in response.raw_headers if name.lower() not in _UNDONE]
        return httpx2.Response(response.status, headers=headers, content=content, request=request)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        # not before the first request: a session belongs to the event loop that it is made in
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._limit, ssl=self._tls)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session


@functools.lru_cache(_REMEMBERED)
def _url(text: str) -> URL:
    return URL(text, encoded=True)


@functools.lru_cache(_REMEMBERED)
def _timeout(connect: float | None, read: float | None, pool: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(sock_connect=connect, sock_read=read, connect=pool)


class QuickClient(httpx2.AsyncClient):
    """Hands requests to its transport as they are: no redirects, no cookies, no authentication of its own."""

    async def send(
        self,
        request: httpx2.Request,
        *,
        stream: bool = False,  # noqa: ARG002 - every reply is read to its end
        auth: Any = None,  # noqa: ARG002
        follow_redirects: Any = None,  # noqa: ARG002
    ) -> httpx2.Response:
        """The reply to a request.

        Raises:
            aiohttp.ClientError, TimeoutError: there is none.
            RuntimeError: the client is closed.
        """
        if self.is_closed:
            raise RuntimeError("the client is closed")
        return await self._transport.handle_async_request(request)


class Repeating:
    """Put before an SDK's client: builds the requests that differ in their body alone from the first one's parts.

    What the SDKs do for any request (merging addresses, headers and options, each anew) takes a quarter of the time of
    a call. Requests of any other kind are left to the SDK.
    """

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> httpx2.Request:
        """The same request that the SDK would build."""
        content = options.content
        plain = type(content) is bytes and not options.headers and not options.params and options.files is None
        if not plain or retries_taken:
            return super()._build_request(options, retries_taken=retries_taken)  # pyright: ignore[reportAttributeAccessIssue] - the SDK's
        patterns: dict[str, httpx2.Request] = self.__dict__.setdefault("_patterns", {})
        if options.url not in patterns:
            patterns[options.url] = _pattern(super()._build_request(options))  # pyright: ignore[reportAttributeAccessIssue] - the SDK's
        return _like(patterns[options.url], content)


def _pattern(request: httpx2.Request) -> httpx2.Request:
    """A request with all but what depends on its body; its headers, as aiohttp takes them, are in its extensions."""
    headers = [(name, value) for name, value in request.headers.multi_items() if name != "content-length"]
    extensions = {**request.extensions, _FIELDS: CIMultiDict(headers)}
    return httpx2.Request(
        request.method, request.url, headers=headers, stream=httpx2.ByteStream(b""), extensions=extensions
    )


def _like(first: httpx2.Request, content: bytes) -> httpx2.Request:
    """The same request with another body; the headers, which nobody changes, are shared."""
    request = httpx2.Request(first.method, first.url, stream=httpx2.ByteStream(content), extensions=first.extensions)
    request.headers = first.headers
    request.read()
    return request


def transport(timeout: float, limit: int) -> dict[str, Any]:
    """Arguments of an SDK's client: connections for `limit` requests at once, `timeout` seconds between two reads.

    No retries: another layer decides of them. No redirects: one could carry the key to another host.
    """
    patience = httpx2.Timeout(timeout, connect=_CONNECT, pool=_CONNECT)
    client = QuickClient(
        transport=Connections(limit, _tls()),
        timeout=patience,
        follow_redirects=False,
        headers={"accept-encoding": "gzip, deflate"},
    )
    return {"max_retries": 0, "timeout": patience, "http_client": client}


@functools.cache
def _tls() -> ssl.SSLContext:
    """Reading the system's certificates takes longer than all else about a client; all share them."""
    return httpx2.create_ssl_context()
