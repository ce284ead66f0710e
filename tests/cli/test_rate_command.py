"""`harness rate`: sheets, what they saved, results, and people's explanations as an arm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import load
from harness.rating.book import Book
from harness.rating.items import Selection, items_of

Harness = Callable[..., Any]


@pytest.fixture
def run(harness: Harness, write_task: Callable[..., Path]) -> str:
    said = harness("run", write_task(latents={"ids": [3, 4], "min_examples": 50}), "--out", "run", "--no-report")
    assert said.code == 0, said.err
    return "run"


def test_a_sheet_is_written_and_what_it_saved_is_taken_and_told(run: str, harness: Harness) -> None:
    said = harness("rate", run, "--results")
    assert (said.code, said.out) == (0, "Nobody has rated yet\n")
    said = harness("rate", run, "--sheet", "sheet.html", "--contexts", "2")
    # two explanations of two latents, and each is the other's control
    assert (said.code, said.out) == (0, "sheet.html: 8 items\n"), said.err
    book = Book(Path(run))
    for rater, better in (("Ada", 4), ("Ben", 3)):
        answers = []
        for item in book.items().values():
            own = any(control is None for _, control in item.arms)
            answers.append({"item": item.id, "rating": better if own else 1, "text": None, "created": 1.0})
        saved = {"format": "latent-harness ratings", "version": 1, "run": "t", "rater": rater, "answers": answers}
        Path(f"{rater}.json").write_text(json.dumps(saved))
    book.close()
    said = harness("rate", run, "--read", "Ada.json", "--read", "Ben.json")
    assert said.out == "Ada: 8 answers\nBen: 8 answers\n"
    said = harness("rate", run, "--results")
    lines = said.out.splitlines()
    assert lines[0] == "Ratings by Ada 8, Ben 8"
    assert lines[1].startswith("Krippendorff's alpha (ordinal) 0.")
    assert lines[1].endswith("over 8 items that two or more of 2 rated")
    assert any(line.startswith("│ a ") and "3.50" in line for line in lines)
    assert any(line.startswith("│ a (shuffled)") and "1.00" in line for line in lines)
    assert any("detection, balanced accuracy" in line and "few" in line for line in lines)
    assert lines[-4].startswith("3.50 (4 ratings) words/3, a: ")


def test_what_people_wrote_enters_a_run_as_the_arm_human(
    run: str, harness: Harness, write_task: Callable[..., Path]
) -> None:
    loaded, book = load(run), Book(Path(run))
    items = items_of(loaded, Selection(kind="write"))
    book.know(items)
    for item in items:
        book.answer("Ada", item.id, text=f'the token " w{item.latent}"')
    book.close()
    loaded.close()
    said = harness("rate", run, "--explanations", "human.jsonl")
    assert (said.code, said.out) == (0, "human.jsonl: 2 explanations\n")
    task = write_task(
        latents={"ids": [3, 4], "min_examples": 50},
        explainer=[{"name": "human", "kind": "file", "path": "human.jsonl"}],
    )
    said = harness("run", task, "--out", "again", "--no-report")
    assert said.code == 0, said.err
    scores = load("again").scores()
    own = scores[(scores["explainer"] == "human") & scores["control"].isna()]
    assert [metrics["balanced_accuracy"] for metrics in own["metrics"]] == [1.0, 1.0]


def test_mistakes_are_told(run: str, harness: Harness) -> None:
    for arguments, told in (
        (("--explainer", "x"), "harness: --explainer x: the run has no such explainer; it has: a\n"),
        (("--read", "gone.json"), "harness: --read gone.json: it cannot be read: No such file or directory\n"),
        (("--host", "203.0.113.1"), "harness: --host 203.0.113.1 --port 8642: this address cannot be listened on: "),
        (("--explanations", "x.jsonl"), "harness: nobody has written an explanation yet: harness rate RUN --write"),
    ):
        said = harness("rate", run, *arguments)
        assert said.code == 2
        assert said.err.startswith(told)
    said = harness("rate", "gone")
    assert said.err == "harness: gone: no run directory (there is no journal.sqlite in it)\n"
