"""The HTTP client that the SDKs are given: aiohttp connections, whole replies, no redirects, requests built quickly."""

from __future__ import annotations

import functools
import ssl
from typing import Any

import aiohttp
import httpx2
from yarl import URL

__all__ = ["transport"]

# Generous: with hundreds of requests a busy event loop reaches a new connection late, and 5 s gave storms of retries.
_CONNECT = 60.0
# sets of headers that are remembered; a client has one or two
_REMEMBERED = 64
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
        async with self._opened().request(
            request.method,
            _url(str(request.url)),
            headers=request.headers,
            data=request.content,
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
    """Builds requests that send JSON to one address, with the same headers each time.

    What httpx2 does for any request (merging addresses and headers, decoding each header to learn its encoding) takes a
    fifth of the time that a call through an SDK takes; here it is done once and remembered. What is not a body of bytes
    for an address that is given as text is left to httpx2.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._usual: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[httpx2.URL, httpx2.Headers]] = {}

    def build_request(
        self, method: str, url: Any, *, content: Any = None, headers: Any = None, timeout: Any = None, **more: Any
    ) -> httpx2.Request:
        """The same request that httpx2 would build."""
        plain = isinstance(content, bytes) and isinstance(url, str) and isinstance(timeout, httpx2.Timeout)
        if not plain or any(more.values()):
            return super().build_request(method, url, content=content, headers=headers, timeout=timeout, **more)
        address, usual = self._known(url, tuple(headers))
        extensions = {"timeout": timeout.as_dict()}
        request = httpx2.Request(method, address, stream=httpx2.ByteStream(content), extensions=extensions)
        request.headers = usual.copy()
        request.headers.encoding = "ascii"
        request.headers["content-length"] = str(len(content))
        request.read()
        return request

    def _known(self, url: str, given: tuple[tuple[str, str], ...]) -> tuple[httpx2.URL, httpx2.Headers]:
        """The address, and its headers: what the client sends always, and what was given."""
        if (url, given) not in self._usual:
            if len(self._usual) >= _REMEMBERED:
                self._usual.clear()
            address = httpx2.URL(url)
            names = {name.lower() for name, _ in given}
            usual = [(name, value) for name, value in self.headers.multi_items() if name.lower() not in names]
            host = ("host", address.netloc.decode("ascii"))
            self._usual[url, given] = (address, httpx2.Headers([host, *usual, *given], encoding="ascii"))
        return self._usual[url, given]


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
