"""Writing behind the subject's back: order, back-pressure, whose error is told, what is kept."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.subject.background import BackgroundWriter, full_disk_told


class Writer:
    """Stands in for a StoreWriter: notes what it is given, waits or fails when told to."""

    def __init__(self) -> None:
        self.appended: list[Any] = []
        self.flushed = 0
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.failure: BaseException | None = None

    def append(self, tokens: Any, documents: Any, rows: Any) -> None:
        self.gate.wait(10)
        if self.failure is not None:
            raise self.failure
        self.threads.add(threading.get_ident())
        self.appended.append(tokens)

    def flush(self) -> None:
        self.flushed += 1


def started(writer: Writer, ahead: int = 2) -> BackgroundWriter:
    return BackgroundWriter(writer, ahead)  # type: ignore[arg-type]  # the stand-in has what is used


def give(background: BackgroundWriter, number: int) -> None:
    background.append(number, None, {})  # type: ignore[arg-type]  # only handed on


def test_batches_arrive_in_order_on_another_thread_before_the_block_ends() -> None:
    writer = Writer()
    with started(writer) as background:
        for number in range(20):
            give(background, number)
    assert writer.appended == list(range(20))
    assert threading.get_ident() not in writer.threads
    assert len(writer.threads) == 1
    assert writer.flushed == 0


def test_no_more_than_a_few_batches_wait() -> None:
    writer = Writer()
    writer.gate.clear()
    handed: list[int] = []

    def produce() -> None:
        with started(writer) as background:
            for number in range(10):
                give(background, number)
                handed.append(number)
                if number == 2:
                    reached.set()

    reached = threading.Event()
    thread = threading.Thread(target=produce)
    thread.start()
    assert reached.wait(10)
    # one is with the writer, two wait, and the fourth cannot be handed over before the writer is through with one
    thread.join(0.2)
    assert handed == [0, 1, 2]
    writer.gate.set()
    thread.join(10)
    assert writer.appended == list(range(10))


def test_the_writers_failure_reaches_who_hands_over_and_nobody_waits_for_ever() -> None:
    writer = Writer()
    writer.failure = ValueError("rows do not fit")

    def hand_over_many() -> None:
        with started(writer, 1) as background:
            for number in range(100):
                give(background, number)

    with pytest.raises(ValueError, match="rows do not fit"):
        hand_over_many()
    assert writer.appended == []
    assert writer.flushed == 0


def test_a_failure_on_the_last_batch_is_raised_at_the_end() -> None:
    writer = Writer()
    writer.failure = ValueError("rows do not fit")
    with pytest.raises(ValueError, match="rows do not fit"), started(writer) as background:
        give(background, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_who_is_interrupted_leaves_everything_written(error: type[BaseException]) -> None:
    writer = Writer()

    def interrupted() -> None:
        with started(writer) as background:
            give(background, 0)
            give(background, 1)
            raise error

    with pytest.raises(error):
        interrupted()
    assert writer.appended == [0, 1]
    assert writer.flushed == 1
    assert "store-writer" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_in_a_sentence(number: int) -> None:
    with (
        pytest.raises(StoreError, match="s: the disk is full; free some space and do the same again"),
        full_disk_told(Path("s")),
    ):
        raise OSError(number, "no")
    with pytest.raises(PermissionError), full_disk_told(Path("s")):
        raise PermissionError
