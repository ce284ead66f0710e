"""What is written in a format and read back is equal, whatever characters are in it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.interop import delphi_results, neuronpedia_bulk, openai_records, saebench, saedashboard
from harness.interop.activations import import_activations
from harness.interop.checking import check
from harness.interop.documents import documents
from harness.interop.explanations import import_explanations, read_explanations
from harness.interop.findings import About, AboutCoder, Found, Judged, Score, Told, Window, half_characters
from harness.interop.writing import write_json

TASK = {
    "seed": 3,
    "latents": {"min_examples": 5},
    "examples": {
        "window": 4,
        "shown": {"sampler": "random", "count": 4},
        "scored": {"activating": 5, "non_activating": 5},
    },
}
CODER = AboutCoder("words", "model.layers.3/mlp", 100, 3, "words")
KINDS = ("fuzzing", "detection", "embedding", "simulation")
ABOUT = About(
    "a run", "made", "made", "some/text", "2026-11-27T12:00:00+00:00", {"words": CODER}, TASK, {}, 64, 640,
    ("mini", "large"), dict(zip(KINDS, KINDS, strict=True)),
)  # fmt: skip

# characters that mean something to JSON, HTML, CSV, a terminal, a line reader or a marker
NASTY = [
    '"',
    "\\",
    "\n",
    "\r\n",
    "\u2028",
    "\x85",
    "\x00",
    "\x1b[2J",
    "<<",
    ">>",
    "</script>",
    "\u202e",
    ",",
    "'",
    "🙂",
    "é",
    "\ufeff",
]
characters = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
texts = st.lists(characters, max_size=5).map("".join)
words = texts.filter(lambda text: bool(text.strip()))
numbers = st.floats(0, 100, width=32)


@st.composite
def windows(draw: st.DrawFn, *, activating: bool) -> Window:
    tokens = draw(st.lists(texts, min_size=1, max_size=5))
    values = [0.0] * len(tokens)
    if activating:
        values = draw(st.lists(numbers, min_size=len(tokens), max_size=len(tokens)))
        values[draw(st.integers(0, len(tokens) - 1))] = draw(st.floats(1, 100, width=32))
    return Window(tuple(tokens), tuple(values), draw(st.integers(1, 10)) if activating else None)


@st.composite
def judged(draw: st.DrawFn, kind: str) -> Judged:
    truth = draw(st.booleans())
    window = draw(windows(activating=truth))
    count = len(window.tokens)
    if kind == "embedding":
        return Judged(window, truth, value=draw(st.floats(-1, 1)))
    if kind == "simulation":
        return Judged(window, truth, strengths=tuple(draw(st.lists(st.floats(0, 10), min_size=count, max_size=count))))
    marks = tuple(sorted(draw(st.sets(st.integers(0, count - 1))))) if kind == "fuzzing" else ()
    label = draw(st.sampled_from([True, False, None]))
    probability = draw(st.none() | st.floats(0, 1)) if label is not None else None
    return Judged(window, truth, label, probability, marks=marks, failure="" if label is not None else "unparsable")


@st.composite
def scores(draw: st.DrawFn) -> Score:
    kind = draw(st.sampled_from(["fuzzing", "detection", "embedding", "simulation"]))
    verdicts = tuple(draw(st.lists(judged(kind), min_size=1, max_size=4)))
    return Score(kind, kind, "figure", {"figure": draw(st.floats(-1, 1))}, "openai/a model", verdicts)


@st.composite
def latents(draw: st.DrawFn) -> Found:
    # one score of a kind, as runs mostly have
    some = {score.kind: score for score in draw(st.lists(scores(), max_size=3))}
    told = (
        Told("mini", draw(words), draw(st.none() | st.just("openai/gpt-5-mini")), scores=tuple(some.values())),
        Told("mini", draw(words), control="shuffled", scores=tuple(some.values())),
        Told("failed", None, status="unparsable"),
    )
    active = draw(st.lists(windows(activating=True), max_size=3))
    silent = draw(st.lists(windows(activating=False), max_size=2))
    ordered = sorted({(w.tokens, w.values): w for w in [*active, *silent]}.values(), key=lambda w: -w.maximum)
    maximum = max((w.maximum for w in ordered), default=0.0)
    return Found("words", draw(st.integers(0, 99)), told, tuple(ordered), maximum, 0.25, None, (1, 2))


few = settings(max_examples=20)
found = st.lists(latents(), min_size=1, max_size=3, unique_by=lambda one: one.latent)
SIMPLE = Found("words", 7, (Told("mini", 'the word "w7"'),), (Window((" w7", "\n"), (1.5, 0.0), 3),), 1.5, 0.1)


def plain(one: Judged) -> tuple[Any, ...]:
    """A verdict without the reason of a failure, which no format keeps."""
    window = (one.window.tokens, one.window.values, one.window.quantile)
    return window, one.truth, one.label, one.probability, one.value, one.marks


def told_of(many: Sequence[Found], kinds: Sequence[str]) -> dict[int, list[Any]]:
    """Texts with the verdicts of the scores of some kinds, by latent: of explainers' own arms."""
    return {
        one.latent: [
            (told.text, {s.kind: [plain(j) for j in s.judged] for s in told.scores if s.kind in kinds})
            for told in one.told
            if told.control is None and told.text is not None
        ]
        for one in many
    }


@few
@given(found)
@example([SIMPLE])
def test_neuronpedias_bulk_layout(many: list[Found]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        neuronpedia_bulk.write_bulk(ABOUT, many, Path(folder))
        assert check(Path(folder)).problems == []
        back = read_explanations(Path(folder) / "v1")
        kinds = ("fuzzing", "detection", "embedding")
        assert told_of(back, kinds) == told_of(many, kinds)
        assert {one.coder for one in back} == {"3-words"}
        for one in back:
            (told,) = one.told
            original = next(each for each in many if each.latent == one.latent).told[0]
            assert (told.explainer, told.model) == (original.explainer, original.model)
            kept = {s.kind: (s.value, s.model) for s in told.scores}
            assert kept == {s.kind: (s.value, s.model) for s in original.scores if s.kind != "simulation"}
        rows = {}
        for file in (Path(folder) / "v1").rglob("activations/*"):
            for _, line in documents(file):
                row = json.loads(line)
                rows.setdefault(row["index"], []).append((tuple(row["tokens"]), tuple(row["values"])))
        assert rows == {str(one.latent): [(w.tokens, w.values) for w in one.windows] for one in many if one.windows}


@few
@given(found)
@example([SIMPLE])
def test_delphis_run_folder(many: list[Found]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        delphi_results.write_folder(ABOUT, many, Path(folder), explainer="mini")
        assert check(Path(folder)).problems == []
        kinds = ("fuzzing", "detection", "embedding")
        back = read_explanations(Path(folder))
        assert told_of(back, kinds) == told_of(many, kinds)
        assert {one.coder for one in back} == {"model.layers.3/mlp"}


@few
@given(found)
@example([SIMPLE])
def test_openais_records(many: list[Found]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        openai_records.write_records(ABOUT, many, Path(folder))
        assert check(Path(folder)).problems == []
        back = {one.latent: one for one in read_explanations(Path(folder) / "explanations")}
        for one in many:
            (told,) = back[one.latent].told
            assert told.text == one.told[0].text
            simulated = [j for s in one.told[0].scores if s.kind == "simulation" for j in s.judged]
            again = [j for s in told.scores for j in s.judged]
            assert [(j.window.tokens, j.window.values) for j in again] == [
                (j.window.tokens, j.window.values) for j in simulated
            ]
            assert [j.strengths for j in again] == [j.strengths for j in simulated]
            path = Path(folder) / "collated-activations" / "3" / f"{one.latent}.json"
            if one.windows:
                record = openai_records.read_record(path.read_bytes(), "")
                assert set(record.windows) == set(one.windows)


@few
@given(found)
@example([SIMPLE])
def test_saedashboards_batches(many: list[Found]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        saedashboard.write_batches(ABOUT, many, Path(folder))
        rows: dict[int, list[Window]] = {}
        for file in Path(folder).rglob("*.json"):
            assert check(file).problems == []
            for record in saedashboard.records(file.read_bytes(), ""):
                assert (record.model, record.source, record.dataset) == ("made", "3-words", "some/text")
                rows.setdefault(record.latent, []).append(Window(tuple(record.tokens), tuple(record.values)))
        assert rows == {one.latent: [Window(w.tokens, w.values) for w in one.windows] for one in many if one.windows}


@few
@given(found)
def test_saebenchs_results(many: list[Found]) -> None:
    expected = {}
    for one in many:
        for score in one.told[0].scores:
            right = [j.label == j.truth for j in score.judged if j.label is not None]
            if score.kind == "detection" and right:
                expected[one.latent] = (one.told[0].text, sum(right) / len(right))
    if not any(s.kind == "detection" for one in many for s in one.told[0].scores):
        return
    with tempfile.TemporaryDirectory() as folder:
        saebench.write_results(ABOUT, many, Path(folder), explainer="mini", scorer="detection")
        if not expected:
            assert list(Path(folder).iterdir()) == []
            return
        (file,) = Path(folder).iterdir()
        assert check(file).problems == []
        back = read_explanations(file)
        assert {one.latent: (one.told[0].text, one.told[0].scores[0].value) for one in back} == expected
        result = json.loads(file.read_text())
        values = [value for _, value in expected.values()]
        metrics = result["eval_result_metrics"]["autointerp"]
        assert metrics["autointerp_score"] == pytest.approx(np.mean(values))
        assert metrics["autointerp_std_dev"] == pytest.approx(np.std(values, ddof=1) if len(values) > 1 else 0)


@few
@given(found)
@example([SIMPLE])
def test_a_list_that_an_import_writes(many: list[Found]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        neuronpedia_bulk.write_bulk(ABOUT, many, Path(folder) / "np")
        out = Path(folder) / "list.jsonl"
        told = import_explanations(Path(folder) / "np" / "v1", out, coders={"": "words"})
        assert told.by_coder == {"words": len(many)}
        assert check(out).problems == []
        back = read_explanations(out)
        assert {(one.coder, one.latent, one.told[0].text) for one in back} == {
            ("words", one.latent, one.told[0].text) for one in many
        }
        for one in back:
            original = next(each for each in many if each.latent == one.latent).told[0]
            kept = {s.kind: s.value for s in original.scores if s.kind != "simulation"}
            assert {s.kind: s.value for s in one.told[0].scores} == kept


@given(st.lists(st.tuples(st.integers(0, 9), words), min_size=1, max_size=4, unique_by=lambda pair: pair[0]))
def test_a_table_in_csv(rows: list[tuple[int, str]]) -> None:
    import csv

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.csv"
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            table = csv.writer(file)
            table.writerow(["explanation", "latent"])
            table.writerows((text, latent) for latent, text in rows)
        assert check(path).problems == []
        assert [(one.latent, one.told[0].text) for one in read_explanations(path)] == rows


def test_an_exported_batch_is_a_store_again(tmp_path: Path) -> None:
    saedashboard.write_batches(ABOUT, [SIMPLE], tmp_path / "batches")
    store = import_activations(tmp_path / "batches", tmp_path / "store")
    assert store.pieces(0, 0, 2) == (" w7", "\n")
    assert store.coder("3-words").latent(7).values.tolist() == [1.5]


def test_delphis_folders_of_several_explainers_keep_their_names(tmp_path: Path) -> None:
    both = Found("words", 7, (Told("mini", "one"), Told("large", "two")))
    delphi_results.write_folder(ABOUT, [both], tmp_path)
    back = read_explanations(tmp_path)
    assert back == [Found("model.layers.3/mlp", 7, (Told("large", "two"), Told("mini", "one")))]
    told = import_explanations(tmp_path, tmp_path / "mini.jsonl", explainer="mini", coders={"": "words"})
    assert told.by_coder == {"words": 1}
    assert read_explanations(tmp_path / "mini.jsonl") == [Found("words", 7, (Told("mini", "one"),))]


def test_two_coders_of_one_module_overwrite_nothing(tmp_path: Path) -> None:
    two = {name: AboutCoder(name, "model.layers.3", 9, 3, name) for name in ("a", "b")}
    about = replace(ABOUT, coders=two)
    many = [Found(name, 7, (Told("mini", f"of {name}"),)) for name in two]
    delphi_results.write_folder(about, many, tmp_path / "delphi")
    openai_records.write_records(about, many, tmp_path / "openai")
    for folder in ("delphi", "openai"):
        texts = {told.text for one in read_explanations(tmp_path / folder) for told in one.told}
        assert texts == {"of a", "of b"}


def test_halves_of_characters_are_written_as_bytes_and_read_as_such(tmp_path: Path) -> None:
    assert half_characters("a\udce2\udc80b\ud83d") == "a<0xE2><0x80>b\ufffd"
    tokens = tuple(half_characters(piece) for piece in ("\udce2", "\udc80", "\udc99", "s"))
    one = Found("words", 0, (), (Window(tokens, (0.0, 0.0, 1.0, 0.0), 1),), 1.0, 0.1)
    saedashboard.write_batches(ABOUT, [one], tmp_path / "batches")
    store = import_activations(tmp_path / "batches", tmp_path / "store")
    # the pieces of an apostrophe that a tokenizer cut are one again
    assert "".join(store.pieces(0, 0, 4)).encode("utf-8", "surrogateescape").decode() == "’s"


def test_their_own_shapes_are_read(tmp_path: Path) -> None:
    """As other projects write them: no dataclass_name, rows of the first releases, a score in the API's feature."""
    record = {"neuron_id": {"layer_index": 1, "neuron_index": 2}, "scored_explanations": [
        {"explanation": "x", "scored_simulation": None}
    ]}  # fmt: skip
    write_json(tmp_path / "2.jsonl", record)
    assert read_explanations(tmp_path / "2.jsonl") == [Found("1", 2, (Told("neuron-explainer", "x"),))]
    rows = [
        {"text": "ab", "distance": 3, "ground_truth": True, "prediction": True, "highlighted": False, "correct": True,
         "probability": 0.75, "conditional_probability": 0.5, "activations": [0, 2.0], "str_tokens": ["a", "b"]},
        {"text": "cd", "distance": -1, "ground_truth": False, "prediction": True, "highlighted": False,
         "correct": False, "probability": 0.5, "conditional_probability": 0.5, "activations": [0, 0],
         "str_tokens": ["c", "d"]},
    ]  # fmt: skip
    score = {"id": "s", "value": 0.5, "explanationId": "e", "explanationScoreTypeName": "eleuther_fuzz",
             "explanationScoreModelName": "gpt", "jsonDetails": json.dumps(rows), "createdAt": "", "x": 1}  # fmt: skip
    explanation = {"id": "e", "modelId": "m", "layer": "0-res", "index": "5", "description": "words",
                   "typeName": "np_max-act", "explanationModelName": "gpt", "scores": [score], "votes": []}  # fmt: skip
    feature = {"modelId": "m", "layer": "0-res", "index": "5", "activations": [], "explanations": [explanation]}
    write_json(tmp_path / "feature.json", feature)
    (one,) = read_explanations(tmp_path / "feature.json")
    (told,) = one.told
    assert (one.coder, one.latent, told.explainer, told.model) == ("0-res", 5, "np_max-act", "gpt")
    assert told.scores[0].value == 0.5
    assert told.scores[0].figures["balanced_accuracy"] == 0.5
    assert told.scores[0].judged[0].window == Window(("a", "b"), (0, 2.0), 8)


def test_the_headlines_rung_is_the_one_where_a_format_has_one(tmp_path: Path) -> None:
    window = Window(("a",), (1.0,), 3)
    other, main = (
        Score("fuzz", "fuzzing", "f1", {"f1": value}, None, (Judged(window, True, label, marks=(0,)),), rung)
        for rung, value, label in (("neighbour", 0.1, False), ("random", 0.9, True))
    )
    one = Found("words", 7, (Told("mini", "words", scores=(other, main)),), (window,), 1.0, 0.1)
    about = replace(ABOUT, explainers=("mini",), scorers={"fuzz": "fuzzing"})
    notes = neuronpedia_bulk.write_bulk(about, [one], tmp_path / "np")
    assert notes == ["scores of fuzz on neighbour are left out: Neuronpedia has no such kind, or another rung"]
    (told,) = read_explanations(tmp_path / "np" / "v1")[0].told
    assert [score.value for score in told.scores] == [0.9]
    saebench.write_results(about, [one], tmp_path / "saebench")
    assert read_explanations(tmp_path / "saebench")[0].told[0].scores[0].value == 1.0
    delphi_results.write_folder(about, [one], tmp_path / "delphi")
    folders = {
        path.name: json.loads(next(path.iterdir()).read_text()) for path in (tmp_path / "delphi/scores").iterdir()
    }
    assert {name: rows[0]["correct"] for name, rows in folders.items()} == {"fuzz": True, "fuzz-neighbour": False}


def test_many_latents_go_into_batches_of_the_same_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuronpedia_bulk, "BATCH", 2)
    monkeypatch.setattr(saedashboard, "FEATURES", 2)
    two = {name: AboutCoder(name, "model.layers.3", 9, 3, name) for name in ("a", "b")}
    # the fourth has no windows, and so no activations
    many = [
        replace(SIMPLE, coder=name, latent=latent, windows=SIMPLE.windows if latent != 3 else ())
        for name in two
        for latent in range(5)
    ]
    neuronpedia_bulk.write_bulk(replace(ABOUT, coders=two), iter(many), tmp_path / "np")
    saedashboard.write_batches(replace(ABOUT, coders=two), iter(many), tmp_path / "dash")
    assert check(tmp_path / "np").problems == check(tmp_path / "dash").problems == []
    for name in two:
        place = tmp_path / "np" / "v1" / "made" / f"3-{name}"
        assert [sorted(p.name for p in (place / t).iterdir()) for t in ("features", "explanations")] == [
            [f"batch-{number}.jsonl.gz" for number in range(3)]
        ] * 2
        assert len(list((tmp_path / "dash" / f"3-{name}").iterdir())) == 3
    assert {(one.coder, one.latent) for one in read_explanations(tmp_path / "np" / "v1")} == {
        (f"3-{one.coder}", one.latent) for one in many
    }
