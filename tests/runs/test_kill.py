"""A run that is killed, again and again, comes to what an undisturbed one comes to, and pays for nothing twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.runs.directory import JOURNAL
from harness.runs.failpoints import POINTS, VARIABLE
from harness.runs.journal import Journal
from harness.testing import FakeProvider, Received, by_keywords
from harness.values import digest

pytestmark = pytest.mark.anyio


@dataclass
class Server:
    """The provider that all runs here ask, and what it is to do as the n-th request from now comes."""

    received: list[Received] = field(default_factory=list)
    at: int | None = None
    do: Callable[[], None] | None = None

    def answer(self, messages: Any, body: Mapping[str, Any]) -> Any:
        if self.at is not None:
            self.at -= 1
            if self.at <= 0 and self.do is not None:
                self.at = None
                self.do()
        return by_keywords(messages, body)


@pytest.fixture
def task(remote_task: Callable[..., Path]) -> Path:
    return remote_task(
        latents={"sample": 3, "min_examples": 50},
        limits={"latents": 2, "requests": 4},
        explainer=[
            {"name": "a", "kind": "contexts", "model": "openai-api/fake/explainer"},
            {"name": "b", "kind": "contexts", "model": "anthropic/explainer"},
        ],
        scorer=[{"name": "detection", "kind": "detection", "model": "openai-api/fake/judge", "batch": 5}],
    )


def _committed(directory: Path) -> set[str]:
    """Digests of the bodies whose replies are committed."""
    if not (directory / JOURNAL).exists():
        return set()
    return {digest(reply.wire["body"]) for reply in Journal(directory / JOURNAL).replies()}


def _counts(provider: FakeProvider, start: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for request in provider.requests[start:]:
        found[request.digest] = found.get(request.digest, 0) + 1
    return found


class Trial:
    """One directory in which a run is killed and gone on with until it ends."""

    def __init__(self, starter: Any, provider: FakeProvider, server: Server, task: Path, out: Path) -> None:
        self._starter, self._provider, self._server = starter, provider, server
        self._task, self._out = task, out
        self._paid: set[str] = set()
        self._start = len(provider.requests)
        self.lost = 0

    async def go(self, **environment: str) -> int:
        """Run until it ends or dies; nothing paid for before is asked again, nothing twice within."""
        begun = len(self._provider.requests)
        self._pid = await self._starter.start(self._task, self._out, **environment)
        code = await self._starter.end()
        self._server.at = None
        asked = _counts(self._provider, begun)
        assert set(asked.values()) <= {1}
        assert self._paid.isdisjoint(asked), "a committed reply was asked for again"
        self._paid = _committed(self._out)
        # sent, and no reply committed: what was in flight
        self.lost += len(asked.keys() - self._paid)
        return code

    async def killed_at(self, request: int, delay: float, **environment: str) -> int:
        """Run; once the n-th request comes, kill the run so many seconds later."""

        def kill() -> None:
            asyncio.get_running_loop().call_later(delay, os.kill, self._pid, signal.SIGKILL)

        self._server.at, self._server.do = request, kill
        try:
            return await self.go(**environment)
        finally:
            self._server.do = None

    def extra(self) -> int:
        """Requests beyond one for each body."""
        counts = _counts(self._provider, self._start)
        return sum(counts.values()) - len(counts)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_killed_run_ends_as_an_undisturbed_one_and_pays_for_nothing_twice(
    task: Path, tmp_path: Path, results_of: Callable[[Path], set[tuple[str, str, str]]], starting: Callable[[], Any]
) -> None:
    draw = random.Random(20)
    server = Server()
    async with FakeProvider(server.answer, delay=0.004) as provider, starting() as starter:
        environment = {"FAKE_BASE_URL": provider.openai_url, "ANTHROPIC_BASE_URL": provider.url}

        def trial(name: str) -> Trial:
            return Trial(starter, provider, server, task, tmp_path / name)

        assert await trial("undisturbed").go(**environment) == 0
        wanted = results_of(tmp_path / "undisturbed")
        whole = len(provider.requests)
        # two explainers that say the same, each shuffled; scores of what they say, of the shuffle and of none
        assert len(wanted) == 3 * 4 + 3 * 3
        kills = 0
        for chain in range(4):
            mine = trial(f"random{chain}")
            for _ in range(5):
                code = await mine.killed_at(draw.randint(1, whole // 6), draw.uniform(0, 0.02), **environment)
                assert code == -signal.SIGKILL
                kills += 1
            assert await mine.go(**environment) == 0
            assert results_of(tmp_path / f"random{chain}") == wanted
            assert mine.extra() <= mine.lost
        assert kills == 20
        for point in POINTS:
            mine = trial(point)
            for count in (1, 2, 6):
                assert await mine.go(**environment, **{VARIABLE: f"{point}:{count}"}) == -signal.SIGKILL
            assert await mine.go(**environment) == 0
            assert results_of(tmp_path / point) == wanted
            assert mine.extra() <= mine.lost
            if point == "reply-received":
                assert mine.extra() > 0  # such a reply was paid for and lost: a kill can cost this much


async def test_the_directory_of_a_killed_run_is_free(
    task: Path, tmp_path: Path, results_of: Callable[[Path], set[tuple[str, str, str]]], starting: Callable[[], Any]
) -> None:
    """Its lock dies with it, though the note of who held it stays."""
    server = Server()
    async with FakeProvider(server.answer) as provider, starting() as starter:
        environment = {"FAKE_BASE_URL": provider.openai_url, "ANTHROPIC_BASE_URL": provider.url}
        mine = Trial(starter, provider, server, task, tmp_path / "run")
        assert await mine.go(**environment, **{VARIABLE: "unit-committed:1"}) == -signal.SIGKILL
        assert (tmp_path / "run" / "owner").exists()
        assert await mine.go(**environment) == 0
        assert not (tmp_path / "run" / "owner").exists()
