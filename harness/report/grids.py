"""A report's small tables: pairs of arms, agreement of scorers, calibration, disagreement, firing rates, costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.data import Grid
from harness.report.numbers import finite, pair
from harness.report.points import agreement_plots, calibration_plots, firing_plots
from harness.report.reading import Reading
from harness.report.text import count, figure, metric_name, p_value, span

__all__ = ["grids"]

# latents in the table of a pair of scorers' disagreements
_MOST = 5


def grids(reading: Reading) -> Iterator[Grid]:
    """The tables that a run has anything to put into."""
    if reading.scores.empty:
        return
    for made in (_pairs, _correlations, _disagreements, _calibration, _firing, _costs):
        for grid in made(reading):
            if grid.rows:
                yield grid


def _named(row: Mapping[Any, Any]) -> str:
    return str(row["arm"])


def _pairs(reading: Reading) -> Iterator[Grid]:
    """The primary scorer's differences, each arm in a row against each in a column."""
    from harness.analysis.differences import differences
    from harness.analysis.score_table import scorers_with

    ranking = reading.run.ranking
    scorer, metric = ranking["scorer"], ranking["metric"]
    if scorer not in scorers_with(reading.scores, metric, reading.rung):
        return
    asked = {"margin": ranking["margin"], "rung": reading.rung, "controls": False, "seed": reading.run.seed}
    table = differences(reading.scores, metric, scorer, **asked).to_dict("records")
    names = list(dict.fromkeys([row["a"] for row in table] + [row["b"] for row in table]))
    cells = {(row["a"], row["b"]): _difference(row, 1) for row in table}
    cells |= {(row["b"], row["a"]): _difference(row, -1) for row in table}
    yield Grid(
        "scorers",
        f"Every explainer minus every other, {metric_name(metric)} of {scorer}",
        ("", *names),
        tuple((a, *(cells.get((a, b), "") for b in names)) for a in names) if len(names) > 2 else (),
        "Row minus column, with the outcome of the paired test over all pairs (Holm).",
    )


def _difference(row: Mapping[Any, Any], sign: int) -> str:
    value = finite(row["difference"])
    told = "–" if value is None else figure(sign * value, 3, sign=True)
    return f"{told} {row['outcome']}" + (f" ({p_value(row['p_adjusted'])})" if row["outcome"] == "differ" else "")


def _figures(reading: Reading) -> dict[str, str]:
    return {scorer.name: scorer.metric for scorer in reading.scorers}


def _correlations(reading: Reading) -> Iterator[Grid]:
    """Spearman's correlations of scorers, with each one's reliability on the diagonal."""
    from harness.analysis.correlations import correlations
    from harness.analysis.reliabilities import reliabilities

    figures = _figures(reading)
    if len(figures) < 2:
        return
    frame = reading.frame.assign(text=_texts(reading))
    table = correlations(reading.scores if reading.whole.large else frame, figures, rung=reading.rung)
    found = {(row["a"], row["b"]): row for row in table.to_dict("records")}
    own = {
        row["scorer"]: row
        for row in reliabilities(reading.rows, figures, rung=reading.rung, seed=reading.run.seed).to_dict("records")
    }
    names = list(figures)

    def cell(at: int, other: int) -> str:
        if at == other:
            return _reliability(own[names[at]])
        return "" if at > other else _correlation(found[names[at], names[other]])

    rows = [(name, *(cell(at, other) for other in range(len(names)))) for at, name in enumerate(names)]
    yield Grid(
        "scorers",
        "How far scorers agree: Spearman's correlation over latents and explainers",
        ("", *names),
        tuple(rows),
        "With 95 % intervals over latents, and how many rows there are; in brackets on the diagonal the split-half "
        "reliability, which bounds what a scorer can correlate with others. Failed scores are in none.",
        tuple(agreement_plots(reading, frame, table)),
    )


def _texts(reading: Reading) -> list[str | None]:
    """The words that each row of the scores judged."""
    words = {
        (row["coder"], row["latent"], row["explainer"], row["control"]): row["text"]
        for row in reading.run.explanation_records()
    }
    keys = ("coder", "latent", "explainer", "control")
    columns = ([None if cell != cell else cell for cell in reading.frame[key].tolist()] for key in keys)
    return [words.get(whose) for whose in zip(*columns, strict=True)]


def _correlation(row: Mapping[Any, Any]) -> str:
    value = finite(row["spearman"])
    ends = span(pair(row, "spearman_low", "spearman_high"))
    return f"{figure(value)} {ends}".strip() + f" n={count(row['n'])}"


def _reliability(row: Mapping[Any, Any]) -> str:
    inside = f"{figure(finite(row['reliability']))} {span(pair(row, 'low', 'high'))}".strip()
    return f"({inside})"


def _disagreements(reading: Reading) -> Iterator[Grid]:
    """The latents that two scorers rank most differently, with the window that they judge most apart."""
    from harness.analysis.disagreements import disagreements

    if len(reading.scorers) < 2:
        return
    table = disagreements(reading.run, most=_MOST, windows=1).to_dict("records")
    rows = []
    for row in table:
        window = row["evidence"][0] if row["evidence"] else None
        told = (
            ""
            if window is None
            else (
                f"{'fires' if window['activating'] else 'silent'}; {row['a']} says {figure(window['a'])}, {row['b']} "
                f"{figure(window['b'])}: {window['text'] or ''}"
            )
        )
        sides = (f"{row[side]} {figure(row[f'value_{side}'])} (rank {figure(row[f'rank_{side}'])})" for side in "ab")
        rows.append((f"{row['coder']} {row['latent']}", row["explainer"], str(row["explanation"] or ""), *sides, told))
    yield Grid(
        "scorers",
        "Where scorers disagree most",
        ("Latent", "Explainer", "Explanation", "One scorer", "The other", "The window that they judge most apart"),
        tuple(rows),
        "Latents are ranked by either scorer, and those whose ranks (shares of latents below) differ most come first.",
    )


def _calibration(reading: Reading) -> Iterator[Grid]:
    """Whether probabilities mean what they say."""
    from harness.analysis.calibrations import calibrations

    own = [row for row in reading.rows if row.arm.control is None and row.scoring.rung == reading.rung]
    known = [row for row in calibrations(own).to_dict("records") if row["brier"] == row["brier"]]
    rows = []
    for row in known:
        shares = figure(row["activating"]), span(pair(row, "activating_low", "activating_high"))
        tenth = f"{figure(row['low'], 1)} to {figure(row['high'], 1)}"
        rows.append(
            (
                f"{row['scorer']}, {row['arm']}",
                tenth,
                count(row["verdicts"]),
                figure(row["probability"]),
                " ".join(shares).strip(),
                figure(row["brier"], 3),
                figure(row["calibration_error"], 3),
            )
        )
    yield Grid(
        "scorers",
        "Calibration: what judges' probabilities of being activating come to",
        ("Scorer, explainer", "Says", "Verdicts", "Mean", "Activating", "Brier score", "Calibration error"),
        tuple(rows),
        "The two last figures are of all verdicts together: 0.25 and 0 are what saying one half everywhere gets.",
        tuple(calibration_plots(reading.arms, known)),
    )


def _firing(reading: Reading) -> Iterator[Grid]:
    """Scores against how often latents fire."""
    from harness.analysis.rates import firing

    found: dict[str, list[Mapping[Any, Any]]] = {}
    for row in firing(reading.run).to_dict("records"):
        if not isinstance(row["control"], str):
            found.setdefault(f"{row['scorer']}, {_named(row)}", []).append(row)
    rows = []
    for name, bands in found.items():
        spearman = f"{figure(finite(bands[0]['spearman']))} {span(pair(bands[0], 'spearman_low', 'spearman_high'))}"
        rates = (f"{_percent(band['rate_low'])} to {_percent(band['rate_high'])}" for band in bands)
        told = [f"{figure(band['mean'])} at {rate}" for band, rate in zip(bands, rates, strict=True)]
        rows.append((name, *told, *[""] * (5 - len(told)), spearman.strip()))
    yield Grid(
        "scorers",
        "Scores by how often latents fire: means in fifths of the latents, rare to frequent",
        ("Scorer, explainer", "First", "Second", "Third", "Fourth", "Last", "Spearman"),
        tuple(rows),
        "The rate is the share of windows.",
        tuple(firing_plots(reading)),
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.2g} %"


def _costs(reading: Reading) -> Iterator[Grid]:
    """What one latent took."""
    from harness.analysis.costs import costs_of

    models = {item["name"]: item.get("model") for item in reading.run.record["task"]["explainer"]}
    rows = []
    for row in costs_of(reading.whole, models).to_dict("records"):
        rung = "" if row["rung"] in (None, "random") or row["rung"] != row["rung"] else f" ({row['rung']})"
        dollars = finite(row["dollars"])
        paid = "no price" if dollars is None else "free" if not dollars else f"${dollars:.6f}"
        paid = paid if row["calls"] else "no model"
        numbers = (_number(row[key]) for key in ("examples", "calls", "prompt", "cached", "reply"))
        model = row["model"] if isinstance(row["model"], str) else "–"
        rows.append((f"{row['stage']}: {row['name']}{rung}", model, *numbers, paid))
    yield Grid(
        "costs",
        "What one explanation of a latent, and one score of it, took: means over latents",
        ("Who", "Model", "Examples", "Calls", "Tokens in", "of them cached", "Tokens out", "Dollars"),
        tuple(rows),
    )


def _number(value: Any) -> str:
    number = finite(value)
    return "" if number is None else count(number) if number >= 100 or number == int(number) else f"{number:.1f}"
