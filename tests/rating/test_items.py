"""What is asked: explanations on unseen contexts that activate the latent, controls among them, each once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.load import Run
from harness.errors import RunError, UserError
from harness.examples.draw import LatentExamples, draw
from harness.rating.book import BOOK, Book
from harness.rating.items import Item, Selection, items_of, order
from harness.rating.session import Session
from harness.task import Task


def test_contexts_are_scored_ones_that_activate_spread_over_quantiles(run: Run, items: list[Item]) -> None:
    task = Task.model_validate(dict(run.record["task"]))
    reader = run.store().coder("words")
    for latent in (3, 4, 5, 6):
        drawn = draw(reader, latent, task.examples, task.seed, min_examples=50)
        assert isinstance(drawn, LatentExamples)
        scored = {e.passage.tokens: e for e in drawn.scored[0].examples if e.activating}
        mine = [item for item in items if item.latent == latent]
        found = [scored[item.contexts[0][0]] for item in mine]
        assert len(found) == 5
        # two deciles a part
        assert [((e.quantile or 0) + 1) // 2 for e in found] == [1, 2, 3, 4, 5]
        for example, item in zip(found, mine, strict=True):
            shares = np.array(item.contexts[0][1])
            assert shares == pytest.approx(example.activations / drawn.maximum, abs=1e-3)
            assert ((shares > 0) == (example.activations > 0)).all()


def test_every_explanation_of_a_latent_is_asked_on_the_same_contexts(run: Run) -> None:
    found = items_of(run, Selection())
    assert len({item.id for item in found}) == len(found)
    for latent in (3, 4, 5, 6):
        by_text: dict[str, set[object]] = {}
        for item in found:
            if item.latent == latent:
                by_text.setdefault(item.text, set()).add(item.contexts)
        assert len({frozenset(contexts) for contexts in by_text.values()}) == 1
    arms = {arm for item in found for arm in item.arms}
    assert arms == {("rules", None), ("listed", None), ("rules", "shuffled"), ("listed", "shuffled")}
    assert items_of(run, Selection()) == found
    own = items_of(run, Selection(controls=False))
    assert {arm for item in own for arm in item.arms} == {("rules", None), ("listed", None)}
    assert {item.latent for item in items_of(run, Selection(latents=2))} == set(run.latents["words"][:2])


def test_the_order_is_seeded_another_for_each_rater_and_mixes_controls_in(run: Run) -> None:
    found = items_of(run, Selection())
    ada = order(found, 0, "Ada")
    assert ada == order(list(reversed(found)), 0, "Ada")
    assert sorted(item.id for item in ada) == sorted(item.id for item in found)
    assert len({tuple(item.id for item in order(found, seed, name)) for seed in (0, 1) for name in ("Ada", "Ben")}) == 4
    control = [all(c is not None for _, c in item.arms) for item in ada]
    # neither kind stands together
    assert sum(a != b for a, b in pairwise(control)) > len(ada) / 4


def test_nothing_acts_in_what_is_shown(run: Run) -> None:
    told = [item.shown() for item in items_of(run, Selection())]
    texts = [one["text"] for one in told] + [t for one in told for c in one["contexts"] for t in c["tokens"]]
    assert any("<script>" in text for text in texts)
    assert not any(character in text for text in texts for character in "\x1b\u202e\u2028")


def test_a_wrong_explainer_is_told(run: Run) -> None:
    with pytest.raises(UserError, match="--explainer x: the run has no such explainer; it has: rules, listed"):
        items_of(run, Selection(explainers=("x",)))


def test_undo_takes_back_what_was_said_last_of_what_is_asked(book: Book, items: list[Item]) -> None:
    session = Session(book, items, 0)
    # of another round
    book.answer("Ada", "elsewhere", rating=1)
    first = session.state("Ada")["item"]["id"]
    second = session.rate("Ada", first, 2)["item"]["id"]
    session.rate("Ada", second, 3)
    session.rate("Ben", first, 1)
    book.answer("Ada", "elsewhere again", rating=1)
    assert session.undo("Ada")["item"]["id"] == second
    assert session.undo("Ada")["item"]["id"] == first
    assert session.undo("Ada")["done"] == 0
    assert {(a.rater, a.item) for a in book.answers()} == {
        ("Ada", "elsewhere"), ("Ada", "elsewhere again"), ("Ben", first),
    }  # fmt: skip


def test_what_is_said_again_stays_in_its_place(book: Book, items: list[Item]) -> None:
    for item, rating in ((items[0], 1), (items[1], 2), (items[0], 4)):
        book.answer("Ada", item.id, rating=rating)
    assert [(a.item, a.rating) for a in book.answers()] == [(items[0].id, 4), (items[1].id, 2)]


def test_a_round_of_fewer_arms_takes_none_away(run: Run, book: Book) -> None:
    every = items_of(run, Selection())
    book.know(every)
    book.know(items_of(run, Selection(explainers=("listed",), controls=False)))
    assert {item.id: item.arms for item in book.items().values()} == {item.id: item.arms for item in every}


def test_what_is_no_book_is_told(tmp_path: Path) -> None:
    (tmp_path / BOOK).write_text("this is no database, and long enough to be seen as none" * 20)
    with pytest.raises(RunError, match="is no book of ratings"):
        Book(tmp_path)
