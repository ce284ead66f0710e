"""The torch worker: one job at a time, in order, whoever asks and whoever leaves."""

from __future__ import annotations

import threading

import anyio
import pytest

from harness.subject.worker import Caller, CallerGone, TorchWorker, worker


@pytest.fixture
def thread() -> TorchWorker:
    return TorchWorker("test", waiting=2)


@pytest.mark.anyio
async def test_results_and_errors_come_back(thread: TorchWorker) -> None:
    assert await thread.call(lambda _: threading.current_thread().name) == "test-worker"
    with pytest.raises(ZeroDivisionError):
        await thread.call(lambda _: 1 // 0)
    assert thread.call_blocking(lambda _: 7) == 7
    with pytest.raises(ZeroDivisionError):
        thread.call_blocking(lambda _: 1 // 0)
    thread.close()


@pytest.mark.anyio
async def test_jobs_never_overlap_and_keep_their_order(thread: TorchWorker) -> None:
    running, most, order = 0, 0, []

    def job(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(number)
        running -= 1

    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(thread.call, lambda _, n=number: job(n))
    assert most == 1
    assert order == list(range(40))
    thread.close()


@pytest.mark.anyio
async def test_a_cancelled_caller_returns_at_once_and_frees_the_thread_for_nobody(thread: TorchWorker) -> None:
    began, go_on = threading.Event(), threading.Event()
    ended: list[str] = []

    def long(caller: Caller) -> None:
        began.set()
        go_on.wait(30)
        assert caller.gone
        ended.append("long")
        caller.check()
        ended.append("never")

    async with anyio.create_task_group() as group:
        group.start_soon(thread.call, long)
        await anyio.to_thread.run_sync(began.wait)
        group.cancel_scope.cancel()
    # the caller is gone and its job still runs: the next one waits for it
    async with anyio.create_task_group() as group:
        group.start_soon(thread.call, lambda _: ended.append("next"))
        await anyio.lowlevel.checkpoint()
        assert ended == []
        go_on.set()
    assert ended == ["long", "next"]
    thread.close()


@pytest.mark.anyio
async def test_a_job_whose_caller_left_before_its_turn_never_runs(thread: TorchWorker) -> None:
    hold = threading.Event()
    ran: list[str] = []
    async with anyio.create_task_group() as outer:
        outer.start_soon(thread.call, lambda _: hold.wait(30))
        async with anyio.create_task_group() as inner:
            inner.start_soon(thread.call, lambda _: ran.append("left"))
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            inner.cancel_scope.cancel()
        hold.set()
    await thread.call(lambda _: ran.append("stayed"))
    assert ran == ["stayed"]
    thread.close()


@pytest.mark.anyio
async def test_the_queue_is_bounded_and_waiting_for_it_can_be_cancelled(thread: TorchWorker) -> None:
    hold = threading.Event()
    ran: list[int] = []
    async with anyio.create_task_group() as group:
        group.start_soon(thread.call, lambda _: hold.wait(30))
        for number in range(5):
            group.start_soon(thread.call, lambda _, n=number: ran.append(n))
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.05) as scope:
            await thread.call(lambda _: ran.append(-1))
        assert scope.cancelled_caught
        # one runs and two wait; the others ask for a place
        assert thread._jobs.qsize() <= 2
        hold.set()
    assert ran == [0, 1, 2, 3, 4]
    assert thread._slots._free == 3
    thread.close()


def test_a_job_with_its_caller_gone_says_so() -> None:
    caller = Caller()
    caller.check()
    caller.leave()
    with pytest.raises(CallerGone):
        caller.check()


def test_a_device_has_one_worker_and_a_closed_one_takes_no_jobs() -> None:
    assert worker("cuda") is worker("cuda:0")
    assert worker("cpu") is not worker("cuda")
    mine = TorchWorker("closing")
    mine.close()
    mine.close()
    with pytest.raises(RuntimeError, match="closed"):
        mine.call_blocking(lambda _: 1)


def test_a_loop_that_ended_before_its_job_harms_nothing(thread: TorchWorker) -> None:
    hold = threading.Event()

    async def leave() -> None:
        with anyio.move_on_after(0.02):
            await thread.call(lambda _: hold.wait(30))

    anyio.run(leave)
    hold.set()
    assert thread.call_blocking(lambda _: "still here") == "still here"
    thread.close()
