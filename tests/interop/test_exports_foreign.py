"""Other projects' own libraries read what is written for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.interop import inspect_log, neuronpedia_bulk, saedashboard
from harness.interop.findings import About, AboutCoder, Found, Judged, Score, Told, Window
from harness.interop.score_rows import row_of
from harness.interop.writing import chunks

pytestmark = pytest.mark.foreign

TASK = {"seed": 0, "explainer": [], "scorer": []}
CODER = AboutCoder("words", "model.layers.3", 100, 3, "words")
ABOUT = About("a-run", "made", "made", "some/text", "2026-11-27T12:00:00+00:00", {"words": CODER}, TASK, {}, 64, 640)
TEXT = 'a\nb "c" \x00 \u2028 </script> é🙂'


def latent(index: int) -> Found:
    active, silent = Window((" a", "\n", '"'), (0.0, 2.5, 0.5), 10), Window((" b", TEXT), (0.0, 0.0))
    judged = (Judged(active, True, True, 0.75), Judged(silent, False, None, failure="unparsable"))
    scores = (Score("detection", "detection", "f1", {"f1": index / 10, "accuracy": 0.5}, "openai/m", judged),)
    told = (
        Told("mini", TEXT, "openai/gpt-5-mini", scores=scores),
        Told("mini", "another's", "openai/gpt-5-mini", "shuffled", scores=scores),
        Told("people", None, status="unparsable", message="no explanation of it"),
    )
    return Found("words", index, told, (active, silent), 2.5, 0.25, None, (1, 2))


def test_inspect_reads_the_logs(tmp_path: Path) -> None:
    log = pytest.importorskip("inspect_ai.log")
    inspect_log.write_logs(ABOUT, [latent(3), latent(5)], tmp_path)
    assert len(log.list_eval_logs(str(tmp_path))) == 3
    logs = {found.eval.tags[0]: found for found in (log.read_eval_log(str(p)) for p in sorted(tmp_path.iterdir()))}
    own = logs["mini"]
    assert (own.status, own.eval.model, own.eval.task) == ("success", "openai/gpt-5-mini", "a-run")
    assert [sample.output.completion for sample in own.samples] == [TEXT, TEXT]
    assert [sample.id for sample in own.samples] == ["words/3", "words/5"]
    assert own.samples[0].scores["detection"].value == {"f1": 0.3, "accuracy": 0.5}
    assert own.samples[0].scores["detection"].explanation == "1 of 1 windows judged rightly, 1 without a verdict"
    (score,) = own.results.scores
    assert score.metrics["f1"].value == pytest.approx(0.4)
    assert score.metrics["stderr"].value == pytest.approx(0.1)
    assert logs["people"].samples[0].error.message == "unparsable: no explanation of it"
    assert logs["people"].results.completed_samples == 0
    # what their viewer asks for first
    headers = [log.read_eval_log(str(path), header_only=True) for path in tmp_path.iterdir()]
    assert {header.eval.tags[0] for header in headers} == set(logs)
    again = log.read_eval_log(str(next(tmp_path.glob("*_a-run-mini_*"))))
    log.write_eval_log(again, str(tmp_path / "again.eval"))
    assert log.read_eval_log(str(tmp_path / "again.eval")).samples[1].scores == again.samples[1].scores


def test_sae_dashboard_reads_the_batches(tmp_path: Path) -> None:
    dashboard = pytest.importorskip("sae_dashboard.neuronpedia.neuronpedia_dashboard")
    saedashboard.write_batches(ABOUT, [latent(3), latent(5)], tmp_path)
    data = json.loads((tmp_path / "3-words" / "batch-0.json").read_text())
    batch = dashboard.NeuronpediaDashboardBatch(**data)
    assert [feature.feature_index for feature in batch.features] == [3, 5]
    assert batch.features[0].activations[0].tokens == [" a", "\n", '"']
    assert json.loads(json.dumps(batch.to_dict())) == data


def test_neuronpedias_client_reads_rows_and_sends_the_same_bodies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURONPEDIA_API_KEY", "x")
    client = pytest.importorskip("neuronpedia.requests.feature_request")
    explanations = pytest.importorskip("neuronpedia.np_explanation")
    activations = pytest.importorskip("neuronpedia.np_activation")
    features = pytest.importorskip("neuronpedia.np_feature")
    schemas = pytest.importorskip("neuronpedia.types.autointerp.score.fuzz_detection")
    many = [latent(index) for index in range(130)]
    neuronpedia_bulk.write_bulk(ABOUT, many, tmp_path, method="np_max-act")
    sent: list[Any] = []
    monkeypatch.setattr(client.FeatureRequest, "send_request", lambda _, **request: sent.append(request["json"]))
    for part in chunks(many, 128):
        made = [_theirs(one, features, explanations, activations) for one in part]
        client.FeatureRequest().upload_batch("made", "3-words", made)
    for number, body in enumerate(sent):
        ours = json.loads((tmp_path / "upload" / "3-words" / f"batch-{number}.json").read_text())
        assert _bare(ours) == _bare(body)
    assert len(sent) == 2
    for judged in many[0].told[0].scores[0].judged:
        row = schemas.NPScoreClassifierOutput.model_validate(row_of(judged, detail=True))
        assert (row.str_tokens, row.prediction) == (list(judged.window.tokens), judged.label)


def _theirs(found: Found, features: Any, explanations: Any, activations: Any) -> Any:
    told = [
        explanations.Explanation(
            "made", "3-words", found.latent, t.text.replace("\x00", " "), "np_max-act", "gpt-5-mini"
        )
        for t in found.told
        if t.control is None and t.text
    ]
    rows = []
    for window in found.windows:
        tokens = [token.replace("\x00", " ") for token in window.tokens]
        bounds = {} if window.quantile is None else {"quantileMin": 2.5, "quantileMax": 2.5, "quantileFraction": 0.5}
        rows.append(
            activations.Activation(
                modelId="made",
                source="3-words",
                index=str(found.latent),
                tokens=tokens,
                values=list(window.values),
                **bounds,
            )
        )
    return features.Feature("made", "3-words", found.latent, found.rate, None, None, told, rows)


def _bare(value: Any) -> Any:
    """Without what is null or empty, which says the same as nothing."""
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items() if item not in (None, [])}
    return [_bare(item) for item in value] if isinstance(value, list) else value
