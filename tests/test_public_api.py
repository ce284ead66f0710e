from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import harness
from harness.testing import ProviderProcess

# what costs seconds to import, and what an API-only run has no use for
HEAVY = ("anthropic", "datasets", "nnsight", "openai", "pandas", "scipy", "sklearn", "torch", "transformers")
SUBJECT = ("nnsight", "torch", "transformers")

PACKAGE = Path(harness.__file__).parent
PATHS = [path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")]
NAMES = {".".join(path.parts).removesuffix(".__init__") for path in PATHS}
MODULES = sorted(name for name in NAMES if "._" not in name)


def _defined(module: ModuleType) -> set[str]:
    """The public functions and classes that a module's own source defines at its top."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")}


@pytest.mark.parametrize("name", MODULES)
def test_all_is_complete_and_true(name: str) -> None:
    module = importlib.import_module(name)
    if not _defined(module) and not hasattr(module, "__all__"):
        return  # an empty package
    assert sorted(set(module.__all__)) == sorted(module.__all__), "a name twice"
    assert all(hasattr(module, each) for each in module.__all__)
    assert _defined(module) <= set(module.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name)
    if _defined(module):
        assert module.__doc__
        assert module.__doc__.strip().splitlines()[0].endswith((".", ":", ")"))


@pytest.mark.parametrize("name", harness.__all__)
def test_every_public_name_is_there_with_a_docstring(name: str) -> None:
    assert getattr(harness, name).__doc__
    assert name in dir(harness)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = harness.nothing


def _loaded(code: str, *arguments: str, folder: Path | None = None, **environment: str) -> set[str]:
    """The top-level packages that are loaded after some code, in a fresh process."""
    told = f"{code}\nimport json, sys\nsys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", told, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment or None, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stderr.rpartition("\n")[2])}


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert _loaded("import harness; dir(harness)").isdisjoint({*HEAVY, "numpy", "pydantic"})


def test_help_loads_nothing_heavy() -> None:
    code = "from harness.cli import main\ntry: main()\nexcept SystemExit: pass"
    assert _loaded(code, "--help").isdisjoint({*HEAVY, "numpy", "pydantic"})


def test_reading_a_task_loads_nothing_heavy() -> None:
    assert _loaded("import harness; harness.load_task('demo')").isdisjoint({*HEAVY, "numpy"})


def test_a_run_by_api_on_a_finished_store_and_its_report_load_no_torch(
    write_task: Callable[..., Path], tmp_path: Path
) -> None:
    task = write_task(
        latents={"sample": 1, "min_examples": 50},
        explainer=[{"name": "a", "kind": "contexts", "model": "openai-api/fake/m"}],
        scorer=[{"name": "detection", "kind": "detection", "model": "anthropic/m", "batch": 10}],
    )
    code = "import sys\nfrom harness.cli import main\ntry: main()\nexcept SystemExit as end: assert not end.code"
    with ProviderProcess() as provider:
        variables = {"FAKE_BASE_URL": provider.openai_url, "ANTHROPIC_BASE_URL": provider.url}
        loaded = _loaded(code, "run", str(task), "--out", "out", folder=tmp_path, **variables)
    assert {"openai", "anthropic"} <= loaded
    assert loaded.isdisjoint(SUBJECT)
    assert _loaded(code, "report", "out", folder=tmp_path).isdisjoint({*SUBJECT, "openai", "anthropic"})
