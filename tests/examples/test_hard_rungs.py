"""The harder rungs: silent windows that hold the latent's tokens, or that related latents activate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from harness.examples import LatentExamples, draw, related
from harness.examples.related import cooccurring, find_neighbours, nearest, neighbours
from harness.examples.rungs import HARD, in_turns
from harness.examples.semantic import build_index
from harness.examples.token_places import token_places, top_tokens
from harness.store import Store
from harness.store.adding import add_rows
from harness.task import ExampleSettings, Rung, ScoredSettings, ShownSettings
from harness.values import Example

WINDOW = 32
RATES = (0.01, 0.05, 0.02, 0.0, 0.03, 0.02)


@pytest.fixture
def made(build: Callable[..., Any]) -> Any:
    generator = np.random.default_rng(0)
    decoder = generator.normal(size=(len(RATES), 8))
    decoder[2] = decoder[0] + 0.1 * generator.normal(size=8)
    decoder[3] = decoder[0]  # it never fires
    return build(contexts=300, rates=RATES, vocabulary=60, decoder=decoder.astype(np.float16))


async def letters(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embeds a text as how often it has each letter."""
    return np.array([[text.count(chr(97 + k)) for k in range(26)] for text in texts], dtype=np.float32)


def drawn(made: Any, index: int, *rungs: Rung, count: int = 50, shown: int = 40, seed: int = 0) -> LatentExamples:
    scored = ScoredSettings(activating=count, non_activating=count, rungs=("random", *rungs), embedder="test/letters")
    settings = ExampleSettings(window=WINDOW, shown=ShownSettings(count=shown), scored=scored)
    if "semantic" in rungs:
        anyio.run(build_index, made.store, settings, seed, "letters", letters)
    found = draw(made.coder, index, settings, seed)
    assert isinstance(found, LatentExamples)
    return found


def silent(found: LatentExamples, rung: Rung) -> list[Example]:
    examples = next(one.examples for one in found.scored if one.rung == rung)
    return [example for example in examples if example.rung == rung]


def window_of(example: Example, made: Any) -> int:
    place = example.passage.place
    assert place is not None
    return (place.context * made.store.context_length + place.start) // WINDOW


def fires(made: Any, index: int) -> set[int]:
    return set((np.flatnonzero(made.activations[:, index]) // WINDOW).tolist())


@pytest.mark.parametrize("rung", sorted(set(HARD) - {"misplaced"}))
@pytest.mark.parametrize("index", [0, 1])
def test_hard_negatives_are_distinct_silent_windows_of_the_scored_split(made: Any, rung: Rung, index: int) -> None:
    found = drawn(made, index, rung)
    windows = [window_of(example, made) for example in silent(found, rung)]
    assert len(windows) == found.counts[f"scored_{rung.replace('-', '_')}"] > 10
    assert len(set(windows)) == len(windows)
    assert not set(windows) & fires(made, index)
    own = {window_of(example, made) for example in (*found.shown, *found.select)}
    assert not set(windows) & own
    documents = {int(made.documents.reshape(-1, WINDOW)[k].max()) for k in windows}
    assert not documents & {int(made.documents.reshape(-1, WINDOW)[k].max()) for k in own}
    scored = next(one.examples for one in found.scored if one.rung == rung)
    assert len(scored) == 2 * len(windows)


@pytest.mark.parametrize("index", [0, 1, 4])
def test_same_token_windows_hold_one_of_the_top_tokens(made: Any, index: int) -> None:
    tokens, values = made.tokens.reshape(-1), made.activations[:, index]
    sums = {int(token): float(values[tokens == token].sum()) for token in np.unique(tokens)}
    ranked = sorted((token for token in sums if sums[token] > 0), key=lambda token: (-sums[token], token))
    total, top = 0.0, []
    for token in ranked[:10]:
        if total >= 0.8 * sum(sums.values()):
            break
        top.append(token)
        total += sums[token]
    assert top_tokens(made.coder, index) == top
    for example in silent(drawn(made, index, "same-token"), "same-token"):
        assert set(made.tokens.reshape(-1, WINDOW)[window_of(example, made)].tolist()) & set(top)


def test_neighbour_windows_are_activated_by_the_nearest_latents_that_fire(made: Any) -> None:
    assert neighbours(made.coder, 0)[0] == 2
    assert 3 not in neighbours(made.coder, 0)
    near = set.union(*(fires(made, other) for other in neighbours(made.coder, 0).tolist()))
    assert {window_of(example, made) for example in silent(drawn(made, 0, "neighbour"), "neighbour")} <= near


def test_neighbours_are_looked_for_once(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [neighbours(made.coder, index).tolist() for index in range(3)]
    find_neighbours(made.coder, range(len(RATES)))
    together = [neighbours(made.coder, index).tolist() for index in range(3)]
    again = Store.open(made.store.path).coder(made.coder.name)
    monkeypatch.setattr(related, "nearest", None)
    assert [neighbours(again, index).tolist() for index in range(3)] == alone == together


def test_a_coder_without_decoder_has_no_neighbours(build: Any) -> None:
    assert len(neighbours(build(contexts=20, rates=(0.1,)).coder, 0)) == 0


@pytest.mark.parametrize(("tile", "dtype"), [(7, np.float16), (64, np.float32), (10_000, np.float32)])
def test_nearest_is_what_all_cosines_say(tile: int, dtype: Any) -> None:
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(700, 12)).astype(dtype)
    rows[5] = 0
    rows[9] = rows[8]
    alive = generator.random(700) < 0.9
    wanted = np.arange(650)
    ids, cosines = nearest(rows, wanted, 4, alive=alive, tile=tile)
    wide = rows.astype(np.float64)
    unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-30)
    every = np.round(unit @ unit.T, 5)
    np.fill_diagonal(every, -np.inf)
    every[:, ~alive | (np.arange(700) == 5)] = -np.inf
    for latent in wanted:
        best = np.sort(every[latent])[::-1][:4]
        np.testing.assert_allclose(cosines[latent], best, atol=2e-5)
        np.testing.assert_allclose(every[latent][ids[latent]], best, atol=2e-5)
        assert len(set(ids[latent].tolist())) == 4


def test_fewer_rows_than_wanted_leave_places_empty() -> None:
    ids, cosines = nearest(np.eye(3), np.array([0, 1]), 5)
    assert ids.tolist() == [[1, 2, -1, -1, -1], [0, 2, -1, -1, -1]]
    assert np.isneginf(cosines[:, 2:]).all()


def jaccard(made: Any, index: int) -> list[int]:
    on = made.activations > 0
    scores = [
        (on[:, index] & on[:, other]).sum() / max(1, (on[:, index] | on[:, other]).sum()) for other in range(len(RATES))
    ]
    scores[index] = 0.0
    return [other for other in sorted(range(len(RATES)), key=lambda k: (-scores[k], k)) if scores[other] > 0]


@pytest.mark.parametrize("index", range(5))
def test_cooccurring_latents_are_those_of_the_largest_jaccard_index(made: Any, index: int) -> None:
    # all contexts fit the sample, so with and without rows it is exact
    assert cooccurring(made.coder, index).tolist() == jaccard(made, index)
    with_rows = add_rows(made.store.path).coder(made.coder.name)
    assert with_rows.has_rows
    assert cooccurring(with_rows, index).tolist() == jaccard(made, index)


def test_cooccurring_windows_are_activated_by_such_latents(made: Any) -> None:
    near = set.union(*(fires(made, other) for other in cooccurring(made.coder, 0).tolist()))
    assert {window_of(example, made) for example in silent(drawn(made, 0, "cooccurring"), "cooccurring")} <= near


def test_what_fires_at_positions_is_what_rows_say(made: Any) -> None:
    coder = add_rows(made.store.path).coder(made.coder.name)
    positions = np.random.default_rng(0).permutation(len(made.activations))[:200]
    found = coder.fired_at(positions)
    rows = csr_array(made.activations[positions])
    assert found.indptr.tolist() == rows.indptr.tolist()
    assert found.latents.tolist() == rows.indices.tolist()
    assert coder.fired_at(np.empty(0, dtype=np.int64)).indptr.tolist() == [0]


def test_token_places_are_those_of_documents_and_are_kept_in_files(made: Any) -> None:
    tokens, documents = made.tokens.reshape(-1), made.documents.reshape(-1)
    for store in (made.store, Store.open(made.store.path)):
        places = token_places(store)
        for token in (0, 1, 17, 59, 1_000):
            assert places.of(token).tolist() == np.flatnonzero((tokens == token) & (documents >= 0)).tolist()
    assert len(list(made.store.path.glob("places-*.npy"))) == 3


def test_a_hard_rung_changes_nothing_else(made: Any) -> None:
    plain, more = drawn(made, 1), drawn(made, 1, *HARD)
    assert [window_of(one, made) for one in plain.shown] == [window_of(one, made) for one in more.shown]
    assert [window_of(one, made) for one in plain.select] == [window_of(one, made) for one in more.select]
    assert [window_of(one, made) for one in plain.scored[0].examples] == [
        window_of(one, made) for one in more.scored[0].examples
    ]
    for rung in HARD:
        alone = drawn(made, 1, rung)
        assert [window_of(one, made) for one in silent(alone, rung)] == [
            window_of(one, made) for one in silent(more, rung)
        ]


def test_hard_windows_that_copy_a_shown_one_are_dropped_and_counted(build: Any) -> None:
    def copied(tokens: np.ndarray, documents: np.ndarray, dense: np.ndarray) -> None:
        # every document's windows are the same text: all share runs
        tokens[:, 1:] = 1 + np.arange(tokens.shape[1] - 1) % 50

    made = build(contexts=120, rates=(0.02, 0.02), vocabulary=60, change=copied)
    scored = ScoredSettings(activating=10, non_activating=10, rungs=("random", "cooccurring"))
    settings = ExampleSettings(window=WINDOW, scored=scored)
    found = draw(made.coder, 0, settings, 0)
    if isinstance(found, LatentExamples):
        assert found.counts["scored_cooccurring_dropped"] > 0
        assert all(one.rung != "cooccurring" for one in found.scored)


def test_turns_take_one_of_each_group() -> None:
    groups = [np.arange(100), np.arange(100, 104), np.arange(50, 60)]
    order = in_turns(groups, np.random.Generator(np.random.PCG64(0)))
    assert sorted(order.tolist()) == list(range(104))
    assert {k // 100 for k in order[:3].tolist()} == {0, 1}
    assert sum(k >= 100 for k in order[:12].tolist()) == 4
    assert len(in_turns([], np.random.Generator(np.random.PCG64(0)))) == 0


def test_each_group_is_drawn_from_uniformly() -> None:
    counts = np.zeros(20)
    for seed in range(2000):
        order = in_turns([np.arange(20), np.arange(20, 40)], np.random.Generator(np.random.PCG64(seed)))
        counts[[k for k in order[:6].tolist() if k < 20]] += 1
    assert abs(counts - 300).max() < 5 * np.sqrt(2000 * 0.15 * 0.85)
