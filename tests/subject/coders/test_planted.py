"""The planted coder writes exactly what its rules say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness import registry
from harness.errors import CoderError
from harness.resources import fixture
from harness.rules import load_concepts
from harness.subject.coders.protocol import TokenCoder
from harness.task import CoderSettings

CONTEXTS = [
    ["", " On", " Monday", " morning", " Anna", " rowed", " over", " the", " river", " to", " the", " ban", "k", "."],
    ["", '"', "Where", " is", " the", " red", " hat", "?", '"', " asked", " Anna", ".", " Here", "."],
    [],
]


def coder() -> TokenCoder:
    found = registry.load("coders", "planted").load(CoderSettings(name="planted", kind="planted"), Path())
    assert isinstance(found, TokenCoder)
    return found


def test_rows_are_the_rules_strengths() -> None:
    concepts = load_concepts(fixture("concepts.json")).concepts
    rows = coder().encode_pieces(CONTEXTS)
    count = sum(map(len, CONTEXTS))
    dense = np.zeros((count, len(concepts)), np.float32)
    assert len(rows.indptr) == count + 1
    for position in range(count):
        inside = slice(rows.indptr[position], rows.indptr[position + 1])
        assert (np.diff(rows.latents[inside]) > 0).all()
        dense[position, rows.latents[inside]] = rows.values[inside]
    expected = [[c.parsed.strengths(pieces) for c in concepts] for pieces in CONTEXTS if pieces]
    assert np.array_equal(dense, np.concatenate([np.array(part).T for part in expected]))
    names = [concept.name for concept in concepts]
    assert dense[12, names.index("bank.river")] > 0
    assert dense[11].sum() == dense[12, names.index("bank.money")] == 0


def test_nothing_fires_on_a_special_token() -> None:
    rows = coder().encode_pieces([[""] * 5])
    assert rows.indptr.tolist() == [0] * 6
    assert len(rows.latents) == len(rows.values) == 0


def test_its_revision_is_its_file_s_hash_and_it_has_no_decoder() -> None:
    found = coder()
    kind = registry.load("coders", "planted")
    assert found.info == kind.describe(CoderSettings(name="p", kind="planted"), Path())
    assert found.info.revision == load_concepts(fixture("concepts.json")).revision
    assert found.info.d_in is found.info.d_decoder is found.decoder is None
    assert kind.reads == "tokens"


def test_another_file_may_be_named_beside_the_task(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(
        '{"concepts": [{"name": "a", "kind": "token", "sentences": [], "rule": {"kind": "words", "words": ["a"]}}]}'
    )
    settings = CoderSettings(name="p", kind="planted", path="mine.json")
    rows = registry.load("coders", "planted").load(settings, tmp_path).encode_pieces([[" a", " b"]])
    assert rows.indptr.tolist() == [0, 1, 1]
    with pytest.raises(CoderError, match="cannot be read"):
        registry.load("coders", "planted").describe(settings, tmp_path / "elsewhere")


def test_torch_is_not_loaded() -> None:
    code = "import sys, harness.subject.coders.planted; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
