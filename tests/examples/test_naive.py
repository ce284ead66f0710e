"""On random stores every example is what plain loops over all windows find, on every rung."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.examples import LatentExamples, draw, mark
from harness.examples.splits import SPLITS
from harness.examples.splits import split_of as ours
from harness.task import ExampleSettings, Rung, SplitSettings
from harness.values import Example, Failure

RUN = 16
RATES = (0.01, 0.03, 0.15, 0.005)
EACH = 3
HARD: tuple[Rung, ...] = ("same-token", "neighbour", "cooccurring")
MASK = 2**64 - 1


def split_of(seed: int, document: int) -> str:
    """SplitMix64 of seed and document, as a number in [0, 1), against the shares 0.4, 0.1, 0.5."""
    key = json.dumps([seed, "documents"], separators=(",", ":")).encode()
    bits = int(hashlib.sha256(key).hexdigest()[:16], 16) + (document + 1) * 0x9E3779B97F4A7C15 & MASK
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & MASK
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & MASK
    place = ((bits ^ bits >> 31) >> 11) / 2**53
    return "shown" if place < 0.4 else "select" if place < 0.5 else "scored"


@dataclass(frozen=True)
class Window:
    """A window of one document."""

    split: str
    tokens: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def maximum(self) -> float:
        return max(self.values)

    @property
    def runs(self) -> set[tuple[int, ...]]:
        length = min(RUN, len(self.tokens))
        return {self.tokens[k : k + length] for k in range(len(self.tokens) - length + 1)}


class Naive:
    """One latent's windows by loops over lists."""

    def __init__(self, made: Any, index: int, seed: int, length: int) -> None:
        self.made, self.index, self.length = made, index, length
        self.windows: dict[int, Window] = {}
        tokens, owners = made.tokens.reshape(-1).tolist(), made.documents.reshape(-1).tolist()
        values = made.activations[:, index].tolist()
        self.active: dict[int, Window] = {}
        self.cut = 0
        for number in range(len(tokens) // length):
            inside = slice(number * length, (number + 1) * length)
            documents = {owner for owner in owners[inside] if owner >= 0}
            if len(documents) != 1:
                self.cut += any(values[inside])
                continue
            window = Window(split_of(seed, documents.pop()), tuple(tokens[inside]), tuple(values[inside]))
            self.windows[number] = window
            if window.maximum > 0:
                self.active[number] = window
        ranked = sorted(self.active, key=lambda k: (self.active[k].maximum, k))
        self.decile = {number: rank * 10 // len(ranked) + 1 for rank, number in enumerate(ranked)}

    def of(self, split: str, *, active: bool) -> list[int]:
        return [k for k, window in self.windows.items() if window.split == split and (k in self.active) is active]

    def hard(self, rung: str) -> set[int]:
        """The silent scored windows that a rung may draw."""
        if rung == "same-token":
            wanted = self._top_tokens()
            owners = self.made.documents.reshape(-1, self.length)
            found = {
                k
                for k, window in self.windows.items()
                if any(token in wanted and owners[k, p] >= 0 for p, token in enumerate(window.tokens))
            }
        else:
            others = [k for k in range(len(RATES)) if k != self.index and self._related(k, rung)]
            fires = np.add.reduce(self.made.activations[:, others], axis=1).reshape(-1, self.length).any(axis=1)
            found = {k for k in self.windows if fires[k]}
        return found & set(self.of("scored", active=False))

    def _top_tokens(self) -> set[int]:
        sums: dict[int, float] = defaultdict(float)
        for token, value in zip(self.made.tokens.ravel().tolist(), self.made.activations[:, self.index], strict=True):
            sums[token] += float(value)
        top: set[int] = set()
        held = 0.0
        for token in sorted((token for token in sums if sums[token] > 0), key=lambda token: (-sums[token], token))[:10]:
            if held < 0.8 * sum(sums.values()):
                top.add(token)
            held += sums[token]
        return top

    def _related(self, other: int, rung: str) -> bool:
        # fewer than ten latents: all are among the ten nearest
        fires, mine = self.made.activations[:, other] > 0, self.made.activations[:, self.index] > 0
        return bool(fires.any()) if rung == "neighbour" else bool((fires & mine).any())


@st.composite
def stores(chooser: st.DrawFn) -> dict[str, Any]:
    return {
        "contexts": chooser(st.integers(30, 120)),
        "document_length": chooser(st.sampled_from([20, 60, 150])),
        "vocabulary": chooser(st.sampled_from([12, 40, 300])),
        "seed": chooser(st.integers(0, 1000)),
        "copies": chooser(st.integers(0, 150)),
    }


def built(build: Any, copies: int, seed: int, **kind: Any) -> Any:
    """A store in which some windows copy others, and some firings are equally strong."""
    generator = np.random.default_rng(seed)

    def change(tokens: NDArray[np.uint32], _: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        rows = tokens.reshape(-1, RUN)
        rows[generator.integers(len(rows), size=copies)] = rows[generator.integers(len(rows), size=copies)]
        values[values > 0] = np.maximum(0.25, np.round(values[values > 0] * 4) / 4)

    decoder = generator.normal(size=(len(RATES), 4)).astype(np.float16)
    return build(rates=RATES, seed=seed, change=change, decoder=decoder, **kind)


@given(
    stores(), st.sampled_from([8, 16, 32]), st.integers(0, 3), st.integers(0, 99), st.sampled_from(["random", "top"])
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
def test_every_example_is_what_loops_find(
    build: Any, kind: dict[str, Any], length: int, index: int, seed: int, sampler: str
) -> None:
    made = built(build, **kind)
    naive = Naive(made, index, seed, length)
    asked = ExampleSettings.model_validate(
        {
            "window": length,
            "shown": {"sampler": sampler, "count": 30},
            "scored": {"activating": 10 * EACH, "non_activating": 10 * EACH, "minimum": 2, "rungs": ["random", *HARD]},
        }
    )
    found = draw(made.coder, index, asked, seed)
    if isinstance(found, Failure):
        scored = min(len(naive.of("scored", active=True)), len(naive.of("scored", active=False)))
        assert scored < 2 or not _fresh(naive, "shown", _all_scored(naive))
        return
    assert found.counts["activating_windows"] == len(naive.active)
    assert found.counts["activating_windows_not_of_one_document"] == naive.cut
    assert found.base_rate == len(naive.active) / len(naive.windows)
    assert found.maximum == made.activations[:, index].max()
    _check_scored(found, naive)
    _check_unscored(found, naive, sampler)


def _all_scored(naive: Naive) -> set[tuple[int, ...]]:
    return {run for k, window in naive.windows.items() if window.split == "scored" for run in naive.windows[k].runs}


def _fresh(naive: Naive, split: str, runs: set[tuple[int, ...]], *, active: bool = True) -> list[int]:
    return [k for k in naive.of(split, active=active) if not naive.windows[k].runs & runs]


def _numbers(examples: Any, naive: Naive, split: str, rung: str) -> list[int]:
    """The windows' numbers, after a look at each."""
    numbers = []
    for example in examples:
        place = example.passage.place
        assert place is not None
        number, rest = divmod(place.context * naive.made.store.context_length + place.start, naive.length)
        window = naive.windows[number]
        assert (rest, window.split) == (0, split)
        assert tuple(example.activations.tolist()) == window.values
        strings = naive.made.store.vocabulary.strings
        assert example.passage.tokens == tuple(strings[token] for token in window.tokens)
        assert example.quantile == naive.decile.get(number)
        assert example.rung == (None if number in naive.active else rung)
        numbers.append(number)
    assert len(set(numbers)) == len(numbers)
    return numbers


def _check_scored(found: LatentExamples, naive: Naive) -> None:
    available = Counter(naive.decile[k] for k in naive.of("scored", active=True))
    most = sum(min(EACH, number) for number in available.values())
    seen = {run for one in (*found.shown, *found.select) for run in Window("", _ids(one, naive), ()).runs}
    sizes = {
        "random": len(naive.of("scored", active=False)),
        **{rung: len([k for k in naive.hard(rung) if not naive.windows[k].runs & seen]) for rung in HARD},
    }
    pairs = {rung: min(most, 10 * EACH, size) for rung, size in sizes.items()}
    assert {one.rung: len(one.examples) / 2 for one in found.scored} == {r: n for r, n in pairs.items() if n >= 2}
    for one in found.scored:
        numbers = _numbers(one.examples, naive, "scored", one.rung)
        active = [k for k in numbers if k in naive.active]
        assert len(active) == pairs[one.rung]
        assert one.rung == "random" or set(numbers) - set(active) <= naive.hard(one.rung)
        got = Counter(naive.decile[k] for k in active)
        for decile in range(1, 11):
            # one of each decile in turn, and none is passed over that has more
            assert got[decile] == min(EACH, available[decile]) or max(got.values()) <= got[decile] + 1
        _check_marks(one, naive)
    assert found.counts["scored"] == pairs["random"]


def _ids(example: Example, naive: Naive) -> tuple[int, ...]:
    place = example.passage.place
    assert place is not None
    return tuple(naive.made.tokens[place.context, place.start : place.start + naive.length].tolist())


def _check_unscored(found: LatentExamples, naive: Naive, sampler: str) -> None:
    headline = next((one for one in found.scored if one.rung == "random"), None)
    assert headline is not None
    runs = {run for one in headline.examples for run in Window("", _ids(one, naive), ()).runs}
    shown = _numbers(found.shown, naive, "shown", "")
    fresh = _fresh(naive, "shown", runs)
    assert set(shown) <= set(fresh)
    assert len(shown) == found.counts["shown"] == min(30, len(fresh))
    if sampler == "top":
        assert shown == sorted(fresh, key=lambda k: (-naive.active[k].maximum, k))[:30]
    if len(fresh) < 30:
        assert found.counts["shown_dropped"] == len(naive.of("shown", active=True)) - len(fresh)
    select = _numbers(found.select, naive, "select", "random")
    active = [k for k in select if k in naive.active]
    assert set(active) <= set(_fresh(naive, "select", runs))
    assert set(select) - set(active) <= set(_fresh(naive, "select", runs, active=False))
    assert len(select) == 2 * len(active) == 2 * found.counts["select"]


def _check_marks(scored: Any, naive: Naive) -> None:
    passages = mark(scored, 0.3, 5)
    patterns: dict[bool, list[tuple[int, ...]]] = {True: [], False: []}
    for example, passage in zip(scored.examples, passages, strict=True):
        if example.activating:
            peak = max(example.activations)
            expected = tuple(
                k for k, value in enumerate(example.activations.tolist()) if value >= np.float32(0.3) * peak
            )
            assert passage.marks == expected
        patterns[example.activating].append(_runs(passage.marks))
    assert sorted(patterns[True]) == sorted(patterns[False])


def _runs(marks: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths of runs of consecutive marks, in their order."""
    lengths: list[int] = []
    for place, position in enumerate(marks):
        if place and marks[place - 1] == position - 1:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return tuple(lengths)


def test_stores_of_this_kind_have_copies_and_ties(build: Any) -> None:
    # else the test above would show little
    made = built(build, copies=150, seed=1, contexts=60, document_length=60, vocabulary=40)
    found = draw(made.coder, 1, ExampleSettings(window=16), 1)
    assert isinstance(found, LatentExamples)
    assert found.counts["shown_dropped"] > 0
    maxima = [float(example.activations.max()) for example in found.shown]
    assert len(set(maxima)) < len(maxima)


@pytest.mark.parametrize("document", [0, 1, 77])
def test_splits_are_those_of_the_plain_hash(document: int) -> None:
    for seed in range(30):
        assert SPLITS[ours(seed, np.array([document]), SplitSettings())[0]] == split_of(seed, document)
