"""A report's sentences say what the numbers say."""

from __future__ import annotations

from dataclasses import replace

from harness.report.data import Comparison, RoleLine
from harness.report.evidence import Arm
from harness.report.words import conclusion, evidence, model_free_lines

DIFFER = Comparison(
    Arm("mini"),
    Arm("sonnet"),
    "detection",
    "balanced_accuracy",
    "differ",
    -0.05,
    (-0.08, -0.02),
    0.0004,
    40,
    0.02,
    0.04,
    90,
)


def test_the_better_arm_is_named_first_with_a_positive_difference() -> None:
    told = conclusion(DIFFER)
    assert told == "sonnet scores higher than mini by 0.050 [0.020, 0.080] in balanced accuracy of detection."
    swapped = replace(DIFFER, first=Arm("sonnet"), second=Arm("mini"), difference=0.05, interval=(0.02, 0.08))
    assert conclusion(swapped) == told


def test_equivalence_names_its_margin() -> None:
    told = conclusion(replace(DIFFER, outcome="equivalent", difference=0.001, interval=(-0.01, 0.012)))
    assert (
        told == "mini and sonnet are equivalent within 0.02 in balanced accuracy of detection: +0.001 [−0.010, 0.012]."
    )


def test_an_inconclusive_comparison_says_how_many_more_latents_settle_it() -> None:
    told = conclusion(replace(DIFFER, outcome="inconclusive", metric="auroc"))
    assert told.startswith("mini and sonnet cannot be told apart in AUROC of detection: −0.050 [−0.080, −0.020].")
    assert told.endswith(" 50 more latents would settle it.")


def test_an_inconclusive_comparison_that_more_latents_would_not_settle_says_why() -> None:
    unknown = conclusion(replace(DIFFER, outcome="inconclusive", n=1, needed=None))
    assert unknown.endswith("These are too few latents to tell how many would settle it.")
    between = conclusion(replace(DIFFER, outcome="inconclusive", n=200))
    assert between.endswith("The difference lies between none and the margin of 0.02.")


def test_arms_without_a_common_latent_are_not_compared() -> None:
    apart = replace(DIFFER, outcome="inconclusive", difference=None, interval=None, p=None, n=0, detectable=None)
    assert conclusion(apart) == "mini and sonnet share no latent that both have a score for."
    assert evidence(apart) == "0 latents"


def test_evidence_names_test_latents_and_power() -> None:
    assert evidence(DIFFER) == "p < 0.001, 40 latents, smallest difference found at 80 % power 0.040"
    assert evidence(replace(DIFFER, detectable=None)) == "p < 0.001, 40 latents"


def test_a_control_is_told_apart_from_its_arm() -> None:
    assert Arm("mini").label == "mini"
    assert Arm("mini", "shuffled").label == "mini (shuffled)"
    assert Arm(None, "none").label == "none"


def _role(role: str, name: str, model: str, *, free: bool) -> RoleLine:
    return RoleLine(role, name, name, model, free)  # pyright: ignore[reportArgumentType] (a plain string)


def test_whatever_answers_without_a_language_model_is_named() -> None:
    roles = [
        _role("explainer", "lex", "lexical/default", free=True),
        _role("explainer", "mini", "openai/gpt-5-mini", free=False),
        _role("scorer", "detection", "truth/planted", free=True),
        _role("scorer", "fuzzing", "truth/planted", free=True),
    ]
    assert model_free_lines(roles) == (
        "The explainer lex is the lexical baseline and no LLM.",
        "Every judge is the planted world's known truth and no LLM.",
    )
    assert model_free_lines(roles[:1]) == ("The explainer is the lexical baseline and no LLM.",)
    assert model_free_lines(roles[1:2]) == ()


def test_several_of_one_kind_share_a_sentence() -> None:
    roles = [_role("scorer", name, "lexical/x", free=True) for name in ("a", "b")]
    roles.append(_role("scorer", "c", "openai/y", free=False))
    assert model_free_lines(roles) == ("The judges a and b are the lexical baseline and no LLM.",)
