"""A concepts file is read whole, or refused with its name and what is wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CoderError
from harness.resources import fixture
from harness.rules import load_concepts

RED = {"name": "red", "kind": "token", "sentences": ["Red."], "rule": {"kind": "words", "words": ["red"]}}
BLUE = {**RED, "name": "blue", "sentences": ["Blue."], "siblings": ["red"]}


def write(folder: Path, data: Any) -> Path:
    path = folder / "concepts.json"
    path.write_text(data if isinstance(data, str) else json.dumps({"concepts": data}))
    return path


def test_concepts_come_in_the_file_s_order_with_its_hash(tmp_path: Path) -> None:
    path = write(tmp_path, [BLUE, RED])
    found = load_concepts(path)
    assert [concept.name for concept in found.concepts] == ["blue", "red"]
    assert found.revision == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.concepts[1].parsed.fires([" red", " blue"]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ([{**RED, "colour": 1}], "colour"),
        ([{**RED, "rule": {"kind": "words"}}], 'concept "red": not a rule: words.words'),
        ([RED, {**RED, "sentences": ["Other."]}], 'two concepts are called "red"'),
        ([RED, {**BLUE, "sentences": ["Red."]}], 'the sentence "Red."'),
        ([BLUE], 'has a sibling "red"'),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, data: Any, told: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(CoderError) as caught:
        load_concepts(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CoderError, match="cannot be read"):
        load_concepts(tmp_path / "none.json")


def test_the_shipped_concepts_are_of_every_kind_and_have_siblings() -> None:
    concepts = load_concepts(fixture("concepts.json")).concepts
    kinds = {concept.kind for concept in concepts}
    assert kinds == {
        "token", "family", "morphology", "position", "syntax", "sense", "topic", "long range", "mixture",
    }  # fmt: skip
    assert len(concepts) >= 64
    assert all(concept.siblings and concept.labels and concept.sentences for concept in concepts)
