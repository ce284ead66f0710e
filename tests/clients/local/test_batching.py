"""The line of requests before a model: who goes with whom, who leaves, and whose error is whose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clients.local.batching import Batches, around
from harness.subject.worker import TorchWorker

pytestmark = pytest.mark.anyio


class Echo:
    """Answers each text with itself in capitals, three to a batch; `steps` looks are taken in a batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.dropped: list[str] = []
        self.stepped = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def prepare(self, asked: str) -> str:
        if asked.startswith("bad"):
            raise ValueError(asked)
        return asked

    def choose(self, own: str, ready: Sequence[str]) -> Sequence[str]:
        return around(own, ready, len, rows=3, room=10**6)

    def work(self, batch: Sequence[str], left: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
        self.batches.append(list(batch))
        if any(text.startswith("break") for text in batch):
            raise RuntimeError("the model broke")
        for text in sorted(batch):
            self.stepped.set()
            self.go_on.wait(30)
            if left(text):
                self.dropped.append(text)
            else:
                yield text, text.upper()


@pytest.fixture
def thread() -> Iterator[TorchWorker]:
    thread = TorchWorker("batches", waiting=2)
    yield thread
    thread.close()


async def test_requests_that_start_together_go_together_with_those_of_their_size(thread: TorchWorker) -> None:
    echo = Echo()
    batches: Batches[str, str, str] = Batches(thread, lambda: echo)
    found: dict[str, str] = {}

    async def one(text: str) -> None:
        found[text] = await batches.ask(text)

    texts = [letter * size for size in (9, 1, 5) for letter in "abc"]
    async with anyio.create_task_group() as group:
        for text in texts:
            group.start_soon(one, text)
    assert found == {text: text.upper() for text in texts}
    assert sorted(sorted(batch) for batch in echo.batches) == sorted(
        [letter * size for letter in "abc"] for size in (1, 5, 9)
    )


async def test_a_request_that_cannot_be_prepared_fails_alone(thread: TorchWorker) -> None:
    echo = Echo()
    batches: Batches[str, str, str] = Batches(thread, lambda: echo)
    outcomes: dict[str, str] = {}

    async def one(text: str) -> None:
        try:
            outcomes[text] = await batches.ask(text)
        except ValueError as error:
            outcomes[text] = f"error {error}"

    async with anyio.create_task_group() as group:
        for text in ("bad1", "a", "bad2", "b"):
            group.start_soon(one, text)
    assert outcomes == {"bad1": "error bad1", "bad2": "error bad2", "a": "A", "b": "B"}


async def test_a_batch_that_breaks_tells_all_of_it_and_nobody_else(thread: TorchWorker) -> None:
    echo = Echo()
    batches: Batches[str, str, str] = Batches(thread, lambda: echo)
    outcomes: dict[str, str] = {}

    async def one(text: str) -> None:
        try:
            outcomes[text] = await batches.ask(text)
        except RuntimeError:
            outcomes[text] = "broken"

    async with anyio.create_task_group() as group:
        for text in ("break", "abcde", "abcdf", "a", "b", "c"):
            group.start_soon(one, text)
    assert outcomes == {"break": "broken", "abcde": "broken", "abcdf": "broken", "a": "A", "b": "B", "c": "C"}


async def test_a_kind_that_cannot_be_had_is_everybodys_error(thread: TorchWorker) -> None:
    def broken() -> Echo:
        raise OSError("no weights")

    batches: Batches[str, str, str] = Batches(thread, broken)
    errors: list[str] = []

    async def one() -> None:
        try:
            await batches.ask("a")
        except OSError as error:
            errors.append(str(error))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(one)
    assert errors == ["no weights"] * 5


async def test_those_who_stay_get_their_answers_when_the_one_whose_job_it_is_leaves(thread: TorchWorker) -> None:
    echo = Echo()
    echo.go_on.clear()
    batches: Batches[str, str, str] = Batches(thread, lambda: echo)
    found: dict[str, str] = {}
    left = anyio.Event()

    async def one(text: str, scope: anyio.CancelScope) -> None:
        with scope:
            found[text] = await batches.ask(text)
        if text == "own":
            left.set()

    scopes = {text: anyio.CancelScope() for text in ("own", "two", "six")}
    async with anyio.create_task_group() as group:
        for text, scope in scopes.items():
            group.start_soon(one, text, scope)
        await anyio.to_thread.run_sync(echo.stepped.wait)
        scopes["own"].cancel()
        await left.wait()
        assert echo.batches == [["own", "two", "six"]]
        echo.go_on.set()
    assert found == {"two": "TWO", "six": "SIX"}
    assert echo.dropped == ["own"]
    assert batches._line == {}


async def test_a_request_that_left_the_line_is_in_no_batch(thread: TorchWorker) -> None:
    echo = Echo()
    echo.go_on.clear()
    batches: Batches[str, str, str] = Batches(thread, lambda: echo)
    async with anyio.create_task_group() as outer:
        outer.start_soon(batches.ask, "first")
        await anyio.to_thread.run_sync(echo.stepped.wait)
        async with anyio.create_task_group() as inner:
            for number in range(6):
                inner.start_soon(batches.ask, f"left{number}")
            await anyio.wait_all_tasks_blocked()
            inner.cancel_scope.cancel()
        outer.start_soon(batches.ask, "second")
        await anyio.wait_all_tasks_blocked()
        echo.go_on.set()
    assert echo.batches == [["first"], ["second"]]


async def test_a_closed_worker_is_an_error_and_no_hang() -> None:
    thread = TorchWorker("closed")
    thread.close()
    batches: Batches[str, str, str] = Batches(thread, Echo)
    with pytest.raises(RuntimeError, match="closed"):
        await batches.ask("a")


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(0, 19), st.integers(1, 8), st.integers(1, 200)
)
def test_a_batch_holds_its_own_and_keeps_its_limits(sizes: list[int], at: int, rows: int, room: int) -> None:
    works = list(enumerate(sizes))
    own = works[at % len(works)]
    batch = around(own, works, lambda work: work[1], rows=rows, room=room)
    assert own in batch
    assert len(set(batch)) == len(batch) <= rows
    assert batch == [own] or len(batch) * max(size for _, size in batch) <= room
    # nobody left out is nearer in size than the farthest on the other side of it
    chosen = sorted(size for _, size in batch)
    assert chosen == sorted(sizes)[sorted(sizes).index(chosen[0]) :][: len(chosen)]
