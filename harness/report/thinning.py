"""Which examples of a latent a report of very many latents keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.report.evidence import LatentReport, ScoredExample, VerdictLine

__all__ = ["KEPT", "error", "thinned"]

FIFTHS, EACH, WORST = 5, 2, 2
KEPT = FIFTHS * EACH + WORST
# quantiles of activation that make one fifth
_QUANTILES = 2
_STRONGEST = 10.0
_TOKENS = 8


def thinned(latent: LatentReport) -> LatentReport:
    """A latent with two scored examples of each fifth of its activations and the two judged worst, and none shown.

    The first of each fifth are taken, in their own random order. Where there are no quantiles, as of selected records,
    the first activating ones stand for the fifths. Prompts, replies and traces are left out, numbers have fewer digits,
    and of its common tokens there are fewer. Two pairs of continuations stay for
    each target of an intervention.
    """
    fifths: dict[int, list[int]] = {}
    for at, example in enumerate(latent.scored):
        if example.truth:
            fifth = 0 if example.quantile is None else (example.quantile - 1) // _QUANTILES
            fifths.setdefault(fifth, []).append(at)
    each = EACH if len(fifths) > 1 else FIFTHS * EACH
    kept = {at for found in fifths.values() for at in found[:each]}
    others = [at for at in range(len(latent.scored)) if at not in kept]
    others.sort(key=lambda at: -error(latent.scored[at]))
    kept.update(others[:WORST])
    scored = tuple(_rounded(latent.scored[at]) for at in sorted(kept))
    profile = latent.profile and replace(latent.profile, tokens=latent.profile.tokens[:_TOKENS])
    changes = tuple(replace(change, pairs=change.pairs[:EACH]) for change in latent.changes)
    return replace(latent, shown=(), scored=scored, exchanges=(), traces=(), profile=profile, changes=changes)


def _rounded(example: ScoredExample) -> ScoredExample:
    """An example with probabilities in hundredths, which is what is shown of them, and activations to three digits."""
    verdicts = tuple(
        verdict if verdict.probability is None else replace(verdict, probability=round(verdict.probability, 2))
        for verdict in example.verdicts
    )
    activations = np.array([float(f"{value:.3g}") for value in example.activations.tolist()], np.float32)
    return replace(example, verdicts=verdicts, activations=activations)


def error(example: ScoredExample) -> float:
    """How far real arms' verdicts are from the truth, in all; failures and values that only order count nothing."""
    return sum(_wrong(example, verdict) for verdict in example.verdicts if verdict.arm.control is None)


def _wrong(example: ScoredExample, verdict: VerdictLine) -> float:
    if verdict.right is not None:
        return float(not verdict.right)
    if verdict.label is not None:
        said = float(verdict.label) if verdict.probability is None else verdict.probability
        return abs(said - float(example.truth))
    if verdict.strengths:
        peak = max((level for level in verdict.strengths if level == level), default=0.0)  # NaN alone is not itself
        return abs(peak / _STRONGEST - float(example.truth))
    return 0.0
