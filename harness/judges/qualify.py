"""Qualifies a judge: asks a model about planted items, through the very scorers, and writes its sheet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import numpy as np

from harness import registry
from harness.clients import Client, Limits, RunBudget, assemble, price_of
from harness.clients.models import Models
from harness.clients.purpose import Purpose, on_behalf
from harness.errors import Drained, RunEnding, RunError, RunStopped, TaskError, UserError
from harness.judges.items import KINDS, Kind, PlantedSet, planted_sets
from harness.judges.sheet import SHEET, Sheet, Trial, assess, read_sheets, write_sheets
from harness.runs.directory import JOURNAL, held
from harness.runs.journal import Journal
from harness.runs.probing import check_wants, learn_wants
from harness.runs.running import close
from harness.runs.stop import Stop
from harness.runs.watching import watched
from harness.scorers.base import Scored
from harness.scorers.detection import Detection
from harness.scorers.fuzzing import Fuzzing
from harness.validation import naming, validated
from harness.values import Passage, Usage, digest, seed_of

__all__ = ["Candidate", "default_directory", "qualify", "variants_of"]

_PATIENCE: Final = 900.0  # as `limits.patience` of a task
_SETS: Final = 16  # asked about at once
_ARM: Final = 24  # hex digits of an arm that the ledger keeps
_KEPT: Final = "what was paid for is kept: run it again to go on"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A judge to be qualified, as scorers are to use it.

    `settings` is its `[model."name"]` table; `prompts` are variants by kind of scorer, `default` where nothing is said,
    and `batch` and `logprobs` are the scorers' keys of these names. `seed` draws the items; `spend` is a limit of
    dollars, all askings in the directory together, and `requests` how many may be under way at once.
    """

    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[Kind, str] = field(default_factory=dict)
    batch: int = 5
    logprobs: bool | None = None
    seed: int = 0
    spend: float | None = None
    requests: int = 64


def default_directory(model: str) -> Path:
    """Where a judge is qualified unless told otherwise: `runs/judge-<model>` under the working directory."""
    return Path("runs") / f"judge-{re.sub(r'[^A-Za-z0-9._]+', '-', model).strip('-')}"


def variants_of(prompts: Sequence[str]) -> dict[Kind, str]:
    """Prompt variants by kind, from words such as `tiny` (for every kind) or `fuzzing=./mine.toml`.

    Raises:
        TaskError: one kind is given two.
    """
    found: dict[Kind, str] = {}
    for given in prompts:
        before, equals, name = given.partition("=")
        mine = before if equals and before in KINDS else None
        for kind in KINDS:
            if mine not in (None, kind):
                continue
            if kind in found:
                raise TaskError(f"--prompt {given}: {kind} has the prompt {found[kind]} already")
            found[kind] = name if mine else given
    return found


async def qualify(
    candidate: Candidate,
    directory: Path,
    *,
    tell: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
    stop: Stop | None = None,
) -> tuple[Sheet, ...]:
    """Ask a judge about the planted items, or go on asking, and write its sheets, one a kind of scorer.

    Replies and spending are kept in the directory's journal: nothing that was answered is asked for again. `tell` is
    told how many of how many sets are done, `note` what a person should read.

    Raises:
        UserError: the model, a setting, a prompt or the directory is wrong; nothing was spent then.
        RunStopped: a provider, the budget or the user stopped it, or a prompt got no reply; asking again goes on.
    """
    stop, tell, note = stop or Stop(), tell or _nobody, note or _nobody
    await _check(candidate)
    async with AsyncExitStack() as stack:
        stack.enter_context(stop.scope)
        stack.enter_context(held(directory))
        journal = await stack.enter_async_context(Journal(directory / JOURNAL))
        if journal.tasks():
            raise RunError(f"{directory}: there is a run in this directory; give another --out")
        if (directory / SHEET).exists():
            read_sheets(directory / SHEET)  # one that cannot be read has to show before anything is spent
        limits = Limits(candidate.requests)
        budget = RunBudget(candidate.spend, None, journal.spent())
        asking: _Asking | None = None

        def draining() -> bool:
            return stop.wished if asking is None else asking.draining

        def wrap(client: Client) -> Client:
            price = price_of(client.name, candidate.settings)
            return assemble(client, journal, limits=limits, budget=budget, price=price, stopping=draining)

        models = Models({candidate.model: candidate.settings}, wrap)
        stack.push_async_callback(close, models)
        scorers = _scorers(candidate, models)
        await learn_wants(models, _wants(scorers), note)
        rounds = [_Round(kind, scorers[kind], await _sets(candidate, kind), candidate) for kind in KINDS]
        asking = _Asking(rounds, stop, tell)
        await watched(asking.run, asking.end, limits, _PATIENCE, note, "look whether the provider is up")
        if asking.stopped_by is not None:
            told = str(asking.stopped_by).replace("limits.spend", "--spend")
            raise RunStopped(f"{told}; {_KEPT}")
        if stop.wished:
            raise RunStopped(f"interrupted; {_KEPT}")
        sheets = tuple(mine.sheet(journal) for mine in rounds)
        write_sheets(directory / SHEET, sheets)
        return sheets
    # only a cancelled scope, left early, comes here
    raise RunStopped(f"interrupted; {_KEPT}")


def _nobody(*told: object) -> None:
    """Listens to nothing."""


async def _check(candidate: Candidate) -> None:
    """What can be wrong before anything is made or spent.

    Raises:
        UserError: the model, a setting or a prompt is wrong.
    """
    models = Models({candidate.model: candidate.settings}, lambda client: client)
    try:
        check_wants(models, _wants(_scorers(candidate, models)), _nobody)
        price = models.price(candidate.model)
        free = models.client(candidate.model).capabilities.model_free
        if candidate.spend is not None and price is None and not free:
            raise TaskError(
                f"--spend: no price is known for {candidate.model}, so the limit could not be kept; give one such as "
                "--set 'price={ input = 1.0, output = 5.0 }' (dollars per million tokens)"
            )
    finally:
        await models.aclose()


def _scorers(candidate: Candidate, models: Models) -> dict[Kind, Detection | Fuzzing]:
    made: dict[Kind, Detection | Fuzzing] = {}
    for kind in KINDS:
        scorer = registry.load("scorers", kind)
        options = {"model": candidate.model, "prompt": candidate.prompts.get(kind, "default"), "batch": candidate.batch}
        if candidate.logprobs is not None:
            options["logprobs"] = candidate.logprobs
        with naming(f"judge of {kind}") as where:
            made[kind] = scorer(validated(scorer.Settings, options, where), models, Path())
    return made


def _wants(scorers: Mapping[Kind, Detection | Fuzzing]) -> list[Any]:
    return [replace(want, by=kind) for kind, scorer in scorers.items() for want in scorer.wants]


async def _sets(candidate: Candidate, kind: Kind) -> tuple[PlantedSet, ...]:
    # seconds of reading and evaluating: not on the event loop
    return await anyio.to_thread.run_sync(planted_sets, candidate.seed, kind)


class _Round:
    """One scorer's sets, each asked about once and, where batches can differ, once more in other batches."""

    def __init__(
        self, kind: Kind, scorer: Detection | Fuzzing, sets: Sequence[PlantedSet], candidate: Candidate
    ) -> None:
        self._kind, self._scorer, self._sets, self._candidate = kind, scorer, sets, candidate
        self._arm = digest(dict(scorer.identity))
        self._seeds = [seed_of(candidate.seed, "judge", kind, at) for at in range(len(sets))]
        self._passages = [scorer.shown(planted.examples, seed) for planted, seed in zip(sets, self._seeds, strict=True)]
        self._orders = [
            np.random.Generator(np.random.PCG64(seed_of(seed, "again"))).permutation(len(passages))
            for seed, passages in zip(self._seeds, self._passages, strict=True)
        ]
        self._found: dict[tuple[int, bool], Scored] = {}

    def jobs(self) -> list[Callable[[], Any]]:
        """What there is to ask; a single passage has no others beside it, so it is asked about once."""
        askings = (False, True) if self._candidate.batch > 1 else (False,)
        return [partial(self._ask, at, again=again) for again in askings for at in range(len(self._sets))]

    async def _ask(self, at: int, *, again: bool) -> None:
        planted, passages = self._sets[at], self._passages[at]
        examples = planted.examples.examples
        places = self._orders[at] if again else range(len(examples))
        shown: list[Passage] = [passages[place] for place in places]
        with on_behalf(Purpose("judge", self._arm, at)):
            self._found[at, again] = await self._scorer.judge(
                planted.explanation, [examples[place] for place in places], shown, self._seeds[at]
            )

    def sheet(self, journal: Journal) -> Sheet:
        """The sheet, once everything was asked.

        Raises:
            RunStopped: a prompt got no reply.
        """
        trials = list(self._trials())
        usage = sum((scored.usage for scored in self._found.values()), Usage())
        figures = assess(trials, self._candidate.batch, usage)
        if unanswered := figures["failures"].get("provider_error"):
            raise RunStopped(
                f"{unanswered} prompts of {self._kind} got no reply{self._why(journal)}, so there is no sheet; {_KEPT}"
            )
        return Sheet(
            scorer=self._kind,
            model=self._candidate.model,
            prompt=self._scorer.prompt,
            identity=dict(self._scorer.identity),
            date=self._date(journal).isoformat(timespec="seconds"),
            seed=self._candidate.seed,
            drawn=digest([planted.identity() for planted in self._sets]),
            **figures,
        )

    def _trials(self) -> Iterator[Trial]:
        for at, (planted, passages) in enumerate(zip(self._sets, self._passages, strict=True)):
            again = self._found.get((at, True))
            first = self._found[at, False].verdicts
            if again is None:
                yield Trial(planted, passages, first)
            else:
                yield Trial(planted, passages, first, again.verdicts, self._orders[at])

    def _date(self, journal: Journal) -> datetime:
        """When the last of its prompts was sent, now where nothing is sent."""
        sent = [attempt.created for attempt in journal.attempts() if attempt.arm == self._arm[:_ARM]]
        return datetime.fromtimestamp(max(sent), UTC) if sent else datetime.now(UTC)

    def _why(self, journal: Journal) -> str:
        mine = [a.outcome for a in journal.attempts() if a.arm == self._arm[:_ARM] and a.outcome not in (None, "ok")]
        return f" ({mine[-1]})" if mine else ""


class _Asking:
    """Asks all that there is to ask, some at a time, until something ends it."""

    def __init__(self, rounds: Sequence[_Round], stop: Stop, tell: Callable[[int, int], None]) -> None:
        self._jobs = [job for mine in rounds for job in mine.jobs()]
        self._stop, self._tell = stop, tell
        self._done = 0
        self._mistake: UserError | None = None
        self.stopped_by: RunEnding | None = None

    @property
    def draining(self) -> bool:
        """Whether nothing new is asked."""
        return self._stop.wished or self.stopped_by is not None or self._mistake is not None

    def end(self, error: RunEnding) -> None:
        """Ask nothing new from here on."""
        self.stopped_by = self.stopped_by or error

    async def run(self) -> None:
        """Ask.

        Raises:
            UserError: a prompt fails on a question, or the journal cannot be written; what is in flight is finished.
        """
        work = iter(self._jobs)
        async with anyio.create_task_group() as group:
            for _ in range(_SETS):
                group.start_soon(self._worker, work)
        if self._mistake is not None:
            raise self._mistake

    async def _worker(self, work: Iterator[Callable[[], Any]]) -> None:
        for job in work:
            if self.draining:
                return
            try:
                await job()
            except RunEnding as error:
                self.end(error)
            except Drained:
                return
            except UserError as error:
                self._mistake = self._mistake or error
            else:
                self._done += 1
                self._tell(self._done, len(self._jobs))
