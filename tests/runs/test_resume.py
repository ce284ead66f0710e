from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import load
from harness.clients.providers.lexical import LexicalProvider
from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal
from harness.runs.progress import Silent
from harness.runs.running import conduct
from harness.task import load_task

pytestmark = pytest.mark.anyio

WRITER = {"name": "a", "kind": "contexts", "model": "lexical/rules"}
JUDGE = {"name": "detection", "kind": "detection", "model": "lexical/rules", "batch": 10}


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A letter for each request that reaches the model: what it was asked."""
    found: list[str] = []
    connect = LexicalProvider.connect.__func__  # type: ignore[attr-defined] - a classmethod's function

    def connected(cls: Any, model: str, settings: Any) -> Any:
        client = connect(cls, model, settings)
        generate = client.generate

        async def counted(request: Any) -> Any:
            found.append(type(request.question).__name__)
            return await generate(request)

        client.generate = counted
        return client

    monkeypatch.setattr(LexicalProvider, "connect", classmethod(connected))
    return found


@pytest.fixture
def again(
    write_task: Callable[..., Path], tmp_path: Path, results_of: Callable[[Path], set[Any]], asked: list[str]
) -> Callable[..., Any]:
    """Runs a task in the same directory; gives what was noted, what was asked and what is new."""

    async def go(*overrides: str, **tables: Any) -> tuple[list[str], list[str], set[Any]]:
        out, notes = tmp_path / "run", Notes()
        before = results_of(out) if out.exists() else set()
        asked.clear()
        await conduct(load_task(write_task(**tables), overrides), out, progress=notes)
        after = results_of(out)
        assert before <= after, "a finished unit was changed or dropped"
        return notes.notes, list(asked), after - before

    return go


async def test_the_same_task_again_does_nothing_and_writes_no_second_file(
    again: Callable[..., Any], tmp_path: Path
) -> None:
    _, asked, new = await again()
    assert len(new) == 4 * 5
    assert set(asked) == {"Explain", "Detect"}
    assert await again() == ([], [], set())
    assert {path.name for path in (tmp_path / "run").glob("task*")} == {"task.toml"}


async def test_renaming_arms_costs_nothing(again: Callable[..., Any], tmp_path: Path) -> None:
    await again()
    notes, asked, new = await again(explainer=[{**WRITER, "name": "z"}], scorer=[{**JUDGE, "name": "y"}])
    assert (asked, new) == ([], set())
    assert notes == [
        "changed since the last run here: explainer.0.name: 'a' -> 'z'",
        "changed since the last run here: scorer.0.name: 'detection' -> 'y'",
    ]
    scores = load(tmp_path / "run").scores()
    assert set(scores["scorer"]) == {"y"}
    assert set(scores["explainer"].dropna()) == {"z"}
    assert len(scores) == 4 * 3


async def test_a_new_scorer_is_all_that_is_asked_and_old_units_stay(again: Callable[..., Any], tmp_path: Path) -> None:
    await again()
    fuzzing = {**JUDGE, "name": "fuzzing", "kind": "fuzzing"}
    _, asked, new = await again(scorer=[JUDGE, fuzzing])
    assert set(asked) == {"Fuzz"}
    assert len(new) == 4 * 3
    assert set(load(tmp_path / "run").scores()["scorer"]) == {"detection", "fuzzing"}
    # dropped again, the tables no longer reach it, and the journal keeps it
    assert await again(scorer=[JUDGE]) == (
        ["changed since the last run here: scorer: " + _shown([JUDGE, fuzzing]) + " -> " + _shown([JUDGE])], [], set(),
    )  # fmt: skip
    assert set(load(tmp_path / "run").scores()["scorer"]) == {"detection"}
    assert (await again(scorer=[JUDGE, fuzzing]))[1:] == ([], set())


def _shown(tables: list[dict[str, Any]]) -> str:
    given = ({"sample": 0, "explainers": None, **table} for table in tables)
    return repr(
        [{key: table[key] for key in ("name", "kind", "sample", "explainers", "model", "batch")} for table in given]
    )


async def test_a_new_explainer_is_all_that_is_asked(again: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(
        "".join(f'{{"latent": {n}, "explanation": "the word w{n}"}}\n' for n in range(12))
    )
    await again()
    _, asked, new = await again(explainer=[WRITER, {"name": "file", "kind": "file", "path": "mine.jsonl"}])
    assert set(asked) == {"Detect"}
    # explanations, shuffles, and the scores of both
    assert len(new) == 4 * 4


async def test_a_new_control_is_all_that_is_asked(again: Callable[..., Any]) -> None:
    await again()
    _, asked, new = await again(controls=["shuffled", "none", "generic"])
    assert (set(asked), len(new)) == ({"Detect"}, 4)


async def test_more_latents_keep_the_ones_before(again: Callable[..., Any]) -> None:
    _, before, _ = await again(latents={"sample": 3, "min_examples": 50})
    _, asked, new = await again(latents={"sample": 5, "min_examples": 50})
    assert asked.count("Explain") == 2
    # the end of the shorter cycle is shuffled with another latent now
    assert len(new) == 2 * 5 + 2
    assert before.count("Explain") == 3


async def test_a_changed_task_gets_a_file_of_its_own_and_the_change_is_told(
    again: Callable[..., Any], tmp_path: Path
) -> None:
    await again()
    notes, _, new = await again("scorer.detection.batch=5", "limits.latents=3")
    assert notes == [
        "changed since the last run here: limits.latents: 16 -> 3",
        "changed since the last run here: scorer.0.batch: 10 -> 5",
    ]
    assert len(new) == 4 * 3
    first, second = (tomllib.loads((tmp_path / "run" / name).read_text()) for name in ("task.toml", "task.2.toml"))
    assert (first["scorer"][0]["batch"], second["scorer"][0]["batch"]) == (10, 5)
    assert len(load(tmp_path / "run").scores()) == 4 * 3
    await again()
    assert (tmp_path / "run" / "task.3.toml").exists()
    assert [task.number for task in Journal(tmp_path / "run" / JOURNAL).tasks()] == [1, 2, 3]


async def test_the_frozen_task_says_what_its_names_stood_for(again: Callable[..., Any], tmp_path: Path) -> None:
    import hashlib

    from harness.resources import folder

    await again()
    frozen = tomllib.loads((tmp_path / "run" / "task.toml").read_text())["frozen"]
    for group, arm, question in (("explainers", "a", "explain"), ("scorers", "detection", "detect")):
        prompt = (folder("prompts") / question / "default.toml").read_bytes()
        assert frozen[group][arm]["prompt"] == hashlib.sha256(prompt).hexdigest()
    assert frozen["versions"]["latent-harness"]
    assert frozen["store"]["coder_revisions"] == {"words": "made-0-12"}
    assert frozen["store"]["model_revision"] == "0"
    assert len(frozen["store"]["id"]) == 64


async def test_a_prompt_file_that_changed_is_asked_anew(again: Callable[..., Any], tmp_path: Path) -> None:
    from harness.resources import folder

    prompt = tmp_path / "mine.toml"
    prompt.write_bytes((folder("prompts") / "detect" / "default.toml").read_bytes())
    scorer = [{**JUDGE, "prompt": "./mine.toml"}]
    await again(scorer=scorer)
    assert (await again(scorer=scorer))[1:] == ([], set())
    prompt.write_bytes(prompt.read_bytes() + b"\n# changed\n")
    assert len((await again(scorer=scorer))[2]) == 4 * 3


async def test_another_seed_is_another_run_in_the_same_directory(again: Callable[..., Any], tmp_path: Path) -> None:
    await again()
    _, _, new = await again("seed=1")
    assert len(new) == 4 * 5
    run = load(tmp_path / "run")
    assert run.seed == 1
    assert len(run.explanations()) == 4 * 3
