"""The world's generator: seeded, exact about what its choices cost, and meaning what it writes."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from scipy import stats

from fixtures.world.generate import documents, main
from fixtures.world.genres import GENRES
from fixtures.world.grammar import Draw, Grammar, Sink
from fixtures.world.lexicon import VERBS_OF_ANIMAL
from harness.resources import fixture

TABLES = {"pet": [("cat", ("pet",), 3.0), ("dog", ("pet", "loud"), 1.0)]}
NONTERMINALS = {
    "start": [("the {pet} {end} .", 1.0), ("{P} , “ the {pet} ”", 3.0)],
    "end": ["sat", "ran", "[slow lay down ]slow"],
}


def write(seed: int) -> tuple[Sink, Draw]:
    grammar = Grammar(TABLES, NONTERMINALS, frozenset({"P"}))
    sink, draw = Sink(cast={"P": (" Anna", ("name",))}), Draw(seed)
    grammar.write("start", sink, draw)
    return sink, draw


def test_cost_is_the_negative_log_probability_of_the_derivation() -> None:
    costs: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for seed in range(6000):
        sink, draw = write(seed)
        text = "".join(sink.words)
        counts[text] += 1
        assert costs.setdefault(text, draw.cost) == pytest.approx(draw.cost)
    expected = {
        f"The {pet} {end}.": share / 12
        for pet, share in (("cat", 0.75), ("dog", 0.25))
        for end in ("sat", "ran", "lay down")
    }
    expected |= {'Anna, "The cat"': 0.75 * 0.75, 'Anna, "The dog"': 0.75 * 0.25}
    assert {text: math.exp(-cost) for text, cost in costs.items()} == pytest.approx(expected)
    observed = [counts[text] for text in expected]
    assert stats.chisquare(observed, [6000 * share for share in expected.values()]).pvalue > 0.01


def test_spans_and_tags_say_what_was_meant() -> None:
    sinks = {"".join(sink.words): sink for sink in (write(seed)[0] for seed in range(200))}
    quoted = sinks['Anna, "The dog"']
    assert quoted.words == ["Anna", ",", ' "', "The", " dog", '"']
    assert quoted.tags == [("name",), (), (), (), ("pet", "loud"), ()]
    assert quoted.spans == [("quoted", 3, 5)]
    assert sinks["The cat lay down."].spans == [("slow", 2, 4)]


def test_a_template_that_reads_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'nothing'"):
        Grammar(TABLES, {"start": ["the {nothing}"]}, frozenset())
    with pytest.raises(ValueError, match="both a table and a nonterminal: pet"):
        Grammar(TABLES, {"pet": ["a"]}, frozenset())


def test_a_document_depends_on_the_seed_and_its_number_alone() -> None:
    some = list(documents(5, 6))
    assert list(documents(5, 3, first=3)) == some[3:]
    assert list(islice(documents(5), 2)) == some[:2]
    assert not {document.text for document in documents(6, 6)} & {document.text for document in some}


def test_documents_are_whole() -> None:
    genres: set[str] = set()
    for document in documents(7, 300):
        genres.add(document.genre)
        assert "".join(document.words) == document.text
        assert document.text.isascii()
        assert document.text.endswith("\n")
        assert 130 <= len(document.words) <= 500
        assert len(document.labels()) == len(document.tags) == len(document.words)
        assert all(0 <= start <= stop <= len(document.words) for _, start, stop in document.spans)
        # marks and line breaks stand alone, so that text is cut alike as a whole and word by word
        assert all(word.strip(" ").isalnum() or len(word.strip(" ")) == 1 for word in document.words)
    assert genres == set(GENRES)


def test_there_are_thousands_of_words() -> None:
    words = {word.strip().lower() for document in documents(8, 1500) for word in document.words}
    assert sum(word.isalpha() for word in words) >= 3000


def test_what_follows_a_word_tells_its_family() -> None:
    after: dict[str, Counter[str]] = {tag: Counter() for tag in ("weekday", "glad", "sad")}
    verbs = {animal: doings.split() for animal, doings in VERBS_OF_ANIMAL.items()}
    own_verb: list[bool] = []
    for document in documents(9, 400):
        words = [word.strip() for word in document.words]
        for index, tags in enumerate(document.tags[:-8]):
            if "animal" in tags and words[index - 1] == "the":
                own_verb.append(words[index + 1] in verbs[words[index]])
            if "weekday" in tags:
                after["weekday"][words[index + 1]] += 1
            if words[index + 1] == "because":
                for tag in {"glad", "sad"} & set(tags):
                    after[tag].update(
                        {"found", "won", "paid", "stolen", "lost", "fallen"} & set(words[index : index + 8])
                    )
    assert sum(own_verb) / len(own_verb) > 0.9
    assert set(after["weekday"]) == {"morning", "afternoon", "evening", "night"}
    assert sum(after["glad"][word] for word in ("found", "won", "paid")) > 0.9 * after["glad"].total() > 50
    assert sum(after["sad"][word] for word in ("stolen", "lost", "fallen")) > 0.9 * after["sad"].total() > 50


@pytest.mark.parametrize(("name", "seed"), [("demo", 100), ("heldout", 101)])
def test_the_shipped_text_is_the_generator_s(name: str, seed: int) -> None:
    lines = fixture("text", f"{name}.jsonl").read_text().splitlines()
    for line, document in zip(lines, documents(seed, len(lines)), strict=True):
        assert json.loads(line) == {"text": document.text, "genre": document.genre}


def test_the_command_writes_jsonl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "some.jsonl"
    main(["--seed", "3", "--words", "2000", "--out", str(out)])
    texts = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    assert texts == [document.text for document in documents(3, len(texts))]
    assert "nats a word" in capsys.readouterr().err
