"""A judge's sheet in words and cells, for reports and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.judges.items import KINDS
from harness.judges.sheet import Difference, Rate, Sheet
from harness.report.data import JudgeLine
from harness.report.text import STATUS_WORDS, count, figure, span
from harness.report.words import listed

__all__ = ["cells", "judge_lines", "standing"]


def cells(sheet: Sheet) -> Iterator[tuple[str, str]]:
    """A sheet's figures, each with its name."""
    yield "prompts answered (parse rate)", _rate(sheet.parse)
    yield "true: 1s where it holds (TPR)", _rate(sheet.tpr)
    yield "true: 1s where it does not hold (FPR)", _rate(sheet.fpr)
    yield "TPR - FPR", _difference(sheet.separation)
    for name, told in (("near miss", sheet.near_miss), ("wrong", sheet.wrong)):
        yield f"{name}: 1s where only the latent fires (right: 0)", _rate(told.firing)
        yield f"{name}: 1s where neither (right: 0)", _rate(told.silent)
        yield f"{name}: 1s where it holds (right: 1)", _rate(told.holding)
    yield "TPR minus the 1s on near misses", _difference(sheet.discernment)
    yield "verdicts changed in other batches (flips)", "one a prompt" if sheet.flips is None else _rate(sheet.flips)
    yield "AUROC", figure(sheet.auroc)
    yield "Brier score", figure(sheet.brier)
    yield "failed prompts", _failures(sheet)
    yield (
        "calls / tokens in / tokens out a verdict",
        " / ".join(f"{number / sheet.asked:.3g}" for number in (sheet.calls, sheet.prompt_tokens, sheet.reply_tokens)),
    )
    yield "dollars for 1,000 verdicts", _dollars(sheet)


def standing(sheet: Sheet) -> str:
    """Whether a judge is qualified, and which thresholds it does not meet."""
    return "qualified" if sheet.qualified else f"not qualified: {'; '.join(sheet.why_not)}"


def judge_lines(judges: Sequence[JudgeLine]) -> tuple[str, ...]:
    """A sentence for each scorer that a model judges for: what its sheet says, or that it has none.

    Scorers for which no model can have one share a sentence.
    """
    without: dict[str, list[str]] = {}
    for judge in judges:
        if judge.sheet is None and judge.kind not in KINDS:
            without.setdefault(judge.model, []).append(judge.scorer)
    shared = {
        model: f"Judge not qualified: {model} for {listed(names)}; planted items are for {listed(KINDS)} alone."
        for model, names in without.items()
    }
    lines = (shared[one.model] if one.scorer in without.get(one.model, ()) else _sentence(one) for one in judges)
    return tuple(dict.fromkeys(lines))


def _sentence(judge: JudgeLine) -> str:
    sheet = judge.sheet
    if sheet is not None:
        flips = "" if sheet.flips is None else f", flips {figure(sheet.flips.share)}"
        return (
            f"The judge of {judge.scorer}, {judge.model}, is {standing(sheet)} "
            f"({sheet.date[:10]}, {count(sheet.items)} planted items: TPR {_rate(sheet.tpr)}, FPR {_rate(sheet.fpr)}, "
            f"1s on near misses {_rate(sheet.near_miss.firing)}{flips}, parse rate {figure(sheet.parse.share)})."
        )
    return (
        f"Judge not qualified: {judge.model} for {judge.scorer} has no sheet of just this model, settings, prompt and "
        f"batch beside this run; harness judge {judge.model} makes one."
    )


def _rate(rate: Rate) -> str:
    return figure(rate.share) if rate.low is None or rate.high is None else _with(rate.share, (rate.low, rate.high))


def _difference(difference: Difference | None) -> str:
    return figure(None) if difference is None else _with(difference.value, (difference.low, difference.high))


def _with(value: float | None, ends: tuple[float, float]) -> str:
    return f"{figure(value)} {span(ends)}"


def _failures(sheet: Sheet) -> str:
    words = {str(status): text for status, text in STATUS_WORDS.items()}
    return ", ".join(f"{count(n)} {words.get(status, status)}" for status, n in sheet.failures.items()) or "none"


def _dollars(sheet: Sheet) -> str:
    return "not known" if sheet.dollars is None else f"{1000 * sheet.dollars / sheet.asked:.3g}"
