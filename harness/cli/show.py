"""What the command shows: progress while a run goes on, and its results as tables."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from harness.analysis.load import Run
from harness.analysis.tables import latent_table
from harness.clients.ledger import Amount
from harness.report.data import Comparison, Header
from harness.report.header import header
from harness.report.judges import judge_lines
from harness.report.numbers import pair
from harness.report.reading import Reading
from harness.report.spending import spent_line
from harness.report.tables import comparisons, populations
from harness.report.text import count, duration, figure, metric_name, span, visible
from harness.report.words import conclusion, evidence, model_free_lines
from harness.runs.arms import NO_EXPLANATION
from harness.runs.directory import REPORT
from harness.task import POPULATIONS
from harness.values import Status

__all__ = ["Display", "Steps", "console", "print_results"]

# latents in the table of a terminal; the report has them all
_ROWS = 40
# between two lines of progress where there is no terminal
_SECONDS = 10
# and where there is one
_OFTEN = 0.05
# seconds over which the pace of something is taken
_LATELY = 30
# share of windows below which a latent counts as rare
_RARE = 0.05


def console() -> Console:
    """Where results go: standard output, at least as wide as the table of latents needs."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=120)


class _Bars:
    """Progress bars on standard error where that is a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"))
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, *times, console=self._console, disable=not self._console.is_terminal)
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """One line that a person should read."""
        self._console.print(Text(visible(text)))

    def _line(self, text: str, *, last: bool) -> None:
        """Without a terminal: a line at the end of a stage, and every ten seconds before."""
        if not self._bars.disable or not (last or time.monotonic() - self._told > _SECONDS):
            return
        self._told = time.monotonic()
        sys.stderr.write(text + "\n")


class Display(_Bars):
    """How a run goes on: tokens collected, then units done."""

    def __init__(self) -> None:
        super().__init__()
        self._collecting: TaskID | None = None
        self._units: TaskID | None = None
        self._statuses: Counter[Status] = Counter()
        self._latents = (0, 0)
        self._spent: Callable[[], Amount] = Amount
        # units since the bar was last moved, and when that was
        self._behind, self._moved = 0, 0.0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._move()
        super().__exit__(kind, error, trace)

    def collecting(self, done: int, total: int) -> None:
        """Tokens collected so far, of so many."""
        if self._collecting is None:
            self._collecting = self._bars.add_task("collecting", done="", total=total)
        words = f"{count(done)} of {count(total)} tokens"
        self._bars.update(self._collecting, completed=done, total=total, done=words)
        self._line(f"collecting: {words}", last=False)

    def begin(self, latents: int, units: int, spent: Callable[[], Amount]) -> None:
        """Explaining and scoring begin; so many are to do."""
        self._latents = (0, latents)
        self._spent = spent
        self._units = self._bars.add_task("explaining and scoring", done="", total=units)

    def unit(self, status: Status) -> None:
        """A unit is done, now or in an earlier run."""
        self._statuses[status] += 1
        self._behind += 1
        self._update()

    def latent(self) -> None:
        """All units of a latent are done."""
        self._latents = (self._latents[0] + 1, self._latents[1])
        self._update()
        self._line(f"explaining and scoring: {self._words()}", last=self._latents[0] == self._latents[1])

    def _update(self) -> None:
        # moving it takes longer than telling that one of a million latents was done already
        if time.monotonic() - self._moved > _OFTEN:
            self._move()

    def _move(self) -> None:
        if self._units is not None:
            self._bars.update(self._units, advance=self._behind, done=self._words())
        self._behind, self._moved = 0, time.monotonic()

    def _words(self) -> str:
        failed = sum(number for status, number in self._statuses.items() if status != "ok")
        done, total = self._latents
        words = f"{count(done)} of {count(total)} latents" + (f", {count(failed)} units failed" if failed else "")
        spent = self._spent()
        if not spent.tokens:
            return words
        return f"{words}, {count(spent.tokens)} tokens" + (f", ${spent.dollars:.2f}" if spent.dollars else "")


class Steps(_Bars):
    """How something that goes in steps goes on: how far it is, how fast it goes and how long it will take."""

    def __init__(self, what: str, unit: str = "steps") -> None:
        super().__init__()
        self.told = False
        self._what = what
        self._unit = unit
        self._bar: TaskID | None = None
        # when how many were done, of late: what was skipped in no time at the beginning is soon forgotten
        self._lately: deque[tuple[float, int]] = deque()

    def tell(self, done: int, total: int) -> None:
        """Steps done, of so many."""
        self.told = True
        words = f"{count(done)} of {count(total)} {self._unit}"
        if rate := self._rate(done):
            words += f", {count(rate)} a second" + (f", {duration((total - done) / rate)} left" if done < total else "")
        if self._bar is None:
            self._bar = self._bars.add_task(self._what, done=words, total=total)
        self._bars.update(self._bar, completed=done, total=total, done=words)
        self._line(f"{self._what}: {words}", last=done == total)

    def _rate(self, done: int) -> float:
        """Steps a second over the last half minute; 0 while that cannot be told."""
        now = time.monotonic()
        self._lately.append((now, done))
        while now - self._lately[0][0] > _LATELY and len(self._lately) > 2:
            self._lately.popleft()
        since, before = self._lately[0]
        return (done - before) / (now - since) if now - since > 1 else 0.0


def print_results(run: Run) -> None:
    """Print a run's tables, what stood in for models, where the report is, and what failed."""
    screen = console()
    shown = run.sample
    explanations, scores = shown.explanations(), shown.scores()
    metric = run.ranking["metric"]
    if scores.empty:
        screen.print("nothing is scored yet")
        return
    table = latent_table(explanations, scores, metric, run.rung)
    reading = Reading(run)
    screen.print(Text(f"{visible(run.name)}: {metric_name(metric)} by latent", "bold"))
    rates = _base_rates(explanations)
    screen.print(_latents(table, run, rates))
    if run.large:
        screen.print(Text(f"of {count(sum(map(len, run.latents.values())))} latents; the report has pages of some"))
    rung = "" if run.rung == "random" else f" on rung {run.rung}"
    screen.print(
        Text(f"mean {metric_name(metric)}{rung} over latents, failures at chance, with 95 % intervals", "bold")
    )
    means = run.summary()
    screen.print(_arms(means))
    if lifts := _lifts(means, run):
        screen.print(Text(f"lift of {visible(run.ranking['scorer'])}, {metric_name(metric)}, over controls", "bold"))
        screen.print(lifts)
    for line in _nulls(means, run):
        screen.print(Text(visible(line)))
    if not run.large and (rare := _rare(table, rates, run)):
        screen.print(Text(rare))
    for comparison in filter(_headline(run), comparisons(reading)):
        screen.print(Text(visible(f"{conclusion(comparison)} ({evidence(comparison)})")))
    found = header(reading)
    for line in (*model_free_lines(found.roles), *judge_lines(found.judges)):
        screen.print(Text(visible(line)))
    if spent := spent_line(run.spending()):
        screen.print(Text(visible(spent)))
    screen.print(Text(f"report: {run.path / REPORT}"))
    screen.print(Text(_large_account(found) if run.large else _account(explanations, scores)))


def _headline(run: Run) -> Callable[[Comparison], bool]:
    """Which comparisons a terminal shows: by the primary scorer, explainers among each other and with own controls."""

    def shown(comparison: Comparison) -> bool:
        first, second = comparison.first, comparison.second
        own = second.control is None or second.explainer in (first.explainer, second.control, "")
        return comparison.scorer == run.ranking["scorer"] and first.control is None and own

    return shown


def _latents(table: pd.DataFrame, run: Run, rates: Mapping[tuple[str, int], float]) -> Table:
    shown = Table(caption_justify="left")
    shown.add_column("latent", justify="right")
    shown.add_column("fires in", justify="right")
    several, one_coder = len(set(table["explainer"].tolist())) > 1, len(set(table["coder"].tolist())) == 1
    if several:
        shown.add_column("explainer")
    shown.add_column("explanation", overflow="fold", ratio=1)
    figures = [name for name in run.scorers if name in table.columns]
    for name in figures:
        shown.add_column(name, justify="right")
    for row in table.head(_ROWS).to_dict("records"):
        words = row["explanation"] if row["status"] == "ok" else f"({row['status']})"
        label = str(row["latent"]) if one_coder else f"{row['coder']}:{row['latent']}"
        rate = rates.get((row["coder"], row["latent"]))
        fires = "–" if rate is None else f"{rate:.1%}"
        cells = [
            label,
            fires,
            *([row["explainer"]] if several else []),
            words,
            *(figure(row[name]) for name in figures),
        ]
        shown.add_row(*(Text(visible(str(cell))) for cell in cells))
    if len(table) > _ROWS and not run.large:
        shown.caption = f"and {count(len(table) - _ROWS)} more in the report"
    return shown


def _base_rates(explanations: pd.DataFrame) -> dict[tuple[str, int], float]:
    """The share of windows that each latent fires in, where it was explained."""
    rows = zip(*(explanations[name].tolist() for name in ("coder", "latent", "base_rate")), strict=True)
    return {(coder, latent): rate for coder, latent, rate in rows if rate is not None and not math.isnan(rate)}


def _rare(table: pd.DataFrame, rates: Mapping[tuple[str, int], float], run: Run) -> str | None:
    """One line on latents that fire rarely: frequent ones are easy to judge right by the topic of the text alone."""
    scorer = run.ranking["scorer"]
    rows = [row for row in table.to_dict("records") if rates.get((row["coder"], row["latent"]), 1.0) < _RARE]
    means = []
    for explainer in dict.fromkeys(row["explainer"] for row in rows):
        found = [row[scorer] for row in rows if row["explainer"] == explainer and not math.isnan(row[scorer])]
        if found:
            means.append(f"{explainer} {figure(sum(found) / len(found), 3)} on {count(len(found))}")
    if not means:
        return None
    return visible(f"latents that fire in fewer than {_RARE:.0%} of windows: mean {scorer} " + ", ".join(means))


def _arms(rows: pd.DataFrame) -> Table:
    shown = Table()
    shown.add_column("arm")
    scorers = list(dict.fromkeys(rows["scorer"].tolist()))
    for scorer in scorers:
        shown.add_column(scorer)
    shown.add_column("latents", justify="right")
    records = rows.to_dict("records")
    for arm in dict.fromkeys(row["arm"] for row in records):
        by_scorer = {row["scorer"]: row for row in records if row["arm"] == arm}
        cells = [Text(_mean(by_scorer.get(scorer))) for scorer in scorers]
        latents = max(int(row["latents"]) for row in by_scorer.values())
        shown.add_row(Text(visible(str(arm))), *cells, count(latents))
    return shown


def _lifts(rows: pd.DataFrame, run: Run) -> Table | None:
    """What each explainer has over each control by the primary scorer; None where there are no controls."""
    names = [str(name).removesuffix("_low") for name in rows.columns if str(name).startswith("lift_")]
    controls = [name.removeprefix("lift_") for name in names if f"{name}_low" in rows.columns]
    own = [row for row in rows.to_dict("records") if row["scorer"] == run.ranking["scorer"] and _real(row)]
    if not controls or not own:
        return None
    shown = Table()
    shown.add_column("arm")
    for control in dict.fromkeys(controls):
        shown.add_column(f"over {control}" + (" (unpaired)" if control in POPULATIONS else ""))
    for row in own:
        cells = [_signed(row, f"lift_{control}") for control in dict.fromkeys(controls)]
        shown.add_row(*(Text(visible(str(cell))) for cell in (row["arm"], *cells)))
    return shown


def _real(row: Mapping[Any, Any]) -> bool:
    return not isinstance(row["control"], str) or row["control"] == NO_EXPLANATION


def _signed(row: Mapping[Any, Any], name: str) -> str:
    return f"{figure(row[name], 3, sign=True)} {span(pair(row, f'{name}_low', f'{name}_high'), 3)}".strip()


def _nulls(rows: pd.DataFrame, run: Run) -> Iterator[str]:
    """The exact null beside the means, and how often the latents fire that populations are matched to."""
    told = [row for row in rows.to_dict("records") if row["permuted"] == row["permuted"]]
    if told:
        means = (
            f"{r['arm']} {figure(r['permuted'], 3)} {span(pair(r, 'permuted_low', 'permuted_high'), 3)}" for r in told
        )
        yield f"with the truth permuted within each latent, {run.ranking['scorer']} would be: " + ", ".join(means)
    lines = list(populations(Reading(run)))
    if lines:
        rates = (
            f"{line.control or 'chosen'} {line.rates[0]:.2%} ({line.rates[1]:.2%} to {line.rates[2]:.2%})"
            for line in lines
        )
        yield "share of windows that latents fire in, median and quartiles: " + ", ".join(rates)


def _mean(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    low, high = row["mean_at_chance_low"], row["mean_at_chance_high"]
    interval = None if low != low else (low, high)  # NaN: too few latents for an interval
    return f"{figure(row['mean_at_chance'], 3)} {span(interval, 3)}".strip()


def _large_account(found: Header) -> str:
    """The same of a large run: arms whose explanations are equal share their scores here."""
    done, failed = found.counts, Counter[str]()
    for line in found.failures:
        failed["verdicts" if line.stage.startswith("verdicts") else line.status] += line.count
    verdicts = failed.pop("verdicts", 0)
    reasons = ", ".join(f"{count(number)} {status}" for status, number in failed.most_common()) or "none"
    return (
        f"done: {count(done['explanations'])} explanations, {count(done['scores'])} scores; failed: {reasons}"
        f"; verdicts missing within scores: {count(verdicts)}"
    )


def _account(explanations: pd.DataFrame, scores: pd.DataFrame) -> str:
    """The last line: what was done and what failed, by reason."""
    failed = Counter(
        status for frame in (explanations, scores) for status in frame["status"].tolist() if status != "ok"
    )
    verdicts = sum(scores["failed"].tolist())
    reasons = ", ".join(f"{number} {status}" for status, number in failed.most_common()) or "none"
    return (
        f"done: {count(len(explanations))} explanations, {count(len(scores))} scores; failed: {reasons}"
        f"; verdicts missing within scores: {count(verdicts)}"
    )
