"""Interventions on a page: pairs in the journal's order, each with what was said of it at its own target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from harness.report.changes import told_of
from harness.report.data import ReportData
from harness.report.evidence import Arm, VerdictLine
from harness.report.payload import payload
from harness.report.thinning import thinned
from harness.scorers.verdicts import Verdicts
from harness.subject.calibrate_search import Calibration
from harness.subject.intervened import Intervened
from harness.values import Example, Latent, Pair, Passage, Rise

LATENT = Latent("sae", 3)


def _changed(target: float, pairs: int, kl: float = 0.3) -> Intervened:
    rise = Rise("", (), ())
    told = tuple(Pair(f"p{target}-{at}", f"clean {at}", f"steered {at}", None, at % 5) for at in range(pairs))
    return Intervened(Calibration(3, target, 12.0, kl, "ok", ()), (), rise, rise, (), told)


def _reading(*changes: Intervened) -> Any:
    scorers = {
        f"judge-{one.calibration.target}": {"kind": "intervention", "kl": one.calibration.target} for one in changes
    }
    scorers["detection"] = {"kind": "detection"}
    run = SimpleNamespace(record={"scorers": scorers})
    return cast(Any, SimpleNamespace(run=run, changes={("sae", 3): changes}))


def _said(scorer: str, lines: Sequence[VerdictLine], truth: Sequence[int]) -> Any:
    verdicts = Verdicts.of([Example(Passage(("x",)), np.zeros(1, np.float32), None) for _ in lines])
    verdicts.truth[:] = truth
    return SimpleNamespace(scoring=SimpleNamespace(scorer=scorer)), verdicts, lines


def _line(scorer: str, **said: Any) -> VerdictLine:
    return replace(VerdictLine(Arm("a"), scorer, None), **said)


def test_a_pair_stands_beside_what_was_said_of_it_at_its_target() -> None:
    low, high = [_line("judge-0.3", value=float(at)) for at in range(3)], [_line("judge-1.0", value=-1.5)] * 2
    said = [_said("judge-0.3", low, [0] * 3), _said("judge-1.0", high, [0] * 2)]
    first, second = told_of(_reading(_changed(0.3, 3), _changed(1.0, 2)), LATENT, said)
    assert [pair.prompt for pair in first.pairs] == ["p0.3-0", "p0.3-1", "p0.3-2"]
    assert [(pair.clean, pair.steered) for pair in first.pairs][1] == ("clean 1", "steered 1")
    assert [[line.value for line in pair.verdicts] for pair in first.pairs] == [[0.0], [1.0], [2.0]]
    assert [pair.verdicts for pair in second.pairs] == [(high[0],), (high[1],)]
    assert [pair.quantile for pair in first.pairs] == [None, 1, 2]


def test_a_judges_label_becomes_whether_it_found_the_amplified_text() -> None:
    lines = [_line("judge-0.3", label=label, probability=0.9) for label in (0, 1, 1)]
    lines[2] = _line("judge-0.3", failure="refused")
    (change,) = told_of(_reading(_changed(0.3, 3)), LATENT, [_said("judge-0.3", lines, [0, 0, 1])])
    assert [pair.verdicts[0].right for pair in change.pairs] == [True, False, None]
    assert change.pairs[2].verdicts[0].failure == "refused"


def test_verdicts_of_other_scorers_and_of_scores_that_failed_are_at_no_pair() -> None:
    said = [
        _said("detection", [_line("detection", label=1)] * 2, [1, 1]),
        # one verdict stands for all where the interventions failed
        _said("judge-0.3", [_line("judge-0.3", failure="provider_error")], [0]),
    ]
    (change,) = told_of(_reading(_changed(0.3, 2)), LATENT, said)
    assert [pair.verdicts for pair in change.pairs] == [(), ()]


def test_a_kl_that_is_no_number_is_none_and_a_latent_nobody_changed_has_nothing() -> None:
    (change,) = told_of(_reading(_changed(0.3, 1, float("inf"))), LATENT, [])
    assert change.kl is None
    assert list(told_of(_reading(_changed(0.3, 1)), Latent("sae", 4), [])) == []


def test_a_large_report_keeps_two_pairs_a_target(data: ReportData) -> None:
    changes = tuple(told_of(_reading(_changed(0.3, 5), _changed(1.0, 1)), LATENT, []))
    thin = thinned(replace(data.latents[0], changes=changes))
    assert [len(change.pairs) for change in thin.changes] == [2, 1]
    # what is not there takes no room
    assert len(payload(replace(data, latents=(thin,)))[1][0]) > len(
        payload(replace(data, latents=(replace(thin, changes=()),)))[1][0]
    )
