"""What tests of clients share: requests, keys, a clock that only moves when everybody waits."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from harness.clients import Request
from harness.questions.messages import Message

OPENAI_KEY = "sk-proj-Zk3v9QxT7bLw2RfYc8HdNs5JgPa1MuEo"
ANTHROPIC_KEY = "sk-ant-api03-Wq6tBz1XnKe4VhRj9SyLd0CpFm7UgAi"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", ANTHROPIC_KEY)


@pytest.fixture
def ask() -> Callable[..., Request]:
    def make(text: str = "hello", **options: object) -> Request:
        return Request((Message("user", text),), **({"max_tokens": 50} | options))  # type: ignore[arg-type] - test data

    return make


class VirtualClock:
    """Time that stands still while anybody works and jumps to the next wake-up when all sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self._waking: list[tuple[float, int, anyio.Event]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        event = anyio.Event()
        heapq.heappush(self._waking, (self.now + seconds, next(self._order), event))
        await event.wait()

    async def run(self) -> None:
        """Drive the clock; cancelled by its task group when the test is over."""
        while True:
            await anyio.wait_all_tasks_blocked()
            if self._waking:
                self.now, _, event = heapq.heappop(self._waking)
                event.set()
            await anyio.lowlevel.checkpoint()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()
