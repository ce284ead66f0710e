"""Of a damaged file it is told where, which field and what was expected, and nothing of it is imported."""

from __future__ import annotations

import copy
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import FormatError, UserError
from harness.interop.checking import check
from harness.interop.explanations import import_explanations

Edit = Callable[[Any], Any]

ROW = {"str_tokens": ["a", "b"], "activations": [0, 2.0], "distance": 3, "activating": True, "prediction": True,
       "probability": 0.75, "correct": True}  # fmt: skip
EXPLANATION = {"id": "e1", "modelId": "m", "layer": "0-res", "index": "5", "authorId": "x", "description": "words",
               "typeName": "np_max-act", "explanationModelName": "gpt"}  # fmt: skip
ACTIVATION = {"id": "a", "modelId": "m", "layer": "0-res", "index": "5", "creatorId": "x", "tokens": ["a", "b"],
              "values": [0, 1.5], "maxValue": 1.5, "minValue": 0, "maxValueTokenIndex": 1}  # fmt: skip
SCORE = {"id": "s", "value": 0.5, "explanationId": "e1", "explanationScoreTypeName": "eleuther_fuzz",
         "explanationScoreModelName": "gpt", "jsonDetails": json.dumps([ROW])}  # fmt: skip
FEATURE = {"index": 1, "explanations": [{"text": "words"}], "activations": [{"tokens": ["a"], "values": [1]}]}
SAEBENCH = {
    "eval_type_id": "autointerp", "eval_config": {}, "eval_id": "x", "datetime_epoch_millis": 1,
    "eval_result_metrics": {"autointerp": {"autointerp_score": 0.5, "autointerp_std_dev": 0.1}},
    "eval_result_unstructured": {
        "7": {"latent": 7, "explanation": "words", "logs": "", "predictions": [1], "correct seqs": [2], "score": 0.5}
    },
    "sae_bench_commit_hash": "x", "sae_lens_id": "a", "sae_lens_release_id": "b", "sae_lens_version": "6",
    "sae_cfg_dict": None,
}  # fmt: skip
SIMULATION = {"tokens": ["a", "b"], "expected_activations": [0, 1], "activation_scale": "neuron_activations"}
RESULTS = {
    "neuron_id": {"layer_index": 1, "neuron_index": 2},
    "scored_explanations": [
        {
            "explanation": "words",
            "scored_simulation": {
                "scored_sequence_simulations": [{"simulation": SIMULATION, "true_activations": [0, 1]}],
                "ev_correlation_score": 0.5,
            },
        }
    ],
}
RECORD = {
    "neuron_id": {"layer_index": 1, "neuron_index": 2}, "random_sample": [],
    "most_positive_activation_records": [{"tokens": ["a"], "activations": [1]}],
}  # fmt: skip
DASHBOARD = {
    "model_id": "m", "layer": 0, "sae_set": "res",
    "features": [{"feature_index": 1, "activations": [{"tokens": ["a", "b"], "values": [0, 1]}]}],
}  # fmt: skip
LOG = {
    "version": 2, "status": "success",
    "eval": {"created": "2026", "task": "t", "model": "m/m", "dataset": {}, "config": {}},
    "samples": [{"id": 1, "epoch": 1, "input": "a", "target": ""}, {"id": 2, "epoch": 1, "input": "a", "target": ""}],
}  # fmt: skip
API = {"modelId": "m", "layer": "0-res", "index": "5", "activations": [], "explanations": [EXPLANATION]}
OURS = {"run": "r", "coder": "c", "latent": 3, "explainer": "mini", "control": None, "text": "words", "status": "ok"}
LIST = {"latent": 3, "explanation": "words"}


def put(*path: Any) -> Edit:
    """An edit that puts the last of `path` where the others lead; None takes it away."""
    *way, last, value = path

    def edit(data: Any) -> Any:
        data = copy.deepcopy(data)
        inner = data
        for step in way:
            inner = inner[step]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
        return data

    return edit


def simulated(*path: Any) -> Edit:
    return put("scored_explanations", 0, "scored_simulation", "scored_sequence_simulations", 0, *path)


DAMAGES: list[tuple[str, Any, Edit, str]] = [
    ("batch-0.jsonl", EXPLANATION, put("description", 5), "line 2: description: expected str, got int"),
    ("batch-0.jsonl", EXPLANATION, put("description", ""), "line 2: description: expected str of length >= 1"),
    ("batch-0.jsonl", EXPLANATION, put("index", "x"), 'line 2: index: "x"; expected a latent\'s number'),
    ("batch-0.jsonl", EXPLANATION, put("layer", None), "line 2: object missing required field layer"),
    ("batch-0.jsonl.gz", EXPLANATION, put("description", ["a"]), "line 2: description: expected str, got array"),
    ("feature.json", API, put("explanations", 0, "description", 1), "explanations[0].description: expected str, got i"),
    ("batch-0.json", {"modelId": "m", "source": "0-a", "features": [FEATURE]}, put("modelId", "M"),
     "modelId: expected str matching regex"),
    ("batch-0.json", {"modelId": "m", "source": "0-a", "features": [FEATURE]}, put("features", [FEATURE, FEATURE]),
     "features[1].index: 1 is there twice; expected each feature once in a batch"),
    ("batch-0.json", {"modelId": "m", "source": "0-a", "features": [FEATURE]},
     put("features", 0, "explanations", 0, "text", "é🙂" * 171), "text: 513 characters; expected at most 512"),
    ("batch-0.json", {"modelId": "m", "source": "0-a", "features": [FEATURE]},
     put("features", 0, "activations", 0, "values", [1, 2]), "values: 2 values for 1 tokens; expected one a token"),
    ("batch-0.json", {"modelId": "m", "source": "0-a", "features": [FEATURE]},
     put("features", 0, "index", 10_000_001), "features[0].index: expected int <= 10000000"),
    ("x_eval_results.json", SAEBENCH, put("eval_type_id", "core"), 'eval_type_id: "core"; expected "autointerp"'),
    ("x_eval_results.json", SAEBENCH, put("eval_result_unstructured", "7", "latent", 8),
     'eval_result_unstructured.7.latent: 8; expected the key\'s number, "7"'),
    ("x_eval_results.json", SAEBENCH, put("eval_result_unstructured", "7", "predictions", [0]),
     "eval_result_unstructured.7.predictions: 0; expected numbers from 1 on"),
    ("x_eval_results.json", SAEBENCH, put("eval_result_unstructured", "7", "score", 1.5),
     "eval_result_unstructured.7.score: 1.5; expected a share, 0 to 1"),
    ("x_eval_results.json", SAEBENCH, put("eval_result_unstructured", "7", "explanation", None),
     "object missing required field explanation"),
    ("2.jsonl", RESULTS, put("scored_explanations", 0, "explanation", " "), "scored_explanations[0].explanation: it"),
    ("2.jsonl", RESULTS, simulated("true_activations", [1]),
     "scored_sequence_simulations[0].true_activations: 1 numbers for 2 tokens; expected one a token"),
    ("2.jsonl", RESULTS, simulated("simulation", "tokens", "ab"), "simulation.tokens: expected array, got str"),
    ("mine.jsonl", LIST, put("latent", -1), "line 2: latent: expected int >= 0"),
    ("mine.jsonl", LIST, put("explanation", "\n "), "line 2: explanation: it is blank; expected words"),
    ("mine.jsonl", LIST, put("explanation", None), "line 2: object missing required field explanation"),
    ("explanations.jsonl", OURS, put("latent", "3"), "line 2: latent: expected int, got str"),
]  # fmt: skip
CHECKED: list[tuple[str, Any, Edit, str]] = [
    ("batch-0.jsonl", ACTIVATION, put("values", [1]), "line 2: values: 1 values for 2 tokens; expected one a token"),
    ("batch-0.jsonl", ACTIVATION, put("tokens", 1, 7), "line 2: tokens[1]: expected str, got int"),
    ("batch-0.jsonl", ACTIVATION, put("colour", "red"), "line 2: colour: their reader crashes on a key"),
    ("batch-0.jsonl", ACTIVATION, put("colour", "red"), "line 2: it has colour; expected the keys of the first line"),
    ("batch-0.jsonl", EXPLANATION, put("typeName", None), "line 2: it lacks typeName; expected the keys of the first"),
    ("batch-0.jsonl", SCORE, put("jsonDetails", "[{}]"), "line 2: jsonDetails: [0]: str_tokens: is missing"),
    ("batch-0.jsonl", SCORE, put("value", "high"), "line 2: value: expected float, got str"),
    ("7.json", RECORD, put("most_positive_activation_records", 0, "activations", [1, 2]),
     "most_positive_activation_records[0].activations: 2 numbers for 1 tokens; expected one a token"),
    ("7.json", RECORD, put("neuron_id", "neuron_index", "x"), "neuron_id.neuron_index: expected int, got str"),
    ("batch-0.json", DASHBOARD, put("features", 0, "activations", 0, "values", [1]),
     "feature 1, activations[0].values: 1 values for 2 tokens; expected one a token"),
    ("batch-0.json", DASHBOARD, put("features", 0, "feature_index", "one"), "features[0].feature_index: expected int"),
    ("log.json", LOG, put("samples", 1, "id", 1), 'samples[1].id: "1" is there twice; expected each once in an epoch'),
    ("log.json", LOG, put("status", "fine"), "status: invalid enum value 'fine'"),
    ("rows_latent3.txt", [ROW], put(0, "activations", [1]), "[0]: activations: 1 numbers for 2 tokens; expected one a"),
    ("rows_latent3.txt", [ROW], put(0, "probability", 1.5), "[0].probability: expected float <= 1.0"),
    ("rows_latent3.txt", [ROW], put(0, "prediction", "yes"), "[0].prediction: expected bool | null, got str"),
]  # fmt: skip


def written(folder: Path, name: str, data: Any, edit: Edit | None) -> Path:
    """A file with a right document, and if it is lines a second one that is edited."""
    path = folder / name
    damaged = data if edit is None else edit(data)
    lines = path.name.removesuffix(".gz").endswith(".jsonl") and "neuron_id" not in data
    text = "\n".join(map(json.dumps, [data, damaged] if lines else [damaged]))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize(("name", "data", "edit", "told"), DAMAGES)
def test_what_is_wrong_in_explanations_is_told_and_nothing_is_imported(
    tmp_path: Path, name: str, data: Any, edit: Edit, told: str
) -> None:
    path = written(tmp_path, name, data, edit)
    with pytest.raises(FormatError) as error:
        import_explanations(path, tmp_path / "out" / "list.jsonl")
    assert str(error.value).startswith(str(path))
    assert told in str(error.value)
    assert not list((tmp_path / "out").rglob("*")) if (tmp_path / "out").exists() else True
    assert any(told in problem for problem in check(path).problems)


@pytest.mark.parametrize(("name", "data", "edit", "told"), CHECKED)
def test_what_is_wrong_elsewhere_is_told_by_validate(
    tmp_path: Path, name: str, data: Any, edit: Edit, told: str
) -> None:
    path = written(tmp_path, name, data, edit)
    problems = check(path).problems
    assert all(problem.startswith(str(path)) for problem in problems)
    assert any(told in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("name", "data"), sorted({(name, json.dumps(data)) for name, data, _, _ in [*DAMAGES, *CHECKED]})
)
def test_without_the_damage_it_is_right(tmp_path: Path, name: str, data: str) -> None:
    assert check(written(tmp_path, name, json.loads(data), None)).problems == []


@pytest.mark.parametrize("name", sorted({name for name, _, _, _ in [*DAMAGES, *CHECKED]}))
def test_a_file_cut_short_is_told(tmp_path: Path, name: str) -> None:
    data = next(data for other, data, _, _ in [*DAMAGES, *CHECKED] if other == name)
    path = written(tmp_path, name, data, None)
    path.write_bytes(path.read_bytes()[:-5])
    (problem,) = check(path).problems
    assert problem.startswith(str(path))
    assert re.search("cut short|cannot be read|truncated", problem)
    with pytest.raises(FormatError, match=r"cut short|cannot be read|truncated|has no explanations"):
        import_explanations(path, tmp_path / "list.jsonl")
    assert not (tmp_path / "list.jsonl").exists()


def delphi(folder: Path, *, text: str = '"words"', rows: Any = (ROW,)) -> Path:
    for place, content in (("explanations", text), ("scores/fuzz", json.dumps(list(rows)))):
        (folder / place).mkdir(parents=True)
        (folder / place / "layers.3_latent7.txt").write_text(content)
    return folder


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"text": "words"}, "explanations/layers.3_latent7.txt: this is no JSON, or the file is cut short"),
        ({"text": '{"a": 1}'}, "explanations/layers.3_latent7.txt: expected str, got object"),
        ({"text": '" "'}, "explanations/layers.3_latent7.txt: the explanation is empty"),
        ({"rows": [{**ROW, "distance": "far"}]}, "scores/fuzz/layers.3_latent7.txt: [0].distance: expected float"),
        ({"rows": [ROW, {**ROW, "str_tokens": ["a"]}]}, "layers.3_latent7.txt: [1]: activations: 2 numbers for 1 to"),
    ],
)
def test_a_damaged_delphi_folder(tmp_path: Path, parts: dict[str, Any], told: str) -> None:
    source = delphi(tmp_path / "run", **parts)
    with pytest.raises(FormatError) as error:
        import_explanations(source, tmp_path / "list.jsonl")
    assert told in str(error.value)
    assert not (tmp_path / "list.jsonl").exists()
    assert any(told.split(": ", 1)[0] in problem for problem in check(source).problems)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("latent,text\n1,a\n", "line 1: explanation: there is no such column; it has: latent, text"),
        ("latent,explanation\n1,a\nx,b\n", 'line 3: latent: "x"; expected a latent\'s number'),
        ("latent,explanation\n1,a\n2, \n", "line 3: explanation: it is blank; expected words"),
        ("latent,explanation\n1,a\n2\n", "line 3: it has not as many fields as line 1, 2"),
        ("latent,explanation\n1,a,b\n", "line 2: it has not as many fields as line 1, 2"),
        ('latent,explanation\n1,"a\n', "this table cannot be read"),
        ("", "line 1: explanation: there is no such column; it has: nothing"),
    ],
)
def test_a_damaged_table(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(FormatError) as error:
        import_explanations(path, tmp_path / "list.jsonl")
    assert told in str(error.value)
    assert any(told in problem for problem in check(path).problems)
    assert not (tmp_path / "list.jsonl").exists()


def test_activations_without_their_features_are_told(tmp_path: Path) -> None:
    place = tmp_path / "v1" / "m" / "0-res"
    (place / "activations").mkdir(parents=True)
    written(place / "activations", "batch-0.jsonl", ACTIVATION, None)
    (problem,) = check(tmp_path).problems
    assert "activations/batch-0.jsonl: there is no" in problem
    (place / "features").mkdir()
    feature = {"modelId": "m", "layer": "0-res", "index": "6", "creatorId": "x", "maxActApprox": 1.0}
    written(place / "features", "batch-0.jsonl", feature, None)
    (problem,) = check(tmp_path).problems
    assert "activations/batch-0.jsonl: index 5 is not in" in problem


def test_a_card_that_names_files_that_are_not_there_is_told(tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    path: gone.parquet\n---\n"
    (tmp_path / "README.md").write_text(card)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    problems = check(tmp_path).problems
    assert any("configs.a: there is no file gone.parquet" in problem for problem in problems)
    assert any("x.parquet: this file is broken or cut short" in problem for problem in problems)


def test_what_is_of_no_known_format_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "a.md").write_text("text")
    for path in (tmp_path, tmp_path / "a.json", tmp_path / "a.md"):
        with pytest.raises(FormatError, match="is of no known format"):
            check(path)
        with pytest.raises(FormatError, match=r"no explanations|no JSON"):
            import_explanations(path, tmp_path / "list.jsonl")
    with pytest.raises(FormatError, match="there is no such file or folder"):
        check(tmp_path / "gone")
    with pytest.raises(FormatError, match="there is no such file or folder"):
        import_explanations(tmp_path / "gone", tmp_path / "list.jsonl")


def test_several_explainers_and_coders_are_asked_about(tmp_path: Path) -> None:
    lines = [
        {"latent": 1, "explanation": "a", "coder": "x", "explainer": "one"},
        {"latent": 1, "explanation": "b", "coder": "x", "explainer": "two"},
        {"latent": 1, "explanation": "c", "coder": "y", "explainer": "two"},
        {"latent": 1, "explanation": "d", "coder": "y", "explainer": "two"},
    ]
    source, out = tmp_path / "all.jsonl", tmp_path / "list.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(
        UserError, match=r"--explainer: say whose to take; there are explanations by one \(1\), two \(3\)"
    ):
        import_explanations(source, out)
    with pytest.raises(UserError, match="--explainer three: there are none by it"):
        import_explanations(source, out, explainer="three")
    with pytest.raises(UserError, match="--coder res: there are several coders, so give SOURCE=NAME for x, y"):
        import_explanations(source, out, explainer="two", coders={"": "res"})
    with pytest.raises(UserError, match=r"--coder z=\.\.\.: there is no such coder; there are: x, y"):
        import_explanations(source, out, explainer="two", coders={"z": "res"})
    found = import_explanations(source, out, explainer="two", coders={"x": "res"})
    assert (found.by_coder, found.passed_over) == ({"res": 1, "y": 1}, 1)
    assert [json.loads(line)["explanation"] for line in out.read_text().splitlines()] == ["b", "c"]
    with pytest.raises(UserError, match="there is something already"):
        import_explanations(source, out, explainer="two")
