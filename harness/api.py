"""From Python: `arun`, `ajudge` and `avariance` where an event loop runs; `run`, `judge`, `variance` anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from harness.analysis.load import Run, load
from harness.analysis.variance import TOP, Variance
from harness.analysis.variance import variance as variance_of
from harness.errors import RunStopped
from harness.judges.qualify import Candidate, qualify, variants_of
from harness.judges.qualify import default_directory as judge_directory
from harness.judges.sheet import Sheet
from harness.report import write_report
from harness.runs.batches import PAUSE
from harness.runs.parts import Crew
from harness.runs.progress import Progress
from harness.runs.running import Outcome, conduct, default_directory
from harness.runs.stop import Stop
from harness.runs.variance import Design, vary
from harness.runs.variance import default_directory as variance_directory
from harness.task import Task, load_task

__all__ = ["ajudge", "arun", "avariance", "drawn", "finished", "judge", "run", "variance"]

T = TypeVar("T")


async def arun(
    task: Task | str | Path,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    retry_failed: bool = False,
    report: bool = True,
    wait: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
    crew: Crew | None = None,
) -> Run:
    """Run a task, or finish one that was interrupted, and read what came out.

    `task` is a Task, a file or a shipped task's name; `out` the run directory, `runs/<name>` unless given; `limit`
    the most latents of each coder; `stop` ends it early when wished. With `wait` batches that are out are waited for. A
    `crew` does what it can first, such as that of `harness.scale.crew.ray_crew`. Units that failed are in the tables,
    with the reason.

    Raises:
        UserError: the task or something that it names is wrong.
        RunStopped: a provider or the budget stopped the run, it waits for batches, or it was interrupted before
            anything was done; running it again goes on from there.
    """
    if not isinstance(task, Task):
        task = load_task(task, overrides)
    directory = Path(out) if out is not None else default_directory(task)
    outcome = await conduct(
        task,
        directory,
        limit=limit,
        retry_failed=retry_failed,
        progress=progress,
        stop=stop,
        wait=PAUSE if wait else None,
        crew=crew,
    )
    return finished(outcome, report=report)


def run(
    task: Task | str | Path,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    retry_failed: bool = False,
    report: bool = True,
    wait: bool = False,
    progress: Progress | None = None,
    crew: Crew | None = None,
) -> Run:
    """As `arun`, for where nothing is awaited; inside a running event loop it works in a thread of its own.

    There an interrupt (a notebook's stop button) asks nothing new, finishes what is in flight and is then raised.
    """
    return _anywhere(
        partial(
            arun,
            task,
            out,
            overrides=overrides,
            limit=limit,
            retry_failed=retry_failed,
            report=report,
            wait=wait,
            progress=progress,
            crew=crew,
        )
    )


async def ajudge(
    model: str,
    out: str | Path | None = None,
    *,
    prompts: Sequence[str] = (),
    batch: int = 5,
    logprobs: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    spend: float | None = None,
    seed: int = 0,
    stop: Stop | None = None,
) -> tuple[Sheet, ...]:
    """Ask a judge about planted items of known truth, or go on asking; its sheets, for detection and for fuzzing.

    `prompts` are variants such as `tiny` (of both) or `fuzzing=./mine.toml`, `batch` and `logprobs` keys of the
    scorers, and `settings` the model's own, all as the judge will be used; `spend` is a limit of dollars. `out` is the
    directory, `runs/judge-<model>` unless given; reports of runs beside it show the sheets.

    Raises:
        UserError: the model or something else is wrong.
        RunStopped: a provider, the budget or the user stopped it; asking again goes on from there.
    """
    candidate = Candidate(model, settings or {}, variants_of(prompts), batch, logprobs, seed, spend)
    directory = Path(out) if out is not None else judge_directory(model)
    return await qualify(candidate, directory, stop=stop)


def judge(
    model: str,
    out: str | Path | None = None,
    *,
    prompts: Sequence[str] = (),
    batch: int = 5,
    logprobs: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    spend: float | None = None,
    seed: int = 0,
) -> tuple[Sheet, ...]:
    """As `ajudge`, for where nothing is awaited; inside a running event loop it works in a thread of its own."""
    return _anywhere(
        partial(
            ajudge,
            model,
            out,
            prompts=prompts,
            batch=batch,
            logprobs=logprobs,
            settings=settings,
            spend=spend,
            seed=seed,
        )
    )


async def avariance(
    task: Task | str | Path,
    out: str | Path | None = None,
    *,
    draws: int = 4,
    explainer_samples: int = 4,
    scorer_samples: int = 4,
    corpora: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    limit: int | None = None,
    retry_failed: bool = False,
    scorer: str | None = None,
    top: int = TOP,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Variance:
    """Draw a task's examples, explanations and verdicts again, everything crossed, and split the scores' variance.

    It asks what `out` (`runs/<name>-variance` unless given) does not have yet: each latent is explained draws x
    explainer samples times, and each explanation scored scorer samples times; 4 of each are the fewest with intervals.
    `corpora` are further files or folders for the subject to read, `limit` the most latents of each coder. The tables
    are of `scorer`, the primary one unless named, and `top` is how many latents the top of the ranking has.

    Raises:
        UserError: the task or something that it names is wrong, or fewer than 2 latents have all their scores.
        RunStopped: a provider or the budget stopped it, it waits for batches, or it was interrupted; calling it again
            goes on from there.
    """
    if not isinstance(task, Task):
        task = load_task(task, overrides)
    design = Design(draws, explainer_samples, scorer_samples, tuple(map(str, corpora)))
    directory = Path(out) if out is not None else variance_directory(task)
    drawn(await vary(task, design, directory, limit=limit, retry_failed=retry_failed, progress=progress, stop=stop))
    return variance_of(directory, scorer, top=top)


def variance(
    task: Task | str | Path,
    out: str | Path | None = None,
    *,
    draws: int = 4,
    explainer_samples: int = 4,
    scorer_samples: int = 4,
    corpora: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    limit: int | None = None,
    retry_failed: bool = False,
    scorer: str | None = None,
    top: int = TOP,
    progress: Progress | None = None,
) -> Variance:
    """As `avariance`, for where nothing is awaited; inside a running event loop it works in a thread of its own."""
    return _anywhere(
        partial(
            avariance,
            task,
            out,
            draws=draws,
            explainer_samples=explainer_samples,
            scorer_samples=scorer_samples,
            corpora=corpora,
            overrides=overrides,
            limit=limit,
            retry_failed=retry_failed,
            scorer=scorer,
            top=top,
            progress=progress,
        )
    )


def _anywhere(work: Callable[..., Coroutine[Any, Any, T]]) -> T:
    """Do what is awaited elsewhere, with a `stop`; in a thread of its own where an event loop runs here."""
    stop = Stop()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work(stop=stop))
    with ThreadPoolExecutor(1, thread_name_prefix="harness-run") as thread:
        done = thread.submit(lambda: asyncio.run(work(stop=stop)))
        try:
            return done.result()
        except KeyboardInterrupt:
            stop.wished = True
            done.exception()
            raise


def finished(outcome: Outcome, *, report: bool) -> Run:
    """A run that ended, read back, with its report written.

    Raises:
        RunStopped: a provider or the budget stopped it, it waits for batches, or it was interrupted before anything was
            done.
    """
    if outcome.interrupted and not outcome.statuses:
        raise RunStopped("the run was interrupted; run the task again to go on from here")
    loaded = load(outcome.directory)
    if report:
        write_report(loaded)
    if outcome.stopped_by is not None:
        out = f"; waiting for {_batches(outcome.waiting)}" if outcome.waiting else ""
        raise RunStopped(f"{outcome.stopped_by}{out}; what was paid for is kept: run the task again to go on")
    if outcome.waiting and not outcome.interrupted:
        raise RunStopped(f"waiting for {_batches(outcome.waiting)}, run again to collect")
    return loaded


def drawn(outcome: Outcome) -> None:
    """Pass over replicates of a variance that are all done.

    Raises:
        RunStopped: they are not: a provider or the budget stopped them, they wait for batches, or were interrupted.
    """
    if outcome.stopped_by is not None:
        raise RunStopped(f"{outcome.stopped_by}; what was paid for is kept: run it again to go on")
    if outcome.interrupted:
        raise RunStopped("interrupted; run it again to go on from here")
    if outcome.waiting:
        raise RunStopped(f"waiting for {_batches(outcome.waiting)}, run it again to collect")


def _batches(number: int) -> str:
    return "1 batch" if number == 1 else f"{number} batches"
