"""The journal's pauses between commits, on a clock of their own."""

from __future__ import annotations

import pytest

from harness.runs.rhythm import Rhythm


def commits(rate: float, seconds: float, took: float) -> tuple[int, float]:
    """Operations at an even rate from writers of their own: commits a second, and the share of them after a pause."""
    now, pauses, count, done = 0.0, 0, 0, 0
    rhythm = Rhythm(now)
    while now < seconds:
        now = max(now, (done + 1) / rate) + rhythm.pause
        operations = max(1, int(now * rate) - done)
        if now > 0.5:  # the rate is known by then
            pauses += rhythm.pause > 0
            count += 1
        rhythm.gathered(operations, now)
        done += operations
        now += took
    return round(count / (now - 0.5)), pauses / count


@pytest.mark.parametrize("took", [0.0003, 0.003])
def test_many_writers_are_gathered(took: float) -> None:
    each_second, paused = commits(rate=3000, seconds=3, took=took)
    assert each_second <= 130
    assert paused > 0.9


@pytest.mark.parametrize("took", [0.0003, 0.003])
def test_few_writers_never_wait(took: float) -> None:
    assert commits(rate=600, seconds=3, took=took)[1] == 0


def test_a_burst_among_few_does_not_wait() -> None:
    rhythm = Rhythm(0.0)
    for burst in range(100):
        for number in range(30):
            rhythm.gathered(1, burst * 0.05 + number * 0.0001)
            assert rhythm.pause == 0.0


def test_one_writer_who_waits_for_each_commit_is_hardly_slowed() -> None:
    now, pauses, count = 0.0, 0.0, 0
    rhythm = Rhythm(now)
    while now < 3:
        pauses += rhythm.pause
        now += rhythm.pause
        rhythm.gathered(1, now)
        now += 0.0003
        count += 1
    assert pauses <= 0.02 * now
    assert count > 9000


def test_the_first_commit_does_not_wait() -> None:
    rhythm = Rhythm(5.0)
    assert rhythm.pause == 0.0
