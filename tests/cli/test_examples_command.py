"""`harness examples` shows what would be shown and scored, as it is drawn, and names each mistake."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from harness.examples import LatentExamples, draw, mark
from harness.examples.table import COLUMNS
from harness.runs.keys import score_seed
from harness.runs.looking import look
from harness.store import CoderFrame, ManifestFrame, Observed, Rows, Store, StoreWriter, Vocabulary
from harness.task import ExampleSettings
from harness.values import Latent

CONTEXTS, CONTEXT, WINDOW = 800, 64, 32
WORDS = ("", *(f" w{k}" for k in range(40)), " [red]on", " \x1bmat", "\n")
TASK = """
name = "looked"
seed = 5
[store]
path = "{store}"
[[coder]]
name = "sae"
[latents]
sample = 5
min_examples = 30
[examples]
window = 16
shown = {{ sampler = "top", count = 7 }}
scored = {{ activating = 20, non_activating = 20, rungs = ["random", "same-token"] }}
[[explainer]]
name = "words"
kind = "lexical"
[[scorer]]
name = "detection"
kind = "detection"
model = "lexical/overlap"
"""


def activations() -> NDArray[np.float32]:
    generator = np.random.default_rng(0)
    size = (CONTEXTS * CONTEXT, 3)
    dense = np.where(generator.random(size) < np.array([0.01, 0.02, 0]), generator.integers(1, 40, size) / 4, 0)
    dense[::CONTEXT] = 0
    return dense.astype(np.float32)


def written(path: Path, *names: str, sampling: Literal["all", "selected"] = "all") -> Path:
    generator = np.random.default_rng(1)
    tokens = generator.integers(1, len(WORDS), (CONTEXTS, CONTEXT)).astype(np.uint32)
    documents = np.arange(CONTEXTS, dtype=np.int32)[:, None].repeat(CONTEXT, axis=1)
    tokens[:, 0], documents[:, 0] = 0, -1
    cells: Any = csr_array(activations())
    rows = Rows(cells.indptr.astype(np.int64), cells.indices, cells.data)
    frame = ManifestFrame(model="none", corpus={}, context=CONTEXT, sampling=sampling)
    selected = sampling == "selected"
    coders = [CoderFrame(name, 3, "block", partial=selected) for name in names]
    seen = Observed(np.arange(4) * CONTEXTS, np.tile(np.arange(CONTEXTS), 3))
    with StoreWriter.create(path, frame, Vocabulary(WORDS, (0,)), coders) as writer:
        writer.append(tokens, documents, dict.fromkeys(names, rows))
        writer.finish(observed=dict.fromkeys(names, seen) if selected else None)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return written(tmp_path / "store", "sae")


@pytest.fixture
def task(tmp_path: Path, store: Path) -> Path:
    path = tmp_path / "task.toml"
    path.write_text(TASK.format(store=store.name))
    return path


def drawn(store: Path, settings: ExampleSettings | None = None, seed: int = 0) -> LatentExamples:
    found = draw(Store.open(store).coder("sae"), 1, settings or ExampleSettings(), seed)
    assert isinstance(found, LatentExamples)
    return found


def test_windows_are_shown_with_signs_and_strengths(harness: Callable[..., Any], store: Path) -> None:
    said = harness("examples", store, "1", "--count", "100")
    assert (said.code, said.err) == (0, "")
    found = drawn(store)
    text = " ".join(said.out.split())
    assert f"largest activation {found.maximum:.4g}" in text
    assert f"activating windows {found.counts['activating_windows']}" in text
    assert "shown, activating: 40" in text
    first = found.shown[0]
    place = first.passage.place
    assert place is not None
    # what acts in a terminal, or in rich's markup, is only text here
    assert "\x1b" not in said.out
    assert "␛mat" in said.out
    assert "[red]on" in said.out
    signs, inside = "", False
    for token, value in zip(first.passage.tokens, first.activations.tolist(), strict=True):
        signs += ("" if inside == (value > 0) else "»" if inside else "«") + token.replace("\x1b", "␛").replace(
            "\n", "↵"
        )
        inside = value > 0
    signs += "»" if inside else ""
    line = f"{first.quantile} {first.activations.max():.4g} {place.context}:{place.start} {signs}"
    assert " ".join(line.split()) in text


def test_scored_windows_come_by_decile_with_what_fuzzing_marks(harness: Callable[..., Any], store: Path) -> None:
    said = harness("examples", store, "sae", "1", "--split", "scored", "--count", "10")
    assert "shown, activating" not in said.out
    lines = [line.split() for line in said.out.splitlines()]
    deciles = [int(line[0]) for line in lines if len(line) > 3 and line[0].isdigit() and ":" in line[2]]
    assert deciles == list(range(10, 0, -1))
    assert "of each decile from 1: 10 10 10 10 10 10 10 10 10 10" in " ".join(said.out.split())
    silent = said.out[said.out.index("scored, rung random, silent: 100") :]
    assert silent.count("<<") >= 10
    assert "«" not in silent


def test_json_has_every_window_as_it_is_drawn(harness: Callable[..., Any], store: Path) -> None:
    told = json.loads(harness("examples", store, "1", "--json").out)
    found = drawn(store)
    assert told["counts"] == dict(found.counts)
    assert (told["maximum"], told["base_rate"], told["seed"]) == (found.maximum, found.base_rate, 0)
    groups: dict[str, Any] = {"shown": found.shown, "select": found.select, "scored": found.scored[0].examples}
    dense = activations()[:, 1].reshape(CONTEXTS, CONTEXT)
    for split, examples in groups.items():
        rows = [row for row in told["windows"] if row["split"] == split]
        assert len(rows) == len(examples)
        for row, example in zip(rows, examples, strict=True):
            assert tuple(row) == COLUMNS
            assert row["tokens"] == list(example.passage.tokens)
            assert row["text"] == example.passage.text
            assert row["activations"] == dense[row["context"], row["start"] : row["start"] + WINDOW].tolist()
            assert row["document"] == row["context"]
            assert row["quantile"] == example.quantile
            assert row["active"] == example.activating == any(row["activations"])
            assert row["rung"] == ("random" if split == "scored" else None)
    marked = mark(found.scored[0], 0.3, score_seed(0, Latent("sae", 1), "random"))
    scored = [row["marks"] for row in told["windows"] if row["split"] == "scored"]
    assert scored == [list(passage.marks) for passage in marked]


def test_a_task_decides_settings_and_seed(harness: Callable[..., Any], store: Path, task: Path) -> None:
    by_place = json.loads(harness("examples", task, "1", "--json").out)
    by_option = json.loads(harness("examples", store, "1", "--task", task, "--json").out)
    assert by_place == by_option
    assert by_place["seed"] == 5
    assert by_place["settings"]["window"] == 16
    shown = [row for row in by_place["windows"] if row["split"] == "shown"]
    assert len(shown) == 7
    assert {row["rung"] for row in by_place["windows"]} == {None, "random", "same-token"}
    changed = json.loads(harness("examples", task, "1", "--set", "examples.shown.count=3", "--json").out)
    assert [row for row in changed["windows"] if row["split"] == "shown"] == shown[:3]
    assert "and 100000 are needed" in harness("examples", task, "1", "--set", "latents.min_examples=100000").out


def test_a_rung_can_be_asked_for_alone(harness: Callable[..., Any], store: Path) -> None:
    alone = json.loads(harness("examples", store, "1", "--rung", "same-token", "--split", "scored", "--json").out)
    assert {row["rung"] for row in alone["windows"]} == {"same-token"}
    both = json.loads(harness("examples", store, "1", "--rung", "same-token", "--rung", "random", "--json").out)
    assert [row for row in both["windows"] if row["rung"] == "same-token"] == alone["windows"]
    assert "rung random" not in harness("examples", store, "1", "--rung", "same-token").out
    none = harness("examples", store, "1", "--rung", "neighbour").out
    assert "scored, rung neighbour: too few windows, 0 activating and as many silent ones" in none


def test_windows_of_another_length(harness: Callable[..., Any], store: Path) -> None:
    told = json.loads(harness("examples", store, "1", "--window", "16", "--json").out)
    assert {len(row["tokens"]) for row in told["windows"]} == {16}
    same = json.loads(harness("examples", store, "1", "--set", "examples.window=16", "--json").out)
    assert same["windows"] == told["windows"]


def test_a_latent_with_too_few_windows_is_told(harness: Callable[..., Any], store: Path) -> None:
    said = harness("examples", store, "2")
    assert said.code == 0
    assert "too few examples: it activates 0 windows of one document, and 1 are needed" in said.out
    assert "it activates 0 windows" in json.loads(harness("examples", store, "2", "--json").out)["failure"]


def test_selected_records_have_rungs_of_their_own(harness: Callable[..., Any], tmp_path: Path) -> None:
    path = written(tmp_path / "records", "sae", sampling="selected")
    said = harness("examples", path, "1")
    assert (said.code, said.err) == (0, "")
    assert "scored, rung same-row, silent" in said.out
    assert "rung random" not in said.out


def test_the_table_has_a_row_for_each_window(store: Path) -> None:
    found = look(store, "sae/1")
    frame = found.table()
    assert tuple(frame.columns) == COLUMNS
    assert Counter(frame["split"].tolist()) == {"scored": 200, "shown": 40, "select": 40}
    assert [pd.isna(k) for k in frame["quantile"].tolist()].count(True) == 120
    assert [max(row) > 0 for row in frame["activations"].tolist()] == frame["active"].tolist()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["7"], 'coder "sae" has latents 0 to 2, not 7'),
        (["cat"], '"cat" is no latent: write N or CODER/N, such as sae/0'),
        (["other", "1"], 'has no coder "other"; it has: sae'),
        (["a", "b", "1"], "a b 1: give a coder and the number of a latent, such as a 3"),
        (["1", "--split", "all"], "--split all: the parts are shown, select, scored"),
        (["1", "--rung", "zero-row"], 'has no rung "zero-row"; it has: random, same-token, neighbour'),
        (["1", "--window", "33"], "windows of 33 tokens do not divide"),
        (["1", "--set", "examples.wndow=16"], "--set: examples.wndow: unknown key; did you mean window?"),
        (["1", "--set", "latents.sample=16"], "--set: latents: unknown key"),
        (["1", "--task", "nothing"], "nothing: no such task file; shipped tasks: "),
    ],
)
def test_a_mistake_is_one_sentence(harness: Callable[..., Any], store: Path, arguments: list[str], told: str) -> None:
    said = harness("examples", store, *arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert said.err.count("\n") == 1


def test_what_is_no_store_and_no_task_is_told(harness: Callable[..., Any], tmp_path: Path) -> None:
    assert "is no store: it has no manifest.json" in harness("examples", tmp_path, "1").err
    assert "no such task file" in harness("examples", tmp_path / "none", "1").err
    said = harness("examples", "demo", "1")
    assert said.code == 2
    assert "there are no activations yet: collect them with harness collect" in said.err
