"""A run's files in other projects' formats keep to what these say of them, and say what the run says."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from scipy import stats

from harness.analysis.load import Run, load
from harness.errors import StoreError, UserError
from harness.interop import parquet
from harness.interop.checking import check
from harness.interop.explanations import read_explanations
from harness.interop.exporting import FORMATS, Options, export
from harness.interop.from_run import RunFindings
from harness.store import Store
from tests.running import conducted

LATENTS = [3, 4, 5]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, make_store: Callable[..., Store]) -> Path:
    """A run of two explainers, of which one knows two of three latents, and three scorers."""
    folder = tmp_path_factory.mktemp("exported")
    store = make_store(folder / "store")
    lines = [{"latent": 3, "explanation": "the word w3"}, {"latent": 4, "explanation": 'a\nb "c" \x00 </script> é'}]
    (folder / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    task = {
        "name": "a-run",
        "store": {"path": str(store.path)},
        "coder": [{"name": "words", "kind": "planted", "hookpoint": "model.layers.5"}],
        "latents": {"ids": LATENTS, "min_examples": 50},
        "examples": {"window": 16, "scored": {"activating": 10, "non_activating": 10}},
        "controls": ["shuffled", "none"],
        "explainer": [
            {"name": "rules", "kind": "contexts", "model": "lexical/rules"},
            {"name": "people", "kind": "file", "path": "people.jsonl"},
        ],
        "scorer": [
            {"name": kind, "kind": kind, "model": "lexical/rules"} for kind in ("detection", "fuzzing", "simulation")
        ],
        "primary": {"scorer": "detection"},
    }
    (folder / "task.toml").write_text(tomli_w.dumps(task))
    return conducted(folder / "task.toml", folder / "run")


@pytest.fixture
def run(directory: Path) -> Iterator[Run]:
    found = load(directory)
    yield found
    found.close()


def lines(path: Path) -> list[Any]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.decode("ascii").splitlines()]


def value(run: Run, latent: int, scorer: str, explainer: str = "rules", metric: str = "balanced_accuracy") -> float:
    scores = run.scores()
    row = scores[
        (scores["latent"] == latent)
        & (scores["scorer"] == scorer)
        & (scores["explainer"] == explainer)
        & scores["control"].isna()
    ]
    return row["metrics"].iloc[0][metric]


def test_every_format_is_right_by_its_own_check(run: Run, tmp_path: Path) -> None:
    for name in FORMATS:
        options = Options(explainer="rules") if name == "saebench" else Options()
        paths, _ = export(run, tmp_path / name, name, options)
        assert paths
        assert all(path.is_file() for path in paths)
        found = check(tmp_path / name)
        assert found.problems == []
        assert found.kinds


# as the formats' own sources state them
SCHEMAS = Path(__file__).parent / "schemas"


def keeps(name: str, data: Any) -> None:
    from jsonschema import Draft202012Validator  # here because the environment of other projects has none

    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(data)


def test_neuronpedias_bulk_layout(run: Run, tmp_path: Path) -> None:
    _, notes = export(
        run, tmp_path / "out", "neuronpedia", Options(model_id="gpt2-small", sources={"words": "5-res-jb"})
    )
    assert notes == ["scores of simulation are left out: Neuronpedia has no such kind, or another rung"]
    place = tmp_path / "out" / "v1" / "gpt2-small" / "5-res-jb"
    tables = {
        name: lines(place / name / "batch-0.jsonl.gz") for name in ("features", "activations", "explanations", "scores")
    }
    for rows in tables.values():
        # the columns are taken from the first line
        assert {tuple(row) for row in rows} == {tuple(rows[0])}
    assert [row["index"] for row in tables["features"]] == [str(latent) for latent in run.latents["words"]]
    for table, name in (("features", "feature"), ("explanations", "explanation"), ("scores", "score")):
        for row in tables[table]:
            keeps(f"neuronpedia-{name}", row)
    for row in tables["activations"]:
        keeps("neuronpedia-activation", row)
        assert len(row["tokens"]) == len(row["values"])
        assert row["maxValue"] == max(row["values"]) == row["values"][row["maxValueTokenIndex"]]
    assert len({row["id"] for row in tables["activations"]}) == len(tables["activations"])
    told = {(row["index"], row["notes"]): row for row in tables["explanations"]}
    assert set(told) == {(str(n), "rules") for n in LATENTS} | {("3", "people"), ("4", "people")}
    assert told["4", "people"]["description"] == 'a\nb "c" \x00 </script> é'
    scores = {(row["explanationId"], row["explanationScoreTypeName"]): row for row in tables["scores"]}
    for latent in LATENTS:
        for ours, theirs in (("detection", "eleuther_recall"), ("fuzzing", "eleuther_fuzz")):
            row = scores[told[str(latent), "rules"]["id"], theirs]
            assert row["value"] == value(run, latent, ours)
            details = json.loads(row["jsonDetails"])
            assert len(details) == 20
            for detail in details:
                keeps("neuronpedia-score-detail", detail)
            right = [d["prediction"] == d["ground_truth"] for d in details]
            assert [d["correct"] for d in details] == right
            assert np.mean(right) == pytest.approx(row["value"])
            # strongest first is 1, silent is -1
            assert {d["distance"] for d in details if not d["ground_truth"]} == {-1}
            peaks = {d["distance"]: max(d["activations"]) for d in details if d["ground_truth"]}
            assert peaks[1] == max(peaks.values())
            assert all(d["highlighted"] == ("marks" in d) == (ours == "fuzzing") for d in details)
    for one in ("model", "release", "sourceset", "source"):
        assert len(lines(place / f"{one}.jsonl")) == 1
    assert lines(place / "source.jsonl")[0]["id"] == "5-res-jb"


def test_neuronpedias_histogram_and_rate_are_the_stores(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "out", "neuronpedia")
    rows = lines(tmp_path / "out" / "v1" / "made" / "5-words" / "features" / "batch-0.jsonl.gz")
    store = run.store()
    for row in rows:
        values = store.coder("words").latent(int(row["index"])).values
        assert row["frac_nonzero"] == pytest.approx(len(values) / store.read.sum())
        assert row["maxActApprox"] == values.max()
        counts, edges = np.histogram(values, bins=20, range=(0, values.max()))
        assert row["freq_hist_data_bar_heights"] == counts.tolist()
        assert row["freq_hist_data_bar_values"] == pytest.approx(((edges[1:] + edges[:-1]) / 2).tolist())


def test_upload_batches_keep_every_limit(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "out", "neuronpedia", Options(method="oai_token-act-pair"))
    body = json.loads((tmp_path / "out" / "upload" / "5-words" / "batch-0.json").read_text())
    keeps("neuronpedia-upload", body)
    assert [feature["index"] for feature in body["features"]] == run.latents["words"]
    for feature in body["features"]:
        assert all(len(row["tokens"]) == len(row["values"]) for row in feature["activations"])
        # the model free baseline has no model that they could know
        assert all("modelName" not in told for told in feature["explanations"])
        assert {told["methodName"] for told in feature["explanations"]} == {"oai_token-act-pair"}


def test_saebenchs_results(run: Run, tmp_path: Path) -> None:
    _, notes = export(run, tmp_path / "out", "saebench", Options(explainer="people", scorer="fuzzing"))
    assert notes == ["words: 1 latents without such a score are left out"]
    (file,) = (tmp_path / "out").iterdir()
    assert file.name == "made_5-words_eval_results.json"
    result = json.loads(file.read_text())
    keeps("saebench-autointerp", result)
    rows = result["eval_result_unstructured"]
    assert set(rows) == {"3", "4"}
    for latent, row in rows.items():
        assert row["score"] == pytest.approx(value(run, int(latent), "fuzzing", "people", "accuracy"))
        said, right = set(row["predictions"]), set(row["correct seqs"])
        assert len(right) == 10
        assert row["score"] == pytest.approx(1 - len(said ^ right) / 20)
    with pytest.raises(UserError, match="give --explainer: this format holds one; the run has: rules, people"):
        export(run, tmp_path / "again", "saebench")
    with pytest.raises(UserError, match="--scorer simulation: there is none of kind detection or fuzzing"):
        export(run, tmp_path / "again", "saebench", Options(explainer="rules", scorer="simulation"))
    assert not (tmp_path / "again").exists()


def test_saedashboards_batches(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "out", "saedashboard", Options(sources={"words": "7-mlp"}))
    batch = json.loads((tmp_path / "out" / "7-mlp" / "batch-0.json").read_text())
    assert (batch["model_id"], batch["layer"], batch["sae_set"]) == ("made", 7, "mlp")
    for feature in batch["features"]:
        assert feature["n_prompts_total"] == run.store().n_contexts
        for activation in feature["activations"]:
            keeps("saedashboard-activation", activation)


def test_openais_records(run: Run, tmp_path: Path) -> None:
    _, notes = export(run, tmp_path / "out", "openai")
    assert notes == ["scores of detection, fuzzing are left out: this format has simulations alone"]
    store = run.store()
    for latent in LATENTS:
        record = json.loads((tmp_path / "out" / "collated-activations" / "5" / f"{latent}.json").read_text())
        keeps("openai-record", record)
        every = np.zeros(int(store.read.sum()))
        values = store.coder("words").latent(latent).values
        every[: len(values)] = values
        assert record["mean"] == pytest.approx(every.mean())
        assert record["variance"] == pytest.approx(every.var())
        assert record["skewness"] == pytest.approx(stats.skew(every))
        assert record["kurtosis"] == pytest.approx(stats.kurtosis(every, fisher=False))
        peaks = [max(row["activations"]) for row in record["most_positive_activation_records"]]
        assert peaks == sorted(peaks, reverse=True)
        assert min(peaks) > 0
        results = json.loads((tmp_path / "out" / "explanations" / "5" / f"{latent}.jsonl").read_text())
        keeps("openai-results", results)
        scored = results["scored_explanations"][0]["scored_simulation"]
        parts = scored["scored_sequence_simulations"]
        true = np.concatenate([part["true_activations"] for part in parts])
        said = np.concatenate([part["simulation"]["expected_activations"] for part in parts])
        assert scored["ev_correlation_score"] == pytest.approx(np.corrcoef(true, said)[0, 1])
        assert scored["rsquared_score"] == pytest.approx(1 - np.mean((true - said) ** 2) / np.var(true))
        assert scored["absolute_dev_explained_score"] == pytest.approx(
            1 - np.mean(np.abs(true - said)) / np.mean(np.abs(true))
        )


def test_delphis_run_folder(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "both", "delphi")
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["people", "rules"]
    export(run, tmp_path / "one", "delphi", Options(explainer="rules"))
    assert json.loads((tmp_path / "one" / "run_config.json").read_text())["name"] == "a-run"
    for path in (tmp_path / "one" / "scores").rglob("*.txt"):
        for row in json.loads(path.read_text()):
            keeps("delphi-row", row)
    back = {one.latent: one for one in read_explanations(tmp_path / "one")}
    assert set(back) == set(LATENTS)
    for latent, one in back.items():
        found = {score.kind: score.figures for score in one.told[0].scores}
        for scorer in ("detection", "fuzzing"):
            for metric in ("balanced_accuracy", "f1", "auroc"):
                assert found[scorer][metric] == pytest.approx(value(run, latent, scorer, metric=metric))


def test_logs_have_a_sample_a_latent_and_an_error_where_an_explanation_failed(run: Run, tmp_path: Path) -> None:
    paths, _ = export(run, tmp_path / "out", "inspect")
    logs = {log["eval"]["tags"][0]: log for log in map(json.loads, (path.read_text() for path in paths))}
    assert set(logs) == {"rules", "people", "rules (shuffled)", "people (shuffled)", "none"}
    own = logs["rules"]
    means = {score["name"]: score["metrics"] for score in own["results"]["scores"]}
    for scorer, metric in (("detection", "balanced_accuracy"), ("simulation", "pearson")):
        values = [value(run, latent, scorer, metric=metric) for latent in LATENTS]
        assert means[scorer][metric]["value"] == pytest.approx(np.mean(values))
        assert means[scorer]["stderr"]["value"] == pytest.approx(stats.sem(values))
    people = logs["people"]
    (failed,) = [sample for sample in people["samples"] if "error" in sample]
    assert failed["id"] == "words/5"
    assert failed["error"]["message"].startswith("unparsable: ")
    assert people["results"]["completed_samples"] == 2


def test_parquet_holds_the_runs_tables(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "out", "parquet")
    tables = {path.stem: pq.read_table(path).to_pandas() for path in (tmp_path / "out").iterdir()}
    assert set(tables) == {"explanations", "scores", "verdicts", "examples"}
    assert tables["explanations"]["text"].tolist() == run.explanations()["text"].tolist()
    verdicts = run.verdicts()
    assert tables["verdicts"]["label"].tolist() == verdicts["label"].tolist()
    scores = tables["scores"]
    row = scores[(scores["latent"] == 3) & (scores["scorer"] == "detection") & (scores["explainer"] == "people")].iloc[
        0
    ]
    assert row["metric_balanced_accuracy"] == value(run, 3, "detection", "people")
    examples = tables["examples"]
    assert (examples["activations"].map(max) > 0).tolist() == examples["activating"].tolist()
    assert (examples["tokens"].map(len) == examples["activations"].map(len)).all()


def test_tables_that_are_written_bit_by_bit_are_the_same(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(run, tmp_path / "whole", "parquet")
    # figures of one scorer are no columns of another's part, and a part may have no control or no failure
    monkeypatch.setattr(parquet, "_ROWS", 2)
    monkeypatch.setattr(parquet, "_SCORES", 1)
    export(run, tmp_path / "parts", "parquet")
    for path in (tmp_path / "whole").iterdir():
        whole, parts = pq.read_table(path), pq.read_table(tmp_path / "parts" / path.name)
        assert parts.equals(whole), path.name
        assert not any(pa.types.is_null(field.type) for field in parts.schema)
    assert pq.read_metadata(tmp_path / "parts" / "scores.parquet").num_row_groups > 1
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )


def test_a_run_of_which_nothing_is_known_yet_has_empty_tables(
    make_store: Callable[..., Store], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    store = make_store(tmp_path / "store")
    task = write_task(
        store={"path": str(store.path)},
        coder=[{"name": "words"}],
        latents={"ids": [3], "min_examples": 10**6},
    )
    conducted(task, tmp_path / "run")
    found = load(tmp_path / "run")
    export(found, tmp_path / "out", "parquet")
    assert pq.read_table(tmp_path / "out" / "verdicts.parquet").num_rows == 0
    _, notes = export(found, tmp_path / "dataset", "huggingface")
    assert notes == []
    assert not (tmp_path / "dataset" / "verdicts").exists()
    found.close()


def test_the_dataset_folder_is_loaded_by_datasets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    export(run, tmp_path / "out", "huggingface")
    assert datasets.get_dataset_config_names(str(tmp_path / "out")) == [
        "explanations", "scores", "verdicts", "examples",
    ]  # fmt: skip
    cache = str(tmp_path / "cache")
    for name in ("explanations", "scores", "verdicts", "examples"):
        loaded = datasets.load_dataset(str(tmp_path / "out"), name, split="train", cache_dir=cache)
        assert loaded.num_rows
    texts = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=cache)["text"]
    assert list(texts) == [row["text"] for row in run.explanation_records()]


def test_a_selected_store_has_no_rate_and_no_moments(
    tmp_path: Path, directory: Path, write_task: Callable[..., Path]
) -> None:
    from harness.interop.activations import import_activations

    run = load(directory)
    export(run, tmp_path / "dash", "saedashboard", Options(sources={"words": "5-words"}))
    store = import_activations(tmp_path / "dash", tmp_path / "store")
    task = write_task(
        store={"path": str(store.path)},
        coder=[{"name": "5-words"}],
        latents={"ids": [3, 4], "min_examples": 5},
        examples={
            "window": 16,
            "scored": {"activating": 10, "non_activating": 10, "minimum": 2, "rungs": ["zero-row"]},
        },
    )
    conducted(task, tmp_path / "again")
    again = load(tmp_path / "again")
    findings = RunFindings(again)
    # a coder that is called as a source is one
    assert findings.about.coders["5-words"].source == "5-words"
    assert [(one.rate, one.moments) for one in findings.latents()] == [(None, None)] * 2
    export(again, tmp_path / "np", "neuronpedia")
    rows = lines(tmp_path / "np" / "v1" / "made" / "5-words" / "features" / "batch-0.jsonl.gz")
    assert all("frac_nonzero" not in row for row in rows)
    assert check(tmp_path / "np").problems == []


def test_nothing_is_overwritten_and_a_lost_store_is_told(
    run: Run, tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(UserError, match="out: there is something already"):
        export(run, tmp_path / "out", "delphi")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    shutil.copytree(directory, tmp_path / "copy")
    lost = load(tmp_path / "copy")
    record = lost.record
    monkeypatch.setitem(record, "store", {**record["store"], "path": str(tmp_path / "gone")})
    with pytest.raises(StoreError, match="gone"):
        export(lost, tmp_path / "np", "neuronpedia")
    assert not (tmp_path / "np").exists()


@pytest.mark.parametrize(
    ("format_", "options", "told"),
    [
        ("delphi", Options(scorer="fuzzing"), "--scorer is for the formats saebench; delphi has no use for it"),
        ("delphi", Options(explainer="x"), "--explainer x: the run has no such explainer; it has: rules, people"),
        ("neuronpedia", Options(sources={"x": "1-a"}), "--source x=...: the run has no such coder; it has: words"),
        ("neuronpedia", Options(sources={"words": "res"}), "--source words=res: give a layer's number, a hyphen and"),
    ],
)
def test_a_wrong_option_is_told(run: Run, tmp_path: Path, format_: str, options: Options, told: str) -> None:
    with pytest.raises(UserError) as error:
        export(run, tmp_path / "out", format_, options)
    assert told in str(error.value)
    assert not (tmp_path / "out").exists()


def test_windows_of_another_draw_are_those_that_were_asked_about(
    tmp_path: Path, write_task: Callable[..., Path]
) -> None:
    examples = {"draw": 1, "scored": {"activating": 10, "non_activating": 10}}
    scorer = [{"name": "fuzzing", "kind": "fuzzing", "model": "lexical/rules"}]
    task = write_task(latents={"ids": [3, 4], "min_examples": 50}, examples=examples, scorer=scorer)
    conducted(task, tmp_path / "drawn")
    run = load(tmp_path / "drawn")
    for found in RunFindings(run).latents():
        for told in found.told:
            for score in told.scores:
                assert len(score.judged) == 20
                assert all((judged.window.maximum > 0) == judged.truth for judged in score.judged)
                assert all(judged.marks for judged in score.judged)
    run.close()


@pytest.mark.slow
def test_populations_of_random_latents_are_in_no_other_projects_files(random_run: Path, tmp_path: Path) -> None:
    run = load(random_run / "full")
    chosen = {f"sae/{latent}" for latent in run.latents["sae"]}
    assert set(run.latents) > {"sae"}
    for name in FORMATS:
        options = Options(explainer="a") if name == "saebench" else Options()
        export(run, tmp_path / name, name, options)
        assert check(tmp_path / name).problems == []
    samples = {s["id"] for path in (tmp_path / "inspect").iterdir() for s in json.loads(path.read_text())["samples"]}
    assert samples == chosen
    rows = pq.read_table(tmp_path / "parquet" / "explanations.parquet").to_pandas()
    assert set(rows["coder"]) == set(run.latents)
    run.close()
