"""Real published latents, explained and scored with no subject model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tokenizers import decoders, pre_tokenizers

import harness
from harness.examples import LatentExamples, draw
from harness.interop.activations import import_activations
from harness.report.gather import gather
from harness.store import Store
from harness.task import load_task

RECORDS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "records" / "saedashboard_gpt2small_res-jb"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not RECORDS.is_dir(), reason="the published records are not beside the checkout"),
]
LIVE = {0, 2, 3}


def said(latent: int) -> list[tuple[list[str], list[float]]]:
    """A latent's records as they were published: tokens and values."""
    found = []
    for file in RECORDS.glob("batch-*.json"):
        for feature in json.loads(file.read_text("utf-8"))["features"]:
            if feature["feature_index"] == latent:
                found += [(activation["tokens"], activation["values"]) for activation in feature["activations"]]
    return found


def text(tokens: list[str]) -> str:
    """Their text by the decoder of another library, for which what was put back becomes bytes again."""
    back = {char: pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(char)[0][0] for char in " \n—–“”’"}
    raw = ["".join(back.get(char, char) for char in token) for token in tokens if token != "<|endoftext|>"]
    return decoders.ByteLevel().decode(raw)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_activations(RECORDS, tmp_path_factory.mktemp("published") / "store").path


def test_the_live_latents_are_explained_and_scored_on_their_own_records(published: Path, tmp_path: Path) -> None:
    run = harness.run("published", tmp_path / "run", overrides=[f"store.path={published}"])
    explanations, scores = run.explanations(), run.scores()
    own = explanations[explanations["control"].isna()]
    assert set(own["latent"]) == LIVE
    assert set(own["status"]) == set(scores["status"]) == {"ok"}
    assert own["base_rate"].isna().all()
    real = scores[scores["control"].isna()]
    asked = {(row.latent, row.scorer, row.rung): (row.n_pos, row.n_neg) for row in real.itertuples()}
    assert set(asked) == {(n, s, r) for n in LIVE for s in ("detection", "fuzzing") for r in ("zero-row", "same-row")}
    assert all(n_pos == n_neg >= 5 for n_pos, n_neg in asked.values())
    data = gather(run)
    assert data.header.primary.rung == "zero-row"
    assert not data.curves
    for latent in data.latents:
        assert latent.firing_rate is None
        for line in latent.scores:
            assert line.interval is not None
            assert line.interval[0] <= line.metrics["balanced_accuracy"] <= line.interval[1]
    page = (run.path / "report" / "index.html").read_text("utf-8")
    assert "on rung zero-row" in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_windows_are_stretches_of_the_records_and_silent_ones_of_silent_values(published: Path) -> None:
    task = load_task("published", [f"store.path={published}"])
    store = Store.open(published)
    for latent in sorted(LIVE):
        records = said(latent)
        rows = {text(tokens): values for tokens, values in records}
        found = draw(store.coder("0-res-jb"), latent, task.examples, task.seed)
        assert isinstance(found, LatentExamples)
        assert len(found.shown) >= 10
        for example in (*found.shown, *(e for scored in found.scored for e in scored.examples)):
            place = example.passage.place
            assert place is not None
            whole = "".join(store.pieces(place.context, 0, store.context_length))
            # a latent is asked about on rows that were published for it, and on no others
            values = rows[whole][place.start : place.start + 32]
            assert example.activations[: len(values)].tolist() == pytest.approx(values)
            assert example.activating == any(values)
            if example.rung == "zero-row":
                assert not any(rows[whole])


def test_the_rows_are_all_there_once(published: Path) -> None:
    store = Store.open(published)
    expected = {text(tokens) for latent in range(4) for tokens, _ in said(latent)}
    found = ["".join(store.pieces(context, 0, store.context_length)) for context in range(store.n_contexts)]
    assert sorted(found) == sorted(expected)
    coder = store.coder("0-res-jb")
    assert [coder.maximum[latent] for latent in range(4)] == pytest.approx([2.214, 0, 0.8, 3.429])
