"""How small and fast the journal is, beside plain SQLite that commits one unit at a time, in the same run.

`python -m benchmarks.journal [--units N] [--plain N] [--examples N] [--batch N] [--rounds N]`

Units are as a run writes them: explanations and scores with verdicts and probabilities, one explanation to two scores,
written by concurrent tasks. The resume is the conductor's own: it is given a finished journal and finds all done.
Every measurement runs alone in a process of its own: CPU seconds and peak memory are the system's (`getrusage`).
Medians over the rounds; the last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import anyio
import numpy as np

from benchmarks.measuring import Clock, alone, peak
from harness.runs.arms import ExplanationArm, ScoreArm
from harness.runs.conductor import Conductor
from harness.runs.journal import Journal
from harness.runs.journal_rows import Unit
from harness.runs.keys import explanation_key, score_key
from harness.runs.outcomes import explanation_unit, score_unit
from harness.runs.progress import Silent
from harness.runs.stop import Stop
from harness.runs.units import Plan
from harness.scorers.base import Scored
from harness.scorers.judging import figures
from harness.scorers.verdicts import Verdicts
from harness.task import Task
from harness.values import Explanation, Latent, Usage, digest

# tasks that write at once, as the arms of the latents in flight do
_WRITERS = 64
_CODER = "words"
_EXPLAINING = ExplanationArm("mini", None, _CODER, digest("explainer"))
_SCORING = tuple(
    ScoreArm(name, "openai/m", "default", "random", _CODER, digest(name)) for name in ("detection", "fuzzing")
)
_PLAN = Plan({}, {}, (_EXPLAINING,), _SCORING)


@dataclass(frozen=True)
class Size:
    """What is measured on: units in the journal and beside it, examples a score, examples a prompt."""

    units: int
    plain: int
    examples: int
    batch: int

    @property
    def latents(self) -> int:
        """Each has an explanation and a score by each scorer."""
        return self.units // (1 + len(_SCORING))


def units(size: Size, first: int, stop: int) -> list[Unit]:
    """The units of latents `first` to `stop`, made up, of the size of real ones."""
    return [unit for latent in range(first, stop) for unit in _units_of(size, latent)]


def _units_of(size: Size, latent: int) -> list[Unit]:
    draw = np.random.default_rng(latent)
    explanation = _words(draw)
    usage = Usage(input=int(draw.integers(2000, 4000)), output=int(draw.integers(20, 200)), requests=1)
    who = Latent(_CODER, latent)
    key = explanation_key(_EXPLAINING, latent)
    made = [explanation_unit(key, _EXPLAINING, who, explanation, (digest([latent]),), usage)]
    for arm in _SCORING:
        replies = tuple(digest([latent, arm.scorer, number]) for number in range(-(-size.examples // size.batch)))
        scored = Scored(_verdicts(draw, size.examples), _metrics(latent % 50, size.examples), replies, usage)
        made.append(score_unit(score_key(arm, latent, explanation), arm, who, scored))
    return made


def _words(draw: np.random.Generator) -> Explanation:
    letters = "".join(draw.choice(list("abcdefghijklmnopqrstuvwxyz     "), 110))
    return Explanation(letters)


def _verdicts(draw: np.random.Generator, count: int) -> Verdicts:
    """Verdicts on one half activating examples in a random order, with probabilities and no failure."""
    truth = draw.permutation(np.arange(count) % 2)
    chances = draw.random(count, np.float32)
    return Verdicts(
        draw.integers(0, 40_000, count, np.uint32),
        (32 * draw.integers(0, 8, count)).astype(np.uint16),
        truth.astype(np.uint8),
        np.where(truth, draw.integers(1, 11, count), 0).astype(np.uint8),
        (chances > 0.5).astype(np.int8),
        chances,
        np.zeros(count, np.uint8),
        np.full(count, np.nan, np.float32),
        np.empty((count, 0), np.float16),
        np.empty((count, 0), np.float16),
    )


@lru_cache
def _metrics(number: int, count: int) -> dict[str, Any]:
    """A score's figures; a few sets of them do for all units, which are packed one by one."""
    return figures(_verdicts(np.random.default_rng(number), count))


def journal_writes(size: Size, folder: str) -> dict[str, float]:
    """Write all units through the journal, from concurrent tasks; only the writing is timed."""
    path = Path(folder) / "journal.sqlite"
    path.unlink(missing_ok=True)

    async def work() -> dict[str, float]:
        taken, clock = 0.0, Clock()
        async with Journal(path) as journal:
            for first in range(0, size.latents, 1000):
                batch = iter(units(size, first, min(first + 1000, size.latents)))
                began = time.perf_counter()
                with clock:
                    await _write(journal, batch)
                taken += time.perf_counter() - began
            commits = journal.commits
        return {"seconds": taken, "cpu": clock.cpu, "commits": commits, "bytes": path.stat().st_size}

    return asyncio.run(work())


async def _write(journal: Journal, batch: Any) -> None:
    async def one() -> None:
        for unit in batch:
            await journal.finish(unit)

    async with anyio.create_task_group() as group:
        for _ in range(_WRITERS):
            group.start_soon(one)


def plain_writes(size: Size, folder: str) -> dict[str, float]:
    """Write units one commit each through `sqlite3`, as JSON text, with the same durability."""
    made = units(size, 0, -(-size.plain // 3))[: size.plain]
    path = Path(folder) / "plain.sqlite"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE units (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, unit TEXT)")
        began = time.perf_counter()
        for unit in made:
            text = json.dumps({**asdict(unit), "verdicts": _readable(unit)})
            connection.execute("INSERT INTO units (key, unit) VALUES (?, ?)", [unit.key, text])
        taken = time.perf_counter() - began
    return {"seconds": taken, "commits": len(made), "bytes": path.stat().st_size}


def _readable(unit: Unit) -> list[list[float]] | None:
    if unit.verdicts is None:
        return None
    found = Verdicts.unpack(unit.verdicts)
    columns = (found.context, found.start, found.truth, found.quantile, found.label, found.probability, found.failure)
    return [column.tolist() for column in columns]


def resume(size: Size, folder: str) -> dict[str, float]:
    """Let a conductor find that every unit of a journal is done."""
    task = Task.model_validate(
        {
            "name": "resume",
            "store": {"path": "none"},
            "coder": [{"name": _CODER, "kind": "planted"}],
            "latents": {"ids": [0]},
            "explainer": [{"name": "mini", "kind": "contexts"}],
            "scorer": [{"name": arm.scorer, "kind": arm.scorer} for arm in _SCORING],
            "controls": [],
        }
    )

    async def work() -> dict[str, float]:
        began = time.perf_counter()
        with Clock() as clock:
            async with Journal(Path(folder) / "journal.sqlite") as journal:
                latents = {_CODER: range(size.latents)}
                conductor = Conductor(task, _PLAN, journal, {}, latents, Silent(), Stop())
                await conductor.run()
        taken = time.perf_counter() - began
        done = sum(conductor.statuses.values())
        if done != size.latents * (1 + len(_SCORING)):
            raise RuntimeError(f"only {done} units were found done")
        return {"seconds": taken, "cpu": clock.cpu}

    return asyncio.run(work())


def _measured(work: Callable[[Size, str], dict[str, float]], size: Size, folder: str) -> dict[str, float]:
    """A measurement with the memory it came to need beyond the modules, in MiB."""
    before = peak()
    found = work(size, folder)
    return {**found, "memory": (peak() - before) / 2**20}


def _median(found: Sequence[dict[str, float]], key: str) -> float:
    return statistics.median(one[key] for one in found)


def main() -> None:
    """Measure, print a table and a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.journal", description=__doc__)
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--plain", type=int, default=2_000, help="units written one commit each")
    parser.add_argument("--examples", type=int, default=200, help="examples a score")
    parser.add_argument("--batch", type=int, default=5, help="examples a prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where to write; a temporary folder if not given")
    given = parser.parse_args()
    size = Size(given.units, given.plain, given.examples, given.batch)
    found: dict[str, list[dict[str, float]]] = {"journal": [], "plain": [], "resume": []}
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            for name, work in (("journal", journal_writes), ("plain", plain_writes), ("resume", resume)):
                found[name].append(alone(_measured, work, size, folder))
    told = _figures(size, found)
    for name, value in told.items():
        print(f"{name:34} {value:,.1f}" if isinstance(value, float) else f"{name:34} {value:,}")
    print(json.dumps({"benchmark": "journal", **asdict(size), "rounds": given.rounds, **told}))


def _figures(size: Size, found: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    count = size.latents * (1 + len(_SCORING))
    rates = [count / one["seconds"] for one in found["journal"]]
    plain = [size.plain / one["seconds"] for one in found["plain"]]
    return {
        "bytes_a_unit": _median(found["journal"], "bytes") / count,
        "plain_bytes_a_unit": _median(found["plain"], "bytes") / size.plain,
        "units_a_second": statistics.median(rates),
        "commits_a_second": statistics.median(one["commits"] / one["seconds"] for one in found["journal"]),
        "units_a_commit": count / _median(found["journal"], "commits"),
        "plain_units_a_second": statistics.median(plain),
        "times_plain": statistics.median(mine / theirs for mine, theirs in zip(rates, plain, strict=True)),
        "write_cpu_seconds": _median(found["journal"], "cpu"),
        "write_memory_mb": _median(found["journal"], "memory"),
        "resume_seconds": _median(found["resume"], "seconds"),
        "resume_cpu_seconds": _median(found["resume"], "cpu"),
        "resume_memory_mb": _median(found["resume"], "memory"),
    }


if __name__ == "__main__":
    sys.exit(main())
