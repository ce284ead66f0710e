"""The provider's own bill never passes the limit, whatever goes wrong: proved against its count, not against ours."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from harness.clients import Limits, Price, Request, RetryPolicy, RunBudget, assemble, connect
from harness.errors import ClientError, TaskError
from harness.questions.messages import Message
from harness.runs.directory import JOURNAL
from harness.runs.failpoints import VARIABLE
from harness.runs.journal import Journal
from harness.runs.running import conduct
from harness.task import load_task
from harness.testing import Answer, FakeProvider, ProviderProcess, storm
from harness.testing.bill import Price as Billed

pytestmark = pytest.mark.anyio

PRICE = Price(input=3.0, output=15.0)
BILLED = Billed(input=3.0, output=15.0)
WORDS = ("plain words", "漢字かな交じり文、", "\U0001f600\U0001f9ea", "Ελληνικά", 'quotes "\\" and\n')


def requests(count: int, seed: int = 0) -> list[Request]:
    """Requests in many scripts, of many lengths and limits."""
    rng = random.Random(seed)

    def text() -> str:
        return "".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 40)))

    return [
        Request((Message("system", text()), Message("user", f"{n} {text()}")), rng.choice((5, 50, 400)))
        for n in range(count)
    ]


def answer(messages: Any, body: Any) -> Answer:
    """Says too much, so that only the limit of the request ends it."""
    return Answer("漢字 and words " * 60)


async def ask_all(url: str, wanted: list[Request], journal: Journal, dollars: float) -> dict[str, int]:
    """Ask them all at once, 200 in flight; how each ended."""
    ended: dict[str, int] = {}
    client = connect("openai-api/bill/m", {"base_url": url, "timeout": 0.5, "logprobs": False})
    budget = RunBudget(dollars, spent=journal.spent())
    policy = RetryPolicy(first=0.001, longest=0.002)
    layered = assemble(client, journal, limits=Limits(200), budget=budget, price=PRICE, policy=policy)

    async def one(request: Request) -> None:
        try:
            await layered.generate(request)
            kind = "ok"
        except ClientError as error:
            kind = type(error).__name__
        ended[kind] = ended.get(kind, 0) + 1

    try:
        async with anyio.create_task_group() as group:
            for request in wanted:
                group.start_soon(one, request)
    finally:
        await layered.aclose()
    return ended


@pytest.mark.parametrize("seed", range(3))
async def test_the_bill_stays_below_the_limit_in_a_storm_of_lost_replies(tmp_path: Path, seed: int) -> None:
    faults = storm(0.4, ["reset_mid_body", "malformed", "html", "hang", "server_error", "rate_limit"], seed)
    provider = FakeProvider(answer, faults=faults, tokens="bytes", reasoning=20, prices={"*": BILLED}, delay=0.001)
    limit = 0.5
    async with provider, Journal(tmp_path / "j") as journal:
        ended = await ask_all(provider.openai_url, requests(400, seed), journal, limit)
        assert sum(ended.values()) == 400
        assert ended["OverBudget"] > 0
        assert ended["ok"] > 0
        # not one token beyond, and the limit was worth having
        assert 0.3 * limit < provider.bill.dollars <= limit
    with closing(Journal(tmp_path / "j")) as journal:
        spent = journal.spent()
        assert spent.dollars is not None
        assert provider.bill.dollars <= spent.dollars <= limit


SPENDER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_spending import Journal, ask_all, requests

async def main():
    async with Journal(Path({path!r})) as journal:
        await ask_all({url!r}, requests(3000), journal, {limit})

asyncio.run(main())
print("done")
"""
KILLS = ("intent-written:300", "reply-received:60", "reply-committed:90", "intent-written:250", "")


@pytest.mark.slow
def test_the_bill_stays_below_the_limit_through_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 12.0
    options = ["--tokens", "bytes", "--price", "m=3,15", "--delay", "0.02", "--answer", "test_spending:answer"]
    faults = ["--fault", "reset_mid_body", "--fault", "malformed", "--share", "0.2"]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with ProviderProcess(*options, *faults) as provider:
        code = SPENDER.format(
            tests=str(Path(__file__).parent), path=str(tmp_path / "j"), url=provider.openai_url, limit=limit
        )
        for point in KILLS:
            environment = {**os.environ, VARIABLE: point}
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True
            )
            if point:
                assert done.returncode == -signal.SIGKILL, done.stderr
            else:
                assert done.stdout.strip() == "done", done.stderr
        with urllib.request.urlopen(f"{provider.url}/bill") as reply:
            bill = json.loads(reply.read())
    with closing(Journal(tmp_path / "j")) as journal:
        spent, attempts = journal.spent(), list(journal.attempts())
    # each kill left some of which nothing was ever learned
    assert sum(attempt.outcome is None for attempt in attempts) > len(KILLS) - 1
    assert spent.dollars is not None
    assert 0.3 * limit < bill["dollars"] <= spent.dollars <= limit


async def test_a_run_stops_at_its_limit_and_goes_on_with_a_higher_one(
    remote_task: Callable[..., Path], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    prices = {name: {"price": {"input": 1.0, "output": 10.0}, "logprobs": True} for name in _MODELS}
    path = remote_task(model=prices, limits={"spend": 0.02})
    async with FakeProvider() as provider:
        point_at(provider)
        stopped = await conduct(load_task(path), tmp_path / "run")
        assert stopped.stopped_by is not None
        assert "of $0.02 are spent" in stopped.stopped_by
        assert stopped.statuses["over_budget"] >= 1
        assert provider.bill.dollars <= 0.02
        before = provider.bill.generations
        whole = await conduct(load_task(path, ["limits.spend=5.0"]), tmp_path / "run")
        assert whole.stopped_by is None
        assert set(whole.statuses) == {"ok"}
        assert provider.bill.generations > before
        # what was paid for before the stop was not asked for again
        assert max(provider.counts.values()) == 1
    with closing(Journal(tmp_path / "run" / JOURNAL)) as journal:
        spent = journal.spent()
        assert spent.dollars == pytest.approx(provider.bill.dollars)
        assert spent.tokens == sum(
            getattr(provider.bill, part) for part in ("input", "output", "cache_read", "cache_write")
        )
        stages = {attempt.stage for attempt in journal.attempts()}
        assert stages == {"explain", "score"}
        assert all(attempt.arm for attempt in journal.attempts())


_MODELS = ("openai-api/fake/explainer", "openai-api/fake/judge")


async def test_a_limit_of_dollars_without_a_price_is_refused_before_anything_is_sent(
    remote_task: Callable[..., Path], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        with pytest.raises(TaskError, match=r"limits.spend: no price is known for openai-api/fake/explainer"):
            await conduct(load_task(remote_task(limits={"spend": 1.0})), tmp_path / "run")
        assert provider.requests == []
