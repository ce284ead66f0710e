"""How well the limits keep to a provider's rate that it does not tell, and to one that is known.

`python -m benchmarks.rate_limit [--rate N] [--requests N] [--latency S] [--rounds N]`

The fake provider, in a process of its own, takes `rate` requests a second and as many at once after a pause; it
answers others with 429 and a Retry-After of whole seconds, and sends no headers on limits. All requests are wanted at
once, by as many tasks, through the official SDK and every layer. Once the rate is not known; once it is in the
settings. Every round runs alone in a process of its own; CPU seconds and peak memory are the system's (`getrusage`).
Medians over the rounds; the last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import anyio

from benchmarks.measuring import Clock, alone, peak
from harness.clients import Limits, MemoryKeeper, Remote, Request, assemble, connect
from harness.errors import ClientError
from harness.questions.messages import Message
from harness.testing import ProviderProcess

# requests that may be in flight: more than the provider serves in any case
_MOST = 500


@dataclass(frozen=True)
class Size:
    """What is measured on: the provider's requests a second and seconds a reply, and how many requests are wanted."""

    rate: int
    requests: int
    latency: float

    @property
    def ideal(self) -> float:
        """Seconds that all requests take at best."""
        return (self.requests - self.rate) / self.rate + self.latency


def measured(size: Size, *, known: bool) -> dict[str, float]:
    """One round: its seconds, calls, refusals and failures, and what it took of this machine."""
    arguments = ["--rate", str(size.rate), "--burst", str(size.rate), "--delay", str(size.latency)]
    with ProviderProcess(*arguments) as provider:
        os.environ |= {"FAKE_BASE_URL": provider.openai_url, "FAKE_API_KEY": "none"}
        before = peak()
        with Clock() as clock:
            seconds, failed = asyncio.run(_round(size, known=known))
        memory = peak() - before
        statuses = {int(status): count for status, count in provider.bill()["statuses"].items()}
    return {
        "seconds": seconds,
        "failed": failed,
        "calls": sum(statuses.values()),
        "refused": statuses.get(429, 0),
        "cpu": clock.cpu,
        "memory": memory / 2**20,
    }


async def _round(size: Size, *, known: bool) -> tuple[float, int]:
    remote = connect("openai-api/fake/model")
    assert isinstance(remote, Remote)
    limits = Limits(_MOST)
    # the first to ask for a gate decides how much it lets through
    limits.gate(remote.account, remote.model, requests_per_minute=60 * size.rate if known else None)
    client = assemble(remote, MemoryKeeper(), limits=limits)
    failed = 0

    async def one(number: int) -> None:
        nonlocal failed
        try:
            await client.generate(Request((Message("user", f"Say {number}."),), max_tokens=20))
        except ClientError:
            failed += 1

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for number in range(size.requests):
            group.start_soon(one, number)
    seconds = time.perf_counter() - began
    await client.aclose()
    return seconds, failed


def _figures(size: Size, rounds: Sequence[dict[str, float]], suffix: str) -> dict[str, float]:
    def median(key: str) -> float:
        return statistics.median(one[key] for one in rounds)

    return {
        f"time_over_ideal{suffix}": median("seconds") / size.ideal,
        f"rate_limited_share{suffix}": statistics.median(one["refused"] / one["calls"] for one in rounds),
        f"failed{suffix}": sum(one["failed"] for one in rounds),
        f"seconds{suffix}": median("seconds"),
        f"calls{suffix}": median("calls"),
        f"cpu_ms_per_request{suffix}": 1000 * median("cpu") / size.requests,
        f"memory_mb{suffix}": median("memory"),
    }


def main() -> None:
    """Measure, print a table and a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rate_limit", description=__doc__)
    parser.add_argument("--rate", type=int, default=100, help="requests a second, and at once after a pause")
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that a reply takes")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    size = Size(given.rate, given.requests, given.latency)
    found: dict[str, list[dict[str, float]]] = {"": [], "_known": []}
    for _ in range(given.rounds):
        for suffix, rounds in found.items():
            rounds.append(alone(measured, size, known=suffix == "_known"))
    told = {name: value for suffix, rounds in found.items() for name, value in _figures(size, rounds, suffix).items()}
    for name, value in told.items():
        print(f"{name:28} {value:,.3f}" if isinstance(value, float) else f"{name:28} {value:,}")
    print(json.dumps({"benchmark": "rate_limit", **asdict(size), "rounds": given.rounds, **told}))


if __name__ == "__main__":
    sys.exit(main())
