"""A provider at its worst: a third of its replies are bad in every way there is, and the harness dies in between."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import anyio
import pytest

from harness.clients import Client, Limits, Price, Reply, Request, RetryPolicy, assemble, connect
from harness.errors import AccountError, ClientError, QuotaExhausted
from harness.questions.messages import Message
from harness.runs.failpoints import POINTS, VARIABLE
from harness.runs.journal import Journal
from harness.testing import FakeProvider, Fault, Received, storm
from harness.testing import Price as ServerPrice
from harness.testing.faults import ERRORS, FaultKind
from harness.testing.rate import RetryForm
from harness.values import digest

pytestmark = pytest.mark.anyio

CHAT, MESSAGES = "openai-api/fake/stormy", "anthropic/claude-haiku-4-5"
# what ends a whole account, and is told once
ACCOUNT: tuple[FaultKind, ...] = (
    "billing_limit",
    "credit_balance",
    "echo_key_error",
    "not_found",
    "payment_required",
    "quota",
    "unauthorized",
)
OTHERS: tuple[FaultKind, ...] = tuple(kind for kind in get_args(FaultKind) if kind not in ACCOUNT)
# what may be tried again
TRANSIENT = (
    "hang",
    "html",
    "malformed",
    "overloaded",
    "rate_limit",
    "reset",
    "reset_mid_body",
    "server_error",
    "unavailable",
)
POLICY = RetryPolicy(attempts=4, timeouts=1, first=0.01, longest=0.05)
# long enough that a busy machine meets only the hangs
SETTINGS = {"timeout": 1.5}
QUICK: tuple[RetryForm, ...] = ("decimals", "milliseconds", "iso", "duration")


def request_of(number: int, name: str) -> Request:
    """The n-th request to a model; every second one to a chat model asks for logprobs."""
    top = 5 if name == CHAT and number % 2 else None
    return Request((Message("user", f"Is 漢字 number {number} odd?"),), 60, top_logprobs=top)


class Weather:
    """A storm that notes what each request met; one request in ten never gets through."""

    def __init__(self, share: float, kinds: Sequence[FaultKind], forms: Sequence[RetryForm] = QUICK) -> None:
        self._storm = storm(share, kinds, 3, forms=forms, delay=0.05)
        self._always = storm(1.0, [kind for kind in kinds if kind in TRANSIENT and kind != "rate_limit"], 4)
        self.met: dict[str, list[str | None]] = defaultdict(list)
        self.calm = True

    def __call__(self, received: Received) -> Fault | None:
        lost = int(received.digest[:4], 16) % 10 == 0
        fault = None if self.calm else (self._always if lost else self._storm)(received)
        self.met[received.digest].append(None if fault is None else fault.kind)
        return fault


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeProvider], None]:
    def point(provider: FakeProvider) -> None:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)

    return point


async def ask_all(client: Client, requests: Sequence[Request]) -> list[Reply | ClientError]:
    """What each request ended in; any other exception than a client's error ends the test."""
    ends: dict[int, Reply | ClientError] = {}

    async def one(number: int) -> None:
        try:
            ends[number] = await client.generate(requests[number])
        except ClientError as error:
            ends[number] = error

    async with anyio.create_task_group() as group:
        for number in range(len(requests)):
            group.start_soon(one, number)
    return [ends[number] for number in range(len(requests))]


async def weathered(
    path: Path, point_at: Callable[[FakeProvider], None], count: int, forms: Sequence[RetryForm]
) -> Counter[str]:
    """Ask both protocols through a storm, check all counts, and give how often each fault was met."""
    weather = Weather(1 / 3, OTHERS, forms)
    price, server_price = Price(input=1, output=10), ServerPrice(1, 10)
    async with FakeProvider(lambda *_: "Well, 1", faults=weather, tokens="bytes", prices={"*": server_price}) as provider:  # fmt: skip  # noqa: E501
        point_at(provider)
        async with Journal(path) as journal:
            limits = Limits()
            bare = {name: connect(name, SETTINGS) for name in (CHAT, MESSAGES)}
            clients = {name: assemble(c, journal, limits=limits, price=price, policy=POLICY) for name, c in bare.items()}  # fmt: skip  # noqa: E501
            # one good reply with logprobs: else a first one without is taken for what the model does
            await clients[CHAT].generate(request_of(1, CHAT))
            weather.calm = False
            asked = {name: [request_of(n, name) for n in range(2, count)] for name in clients}
            ends: dict[str, list[Reply | ClientError]] = {}

            async def ask(name: str) -> None:
                ends[name] = await ask_all(clients[name], asked[name])

            async with anyio.create_task_group() as group:
                for name in clients:
                    group.start_soon(ask, name)
            for client in clients.values():
                await client.aclose()
        attempts = list(Journal(path).attempts())
        kept = {reply.key for reply in Journal(path).replies()}
        by_request = Counter(attempt.request for attempt in attempts)
        # the same number of attempts on both sides, for each request and in all
        assert len(attempts) == len(provider.requests)
        assert all(attempt.outcome is not None for attempt in attempts)
        for name, requests in asked.items():
            for request, end in zip(requests, ends[name], strict=True):
                wire = bare[name].wire(request)
                met = weather.met[digest(wire.data()["body"])]
                assert by_request[wire.key(0)[:24]] == len(met)
                assert (wire.key(0) in kept) == isinstance(end, Reply)
                _check_policy(met, end)
        assert sum(attempt.outcome == "ok" for attempt in attempts) == len(kept)
        # nothing that the server charged is missing here
        spent, bill = Journal(path).spent(), provider.bill
        assert spent.tokens >= bill.input + bill.output + bill.cache_read + bill.cache_write
        assert spent.dollars is not None
        assert spent.dollars >= bill.dollars - 1e-9
        assert bill.generations == sum(kind not in ERRORS for met in weather.met.values() for kind in met)
    return Counter(kind for met in weather.met.values() for kind in met if kind is not None)


def _check_policy(met: Sequence[str | None], end: Reply | ClientError) -> None:
    """A request is sent again after what may pass, as often as the policy says, and never after anything else."""
    assert met
    assert all(kind in TRANSIENT for kind in met[:-1])
    counted = [kind for kind in met if kind in TRANSIENT and kind != "rate_limit"]
    assert len(counted) <= POLICY.attempts
    assert met.count("hang") <= POLICY.timeouts + 1
    if isinstance(end, ClientError) and met[-1] in TRANSIENT:
        assert len(counted) == POLICY.attempts or met.count("hang") == POLICY.timeouts + 1
    if met[-1] is None:
        assert isinstance(end, Reply)


async def test_every_request_through_a_storm_ends_in_a_reply_or_a_typed_failure(
    tmp_path: Path, point_at: Callable[[FakeProvider], None]
) -> None:
    met = await weathered(tmp_path / "journal.sqlite", point_at, 60, QUICK)
    assert met.total() > 30


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_long_storm_holds_every_fault_there_is(
    tmp_path: Path, point_at: Callable[[FakeProvider], None]
) -> None:
    met = await weathered(tmp_path / "journal.sqlite", point_at, 500, (*QUICK, "seconds", "date", "none"))
    assert set(met) == set(OTHERS)


@pytest.mark.parametrize("kind", ACCOUNT)
@pytest.mark.parametrize("name", [CHAT, MESSAGES])
async def test_what_ends_an_account_ends_every_request_and_is_not_asked_again(
    kind: FaultKind, name: str, tmp_path: Path, point_at: Callable[[FakeProvider], None]
) -> None:
    async with FakeProvider(lambda *_: "1", faults=lambda received: Fault(kind) if received.number >= 5 else None) as provider:  # fmt: skip  # noqa: E501
        point_at(provider)
        async with Journal(tmp_path / "journal.sqlite") as journal:
            client = assemble(connect(name, SETTINGS | {"requests": 4}), journal, policy=POLICY)
            ends = await ask_all(client, [request_of(2 * n, name) for n in range(60)])
            await client.aclose()
    failures = [end for end in ends if not isinstance(end, Reply)]
    assert len(failures) == 55
    assert all(isinstance(end, AccountError) for end in failures)
    if kind in ("billing_limit", "credit_balance", "payment_required", "quota"):
        assert any(isinstance(end, QuotaExhausted) for end in failures)
    # those under way when the first was told, and no more
    assert len(provider.requests) <= 5 + 4


# asks until all requests have ended, with the layers and the journal of a run
ASKER = """
import sys
from pathlib import Path
import anyio
sys.path.insert(0, sys.argv[1])
import test_storm as storm
from harness.clients import Limits, assemble, connect
from harness.runs.journal import Journal

async def main():
    async with Journal(Path(sys.argv[2])) as journal:
        client = assemble(connect(storm.CHAT, storm.SETTINGS), journal, limits=Limits(), policy=storm.POLICY)
        ends = await storm.ask_all(client, [storm.request_of(2 * n, storm.CHAT) for n in range(int(sys.argv[3]))])
        await client.aclose()
    sys.stdout.write(str(sum(not isinstance(end, Exception) for end in ends)))

anyio.run(main)
"""


async def _asked(path: Path, count: int, provider: FakeProvider, **environment: str) -> asyncio.subprocess.Process:
    told = {**os.environ, "FAKE_BASE_URL": provider.openai_url, **environment}
    command = ["-c", ASKER, str(Path(__file__).parent), str(path), str(count)]
    return await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE, env=told)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nothing_committed_is_asked_for_again_however_often_the_harness_dies_in_a_storm(tmp_path: Path) -> None:
    path, count = tmp_path / "journal.sqlite", 400
    weather = Weather(1 / 3, OTHERS)
    weather.calm = False
    doomed: list[tuple[int, int]] = []  # (requests left until, process)

    def answer(*_: object) -> str:
        if doomed:
            left, pid = doomed.pop()
            if left > 0:
                doomed.append((left - 1, pid))
            else:
                os.kill(pid, signal.SIGKILL)
        return "Well, 1"

    async with FakeProvider(answer, faults=weather, delay=0.002) as provider:
        committed: set[str] = set()
        deaths = [*({VARIABLE: f"{point}:30"} for point in POINTS if point != "unit-committed"), {}, {}, {}]
        for death in [*deaths, None]:
            begun = len(provider.requests)
            process = await _asked(path, count, provider, **(death or {}))
            if death == {}:
                doomed.append((40, process.pid))
            out, _ = await process.communicate()
            assert process.returncode == (0 if death is None else -signal.SIGKILL)
            doomed.clear()
            asked = {request.digest for request in provider.requests[begun:]}
            assert committed.isdisjoint(asked), "a committed reply was asked for again"
            kept = {reply.key: digest(reply.wire["body"]) for reply in Journal(path).replies()}
            committed = set(kept.values())
        attempts = list(Journal(path).attempts())
        # every request that arrived was written down before it was sent; a few were written down and never sent
        sent, written = Counter(request.digest for request in provider.requests), Counter(a.request for a in attempts)
        for key, body in kept.items():
            assert written[key[:24]] >= sent[body]
        unknown = sum(attempt.outcome is None for attempt in attempts)
        assert sent.total() <= written.total() <= sent.total() + unknown
        assert int(out) == len(committed) > count / 2
        assert unknown > 0
