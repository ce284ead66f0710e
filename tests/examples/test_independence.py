"""A draw depends on seed, coder, latent and purpose: not on other latents, their order, threads or processes."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.examples import LatentExamples, draw
from harness.store import Store
from harness.task import ExampleSettings

RATES = (0.01, 0.03, 0.05, 0.02)


def identity(path: Path, index: int) -> list[Any]:
    """All that a draw of a latent gave, in a store opened for it alone."""
    return _identity(Store.open(path), index)


def _identity(store: Store, index: int) -> list[Any]:
    asked = ExampleSettings.model_validate({"scored": {"rungs": ["random", "same-token"]}})
    found = draw(store.coder("planted"), index, asked, 3)
    assert isinstance(found, LatentExamples)
    groups = [found.shown, found.select, *(one.examples for one in found.scored)]
    windows = [[(*one.passage.identity()[1:], one.activations.tolist(), one.quantile) for one in g] for g in groups]
    places = [[one.passage.place and (one.passage.place.context, one.passage.place.start) for one in g] for g in groups]
    return [windows, places, dict(found.counts), found.maximum, found.base_rate]


@pytest.fixture
def made(build: Any) -> Any:
    return build(contexts=300, rates=RATES, vocabulary=60)


def test_other_latents_change_nothing(made: Any, build: Any) -> None:
    def change(_: NDArray[np.uint32], __: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        values[..., [0, 2, 3]] = values[::-1, ::-1, [3, 0, 2]] * 2

    other = build(contexts=300, rates=RATES, vocabulary=60, change=change)
    assert (other.activations[:, 0] != made.activations[:, 0]).any()
    assert _identity(other.store, 1) == _identity(made.store, 1)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_workers_and_their_order_change_nothing(made: Any, kind: str) -> None:
    latents = [2, 0, 3, 1, 0, 2]
    alone = {index: identity(made.store.path, index) for index in set(latents)}
    if kind == "threads":
        # they share one opened store
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(_identity, [made.store] * len(latents), latents))
    else:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(identity, [made.store.path] * len(latents), latents))
    assert found == [alone[index] for index in latents]
