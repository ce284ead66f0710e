"""Simulated raters of known agreement: alpha, means and correlations come out right, and reach the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analysis.load import Run
from harness.errors import UserError
from harness.interop.explanations import read_explanations
from harness.rating.book import Book
from harness.rating.items import Item, Selection, items_of
from harness.rating.results import results
from harness.rating.sheet import read_sheet, write_sheet
from harness.rating.written import write_explanations
from harness.report import gather, write


class Made(Run):
    """A run whose scores and ratings are made up: 60 latents, two arms and a control, two scorers."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []

    name = "made"
    seed = 0
    rung = "random"
    scorers = ("good", "blind")

    def metric_of(self, scorer: str) -> str:
        return "balanced_accuracy"

    def scores(self) -> pd.DataFrame:
        return pd.DataFrame(self.made)


ARMS = ((("a", None), 3.0), (("b", None), 2.0), (("a", "shuffled"), 1.0))


def simulated(
    tmp_path: Path, noise: float, raters: int = 3
) -> tuple[Made, Book, dict[tuple[Any, ...], list[list[int]]]]:
    """Explanations with a quality; raters see it with noise, the scorer `good` with its own, `blind` not at all."""
    generator = np.random.default_rng(7)
    run, book = Made(), _quick(tmp_path)
    ratings: dict[tuple[Any, ...], list[list[int]]] = {}
    for latent in range(60):
        for arm, mean in ARMS:
            quality = mean + generator.normal(0, 0.8)
            items = [Item(f"{latent}-{arm}-{k}", "rate", "c", latent, f"{latent} {arm}", (arm,), ()) for k in range(5)]
            book.know(items)
            for item in items:
                said = np.clip(np.round(quality + generator.normal(0, noise, raters)), 1, 4).astype(int)
                for rater, rating in enumerate(said.tolist()):
                    book.answer(f"rater {rater}", item.id, rating=rating)
                ratings.setdefault((latent, *arm), []).append(said.tolist())
            for scorer, value in (("good", quality + generator.normal(0, 0.3)), ("blind", generator.normal())):
                run.made.append(
                    {"run": "made", "coder": "c", "latent": latent, "explainer": arm[0], "control": arm[1],
                     "scorer": scorer, "rung": "random", "status": "ok", "metrics": {"balanced_accuracy": value}}
                )  # fmt: skip
    return run, book, ratings


def _quick(directory: Path) -> Book:
    """A book that does not wait for the disk, into which thousands of answers go."""
    book = Book(directory)
    book._file.execute("PRAGMA synchronous = OFF")
    return book


def ordinal_alpha(table: np.ndarray) -> float:
    """Alpha from its definition, of a complete table `[items, raters]`."""
    counts = {c: int((table == c).sum()) for c in range(1, 5)}

    def distance(a: int, b: int) -> float:
        low, high = sorted((a, b))
        return (sum(counts[c] for c in range(low, high + 1)) - (counts[low] + counts[high]) / 2) ** 2

    n, raters = table.size, table.shape[1]
    within = sum(distance(a, b) for row in table.tolist() for a in row for b in row) / (raters - 1) / n
    anywhere = sum(counts[a] * counts[b] * distance(a, b) for a in counts for b in counts) / (n * (n - 1))
    return 1 - within / anywhere


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_agreement_is_that_of_the_definition(tmp_path: Path, noise: float) -> None:
    run, book, ratings = simulated(tmp_path, noise)
    found = results(run, book)
    table = np.array([row for rows in ratings.values() for row in rows])
    assert found.agreement.value == pytest.approx(ordinal_alpha(table))
    assert (found.agreement.items, found.agreement.raters) == (900, 3)
    assert found.raters == {f"rater {k}": 900 for k in range(3)}
    if noise == 0:
        assert found.agreement.value == 1
    interval = found.agreement.interval
    assert interval is not None
    assert interval.low <= (found.agreement.value or 0) <= interval.high
    book.close()


def test_means_and_correlations_are_those_of_the_ratings(tmp_path: Path) -> None:
    run, book, ratings = simulated(tmp_path, 0.5)
    found = results(run, book)
    means = {key: np.mean([np.mean(row) for row in rows]) for key, rows in ratings.items()}
    assert {(one.latent, one.explainer, one.control): one.mean for one in found.latents} == pytest.approx(means)
    assert [arm.label for arm in found.arms] == ["a", "b", "a (shuffled)"]
    for arm, (whose, _) in zip(found.arms, ARMS, strict=True):
        own = [value for key, value in means.items() if key[1:] == whose]
        assert arm.mean == pytest.approx(np.mean(own))
        assert (arm.latents, arm.ratings) == (60, 900)
        assert arm.interval is not None
        assert arm.interval.low < arm.mean < arm.interval.high
    scores = run.scores()
    for one in found.scorers:
        of = scores[scores["scorer"] == one.scorer]
        values = {
            (r["latent"], r["explainer"], r["control"] if isinstance(r["control"], str) else None): r["metrics"][
                "balanced_accuracy"
            ]
            for r in of.to_dict("records")
        }
        for told, keys in (
            (one.own, [key for key in means if key[2] is None]),
            (one.every, list(means)),
        ):
            expected = stats.spearmanr([means[key] for key in keys], [values[key] for key in keys]).statistic
            assert told[0] == pytest.approx(expected)
            assert told[2:] == (len(keys), 60)
            assert told[1] is not None
            assert told[1][0] <= expected <= told[1][1]
    good, blind = found.scorers
    assert (good.own[0] or 0) > 0.8
    assert blind.own[1] is not None
    assert blind.own[1][0] < 0 < blind.own[1][1]
    book.close()


def test_a_skip_and_a_stranger_count_for_nothing(tmp_path: Path) -> None:
    run, book = Made(), Book(tmp_path)
    book.know([Item("x", "rate", "c", 1, "t", (("a", None), ("b", None)), ())])
    book.answer("Ada", "x", rating=3)
    book.answer("Ben", "x")
    book.answer("Ben", "of no known item", rating=1)
    (tmp_path / "other").mkdir()
    run.made = simulated(tmp_path / "other", 0.5)[0].made
    found = results(run, book)
    assert (dict(found.raters), found.skipped) == ({"Ada": 1}, 1)
    # words of two arms count for both
    assert [(one.explainer, one.mean) for one in found.latents] == [("a", 3.0), ("b", 3.0)]
    assert found.agreement.value is None
    book.close()


@pytest.fixture
def rated(run: Run, book: Book) -> Book:
    """Two raters who like true words and not others'; one skips an item."""
    items = items_of(run, Selection())
    book.know(items)
    for number, item in enumerate(items):
        own = any(control is None for _, control in item.arms)
        for rater in ("Ada", "Ben <b>"):
            rating = (4 if own else 1) - (rater == "Ben <b>" and number % 5 == 0 and own)
            book.answer(rater, item.id, rating=None if number == 3 and rater == "Ada" else rating)
    return book


def test_the_report_shows_them(run: Run, rated: Book, tmp_path: Path) -> None:
    page = write(gather(run), tmp_path / "index.html").read_text(encoding="utf-8").split("<script")[0]
    section = page[page.index('<section id="ratings">') : page.index('<section id="latents"')]
    assert "Ratings by Ada 79, Ben &lt;b&gt; 80; 1 skipped" in section
    assert "Krippendorff's alpha (ordinal) 0." in section.replace("&#39;", "'")
    assert section.count("shuffled") >= 2
    assert "detection" in section
    assert "<img" not in section


def test_without_ratings_the_report_has_no_such_section(run: Run, tmp_path: Path) -> None:
    page = write(gather(run), tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'id="ratings"' not in page


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda d: d.update(format="x"), "this is not what a rating sheet saves: Invalid enum value 'x'"),
        (lambda d: d["answers"][1].update(rating=5), "Expected `int` <= 4 - at `$.answers[1].rating`"),
        (lambda d: d["answers"][1].update(item="x"), r'answers[1].item: this run has no item "x"'),
        (lambda d: d["answers"][1].update(text="words"), "answers[1]: it should have a rating"),
        (lambda d: d.pop("rater"), "Object missing required field `rater`"),
    ],
)
def test_a_damaged_sheet_is_told_and_nothing_of_it_is_taken(
    book: Book, items: list[Item], tmp_path: Path, edit: Callable[[Any], Any], told: str
) -> None:
    book.know(items)
    answers = [{"item": item.id, "rating": 2, "text": None, "created": 1.5} for item in items[:3]]
    data = {"format": "latent-harness ratings", "version": 1, "run": "rated", "rater": "Ada", "answers": answers}
    path = tmp_path / "said.json"
    path.write_text(json.dumps(data))
    assert read_sheet(path, book) == ("Ada", 3)
    book.undo("Ada", [item.id for item in items])
    before = book.answers()
    edit(data)
    path.write_text(json.dumps(data))
    with pytest.raises(UserError) as error:
        read_sheet(path, book)
    assert told in str(error.value)
    path.write_text(path.read_text()[:-9])
    with pytest.raises(UserError, match="it is cut short or no JSON"):
        read_sheet(path, book)
    assert book.answers() == before


def test_a_sheet_overwrites_nothing(run: Run, items: list[Item], tmp_path: Path) -> None:
    write_sheet("rated", items, 0, tmp_path / "sheet.html")
    with pytest.raises(UserError, match="there is something already"):
        write_sheet("rated", items, 0, tmp_path / "sheet.html")
    text = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    # an explanation cannot end the element that it is in
    assert text.count("</script>") == 2
    for word in ("shuffled", "listed", "detection"):
        assert word not in text


def test_what_people_wrote_is_a_list_that_an_explainer_reads(run: Run, book: Book, tmp_path: Path) -> None:
    items = items_of(run, Selection(kind="write"))
    book.know(items)
    with pytest.raises(UserError, match="nobody has written an explanation yet"):
        write_explanations(book, tmp_path / "human.jsonl")
    for item in items[:3]:
        book.answer("Ada", item.id, text=f"the word w{item.latent}")
    book.answer("Ada", items[3].id)
    assert write_explanations(book, tmp_path / "human.jsonl") == 3
    found = read_explanations(tmp_path / "human.jsonl")
    assert {one.latent: one.told[0].text for one in found} == {i.latent: f"the word w{i.latent}" for i in items[:3]}
    book.answer("Ben", items[0].id, text="another's")
    with pytest.raises(UserError, match="--rater: say whose to take; there are explanations by Ada, Ben"):
        write_explanations(book, tmp_path / "again.jsonl")
    assert write_explanations(book, tmp_path / "again.jsonl", "Ben") == 1
    # none of these is a rating
    assert results(run, book).latents == ()
