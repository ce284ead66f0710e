"""Examples of a latent that fires on one word, and explainers whose models say what they are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import registry
from harness.clients.models import Models
from harness.examples.draw import LatentExamples, draw
from harness.store import Store
from harness.task import ExampleSettings
from harness.testing import MockClient

Asking = Callable[..., tuple[Any, MockClient]]


@pytest.fixture
def examples(store: Store) -> LatentExamples:
    """Those of the latent that fires on w3."""
    found = draw(store.coder("words"), 3, ExampleSettings(), 0)
    assert isinstance(found, LatentExamples)
    return found


@pytest.fixture
def asking(tmp_path: Path) -> Asking:
    """Makes an explainer of a kind with one client for all its models: `asking(kind, output, **settings)`."""

    def make(kind: str, output: Any, **settings: Any) -> tuple[Any, MockClient]:
        client = MockClient(output)
        made = registry.load("explainers", kind)
        return made(made.Settings(**settings), Models({}, lambda _: client), tmp_path), client

    return make
