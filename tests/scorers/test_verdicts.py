from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scorers.verdicts import FAILURES, Verdicts
from harness.values import Example, Passage, Place

Row = tuple[int, int, bool, int, int | None, float | None, int]


def _example(context: int, start: int, quantile: int | None) -> Example:
    passage = Passage(("a",), (), Place("s", context, start))
    return Example(passage, np.zeros(1, np.float32), quantile, None if quantile else "random")


@st.composite
def _rows(draw: st.DrawFn) -> list[tuple[Example, int, float | None, str | None]]:
    rows = []
    for _ in range(draw(st.integers(0, 30))):
        example = _example(
            draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**16 - 1)), draw(st.none() | st.integers(1, 10))
        )
        failure = draw(st.none() | st.sampled_from(FAILURES))
        label = -1 if failure else draw(st.integers(0, 1))
        probability = None if failure else draw(st.none() | st.floats(0, 1, width=32))
        rows.append((example, label, probability, failure))
    return rows


@given(_rows())
@settings(max_examples=60, deadline=None)
def test_unpack_inverts_pack(rows: list[tuple[Example, int, float | None, str | None]]) -> None:
    examples, labels, probabilities, failures = zip(*rows, strict=True) if rows else ((), (), (), ())
    made = Verdicts.of(examples, labels, probabilities, failures)
    again = Verdicts.unpack(made.pack())
    assert len(again) == len(made) == len(rows)
    for name in ("context", "start", "truth", "quantile", "label", "probability", "failure"):
        mine, theirs = getattr(made, name), getattr(again, name)
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    assert again.label.tolist() == list(labels)
    assert again.truth.tolist() == [example.quantile is not None for example in examples]
    assert again.quantile.tolist() == [example.quantile or 0 for example in examples]
    assert [None if np.isnan(p) else p for p in again.probability.tolist()] == list(probabilities)
    assert [FAILURES[code - 1] if code else None for code in again.failure.tolist()] == list(failures)
    assert again.answered.tolist() == [failure is None for failure in failures]
    assert sum(again.failures().values()) == sum(failure is not None for failure in failures)


@given(st.integers(1, 12), st.integers(0, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_values_and_strengths_are_packed_too(count: int, positions: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=count).astype(np.float32)
    predicted, actual = generator.uniform(0, 10, (2, count, positions)).astype(np.float16)
    predicted[generator.random((count, positions)) < 0.2] = np.nan
    examples = [_example(row, 0, None) for row in range(count)]
    again = Verdicts.unpack(Verdicts.of(examples, values=values, predicted=predicted, actual=actual).pack())
    np.testing.assert_array_equal(again.value, values)
    np.testing.assert_array_equal(again.predicted, predicted)
    np.testing.assert_array_equal(again.actual, actual)
    assert again.answered.all()
    assert np.isnan(again.labels).all()
    assert again.scores is not None
    np.testing.assert_array_equal(again.scores, values)


def test_scores_are_probabilities_where_there_are_no_values() -> None:
    examples = [_example(row, 0, None) for row in range(2)]
    made = Verdicts.of(examples, [1, -1], [0.75, None], [None, "refused"])
    assert made.scores is not None
    assert made.scores[0] == 0.75
    assert Verdicts.of(examples, [1, 0], [0.75, None]).scores is None


def test_the_order_of_failures_is_part_of_the_format() -> None:
    # journals hold their numbers: new ones go to the end
    assert FAILURES == (
        "refused", "truncated", "unparsable", "provider_error", "over_budget", "too_few_examples", "no_partner",
        "no_rule",
    )  # fmt: skip


def test_the_packed_form_is_stable_and_small() -> None:
    made = Verdicts.of([_example(7, 32, 3), _example(8, 0, None)], [1, 0], [0.75, None], [None, None])
    columns = np.array([7, 8], "<u4").tobytes() + np.array([32, 0], "<u2").tobytes() + bytes([1, 0, 3, 0, 1, 0])
    columns += np.array([0.75, np.nan], "<f4").tobytes() + bytes(2)
    assert zlib.decompress(made.pack()) == np.uint32(2).tobytes() + columns
    generator = np.random.default_rng(0)
    many = [_example(int(c), int(s) * 32, int(q) or None) for c, s, q in generator.integers(0, (1000, 8, 11), (200, 3))]
    packed = Verdicts.of(many, [1] * 200, generator.random(200).tolist(), [None] * 200).pack()
    # of which 800 bytes are probabilities, which do not compress
    assert len(packed) < 1700


def test_a_cut_array_is_not_taken_for_a_whole_one() -> None:
    packed = Verdicts.of([_example(1, 2, 3)], [1], [0.5], [None]).pack()
    with pytest.raises(zlib.error):
        Verdicts.unpack(packed[:-6])


def test_a_tally_counts_what_a_loop_counts() -> None:
    rng = np.random.default_rng(5)
    blobs, wanted = [], []
    for count in (0, 1, 7, 40):
        truth = rng.integers(0, 2, count).astype(np.uint8)
        made = Verdicts(
            rng.integers(0, 9, count).astype(np.uint32),
            rng.integers(0, 9, count).astype(np.uint16),
            truth,
            np.where(truth, rng.integers(0, 4, count), 0).astype(np.uint8),
            rng.integers(-1, 2, count).astype(np.int8),
            rng.random(count).astype(np.float32),
            (rng.integers(0, 3, count) * rng.integers(0, 2, count)).astype(np.uint8),
            rng.random(count).astype(np.float32),
            rng.random((count, 3)).astype(np.float16),
            rng.random((count, 3)).astype(np.float16),
        )
        blobs.append(made.pack())
        wanted.append(made)
    found = Verdicts.tally(blobs, 3)
    for row, one in enumerate(wanted):
        assert (found.n_pos[row], found.n_neg[row]) == (int((one.truth == 1).sum()), int((one.truth == 0).sum()))
        by_reason = [sum(code == reason for code in one.failure.tolist()) for reason in range(1, len(FAILURES) + 1)]
        assert found.failures[row].tolist() == by_reason
        told = list(zip(*(c.tolist() for c in (one.truth, one.quantile, one.label, one.failure)), strict=True))
        places = [
            [line for line in told if line[0] == 0],
            *([line for line in told if line[1] == quantile] for quantile in (1, 2, 3)),
            [line for line in told if line[0] == 1],
        ]
        for column, lines in enumerate(places):
            assert found.given[row, column] == sum(label >= 0 for _, _, label, _ in lines)
            assert found.right[row, column] == sum(label == truth for truth, _, label, _ in lines)
            assert found.answered[row, column] == sum(failure == 0 for *_, failure in lines)


def test_a_tally_of_no_score_is_empty() -> None:
    assert Verdicts.tally([], 3).given.shape == (0, 5)
