"""What a report shows of interventions on a latent: continuations in pairs, with what scorers said of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.analysis.load import ScoreRow
from harness.report.evidence import Change, PairLine, VerdictLine
from harness.report.reading import Reading
from harness.scorers.verdicts import Verdicts
from harness.subject.intervened import Intervened
from harness.values import Latent

__all__ = ["Said", "told_of"]

# a score, its verdicts, and the same as a report shows them
Said = tuple[ScoreRow, Verdicts, Sequence[VerdictLine]]


def told_of(
    reading: Reading, latent: Latent, said: Sequence[tuple[ScoreRow, Verdicts, Sequence[VerdictLine]]]
) -> Iterator[Change]:
    """The changes of a latent, target by target; `said` are its scores with their verdicts, in the verdicts' order."""
    kls = {
        name: identity["kl"]
        for name, identity in reading.run.record["scorers"].items()
        if identity.get("kind") == "intervention"
    }
    for one in reading.changes.get((latent.coder, latent.index), ()):
        target = one.calibration.target
        of_target = [
            [_of_pair(line, truth) for line, truth in zip(lines, verdicts.truth.tolist(), strict=True)]
            for row, verdicts, lines in said
            if kls.get(row.scoring.scorer) == target and len(lines) == len(one.score)
        ]
        yield _change(one, of_target)


def _change(one: Intervened, said: Sequence[Sequence[VerdictLine]]) -> Change:
    told = one.calibration
    pairs = tuple(
        PairLine(pair.prompt, pair.clean, pair.steered, pair.quantile or None, tuple(lines[at] for lines in said))
        for at, pair in enumerate(one.score)
    )
    return Change(told.target, told.kl if math.isfinite(told.kl) else None, told.strength, told.status, pairs)


def _of_pair(line: VerdictLine, truth: int) -> VerdictLine:
    """A judge's label says which of two was amplified: what a reader wants to know is whether it found it."""
    return line if line.label is None else replace(line, label=None, probability=None, right=line.label == truth)
