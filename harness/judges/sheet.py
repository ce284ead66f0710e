"""A judge's sheet: how one model, as one scorer asks it, did on planted items, and whether that is good enough."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness import metrics
from harness.errors import RunError
from harness.judges.items import Group, PlantedSet
from harness.scorers.verdicts import FAILURES, Verdicts
from harness.task import Frozen
from harness.values import Passage, Usage

__all__ = [
    "DISCERNMENT",
    "FLIPS",
    "PARSED",
    "SEPARATION",
    "SHEET",
    "Difference",
    "Rate",
    "Sheet",
    "Told",
    "Trial",
    "assess",
    "find_sheet",
    "read_sheets",
    "reasons",
    "write_sheets",
]

SHEET: Final = "judge.json"
_FORMAT: Final = 1

# A failed prompt counts as chance for all of its windows: with more of them than this a judge's scores are drawn to 0.5
# by what it cannot write, not by what it cannot see.
PARSED: Final = 0.95
# The balanced accuracy of a true explanation is 0.5 + (TPR - FPR) / 2. At 0.5 a perfect explanation scores 0.75, which
# is what the paper's judges give typical ones (its Table A8): below, nothing could be told from anything.
SEPARATION: Final = 0.5
# A near miss scores lower than the truth by half of TPR minus its 1s where only the concept fires: at 0.2 by 0.1, the
# quartiles' distance of real scores from their median (Table A8).
DISCERNMENT: Final = 0.2
# Verdicts that change with the passages asked about together are noise: beyond one in ten they add more variance to a
# score of 200 verdicts than the drawing of these does at an accuracy of 0.95.
FLIPS: Final = 0.1


class Rate(Frozen):
    """A share `found / count` with Jeffreys' interval of 95 %; None throughout where nothing was counted."""

    found: int
    count: int
    share: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Rate:
        """The share of a mask that is true."""
        found, count = int(mask.sum()), len(mask)
        interval = metrics.jeffreys(found, count)
        if interval is None:
            return cls(found=0, count=0, share=None, low=None, high=None)
        return cls(found=found, count=count, share=found / count, low=interval.low, high=interval.high)


class Difference(Frozen):
    """One share minus another, with its interval of 95 % (`metrics.difference_interval`)."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, first: Rate, second: Rate) -> Difference | None:
        """The difference of two rates, None where one has no count."""
        interval = metrics.difference_interval((first.found, first.count), (second.found, second.count))
        if interval is None or first.share is None or second.share is None:
            return None
        return cls(value=first.share - second.share, low=interval.low, high=interval.high)


class Told(Frozen):
    """How often a judge says 1 under an explanation that is not true of the latent.

    By the explanation that is given 0 is right in `firing` (the latent fires and the explanation does not hold) and in
    `silent` (neither), and 1 in `holding` (the explanation holds, though the latent is silent).
    """

    firing: Rate
    silent: Rate
    holding: Rate


class Sheet(Frozen):
    """What one model said, as one scorer asks it, on planted items.

    `identity` is the scorer's: kind, model with its settings, the prompt's digest, batch and whatever else decides its
    verdicts. `items` windows were asked about, and `asked` verdicts in all, those of the second asking included;
    `drawn` is a hash of them. `parse` counts prompts that were answered with labels; `tpr` and `fpr` are of true
    explanations, `separation` their difference; `discernment` is `tpr` minus `near_miss.firing`. `flips` counts
    verdicts that changed when the same windows were asked about in other batches, None where they were not. `auroc` and
    `brier` are of the probabilities of a right 1 by the explanation given, None where there are none. `failures` counts
    prompts. `calls` and tokens are those of all replies, `dollars` None where no price is known. `why_not` has a
    sentence for each threshold that is not met.
    """

    scorer: str
    model: str
    prompt: str
    identity: dict[str, Any]
    date: str
    seed: int
    items: int
    asked: int
    drawn: str
    parse: Rate
    tpr: Rate
    fpr: Rate
    separation: Difference | None
    near_miss: Told
    wrong: Told
    discernment: Difference | None
    flips: Rate | None
    auroc: float | None
    brier: float | None
    failures: dict[str, int]
    calls: int
    prompt_tokens: int
    reply_tokens: int
    dollars: float | None
    why_not: tuple[str, ...]

    @property
    def qualified(self) -> bool:
        """Whether every threshold is met."""
        return not self.why_not


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A set as it was asked: its windows as shown, and the verdicts.

    `again` are the verdicts of the second asking in the order of that, `order` `[examples]` the places of its windows
    in the first; both None where there was none.
    """

    planted: PlantedSet
    passages: Sequence[Passage]
    first: Verdicts
    again: Verdicts | None = None
    order: NDArray[np.int64] | None = None


def assess(trials: Sequence[Trial], batch: int, usage: Usage) -> dict[str, Any]:
    """A sheet's figures out of its trials, JSON-able but for the rates; `batch` is the number of windows a prompt."""
    items = _Items.of(trials)
    true, truth = items.group == "true", items.truth
    tpr, fpr = items.ones(true & truth), items.ones(true & ~truth)
    near, wrong = _told(items, "near miss"), _told(items, "wrong")
    prompts = [status for trial in trials for status in _prompts(trial, batch)]
    both = items.answered & items.answered_again
    asked_again = any(trial.again is not None for trial in trials)
    found = {
        "items": len(truth),
        "asked": len(truth) * (2 if asked_again else 1),
        "parse": Rate.of(np.array([status is None for status in prompts], bool)),
        "tpr": tpr,
        "fpr": fpr,
        "separation": Difference.of(tpr, fpr),
        "near_miss": near,
        "wrong": wrong,
        "discernment": Difference.of(tpr, near.firing),
        "flips": Rate.of((items.label != items.label_again)[both]) if asked_again else None,
        **_ranking(items),
        "failures": dict(Counter(status for status in prompts if status is not None)),
        "calls": usage.requests,
        "prompt_tokens": usage.input + usage.cache_read + usage.cache_write,
        "reply_tokens": usage.output,
        "dollars": usage.cost,
    }
    return {**found, "why_not": tuple(reasons(found))}


def reasons(found: Mapping[str, Any]) -> list[str]:
    """A sentence for each threshold that figures do not meet."""
    told = []
    parse, flips = found["parse"], found["flips"]
    if parse.share is None or parse.share < PARSED:
        told.append(f"the parse rate {_number(parse.share)} is below {PARSED:g}")
    for name, words, least in (
        ("separation", "TPR - FPR", SEPARATION),
        ("discernment", "TPR minus the 1s on near misses", DISCERNMENT),
    ):
        difference = found[name]
        if difference is None:
            told.append(f"{words} is not known")
        elif difference.low < least:
            told.append(f"{words} may be {_number(difference.low)}, below {least:g}")
    if flips is not None and flips.share is not None and flips.share > FLIPS:
        told.append(f"{_number(flips.share)} of the verdicts change with the batch, more than {FLIPS:g}")
    return told


def read_sheets(path: Path) -> tuple[Sheet, ...]:
    """The sheets of a file.

    Raises:
        RunError: it cannot be read, or holds none.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != _FORMAT:
            raise RunError(f"{path}: a judge's sheet of format {data['format']}; this version reads {_FORMAT}")
        return tuple(Sheet.model_validate(sheet) for sheet in data["sheets"])
    except OSError as error:
        raise RunError(f"{path}: the judge's sheet cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: no judge's sheet; move it away and ask again") from error


def write_sheets(path: Path, sheets: Sequence[Sheet]) -> None:
    """Put sheets into a file beside what it has; one of the same scorer, model, settings and prompt is replaced."""
    kept = read_sheets(path) if path.exists() else ()
    new = [_plain(sheet.identity) for sheet in sheets]
    whole = [*(sheet for sheet in kept if sheet.identity not in new), *sheets]
    temporary = path.with_name(path.name + ".tmp")
    data = {"format": _FORMAT, "sheets": [sheet.model_dump(mode="json") for sheet in whole]}
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def find_sheet(folder: Path, identity: Mapping[str, Any]) -> Sheet | None:
    """The newest sheet in `judge-*` folders of a folder that is of just this scorer, model, settings and prompt."""
    wanted = _plain(identity)
    found: list[Sheet] = []
    for path in sorted(folder.glob(f"judge-*/{SHEET}")):
        try:
            found += [sheet for sheet in read_sheets(path) if sheet.identity == wanted]
        except RunError:  # a report goes without a sheet that cannot be read, and says that there is none
            continue
    return max(found, key=lambda sheet: sheet.date, default=None)


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return json.loads(json.dumps(value))


@dataclass(frozen=True, slots=True, eq=False)
class _Items:
    """All windows of a scorer's trials, `[items]`: labels are -1 where there is none."""

    group: NDArray[np.str_]
    truth: NDArray[np.bool_]
    right: NDArray[np.bool_]
    label: NDArray[np.int64]
    probability: NDArray[np.float64]
    label_again: NDArray[np.int64]

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> _Items:
        rights = [trial.planted.right(trial.passages) for trial in trials]
        return cls(
            np.concatenate([[trial.planted.group] * len(trial.first) for trial in trials]),
            np.concatenate([trial.first.truth.astype(bool) for trial in trials]),
            np.concatenate(rights),
            np.concatenate([_labels(trial.first) for trial in trials]),
            np.concatenate([trial.first.probability.astype(np.float64) for trial in trials]),
            np.concatenate([_again(trial) for trial in trials]),
        )

    @property
    def answered(self) -> NDArray[np.bool_]:
        return self.label >= 0

    @property
    def answered_again(self) -> NDArray[np.bool_]:
        return self.label_again >= 0

    def ones(self, mask: NDArray[np.bool_]) -> Rate:
        """How often 1 was said on the answered windows of a mask."""
        return Rate.of(self.label[mask & self.answered] == 1)


def _labels(verdicts: Verdicts) -> NDArray[np.int64]:
    return np.where(verdicts.answered, verdicts.label, -1).astype(np.int64)


def _again(trial: Trial) -> NDArray[np.int64]:
    """The labels of the second asking in the order of the first, -1 where there are none."""
    labels = np.full(len(trial.first), -1, np.int64)
    if trial.again is not None and trial.order is not None:
        labels[trial.order] = _labels(trial.again)
    return labels


def _told(items: _Items, group: Group) -> Told:
    mine = items.group == group
    return Told(
        firing=items.ones(mine & items.truth & ~items.right),
        silent=items.ones(mine & ~items.truth & ~items.right),
        holding=items.ones(mine & items.right),
    )


def _ranking(items: _Items) -> dict[str, float | None]:
    """AUROC and Brier score (the mean squared distance of the probability from what is right) where there are any."""
    given = items.answered & np.isfinite(items.probability)
    right, probability = items.right[given], items.probability[given]
    if not given.any():
        return {"auroc": None, "brier": None}
    area = metrics.auroc(right, probability)
    return {"auroc": None if np.isnan(area) else area, "brier": float(np.square(probability - right).mean())}


def _prompts(trial: Trial, batch: int) -> list[str | None]:
    """How each prompt of a trial failed, None where it was answered."""
    found: list[str | None] = []
    for verdicts in (trial.first, trial.again):
        for start in range(0, 0 if verdicts is None else len(verdicts), batch):
            assert verdicts is not None
            codes = verdicts.failure[start : start + batch]
            found.append(FAILURES[int(codes.max()) - 1] if codes.any() else None)
    return found


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.2f}"
