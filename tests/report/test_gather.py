"""A report is read from a real run: a small store, a run with a mock model, and its journal."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from harness.analysis.load import Run, load
from harness.clients.protocol import Capabilities, Request
from harness.questions.kinds import Detect, Explain, Fuzz
from harness.report import gather, render, write_report
from harness.report.data import ReportData
from harness.report.evidence import Arm, LatentReport
from harness.runs.running import conduct
from harness.store import CoderFrame, ManifestFrame, Rows, StoreWriter, Vocabulary
from harness.task import Task
from harness.testing import MockClient
from harness.values import Latent

WORDS = ["", *(f" word{k}" for k in range(40)), " <b>bold</b>", "\n", "\x1b[2J"]
LATENTS = 24
CONTEXT, WINDOW = 64, 16


def _store(path: Path) -> None:
    """Latent k fires on token k + 1; the last one hardly ever fires."""
    rng = np.random.default_rng(0)
    contexts = 400
    tokens = rng.integers(1, len(WORDS), (contexts, CONTEXT)).astype(np.uint32)
    tokens[tokens == LATENTS] = 1
    tokens[0, 5] = LATENTS
    tokens[:, 0] = 0
    documents = np.repeat(np.arange(contexts, dtype=np.int32)[:, None], CONTEXT, axis=1)
    documents[:, 0] = -1
    flat = tokens.reshape(-1)
    dense = (flat[:, None] == np.arange(1, LATENTS + 1)) * rng.lognormal(0, 1, (flat.size, 1)).astype(np.float32)
    rows = csr_array(dense.astype(np.float32))
    frame = ManifestFrame(model="tiny/subject", corpus={"name": "words"}, context=CONTEXT, bos=0)
    writer = StoreWriter.create(path, frame, Vocabulary(tuple(WORDS), (0,)), [CoderFrame("res", LATENTS, "layers.1")])
    writer.append(
        tokens, documents, {"res": Rows(rows.indptr.astype(np.int64), rows.indices, rows.data.astype(np.float32))}
    )
    writer.finish()


def _answer(request: Request) -> str:
    """Explains by the most active token; judges by whether a passage holds it, and cannot be read now and then."""
    question = request.question
    if isinstance(question, Explain):
        example = question.examples[0]
        return f'[explanation]: The token "{example.passage.tokens[int(example.activations.argmax())]}".'
    assert isinstance(question, Detect | Fuzz)
    if question.explanation is None:
        return "no idea" if int(question.digest()[:4], 16) % 6 == 0 else json.dumps([1] * len(question.passages))
    token = question.explanation.text[11:-2]
    said = []
    for passage in question.passages:
        marked = [passage.tokens[m] for m in passage.marks]
        said.append(int(all(t == token for t in marked) if marked else token in passage.tokens))
    return json.dumps(said)


TASK = {
    "name": "small",
    "store": {"path": "store"},
    "coder": [{"name": "res", "kind": "planted", "hookpoint": "layers.1"}],
    "latents": {"ids": [*range(20), LATENTS - 1], "min_examples": 50},
    "examples": {
        "window": WINDOW,
        "shown": {"count": 10},
        "scored": {"activating": 20, "quantiles": 5, "non_activating": 20},
    },
    "explainer": [{"name": "first", "kind": "contexts", "model": "mock/model"}],
    "scorer": [
        {"name": "detection", "kind": "detection", "model": "mock/model"},
        {"name": "fuzzing", "kind": "fuzzing", "model": "mock/model"},
    ],
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("run")
    _store(base / "store")
    client = MockClient(_answer, capabilities=Capabilities(logprobs=False, model_free=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.clients.models.connect", lambda *_: client)
        asyncio.run(conduct(Task.model_validate({**TASK, "base": base}), base / "out"))
        yield base / "out"


@pytest.fixture(scope="module")
def run(directory: Path) -> Run:
    return load(directory)


@pytest.fixture(scope="module")
def gathered(run: Run) -> ReportData:
    return gather(run)


def _latent(data: ReportData, index: int) -> LatentReport:
    return next(x for x in data.latents if x.latent == Latent("res", index))


def test_the_header_names_what_ran(gathered: ReportData, run: Run) -> None:
    header = gathered.header
    assert (header.task, header.subject, header.corpus, header.seed) == ("small", "tiny/subject", "25,600 tokens", 0)
    assert [(c.name, c.hookpoint, c.latents) for c in header.coders] == [("res", "layers.1", LATENTS)]
    assert [(r.role, r.name, r.model, r.model_free) for r in header.roles] == [
        ("explainer", "first", "mock/model", True),
        ("scorer", "detection", "mock/model", True),
        ("scorer", "fuzzing", "mock/model", True),
    ]
    assert header.spending == tuple(run.spending())
    assert header.versions["python"]


def test_arms_are_the_explainers_then_their_controls(gathered: ReportData) -> None:
    assert gathered.arms == (Arm("first"), Arm("first", "shuffled"), Arm(None, "none"))


def test_counts_and_failures_are_the_journals(gathered: ReportData, run: Run) -> None:
    frame = run.verdicts().drop_duplicates(["latent", "scorer", "explainer", "control", "context", "start"])
    failed = frame[frame["label"] < 0]
    assert len(failed) > 0
    assert gathered.header.counts["latents"] == 21
    assert gathered.header.counts["explanations"] == 20
    assert gathered.header.counts["verdicts"] == len(frame) - len(failed)
    told = {(f.stage, f.status): f.count for f in gathered.header.failures}
    assert told["latents", "too_few_examples"] == 1
    for scorer, group in failed.groupby("scorer"):
        assert told[f"verdicts of {scorer}", "unparsable"] == len(group)


def test_the_summary_is_the_tables(gathered: ReportData, run: Run) -> None:
    from harness.analysis.tables import summary

    for scorer in ("detection", "fuzzing"):
        table = summary(run.scores(), "balanced_accuracy", scorer)
        rows = [row for row in gathered.summary if row.scorer == scorer]
        assert [row.mean for row in rows] == table["mean_at_chance"].tolist()
        assert [row.n for row in rows] == table["latents"].tolist()
        assert rows[0].arm == Arm("first")
        assert rows[0].mean is not None
        assert rows[0].mean > 0.95
        assert [lift.control for lift in rows[0].lifts] == ["shuffled", "none"]
        assert rows[0].lifts[0].difference == table["lift_shuffled"][0]


def test_comparisons_are_the_analysis_own(gathered: ReportData) -> None:
    first = gathered.comparisons[0]
    assert (first.first, first.scorer, first.outcome) == (Arm("first"), "detection", "differ")
    assert first.p is not None
    assert first.p < 0.001
    assert {c.scorer for c in gathered.comparisons} == {"detection", "fuzzing"}


def test_examples_are_those_that_were_judged(gathered: ReportData, run: Run) -> None:
    frame = run.verdicts()
    for index in (0, 7):
        latent = _latent(gathered, index)
        own = frame.query(f"latent == {index}")
        assert len(latent.scored) == 40
        for scorer in ("detection", "fuzzing"):
            of = own.query(f"scorer == '{scorer}' and control.isna()")
            told = [v for e in latent.scored for v in e.verdicts if v.scorer == scorer and v.arm == Arm("first")]
            assert [v.label for v in told] == of["label"].tolist()
            assert [e.truth for e in latent.scored] == of["truth"].astype(bool).tolist()
            assert [e.quantile or 0 for e in latent.scored] == of["quantile"].tolist()


def test_the_text_and_activations_are_the_stores(gathered: ReportData, run: Run) -> None:
    reader = run.store().coder("res")
    firings = reader.latent(3)
    latent = _latent(gathered, 3)
    frame = run.verdicts()
    own = frame.query("latent == 3 and scorer == 'detection' and control.isna()")
    for example, context, start in zip(latent.scored, own["context"], own["start"], strict=True):
        assert example.pieces == run.store().pieces(context, start, start + WINDOW)
        at = context * CONTEXT + start
        inside = (firings.positions >= at) & (firings.positions < at + WINDOW)
        expected = np.zeros(WINDOW, dtype=np.float32)
        expected[firings.positions[inside] - at] = firings.values[inside]
        np.testing.assert_array_equal(example.activations, expected)
        assert example.truth == inside.any()
    assert len(latent.shown) == 10
    assert all(e.activations.max() > 0 for e in latent.shown)


def test_marks_are_those_that_the_judge_saw(gathered: ReportData) -> None:
    """The mock judge says yes exactly where every marked token is the latent's own."""
    for index in range(5):
        token = WORDS[index + 1]
        for example in _latent(gathered, index).scored:
            marked = [example.pieces[m] for m in example.marks["fuzzing"]]
            (verdict,) = [v for v in example.verdicts if v.scorer == "fuzzing" and v.arm == Arm("first")]
            assert verdict.label == int(all(t == token for t in marked))
            assert marked


def test_a_shuffled_explanation_names_whose_it_is(gathered: ReportData) -> None:
    own = {x.latent.index: line.text for x in gathered.latents for line in x.explanations if line.arm == Arm("first")}
    lines = [line for x in gathered.latents for line in x.explanations if line.arm.control == "shuffled"]
    taken = [(line.text, line.partner) for line in lines if line.text is not None]
    assert len(taken) >= 20
    assert all(text == own[partner] for text, partner in taken if partner is not None)
    assert all(partner is not None for _, partner in taken)


def test_scores_have_their_own_intervals(gathered: ReportData) -> None:
    for line in _latent(gathered, 2).scores:
        assert line.interval is not None
        assert line.interval[0] <= line.metrics["balanced_accuracy"] <= line.interval[1] + 0.05
        assert (line.n_pos, line.n_neg) == (20, 20)


def test_curves_are_means_over_latents(gathered: ReportData, run: Run) -> None:
    frame = run.verdicts()
    frame = frame[(frame["scorer"] == "fuzzing") & (frame["control"] == "none") & (frame["label"] >= 0)]
    frame = frame.assign(right=frame["label"] == frame["truth"])
    curve = next(c for c in gathered.curves if c.scorer == "fuzzing" and c.arm.control == "none")
    assert [p.quantile for p in curve.points] == [None, 1, 2, 3, 4, 5]
    for point in curve.points:
        group = frame[frame["quantile"] == (point.quantile or 0)]
        shares = [np.mean(np.asarray(of["right"])) for _, of in group.groupby("latent")]
        assert point.share == pytest.approx(np.mean(shares))
        assert point.n == len(group)


def test_a_latent_with_too_few_examples_says_so(gathered: ReportData) -> None:
    latent = _latent(gathered, LATENTS - 1)
    assert latent.status == "too_few_examples"
    assert (latent.shown, latent.scored) == ((), ())


def test_the_rate_is_the_share_of_windows(gathered: ReportData, run: Run) -> None:
    store = run.store()
    usable = store.n_windows(WINDOW)
    assert _latent(gathered, 4).firing_rate == pytest.approx(int(store.coder("res").windows(WINDOW)[4]) / usable)


def test_the_report_is_written_into_the_run(run: Run, gathered: ReportData, tmp_path: Path) -> None:
    path = write_report(run)
    assert path == run.path / "report" / "index.html"
    assert path.read_text(encoding="utf-8") == render(gathered)
    assert write_report(run, tmp_path / "other.html") == tmp_path / "other.html"


def test_a_run_whose_store_is_gone_still_has_a_report(directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    run = load(copy)
    record: dict[str, Any] = dict(run.task.record)
    record["store"] = {**record["store"], "path": str(tmp_path / "nowhere")}
    object.__setattr__(run.task, "record", record)
    data = gather(run)
    assert data.header.notes == ("The activation store is gone: this report has no examples.",)
    assert all(not x.scored and x.maximum is None for x in data.latents)
    assert re.search("The activation store is gone", render(data))
