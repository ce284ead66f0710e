"""What can go wrong with a request to the fake provider, and when it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.testing.rate import RetryForm, retry_headers
from harness.values import seed_of

__all__ = ["ERRORS", "Fault", "FaultKind", "Faults", "Received", "in_turn", "storm"]

FaultKind = Literal[
    "bad_request",
    "billing_limit",
    "content_filter",
    "context",
    "credit_balance",
    "echo_key",
    "echo_key_error",
    "empty",
    "fewer_vectors",
    "hang",
    "html",
    "longer",
    "malformed",
    "nan_vector",
    "narrow_vector",
    "not_found",
    "null_logprobs",
    "overloaded",
    "payment_required",
    "quota",
    "rate_limit",
    "redirect",
    "refusal",
    "reset",
    "reset_mid_body",
    "server_error",
    "slow",
    "truncated",
    "unauthorized",
    "unavailable",
]

# faults that are answered with an error, and cost nothing: status, code or type, message
ERRORS: dict[str, tuple[int, str, str]] = {
    "bad_request": (400, "invalid_request_error", "The request is not valid."),
    "billing_limit": (429, "billing_hard_limit_reached", "Billing hard limit has been reached."),
    "content_filter": (400, "content_filter", "The response was filtered."),
    "context": (400, "context_length_exceeded", "This model's maximum context length is 4096 tokens."),
    "credit_balance": (400, "invalid_request_error", "Your credit balance is too low to access the API."),
    "echo_key_error": (401, "invalid_api_key", "Incorrect API key provided: {key}. Header: Bearer {key}"),
    "not_found": (404, "model_not_found", "The model does not exist."),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "payment_required": (402, "billing_error", "There is a problem with your billing or payment information."),
    "quota": (429, "insufficient_quota", "You exceeded your current quota, please check your plan."),
    "rate_limit": (429, "rate_limit_error", "Too many requests."),
    "redirect": (307, "moved", "Moved."),
    "server_error": (500, "server_error", "The server had an error."),
    "unauthorized": (401, "authentication_error", "Incorrect API key provided."),
    "unavailable": (503, "server_error", "The server is starting."),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request.

    `retry_after` is the header's text as it is sent with an error, or a wait in seconds that is written in `form`;
    `delay` the seconds before a `slow` reply.

    The kinds that are no errors by their status: `slow` comes late and `hang` never; `reset` breaks the connection
    before the reply and `reset_mid_body` within it; `malformed` is JSON cut short and `html` a page in its place;
    `empty` has no text, `truncated` half of it, `longer` a hundred times as much, whatever the limit; `refusal` is
    one of the model's; `null_logprobs` leaves them out; `echo_key` and `echo_key_error` repeat the caller's key. Of
    embeddings, `fewer_vectors` lacks the last, and the last of `narrow_vector` lacks a number, that of `nan_vector` has
    one that is none.
    """

    kind: FaultKind
    retry_after: str | float | None = None
    delay: float = 1.0
    form: RetryForm = "seconds"

    def headers(self) -> dict[str, str]:
        """The headers that ask for a wait."""
        if self.retry_after is None:
            return {}
        if isinstance(self.retry_after, str):
            return {"retry-after": self.retry_after}
        return retry_headers(self.retry_after, self.form)


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came: its number from 0, how often an equal one came before, and `digest` of its body.

    `batch` is the id of the batch that it is part of, None where it came by itself.
    """

    number: int
    seen: int
    path: str
    body: Mapping[str, Any]
    digest: str
    key: str
    batch: str | None = None


Faults = Callable[[Received], Fault | None] | Iterable[Fault | None]


def storm(
    share: float,
    kinds: Iterable[FaultKind],
    seed: int = 0,
    *,
    wait: float = 0.01,
    forms: Sequence[RetryForm] = ("decimals",),
    delay: float = 1.0,
) -> Callable[[Received], Fault | None]:
    """Faults of the kinds given on a share of requests, by a hash of the body and how often it came before.

    Errors ask for a `wait` in seconds, written in one of the forms; slow replies take `delay` seconds.
    """
    offered = tuple(kinds)

    def fault(received: Received) -> Fault | None:
        draw = seed_of(seed, received.digest, received.seen)
        if draw % 1000 >= share * 1000:
            return None
        rest = draw // 1000
        kind, form = offered[rest % len(offered)], forms[rest // len(offered) % len(forms)]
        return Fault(kind, wait, delay, form)

    return fault


def in_turn(faults: Iterable[Fault | None]) -> Callable[[Received], Fault | None]:
    """One item a request, until they run out."""
    remaining = iter(faults)
    return lambda _: next(remaining, None)
