"""How benchmarks measure: CPU seconds and memory of a process, processes of their own, ways that take turns."""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clock", "Turns", "alone", "cpu", "in_turn", "peak", "turned"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Item = TypeVar("Item")


def cpu() -> float:
    """CPU seconds of this process, all threads, so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak() -> int:
    """The most bytes that this process has held in memory so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass
class Clock:
    """CPU seconds of what is done inside it."""

    cpu: float = 0.0

    def __enter__(self) -> Clock:
        self._start = cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu += cpu() - self._start


def alone(work: Callable[Parameters, Result], *given: Parameters.args, **named: Parameters.kwargs) -> Result:
    """Do the work in a process of its own, so that memory and what is imported are its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *given, **named).result()


def turned(items: Sequence[Item], turn: int) -> list[Item]:
    """The items in a cycle that begins one later each turn, so that none is always first."""
    first = turn % len(items)
    return [*items[first:], *items[:first]]


@dataclass(frozen=True)
class Turns:
    """CPU seconds of each way by round, and each way's last result."""

    seconds: Mapping[str, Sequence[float]]
    results: Mapping[str, NDArray[np.float64]]

    def ratios(self, way: str) -> dict[str, list[float]]:
        """This way's seconds over those of each way, round by round."""
        return {
            other: [own / theirs for own, theirs in zip(self.seconds[way], taken, strict=True)]
            for other, taken in self.seconds.items()
        }

    def medians(self) -> dict[str, float]:
        """CPU seconds of each way."""
        return {way: statistics.median(taken) for way, taken in self.seconds.items()}

    def apart(self, way: str) -> float:
        """How far any result is from this way's, at most."""
        return max(float(np.abs(found - self.results[way]).max()) for found in self.results.values())


def in_turn(ways: Mapping[str, Callable[[], NDArray[np.float64]]], rounds: int) -> Turns:
    """Do all ways in each round, in an order that turns with it."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    results: dict[str, NDArray[np.float64]] = {}
    for turn in range(rounds):
        for way in turned(list(ways), turn):
            with Clock() as clock:
                results[way] = ways[way]()
            seconds[way].append(clock.cpu)
    return Turns(seconds, results)
