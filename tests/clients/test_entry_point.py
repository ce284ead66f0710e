"""The provider that the documentation shows, installed as another package would be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import registry
from harness.clients import MemoryKeeper, Request, assemble, connect
from harness.errors import TaskError, UnknownKind
from tests.docs.pages import package, page, titled

pytestmark = pytest.mark.anyio


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "parrot", titled("providers", "parrot.py"), titled("providers", "pyproject.toml"))
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
    listed = set(re.findall(r"^\| `([a-z-]+)/", page("providers"), re.MULTILINE)) | {"truth"}
    assert listed == set(registry.BUILT_IN["providers"])
