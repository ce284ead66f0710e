"""The HTTP client that the SDKs are given: aiohttp connections, no redirects, and requests built quickly."""

from __future__ import annotations

import functools
import ssl
from typing import Any

import httpx2

__all__ = ["transport"]

# Generous: with hundreds of requests a busy event loop reaches a new connection late, and 5 s gave storms of retries.
_CONNECT = 60.0
# sets of headers that are remembered; a client has one or two
_REMEMBERED = 64


class QuickRequests:
    """Builds the requests of a client that sends JSON to one address, with the same headers each time.

    What httpx2 does for any request (merging addresses and headers, decoding each header to learn its encoding) takes a
    fifth of the time that a call through an SDK takes; here it is done once and remembered. What is not a body of bytes
    for an address that is given as text is left to httpx2.
    """

    headers: httpx2.Headers
    _usual: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[httpx2.URL, httpx2.Headers]]

    def build_request(
        self, method: str, url: Any, *, content: Any = None, headers: Any = None, timeout: Any = None, **more: Any
    ) -> httpx2.Request:
        """The same request that httpx2 would build."""
        if not (isinstance(content, bytes) and isinstance(url, str) and isinstance(timeout, httpx2.Timeout)) or any(
            more.values()
        ):
            return super().build_request(  # pyright: ignore[reportAttributeAccessIssue] - mixed into a client
                method, url, content=content, headers=headers, timeout=timeout, **more
            )
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
        known = self.__dict__.setdefault("_usual", {})
        if (url, given) not in known:
            if len(known) >= _REMEMBERED:
                known.clear()
            address = httpx2.URL(url)
            names = {name.lower() for name, _ in given}
            usual = [(name, value) for name, value in self.headers.multi_items() if name.lower() not in names]
            host = ("host", address.netloc.decode("ascii"))
            known[url, given] = (address, httpx2.Headers([host, *usual, *given], encoding="ascii"))
        return known[url, given]


def transport(sdk: Any, timeout: float, limit: int) -> dict[str, Any]:
    """Arguments of an SDK's client: connections for `limit` requests at once, `timeout` seconds between two reads.

    The SDKs' default transport looks at every connection for every request and collapses beyond a hundred. A redirect
    could carry the key to another host.
    """
    patience = httpx2.Timeout(timeout, connect=_CONNECT, pool=_CONNECT)
    limits = httpx2.Limits(max_connections=limit, max_keepalive_connections=limit)
    made: Any = type("QuickAioHttpClient", (QuickRequests, sdk.DefaultAioHttpClient), {})
    client = made(limits=limits, timeout=patience, follow_redirects=False, verify=_tls())
    return {"max_retries": 0, "timeout": patience, "http_client": client}


@functools.cache
def _tls() -> ssl.SSLContext:
    """Reading the system's certificates takes longer than all else about a client; all share them."""
    return httpx2.create_ssl_context()
