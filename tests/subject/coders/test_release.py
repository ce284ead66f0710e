"""The kind `sae-lens-release` without its package; with it, see the tests marked foreign."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.errors import MissingDependency
from harness.subject.coders.release import ReleaseCoder
from harness.task import CoderSettings


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    settings = CoderSettings(name="jb", kind="sae-lens-release", hookpoint="h", path="gpt2-small-res-jb:x")
    with pytest.raises(MissingDependency, match=r'coder "jb": .* needs the package "sae-lens": pip install "latent'):
        ReleaseCoder.describe(settings, Path())
