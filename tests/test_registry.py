from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from harness import registry
from harness.errors import MissingDependency, UnknownKind

KINDS = [(group, name) for group, kinds in registry.BUILT_IN.items() for name in kinds]


@pytest.mark.parametrize(("group", "name"), KINDS)
def test_every_built_in_kind_loads(group: str, name: str) -> None:
    kind = registry.load(group, name)
    if group != "coders":
        assert kind.Settings.model_json_schema()["type"] == "object"


@pytest.mark.parametrize("group", registry.BUILT_IN)
def test_names_are_sorted_and_hold_the_built_in_ones(group: str) -> None:
    found = registry.names(group)
    assert list(found) == sorted(found)
    assert set(registry.BUILT_IN[group]) <= set(found)


@pytest.mark.parametrize(
    ("group", "name", "told"),
    [
        ("scorers", "detecton", r'^there is no scorer "detecton"; did you mean "detection"\?$'),
        ("explainers", "xyz", r'^there is no explainer "xyz"; known: agent, .*contexts, .*file'),
        ("providers", "antropic", r'^there is no provider "antropic"; did you mean "anthropic"\?$'),
    ],
)
def test_an_unknown_kind_is_told_with_the_nearest_or_all(group: str, name: str, told: str) -> None:
    with pytest.raises(UnknownKind, match=told):
        registry.load(group, name)


def _package(folder: Path, module: str, code: str, points: str) -> None:
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


def test_another_packages_kind_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[harness.scorers]\nodd = odd_scorer:Odd\n"
    _package(tmp_path, "odd_scorer", "class Odd:\n    pass\n", points)
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.load("scorers", "odd").__name__ == "Odd"
    assert "odd" in registry.names("scorers")
    assert "odd" not in registry.names("explainers")
    with pytest.raises(UnknownKind, match='did you mean "odd"'):
        registry.load("scorers", "od")
    sys.modules.pop("odd_scorer")


def test_another_package_does_not_take_a_built_in_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[harness.scorers]\ndetection = thief:Thief\n"
    _package(tmp_path, "thief", "class Thief:\n    pass\n", points)
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.load("scorers", "detection").__module__ == "harness.scorers.detection"
    assert registry.names("scorers").count("detection") == 1


def test_a_package_that_is_missing_is_named_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[harness.providers]\nneedy = needy:Needy\n"
    _package(tmp_path, "needy", "import no_such_package.part\n", points)
    monkeypatch.syspath_prepend(tmp_path)
    told = r'provider "needy" needs the package "no_such_package": pip install no_such_package'
    with pytest.raises(MissingDependency, match=told):
        registry.load("providers", "needy")


def test_our_own_missing_module_is_our_bug_and_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN["scorers"], "lost", "harness.scorers.lost:Lost")
    with pytest.raises(ModuleNotFoundError, match=r"harness\.scorers\.lost"):
        registry.load("scorers", "lost")


def test_asking_for_names_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    assert "openai" in registry.names("providers")
