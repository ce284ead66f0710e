"""A task drawn again and again: the runs whose scores tell how much of their variance comes from where."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import anyio

from harness import registry
from harness.clients.ledger import Amount
from harness.errors import RunError, TaskError
from harness.runs.forecast import Cost, Forecast, Line, Range
from harness.runs.plan import aplan
from harness.runs.progress import Progress, Silent
from harness.runs.running import Outcome, check, conduct, open_store
from harness.runs.selection import choose
from harness.runs.stop import Stop
from harness.settings import CorpusSettings
from harness.task import ScorerSettings, Task
from harness.values import Status

__all__ = ["DESIGN", "Design", "default_directory", "plan_variance", "read_design", "replicates", "vary"]

DESIGN = "variance.json"
# latents of each draw that a plan renders
_REHEARSED = 10


@dataclass(frozen=True, slots=True)
class Design:
    """How often each thing is drawn: examples, explanations of the same examples, verdicts on the same explanation.

    `corpora` are further files or folders that the subject reads, beside the task's own; each has draws of its own.
    `explainers` and `scorers` are the names of what is sampled, filled in by `vary`.
    """

    draws: int = 4
    explainer_samples: int = 4
    scorer_samples: int = 4
    corpora: tuple[str, ...] = ()
    explainers: tuple[str, ...] = ()
    scorers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("draws", "explainer_samples", "scorer_samples"):
            if getattr(self, name) < 1:
                raise TaskError(f"{name.replace('_', '-')} is {getattr(self, name)}, and at least 1 is needed")

    def name(self, name: str, sample: int) -> str:
        """What an explainer or scorer is called in a draw of its own: the first keeps its name."""
        return f"{name}.{sample}" if sample else name


def default_directory(task: Task) -> Path:
    """Where the runs of a task's variance go unless told otherwise."""
    return Path("runs") / f"{task.name}-variance"


def read_design(directory: Path) -> Design:
    """The design of the runs in a directory.

    Raises:
        RunError: there are none.
    """
    try:
        found = json.loads((directory / DESIGN).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            f"{directory}: no runs of a task's variance (there is no {DESIGN} in it): harness variance TASK makes them"
        ) from error
    lists = {key: tuple(found[key]) for key in ("corpora", "explainers", "scorers")}
    return Design(**{**found, **lists})


def replicates(task: Task, design: Design, corpora: Sequence[CorpusSettings | None] = (None,)) -> list[Task]:
    """The tasks of a design, one for each corpus (None: the task's own) and draw of examples.

    In each every explainer and scorer stands as often as it is sampled, on the headline's rung alone and without
    controls. Scorers that judge no explanation are left out.

    Raises:
        TaskError: a name is taken, or no scorer is left.
    """
    names = {item.name for item in (*task.explainer, *task.scorer)}
    taken = [design.name(name, sample) for name in names for sample in range(1, _most(design))]
    if clash := sorted(names.intersection(taken)):
        raise TaskError(f'{task.source}: the name "{clash[0]}" is that of another draw: give it another one')
    judging = _judging(task)
    if task.ranking.scorer not in {one.name for one in judging}:
        raise TaskError(
            f"{task.source}: primary.scorer: {task.ranking.scorer} judges no explanation: name one that does"
        )
    explainers = tuple(
        one.model_copy(update={"name": design.name(one.name, sample), "sample": one.sample + sample})
        for one in task.explainer
        for sample in range(design.explainer_samples)
    )
    scorers = tuple(
        one.model_copy(
            update={
                "name": design.name(one.name, sample),
                "sample": one.sample + sample,
                "explainers": None
                if one.explainers is None
                else tuple(design.name(each, e) for each in one.explainers for e in range(design.explainer_samples)),
            }
        )
        for one in judging
        for sample in range(design.scorer_samples)
    )
    made = []
    scored = task.examples.scored
    headline = scored.model_copy(update={"rungs": (scored.headline,)})
    for corpus in corpora:
        subject = task.subject if corpus is None or task.subject is None else _reading(task, corpus)
        for draw in range(design.draws):
            examples = task.examples.model_copy(update={"draw": task.examples.draw + draw, "scored": headline})
            changes: dict[str, Any] = {"explainer": explainers, "scorer": scorers, "controls": (), "examples": examples}
            made.append(task.model_copy(update={**changes, "subject": subject, "primary": task.ranking}))
    return made


def _judging(task: Task) -> list[ScorerSettings]:
    """The scorers that judge explanations."""
    return [one for one in task.scorer if not registry.load("scorers", one.kind).blind]


def _most(design: Design) -> int:
    return max(design.explainer_samples, design.scorer_samples)


def _reading(task: Task, corpus: CorpusSettings) -> Any:
    assert task.subject is not None
    return task.subject.model_copy(update={"corpus": corpus})


def _corpora(task: Task, design: Design) -> list[CorpusSettings | None]:
    """The corpora to read, the task's own first.

    Raises:
        TaskError: the task reads none, or has several coders, whose latents would have to be named apart.
    """
    if not design.corpora:
        return [None]
    if task.subject is None:
        raise TaskError(f"{task.source}: --corpus is read by a [subject], and this task takes a finished [store]")
    if len(task.coder) > 1:
        raise TaskError(f"{task.source}: --corpus takes a task with one coder, and this one has {len(task.coder)}")
    own = task.subject.corpus
    made = [own.model_copy(update={"path": Path(path).resolve(), "dataset": None}) for path in design.corpora]
    for corpus in made:
        if corpus.path is not None and not corpus.path.exists():
            raise TaskError(f"--corpus {corpus.path}: no such file or folder")
    return [None, *made]


async def vary(
    task: Task,
    design: Design,
    directory: Path,
    *,
    limit: int | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Outcome:
    """Run every replicate of a design in one directory, or go on with them; what is in its journal is left as it is.

    All share the directory's limits of spending.

    Raises:
        UserError: the task or something that it names is wrong.
    """
    stop, progress = stop or Stop(), _Quiet(progress or Silent())
    made = await _prepared(task, design, progress, stop)
    if made is None:
        return Outcome(directory, {}, interrupted=True)
    explainers, scorers = (tuple(one.name for one in ones) for ones in (task.explainer, _judging(task)))
    await anyio.to_thread.run_sync(_write, directory, replace(design, explainers=explainers, scorers=scorers))
    statuses: Counter[Status] = Counter()
    waiting = 0  # batches out in the directory, whichever replicate asks for what is in them
    for one in made:
        outcome = await conduct(one, directory, limit=limit, retry_failed=retry_failed, progress=progress, stop=stop)
        statuses.update(outcome.statuses)
        waiting = max(waiting, outcome.waiting)
        if outcome.interrupted or outcome.stopped_by is not None:
            return Outcome(directory, dict(statuses), outcome.stopped_by, outcome.interrupted, waiting)
    return Outcome(directory, dict(statuses), waiting=waiting)


def _write(directory: Path, design: Design) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / DESIGN).write_text(json.dumps(asdict(design), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{directory}: the run directory cannot be written: {error.strerror}") from error


async def _prepared(task: Task, design: Design, progress: Progress, stop: Stop) -> list[Task] | None:
    """The replicates, of the latents that the task's own corpus has; None if that was stopped."""
    corpora = _corpora(task, design)
    made = replicates(task, design, corpora)
    await check(made[0])
    if len(corpora) == 1:
        return made
    store = await open_store(task, progress, stop)
    if store is None:
        return None
    chosen = choose(task, store.coder(task.coder[0].name))
    latents = task.latents.model_copy(update={"sample": None, "ids": tuple(chosen)})
    return [one.model_copy(update={"latents": latents}) for one in made]


async def plan_variance(
    task: Task, design: Design, directory: Path, *, limit: int | None = None, progress: Progress | None = None
) -> Forecast:
    """What the replicates would still ask and cost, summed over them; no model is asked.

    Raises:
        UserError: the task or something that it names is wrong, or there are no activations yet.
    """
    listening = progress or Silent()
    made = await _prepared(task, design, listening, Stop())
    assert made is not None
    plans = [await aplan(one, directory, limit=limit, progress=listening, sample=_REHEARSED) for one in made]
    named = {
        design.name(one.name, sample): one.name
        for one in (*task.explainer, *task.scorer)
        for sample in range(_most(design))
    }
    groups: defaultdict[tuple[str, str, str], list[Line]] = defaultdict(list)
    for found in plans:
        for line in found.lines:
            who, _, rest = line.arm.partition(" ")
            groups[line.stage, " ".join(filter(None, (named.get(who, who), rest))), line.model].append(line)
    lines = tuple(_summed(*key, lines) for key, lines in groups.items())
    # each plan's own is all that was charged in the directory
    total = _summed("total", "", "", [found.total for found in plans], done=plans[0].total.done)
    counts = sum(p.latents for p in plans), sum(p.todo for p in plans), sum(p.rehearsed for p in plans)
    every = (note.partition(": ") for found in plans for note in found.notes if not note.startswith("limits."))
    # what is said of one sample is said of all
    notes = tuple(dict.fromkeys(f"{named.get(who, who)}{colon}{rest}" for who, colon, rest in every))
    return Forecast(f"{task.name}, {len(made)} draws of examples", directory, lines, total, *counts, notes)


def _summed(stage: str, arm: str, model: str, lines: Sequence[Line], done: Cost | None = None) -> Line:
    dollars = [line.dollars for line in lines if line.dollars is not None]
    return Line(
        stage,
        arm,
        model,
        sum((line.done for line in lines), Cost()) if done is None else done,
        _range([line.calls for line in lines]),
        _range([line.tokens for line in lines]),
        _range(dollars) if len(dollars) == len(lines) else None,
        max(line.heard for line in lines),
        all(line.free for line in lines),
    )


def _range(parts: Sequence[Range]) -> Range:
    # what makes one replicate dear makes all of them dear
    return Range(*(sum(getattr(part, name) for part in parts) for name in ("expected", "low", "high")))


class _Quiet:
    """Progress that is not told how one replicate's task differs from the last one's."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self._told: set[str] = set()

    def note(self, text: str) -> None:
        """One line that a person should read, once."""
        if not text.startswith("changed since the last run here") and text not in self._told:
            self._told.add(text)
            self._inner.note(text)

    def collecting(self, done: int, total: int) -> None:
        """Tokens collected so far, of so many."""
        self._inner.collecting(done, total)

    def begin(self, latents: int, units: int, spent: Callable[[], Amount]) -> None:
        """Explaining and scoring begin; so many are to do."""
        self._inner.begin(latents, units, spent)

    def unit(self, status: Status) -> None:
        """A unit is done."""
        self._inner.unit(status)

    def latent(self) -> None:
        """All units of a latent are done."""
        self._inner.latent()
