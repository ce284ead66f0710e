from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.errors import TaskError
from harness.resources import folder
from harness.task import ExampleSettings, find_task, load_task

WHOLE = """
name = "explainers-on-gpt2"
seed = 3
controls = ["shuffled", "generic", "none"]

[subject]
model = "openai-community/gpt2"
corpus = { dataset = "monology/pile-uncopyrighted", column = "text", tokens = 10_000_000 }
context = 256

[[coder]]
name = "res6"
hookpoint = "transformer.h.5"
path = "jbloom/GPT2-Small-SAEs-Reformatted:blocks.6.hook_resid_pre"

[latents]
sample = 500
min_examples = 200

[examples]
window = 32
split = { shown = 0.4, select = 0.1, scored = 0.5 }
shown = { sampler = "random", count = 40 }
scored = { activating = 100, quantiles = 10, non_activating = 100, rungs = ["random"] }

[[explainer]]
name = "mini"
kind = "contexts"
model = "openai/gpt-5-mini"
prompt = "default"

[[scorer]]
name = "detection"
kind = "detection"
model = "openai/gpt-5-mini"
prompt = "default"

[primary]
scorer = "detection"
metric = "balanced_accuracy"
margin = 0.05

[limits]
latents = 8
requests = 20

[model."openai/gpt-5-mini"]
timeout = 60.0
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def make(text: str) -> Path:
        path = tmp_path / "task.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


def test_every_key_of_a_task_arrives_where_it_belongs(write: Callable[[str], Path], tmp_path: Path) -> None:
    task = load_task(write(WHOLE))
    assert (task.name, task.seed, task.controls) == ("explainers-on-gpt2", 3, ("shuffled", "generic", "none"))
    assert task.subject is not None
    assert (task.subject.corpus.dataset, task.subject.corpus.tokens) == ("monology/pile-uncopyrighted", 10_000_000)
    assert task.explainer[0].options == {"model": "openai/gpt-5-mini", "prompt": "default"}
    assert (task.ranking.scorer, task.ranking.margin) == ("detection", 0.05)
    assert (task.limits.latents, task.limits.requests) == (8, 20)
    assert task.model == {"openai/gpt-5-mini": {"timeout": 60.0}}
    assert (task.base, task.source) == (tmp_path.resolve(), str(tmp_path / "task.toml"))


def test_without_a_primary_figure_the_first_scorer_ranks_by_its_own(write: Callable[[str], Path]) -> None:
    start, _, rest = WHOLE.partition("[primary]")
    task = load_task(write(start + rest[rest.index("[limits]") :]))
    assert (task.ranking.scorer, task.ranking.metric, task.ranking.margin) == ("detection", None, 0.02)


def test_a_task_does_not_change(write: Callable[[str], Path]) -> None:
    task = load_task(write(WHOLE))
    with pytest.raises(ValidationError, match="frozen"):
        task.seed = 4  # type: ignore[misc] - that it cannot be set is what is tested


def test_defaults_are_those_of_the_paper() -> None:
    found = ExampleSettings()
    assert (found.window, found.shown.sampler, found.shown.count) == (32, "random", 40)
    assert (found.scored.activating, found.scored.quantiles, found.scored.non_activating) == (100, 10, 100)
    assert (found.split.shown, found.split.select, found.split.scored) == (0.4, 0.1, 0.5)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seed = 3", "sed = 3", r"task\.toml: sed: unknown key; did you mean seed\?$"),
        ("context = 256", "contxt = 256", r"task\.toml: subject\.contxt: unknown key; did you mean context\?$"),
        ("count = 40", "cuont = 40", r"examples\.shown\.cuont: unknown key; did you mean count\?$"),
        ('path = "jbloom', 'pth = "jbloom', r"coder\.res6\.pth: unknown key; did you mean path\?"),
        ("seed = 3", 'seed = "three"', r"task\.toml: seed: input should be a valid integer.*, not 'three'$"),
        ("seed = 3", "seed = -1", r"seed: input should be greater than or equal to 0, not -1$"),
        ("context = 256", 'context = "long"', r"subject\.context: input should be a valid integer.*, not 'long'$"),
        ('name = "explainers-on-gpt2"\n', "", r"task\.toml: name: is missing$"),
        ('name = "explainers-on-gpt2"', 'name = "../up"', r"name: string should match pattern .*, not '\.\./up'$"),
        ('name = "mini"\nkind = "contexts"', 'name = "mini"', r"explainer\.mini\.kind: is missing$"),
        ('name = "mini"\n', "", r"explainer\.1\.name: is missing$"),
        ("sample = 500", "sample = 500\nids = [1]", r"latents: give either sample .* or ids"),
        ("sample = 500", "ids = [1, 1]", r"latents: ids has duplicates"),
        ("select = 0.1", "select = 0.2", r"examples\.split: shown \+ select \+ scored is 1\.1 and has to be 1$"),
        ("activating = 100, q", "activating = 95, q", r"examples\.scored: activating and non_activating have to be"),
        ("quantiles = 10", "quantiles = 7", r"examples\.scored: activating has to be a multiple of quantiles \(7\)$"),
        ('rungs = ["random"]', "rungs = []", r'scored\.rungs: rungs has to name at least one, such as "random"'),
        ('rungs = ["random"]', 'rungs = ["random", "zero-row"]', r'examples\.scored\.rungs: .*no store has both$'),
        ('rungs = ["random"]', 'rungs = ["zero-row", "zero-row"]', r"examples\.scored\.rungs: rungs has duplicates"),
        ('rungs = ["random"]', 'rungs = ["zero-row"]', r'imported records; where a \[subject\] reads text'),
        ('rungs = ["random"]', 'rungs = ["neighbour"]', r'rungs has to contain "random", the rung of the headline'),
        ('rungs = ["random"]', 'rungs = ["randm"]', r"scored\.rungs\.1: input should be 'random', .*, not 'randm'"),
        ('sampler = "random"', 'sampler = "best"', r"shown\.sampler: input should be .*'quantiles'.*, not 'best'$"),
        ("window = 32", "window = 48", r"examples\.window \(48\) has to divide subject\.context \(256\)$"),
        ('scorer = "detection"\nm', 'scorer = "fuzzing"\nm', r'primary\.scorer "fuzzing" is no .*: detection$'),
        ("margin = 0.05", "margin = 0", r"primary\.margin: input should be greater than 0, not 0$"),
        ("latents = 8", "latents = 0", r"limits\.latents: input should be greater than or equal to 1, not 0$"),
        ('"none"]', '"nothing"]', r"controls\.3: input should be .*, not 'nothing'$"),
        ('path = "jbloom', 'kind = "sae" # "', r"coder\.res6: a coder needs a hookpoint and a path$"),
        ('corpus = { dataset = "monology/pile-uncopyrighted",', 'corpus = { path = "a", dataset = "b",',
         r"subject\.corpus: give either path or dataset$"),
        ('name = "detection"\n', 'name = "detection"\nexplainers = ["mono"]\n',
         r'scorer\.detection\.explainers: "mono" is no \[\[explainer\]\] of this task; there are: mini$'),
        ("[limits]", "[interventions]\nwindow = 48\n[limits]",
         r"interventions\.window \(48\) has to divide subject\.context \(256\)$"),
        ("[limits]", "[interventions]\ntargets = [1.0, 0.1]\n[limits]",
         r"interventions\.targets: targets have to ascend, none twice$"),
        ("[latents]", "base = 3\n[latents]", r"coder\.res6\.base: unknown key"),
        ('name = "expl', 'source = "here"\nname = "expl', r"task\.toml: source: unknown key$"),
        ("seed = 3", "seed == 3", r"task\.toml: not valid TOML: .*line 3"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_file_the_key_and_what_is_right(
    write: Callable[[str], Path], old: str, new: str, told: str
) -> None:
    assert WHOLE.count(old) >= 1
    with pytest.raises(TaskError, match=told) as caught:
        load_task(write(WHOLE.replace(old, new, 1)))
    assert "\n" not in str(caught.value)
    assert "task.toml" in str(caught.value)


@pytest.mark.parametrize("group", ["coder", "explainer", "scorer"])
def test_a_name_given_twice_is_named(write: Callable[[str], Path], group: str) -> None:
    more = {
        "coder": 'name = "res6"\nkind = "planted"',
        "explainer": 'name = "mini"\nkind = "file"\npath = "x"',
        "scorer": 'name = "detection"\nkind = "fuzzing"\nmodel = "x/y"',
    }[group]
    with pytest.raises(TaskError, match=rf'the name "\w+" is given to two \[\[{group}\]\]; names have to differ'):
        load_task(write(f"{WHOLE}\n[[{group}]]\n{more}\n"))


def test_a_task_needs_a_subject_or_a_store(write: Callable[[str], Path]) -> None:
    start, _, rest = WHOLE.partition("[subject]")
    with pytest.raises(TaskError, match=r"a task needs \[subject\], or \[store\]"):
        load_task(write(start + rest[rest.index("[[coder]]") :]))


def test_several_mistakes_are_told_at_once(write: Callable[[str], Path]) -> None:
    with pytest.raises(TaskError, match=r"subject\.contxt: unknown key.*; .*sed: unknown key"):
        load_task(write(WHOLE.replace("seed", "sed").replace("context = 256", "contxt = 256")))


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(TaskError, match=r"task\.toml: cannot be read: .*utf-8"):
        load_task(tmp_path / "task.toml")


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=7", "seed", 7),
        ("name=other", "name", "other"),
        ('name="other"', "name", "other"),
        ("latents.sample = 5", "latents.sample", 5),
        ("examples.shown={ sampler = 'top', count = 3 }", "examples.shown.count", 3),
        ('controls=["none"]', "controls", ("none",)),
        ("explainer.mini.model=anthropic/claude-sonnet-5", "explainer.0.options", None),
        ("subject.corpus.tokens=1_000", "subject.corpus.tokens", 1000),
    ],
)
def test_an_override_sets_one_key(write: Callable[[str], Path], override: str, path: str, value: object) -> None:
    found: object = load_task(write(WHOLE), [override])
    for step in path.split("."):
        found = found[int(step)] if step.isdigit() else getattr(found, step)  # type: ignore[index] - a tuple then
    if path.startswith("explainer"):
        assert found == {"model": "anthropic/claude-sonnet-5", "prompt": "default"}
    else:
        assert found == value


def test_an_override_reaches_a_model_whose_name_has_dots_and_slashes(write: Callable[[str], Path]) -> None:
    task = load_task(write(WHOLE), ['model."openai-api/x/gpt-4.1".timeout=5.0'])
    assert task.model["openai-api/x/gpt-4.1"] == {"timeout": 5.0}


def test_the_last_override_of_a_key_wins(write: Callable[[str], Path]) -> None:
    assert load_task(write(WHOLE), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed", r"^--set seed: write it as key=value"),
        ("=3", r"^--set =3: write it as key=value"),
        ("explainer.mni.model=x/y", r'mni\.model=x/y: nothing is named "mni" there; there are: mini$'),
        ("explainer.mini=x", r"name a key of the table, such as explainer\.mini\.model"),
        ("explainer=x", r"task\.toml: explainer: input should be a valid tuple, not 'x'"),
        ("seed.x=3", r"--set seed\.x=3: seed is a value and has no keys"),
        ("seed.x.y=3", r"--set seed\.x\.y=3: seed is a value and has no keys"),
        ("sed=3", r"task\.toml: sed: unknown key; did you mean seed\?"),
        ("latents.sample=many", r"task\.toml: latents\.sample: input should be a valid integer.*, not 'many'"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_told_with_what_would_be_right(
    write: Callable[[str], Path], override: str, told: str
) -> None:
    with pytest.raises(TaskError, match=told):
        load_task(write(WHOLE), [override])


def test_a_missing_file_is_told_with_its_neighbour_of_nearly_that_name(tmp_path: Path) -> None:
    (tmp_path / "gpt2-small.toml").touch()
    with pytest.raises(TaskError, match=r'gpt2-smal\.toml: no such task file; did you mean ".*gpt2-small\.toml"\?'):
        find_task(str(tmp_path / "gpt2-smal.toml"))


def test_a_bare_name_is_a_shipped_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_task("demo").name == "demo.toml"
    with pytest.raises(TaskError, match=r'^dmeo: no such task file; did you mean "demo"\?$'):
        find_task("dmeo")
    with pytest.raises(TaskError, match=r"no such task file; shipped tasks: .*demo"):
        find_task("something-else-entirely")


def test_a_file_here_goes_before_a_shipped_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text(WHOLE)
    assert load_task("demo").name == "explainers-on-gpt2"


@pytest.mark.parametrize("path", sorted(folder("tasks").rglob("*.toml")), ids=lambda path: path.stem)
def test_shipped_tasks_are_valid(path: Path) -> None:
    assert load_task(path).explainer


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"controls": ["none", "random-direction"]}, r'controls: "random-direction" is collected from the subject, and '
         r"this task takes a finished \[store\]: give a \[subject\]"),
        ({"controls": ["none", "none"]}, r"controls has duplicates"),
        ({"interventions": {}}, r"\[interventions\] are on a subject: add the \[subject\] that the store was"),
        ({"controls": ["random"]}, r"controls\.1: input should be .*'random-coder', not 'random'"),
        ({"controls": ["random-coder"], "store": None, "subject": {"model": "m", "corpus": {"path": "t.jsonl"}}},
         r'controls: "random-coder" reads the activations at a coder\'s hookpoint, and coder "words" reads text'),
    ],
)  # fmt: skip
def test_a_control_that_cannot_be_had_is_told(
    write_task: Callable[..., Path], tables: dict[str, Any], told: str
) -> None:
    with pytest.raises(TaskError, match=rf"task\.toml: .*{told}"):
        load_task(write_task(**tables))
