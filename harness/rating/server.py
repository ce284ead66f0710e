"""A small local server of the rating page: loopback unless asked otherwise, and for nobody who lacks its address."""

from __future__ import annotations

import hmac
import ipaddress
import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final

import msgspec

from harness.errors import UserError
from harness.rating.page import page
from harness.rating.session import LONGEST, Session

__all__ = ["RatingServer"]

# bytes of a request's body: the longest explanation in four bytes a character, and its frame
_BODY: Final = 4 * LONGEST + 2000
# seconds that a connection may say nothing
_PATIENCE: Final = 30


class _Next(msgspec.Struct, forbid_unknown_fields=True):
    rater: str


class _Rate(msgspec.Struct, forbid_unknown_fields=True):
    rater: str
    item: str
    rating: int | None


class _Write(msgspec.Struct, forbid_unknown_fields=True):
    rater: str
    item: str
    text: str | None


class _Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


class RatingServer(ThreadingHTTPServer):
    """Serves one session under a secret path.

    A request is answered only if its Host is this server's own, its path begins with the token, and, where it says
    something, its Origin is this server's and its body JSON: so no page of another site can ask or say anything, nor
    one that was led here under another name.

    Raises:
        UserError: the address cannot be listened on.
    """

    daemon_threads = True
    # a second server on the same port would take half of the answers
    allow_reuse_port = False

    def __init__(self, session: Session, token: str, title: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.session, self.token = session, token
        self.page = page(title).encode()
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise UserError(
                f"--host {host} --port {port}: this address cannot be listened on: {error.strerror}"
            ) from None
        number = self.server_address[1]
        names = {host, "localhost"} if _loopback(host) else {host}
        self.hosts = frozenset(f"{_bracketed(name)}:{number}" for name in names)
        self.url = f"http://{_bracketed(host)}:{number}/{token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error; anything else is told as it is everywhere."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: RatingServer  # pyright: ignore[reportIncompatibleVariableOverride] (it is the one that made this)
    protocol_version = "HTTP/1.1"
    timeout: ClassVar[int] = _PATIENCE  # pyright: ignore[reportIncompatibleVariableOverride] (a number is one of its types)
    server_version = "latent-harness"
    sys_version = ""

    def do_GET(self) -> None:
        """The page."""
        try:
            if self._path() != "":
                raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")
            self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        except _Refused as refused:
            self._refuse(refused)

    def do_POST(self) -> None:
        """What a rater asks or says."""
        try:
            state = self._said(self._path())
            self._send(HTTPStatus.OK, json.dumps(state).encode(), "application/json")
        except _Refused as refused:
            # what was sent and not read would be taken for the next request
            self.close_connection = True
            self._refuse(refused)
        except UserError as error:
            self._refuse(_Refused(HTTPStatus.BAD_REQUEST, str(error)))

    def _path(self) -> str:
        """What follows the token, of a request that may be answered."""
        if self.headers.get("host", "").lower() not in self.server.hosts:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, "this server has another name")
        token, _, rest = self.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        return rest

    def _said(self, path: str) -> dict[str, Any]:
        own = {f"http://{host}" for host in self.server.hosts}
        if self.headers.get("origin") not in own or self.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise _Refused(HTTPStatus.FORBIDDEN, "only this server's own page may say something")
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "what is said has to be JSON")
        body = self._body()
        session = self.server.session
        try:
            match path:
                case "api/next":
                    return session.state(msgspec.json.decode(body, type=_Next).rater)
                case "api/undo":
                    return session.undo(msgspec.json.decode(body, type=_Next).rater)
                case "api/rate":
                    rate = msgspec.json.decode(body, type=_Rate)
                    return session.rate(rate.rater, rate.item, rate.rating)
                case "api/write":
                    write = msgspec.json.decode(body, type=_Write)
                    return session.write(write.rater, write.item, write.text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"this is not what the page says: {error}") from None
        raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _body(self) -> bytes:
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "say how long it is")
        if int(length) > _BODY:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {_BODY} bytes")
        return self.rfile.read(int(length))

    def _refuse(self, refused: _Refused) -> None:
        self._send(refused.status, json.dumps({"message": refused.words}).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": "frame-ancestors 'none'",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
        """Say nothing: an address has the token in it."""


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
