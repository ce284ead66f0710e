"""Small stores are written often here: no waiting for the disk."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    # flushing guards against power loss, which no test tries, and takes most of a small store's time
    monkeypatch.setattr("os.fsync", lambda _: None)
