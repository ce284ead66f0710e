"""What asking a model costs through every layer, beside the bare SDK, the SDK's usual call and plain aiohttp.

`python -m benchmarks.clients [--requests N] [--in-flight N] [--rounds N] [--folder DIR]`

A fake provider in a process of its own answers each request after 50 ms. Prompts of some 4 kB are sent, each its own,
500 at once: through connect and assemble with a journal on disk (every reply committed), through the same SDK's bare
`client.post` (nothing parsed), through its `chat.completions.create`, and through aiohttp; then again with the logprobs
of 11 and of 220 tokens. The process looks for reference cycles as rarely as `harness run` does, for all ways alike. The
ways take turns within a round, in an order that turns too; CPU seconds are the system's (`getrusage`, all threads),
ratios are taken within a round, and what is told is the median over the rounds. Added latency is what a request takes
beyond the 50 ms, at 200 requests a second. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import numpy as np
import openai

from benchmarks.measuring import cpu, peak, turned
from harness.cli.memory import collect_rarely
from harness.clients import Client, Limits, Price, Request, RunBudget, assemble, connect
from harness.questions.messages import Message
from harness.runs.journal import Journal
from harness.testing import ProviderProcess

_DELAY = 0.05
# as long as keys of OpenAI are: each reply is searched for it
_KEY = "sk-proj-" + "aB3dE5gH1jK" * 14
# a judge's prompt: instructions and worked examples that are the same for all, then the question
_SYSTEM = "You judge whether a pattern is present in passages of text. " * 20
_SHOTS = tuple(
    Message(role, f"Worked example {number}: " + "some words of a passage " * 12)
    for number in range(3)
    for role in ("user", "assistant")
)
_PRICE = Price(input=1.0, output=5.0)
_ANSWERS = {None: "labels_11", 11: "labels_11", 220: "labels_220"}

Ask = Callable[[Request], Awaitable[Any]]


@dataclass
class Way:
    """One way of asking, open; `close` frees what it holds."""

    ask: Ask
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)


def requests(count: int, mark: str, logprobs: int | None) -> list[Request]:
    """Requests that differ in their last message."""
    return [
        Request(
            (Message("system", _SYSTEM), *_SHOTS, Message("user", f"{mark} {n}: " + "a passage to be judged, " * 40)),
            300,
            temperature=0.0,
            top_logprobs=None if logprobs is None else 5,
        )
        for n in range(count)
    ]


def body(request: Request) -> dict[str, Any]:
    """The same request as a plain body."""
    made: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    return made if request.top_logprobs is None else made | {"logprobs": True, "top_logprobs": request.top_logprobs}


async def through_harness(url: str, at_once: int, folder: Path) -> tuple[Way, Client]:
    """Every layer, with a journal on disk and a budget that is kept."""
    way = Way(_nothing)
    path = Path(tempfile.mkdtemp(dir=folder)) / "journal.sqlite"
    journal = await way.stack.enter_async_context(Journal(path))
    client = connect("openai-api/bench/m", {"base_url": url, "requests": at_once, "logprobs": True})
    layered = assemble(client, journal, limits=Limits(at_once), budget=RunBudget(1e6), price=_PRICE)
    way.stack.push_async_callback(layered.aclose)
    way.ask = layered.generate
    return way, layered


def _sdk(url: str, at_once: int) -> openai.AsyncOpenAI:
    limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    transport = openai.DefaultAioHttpClient(limits=limits)
    return openai.AsyncOpenAI(base_url=url, api_key=_KEY, max_retries=0, http_client=transport, timeout=60)


async def through_bare_sdk(url: str, at_once: int, folder: Path) -> Way:  # noqa: ARG001 - as the others
    """The SDK's `client.post`; nothing of the reply is read."""
    client = _sdk(url, at_once)

    async def ask(request: Request) -> None:
        await client.post("/chat/completions", body=body(request), cast_to=httpx2.Response)

    return _closing(ask, client.close)


async def through_sdk_create(url: str, at_once: int, folder: Path) -> Way:  # noqa: ARG001
    """The SDK's usual call."""
    client = _sdk(url, at_once)

    async def ask(request: Request) -> None:
        await client.chat.completions.create(**body(request))

    return _closing(ask, client.close)


async def through_aiohttp(url: str, at_once: int, folder: Path) -> Way:  # noqa: ARG001
    """No SDK at all; the body of the reply is read as bytes."""
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once))

    async def ask(request: Request) -> None:
        async with session.post(f"{url}/chat/completions", json=body(request)) as response:
            await response.read()

    return _closing(ask, session.close)


async def _nothing(_: Request) -> None: ...


def _closing(ask: Ask, close: Callable[[], Awaitable[None]]) -> Way:
    way = Way(ask)
    way.stack.push_async_callback(close)
    return way


async def _harness(url: str, at_once: int, folder: Path) -> Way:
    return (await through_harness(url, at_once, folder))[0]


_WAYS = {
    "harness": _harness,
    "bare": through_bare_sdk,
    "aiohttp": through_aiohttp,
    "create": through_sdk_create,
}


async def throughput(way: Way, wanted: list[Request], at_once: int) -> tuple[float, float]:
    """Seconds and CPU seconds of all requests with so many in flight."""
    waiting = iter(wanted)

    async def worker() -> None:
        for request in waiting:
            await way.ask(request)

    began, used = time.perf_counter(), cpu()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    return time.perf_counter() - began, cpu() - used


async def latency(way: Way, wanted: list[Request], rate: float) -> float:
    """The 99th percentile of the seconds beyond the provider's own, at so many requests a second."""
    added: list[float] = []

    async def one(request: Request) -> None:
        began = time.perf_counter()
        await way.ask(request)
        added.append(time.perf_counter() - began - _DELAY)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for n, request in enumerate(wanted):
            await asyncio.sleep(max(0.0, began + n / rate - time.perf_counter()))
            group.create_task(one(request))
    return float(np.quantile(added, 0.99))


async def remembered(url: str, at_once: int, folder: Path, count: int) -> float:
    """Replies a second that are in the journal already."""
    way, client = await through_harness(url, at_once, folder)
    async with way.stack:
        wanted = requests(count, "again", 11)
        await throughput(way, wanted, at_once)
        again = requests(count, "again", 11)
        began = time.perf_counter()
        for request in again:
            await client.generate(request)
        return count / (time.perf_counter() - began)


async def one_round(turn: int, urls: dict[int | None, str], given: argparse.Namespace) -> dict[str, float]:
    """Each way once, in an order that turns with the round."""
    found: dict[str, float] = {}
    folder = Path(given.folder)
    cases = [(way, None) for way in _WAYS] + [(way, n) for n in (11, 220) for way in ("harness", "bare")]
    for name, logprobs in turned(cases, turn):
        way = await _WAYS[name](urls[logprobs], given.in_flight, folder)
        async with way.stack:
            mark = f"{name} {logprobs} {turn}"
            # connections are made and what is imported late is imported before anything is measured
            await throughput(way, requests(given.in_flight, f"first {mark}", logprobs), given.in_flight)
            count = given.requests if logprobs != 220 else given.requests // 2
            seconds, used = await throughput(way, requests(count, mark, logprobs), given.in_flight)
        key = name if logprobs is None else f"{name}_{logprobs}"
        found[f"{key}_cpu_ms"] = 1000 * used / count
        found[f"{key}_rps"] = count / seconds
    for name in ("harness", "aiohttp"):
        way = await _WAYS[name](urls[None], given.in_flight, folder)
        async with way.stack:
            await throughput(way, requests(50, f"first late {name} {turn}", None), 50)
            found[f"{name}_p99"] = await latency(way, requests(given.paced, f"late {name} {turn}", None), 200.0)
    found["cached"] = await remembered(urls[11], given.in_flight, folder, 1000)
    return found


def _figures(rounds: list[dict[str, float]]) -> dict[str, float]:
    def ratio(one: str, other: str) -> float:
        return statistics.median(found[one] / found[other] for found in rounds)

    def median(name: str) -> float:
        return statistics.median(found[name] for found in rounds)

    return {
        "requests_per_s": median("harness_rps"),
        "cpu_ms_per_request": median("harness_cpu_ms"),
        "cpu_over_bare_sdk": ratio("harness_cpu_ms", "bare_cpu_ms"),
        "cpu_over_bare_sdk_logprobs": ratio("harness_11_cpu_ms", "bare_11_cpu_ms"),
        "cpu_over_bare_sdk_logprobs_220": ratio("harness_220_cpu_ms", "bare_220_cpu_ms"),
        "cpu_over_aiohttp": ratio("harness_cpu_ms", "aiohttp_cpu_ms"),
        "cpu_over_plain_sdk_create": ratio("harness_cpu_ms", "create_cpu_ms"),
        "cached_per_s": median("cached"),
        "added_p99_ms": 1000 * median("harness_p99"),
        "added_p99_over_aiohttp": ratio("harness_p99", "aiohttp_p99"),
        "bare_sdk_cpu_ms": median("bare_cpu_ms"),
        "memory_mb": peak() / 2**20,
    }


def main() -> None:
    """Measure, print a table and a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("--requests", type=int, default=3_000)
    parser.add_argument("--in-flight", type=int, default=500)
    parser.add_argument("--paced", type=int, default=600, help="requests sent at 200 a second")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", help="where journals go; a temporary folder if not given")
    given = parser.parse_args()
    rounds = []
    os.environ["BENCH_API_KEY"] = _KEY
    # as `harness run` does; it helps every way
    collect_rarely()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, _Servers() as urls:
        given.folder = folder
        for turn in range(given.rounds):
            rounds.append(asyncio.run(one_round(turn, urls, given)))
    told = _figures(rounds)
    for name, value in told.items():
        print(f"{name:34} {value:,.3f}")
    settings = {"requests": given.requests, "in_flight": given.in_flight, "rounds": given.rounds}
    print(json.dumps({"benchmark": "clients", **settings, **told}))


class _Servers:
    """A provider for each kind of reply, as what `logprobs` its replies have -> its address."""

    def __init__(self) -> None:
        self._servers = {
            kind: ProviderProcess("--canned", "--delay", str(_DELAY), "--answer", answer)
            for kind, answer in _ANSWERS.items()
        }

    def __enter__(self) -> dict[int | None, str]:
        for server in self._servers.values():
            server.__enter__()
        return {kind: server.openai_url for kind, server in self._servers.items()}

    def __exit__(self, *exception: Any) -> None:
        for server in self._servers.values():
            server.__exit__(*exception)


if __name__ == "__main__":
    sys.exit(main())
