"""The page on kinds of one's own: its code works as an installed package, and its prompt variant is asked with."""

from __future__ import annotations

import asyncio
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from harness import registry
from harness.analysis.load import Run, load
from harness.cli import app
from harness.clients.ask import ask
from harness.clients.models import Models
from harness.errors import CoderError
from harness.examples import LatentExamples
from harness.questions.kinds import Detect, Judgement
from harness.questions.prompts import load_variant
from harness.resources import fixture
from harness.runs.looking import look
from harness.runs.running import conduct
from harness.store import Store
from harness.task import load_task
from harness.testing import MockClient
from harness.values import Explanation, Passage
from tests.docs.pages import package, page, titled

block = partial(titled, "extending")


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "installed"
    code = "\n\n".join(block(name) for name in ("quoted", "jumbled", "flat"))
    package(folder, "mine", code, block("pyproject.toml"))
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop("mine", None)


def scored(task: Path, out: Path) -> Run:
    """A task's run."""
    asyncio.run(conduct(load_task(task), out))
    return load(out)


@pytest.mark.usefixtures("_installed")
def test_scorers_of_ones_own_score_as_their_words_say(tmp_path: Path, write_task: Callable[..., Path]) -> None:
    scorers = tomllib.loads(block("task.toml"))["scorer"]
    assert [one["kind"] for one in scorers] == ["quoted", "jumbled"]
    scorers[1]["model"] = "lexical/rules"
    scorers.append({"name": "strict", "kind": "quoted", "least": 99})
    scores = scored(write_task(scorer=scorers), tmp_path / "run").figures()
    assert set(scores["status"]) <= {"ok", "no_partner"}
    means = scores[scores["control"].isna()].groupby("scorer")["balanced_accuracy"].mean()
    # the latents of this store fire on one word each, wherever it stands, and the lexical baseline quotes that word
    assert means.to_dict() == {"quoted": 1.0, "jumbled": 1.0, "strict": 0.5}
    withheld = scores[(scores["control"] == "none") & (scores["scorer"] == "quoted")]
    assert set(withheld["balanced_accuracy"]) == {0.5}


@pytest.mark.usefixtures("_installed")
def test_the_jumbled_scorer_shows_the_same_tokens_in_another_order(
    tmp_path: Path, write_task: Callable[..., Path]
) -> None:
    task = load_task(write_task())
    kind = registry.load("scorers", "jumbled")
    scorer = kind(kind.Settings(model="lexical/rules"), Models({}, lambda client: client), tmp_path)
    assert task.store is not None
    drawn = look(task.store.path, "words/3", task=task.source).examples
    assert isinstance(drawn, LatentExamples)
    examples = drawn.scored[0]
    shown, again = scorer.shown(examples, 1), scorer.shown(examples, 1)
    plain = [example.passage for example in examples.examples]
    assert shown == again != scorer.shown(examples, 2)
    assert [sorted(one.tokens) for one in shown] == [sorted(one.tokens) for one in plain]
    assert all(one.tokens != other.tokens for one, other in zip(shown, plain, strict=True))


def test_the_prompt_variant_is_right_and_is_asked_with(tmp_path: Path) -> None:
    file = tmp_path / "prompts" / "detect" / "plainly.toml"
    file.parent.mkdir(parents=True)
    file.write_text(block("prompts/detect/plainly.toml"), encoding="utf-8")
    listed = CliRunner().invoke(app, ["prompts", "--folder", str(tmp_path / "prompts")], env={"COLUMNS": "200"})
    assert listed.exit_code == 0, listed.output
    assert "One few-shot block, in everyday words." in listed.output
    client = MockClient("[1, 0]")
    passages = (Passage(("a", " cat")), Passage(("a", " <<dog")))
    question = Detect(Explanation("cats"), passages)
    asked = asyncio.run(ask(client, load_variant("detect", str(file)), question))
    assert isinstance(asked.answer, Judgement)
    assert asked.answer.labels == (1, 0)
    said = [message.content for message in client.requests[0].messages]
    assert said[-1].strip() == "It reacts to: cats\n\n1. a cat\n2. a \\<\\<dog"
    assert "[1, 0]" in said  # the few-shot block's own answer, written by the format that reads the model's


@pytest.mark.usefixtures("_installed")
def test_a_format_of_ones_own_gives_what_the_same_weights_give(
    tmp_path: Path, random_task: Callable[..., Path]
) -> None:
    saved = load_file(fixture("subject", "sae") / "sae_weights.safetensors")
    arrays = {"encoder": saved["W_enc"], "bias": saved["b_enc"], "decoder": saved["W_dec"], "mean": saved["b_dec"]}
    np.savez(tmp_path / "flat.npz", **arrays)
    (flat,) = tomllib.loads(block("coder.toml"))["coder"]
    sae = {"name": "sae", "hookpoint": flat["hookpoint"], "path": str(fixture("subject", "sae"))}
    task = random_task(
        tmp_path,
        subject={
            "model": str(fixture("subject")),
            "corpus": {"path": str(fixture("text", "demo.jsonl")), "tokens": 12_000},
        },
        coder=[flat, sae],
        controls=[],
    )
    result = CliRunner().invoke(app, ["collect", str(task), "--out", str(tmp_path / "store")])
    assert result.exit_code == 0, result.output
    store = Store.open(tmp_path / "store")
    found, expected = (store.coder(name) for name in ("flat", "sae"))
    assert found.statistics.firings.sum() > 40_000
    for latent in range(0, found.n_latents, 7):
        ours, theirs = found.latent(latent), expected.latent(latent)
        assert np.array_equal(ours.positions, theirs.positions)
        assert np.array_equal(ours.values, theirs.values)
    kind, settings = registry.load("coders", "flat"), load_task(task).coder[0]
    assert (
        kind.describe(settings, tmp_path).revision
        != kind.describe(settings.model_copy(update={"k": 5}), tmp_path).revision
    )
    with pytest.raises(CoderError, match='coder "flat": the kind "flat" needs k'):
        kind.describe(settings.model_copy(update={"k": None}), tmp_path)


def test_the_table_names_the_groups_that_there_are() -> None:
    groups = set(re.findall(r"^\| a[^|]*\|[^|]*\| `harness\.(\w+)` \|", page("extending"), re.MULTILINE))
    assert groups == set(registry.BUILT_IN)
