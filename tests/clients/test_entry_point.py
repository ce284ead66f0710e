"""The provider that the documentation shows, installed as another package would be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import registry
from harness.clients import MemoryKeeper, Request, assemble, connect
from harness.errors import TaskError, UnknownKind

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"


def block(language: str, containing: str) -> str:
    """The code on the page that holds a text."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return next(code for code in found if containing in code)


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parrot.py").write_text(block("python", "class Parrot"))
    table, line = block("toml", "entry-points").split("\n", 1)
    group = re.search(r'entry-points\."(.*)"\]', table)
    assert group is not None
    info = tmp_path / "parrot-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group[1]}]\n{line.replace(chr(34), '')}")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("_installed")
async def test_the_documented_provider_works_with_settings_and_layers(ask: Callable[..., Request]) -> None:
    keeper = MemoryKeeper()
    for settings, expected in (({}, "hello"), ({"shout": True}, "HELLO")):
        client = assemble(connect("parrot/grey", settings), keeper)
        assert client.name == "parrot/grey"
        assert (await client.generate(ask())).text == (await client.generate(ask())).text == expected
        await client.aclose()
    assert len(keeper.replies) == 2
    with pytest.raises(TaskError, match=r'\[model."parrot/grey"\]: shouts: unknown key; did you mean shout'):
        connect("parrot/grey", {"shouts": True})
    with pytest.raises(UnknownKind, match='did you mean "parrot"'):
        connect("parot/grey")


def test_the_page_lists_every_provider_and_no_other() -> None:
    listed = set(re.findall(r"^\| `([a-z-]+)/", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) | {"truth"}
    assert listed == set(registry.BUILT_IN["providers"])
