"""What an SDK raised, or a provider answered instead of a reply, as this package's exceptions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2

from harness.clients.headers import retry_after
from harness.clients.redact import Redactor
from harness.errors import (
    AccountError,
    AuthenticationFailed,
    BadRequest,
    ClientError,
    ConnectionFailed,
    ContextTooLong,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Refused,
    TimedOut,
)

__all__ = ["Translator"]

_QUOTA = re.compile(
    r"insufficient_quota|billing_hard_limit_reached|billing_not_active|credit_balance_exhausted|"
    r"enforced_spend_limit_reached|billing_error|insufficient credits|credit balance is too low|"
    r"exceeded your current quota",
    re.IGNORECASE,
)
_CONTEXT = re.compile(
    r"context_length_exceeded|exceed_context_size_error|context.{0,20}(length|window|size)|prompt is too long|"
    r"too many (input )?tokens|request_too_large|string_above_max_length",
    re.IGNORECASE,
)
_FILTER = re.compile(r"content_filter|content_policy|content management policy|moderation|flagged", re.IGNORECASE)
_OVERLOADED = re.compile(r"overloaded", re.IGNORECASE)
# OpenRouter, where no provider of a model takes all that a request holds
_UNSERVED = re.compile(r"no endpoints found (that|which) (can|support)", re.IGNORECASE)
_OPTION = re.compile(r"logprobs|temperature", re.IGNORECASE)
# exceptions of a connection that was never made
_NOT_SENT = {"ClientConnectorError", "ConnectionTimeoutError"}
# enough to tell what was wrong, short enough for one line of a table
_LONGEST = 400


class Translator:
    """Makes redacted exceptions for one model of one host."""

    def __init__(self, name: str, base_url: str, redactor: Redactor) -> None:
        self._name = name
        self._base_url = base_url
        self._redactor = redactor

    def raised(self, error: Exception) -> ClientError:
        """For what an SDK's call raised."""
        response = getattr(error, "response", None)
        if isinstance(response, httpx2.Response):
            return self.answered(response)
        chain = list(_causes(error))
        names = {cls.__name__ for link in chain for cls in type(link).__mro__}
        told = self.line(next((str(link) for link in reversed(chain) if str(link)), type(error).__name__))
        kind = self._kind_of(names)
        if kind is TimedOut:
            return TimedOut(f"{self._base_url} did not answer in time", model=self._name)
        if kind is ConnectionFailed:
            failed = ConnectionFailed(f"the connection to {self._base_url} failed: {told}", model=self._name)
            failed.billed = not names & _NOT_SENT
            return failed
        return BadRequest(f"the request could not be sent: {type(error).__name__}: {told}", model=self._name)

    def answered(self, response: httpx2.Response, status: int | None = None) -> ClientError:
        """For a reply that tells of an error; `status` where its body names another than its own."""
        code = status or response.status_code
        words, message = _details(response)
        request_id = response.headers.get("x-request-id") or response.headers.get("request-id")
        common: dict[str, Any] = {
            "model": self._name,
            "status": code,
            "request_id": None if request_id is None else self.line(request_id),
        }
        said = self.line(message or response.reason_phrase or "nothing more").rstrip(".")
        told = f"{self._base_url} answered {code}: {said}"
        return self._of_status(code, f"{words} {message}", told, common, response)

    def unreadable(self, response: httpx2.Response, why: str) -> ClientError:
        """For a successful status with a body that is no reply."""
        kind = self.line(response.headers.get("content-type", "no content type"))
        start = self.line(response.text[:80])
        message = f"{self._base_url} sent {why} ({kind}) that starts with {start!r}"
        unread = Overloaded(message, model=self._name, status=response.status_code)
        unread.billed = True
        return unread

    def _of_status(
        self, status: int, words: str, told: str, common: dict[str, Any], response: httpx2.Response
    ) -> ClientError:
        if status == 402 or (status in (400, 403, 429) and _QUOTA.search(words)):
            return QuotaExhausted(told, **common)
        if status in (400, 403) and _FILTER.search(words):
            return Refused(told, **common)
        if status in (401, 403):
            return AuthenticationFailed(told, **common)
        if status == 404 and _UNSERVED.search(words):
            hint = f'if logprobs were asked for, set logprobs = false in [model."{self._name}"]'
            return BadRequest(f"{told}; {hint}", **common)
        if status == 404:
            return AccountError(f"{told}; is the model's name, its api or base_url wrong?", **common)
        # some servers answer a prompt that does not fit with 500, which would be tried again for nothing
        if status == 413 or (status in (400, 422, 500) and _CONTEXT.search(words)):
            return ContextTooLong(told, **common)
        if status in (408, 504):
            return TimedOut(told, **common, retry_after=self._wait(response))
        if status == 429:
            return RateLimited(told, **common, retry_after=self._wait(response))
        if status == 501:
            # what a server was not started for, as embeddings of llama.cpp's
            return BadRequest(told, **common)
        if status >= 500 or status in (409, 425) or _OVERLOADED.search(words):
            return Overloaded(told, **common, retry_after=self._wait(response))
        if status < 400:
            return BadRequest(f"{told}; set base_url to where this redirect leads", **common)
        option = _OPTION.search(words)
        hint = f'; set {option[0].lower()} = false in [model."{self._name}"]' if option else ""
        return BadRequest(told + hint, **common)

    def _kind_of(self, names: set[str]) -> type[ClientError] | None:
        # The aiohttp transport reports a lost connection as a connect time-out; the aiohttp error below it tells.
        if names & {"ConnectionTimeoutError", "ClientConnectorError", "ServerDisconnectedError", "ClientOSError"}:
            return ConnectionFailed
        if names & {"SocketTimeoutError", "ReadTimeout", "WriteTimeout"}:
            return TimedOut
        if names & {"ClientError", "TransportError", "OSError", "SSLError", "EndOfStream"}:
            return ConnectionFailed
        if names & {"TimeoutError", "APITimeoutError"}:
            return TimedOut
        return ConnectionFailed if "APIConnectionError" in names else None

    def _wait(self, response: httpx2.Response) -> float | None:
        return retry_after(response.headers, datetime.now(UTC))

    def line(self, text: str) -> str:
        """One line of redacted text without control characters."""
        # a body of megabytes need not be searched for the sake of its first line
        clean = self._redactor.clean(text[: 20 * _LONGEST])
        clean = "".join(char if char.isprintable() else " " for char in clean)
        line = " ".join(clean.split())
        return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _causes(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _details(response: httpx2.Response) -> tuple[str, str]:
    """Codes and types, and the message, of an error's body, in the shapes that servers use."""
    try:
        data = json.loads(response.content)
    except ValueError:
        return "", response.text
    if not isinstance(data, Mapping):
        return "", response.text
    inner = data.get("error", data)
    if not isinstance(inner, Mapping):
        return "", str(inner)
    details = inner.get("details")
    codes = [inner.get("code"), inner.get("type"), details.get("error_code") if isinstance(details, Mapping) else None]
    message = inner.get("message") or inner.get("detail") or inner.get("error") or response.text
    return " ".join(str(code) for code in codes if code), message if isinstance(message, str) else json.dumps(message)
