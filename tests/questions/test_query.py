"""The query of an embedder: the shipped variants, files of one's own, mistakes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from harness.errors import PromptError
from harness.questions.prompts import variants
from harness.questions.query import load_query
from harness.values import Explanation

MINE = """description = "d"

[templates]
withheld = ""
query = '''
Find: {{ explanation }}
'''
"""


def test_the_shipped_variants_are_an_instruction_with_the_explanation_and_the_explanation_alone() -> None:
    assert variants("embedding") == ("default", "plain")
    told = Explanation("months\nof the year")
    instruction = "Instruct: Retrieve sentences that could be related to the explanation.\nQuery:"
    assert load_query("default").query(told) == f"{instruction} months of the year"
    assert load_query("default").query(None) == instruction
    assert load_query("plain").query(told) == "months of the year"
    assert load_query("plain").query(None) == "A sentence."


def test_a_file_of_ones_own_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    found = load_query("./mine.toml", tmp_path)
    assert (found.name, found.digest) == ("mine", hashlib.sha256(MINE.encode()).hexdigest())
    assert (found.query(Explanation("{{ 1 }} <b>")), found.query(None)) == ("Find: {{ 1 }} <b>", "Find:")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{{ explanation }}", "it", r"x\.toml: templates\.query: has to show the variable explanation"),
        ("Find: ", "", r"x\.toml: templates\.withheld: has to be some words where the query is nothing else"),
        ("{{ explanation }}", "{{ examples }}", r'x\.toml:6: .*no variable "examples"; known: explanation'),
        ("{{ explanation }}", "{{ explanation", r"x\.toml:\d: templates\.query: "),
        ('withheld = ""\n', "", r"x\.toml: templates\.withheld: is missing"),
        ('withheld = ""', 'withheld = ""\nsystem = "s"', r"x\.toml: templates\.system: is not a key of a prompt file"),
        ("description", "descripton", r"x\.toml: description: is missing"),
        ("[templates]", "[templates", r"x\.toml: not a TOML file"),
    ],
)
def test_a_mistake_is_reported_with_file_and_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "x.toml").write_text(MINE.replace(old, new))
    with pytest.raises(PromptError, match=said):
        load_query("x.toml", tmp_path)


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_reported(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff")
    for name, said in (("x.toml", "not UTF-8"), ("./y.toml", "cannot be read"), ("plan", 'did you mean "plain"')):
        with pytest.raises(PromptError, match=said):
            load_query(name, tmp_path)
