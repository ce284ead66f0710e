"""What explainers and scorers came to as units of the journal, and back."""

from __future__ import annotations

from dataclasses import asdict
from itertools import accumulate
from typing import Any

from harness.runs.arms import ExplanationArm, ScoreArm
from harness.runs.journal_rows import Unit
from harness.scorers.base import Scored
from harness.values import Example, Explanation, Failure, Latent, Status, Usage, digest

__all__ = ["RETRYABLE", "explanation_of", "explanation_unit", "failed_unit", "result_hash", "score_unit"]

# failures for a passing reason: done again when the run is resumed
RETRYABLE: frozenset[Status] = frozenset({"provider_error", "over_budget"})


def explanation_unit(
    key: str,
    arm: ExplanationArm,
    latent: Latent,
    answer: Explanation | Failure,
    replies: tuple[str, ...] = (),
    usage: Usage | None = None,
    partner: int | None = None,
) -> Unit:
    """An explanation, or why there is none, as a unit."""
    paid = {"usage": asdict(usage)} if usage is not None else {}
    if isinstance(answer, Failure):
        result = {"message": answer.message, **paid}
        return Unit(key, arm.digest, latent.index, answer.status, result, None, replies, answer.status in RETRYABLE)
    result = {"text": answer.text, "rule": answer.rule, **paid, **({} if partner is None else {"partner": partner})}
    return Unit(key, arm.digest, latent.index, "ok", result, None, replies)


def explanation_of(unit: Unit) -> Explanation | Failure:
    """What `explanation_unit` wrote."""
    if unit.status == "ok":
        return Explanation(unit.result["text"], unit.result["rule"])
    return Failure(unit.status, unit.result["message"])


def failed_unit(key: str, arm: str, latent: int, failure: Failure) -> Unit:
    """That nothing could be asked for a unit of an arm, by its digest."""
    result = {"message": failure.message}
    return Unit(key, arm, latent, failure.status, result, pending=failure.status in RETRYABLE)


def score_unit(key: str, arm: ScoreArm, latent: Latent, scored: Scored) -> Unit:
    """A score as a unit; it stands on the verdicts that are there, at least half of them for each truth.

    With fewer it is a failure of the commonest reason. It is pending while any verdict is missing for a passing
    reason. Texts that stand in no store are kept in `written`, in the order of the verdicts: the text, and for each
    token where the latent is active its characters' start and stop and the activation.
    """
    verdicts = scored.verdicts
    failures = verdicts.failures()
    truth = verdicts.truth.astype(bool)
    enough = all(
        2 * int(verdicts.answered[truth == side].sum()) >= int((truth == side).sum()) for side in (True, False)
    )
    status: Status = "ok" if enough or not failures else failures.most_common(1)[0][0]
    result: dict[str, Any] = {
        "metrics": dict(scored.metrics),
        "failures": dict(failures),
        "usage": asdict(scored.usage),
    }
    if written := [_written(example) for example in scored.examples if example.passage.place is None]:
        result["written"] = written
    return Unit(
        key,
        arm.digest,
        latent.index,
        status,
        result,
        verdicts.pack(),
        scored.replies,
        any(reason in RETRYABLE for reason in failures),
    )


def _written(example: Example) -> list[Any]:
    tokens = example.passage.tokens
    starts = [0, *accumulate(map(len, tokens))]
    active = [
        [starts[at], starts[at + 1], float(f"{value:.5g}")]
        for at, value in enumerate(example.activations.tolist())
        if value > 0
    ]
    return [example.passage.text, active]


def result_hash(unit: Unit) -> str:
    """A hash of what a unit found, for telling two runs apart: status, result and verdicts."""
    return digest([unit.status, unit.result, None if unit.verdicts is None else unit.verdicts.hex()])
