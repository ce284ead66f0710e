"""What a run would ask and cost: rendered and counted without asking anybody, beside what is paid for already."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from harness.clients import offers_batches
from harness.clients.batches import DISCOUNT
from harness.clients.models import Models
from harness.clients.prices import Price, price_of
from harness.clients.protocol import Client
from harness.clients.providers._endpoint import keyless
from harness.errors import StoreError
from harness.runs.arms import arm_label, written
from harness.runs.batch_rows import BatchRows
from harness.runs.batches import batch_price
from harness.runs.collecting import is_collected, store_folder
from harness.runs.directory import JOURNAL
from harness.runs.extrapolate import DRAWS, Coming, Common, Draws, Flow, common, draw, extent
from harness.runs.forecast import Cost, Forecast, Line, Offer, Range
from harness.runs.journal import Journal
from harness.runs.journal_rows import StoredAttempt
from harness.runs.populations import Population, open_populations
from harness.runs.probing import check_wants, probe
from harness.runs.progress import Progress, Silent
from harness.runs.rehearsal import Asked, Book, Written, rehearse, rehearsing, unfinished, unread
from harness.runs.running import check, close, default_directory, open_store, ready
from harness.runs.selection import choose
from harness.runs.stop import Stop
from harness.runs.tally import ARM, Key, Tally, key_of, tally
from harness.runs.units import Plan
from harness.store import Store
from harness.task import LimitSettings, Task, load_task
from harness.validation import naming
from harness.values import Latent, seed_of

__all__ = ["SAMPLE", "aplan", "plan"]

# latents of a coder that are rehearsed of those to do, and as many of those done
SAMPLE = 40
# units of an arm that are read for how long its explanations are, and how many fail
_UNITS = 500
# answered requests from which on an arm's own are enough to tell by
_ENOUGH = 8


def plan(
    task: Task | str | Path,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    collect: bool = False,
    progress: Progress | None = None,
) -> Forecast:
    """What running a task in the directory `out` would still ask and cost; no model is asked.

    Arguments as of `harness.run`; with `collect` activations are collected where there is no store yet.

    Raises:
        UserError: the task or something that it names is wrong, or there is no store and none is to be collected.
    """
    if not isinstance(task, Task):
        task = load_task(task, overrides)
    directory = Path(out) if out is not None else default_directory(task)
    work = aplan(task, directory, limit=limit, collect=collect, progress=progress)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, thread_name_prefix="harness-plan") as thread:
        return thread.submit(asyncio.run, work).result()


async def aplan(
    task: Task,
    directory: Path,
    *,
    limit: int | None = None,
    collect: bool = False,
    progress: Progress | None = None,
    sample: int = SAMPLE,
) -> Forecast:
    """As `plan`, where an event loop runs; at most `sample` latents of each coder are rehearsed.

    No key is needed.

    Raises:
        UserError: the task or something that it names is wrong, or there is no store and none is to be collected.
    """
    with keyless(), _journal(directory / JOURNAL) as journal:
        await check(task)
        progress = progress or Silent()
        store = await _store(task, progress, collect=collect)
        latents = {coder.name: choose(task, store.coder(coder.name), limit) for coder in task.coder}
        populations = await open_populations(task, store, latents, progress, Stop(), collect=collect)
        planning = _Planning(task, store, latents, populations or (), journal)
        try:
            await planning.rehearse(sample)
        finally:
            await close(planning.models)
        return planning.forecast(directory)


async def _store(task: Task, progress: Progress, *, collect: bool) -> Store:
    if task.store is None and not collect:
        with naming(task.source):
            folder = store_folder(task)
        if not is_collected(folder):
            raise StoreError(
                f"{task.source}: there are no activations yet to render prompts from; give --collect to collect them "
                "now (no model is asked), or run the task with --limit 5 first"
            )
    store = await open_store(task, progress, Stop())
    assert store is not None
    return store


@contextmanager
def _journal(path: Path) -> Iterator[Journal | None]:
    if not path.is_file():
        yield None
        return
    journal = Journal(path)
    try:
        yield journal
    finally:
        journal.close()


class _Planning:
    """The rehearsal of one task, and what it comes to."""

    def __init__(
        self,
        task: Task,
        store: Store,
        latents: Mapping[str, list[int]],
        populations: Sequence[Population],
        journal: Journal | None,
    ) -> None:
        self._task = task
        self._journal = journal
        self._prices: dict[str, Price | None] = {}
        self._coders = {name: store.coder(name) for name in latents}
        self._coders |= {one.reader.name: one.reader for one in populations}
        self._latents = {**latents, **{one.reader.name: list(one.latents) for one in populations}}
        self._book = Book(_nothing if journal is None else journal.get)
        self.models = Models(task.model, self._wrap)
        self._plan = ready(task, self.models, store, populations)
        unread(self._plan)
        if journal is not None:
            self._book.written.update(_written(self._plan, journal))
            self._book.lacking.update(one.request for one in journal.attempts() if _in_vain(one))
            self._book.out.update(BatchRows(journal).keys())
        self._arms = _arms(self._plan, several=len(self._coders) > 1)
        self._coder = {arm.digest[:ARM]: arm.coder for arm in (*self._plan.explanation_arms, *self._plan.score_arms)}
        self._todo: list[Latent] = []
        self._chosen: set[Latent] = set()
        self._notes: list[str] = []

    def _wrap(self, client: Client) -> Client:
        price = batch_price if self._by_batch(client.name) else price_of
        self._prices[client.name] = price(client.name, self._task.model.get(client.name))
        return rehearsing(client, self._prices[client.name], self._book)

    def _by_batch(self, model: str) -> bool:
        return self._task.model.get(model, {}).get("batch") is True

    async def rehearse(self, sample: int) -> None:
        """Rehearse some of the latents to do, and, for what they took, some of those done."""
        await probe(self.models, self._plan.wants)
        check_wants(self.models, self._plan.wants, self._notes.append, self._task.source)
        parts = self._task, self._plan, self._coders, self._latents
        self._todo = await unfinished(*parts, self._journal)
        self._chosen = self._some(set(self._todo), sample)
        await rehearse(*parts, self._chosen, self._journal)
        if self._journal is not None:
            everyone = {Latent(coder, index) for coder, indexes in self._latents.items() for index in indexes}
            await rehearse(*parts, self._some(everyone.difference(self._todo), sample), None)

    def _some(self, of: set[Latent], most: int) -> set[Latent]:
        """At most so many latents of each coder: the first in the seeded order."""
        found: set[Latent] = set()
        for name, indexes in self._latents.items():
            ordered = [Latent(name, index) for index in indexes]
            found.update(islice((one for one in ordered if one in of), most))
        return found

    def forecast(self, directory: Path) -> Forecast:
        """What the rehearsed requests come to."""
        offering = {name: price for name, price in self._prices.items() if offers_batches(name)}
        taken = tally(self._journal, self._book.asked.values(), offering)
        generator = np.random.default_rng(seed_of(self._task.seed, "plan"))
        coming: defaultdict[Key, list[Asked]] = defaultdict(list)
        for asked in self._book.asked.values():
            if not asked.kept and self._counts(asked):
                coming[key_of(asked)].append(asked)
        earlier = {key for key in taken.done if key[0] in self._arms and key[1] in self._prices}
        keys = sorted({*coming, *earlier}, key=self._place)
        shared = {model: common(taken.failures[model], generator) for model in sorted(self._prices)}
        flows = {key: self._flow(key, coming[key], taken) for key in keys}
        drawn = {key: self._drawn(key, flows[key], shared[key[1]], generator) for key in keys}
        lines = tuple(self._line(key, flows[key], drawn[key], taken) for key in keys)
        total = _total([drawn[key] for key in keys if not self._free(key[1])], taken)
        counts = sum(map(len, self._latents.values())), len(self._todo), len(self._chosen)
        notes = (*self._notes, *_notes(lines, total, self._task.limits))
        offers = tuple(offer for name in sorted(offering) if (offer := self._offer(name, drawn)) is not None)
        return Forecast(self._task.name, directory, lines, total, *counts, notes, offers)

    def _offer(self, model: str, drawn: Mapping[Key, Draws]) -> Offer | None:
        """What a model costs both ways; None where no price is known, or nothing is to come."""
        dollars = [draws.dollars for key, draws in drawn.items() if key[1] == model]
        known = [found for found in dollars if found is not None]
        if len(known) < len(dollars) or not sum(found.mean() for found in known):
            return None
        found, batch = _range(sum(known, np.zeros(DRAWS))), self._by_batch(model)
        return Offer(model, batch, *((found.times(1 / DISCOUNT), found) if batch else (found, found.times(DISCOUNT))))

    def _counts(self, asked: Asked) -> bool:
        """Whether a request is of a latent that was rehearsed and is to do, or of none at all."""
        if asked.purpose.latent is None:
            return True
        return Latent(self._coder[asked.purpose.arm[:ARM]], asked.purpose.latent) in self._chosen

    def _place(self, key: Key) -> tuple[int, str]:
        return list(self._arms).index(key[0]), key[1]

    def _free(self, model: str) -> bool:
        return self.models.client(model).capabilities.model_free

    def _flow(self, key: Key, coming: Sequence[Asked], taken: Tally) -> Flow:
        arm, model = key
        rehearsed = others = 0
        if arm in self._coder:
            rehearsed = sum(latent.coder == self._coder[arm] for latent in self._chosen)
            others = sum(latent.coder == self._coder[arm] for latent in self._todo) - rehearsed
        heard, borrowed = taken.heard[key], False
        if len(heard) < _ENOUGH:
            stage = self._arms[arm][0]
            kin = [k for k in taken.heard if k[1] == model and k[0] in self._arms and self._arms[k[0]][0] == stage]
            heard, borrowed = [one for k in kin for one in taken.heard[k]], True
        requests = [_coming(asked) for asked in coming]
        return Flow(requests, rehearsed, others, heard, borrowed, taken.ratio(model), self._prices[model])

    def _drawn(self, key: Key, flow: Flow, shared: Common, generator: np.random.Generator) -> Draws:
        if not self._free(key[1]):
            return draw(flow, shared, generator)
        nothing = np.zeros(DRAWS)
        return Draws(extent(flow, generator)[0], nothing, nothing)

    def _line(self, key: Key, flow: Flow, drawn: Draws, taken: Tally) -> Line:
        stage, words = self._arms[key[0]]
        dollars = None if drawn.dollars is None else _range(drawn.dollars)
        ranges = _range(drawn.calls), _range(drawn.tokens), dollars
        return Line(stage, words, key[1], taken.done[key], *ranges, len(flow.heard), self._free(key[1]))


def _nothing(_: str) -> None:
    return None


def _arms(plan: Plan, *, several: bool) -> dict[str, tuple[str, str]]:
    """Stage and words of every arm that asks models, by the beginning of its digest, and of the probe."""
    named = {"probe": ("probe", "")}
    for arm in plan.explanation_arms:
        if written(arm):
            who = arm.explainer or arm_label(None, arm.control)
            named[arm.digest[:ARM]] = "explain", who + (f" on {arm.coder}" if several else "")
    for arm in plan.score_arms:
        named[arm.digest[:ARM]] = "score", f"{arm.scorer} ({arm.rung})" + (f" on {arm.coder}" if several else "")
    return named


def _written(plan: Plan, journal: Journal) -> dict[str, Written]:
    """What is known of each arm's explanations."""
    found = {}
    for arm in plan.explanation_arms:
        if not written(arm):
            continue
        units = [unit for unit in islice(journal.units(arm.digest), _UNITS) if unit.status != "too_few_examples"]
        texts = tuple(unit.result["text"] for unit in units if unit.status == "ok")
        lost = sum(unit.status in ("refused", "unparsable", "truncated") for unit in units)
        found[arm.digest] = Written(texts, lost / max(len(units), 1))
    return found


def _in_vain(attempt: StoredAttempt) -> bool:
    """Whether an attempt was a probe that told that a model lacks something."""
    return attempt.stage == "probe" and attempt.outcome in ("missing_logprobs", "bad_request")


def _coming(asked: Asked) -> Coming:
    most = asked.most
    return Coming(asked.purpose.latent, asked.size, most.tokens, most.dollars, asked.max_tokens, asked.shortest)


def _range(drawn: np.ndarray) -> Range:
    low, high = np.quantile(drawn, [0.05, 0.95])
    return Range(float(drawn.mean()), float(low), float(high))


def _total(drawn: Sequence[Draws], taken: Tally) -> Line:
    zero = np.zeros(DRAWS)
    calls, tokens = sum((one.calls for one in drawn), zero), sum((one.tokens for one in drawn), zero)
    known = [one.dollars for one in drawn if one.dollars is not None]
    dollars = _range(sum(known, zero)) if len(known) == len(drawn) else None
    heard = sum(len(found) for found in taken.heard.values())
    return Line("total", "", "", taken.total, _range(calls), _range(tokens), dollars, heard)


def _notes(lines: Sequence[Line], total: Line, limits: LimitSettings) -> Iterator[str]:
    unheard = sorted({line.model for line in lines if line.calls.expected and not line.heard and not line.free})
    if unheard:
        yield (
            f"how long the replies of {', '.join(unheard)} are is not known yet, so the intervals are wide: "
            "run the task with --limit 5 first and plan again"
        )
    own = sum((line.done for line in lines), Cost())
    if (other := total.done.calls - own.calls) > 0:
        yield f"{other:,} of the calls so far were for other tasks, or to try something out"
    unpriced = sorted({line.model for line in lines if line.dollars is None})
    if unpriced:
        yield f'no price is known for {", ".join(unpriced)}: give [model."{unpriced[0]}"] a price'
    _, tokens, dollars = total.ending
    if limits.spend is not None and dollars is not None:
        yield f"limits.spend {limits.spend:.2f}: {_fits(limits.spend, dollars, '.2f')}"
    if limits.tokens is not None:
        yield f"limits.tokens {limits.tokens:,}: {_fits(limits.tokens, tokens, ',.0f')}"


def _fits(limit: float, ending: Range, form: str) -> str:
    if ending.low > limit:
        return f"the lower end is {ending.low:{form}}: the run will stop before the end"
    if ending.high > limit:
        return f"the upper end is {ending.high:{form}}: the run may stop before the end"
    return f"the upper end is {ending.high:{form}}: the run fits"
