"""Reports show the sheet of each judge that has one, and say of the others that they are not qualified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import Run, load
from harness.cli.show import print_results
from harness.judges.qualify import Candidate, qualify
from harness.report.data import JudgeLine
from harness.report.gather import gather
from harness.report.header import header
from harness.report.judges import judge_lines
from harness.report.page import render
from harness.report.reading import Reading
from harness.runs.running import conduct
from harness.task import load_task
from harness.testing import FakeProvider

pytestmark = pytest.mark.anyio

FAKE = "openai-api/fake/judge"
SETTINGS = {"logprobs": False}


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> Any:
    async with FakeProvider() as found:
        monkeypatch.setenv("FAKE_BASE_URL", found.openai_url)
        yield found


@pytest.fixture
def ran(write_task: Callable[..., Path], tmp_path: Path) -> Callable[..., Any]:
    """A run by the judge `fake`, in `runs/t`; keywords are further keys of its detection scorer."""

    async def run(settings: dict[str, Any] | None = None, **keys: Any) -> Run:
        task = write_task(
            scorer=[{"name": "d", "kind": "detection", "model": FAKE, **keys}],
            model={FAKE: SETTINGS if settings is None else settings},
        )
        await conduct(load_task(task), tmp_path / "runs" / "t", limit=1)
        return load(tmp_path / "runs" / "t")

    return run


def told(run: Run) -> list[str]:
    lines = list(judge_lines(header(Reading(run)).judges))
    page = render(gather(run))
    for line in lines:
        assert line in page
    return lines


NONE = f"Judge not qualified: {FAKE} for d has no sheet of just this model, settings, prompt and batch beside this run;"


async def test_the_sheet_beside_the_run_is_shown(
    provider: FakeProvider, ran: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detection, _ = await qualify(Candidate(FAKE, SETTINGS), tmp_path / "runs" / "judge-x")
    run = await ran()
    (line,) = told(run)
    assert line.startswith(f"The judge of d, {FAKE}, is not qualified: ")
    tpr = detection.tpr
    assert f"({detection.date[:10]}, 200 planted items: TPR {tpr.share:.2f} [{tpr.low:.2f}, {tpr.high:.2f}]" in line
    page = render(gather(run))
    assert "sheets: planted items of known truth" in page
    assert f'<td class="number">{tpr.share:.2f} [{tpr.low:.2f}, {tpr.high:.2f}]</td>' in page
    assert '<td class="number">not qualified</td>' in page
    assert f"{detection.date[:10]}, seed 0, 200 items" in page
    print_results(run)
    assert line in " ".join(capsys.readouterr().out.split())


async def test_a_qualified_judge_is_called_so(ran: Callable[..., Any], write_task: Any, tmp_path: Path) -> None:
    await qualify(Candidate("truth/exact"), tmp_path / "judge-truth-exact")
    task = write_task(scorer=[{"name": "d", "kind": "detection", "model": "truth/exact"}])
    await conduct(load_task(task), tmp_path / "t", limit=1)
    (line,) = told(load(tmp_path / "t"))
    assert line.startswith("The judge of d, truth/exact, is qualified (")


async def test_without_a_sheet_the_judge_is_not_qualified(
    provider: FakeProvider, ran: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = await ran()
    (line,) = told(run)
    assert line == f"{NONE} harness judge {FAKE} makes one."
    assert "sheets: planted items of known truth" not in render(gather(run))
    print_results(run)
    assert line in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (None, {"prompt": "tiny"}),
        (None, {"batch": 2}),
        (None, {"logprobs": False}),
        ({"logprobs": False, "temperature": False}, {}),
    ],
)
async def test_a_sheet_of_another_prompt_batch_or_setting_is_not_shown(
    provider: FakeProvider,
    ran: Callable[..., Any],
    tmp_path: Path,
    settings: dict[str, Any] | None,
    keys: dict[str, Any],
) -> None:
    await qualify(Candidate(FAKE, SETTINGS), tmp_path / "runs" / "judge-x")
    (line,) = told(await ran(settings, **keys))
    assert line.startswith(NONE)


async def test_a_prompt_changed_since_is_another_prompt(
    provider: FakeProvider, ran: Callable[..., Any], tmp_path: Path
) -> None:
    from harness import resources

    mine = tmp_path / "mine.toml"
    shipped = (resources.folder("prompts") / "detect" / "default.toml").read_text()
    mine.write_text(shipped)
    candidate = Candidate(FAKE, SETTINGS, prompts={"detection": str(mine)})
    await qualify(candidate, tmp_path / "runs" / "judge-x")
    assert told(await ran(prompt="./mine.toml"))[0].startswith("The judge of d, ")
    mine.write_text(shipped + "\n# another byte\n")
    assert told(await ran(prompt="./mine.toml"))[0].startswith(NONE)


async def test_a_sheet_from_elsewhere_is_not_shown(
    provider: FakeProvider, ran: Callable[..., Any], tmp_path: Path
) -> None:
    await qualify(Candidate(FAKE, SETTINGS), tmp_path / "other" / "judge-x")
    assert told(await ran())[0].startswith(NONE)


async def test_a_model_that_is_asked_otherwise_is_not_qualified(
    provider: FakeProvider, write_task: Callable[..., Path], tmp_path: Path
) -> None:
    await qualify(Candidate(FAKE, SETTINGS), tmp_path / "runs" / "judge-x")
    task = write_task(scorer=[{"name": "s", "kind": "simulation", "model": FAKE}], model={FAKE: SETTINGS})
    await conduct(load_task(task), tmp_path / "runs" / "t", limit=1)
    assert told(load(tmp_path / "runs" / "t")) == [
        f"Judge not qualified: {FAKE} for s; planted items are for detection and fuzzing alone."
    ]


def test_scorers_that_no_sheet_is_for_share_a_sentence() -> None:
    lines = [JudgeLine(name, "simulation", FAKE, None) for name in ("s", "t", "u")]
    assert judge_lines([*lines, JudgeLine("v", "simulation", "openai-api/fake/b", None)]) == (
        f"Judge not qualified: {FAKE} for s, t and u; planted items are for detection and fuzzing alone.",
        "Judge not qualified: openai-api/fake/b for v; planted items are for detection and fuzzing alone.",
    )


async def test_judges_without_a_model_say_what_they_are_as_before(
    write_task: Callable[..., Path], tmp_path: Path
) -> None:
    await conduct(load_task(write_task()), tmp_path / "runs" / "t", limit=1)
    run = load(tmp_path / "runs" / "t")
    assert told(run) == []
    assert "The judge is the lexical baseline and no LLM." in render(gather(run))
