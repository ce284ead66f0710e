"""A made-up run of very many latents, written as a real one is: a store, a plan, and a journal through its own writer.

Verdicts come from a seeded simulation of judges and from no model: a latent has a quality, a judge hits with it, and
what it says of a window is a probability. For the first latents the windows are those drawn from the store; for
the others the verdicts are those of one of `POOL` scores, whose windows are made up, so that they need not be drawn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from harness.clients.models import Models
from harness.examples.draw import LatentExamples, draw
from harness.runs.directory import JOURNAL, freeze, held
from harness.runs.journal import Journal
from harness.runs.journal_rows import Unit
from harness.runs.keys import explanation_key, score_key
from harness.runs.outcomes import explanation_unit, score_unit
from harness.runs.running import ready
from harness.runs.selection import choose
from harness.runs.units import Plan
from harness.scorers.base import Scored
from harness.scorers.judging import figures
from harness.scorers.verdicts import Verdicts
from harness.store import CoderFrame, ManifestFrame, Rows, Store, StoreWriter, Vocabulary
from harness.task import Task
from harness.values import Example, Explanation, Failure, Latent, Usage

__all__ = ["CODER", "MadeRun"]

CODER = "res"
# scores that are simulated for the latents whose windows are not drawn
POOL = 2048
# latents whose windows are drawn, as many as a large report shows, and some more
DRAWN = 1200
# tasks that write at once, as the arms of the latents in flight do
_WRITERS = 64
_CHUNK = 2000
_CONTEXT, _CONTEXTS, _FIRINGS, _WORDS = 256, 32, 300, 4000
_DETECTION, _FUZZING, _SECOND = _SCORERS = ("detection", "fuzzing", "second")


class MadeRun:
    """A run of `latents` latents, each with `examples` examples a score, in a folder; the same seed makes the same."""

    def __init__(self, folder: Path, latents: int, examples: int = 200, explainers: int = 1) -> None:
        self.folder, self.latents, self.examples = folder, latents, examples
        self.names = ("mini", "other")[:explainers]
        # some latents fire too rarely to be scored
        self.width = latents + latents // 50 + 20

    @property
    def directory(self) -> Path:
        """The run's directory."""
        return self.folder / "run"

    @cached_property
    def task(self) -> Task:
        """Three judges of every explanation; those of a second explainer are judged by the first alone."""
        model = "lexical/rules"
        judged: list[dict[str, Any]] = [
            {"name": _DETECTION, "kind": "detection", "model": model},
            {"name": _FUZZING, "kind": "fuzzing", "model": model, "explainers": ["mini"]},
            {"name": _SECOND, "kind": "detection", "model": model, "batch": 10, "explainers": ["mini"]},
        ]
        half = self.examples // 2
        return Task.model_validate(
            {
                "name": "million",
                "store": {"path": str(self.folder / "store")},
                "coder": [{"name": CODER, "kind": "planted"}],
                "latents": {"sample": self.latents, "min_examples": 200},
                "examples": {"scored": {"activating": half, "non_activating": half}},
                "explainer": [
                    {"name": name, "kind": "contexts", "model": model, "strengths": strengths}
                    for name, strengths in zip(self.names, ("floor", "ceil"), strict=False)
                ],
                "scorer": judged,
                "primary": {"scorer": _DETECTION},
                "controls": [],
            }
        )

    @cached_property
    def store(self) -> Store:
        """The store, once it is written."""
        return Store.open(self.folder / "store")

    @cached_property
    def plan(self) -> Plan:
        """The task's arms."""
        return ready(self.task, self._models, self.store)

    @cached_property
    def chosen(self) -> list[int]:
        """The run's latents, in its order."""
        return choose(self.task, self.store.coder(CODER))

    @cached_property
    def _models(self) -> Models:
        return Models(self.task.model, lambda client: client)

    @property
    def units(self) -> int:
        """Units that the run has if everything can be explained."""
        return self.latents * sum(1 + len(self.plan.scoring(arm)) for arm in self.plan.explanation_arms)

    def write_store(self) -> None:
        """A store in which each latent fires some 300 times, at random places of random text."""
        tokens = max(_CONTEXT * 512, self.width * _FIRINGS // 64)
        positions = _CONTEXT * _CONTEXTS
        batches = -(-tokens // positions)
        density = max(1, round(self.width * _FIRINGS / (batches * positions)))
        vocabulary = Vocabulary(tuple(f" word{index}" for index in range(_WORDS)))
        frame = ManifestFrame(model="synthetic", corpus={}, context=_CONTEXT)
        coder = CoderFrame(CODER, self.width, "model.layers.12")
        with StoreWriter.create(self.folder / "store", frame, vocabulary, [coder]) as writer:
            for number in range(batches):
                writer.append(*_batch(number, density, self.width))
            writer.finish()

    def write_journal(self) -> dict[str, float]:
        """Every unit through the journal, from concurrent tasks; gives seconds and CPU seconds of the writing alone."""
        return asyncio.run(self._written())

    async def _written(self) -> dict[str, float]:
        taken = used = 0.0
        with held(self.directory):
            async with Journal(self.directory / JOURNAL) as journal:
                record, _ = freeze(self.directory, journal, self.record())
                arms = (*self.plan.explanation_arms, *self.plan.score_arms)
                await journal.begin(record, {arm.digest: asdict(arm) for arm in arms})
                for units in self._chunks():
                    began, before = time.perf_counter(), time.process_time()
                    await _write(journal, iter(units))
                    taken, used = taken + time.perf_counter() - began, used + time.process_time() - before
        return {"seconds": taken, "cpu": used}

    def record(self) -> Mapping[str, Any]:
        """What a run writes down of its task."""
        plan, store = self.plan, self.store
        found = {"id": store.id, "path": str(store.path.resolve()), "tokens": store.n_tokens}
        return {
            "task": self.task.model_dump(mode="json"),
            "source": "million.toml",
            "ranking": {"scorer": _DETECTION, "metric": "balanced_accuracy", "margin": 0.02},
            "store": {**found, "model_revision": None, "coder_revisions": {}, "figures": {}},
            "explanation_arms": [asdict(arm) for arm in plan.explanation_arms],
            "score_arms": [asdict(arm) for arm in plan.score_arms],
            "explainers": {name: dict(one.identity) for name, one in plan.explainers.items()},
            "scorers": {name: dict(one.identity) for name, one in plan.scorers.items()},
            "latents": {CODER: self.chosen},
            "model_free": self._models.model_free(),
            "versions": {},
        }

    def _chunks(self) -> Iterator[list[Unit]]:
        pool = _Pool(self.examples)
        for first in range(0, self.latents, _CHUNK):
            part = self.chosen[first : first + _CHUNK]
            if len(part) + first < self.latents and len(part) < _CHUNK:
                raise RuntimeError(f"the store has only {len(self.chosen)} latents to score")
            rng = np.random.default_rng([1, first])
            yield [unit for at, latent in enumerate(part) for unit in self._units(first + at, latent, pool, rng)]

    def _units(self, place: int, latent: int, pool: _Pool, rng: np.random.Generator) -> Iterator[Unit]:
        who, quality = Latent(CODER, latent), float(rng.standard_normal())
        drawn = self._draw(latent) if place < DRAWN else None
        for number, arm in enumerate(self.plan.real_arms(CODER)):
            key = explanation_key(arm, latent)
            usage = Usage(
                input=int(rng.integers(2000, 4000)), output=int(rng.integers(20, 200)), requests=1, cost=0.001
            )
            if rng.random() < 0.002:
                refused = Failure("refused", "the model would not answer")
                yield explanation_unit(key, arm, who, refused, (rng.bytes(12).hex(),), usage)
                continue
            explanation = Explanation(" ".join(f"word{index}" for index in rng.integers(0, _WORDS, 14).tolist()))
            yield explanation_unit(key, arm, who, explanation, (rng.bytes(12).hex(),), usage)
            for scoring in self.plan.scoring(arm):
                skill = 0.8 * (quality - 0.1 * number) + 0.6 * float(rng.standard_normal())
                replies = _keys(rng)
                own = score_key(scoring, latent, explanation)
                if drawn is None:
                    made = pool.unit(skill)
                    yield replace(made, key=own, arm=scoring.digest, latent=latent, replies=replies)
                else:
                    verdicts = _judged(Verdicts.of(drawn), skill, rng)
                    scored = Scored(verdicts, figures(verdicts), replies, _USAGE)
                    yield score_unit(own, scoring, who, scored)

    def _draw(self, latent: int) -> Sequence[Example] | None:
        task, coder = self.task, self.store.coder(CODER)
        drawn = draw(coder, latent, task.examples, task.drawing_seed, min_examples=task.latents.min_examples)
        return drawn.scored[0].examples if isinstance(drawn, LatentExamples) and drawn.scored else None


def _keys(rng: np.random.Generator) -> tuple[str, ...]:
    """The beginnings of the keys of a score's 40 replies."""
    told = rng.bytes(480).hex()
    return tuple(told[at : at + 24] for at in range(0, 960, 24))


_USAGE = Usage(input=40_000, output=2_000, requests=40, cost=0.01)


class _Pool:
    """Simulated scores, from the least to the most skilful judge."""

    def __init__(self, examples: int) -> None:
        self._examples = examples
        self._units: dict[int, Unit] = {}

    def unit(self, skill: float) -> Unit:
        """The score of a judge of some skill, a standard normal number."""
        number = min(int(POOL * float(ndtr(skill))), POOL - 1)
        if number not in self._units:
            self._units[number] = self._made(number, self._examples)
        return self._units[number]

    @staticmethod
    def _made(number: int, examples: int) -> Unit:
        rng = np.random.default_rng([2, number])
        truth = rng.permutation(np.arange(examples) % 2).astype(np.uint8)
        quantile = np.where(truth, rng.integers(1, 11, examples), 0).astype(np.uint8)
        context = rng.integers(0, 40_000, examples, np.uint32)
        start = (32 * rng.integers(0, 8, examples)).astype(np.uint16)
        whole = Verdicts(context, start, truth, quantile, *_blank(examples))
        skill = 2 * number / POOL - 1
        verdicts = _judged(whole, skill, rng)
        scored = Scored(verdicts, figures(verdicts), (), _USAGE)
        arm: Any = type("_Arm", (), {"digest": ""})
        return score_unit("", arm, Latent(CODER, 0), scored)


def _blank(count: int) -> tuple[NDArray[Any], ...]:
    nothing = np.full(count, np.nan, np.float32)
    strengths = np.empty((count, 0), np.float16)
    return (np.full(count, -1, np.int8), nothing, np.zeros(count, np.uint8), nothing, strengths, strengths)


def _judged(asked: Verdicts, skill: float, rng: np.random.Generator) -> Verdicts:
    """Verdicts of a simulated judge: sure of strong windows, less so of weak ones; in one of 50 scores some fail."""
    signal = np.where(asked.truth, 0.5 + asked.quantile / 10, -1.0) * (1.2 + skill)
    probability = expit(2 * signal + 2 * rng.standard_normal(len(asked))).astype(np.float32)
    failure = np.zeros(len(asked), np.uint8)
    if rng.random() < 0.02:
        failure[rng.integers(0, len(asked), 5)] = 3
    failed = failure > 0
    label = np.where(failed, -1, probability > 0.5).astype(np.int8)
    return replace(asked, label=label, probability=np.where(failed, np.nan, probability), failure=failure)


def _batch(number: int, density: int, width: int) -> tuple[NDArray[np.uint32], NDArray[np.int32], dict[str, Rows]]:
    rng = np.random.default_rng([3, number])
    positions = _CONTEXT * _CONTEXTS
    slots = np.sort(rng.integers(0, width, (positions, density), dtype=np.int32), axis=1)
    first = np.ones(slots.shape, dtype=bool)
    np.not_equal(slots[:, 1:], slots[:, :-1], out=first[:, 1:])
    latents = slots[first]
    values = rng.lognormal(0, 1, len(latents)).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(first.sum(axis=1))])
    tokens = rng.integers(0, _WORDS, (_CONTEXTS, _CONTEXT), dtype=np.uint32)
    start = number * positions
    documents = (np.arange(start, start + positions) // 700).astype(np.int32).reshape(_CONTEXTS, _CONTEXT)
    return tokens, documents, {CODER: Rows(indptr, latents, values)}


async def _write(journal: Journal, units: Iterator[Unit]) -> None:
    async def one() -> None:
        for unit in units:
            await journal.finish(unit)

    async with anyio.create_task_group() as group:
        for _ in range(_WRITERS):
            group.start_soon(one)
