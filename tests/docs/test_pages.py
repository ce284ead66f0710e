"""All pages: each is in the site's navigation once, and the tasks and formats that they name are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.interop.exporting import FORMATS
from tests.docs.pages import DOCS, PAGES

ROOT = DOCS.parent


def named(entries: Any) -> Iterator[str]:
    """The pages of a navigation, in its order."""
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, dict):
        for entry in entries.values():
            yield from named(entry)
    else:
        for entry in entries:
            yield from named(entry)


def test_every_page_is_in_the_navigation_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(named(nav)) == [page.relative_to(DOCS).as_posix() for page in PAGES]


def test_the_first_page_leads_to_every_other() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)", (DOCS / "index.md").read_text(encoding="utf-8")))
    assert linked == {page.name for page in PAGES if page.parent == DOCS} - {"index.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_shipped_tasks_and_formats_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for task in re.findall(r"\btasks/[\w/.-]+\.toml", text):
        assert (ROOT / task).exists(), task
    if page.name == "comparison.md":
        found = set(re.findall(r"`--format (\w+)`", text))
        assert found == {"delphi", "saebench", "neuronpedia"} <= set(FORMATS)
