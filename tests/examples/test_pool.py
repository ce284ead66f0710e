"""The pool: more windows of the shown documents, which tell nothing of scored ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.examples import LatentExamples, draw
from harness.examples.pool import POOLED, Pool
from harness.examples.related import cooccurring, neighbours
from harness.examples.splits import SPLITS, split_of
from harness.examples.token_places import top_tokens
from harness.task import ExampleSettings, Rung, ScoredSettings
from harness.values import Example

WINDOW = 32
RATES = (0.01, 0.05, 0.02, 0.0, 0.03)
RUN = 16


@pytest.fixture
def made(build: Callable[..., Any]) -> Any:
    decoder = np.random.default_rng(0).normal(size=(len(RATES), 8)).astype(np.float16)
    return build(contexts=300, rates=RATES, vocabulary=60, decoder=decoder)


@pytest.fixture
def copied(build: Callable[..., Any]) -> Any:
    """Every third context is nearly the same text as the first."""

    def change(tokens: NDArray[np.uint32], _: NDArray[np.int32], __: NDArray[np.float32]) -> None:
        tokens[::3, 5:40] = tokens[0, 5:40]

    return build(contexts=300, rates=RATES, vocabulary=60, document_length=64, change=change)


def settings(rungs: tuple[Rung, ...] = ("random",), peak: int | None = None) -> ExampleSettings:
    return ExampleSettings(
        window=WINDOW, peak=peak, scored=ScoredSettings(activating=20, non_activating=20, rungs=rungs)
    )


def pool_of(made: Any, index: int = 1, asked: ExampleSettings | None = None, seed: int = 0) -> Pool:
    return Pool.of(made.coder, index, asked or settings(), seed)


def positions(example: Example, made: Any) -> slice:
    place = example.passage.place
    assert place is not None
    start = place.context * made.store.context_length + place.start
    return slice(start, start + WINDOW)


def every(pool: Pool) -> list[Example]:
    return [*pool.activating(10_000), *(one for rung in pool.rungs for one in pool.silent(10_000, rung))]


def runs(made: Any, where: Sequence[slice]) -> set[tuple[int, ...]]:
    tokens = made.tokens.reshape(-1)
    starts = [at for some in where for at in range(some.start, some.stop - RUN + 1)]
    return {tuple(tokens[at : at + RUN].tolist()) for at in starts}


@pytest.mark.parametrize("peak", [None, 8])
def test_all_windows_are_of_shown_documents(made: Any, peak: int | None) -> None:
    found = every(pool_of(made, asked=settings(peak=peak)))
    assert len(found) > 100
    documents = np.array([made.documents.reshape(-1)[positions(one, made)].max() for one in found])
    assert (split_of(0, documents, settings().split) == SPLITS.index("shown")).all()


@pytest.mark.parametrize("peak", [None, 8])
def test_activations_are_those_of_the_store(made: Any, peak: int | None) -> None:
    pool = pool_of(made, asked=settings(peak=peak))
    for example in every(pool):
        own = made.activations[positions(example, made), 1]
        assert (example.activations == own).all()
        assert example.activating == bool(own.any()) == (example.rung is None)
        assert example.passage.tokens == tuple(
            made.store.pieces(*divmod(positions(example, made).start, 64), positions(example, made).start % 64 + WINDOW)
        )


def test_windows_of_a_quantile_are_that_slice_of_all_by_strength(made: Any) -> None:
    pool = pool_of(made)
    own = made.activations[:, 1].reshape(-1, WINDOW)
    documents = made.documents.reshape(-1, WINDOW)
    whole = [np.unique(row[row >= 0]).size == 1 for row in documents]
    maxima = own.max(axis=1)
    ranked = [k for k in np.argsort(maxima, kind="stable") if maxima[k] > 0 and whole[k]]
    for quantile in (1, 5, 10):
        expected = {k for rank, k in enumerate(ranked) if rank * 10 // len(ranked) + 1 == quantile}
        found = pool.activating(10_000, quantile)
        assert found
        assert {positions(one, made).start // WINDOW for one in found} <= expected
        assert {one.quantile for one in found} == {quantile}
    # the rest of a slice is in other splits
    assert sum(len(pool.activating(10_000, q)) for q in range(1, 11)) == len(pool.activating(10_000))


def test_hard_rungs_are_what_they_are_for_scored_windows(made: Any) -> None:
    pool = pool_of(made, 0)
    assert pool.rungs == ("random", *POOLED)
    tops = set(top_tokens(made.coder, 0))
    for example in pool.silent(10_000, "same-token"):
        assert set(made.tokens.reshape(-1)[positions(example, made)].tolist()) & tops
    for rung, related in (("neighbour", neighbours(made.coder, 0)), ("cooccurring", cooccurring(made.coder, 0))):
        found = pool.silent(10_000, rung)  # type: ignore[arg-type]  # a rung from a tuple
        assert found
        for example in found:
            assert made.activations[positions(example, made)][:, related].any()


def test_nothing_shares_a_run_of_tokens_with_anything_of_the_scored_split(copied: Any) -> None:
    documents = copied.documents.reshape(-1)
    scored = set(np.flatnonzero((documents >= 0) & (split_of(0, documents, settings().split) == 2)).tolist())
    tokens = copied.tokens.reshape(-1)
    own = {
        tuple(tokens[at : at + RUN].tolist())
        for at in range(len(tokens) - RUN + 1)
        if scored.issuperset(range(at, at + RUN))
    }
    pool = pool_of(copied)
    found = every(pool)
    assert len(found) > 50
    assert not runs(copied, [positions(one, copied) for one in found]) & own
    # and copies there are, of windows that would else be had
    drawn = draw(copied.coder, 1, settings(), 0)
    assert isinstance(drawn, LatentExamples)
    assert drawn.counts["shown_dropped"] > 0


def test_rungs_that_are_scored_change_nothing(made: Any) -> None:
    one, other = pool_of(made), pool_of(made, asked=settings(("random", "same-token", "misplaced")))
    places = [[positions(example, made) for example in every(pool)] for pool in (one, other)]
    assert places[0] == places[1]


@pytest.mark.parametrize("rung", [None, "random", "same-token"])
@pytest.mark.parametrize("peak", [None, 8])
def test_a_smaller_count_begins_a_larger_one_and_purposes_differ(made: Any, rung: Any, peak: int | None) -> None:
    pool = pool_of(made, asked=settings(peak=peak))

    def some(count: int, **more: Any) -> list[slice]:
        found = pool.activating(count, **more) if rung is None else pool.silent(count, rung, **more)
        return [positions(one, made) for one in found]

    ten = some(10, purpose="a")
    assert len(ten) == 10
    assert some(4, purpose="a") == ten[:4]
    assert some(6, start=4, purpose="a") == ten[4:]
    assert some(10, purpose="b") != ten
    assert len({one.start for one in ten}) == 10


def test_seeds_latents_and_purposes_have_orders_of_their_own(made: Any) -> None:
    first = [positions(one, made) for one in pool_of(made).silent(20, "random")]
    assert [positions(one, made) for one in pool_of(made).silent(20, "random")] == first
    assert [positions(one, made) for one in pool_of(made, seed=1).silent(20, "random")] != first
    assert [positions(one, made) for one in pool_of(made, 2).silent(20, "random")] != first


def test_what_cannot_be_had_is_refused(made: Any, build: Any) -> None:
    pool = pool_of(made)
    with pytest.raises(ValueError, match='no windows of rung "semantic"; there are: random, same-token'):
        pool.silent(1, "semantic")
    with pytest.raises(ValueError, match="no quantile 11; there are 1 to 10"):
        pool.activating(1, 11)
    assert "neighbour" not in pool_of(build(contexts=20, rates=(0.1, 0.1))).rungs
    assert Pool().activating(3) == ()


def test_a_draw_carries_its_pool(made: Any) -> None:
    found = draw(made.coder, 1, settings(), 0)
    assert isinstance(found, LatentExamples)
    mine = [positions(one, made) for one in found.pool.silent(5, "random")]
    assert mine == [positions(one, made) for one in pool_of(made).silent(5, "random")]
