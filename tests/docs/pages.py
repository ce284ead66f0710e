"""The pages of the documentation, and the blocks of code on them."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
_BLOCK = re.compile(r'^```(\w*)(?: title="(.*?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(harness [^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and title, "" where it has none, and what stands in it."""

    language: str
    title: str
    text: str


def page(name: str) -> str:
    """The text of a page."""
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def blocks(name: str, *languages: str) -> list[Block]:
    """The blocks of a page, in its order; those of some languages, where any are named."""
    found = [Block(*parts) for parts in _BLOCK.findall(page(name))]
    return [block for block in found if not languages or block.language in languages]


def titled(name: str, title: str) -> str:
    """The code of a title."""
    (found,) = (block.text for block in blocks(name) if block.title == title)
    return found


def package(folder: Path, name: str, code: str, project: str) -> None:
    """A module as a package that is installed in a folder, with the entry points of its `pyproject.toml`."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = tomllib.loads(project)["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in named.items()) for group, named in groups.items()]
    (info / "entry_points.txt").write_text("".join(lines))


def commands(name: str, *, sentences: bool = True) -> list[list[str]]:
    """The words of every `harness` command on a page behind the first, in blocks and in its sentences.

    Lines that begin with an option, as below a command whose options they tell, go with that command.
    """
    found: list[list[str]] = []
    for block in blocks(name, "", "console", "sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if re.match(r"(\$ )?harness \w", line):
                # what follows two spaces or # is said of it
                found.append(_words(re.split(r"\s{3,}", line.removeprefix("$ "))[0]))
            elif found and re.match(r"    --\w", line):
                told = [part for part in re.split(r"\s{2,}", line.strip()) if part.startswith("--")]
                found.append([found[-1][0], *(word for part in told for word in _words(part, 0))])
    return found + [_words(text) for text in _INLINE.findall(page(name).replace("\n", " ")) if sentences]


def _words(line: str, first: int = 1) -> list[str]:
    return shlex.split(line, comments=True)[first:]
