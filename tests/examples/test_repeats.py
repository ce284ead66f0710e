"""Runs of tokens that a store has twice, and that looking for them changes no draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.examples import LatentExamples, draw, repeats
from harness.examples.repeats import repeats_of
from harness.examples.windows import RUN
from harness.task import ExampleSettings, ScoredSettings, ShownSettings
from harness.values import Example

CONTEXT = 64


def copied(tokens: NDArray[np.uint32], documents: NDArray[np.int32], dense: NDArray[np.float32]) -> None:
    """Random text of many words, in which stretches of 10 to 40 tokens stand again elsewhere."""
    generator = np.random.default_rng(3)
    tokens[:] = generator.integers(1, 60, tokens.shape)
    for _ in range(len(tokens) // 2):
        length = int(generator.integers(10, 41))
        (a, b), (i, j) = generator.integers(len(tokens), size=2), generator.integers(CONTEXT - length, size=2)
        tokens[a, i : i + length] = tokens[b, j : j + length]


@pytest.mark.parametrize("length", [8, 16, 32, 64])
def test_windows_with_a_run_that_stands_elsewhere_are_found(build: Callable[..., Any], length: int) -> None:
    store = build(contexts=80, context=CONTEXT, vocabulary=60, change=copied).store
    rows = [tuple(row.tolist()) for row in store.tokens]
    counts = Counter(row[at : at + RUN] for row in rows for at in range(CONTEXT - RUN + 1))
    starts = np.arange(0, store.n_tokens, length)
    # windows that do not lie on the grid too
    starts = np.unique(np.concatenate([starts, starts[starts % CONTEXT <= CONTEXT - length - 5] + 5]))
    found = repeats_of(store).among(starts, length).tolist()
    expected = [
        place
        for place, (context, at) in enumerate(zip(*np.divmod(starts, CONTEXT), strict=True))
        if length < RUN or any(counts[rows[context][k : k + RUN]] > 1 for k in range(at, at + length - RUN + 1))
    ]
    assert found == expected
    assert length < RUN or 0 < len(found) < len(starts)


@pytest.mark.parametrize("peak", [None, 16])
def test_draws_are_those_of_comparing_every_window(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, peak: int | None
) -> None:
    settings = ExampleSettings(
        peak=peak,
        shown=ShownSettings(count=60),
        scored=ScoredSettings(activating=40, non_activating=40, rungs=("random", "cooccurring")),
    )

    def drawn() -> list[LatentExamples]:
        made = build(contexts=300, context=CONTEXT, rates=(0.02, 0.03), vocabulary=60, change=copied)
        found = [draw(made.coder, index, settings, 0) for index in range(2)]
        return [one for one in found if isinstance(one, LatentExamples)]

    def seen(one: LatentExamples) -> list[Any]:
        def tokens(examples: tuple[Example, ...]) -> list[Any]:
            return [example.passage.tokens for example in examples]

        return [tokens(one.shown), tokens(one.select), [tokens(rung.examples) for rung in one.scored], one.counts]

    ours = drawn()
    monkeypatch.setattr(repeats, "_MOST", 0)
    plain = drawn()
    assert len(ours) == 2
    assert [seen(one) for one in ours] == [seen(one) for one in plain]
    assert sum(one.counts["shown_dropped"] + one.counts["select_dropped"] for one in ours) > 0
    # centred windows of related latents are fewer
    assert peak is not None or sum(one.counts["scored_cooccurring_dropped"] for one in ours) > 0
