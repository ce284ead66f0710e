from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import load
from harness.interop.jsonl import EXPLANATION_KEYS, SCORE_KEYS
from harness.runs.journal import Journal
from harness.testing import ProviderProcess

FEW = {"sample": 2, "min_examples": 50}


def test_run_prints_tables_and_an_account_and_writes_the_report(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    said = harness("run", write_task(latents=FEW))
    assert said.code == 0
    assert (tmp_path / "runs" / "t" / "report" / "index.html").is_file()
    lines = said.out.splitlines()
    assert lines[-1] == "done: 6 explanations, 6 scores; failed: none; verdicts missing within scores: 0"
    for word in ("latent", "explanation", "detection", "a (shuffled)", "none", "lexical baseline and no LLM"):
        assert word in said.out


def test_run_takes_out_set_limit_and_no_report(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    said = harness(
        "run", write_task(), "--out", "deep/er", "--set", "seed=5", "--set", "scorer.detection.batch=4",
        "--limit", "1", "--no-report",
    )  # fmt: skip
    assert said.code == 0
    run = load(tmp_path / "deep" / "er")
    assert (run.seed, len(run.latents["words"])) == (5, 1)
    assert run.record["task"]["scorer"][0]["batch"] == 4
    assert not (tmp_path / "deep" / "er" / "report").exists()
    # the explanation, and the score that there cannot be
    assert "2 no_partner" in said.out.splitlines()[-1]


def test_run_again_goes_on_and_retry_failed_redoes(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "mine.jsonl").write_text('{"latent": 4, "explanation": "the word w4"}\n')
    path = write_task(latents={"ids": [3, 4], "min_examples": 50}, explainer=[
        {"name": "mine", "kind": "file", "path": "mine.jsonl"},
    ])  # fmt: skip
    first = harness("run", path)
    assert "1 unparsable" in first.out.splitlines()[-1] or "2 unparsable" in first.out.splitlines()[-1]
    assert harness("run", path).out == first.out
    assert harness("run", path, "--retry-failed").out == first.out


def test_report_writes_the_report_again_or_elsewhere(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    ran = harness("run", write_task(latents=FEW), "--out", "out", "--no-report")
    said = harness("report", "out")
    assert said.code == 0
    assert said.out == ran.out
    assert (tmp_path / "out" / "report" / "index.html").is_file()
    harness("report", "out", "--out", "page.html")
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "out" / "report" / "index.html").read_bytes()


def test_try_shows_windows_prompts_replies_and_the_runs_own_verdicts(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_task(latents={"ids": [3, 4], "min_examples": 50})
    said = harness("try", path, "--latent", "3", "--windows", "50", "--prompts", "9")
    assert said.code == 0
    for word in ("words:3", "shown to the explainer", "[system]", "[user]", "[reply of lexical/rules", "explanation:"):
        assert word in said.out
    harness("run", path, "--out", "out", "--no-report")
    run = load(tmp_path / "out")
    frame = run.verdicts()
    mine = frame[(frame["latent"] == 3) & frame["control"].isna()]
    text = run.explanations().query("latent == 3 and control.isna()")["text"].iloc[0]
    assert f"explanation: {text}" in said.out.replace("\n", " ").replace("  ", " ")
    right = int((mine["truth"] == mine["label"]).sum())
    assert len(re.findall(r"^  right ", said.out, re.MULTILINE)) == right
    assert len(re.findall(r"^  wrong ", said.out, re.MULTILINE)) == len(mine) - right


def test_try_shows_the_texts_that_are_embedded_and_the_cosine_of_each_window(
    write_task: Callable[..., Path], harness: Callable[..., Any], embedder: Path
) -> None:
    scorer = {"name": "embedding", "kind": "embedding", "model": f"local/{embedder}", "prompt": "plain"}
    said = harness("try", write_task(scorer=[scorer]), "--latent", "3", "--windows", "50", "--prompts", "9")
    assert said.code == 0
    assert "vectors of 16 numbers: 1\n" in said.out
    assert "vectors of 16 numbers: 10\n" in said.out
    assert len(re.findall(r"^   -?0\.\d+ ", said.out, re.M)) == 20
    assert "failed" not in said.out


def test_try_of_a_latent_that_hardly_fires_says_so(
    harness: Callable[..., Any], write_task: Callable[..., Path]
) -> None:
    said = harness("try", write_task(latents={"sample": 3, "min_examples": 1000}), "--latent", "3")
    assert said.code == 0
    assert said.out.startswith("too_few_examples: ")


def test_export_has_exactly_its_keys_on_every_line(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_task(latents=FEW, controls=["shuffled", "generic", "none"])
    harness("run", path, "--out", "out", "--no-report")
    said = harness("export", "out", "--format", "jsonl", "--out", "exported")
    assert said.out.splitlines() == ["exported/explanations.jsonl", "exported/scores.jsonl"]
    explanations, scores = (
        [json.loads(line) for line in (tmp_path / "exported" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("explanations", "scores")
    )
    assert len(explanations) == len(scores) == 2 * 4
    assert all(tuple(row) == EXPLANATION_KEYS for row in explanations)
    assert all(tuple(row) == SCORE_KEYS for row in scores)


def test_help_of_every_command_says_what_it_does(harness: Callable[..., Any]) -> None:
    top = harness("--help").out
    for verb in ("run", "try", "report", "export", "train-sae"):
        assert verb in top
        said = harness(verb, "--help")
        assert said.code == 0
        assert f"Usage: harness {verb}" in said.out


def test_no_command_at_all_shows_the_help(harness: Callable[..., Any]) -> None:
    said = harness()
    assert "train-sae" in said.out + said.err


@pytest.fixture
def remote(write_task: Callable[..., Path]) -> Callable[..., Path]:
    def write(**tables: Any) -> Path:
        explainer = [{"name": "a", "kind": "contexts", "model": "openai-api/fake/explainer"}]
        scorer = [{"name": "d", "kind": "detection", "model": "openai-api/fake/judge", "batch": 2}]
        return write_task(explainer=explainer, scorer=scorer, **tables)

    return write


@pytest.mark.parametrize("fault", ["unauthorized", "quota"])
@pytest.mark.parametrize("verb", ["run", "try"])
def test_a_provider_that_stops_a_run_is_exit_code_3(
    harness: Callable[..., Any], remote: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, fault: str, verb: str
) -> None:
    with ProviderProcess("--fault", fault, "--share", "1") as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        said = harness(verb, remote(), *(["--latent", "3"] if verb == "try" else []))
    assert said.code == 3
    assert "Traceback" not in said.err
    assert re.fullmatch(r"harness: .*http://\S+ answered (401|429): .*", said.err.strip().splitlines()[-1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_drains_and_the_run_can_go_on(
    remote: Callable[..., Path], tmp_path: Path, command: list[str], number: signal.Signals
) -> None:
    path = remote(latents=FEW, limits={"requests": 2})
    with ProviderProcess("--delay", "0.02", log=tmp_path / "log") as provider:
        environment = {**os.environ, "FAKE_BASE_URL": provider.openai_url}
        arguments = [*command, "run", str(path), "--out", "out", "--no-report"]
        done = _signalled(arguments, environment, tmp_path, number)
        assert done.returncode == 130, done.stderr
        assert "Traceback" not in done.stderr
        sent = _requests(tmp_path / "log")
        assert 0 < sent < 2 + 6 * 10
        # all that was sent was waited for and kept
        assert len(list(Journal(tmp_path / "out" / "journal.sqlite").replies())) == sent
        if number == signal.SIGTERM:
            return  # it is the same from here on
        rest = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert rest.returncode == 0, rest.stderr
        assert _requests(tmp_path / "log") == len(list(Journal(tmp_path / "out" / "journal.sqlite").replies()))


def test_a_second_signal_waits_for_nobody(remote: Callable[..., Path], tmp_path: Path, command: list[str]) -> None:
    with ProviderProcess("--fault", "hang", "--share", "1", log=tmp_path / "log") as provider:
        environment = {**os.environ, "FAKE_BASE_URL": provider.openai_url}
        arguments = [*command, "run", str(remote()), "--out", "out"]
        done = _signalled(arguments, environment, tmp_path, signal.SIGINT, signal.SIGINT)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "harness: interrupted; run the task again to go on from here"


def _signalled(
    arguments: list[str], environment: dict[str, str], folder: Path, *numbers: signal.Signals
) -> subprocess.CompletedProcess[str]:
    """A command that gets signals once the provider has logged a request from it."""
    import select

    log = folder / "log"
    with subprocess.Popen(
        arguments, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not _requests(log):
            select.select([], [], [], 0.01)
        for number in numbers:
            process.send_signal(number)
            select.select([], [], [], 0.2)
        out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def _requests(log: Path) -> int:
    return log.read_text().count('"kind": "request"') if log.exists() else 0


def test_the_help_tells_each_verb_in_a_line_and_the_version_is_printed(
    harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = harness("--help")
    assert said.code == 0
    verbs = said.out.partition("Commands:")[2].partition("Begin with: harness run demo")[0].strip().splitlines()
    assert len(verbs) > 20
    assert not [line for line in verbs if "..." in line]
    assert harness("--version").out == f"latent-harness {version('latent-harness')}\n"
