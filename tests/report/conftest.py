"""A seeded report as a run would give it: 40 latents, three arms, two judges with errors, failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harness.analysis.spending import SpendingLine
from harness.report.data import (
    CoderLine,
    Comparison,
    Curve,
    CurvePoint,
    FailureCount,
    Header,
    Lift,
    Primary,
    ReportData,
    RoleLine,
    ScorerLine,
    SummaryRow,
)
from harness.report.evidence import (
    Arm,
    ExplanationLine,
    LatentReport,
    ScoredExample,
    ScoreLine,
    ShownExample,
    Trace,
    TraceCall,
    TraceStep,
    VerdictLine,
)
from harness.values import Latent

ARMS = (Arm("lexical"), Arm("lexical", "shuffled"), Arm(None, "none"))
SCORERS = (ScorerLine("detection", "balanced_accuracy", 0.5), ScorerLine("fuzzing", "balanced_accuracy", 0.5))
# how far a judge's verdicts are better than chance, by arm and scorer
SKILL = {ARMS[0]: (0.82, 0.74), ARMS[1]: (0.08, 0.05), ARMS[2]: (0.15, 0.02)}

PLACES = ["harbour", "market", "station", "garden", "kitchen", "library", "bridge", "village", "meadow", "workshop"]
PEOPLE = ["Anna", "Tomas", "the baker", "the captain", "my sister", "our neighbour", "Dr Hale", "the clerk"]
VERBS = ["carried", "mended", "praised", "forgot", "counted", "painted", "borrowed", "weighed", "opened", "described"]
THINGS = [
    "a lamp",
    "two letters",
    "the ledger",
    "a basket of pears",
    "the red boat",
    "an old map",
    "three coats",
    "the kettle",
]
TAILS = [
    "before the rain began",
    "in early March",
    "without a word",
    "for the second time",
    "as the clock struck nine",
    "near dusk",
]


def _sentence(rng: np.random.Generator) -> list[str]:
    pick = lambda words: str(rng.choice(words))  # noqa: E731 - short for what follows
    text = f" {pick(PEOPLE)} {pick(VERBS)} {pick(THINGS)} at the {pick(PLACES)} {pick(TAILS)}."
    pieces: list[str] = []
    for word in text.replace(".", " .").split(" ")[1:]:
        pieces += ["."] if word == "." else [" " + word] if len(word) < 8 else [" " + word[:5], word[5:]]
    return pieces


def _window(rng: np.random.Generator, size: int = 32) -> tuple[str, ...]:
    pieces: list[str] = []
    while len(pieces) < size:
        pieces += _sentence(rng)
        if rng.random() < 0.15:
            pieces.append("\n")
    return tuple(pieces[:size])


def _fired(rng: np.random.Generator, quantile: int, size: int = 32) -> np.ndarray:
    values = np.zeros(size, dtype=np.float32)
    peak = 12 * (quantile / 10) ** 1.6 * rng.uniform(0.9, 1.1)
    for position in rng.choice(size, size=int(rng.integers(1, 4)), replace=False):
        values[position] = peak * rng.uniform(0.3, 1)
    values[int(rng.integers(size))] = peak
    return values


def _verdicts(rng: np.random.Generator, truth: bool, quantile: int | None, worth: float) -> tuple[VerdictLine, ...]:
    verdicts = []
    for arm in ARMS:
        for scorer, skill in zip(SCORERS, SKILL[arm], strict=True):
            if rng.random() < 0.004:
                verdicts.append(VerdictLine(arm, scorer.name, None, None, "unparsable"))
                continue
            strength = 1.0 if quantile is None else 0.5 + 0.06 * quantile
            right = rng.random() < 0.5 + 0.5 * skill * worth * strength
            label = int(truth == right)
            verdicts.append(
                VerdictLine(arm, scorer.name, label, float(np.clip(rng.normal(0.15 + 0.7 * label, 0.12), 0, 1)))
            )
    return tuple(verdicts)


def _scored(rng: np.random.Generator, worth: float, each: int) -> tuple[ScoredExample, ...]:
    examples = []
    for number in range(2 * each):
        truth = number % 2 == 0
        quantile = 1 + number // 2 % 10 if truth else None
        activations = _fired(rng, quantile) if quantile else np.zeros(32, dtype=np.float32)
        marks = np.flatnonzero(activations) if truth else rng.choice(32, size=2, replace=False)
        examples.append(
            ScoredExample(
                _window(rng),
                activations,
                truth,
                quantile,
                "random",
                _verdicts(rng, truth, quantile, worth),
                {"fuzzing": tuple(int(m) for m in sorted(marks))},
            )
        )
    return tuple(examples)


def _score(arm: Arm, scorer: ScorerLine, scored: tuple[ScoredExample, ...]) -> ScoreLine:
    told = [(e.truth, v) for e in scored for v in e.verdicts if v.arm == arm and v.scorer == scorer.name]
    kept = [(truth, v.label == 1) for truth, v in told if v.label is not None]
    hits = np.mean([said for truth, said in kept if truth])
    quiet = np.mean([not said for truth, said in kept if not truth])
    value = float((hits + quiet) / 2)
    metrics = {
        "balanced_accuracy": value,
        "f1": float(np.clip(value - 0.02, 0, 1)),
        "auroc": float(np.clip(value + 0.03, 0, 1)),
    }
    n_pos = sum(truth for truth, _ in kept)
    return ScoreLine(
        arm,
        scorer.name,
        "random",
        "ok",
        metrics,
        n_pos,
        len(kept) - n_pos,
        len(told) - len(kept),
        (value - 0.06, value + 0.05),
    )


def _explanations(rng: np.random.Generator, word: str, number: int) -> tuple[ExplanationLine, ...]:
    if number == 7:
        own = ExplanationLine(ARMS[0], None, "unparsable", "the reply holds no [explanation]: line")
    else:
        own = ExplanationLine(
            ARMS[0], f"The token “ {word}” ({int(rng.integers(55, 97))} % of firings), mostly after “ the”.", "ok"
        )
    other = ExplanationLine(ARMS[1], f"The token “ {rng.choice(VERBS)}”, seldom others.", "ok", partner=2902)
    return own, other, ExplanationLine(ARMS[2], None, "ok")


def _latent(rng: np.random.Generator, number: int, each: int) -> LatentReport:
    index = int(rng.integers(0, 4096)) * 100 + number
    if number == 11:
        return LatentReport(Latent("res6", index), "transformer.h.5", 0.4, (), (), (), (), 3e-5, "too_few_examples")
    scored = _scored(rng, float(rng.beta(4, 1.5)), each)
    shown = []
    for count in range(each // 2):
        quantile = 1 + count % 10
        shown.append(ShownExample(_window(rng), _fired(rng, quantile), quantile))
    explanations = _explanations(rng, str(rng.choice([*PLACES, *VERBS])), number)
    scores = [
        _score(arm, scorer, scored)
        if explanations[a].status == "ok"
        else ScoreLine(
            arm, scorer.name, "random", explanations[a].status, {}, message="there is no explanation to judge"
        )
        for a, arm in enumerate(ARMS)
        for scorer in SCORERS
    ]
    rate = float(10 ** rng.uniform(-4, -0.6))
    made = LatentReport(
        Latent("res6", index), "transformer.h.5", 13.2, explanations, tuple(scores), tuple(shown), scored, rate
    )
    return replace(made, traces=(TRACE,)) if number == 0 else made


TRACE = Trace(
    ARMS[0],
    (
        TraceStep("I look.", (TraceCall("read", '{"texts": ["a"]}', "1. a\n   (silent)"),), 1200),
        TraceStep("", (TraceCall("rm", "{}", "error: there is no tool of that name", failed=True),), 1300, "the end"),
    ),
)


def _values(latents: tuple[LatentReport, ...], arm: Arm, scorer: str) -> np.ndarray:
    return np.array(
        [
            line.metrics.get("balanced_accuracy", 0.5)
            for latent in latents
            for line in latent.scores
            if line.arm == arm and line.scorer == scorer
        ]
    )


def _interval(values: np.ndarray) -> tuple[float, float]:
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _summary(latents: tuple[LatentReport, ...], arm: Arm, scorer: ScorerLine) -> SummaryRow:
    own = _values(latents, arm, scorer.name)
    lifts = []
    for control in ARMS[1:] if arm.control is None else ():
        difference = own - _values(latents, control, scorer.name)
        lifts.append(Lift(control.control or "", float(difference.mean()), _interval(difference)))
    failed = sum(
        line.status != "ok" for x in latents for line in x.scores if line.arm == arm and line.scorer == scorer.name
    )
    return SummaryRow(
        arm,
        scorer.name,
        scorer.metric,
        float(own.mean()),
        _interval(own),
        len(own),
        failed,
        float(own.mean() + 0.004),
        lifts=tuple(lifts),
    )


def _comparison(latents: tuple[LatentReport, ...], first: Arm, second: Arm, scorer: ScorerLine) -> Comparison:
    difference = _values(latents, first, scorer.name) - _values(latents, second, scorer.name)
    low, high = _interval(difference)
    outcome = (
        "differ" if low > 0 or high < 0 else "equivalent" if abs(low) < 0.02 and abs(high) < 0.02 else "inconclusive"
    )
    p = 0.0002 if outcome == "differ" else 0.31
    return Comparison(
        first,
        second,
        scorer.name,
        scorer.metric,
        outcome,
        float(difference.mean()),
        (low, high),
        p,
        len(difference),
        0.02,
        0.031,
        212,
    )


def _curve(latents: tuple[LatentReport, ...], arm: Arm, scorer: str) -> Curve:
    found: dict[int | None, list[bool]] = {}
    for latent in latents:
        for example in latent.scored:
            for verdict in example.verdicts:
                if verdict.arm == arm and verdict.scorer == scorer and verdict.label is not None:
                    found.setdefault(example.quantile, []).append(bool(verdict.label) == example.truth)
    points = []
    for quantile in sorted(found, key=lambda q: q or 0):
        share, n = float(np.mean(found[quantile])), len(found[quantile])
        half = 1.96 * np.sqrt(share * (1 - share) / n)
        points.append(CurvePoint(quantile, share, n, (max(0, share - half), min(1, share + half))))
    return Curve(arm, scorer, tuple(points))


def build(latents: int = 40, each: int = 50, seed: int = 0) -> ReportData:
    """A report of that many latents, with `each` activating and as many other scored examples."""
    rng = np.random.default_rng(seed)
    pages = tuple(_latent(rng, number, each) for number in range(latents))
    header = Header(
        task="demo",
        subject="fixtures/subject",
        corpus="fixtures/corpus (300,032 tokens)",
        seed=0,
        coders=(CoderLine("res6", "transformer.h.5", 4096, "fixtures/sae, revision 3f9c21a", 0.214, 11.8),),
        roles=(
            RoleLine("explainer", "lexical", "contexts", "lexical/default", model_free=True),
            RoleLine("scorer", "detection", "detection", "lexical/default", model_free=True),
            RoleLine(
                "scorer",
                "fuzzing",
                "fuzzing",
                "openai/gpt-5-mini",
                model_free=False,
                prompt="default",
                digest="9f" * 32,
            ),
        ),
        primary=Primary("detection", "balanced_accuracy", 0.02),
        versions={"latent-harness": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        counts={"latents": latents, "explanations": latents * 2, "scores": latents * 6},
        failures=(FailureCount("explainer lexical", "unparsable", 1), FailureCount("fuzzing", "unparsable", 64)),
        spending=(
            SpendingLine(
                "score",
                "detection",
                "openai/gpt-5-mini",
                4_012,
                4_100,
                {"rate_limited": 88},
                0,
                1_237_451,
                1_204_331,
                800_000,
                33_120,
                0,
                1.274,
                0.8,
                2.5,
            ),
        ),
        seconds=143.2,
    )
    pairs = ((ARMS[0], ARMS[1]), (ARMS[0], ARMS[2]), (ARMS[1], ARMS[2]))
    return ReportData(
        header,
        ARMS,
        SCORERS,
        tuple(_summary(pages, arm, scorer) for scorer in SCORERS for arm in ARMS),
        tuple(_comparison(pages, first, second, scorer) for scorer in SCORERS for first, second in pairs),
        tuple(_curve(pages, arm, scorer.name) for scorer in SCORERS for arm in ARMS),
        pages,
    )


@pytest.fixture(scope="session")
def data() -> ReportData:
    return build()


@pytest.fixture(scope="session")
def make_report() -> Callable[..., ReportData]:
    return build
