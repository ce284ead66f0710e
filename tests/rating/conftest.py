"""A small run to rate, a book for it and a server."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from harness.analysis.load import Run, load
from harness.rating.book import Book
from harness.rating.items import Item, Selection, items_of
from harness.rating.server import RatingServer
from harness.rating.session import Session
from harness.store import Store
from tests.running import conducted

ATTACK = "<img src=x onerror='window.owned=1'><script>window.owned=1</script>{{alert(1)}}\x1b[2J\u202e\u2028x"


@pytest.fixture(scope="session")
def rated_run(tmp_path_factory: pytest.TempPathFactory, make_store: Callable[..., Store]) -> Path:
    """A run of two explainers with a control on four latents; one explanation would act if it could."""
    folder = tmp_path_factory.mktemp("rated")
    store = make_store(folder / "store")
    lines = [{"latent": n, "explanation": f"the word w{n}" if n != 5 else ATTACK} for n in (3, 4, 5, 6)]
    (folder / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    task: dict[str, Any] = {
        "name": "rated",
        "store": {"path": str(store.path)},
        "coder": [{"name": "words", "kind": "planted"}],
        "latents": {"ids": [3, 4, 5, 6], "min_examples": 50},
        "examples": {"window": 16, "scored": {"activating": 20, "non_activating": 20}},
        "controls": ["shuffled", "none"],
        "explainer": [
            {"name": "rules", "kind": "contexts", "model": "lexical/rules"},
            {"name": "listed", "kind": "file", "path": "people.jsonl"},
        ],
        "scorer": [{"name": kind, "kind": kind, "model": "lexical/rules"} for kind in ("detection", "fuzzing")],
        "primary": {"scorer": "detection"},
    }
    (folder / "task.toml").write_text(tomli_w.dumps(task))
    return conducted(folder / "task.toml", folder / "run")


@pytest.fixture
def directory(rated_run: Path, tmp_path: Path) -> Path:
    """A copy of that run which a test may rate."""
    return Path(shutil.copytree(rated_run, tmp_path / "run"))


@pytest.fixture
def run(directory: Path) -> Iterator[Run]:
    found = load(directory)
    yield found
    found.close()


@pytest.fixture
def book(directory: Path) -> Iterator[Book]:
    made = Book(directory)
    yield made
    made.close()


@pytest.fixture
def items(run: Run) -> list[Item]:
    """20 items: of one explainer, five contexts of each of four latents."""
    return items_of(run, Selection(explainers=("listed",), controls=False))


@contextmanager
def _serving(server: RatingServer) -> Iterator[RatingServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def serving() -> Callable[..., Any]:
    """Runs a server in a thread while inside."""
    return _serving


@pytest.fixture
def server(book: Book, items: list[Item]) -> Iterator[RatingServer]:
    """Serves the 20 items."""
    with _serving(RatingServer(Session(book, items, 0), book.token, "Rating")) as made:
        yield made
