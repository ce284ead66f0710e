"""A latent's examples against a naive version, and the rules of validity that they keep."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import chisquare

from harness.examples import LatentExamples, draw
from harness.examples.choosing import SELECT, Choice, choose
from harness.examples.splits import SPLITS, split_of
from harness.store import CoderFrame, ManifestFrame, Observed, Rows, StoreWriter, Vocabulary
from harness.task import ExampleSettings, SplitSettings
from harness.values import Example, Failure

WINDOW = 16


def settings(**scored: Any) -> ExampleSettings:
    count = scored.pop("count", 50)
    sampler = scored.pop("sampler", "random")
    shown = {"sampler": sampler, "count": scored.pop("shown", 40)}
    return ExampleSettings.model_validate(
        {"window": WINDOW, "shown": shown, "scored": {"activating": count, "non_activating": count, **scored}}
    )


def drawn(made: Any, index: int = 0, seed: int = 0, **kind: Any) -> LatentExamples:
    found = draw(made.coder, index, settings(**kind), seed)
    assert isinstance(found, LatentExamples), found
    return found


def number(example: Example, made: Any) -> int:
    place = example.passage.place
    assert place is not None
    return (place.context * made.store.context_length + place.start) // WINDOW


def naive_windows(made: Any, index: int) -> dict[int, NDArray[np.float32]]:
    """Every window of one document, by a loop."""
    owner, values = made.documents.reshape(-1, WINDOW), made.activations[:, index].reshape(-1, WINDOW)
    return {k: values[k] for k in range(len(owner)) if len({int(cell) for cell in owner[k] if cell >= 0}) == 1}


def document(made: Any, window: int) -> int:
    return int(made.documents.reshape(-1, WINDOW)[window].max())


def split(made: Any, window: int, seed: int = 0) -> str:
    return SPLITS[split_of(seed, np.array([document(made, window)]), SplitSettings())[0]]


@pytest.fixture
def made(build: Any) -> Any:
    return build(contexts=300, rates=(0.01, 0.05, 0.2, 0.0005), vocabulary=500)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("seed", [0, 7])
def test_every_example_is_what_a_loop_finds(made: Any, index: int, seed: int) -> None:
    found = drawn(made, index, seed)
    usable = naive_windows(made, index)
    active = [k for k, values in usable.items() if values.any()]
    ranked = sorted(active, key=lambda k: (usable[k].max(), k))
    quantile = {k: rank * 10 // len(ranked) + 1 for rank, k in enumerate(ranked)}
    for name, examples in (("shown", found.shown), ("select", found.select), ("scored", found.scored[0].examples)):
        for example in examples:
            k = number(example, made)
            assert split(made, k, seed) == name
            assert (example.activations == usable[k]).all()
            assert example.quantile == quantile.get(k)
            assert example.rung == (None if k in quantile else "random")
            ids = made.tokens.reshape(-1, WINDOW)[k]
            assert example.passage.tokens == tuple(made.store.vocabulary.strings[token] for token in ids)
            assert example.passage.marks == ()
    assert found.maximum == made.activations[:, index].max()
    assert found.base_rate == len(active) / len(usable)
    assert found.counts["activating_windows"] == len(active) == made.coder.windows(WINDOW)[index]


def test_scored_examples_are_half_activating_with_as_many_from_each_decile(made: Any) -> None:
    examples = drawn(made, 1).scored[0].examples
    assert Counter(example.quantile for example in examples) == {None: 50, **dict.fromkeys(range(1, 11), 5)}


def test_a_hundred_activating_are_ten_from_each_decile(build: Any) -> None:
    made = build(contexts=600, rates=(0.05,), vocabulary=500)
    examples = drawn(made, 0, count=100).scored[0].examples
    assert Counter(example.quantile for example in examples) == {None: 100, **dict.fromkeys(range(1, 11), 10)}


@pytest.mark.parametrize("sampler", ["random", "top", "quantiles"])
def test_nothing_shown_is_scored_and_no_document_is_in_two_splits(made: Any, sampler: str) -> None:
    for seed in range(10):
        found = drawn(made, 1, seed, sampler=sampler)
        groups = [found.shown, found.select, found.scored[0].examples]
        documents = [{document(made, number(example, made)) for example in group} for group in groups]
        windows = [[number(example, made) for example in group] for group in groups]
        for one in range(3):
            assert len(set(windows[one])) == len(windows[one])
            for other in range(one):
                assert not documents[one] & documents[other]


def test_top_shows_the_strongest_of_the_shown_part(made: Any) -> None:
    usable = naive_windows(made, 1)
    shown = [k for k, values in usable.items() if values.any() and split(made, k) == "shown"]
    strongest = sorted(shown, key=lambda k: (-usable[k].max(), k))[:40]
    assert [number(example, made) for example in drawn(made, 1, sampler="top").shown] == strongest


def test_quantiles_shows_as_many_of_each(made: Any) -> None:
    shown = drawn(made, 1, sampler="quantiles").shown
    assert Counter(example.quantile for example in shown) == dict.fromkeys(range(1, 11), 4)
    assert [example.quantile for example in shown] != sorted(example.quantile or 0 for example in shown)


def test_shown_windows_are_drawn_uniformly(made: Any) -> None:
    usable = naive_windows(made, 0)
    times: Counter[int] = Counter()
    share: Counter[int] = Counter()
    for seed in range(150):
        candidates = [k for k in usable if usable[k].any() and split(made, k, seed) == "shown"]
        found = drawn(made, 0, seed, shown=10)
        times.update(min(9, 10 * place // len(candidates)) for place in _places(found, candidates, made))
        share.update(min(9, 10 * place // len(candidates)) for place in range(len(candidates)))
    total = sum(share.values())
    assert chisquare([times[k] for k in range(10)], [share[k] / total * 1500 for k in range(10)]).pvalue > 0.001


def _places(found: LatentExamples, candidates: list[int], made: Any) -> list[int]:
    return [candidates.index(number(example, made)) for example in found.shown]


def test_equal_arguments_give_equal_examples_in_any_order(made: Any, build: Any) -> None:
    def identity(found: LatentExamples) -> list[Any]:
        groups = (found.shown, found.select, found.scored[0].examples)
        return [[example.passage.identity() for example in group] for group in groups]

    one = identity(drawn(made, 1))
    drawn(made, 0)
    np.random.default_rng(0)
    assert identity(drawn(made, 1)) == one
    assert identity(drawn(build(contexts=300, rates=(0.01, 0.05, 0.2, 0.0005), vocabulary=500), 1)) == one
    assert identity(drawn(made, 1, seed=1)) != one


def test_what_is_shown_does_not_change_what_is_scored(made: Any) -> None:
    few, many = drawn(made, 1, shown=3, sampler="top"), drawn(made, 1, shown=60)
    one, other = ([number(e, made) for e in found.scored[0].examples] for found in (few, many))
    assert one == other


def test_asking_for_more_keeps_what_was_asked(made: Any) -> None:
    few, many = (drawn(made, 1, count=count).scored[0].examples for count in (30, 50))
    assert {number(e, made) for e in few if e.activating} <= {number(e, made) for e in many if e.activating}


def test_latents_have_negatives_of_their_own(made: Any) -> None:
    one, other = (
        {number(e, made) for e in drawn(made, index).scored[0].examples if not e.activating} for index in (0, 1)
    )
    assert len(one & other) < 25


def test_the_order_tells_nothing(made: Any) -> None:
    at = Counter(
        place
        for seed in range(200)
        for place, example in enumerate(drawn(made, 1, seed, count=10).scored[0].examples)
        if example.activating
    )
    assert chisquare([at[place] for place in range(20)]).pvalue > 0.001


def test_bos_is_in_a_window_as_no_text_and_never_activates(made: Any) -> None:
    found = drawn(made, 1)
    first = [e for e in found.scored[0].examples if e.passage.place is not None and e.passage.place.start == 0]
    assert first
    for example in first:
        assert example.passage.tokens[0] == ""
        assert example.activations[0] == 0
        assert example.passage.preceding() == ()


def test_windows_of_two_documents_are_dropped_and_counted(made: Any) -> None:
    owner, values = made.documents.reshape(-1, WINDOW), made.activations[:, 1].reshape(-1, WINDOW)
    mixed = [k for k in range(len(owner)) if len({int(c) for c in owner[k] if c >= 0}) > 1 and values[k].any()]
    found = drawn(made, 1)
    assert found.counts["activating_windows_not_of_one_document"] == len(mixed) > 0
    assert not {number(e, made) for e in found.scored[0].examples} & set(mixed)


def copied(made: Any, name: str, places: int) -> Any:
    """A change to a store that gives `places` windows of a split the tokens of windows that are scored."""
    found = choose(made.coder, 1, settings(), 0)
    assert isinstance(found, Choice)
    scored = found.scored["random"].starts[:places] // WINDOW
    usable = [k for k in naive_windows(made, 1) if split(made, k) == name]
    active = [k for k in usable if made.activations[:, 1].reshape(-1, WINDOW)[k].any()]

    def change(tokens: NDArray[np.uint32], _documents: NDArray[np.int32], _values: NDArray[np.float32]) -> None:
        rows = tokens.reshape(-1, WINDOW)
        for place, target in enumerate(active[: len(active) - 25]):
            rows[target] = rows[scored[place % places]]

    return change


@pytest.mark.parametrize("name", ["shown", "select"])
def test_windows_that_share_a_run_with_a_scored_one_are_replaced_and_counted(build: Any, name: str) -> None:
    kind = {"contexts": 300, "rates": (0.01, 0.05), "vocabulary": 500}
    plain = build(**kind)
    made = build(**kind, change=copied(plain, name, 7))
    found = drawn(made, 1)
    scored = {example.passage.tokens for example in found.scored[0].examples}
    examples = {"shown": found.shown, "select": found.select}[name]
    assert not scored & {example.passage.tokens for example in examples}
    assert found.counts[f"{name}_dropped"] > 10
    asked = {"shown": 40, "select": SELECT}[name]
    assert found.counts[name] == min(asked, 25)
    assert [number(e, made) for e in found.scored[0].examples] == [
        number(e, plain) for e in drawn(plain, 1).scored[0].examples
    ]


def test_a_shared_run_at_another_offset_is_found(build: Any) -> None:
    wide = ExampleSettings.model_validate({"window": 32, "scored": {"activating": 20, "non_activating": 20}})
    kind = {"contexts": 300, "rates": (0.05,), "vocabulary": 500}
    plain = build(**kind)
    before = choose(plain.coder, 0, wide, 0)
    assert isinstance(before, Choice)
    scored, shown = before.scored["random"].starts // 32, before.shown.starts // 32

    def change(tokens: NDArray[np.uint32], _documents: NDArray[np.int32], _values: NDArray[np.float32]) -> None:
        rows = tokens.reshape(-1, 32)
        rows[shown[0], 3:19] = rows[scored[0], 15:31]
        rows[shown[1], 3:18] = rows[scored[1], 15:30]

    after = choose(build(**kind, change=change).coder, 0, wide, 0)
    assert isinstance(after, Choice)
    assert shown[0] not in after.shown.starts // 32
    assert shown[1] in after.shown.starts // 32
    assert after.counts["shown_dropped"] == 1


def test_a_decile_that_falls_short_is_counted_and_negatives_are_equally_few(made: Any) -> None:
    found = drawn(made, 0, count=200)
    short = {key: value for key, value in found.counts.items() if key.startswith("scored_short_in_quantile_")}
    examples = found.scored[0].examples
    by_quantile = Counter(example.quantile for example in examples)
    assert short
    for quantile in range(1, 11):
        assert by_quantile[quantile] + short.get(f"scored_short_in_quantile_{quantile}", 0) == 20
    assert by_quantile[None] == len(examples) / 2 == found.counts["scored"] == 200 - sum(short.values())


def test_a_short_decile_is_not_filled_from_the_others(build: Any) -> None:
    def change(_tokens: NDArray[np.uint32], documents: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        scored = split_of(0, documents.ravel(), SplitSettings()).reshape(documents.shape) == SPLITS.index("scored")
        values[scored] *= np.float32(0.1)

    found = drawn(build(contexts=300, rates=(0.05,), vocabulary=500, change=change), count=50)
    by_quantile = Counter(example.quantile for example in found.scored[0].examples)
    assert [by_quantile[quantile] for quantile in (1, 2, 3)] == [5, 5, 5]
    assert by_quantile[10] < 5
    assert found.counts["scored_short_in_quantile_10"] == 5 - by_quantile[10]
    assert found.counts["scored"] == by_quantile[None] < 50


def test_a_dense_latent_has_as_few_activating_as_silent_ones_spread_over_the_deciles(made: Any) -> None:
    dense = drawn(made, 2, count=100)
    activating = Counter(e.quantile for e in dense.scored[0].examples if e.activating)
    silent = sum(not e.activating for e in dense.scored[0].examples)
    assert 10 <= silent < 100
    assert sum(activating.values()) == silent == dense.counts["scored"]
    assert max(activating.values()) - min(activating.values()) <= 1


def test_a_latent_that_hardly_fires_is_a_failure_with_numbers(made: Any) -> None:
    found = draw(made.coder, 3, settings(), 0)
    windows = int(made.coder.windows(WINDOW)[3])
    assert isinstance(found, Failure)
    assert found.status == "too_few_examples"
    assert "the scored split has" in found.message
    found = draw(made.coder, 3, settings(), 0, min_examples=200)
    assert isinstance(found, Failure)
    assert f"activates {windows} window" in found.message
    assert "200 are needed" in found.message


def test_a_latent_that_never_fires_is_a_failure(build: Any) -> None:
    made = build(rates=(0.0, 0.1))
    found = draw(made.coder, 0, settings(), 0)
    assert isinstance(found, Failure)
    assert "activates 0 windows" in found.message


def test_a_latent_that_always_fires_is_a_failure(build: Any) -> None:
    made = build(rates=(0.9,))
    found = draw(made.coder, 0, settings(), 0)
    assert isinstance(found, Failure)
    assert "and 0 windows without activation" in found.message


def test_nothing_is_called_silent_where_it_was_not_observed(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    contexts, context = 200, 64
    dense = (generator.random((contexts * context, 1)) * (generator.random((contexts * context, 1)) < 0.05)).astype(
        "f4"
    )
    seen = np.flatnonzero(generator.random(contexts) < 0.4)
    dense.reshape(contexts, -1)[np.setdiff1d(np.arange(contexts), seen)] = 0
    tokens = generator.integers(0, 90, (contexts, context)).astype(np.uint32)
    documents = np.repeat(np.arange(contexts, dtype=np.int32), context).reshape(contexts, context)
    frame = ManifestFrame(model="none", corpus={}, context=context)
    rows = csr_array(dense)
    coders = [CoderFrame("a", 1, "block", partial=True)]
    with StoreWriter.create(tmp_path / "s", frame, Vocabulary(tuple("abc" * 30)), coders) as writer:
        writer.append(tokens, documents, {"a": Rows(rows.indptr.astype(np.int64), rows.indices, rows.data)})
        store = writer.finish(observed={"a": Observed(np.array([0, len(seen)]), seen)})
    found = draw(store.coder("a"), 0, settings(count=20, shown=10), 0)
    assert isinstance(found, LatentExamples)
    for example in (*found.shown, *found.select, *found.scored[0].examples):
        assert example.passage.place is not None
        assert example.passage.place.context in seen
    assert found.counts["windows"] == len(seen) * 4


def test_examples_cannot_be_changed(made: Any) -> None:
    example = drawn(made).shown[0]
    with pytest.raises(ValueError, match="read-only"):
        example.activations[0] = 1
