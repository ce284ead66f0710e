"""When the next request to a model may go: the window, the pace, known rates, and waits that the provider asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from harness.clients.headers import HeardLimit, Measure
from harness.clients.heard import HeardBucket
from harness.clients.pace import Bucket, LearnedPace
from harness.clients.window import Window

__all__ = ["Outcome", "Throttle"]

_IDLE = 1.0  # seconds without any request, after which a provider may have filled up
# seconds that a refusal closes for where the provider does not say: doubled for each that no reply came between
_COOLDOWN = 1.0
_LONGEST_COOLDOWN = 30.0
_DOUBLINGS = 30  # beyond them the power would overflow in the end
# The window is never narrower than so many times what the pace keeps in flight: the pace is what holds back then.
_ROOM = 1.25
_NARROWEST = 4.0
_SMOOTH = 1 / 8  # the weight of the newest in a running mean
# Of a rate given in settings: a minute as the provider counts it never holds more than the rate, with a burst of so
# many seconds' worth at its start.
_BELOW = 0.98
_BURST = 0.25
_NO_MARKS: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    `overloaded` is a refusal that has nothing to do with the rate, `failed` says nothing about load. `wait` is what the
    provider asked for, in seconds; `said` its words. `input` and `output` are the tokens of a reply.
    """

    kind: Literal["replied", "refused", "overloaded", "failed", "unsent"]
    wait: float | None = None
    said: str = ""
    input: int = 0
    output: int = 0


@dataclass(slots=True)
class _Flight:
    """A request in flight: what is known of its sending, the tokens it expects, and the marks of the heard buckets."""

    sent: float
    episode: int
    full: bool
    paced: bool
    input: float
    output: float
    marks: Mapping[str, float]


class Throttle:
    """Decides for one model of an account; pure: times are given to it, in seconds of one clock.

    `requests` is the most that may be in flight; rates are per minute, None where none is known. Refusals of requests
    that were sent before the first refusal was heard belong to one *episode*, and count once.
    """

    def __init__(
        self,
        requests: int,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        now: float = 0.0,
    ) -> None:
        self.window = Window(requests, opened=requests_per_minute is not None)
        self.learned = LearnedPace()
        self.learned.rested(0, now)
        self.closed_until = -inf
        self.flights: dict[int, _Flight] = {}
        self._buckets: list[tuple[Measure, Bucket]] = []
        given: dict[Measure, float | None] = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        for measure, per_minute in given.items():
            if per_minute is not None:
                rate = _BELOW * per_minute / 60
                size = max(1.0, _BURST * rate)
                self._buckets.append((measure, Bucket(rate, size, size, now)))
        self._heard: dict[str, HeardBucket] = {}
        self._number = 0
        # what replies used, as a share of what was expected
        self._input_share = self._output_share = 1.0
        self._episode = 0
        self._unanswered = 0
        self._latency: float | None = None
        self._last = now

    @property
    def counts_tokens(self) -> bool:
        """Whether any limit on tokens is known."""
        return any(measure != "requests" for measure, _ in self._buckets)

    def wait(self, now: float, tokens: tuple[int, int] = (0, 0)) -> float:
        """Seconds until a request may go that expects so many tokens, in and out; infinite while no slot is free."""
        if len(self.flights) >= int(self.window.limit):
            return inf
        wait = max(0.0, self.closed_until - now)
        if self.learned.bucket is not None:
            wait = max(wait, self.learned.bucket.wait(1.0, now))
        if self._buckets:
            needs = self._needs(*self._expected(tokens))
            for measure, bucket in self._buckets:
                wait = max(wait, bucket.wait(needs[measure], now))
        return wait

    def send(self, now: float, tokens: tuple[int, int] = (0, 0)) -> int:
        """A request goes; its number."""
        if not self.flights and now > max(self._last, self.closed_until) + _IDLE:
            self.learned.rested(self._number, now)
        self._number += 1
        self._last = now
        learned = self.learned.bucket
        paced = False
        if learned is not None:
            learned.take(1.0, now)
            paced = learned.level(now) < 1.0
        inward = outward = 0.0
        if self._buckets:
            inward, outward = self._expected(tokens)
            self._take(self._needs(inward, outward), now)
        full = self.window.full(len(self.flights) + 1)
        marks = {name: bucket.mark(now) for name, bucket in self._heard.items()} if self._heard else _NO_MARKS
        self.flights[self._number] = _Flight(now, self._episode, full, paced, inward, outward, marks)
        return self._number

    def done(self, number: int, now: float, outcome: Outcome) -> None:
        """Request `number` has ended."""
        flight = self.flights.pop(number)
        self._last = now
        if outcome.kind == "replied":
            self._replied(flight, now, outcome)
        elif outcome.kind == "refused":
            self._refused(number, flight, now, outcome.wait)
        elif outcome.kind == "unsent":
            self._unsend(flight, now)
        else:
            if outcome.kind == "overloaded" and flight.episode == self._episode:
                self._episode += 1
                self.window.cut(len(self.flights) + 1)
            if outcome.wait is not None:
                self.closed_until = max(self.closed_until, now + outcome.wait)

    def hear(self, number: int, limits: Mapping[str, HeardLimit], now: float) -> None:
        """What the headers of the response to request `number` say of limits."""
        flight = self.flights.get(number)
        if flight is None:
            return
        for name, told in limits.items():
            bucket = self._heard.get(name)
            if bucket is None:
                self._heard[name] = bucket = HeardBucket(told, self._number - number, now)
                self._buckets.append((told.measure, bucket))
                if told.measure == "requests" and not self._episode:
                    self.window.widen(self.window.most)
            elif name in flight.marks:
                bucket.hear(told, flight.marks[name], now)

    def _expected(self, tokens: tuple[int, int]) -> tuple[float, float]:
        return tokens[0] * self._input_share, tokens[1] * self._output_share

    def _needs(self, inward: float, outward: float) -> dict[Measure, float]:
        return {"requests": 1.0, "tokens": inward + outward, "input": inward, "output": outward}

    def _take(self, needs: Mapping[Measure, float], now: float) -> None:
        for measure, bucket in self._buckets:
            bucket.take(needs[measure], now)

    def _replied(self, flight: _Flight, now: float, outcome: Outcome) -> None:
        self._unanswered = 0
        took = now - flight.sent
        self._latency = took if self._latency is None else self._latency + (took - self._latency) * _SMOOTH
        if flight.full:
            self.window.succeeded()
        if flight.paced and self.learned.bucket is not None:
            self.learned.succeeded()
        if flight.input or flight.output:
            needs = self._needs(outcome.input - flight.input, outcome.output - flight.output)
            needs["requests"] = 0.0
            self._take(needs, now)
            self._input_share = _corrected(self._input_share, outcome.input, flight.input)
            self._output_share = _corrected(self._output_share, outcome.output, flight.output)

    def _refused(self, number: int, flight: _Flight, now: float, asked: float | None) -> None:
        begins = flight.episode == self._episode
        self._unanswered += begins
        wait = asked
        if wait is None:
            wait = min(_LONGEST_COOLDOWN, _COOLDOWN * 2.0 ** min(self._unanswered - 1, _DOUBLINGS))
        if begins:
            self._episode += 1
            self.window.cut(len(self.flights) + 1)
            guess = self.window.limit / self._latency if self._latency else None
            self.learned.refused(number, flight.sent, self._number, self.closed_until, wait=wait, guess=guess)
            if self.learned.found and self.learned.bucket is not None and self._latency:
                self.window.widen(max(_NARROWEST, _ROOM * self.learned.bucket.rate * self._latency))
        else:
            self.learned.refused_too(number, now)
        self.closed_until = max(self.closed_until, now + wait)

    def _unsend(self, flight: _Flight, now: float) -> None:
        """Give back what a request took that was cancelled before it went."""
        needs = self._needs(flight.input, flight.output)
        self._take({measure: -amount for measure, amount in needs.items()}, now)
        if self.learned.bucket is not None:
            self.learned.bucket.take(-1.0, now)


def _corrected(share: float, used: float, expected: float) -> float:
    """The running mean of what is used of what was expected, after one more; `expected` holds the mean till now."""
    return share + (share * used / expected - share) * _SMOOTH if expected else share
