"""`harness prompts`: what there is, and what would be sent, which is what a run does send."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.questions.prompts import QUESTIONS, load_variant, variants
from harness.runs.journal import Journal
from harness.testing import ProviderProcess

MODEL = "openai-api/fake/model"
TABLES: dict[str, Any] = {
    "explainer": [{"name": "a", "kind": "contexts", "model": MODEL, "prompt": "cot"}],
    "scorer": [{"name": "d", "kind": "detection", "model": MODEL, "batch": 5, "prompt": "json"}],
    "latents": {"ids": [3, 4], "min_examples": 50},
}


def test_all_variants_are_listed_with_what_is_particular_about_each(harness: Callable[..., Any]) -> None:
    said = harness("prompts")
    assert said.code == 0
    for question in QUESTIONS:
        assert f"{question}/\n" in said.out
        for name in variants(question):
            assert load_variant(question, name).description in said.out
    assert "embedding/\n" in said.out


@pytest.mark.parametrize(("prompt", "words"), [("explain/cot", "Marked: "), ("detect/json", '{"1": ')])
def test_what_is_shown_is_what_a_run_sends(
    harness: Callable[..., Any],
    write_task: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    prompt: str,
    words: str,
    tmp_path: Path,
) -> None:
    path = write_task(**TABLES)
    with ProviderProcess() as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        assert harness("run", path, "--no-report").code == 0
        # nothing is asked, so a key or a server is not needed to see a prompt
        told = ["--explanation", 'The token "w3".'] if prompt.startswith("detect") else []
        said = harness("prompts", "show", prompt, path, "--latent", "3", "--requests", "99", *told)
    assert said.code == 0, said.err
    assert words in said.out
    journal = Journal(tmp_path / "runs" / "t" / "journal.sqlite")
    sent = [reply.wire["body"]["messages"] for reply in journal.replies()]
    journal.close()
    mine = [all(message["content"].strip() in said.out for message in messages) for messages in sent]
    # one prompt explains the latent, four judge its twenty windows
    assert sum(mine) == (1 if prompt.startswith("explain") else 4)
    assert f"{prompt} to {MODEL}: about " in said.out
    assert "four to a token: no tokenizer of" in said.out


def test_a_file_of_ones_own_works_by_path_and_is_checked(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    mine = tmp_path / "mine" / "explain"
    mine.mkdir(parents=True)
    source = load_variant("explain", "short").path.read_text("utf-8")
    (mine / "own.toml").write_text(source.replace("ten words at most", "few words"), "utf-8")
    listed = harness("prompts", "--folder", tmp_path / "mine")
    assert listed.out == "explain/\n  own  As default, with a description of few words.\n"
    path = write_task(latents={"ids": [3], "min_examples": 50})
    shown = harness("prompts", "show", mine / "own.toml", path, "--latent", "3")
    assert shown.code == 0
    assert "explain/own to lexical/rules: about" in shown.out
    (tmp_path / "own.toml").write_text(source, "utf-8")
    lost = harness("prompts", "show", tmp_path / "own.toml", path, "--latent", "3")
    assert lost.code == 2
    assert "is no question; give --question, one of explain, detect" in lost.err
    assert harness("prompts", "show", tmp_path / "own.toml", path, "--latent", "3", "--question", "explain").code == 0


def test_mistakes_are_told_with_file_and_line(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_task(latents={"ids": [3], "min_examples": 50})
    folder = tmp_path / "explain"
    folder.mkdir()
    source = load_variant("explain", "short").path.read_text("utf-8")
    line = source[: source.index("example.marked")].count("\n") + 1
    (folder / "wrong.toml").write_text(source.replace("example.marked", "example.marks"), "utf-8")
    for said in (
        harness("prompts", "--folder", tmp_path),
        harness("prompts", "show", folder / "wrong.toml", path, "--latent", "3"),
    ):
        assert said.code == 2
        assert f"wrong.toml:{line}: templates.user: an example has no attribute 'marks'" in said.err
    for arguments, message in (
        (["explain/cott"], 'explain has no prompt "cott"; did you mean "cot"?'),
        (["cot"], "give a question with a variant, such as explain/cot"),
        (["explain/cot", "--coder", "x"], "--coder x: no [[coder]] has that name"),
        (["intervention/default"], "intervention asks about what the subject wrote: use harness try"),
    ):
        said = harness("prompts", "show", arguments[0], path, "--latent", "3", *arguments[1:])
        assert said.code == 2
        assert message in said.err
    assert "latents 0 to 11" in harness("prompts", "show", "explain/cot", path, "--latent", "99").err
    assert "there is no prompt in it" in harness("prompts", "--folder", tmp_path / "none").err


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("explain/contrastive", "Counterexample 1: "),
        ("fuzz/one-at-a-time", "Passage: "),
        ("intruder/default", "Passage 1: "),
    ],
)
def test_a_variant_is_asked_by_the_kind_that_it_is_there_for(
    harness: Callable[..., Any], write_task: Callable[..., Path], prompt: str, words: str
) -> None:
    said = harness("prompts", "show", prompt, write_task(latents={"ids": [3], "min_examples": 50}), "--latent", "3")
    assert said.code == 0, said.err
    assert words in said.out
    assert f"{prompt} to lexical/rules" in said.out
