"""`harness collect`: what it says, what a second call does, how it is interrupted and gone on with."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.store import Store

FEW = ("--set", "subject.corpus.tokens=12000", "--set", "subject.threads=1")


def test_a_tasks_activations_are_collected_once_where_run_looks_for_them(
    harness: Callable[..., Any], tmp_path: Path
) -> None:
    first = harness("collect", "demo", *FEW)
    assert first.code == 0, first.err
    [folder] = (tmp_path / "stores").iterdir()
    store = Store.open(folder)
    lines = first.out.splitlines()
    assert lines[0].startswith(f"stores/{folder.name}: collected in ")
    assert lines[1].startswith("11,776 tokens in 46 contexts of 256, ")
    assert lines[2].startswith("sae: 4,096 latents at model.layers.1, FVU 0.0")
    coder = store.coder("sae")
    dead = (coder.firings == 0).mean()
    assert f"; {dead:.1%} dead, " in lines[3]
    assert lines[3].lstrip().startswith("L0 4.0")
    assert "collecting: 11,776 of 11,776 tokens" in first.err
    second = harness("collect", "demo", *FEW)
    assert second.code == 0
    assert second.out.splitlines() == [f"stores/{folder.name} is finished already: nothing to do", *lines[1:]]
    assert harness("plan", "demo", *FEW, "--limit", "1", "--set", "latents.min_examples=5").code == 0


def test_random_latents_are_collected_too_so_that_a_run_reads_nothing_more(
    harness: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.subject.reading import Reading

    few = (*FEW, "--set", "latents.min_examples=5", "--set", "latents.sample=8")
    controls = 'controls=["random-direction", "random-coder"]'
    said = harness("collect", "demo", *few, "--set", controls)
    assert said.code == 0, said.err
    assert [line.split(":")[0] for line in said.out.splitlines() if ": collected in " not in line and "~" in line] == [
        "sae~random-direction",
        "sae~random-coder",
    ]
    folders = {folder.name for folder in (tmp_path / "stores").iterdir()}
    assert len(folders) == 3
    monkeypatch.setattr(Reading, "rows", None)
    done = harness("run", "demo", *few, "--set", controls, "--limit", "2")
    assert done.code == 0, done.err
    assert {folder.name for folder in (tmp_path / "stores").iterdir()} == folders


def test_an_interrupt_leaves_what_was_read_and_a_second_call_goes_on(
    harness: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.subject.reading import Reading

    whole = harness("collect", "demo", *FEW, "--out", "whole")
    rows, calls = Reading.rows, []

    def interrupted(self: Reading, *arguments: Any) -> Any:
        calls.append(len(arguments[0]))
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return rows(self, *arguments)

    monkeypatch.setattr(Reading, "rows", interrupted)
    said = harness("collect", "demo", *FEW, "--out", "cut")
    assert said.code == 130
    assert said.err.splitlines()[-1] == "harness: interrupted; collect again to go on from what is in cut"
    assert not json.loads((tmp_path / "cut" / "manifest.json").read_text())["finished"]
    assert harness("collect", "demo", *FEW, "--out", "cut").code == whole.code == 0
    # two batches of 16 before, the 14 contexts that are left after
    assert calls == [16, 16, 14]
    assert Store.open(tmp_path / "cut").id == Store.open(tmp_path / "whole").id
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_latents_of_the_text_need_no_figures(harness: Callable[..., Any]) -> None:
    said = harness("collect", "planted", *FEW, "--out", "s")
    assert said.code == 0, said.err
    assert "FVU" not in said.out
    assert " latents\n" in said.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--set", "coder.sae.hookpoint=model.layers.9"), "model.layers.9"),
        (
            ("--set", "coder.sae.hookpoint=model.layers.3", "--set", 'coder.sae.overrule=["hookpoint"]'),
            "and subject.max_fvu is 0.5",
        ),
        (("--set", "subject.corpus.column=body"), 'there is no column "body"; columns here: '),
        (("--set", "subject.context=4096"), "subject.context (4096) is more than the 1024 positions"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    harness: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    said = harness("collect", "demo", *FEW, "--out", "s", *arguments)
    assert said.code == 2
    assert told in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "s").exists()


def test_a_task_with_only_a_store_has_nothing_to_collect(
    harness: Callable[..., Any], write_task: Callable[..., Path]
) -> None:
    said = harness("collect", write_task())
    assert said.code == 2
    assert "there is nothing to collect: this task has no [subject], only a store" in said.err
