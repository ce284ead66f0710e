"""The rung `semantic`: silent windows whose embeddings are nearest to those of activating windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from harness.errors import StoreError
from harness.examples import LatentExamples, draw, semantic
from harness.examples.semantic import SemanticIndex, build_index, open_index
from harness.examples.splits import grid_of
from harness.store import Store
from harness.task import ExampleSettings, ScoredSettings, SplitSettings

pytestmark = pytest.mark.anyio

WINDOW, TOPIC = 32, range(10, 16)
SETTINGS = ExampleSettings(
    window=WINDOW,
    scored=ScoredSettings(activating=30, non_activating=30, rungs=("random", "semantic"), embedder="test/words"),
)


class Words:
    """Embeds a text as what it has of each letter, and keeps the texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        counts = [[text.count(chr(97 + letter)) for letter in range(26)] for text in texts]
        return np.array(counts, dtype=np.float32)


def of_topic(tokens: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Windows of more than half of the topic's words."""
    return np.isin(tokens.reshape(-1, WINDOW), TOPIC).mean(1) > 0.5


def topics(tokens: NDArray[np.uint32], documents: NDArray[np.int32], dense: NDArray[np.float32]) -> None:
    """One context in four is of a topic with words of its own; latent 0 fires in half of its windows, nowhere else."""
    generator = np.random.default_rng(1)
    ours = np.arange(len(tokens)) % 4 == 0
    tokens[ours] = generator.choice(TOPIC, tokens[ours].shape)
    tokens[~ours] = generator.integers(1, 10, tokens[~ours].shape)
    documents[:] = np.arange(len(documents))[:, None]
    fires = np.zeros(tokens.shape, dtype=bool).reshape(len(tokens), -1, WINDOW)
    fires[ours] = generator.random((int(ours.sum()), fires.shape[1], 1)) < 0.5
    dense[..., 0] = np.where(fires.reshape(tokens.shape), generator.lognormal(0, 1, tokens.shape), 0)


@pytest.fixture
def made(build: Callable[..., Any]) -> Any:
    return build(contexts=400, change=topics)


def silent(made: Any, settings: ExampleSettings = SETTINGS) -> tuple[LatentExamples, list[int]]:
    found = draw(made.coder, 0, settings, 0)
    assert isinstance(found, LatentExamples)
    examples = next(one.examples for one in found.scored if one.rung == "semantic")
    places = [example.passage.place for example in examples if example.rung == "semantic"]
    return found, [(place.context * 64 + place.start) // WINDOW for place in places if place is not None]


async def test_silent_windows_are_of_the_meaning_of_activating_ones(made: Any) -> None:
    await build_index(made.store, SETTINGS, 0, "words", Words())
    found, windows = silent(made)
    assert len(windows) == len(set(windows)) == found.counts["scored_semantic"] == 30
    assert of_topic(made.tokens)[windows].all()
    assert not (made.activations[:, 0].reshape(-1, WINDOW)[windows] > 0).any()
    grid = grid_of(made.store, WINDOW, 0, SETTINGS.split)
    assert np.isin(windows, grid.members["scored"]).all()
    random = [example for example in found.scored[0].examples if example.rung == "random"]
    chance = [example.passage.place.context % 4 == 0 for example in random if example.passage.place is not None]
    assert np.mean(chance) < 0.4


async def test_windows_around_centred_peaks_are_of_the_meaning_too(made: Any) -> None:
    await build_index(made.store, SETTINGS, 0, "words", Words())
    _, windows = silent(made, SETTINGS.model_copy(update={"peak": 16}))
    assert len(windows) > 10
    assert all((window * WINDOW // 64) % 4 == 0 for window in windows)


async def test_the_nearest_are_those_of_another_librarys_search(made: Any) -> None:
    embed = Words()
    await build_index(made.store, SETTINGS, 0, "words", embed)
    index = open_index(made.store, SETTINGS, 0)
    assert embed.texts == ["".join(p) for p in made.store.window_pieces(index.ids * WINDOW, WINDOW)]
    assert np.array_equal(index.ids, grid_of(made.store, WINDOW, 0, SETTINGS.split).members["scored"])
    np.testing.assert_allclose(np.linalg.norm(index.vectors, axis=1), 1, atol=1e-6)
    activating = np.flatnonzero((made.activations[:, 0].reshape(-1, WINDOW) > 0).any(1))
    groups = index.like(activating, np.random.default_rng(0))
    fires = np.isin(index.ids, activating)
    asked = np.random.default_rng(0).permutation(np.flatnonzero(fires))[:25]
    search = NearestNeighbors(n_neighbors=20, metric="cosine").fit(index.vectors[~fires])
    distances, _ = search.kneighbors(index.vectors[asked])
    rows = {int(number): at for at, number in enumerate(index.ids)}
    assert len(groups) == len(asked) == 25
    for row, group, expected in zip(asked, groups, distances, strict=True):
        cosines = [float(index.vectors[rows[int(number)]] @ index.vectors[row]) for number in group]
        np.testing.assert_allclose(cosines, 1 - expected, atol=3e-5)
        assert not np.isin(group, activating).any()


async def test_it_is_built_once_for_what_decides_it(made: Any) -> None:
    for identity, seed, texts in (("a", 0, True), ("a", 0, False), ("b", 0, True), ("b", 1, True)):
        embed = Words()
        await build_index(made.store, SETTINGS, seed, identity, embed)
        assert bool(embed.texts) == texts
    draws = [[example.passage.text for example in silent(made)[0].scored[1].examples] for _ in range(2)]
    assert draws[0] == draws[1]


async def test_a_pool_is_drawn_at_random_from_more(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "_POOL", 40)
    told: list[tuple[int, int]] = []
    await build_index(made.store, SETTINGS, 0, "words", Words(), lambda *done: told.append(done))
    ids = open_index(made.store, SETTINGS, 0).ids
    members = grid_of(made.store, WINDOW, 0, SETTINGS.split).members["scored"]
    assert len(set(ids.tolist())) == 40
    assert set(ids.tolist()) <= set(members.tolist())
    assert np.mean(ids) == pytest.approx(np.mean(members), rel=0.3)
    assert told == [(40, 40)]


async def test_a_build_that_was_stopped_is_no_index(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await build_index(made.store, SETTINGS, 0, "a", Words())

    async def fails(_: Sequence[str]) -> NDArray[np.float32]:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await build_index(made.store, SETTINGS, 0, "b", fails)
    with pytest.raises(StoreError, match=r"no semantic index for windows of 32 tokens by test/words"):
        silent(made)
    await build_index(made.store, SETTINGS, 0, "b", Words())
    assert len(silent(made)[1]) == 30


async def test_a_store_with_no_window_to_score_has_an_empty_index(made: Any) -> None:
    split = SplitSettings(shown=0.999998, select=1e-6, scored=1e-6)
    settings = SETTINGS.model_copy(update={"split": split})
    await build_index(made.store, settings, 0, "a", Words())
    assert len(open_index(Store.open(made.store.path), settings, 0).ids) == 0


def test_a_latent_that_fires_nowhere_in_the_pool_has_none_like_it() -> None:
    index = SemanticIndex(np.arange(4), np.eye(4, dtype=np.float32))
    assert index.like(np.array([7]), np.random.default_rng(0)) == []
    assert [group.tolist() for group in index.like(np.arange(4), np.random.default_rng(0))] == [[]] * 4


def test_no_file_beside_a_store_but_its_own(tmp_path: Path, made: Any) -> None:
    with pytest.raises(StoreError, match="a run with this rung builds it"):
        open_index(made.store, SETTINGS, 0)
    assert list(tmp_path.glob("**/semantic*")) == []
