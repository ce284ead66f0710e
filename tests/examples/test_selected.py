"""Examples from published records: split by row, silent windows only from a latent's own rows, no shares of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from harness.examples import LatentExamples, draw
from harness.examples.splits import NO_SPLIT, SPLITS, grid_of, rows_split
from harness.interop.records import Record, write_records
from harness.store import Store
from harness.task import ExampleSettings, Rung, ScoredSettings, ShownSettings, SplitSettings
from harness.values import Example, Failure

SHARES = SplitSettings()
BOTH: tuple[Rung, ...] = ("zero-row", "same-row")


@dataclass(frozen=True)
class Made:
    """A store of records and what they say: for each latent its rows' values `[rows][positions]` by context."""

    store: Store
    values: dict[int, dict[int, np.ndarray]]

    def zero(self, latent: int) -> set[int]:
        return {context for context, values in self.values[latent].items() if not values.any()}


Make = Callable[..., Made]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes records: each of `latents` has 30 rows of its own that it activates once or twice and 5 silent ones.

    Latent 0's word is `hit`, and every row of the others is full of it: were latent 0 asked about there, it would fire.
    """
    monkeypatch.setattr("os.fsync", lambda _: None)
    made = 0

    def go(latents: int = 3, rows: int = 30, zeros: int = 5, length: int | Sequence[int] = 127) -> Made:
        nonlocal made
        made += 1
        generator = np.random.default_rng(made)
        records: list[Record] = []
        values: dict[int, dict[int, np.ndarray]] = {latent: {} for latent in range(latents)}
        for latent in range(latents):
            for row in range(rows + zeros):
                size = length if isinstance(length, int) else length[row % len(length)]
                own = np.zeros(size)
                tokens = [f" w{n}" for n in generator.integers(0, 5000, size)]
                if row < rows:
                    own[generator.integers(0, size, 1 + row % 2)] = generator.uniform(0.5, 3)
                for place in np.flatnonzero(own) if latent == 0 else range(0, size, 5):
                    tokens[place] = " hit"
                values[latent][len(records)] = own
                records.append(Record("m", "s", latent, tokens, own.tolist(), f"record {len(records)}"))
        return Made(write_records(records, "made", tmp_path / f"store{made}"), values)

    return go


def settings(rungs: tuple[Rung, ...] = BOTH, *, window: int = 32, count: int = 20, minimum: int = 5) -> ExampleSettings:
    scored = ScoredSettings(activating=count, non_activating=count, minimum=minimum, rungs=rungs)
    return ExampleSettings(window=window, shown=ShownSettings(count=20), scored=scored)


def drawn(made: Made, latent: int, asked: ExampleSettings, seed: int = 0) -> LatentExamples:
    found = draw(made.store.coder("s"), latent, asked, seed)
    assert isinstance(found, LatentExamples), found
    return found


def contexts(examples: Sequence[Example]) -> set[int]:
    return {example.passage.place.context for example in examples if example.passage.place}


def places(examples: Sequence[Example]) -> set[tuple[int, int]]:
    found = [example.passage.place for example in examples]
    return {(place.context, place.start) for place in found if place}


def test_a_latent_true_on_anothers_rows_is_never_offered_a_negative_from_them(make: Make) -> None:
    made = make()
    for seed in range(5):
        found = drawn(made, 0, settings(count=100), seed)
        silent = [e for scored in found.scored for e in scored.examples if not e.activating]
        silent += [e for e in found.select if not e.activating]
        assert silent
        assert contexts(silent) <= set(made.values[0])
        assert not any(" hit" in example.passage.tokens for example in silent)


def test_rows_are_dealt_by_the_shares_and_silent_ones_never_shown(make: Make) -> None:
    made = make()
    split = rows_split(made.store, 0, SHARES)
    for latent, rows in made.values.items():
        zero = made.zero(latent)
        fires = np.bincount(split[[row for row in rows if row not in zero]], minlength=3).tolist()
        assert fires == [12, 3, 15]
        assert np.bincount(split[sorted(zero)], minlength=3).tolist() == [0, 1, 4]


def test_seeds_deal_rows_differently_and_one_always_alike(make: Make) -> None:
    made = make()
    one, again, two = (rows_split(made.store, seed, SHARES) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist()
    assert 20 < (one != two).sum() < 85


def test_a_row_of_two_latents_keeps_the_split_that_the_first_one_gave_it(tmp_path: Path) -> None:
    rows = [[f" r{row}", *(" x" for _ in range(31))] for row in range(40)]
    fires, silent = [1.0] + [0.0] * 31, [0.0] * 32
    records = [Record("m", "s", 0, row, fires, "") for row in rows[:20]]
    # latent 1 is silent on half of latent 0's rows, of which some are shown
    records += [Record("m", "s", 1, row, silent, "") for row in rows[10:20]]
    records += [Record("m", "s", 1, row, fires, "") for row in rows[20:]]
    split = rows_split(write_records(records, "made", tmp_path / "store"), 0, SHARES)
    assert np.bincount(split[:20]).tolist() == [8, 2, 10]
    assert np.bincount(split[20:]).tolist() == [8, 2, 10]


def test_a_row_is_in_one_split_for_every_window_rung_and_sampler(make: Make) -> None:
    made = make()
    for window in (16, 32, 64, 128):
        grid = grid_of(made.store, window, 0, SHARES)
        rows = grid.split.reshape(made.store.n_contexts, -1)
        expected = rows_split(made.store, 0, SHARES)
        assert ((rows == expected[:, None]) | (rows == NO_SPLIT)).all()
    for latent in made.values:
        found = drawn(made, latent, settings())
        scored = contexts([e for s in found.scored for e in s.examples])
        assert not contexts(found.shown) & scored
        assert not contexts(found.select) & (scored | contexts(found.shown))


def test_each_rung_is_every_silent_window_of_its_rows(make: Make) -> None:
    made = make()
    split = rows_split(made.store, 0, SHARES)
    for latent, rows in made.values.items():
        expected: dict[str, set[tuple[int, int]]] = {"zero-row": set(), "same-row": set(), "fires": set()}
        for context, values in rows.items():
            if SPLITS[split[context]] != "scored":
                continue
            for start in range(0, 128, 32):
                silent = "same-row" if values.any() else "zero-row"
                expected["fires" if values[start : start + 32].any() else silent].add((context, start))
        found = drawn(made, latent, settings(count=100))
        for scored in found.scored:
            silent = [e for e in scored.examples if not e.activating]
            assert {e.rung for e in silent} == {scored.rung}
            assert places(silent) <= expected[scored.rung]
            assert places([e for e in scored.examples if e.activating]) <= expected["fires"]
            assert len(silent) == len(places(silent)) == min(len(expected[scored.rung]), len(expected["fires"]))
            assert 2 * len(silent) == len(scored.examples)
            assert not any(e.activations.any() for e in silent)


def test_activations_are_the_records(make: Make) -> None:
    made = make(length=(127, 90, 33))
    found = drawn(made, 1, settings())
    for example in (*found.shown, *(e for s in found.scored for e in s.examples)):
        place = example.passage.place
        assert place is not None
        row = np.zeros(128, np.float32)
        row[: len(made.values[1][place.context])] = made.values[1][place.context]
        np.testing.assert_array_equal(example.activations, row[place.start : place.start + 32])
        assert example.activating == bool(row[place.start : place.start + 32].any())


def test_there_are_no_quantiles_and_no_base_rate(make: Make) -> None:
    found = drawn(make(), 0, settings())
    assert found.base_rate is None
    assert "windows" not in found.counts
    assert not any(name.startswith("scored_short") for name in found.counts)
    everything = (*found.shown, *found.select, *(e for s in found.scored for e in s.examples))
    assert {example.quantile for example in everything} == {None}
    assert {example.rung for example in found.select if not example.activating} == {"zero-row"}


def test_a_last_window_of_less_than_half_its_length_is_no_example(make: Make) -> None:
    made = make(length=(32 + 15, 32 + 16))
    # rows are filled up to 64 positions: windows of 15 and of 16 tokens are left at the end
    split = grid_of(made.store, 32, 0, SHARES).split.reshape(-1, 2)
    lengths = np.array([len(values) for rows in made.values.values() for values in rows.values()])
    assert (split[:, 0] != NO_SPLIT).all()
    assert ((split[:, 1] == NO_SPLIT) == (lengths == 47)).all()


def test_a_whole_row_can_be_the_window(make: Make) -> None:
    made = make()
    found = drawn(made, 0, settings(("zero-row",), window=128, minimum=4))
    assert [len(e.activations) for e in found.shown] == [128] * len(found.shown)
    assert contexts([e for e in found.scored[0].examples if not e.activating]) <= made.zero(0)
    assert len(found.scored[0].examples) == 8


def test_asking_a_rung_more_changes_neither_what_is_shown_nor_the_other(make: Make) -> None:
    made = make()
    both, one = drawn(made, 0, settings()), drawn(made, 0, settings(("same-row",)))
    assert [s.rung for s in both.scored] == ["zero-row", "same-row"]
    assert [s.rung for s in one.scored] == ["same-row"]
    assert [e.passage for e in both.shown] == [e.passage for e in one.shown]
    assert [e.passage for e in both.scored[1].examples] == [e.passage for e in one.scored[0].examples]


def test_what_is_shown_copies_no_scored_window_of_a_rung_that_is_not_asked_either(make: Make, tmp_path: Path) -> None:
    made = make(latents=1)
    split, zero = rows_split(made.store, 0, SHARES), made.zero(0)
    records = []
    for context, values in made.values[0].items():
        tokens = [f" w{context}x{place}" for place in range(len(values))]
        shown = np.flatnonzero(values)[:1].tolist() if SPLITS[split[context]] == "shown" and context % 2 else []
        for place in [0, 32, 64] if context in zero else [place // 32 * 32 for place in shown if place < 96]:
            tokens[place : place + 20] = [f" boiler{n}" for n in range(20)]
        records.append(Record("m", "s", 0, tokens, values.tolist(), ""))
    copied = Made(write_records(records, "made", tmp_path / "copied"), made.values)
    both, one = drawn(copied, 0, settings()), drawn(copied, 0, settings(("same-row",)))
    assert one.counts["shown_dropped"] == both.counts["shown_dropped"] > 0
    assert not any(" boiler0" in example.passage.tokens for example in one.shown)


def test_a_rung_without_enough_is_left_out_and_with_none_it_is_a_failure(make: Make) -> None:
    made = make(zeros=0)
    assert [s.rung for s in drawn(made, 0, settings()).scored] == ["same-row"]
    found = draw(make(rows=4).store.coder("s"), 0, settings(minimum=10), 0)
    assert isinstance(found, Failure)
    assert found.status == "too_few_examples"
    assert "(rung zero-row) and" in found.message
    assert "10 of each are needed" in found.message


def test_a_latent_without_records_has_too_few_examples(make: Make, tmp_path: Path) -> None:
    records = [Record("m", "s", 2, [" a", " b"], [1, 0], "")]
    store = write_records(records, "made", tmp_path / "lone")
    assert isinstance(draw(store.coder("s"), 0, settings(), 0), Failure)


@pytest.mark.parametrize("latent", [0, 2])
def test_a_pool_has_windows_of_the_latents_own_shown_rows(make: Make, latent: int) -> None:
    made = make()
    found = drawn(made, latent, settings())
    assert found.pool.rungs == BOTH
    more = [*found.pool.activating(1000), *(one for rung in BOTH for one in found.pool.silent(1000, rung))]
    assert contexts(found.shown) <= contexts(more) <= set(made.values[latent])
    split = grid_of(made.store, 32, 0, SHARES).split.reshape(made.store.n_contexts, -1)
    for one in more:
        place = one.passage.place
        assert place is not None
        assert split[place.context, place.start // 32] == SPLITS.index("shown")
        own = made.values[latent][place.context][place.start : place.start + 32]
        assert (own > 0).any() == one.activating
    with pytest.raises(ValueError, match="no quantile 1"):
        found.pool.activating(1, 1)
