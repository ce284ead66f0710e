"""What an agent's table may say, what decides its explanations, and which tools it offers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from harness.clients.models import Models
from harness.errors import PromptError, TaskError, UserError
from harness.explainers.agent import Agent
from harness.resources import fixture, folder
from harness.runs.running import check
from harness.runs.units import make_plan
from harness.task import load_task

pytestmark = pytest.mark.anyio

OPENAI = "openai/gpt-4.1"
LOCAL = "openai-api/lab/some-model"


@pytest.fixture(autouse=True)
def _services(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI", "ANTHROPIC", "LAB", "FAKE"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-none")
        monkeypatch.setenv(f"{name}_BASE_URL", "http://127.0.0.1:9/v1")


def agent(settings: dict[str, Any] | None = None, base: Path = Path(), **keys: Any) -> Agent:
    models = Models(settings or {}, lambda client: client)
    return Agent(Agent.Settings(**{"model": OPENAI, **keys}), models, base)


@pytest.mark.parametrize(
    ("model", "protocol", "taken"),
    [
        (OPENAI, "auto", "tools"),
        ("anthropic/claude-sonnet-5", "auto", "tools"),
        # whether it has any is not known
        (LOCAL, "auto", "text"),
        (LOCAL, "tools", "tools"),
        (OPENAI, "text", "text"),
    ],
)
def test_a_model_that_is_not_known_to_have_tools_is_spoken_to_in_text(model: str, protocol: str, taken: str) -> None:
    made = agent(model=model, protocol=protocol)
    assert made.identity["protocol"] == taken
    assert [want.needed for want in made.wants if want.what == "tools"] == [True] * (taken == "tools")


def test_a_model_without_tools_cannot_be_told_to_use_them(write_task: Callable[..., Path]) -> None:
    # completions of plain text have none
    base = {"name": "a", "kind": "agent", "model": OPENAI}
    known = {OPENAI: {"api": "completions"}}

    async def checked(**more: Any) -> None:
        await check(load_task(write_task(explainer=[{**base, **more}], model=known)))

    anyio.run(checked)
    with pytest.raises(TaskError, match=r"a: openai/gpt-4\.1 gives no tool calls; set protocol"):
        anyio.run(lambda: checked(protocol="tools"))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"model": "lexical/rules"}, "has no language model, and an agent is one"),
        ({"model": LOCAL, "dollars": 1.0}, "no price is known for openai-api/lab/some-model"),
        ({"tools": ("test",)}, '"test" needs a model that judges'),
        ({"prompt": "nothing"}, 'agent has no prompt "nothing"'),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_asked(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        agent(**keys)


@pytest.mark.parametrize(
    "keys", [{"turns": 0}, {"tools": ["look"]}, {"tools": ["read", "read"]}, {"tokens": 10}, {"x": 1}]
)
def test_wrong_keys_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Agent.Settings.model_validate({"model": OPENAI, **keys})


def test_what_decides_explanations_is_in_the_identity(tmp_path: Path) -> None:
    plain = agent().identity
    source = (folder("prompts") / "agent" / "default.toml").read_text()
    (tmp_path / "mine.toml").write_text(source + "\n# changed")
    changes: list[dict[str, Any]] = [
        {"turns": 5}, {"tests": 1}, {"tokens": 50_000}, {"opening": 3}, {"dollars": 1.0}, {"protocol": "text"},
        {"by": "openai/gpt-4.1-mini"}, {"tools": ("examples",)}, {"model": LOCAL},
        {"prompt": "./mine.toml", "base": tmp_path},
    ]  # fmt: skip
    for keys in changes:
        assert agent(**keys).identity != plain, keys
    assert agent().identity == plain


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("{{ examples }}", ""), "templates.user: has to show the variable examples"),
        (("{{ turns }}", "{{ steps }}"), r'mine.toml:\d+: templates.user: there is no variable "steps"'),
        (("max_tokens = 4000", "max_tokens = 1"), "sampling.max_tokens: "),
        (("description =", "about ="), "description: is missing"),
        (("[sampling]", "[sampling"), "not a TOML file"),
    ],
)
def test_a_mistake_in_a_prompt_is_told_with_its_place(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    source = (folder("prompts") / "agent" / "default.toml").read_text()
    (tmp_path / "mine.toml").write_text(source.replace(*change))
    with pytest.raises(PromptError, match=told):
        agent(prompt="./mine.toml", base=tmp_path)


def test_a_subject_is_used_where_there_is_one_and_is_part_of_the_keys(write_task: Callable[..., Path]) -> None:
    subject = {"model": str(fixture("subject")), "corpus": {"path": str(fixture("text", "demo.jsonl")), "tokens": 4096}}

    def plan(**tables: Any) -> Any:
        explainer = [{"name": "a", "kind": "agent", "model": OPENAI, **tables.pop("agent", {})}]
        given = load_task(write_task(explainer=explainer, controls=[], **tables))
        return make_plan(given, Models(given.model, lambda client: client), "s")

    alone, beside = plan(), plan(subject=subject)
    other = plan(subject={**subject, "context": 128})
    assert alone.subject is None
    assert beside.subject is not None
    assert len({each.explanation_arms[0].digest for each in (alone, beside, other)}) == 3
    # told to do without, it is as if there were none
    few = {"tools": ["examples"]}
    assert plan(subject=subject, agent=few).subject is None
    assert plan(subject=subject, agent=few).explanation_arms == plan(agent=few).explanation_arms
    with pytest.raises(TaskError, match=r"explainer\.a: this kind has texts read by the subject"):
        plan(agent={"tools": ["read"]})
