from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.clients.models import Models
from harness.errors import MissingKey, PromptError, TaskError, UnknownKind, UserError
from harness.runs.keys import explanation_key, latent_order, score_key, shuffled_key
from harness.runs.units import Plan, PopulationPlace, make_plan
from harness.task import CoderSettings, load_task
from harness.values import Explanation

JUDGE = {"name": "detection", "kind": "detection", "model": "lexical/rules"}
WRITER = {"name": "a", "kind": "contexts", "model": "lexical/rules"}


@pytest.fixture
def plan(write_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    monkeypatch.setenv("FAKE_BASE_URL", "http://127.0.0.1:9/v1")

    def make(
        store: str = "s",
        overrides: tuple[str, ...] = (),
        populations: Sequence[PopulationPlace] = (),
        **tables: Any,
    ) -> Plan:
        task = load_task(write_task(**tables), overrides)
        return make_plan(task, Models(task.model, lambda client: client), store, populations)

    return make


def _digests(plan: Plan) -> tuple[list[str], list[str]]:
    return [arm.digest for arm in plan.explanation_arms], [arm.digest for arm in plan.score_arms]


def test_arms_are_the_explainers_their_shuffles_and_the_constant_controls(plan: Callable[..., Plan]) -> None:
    found = plan(explainer=[WRITER, {**WRITER, "name": "b"}], controls=["shuffled", "generic", "none"])
    arms = [(arm.explainer, arm.control) for arm in found.explanation_arms]
    assert arms == [("a", None), ("a", "shuffled"), ("b", None), ("b", "shuffled"), (None, "generic"), (None, "none")]
    assert [(arm.scorer, arm.rung) for arm in found.score_arms] == [("detection", "random")]
    assert len(found.real_arms("words")) == 2
    assert len(found.control_arms("words")) == 4


def test_the_lexical_baseline_is_a_control_of_each_coder_and_changes_no_other_arm(plan: Callable[..., Plan]) -> None:
    without, found = plan(controls=["shuffled", "none"]), plan(controls=["shuffled", "none", "lexical"])
    (own,) = set(found.explanation_arms) - set(without.explanation_arms)
    assert (own.explainer, own.control, own.coder) == (None, "lexical", "words")
    assert set(without.explanation_arms) < set(found.explanation_arms)
    assert without.score_arms == found.score_arms
    assert found.explainer(own).models == ("lexical/rules",)
    # it is explained on the examples of the arms: whatever changes theirs changes its key
    for override in ("examples.shown.count=7", "seed=1", "examples.window=16"):
        changed = plan(controls=["lexical"], overrides=(override,))
        assert own.digest not in {arm.digest for arm in changed.explanation_arms}


def test_a_population_has_an_arm_of_each_explainer_and_is_judged_by_each_scorer(plan: Callable[..., Plan]) -> None:
    intruder = {"name": "intruder", "kind": "intruder", "model": "lexical/rules"}
    tables = {"explainer": [WRITER, {**WRITER, "name": "b"}], "scorer": [JUDGE, intruder]}
    coder = CoderSettings(name="words", kind="random-sae")
    places = [PopulationPlace("words~random-coder", "random-coder", "other", coder)]
    without, found = plan(**tables), plan(populations=places, **tables)
    assert set(without.explanation_arms) < set(found.explanation_arms)
    assert set(without.score_arms) < set(found.score_arms)
    own = [arm for arm in found.explanation_arms if arm.coder == "words~random-coder"]
    assert [(arm.explainer, arm.control) for arm in own] == [
        ("a", "random-coder"),
        ("b", "random-coder"),
        (None, "random-coder"),
    ]
    assert [[score.scorer for score in found.scoring(arm)] for arm in own] == [
        ["detection"],
        ["detection"],
        ["intruder"],
    ]
    assert found.real_arms("words~random-coder") == ()
    moved = plan(populations=[replace(places[0], store_id="third")], **tables)
    assert {arm.digest for arm in own[:2]}.isdisjoint(arm.digest for arm in moved.explanation_arms)


def test_a_scorer_judges_the_explainers_that_it_names_and_controls_without_one(plan: Callable[..., Plan]) -> None:
    chosen = {**JUDGE, "name": "chosen", "explainers": ["b"]}
    found = plan(explainer=[WRITER, {**WRITER, "name": "b"}], scorer=[JUDGE, chosen], controls=["shuffled", "none"])
    by = {
        (arm.explainer, arm.control): [score.scorer for score in found.scoring(arm)] for arm in found.explanation_arms
    }
    assert by == {
        ("a", None): ["detection"],
        ("a", "shuffled"): ["detection"],
        ("b", None): ["detection", "chosen"],
        ("b", "shuffled"): ["detection", "chosen"],
        (None, "none"): ["detection", "chosen"],
    }
    # whom it judges changes nothing of what it says of them
    assert len({arm.digest for arm in found.score_arms}) == 1


def test_misplaced_marks_are_asked_of_scorers_that_show_marks(plan: Callable[..., Plan]) -> None:
    fuzzing = {**JUDGE, "name": "fuzzing", "kind": "fuzzing"}
    rungs = ('examples.scored.rungs=["random", "misplaced"]',)
    found = plan(scorer=[JUDGE, fuzzing], overrides=rungs)
    assert [(arm.scorer, arm.rung) for arm in found.score_arms] == [
        ("detection", "random"),
        ("fuzzing", "random"),
        ("fuzzing", "misplaced"),
    ]
    with pytest.raises(TaskError, match='rungs: no scorer is asked on "misplaced": add one that is'):
        plan(scorer=[JUDGE], overrides=rungs)


def test_equal_tasks_have_equal_arms(plan: Callable[..., Plan]) -> None:
    assert _digests(plan()) == _digests(plan())


@pytest.mark.parametrize(
    "change",
    [
        {"overrides": ("seed=1",)},
        {"store": "another"},
        {"overrides": ("examples.window=16",)},
        {"overrides": ("examples.scored.activating=20", "examples.scored.non_activating=20")},
        {"overrides": ("examples.split={shown = 0.5, select = 0.1, scored = 0.4}",)},
        {"coder": [{"name": "other", "kind": "planted"}]},
    ],
)
def test_what_decides_examples_changes_every_key(plan: Callable[..., Plan], change: dict[str, Any]) -> None:
    old, new = _digests(plan(controls=["shuffled"])), _digests(plan(controls=["shuffled"], **change))
    assert set(old[0]).isdisjoint(new[0])
    assert set(old[1]).isdisjoint(new[1])


def test_how_many_are_shown_changes_explanations_and_no_scores_keys(plan: Callable[..., Plan]) -> None:
    old, new = _digests(plan(controls=[])), _digests(plan(controls=[], overrides=("examples.shown.count=7",)))
    assert set(old[0]).isdisjoint(new[0])
    assert old[1] == new[1]


@pytest.mark.parametrize("override", ["name=other", "latents.sample=9", "limits.latents=2", "limits.requests=5"])
def test_what_decides_no_result_changes_no_key(plan: Callable[..., Plan], override: str) -> None:
    assert _digests(plan()) == _digests(plan(overrides=(override,)))


def test_a_renamed_arm_keeps_its_keys(plan: Callable[..., Plan]) -> None:
    renamed = plan(explainer=[{**WRITER, "name": "z"}], scorer=[{**JUDGE, "name": "y"}])
    assert _digests(plan(explainer=[WRITER], scorer=[JUDGE])) == _digests(renamed)


@pytest.mark.parametrize("change", [{"batch": 3}, {"model": "openai-api/fake/other"}, {"kind": "fuzzing"}])
def test_a_scorers_settings_change_its_keys_and_no_explanations(
    plan: Callable[..., Plan], change: dict[str, Any]
) -> None:
    old, new = _digests(plan(scorer=[JUDGE])), _digests(plan(scorer=[{**JUDGE, **change}]))
    assert old[0] == new[0]
    assert set(old[1]).isdisjoint(new[1])


def test_a_models_settings_change_the_keys_of_those_who_ask_it(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    tables = {"explainer": [{**WRITER, "model": "openai/m"}], "controls": []}
    old, new = plan(**tables), plan(**tables, model={"openai/m": {"extra": {"top_p": 0.5}}})
    assert _digests(old)[0] != _digests(new)[0]
    assert _digests(old)[1] == _digests(new)[1]


def test_a_prompts_content_decides_and_not_its_name(plan: Callable[..., Plan], tmp_path: Path) -> None:
    import harness.resources

    source = (harness.resources.folder("prompts") / "detect" / "default.toml").read_text()
    (tmp_path / "same.toml").write_text(source)
    (tmp_path / "other.toml").write_text(source.replace("max_tokens = ", "max_tokens = 1"))
    shipped, same, other = (
        _digests(plan(scorer=[{**JUDGE, "prompt": prompt}]))[1] for prompt in ("default", "./same.toml", "./other.toml")
    )
    assert shipped == same
    assert shipped != other


def test_a_second_scorer_or_rung_changes_no_other_arm(plan: Callable[..., Plan]) -> None:
    alone, both = plan(scorer=[JUDGE]), plan(scorer=[JUDGE, {**JUDGE, "name": "f", "kind": "fuzzing"}])
    assert set(_digests(alone)[1]) < set(_digests(both)[1])
    assert _digests(alone)[0] == _digests(both)[0]


def test_a_second_explainer_changes_no_other_arm(plan: Callable[..., Plan]) -> None:
    alone, both = plan(), plan(explainer=[WRITER, {**WRITER, "name": "b", "model": "openai-api/fake/b"}])
    assert set(_digests(alone)[0]) < set(_digests(both)[0])


def test_every_arm_of_a_task_has_a_digest_of_its_own(plan: Callable[..., Plan]) -> None:
    found = plan(
        coder=[{"name": "words", "kind": "planted"}, {"name": "more", "kind": "planted"}],
        explainer=[WRITER, {**WRITER, "name": "b", "model": "openai-api/fake/b"}],
        scorer=[JUDGE, {**JUDGE, "name": "f", "kind": "fuzzing"}],
    )
    asked = [arm.digest for arm in found.explanation_arms if arm.control != "none"]
    assert len(set(asked)) == len(asked) == 8
    assert len({arm.digest for arm in found.score_arms}) == 4


def test_keys_tell_latents_explanations_and_partners_apart(plan: Callable[..., Plan]) -> None:
    found = plan()
    arm, shuffled = found.explanation_arms[0], found.explanation_arms[1]
    judge = found.score_arms[0]
    keys = [
        explanation_key(arm, 1),
        explanation_key(arm, 2),
        shuffled_key(shuffled, 1, 2),
        shuffled_key(shuffled, 1, 3),
        score_key(judge, 1, None),
        score_key(judge, 2, None),
        score_key(judge, 1, Explanation("x")),
        score_key(judge, 1, Explanation("y")),
        score_key(judge, 1, Explanation("x", {"kind": "tokens", "tokens": ["x"]})),
    ]
    assert len(set(keys)) == len(keys)
    assert score_key(judge, 1, Explanation("x")) == score_key(judge, 1, Explanation("x"))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_order_of_latents_is_a_permutation_that_depends_on_seed_and_coder(seed: int) -> None:
    order = latent_order(seed, "res6", 5000)
    assert sorted(order.tolist()) == list(range(5000))
    assert order.tolist() == latent_order(seed, "res6", 5000).tolist()
    assert order.tolist() != latent_order(seed + 1, "res6", 5000).tolist()
    assert order.tolist() != latent_order(seed, "res7", 5000).tolist()


def test_a_narrower_coder_has_the_same_latents_in_the_same_order() -> None:
    wide, narrow = latent_order(0, "res6", 5000), latent_order(0, "res6", 1000)
    assert wide[wide < 1000].tolist() == narrow.tolist()


def test_first_places_in_the_order_are_uniform() -> None:
    firsts = np.concatenate([latent_order(seed, "c", 100)[:10] for seed in range(400)])
    counts = np.bincount(firsts, minlength=100)
    # chi-squared with 99 degrees of freedom: 0.999 quantile 148
    assert float(((counts - 40) ** 2 / 40).sum()) < 148
    neighbours = np.concatenate([np.diff(latent_order(seed, "c", 100)) for seed in range(100)])
    assert abs(float((neighbours == 1).mean()) - 0.01) < 0.004


@pytest.mark.parametrize(
    ("tables", "error", "told"),
    [
        ({"scorer": [{**JUDGE, "kind": "detecton"}]}, UnknownKind,
         r'scorer\.detection: there is no scorer "detecton"; did you mean "detection"\?'),
        ({"explainer": [{**WRITER, "kind": "context"}]}, UnknownKind, r'explainer\.a: .*did you mean "contexts"\?'),
        ({"scorer": [{**JUDGE, "bach": 3}]}, TaskError, r"scorer\.detection: bach: unknown key; did you mean batch\?"),
        ({"scorer": [{**JUDGE, "batch": 0}]}, TaskError, r"scorer\.detection: batch: input should be greater"),
        ({"scorer": [{**JUDGE, "kind": "fuzzing", "threshold": 2}]}, TaskError, r"scorer\.detection: threshold: "),
        ({"scorer": [{"name": "d", "kind": "detection"}]}, TaskError, r"scorer\.d: model: is missing"),
        ({"explainer": [{**WRITER, "prompt": "defalt"}]}, PromptError, r'explainer\.a: .*no prompt "defalt"'),
        ({"explainer": [{**WRITER, "model": "gpt-5"}]}, UnknownKind, r'explainer\.a: model "gpt-5": write it as '),
        ({"explainer": [{**WRITER, "model": "opnai/gpt-5"}]}, UnknownKind, r'explainer\.a: .*did you mean "openai"\?'),
        ({"explainer": [{**WRITER, "model": "openai/gpt-5"}]}, MissingKey, r"explainer\.a: .*OPENAI_API_KEY"),
        ({"model": {"lexical/rules": {"tempo": 1}}}, TaskError, r'model\."lexical/rules"\]: tempo: unknown key'),
    ],
)  # fmt: skip
def test_an_arm_that_is_wrong_is_told_with_file_and_table(
    plan: Callable[..., Plan], tables: dict[str, Any], error: type[UserError], told: str
) -> None:
    with pytest.raises(error, match=rf"task\.toml: .*{told}") as caught:
        plan(**tables)
    assert str(caught.value).count("task.toml") == 1
