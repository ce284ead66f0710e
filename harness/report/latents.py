"""A report's latents: explanations, scores, and examples with every verdict."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import metrics
from harness.analysis.load import ScoreRow
from harness.examples.draw import LatentExamples, draw
from harness.examples.marks import mark
from harness.report.changes import told_of
from harness.report.evidence import (
    Change,
    Exchange,
    ExplanationLine,
    LatentReport,
    Profile,
    ScoredExample,
    ScoreLine,
    ShownExample,
    Trace,
    TraceCall,
    TraceStep,
    VerdictLine,
)
from harness.report.numbers import is_number
from harness.report.reading import Reading, arm_of
from harness.runs.arms import ExplanationArm, constant
from harness.runs.journal_rows import Unit
from harness.runs.keys import score_seed
from harness.scorers.verdicts import FAILURES, Verdicts
from harness.store import CoderReader
from harness.store.summary import summarize_latent
from harness.values import Explanation, Latent, ScoredSet, Status

__all__ = ["latents", "sent"]

# what stands in place of a rung where a text was written, not drawn
WRITTEN = "written"
# resamplings for a latent's own interval: two digits are shown
DRAWS = 1000
# the most common tokens of a latent that are shown
TOKENS = 12


def latents(reading: Reading, only: Collection[int] | None = None) -> Iterator[LatentReport]:
    """The run's latents in their order, all or only those of some indices."""
    explained: defaultdict[Latent, list[ExplanationLine]] = defaultdict(list)
    traced: defaultdict[Latent, list[Trace]] = defaultdict(list)
    for arm, latent, unit in reading.explanations:
        explained[Latent(arm.coder, latent)].append(_explanation(arm, unit))
        if unit is not None and (steps := unit.result.get("notes", {}).get("trace")):
            traced[Latent(arm.coder, latent)].append(_trace(arm, steps))
    rows: defaultdict[Latent, list[ScoreRow]] = defaultdict(list)
    for row in reading.rows:
        rows[Latent(row.arm.coder, row.latent)].append(row)
    for coder, indices in reading.run.latents.items():
        for index in (index for index in indices if only is None or index in only):
            latent = Latent(coder, index)
            made = _latent(reading, latent, explained[latent], rows[latent])
            yield replace(made, traces=tuple(traced[latent])) if traced[latent] else made


def _latent(reading: Reading, latent: Latent, explained: list[ExplanationLine], rows: list[ScoreRow]) -> LatentReport:
    few = latent in reading.too_few
    of = reading.run.populations.get(latent.coder, {"of": latent.coder})["of"]
    settings = next(coder for coder in reading.task.coder if coder.name == of)
    drawn = None if few else _draw(reading, latent)
    hookpoint, maximum, rate = settings.hookpoint or "", None, None
    reader = reading.reader(latent.coder)
    if reader is not None:
        window = reading.task.examples.window
        hookpoint, maximum = reader.hookpoint, float(reader.maximum[latent.index])
        # a latent that was drawn has its rate over where it was observed
        if reader.store.manifest.frame.sampling == "all":
            rate = float(reader.windows(window)[latent.index]) / max(1, reader.store.n_windows(window))
            rate = rate if drawn is None else drawn.base_rate
    return LatentReport(
        latent,
        hookpoint,
        maximum,
        tuple(sorted(explained, key=lambda line: reading.arms.index(line.arm))),
        tuple(_score(reading, row) for row in rows),
        () if drawn is None else tuple(_shown(drawn)),
        (*(() if drawn is None else _examples(reading, latent, drawn, rows)), *_texts(rows)),
        rate,
        "too_few_examples" if few else "ok",
        profile=None if reader is None else _profile(reader, latent),
        exchanges=tuple(_exchanges(reading, latent, rows)),
        changes=tuple(_changes(reading, latent, rows)),
    )


def _changes(reading: Reading, latent: Latent, rows: list[ScoreRow]) -> Iterator[Change]:
    known = [(row, found) for row in rows if (found := row.verdicts) is not None]
    return told_of(reading, latent, [(row, found, list(_lines(row, found))) for row, found in known])


def _profile(reader: CoderReader, latent: Latent) -> Profile:
    found = summarize_latent(reader, latent.index, tokens=TOKENS, windows=0)
    tokens = tuple((token.text, token.firings, token.maximum) for token in found.top_tokens)
    return Profile(found.histogram, tokens, found.firings)


def _exchanges(reading: Reading, latent: Latent, rows: list[ScoreRow]) -> Iterator[Exchange]:
    """What was sent and answered: for the explanation of each real arm, and first for each score of it."""
    asked = [(arm_of(arm), "", unit) for arm, index, unit in reading.explained[latent] if arm.control is None]
    headline = [row for row in rows if row.arm.control is None and row.scoring.rung == reading.rung]
    for arm, scorer, unit in (*asked, *((arm_of(row.arm), row.scoring.scorer, row.unit) for row in headline)):
        stored = None if unit is None or not unit.replies else reading.run.journal.reply(unit.replies[0])
        if stored is not None:
            yield Exchange(arm, scorer, sent(stored.wire), stored.reply.text)


def sent(wire: Mapping[str, Any]) -> str:
    """What a model was sent, to read: its messages, or all of the request where it has none."""
    body = wire.get("body", wire)
    messages = body.get("messages") if isinstance(body, Mapping) else None
    if not isinstance(messages, list):
        return json.dumps(body, indent=1, ensure_ascii=False)
    system = body.get("system")
    turns = ([("system", system)] if system else []) + [(m.get("role"), m.get("content")) for m in messages]
    return "\n\n".join(f"[{role}]\n{_words(content)}" for role, content in turns)


def _words(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "\n".join(str(part.get("text", part)) if isinstance(part, Mapping) else str(part) for part in parts)


def _draw(reading: Reading, latent: Latent) -> LatentExamples | None:
    coder, least = reading.reader(latent.coder), reading.task.latents.min_examples
    if coder is None:
        return None
    drawn = draw(coder, latent.index, reading.task.examples, reading.task.drawing_seed, min_examples=least)
    return drawn if isinstance(drawn, LatentExamples) else None


def _score(reading: Reading, row: ScoreRow) -> ScoreLine:
    scorer = next(s for s in reading.scorers if s.name == row.scoring.scorer)
    found = row.unit.result.get("metrics", {}) if row.unit is not None and row.status == "ok" else {}
    numbers = {name: float(value) for name, value in found.items() if is_number(value)}
    verdicts = row.verdicts
    if verdicts is None:
        return ScoreLine(arm_of(row.arm), scorer.name, row.scoring.rung, _status(row), numbers, message=row.message)
    positive = int(verdicts.truth.sum())
    return ScoreLine(
        arm_of(row.arm),
        scorer.name,
        row.scoring.rung,
        _status(row),
        numbers,
        positive,
        len(verdicts) - positive,
        int((~verdicts.answered).sum()),
        _own_interval(verdicts, scorer.metric, reading.task.seed) if scorer.metric in numbers else None,
        row.message,
    )


def _examples(reading: Reading, latent: Latent, drawn: LatentExamples, rows: list[ScoreRow]) -> Iterator[ScoredExample]:
    for scored in drawn.scored:
        of_rung = [row for row in rows if row.scoring.rung == scored.rung]
        verdicts = _by_window(of_rung)
        marks = _marks(reading, latent, scored)
        for at, example in enumerate(scored.examples):
            place = example.passage.place
            assert place is not None
            yield ScoredExample(
                example.passage.tokens,
                example.activations,
                example.activating,
                example.quantile,
                scored.rung,
                tuple(verdicts[place.context, place.start]),
                {scorer: positions[at] for scorer, positions in marks.items()},
            )


def _texts(rows: list[ScoreRow]) -> Iterator[ScoredExample]:
    """Texts that were written for explanations, each once, with what the latent did in them."""
    found: defaultdict[tuple[str, bool], list[VerdictLine]] = defaultdict(list)
    active: dict[tuple[str, bool], list[tuple[int, int, float]]] = {}
    for row in rows:
        written = [] if row.unit is None else row.unit.result.get("written", [])
        if not written or (verdicts := row.verdicts) is None:
            continue
        for (text, spans), truth, line in zip(written, verdicts.truth.tolist(), _lines(row, verdicts), strict=True):
            found[text, truth == 1].append(line)
            active[text, truth == 1] = spans
    for (text, truth), lines in found.items():
        pieces, activations = _parted(text, active[text, truth])
        yield ScoredExample(pieces, activations, truth, None, WRITTEN, tuple(lines))


def _parted(text: str, spans: list[tuple[int, int, float]]) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """A text parted at its active tokens, and the activation of each part."""
    pieces: list[str] = []
    values: list[float] = []
    at = 0
    for start, stop, value in spans:
        pieces += [text[at:start], text[start:stop]]
        values += [0.0, value]
        at = stop
    return (*pieces, text[at:]), np.array([*values, 0.0], np.float32)


def _marks(reading: Reading, latent: Latent, scored: ScoredSet) -> dict[str, list[tuple[int, ...]]]:
    """What each scorer that marks tokens had marked: the same draw as when it was asked."""
    seed = score_seed(reading.task.drawing_seed, latent, scored.rung)
    found = {}
    for name, identity in reading.run.record["scorers"].items():
        if identity.get("kind") == "fuzzing":
            found[name] = [passage.marks for passage in mark(scored, identity["threshold"], seed)]
    return found


def _status(row: ScoreRow) -> Status:
    return row.status  # pyright: ignore[reportReturnType] (journals hold statuses only)


def _own_interval(verdicts: Verdicts, metric: str, seed: int) -> tuple[float, float] | None:
    found = metrics.own_interval(verdicts.truth, *verdicts.answers(), metric=metric, draws=DRAWS, seed=seed)
    return None if found is None else (found.low, found.high)


def _explanation(arm: ExplanationArm, unit: Unit | None) -> ExplanationLine:
    if unit is None:
        words = constant(arm.control)
        return ExplanationLine(arm_of(arm), words.text if isinstance(words, Explanation) else None, "ok")
    if unit.status != "ok":
        return ExplanationLine(arm_of(arm), None, unit.status, unit.result.get("message", ""))
    return ExplanationLine(arm_of(arm), unit.result["text"], "ok", partner=unit.result.get("partner"))


def _trace(arm: ExplanationArm, steps: Sequence[Mapping[str, Any]]) -> Trace:
    """The steps that an explainer noted."""
    return Trace(
        arm_of(arm),
        tuple(
            TraceStep(
                step.get("said", ""),
                tuple(
                    TraceCall(call["name"], call["arguments"], call["result"], call.get("error", False))
                    for call in step.get("calls", ())
                ),
                step.get("tokens", 0),
                step.get("note", ""),
            )
            for step in steps
        ),
    )


def _shown(drawn: LatentExamples) -> Iterator[ShownExample]:
    for example in drawn.shown:
        yield ShownExample(example.passage.tokens, example.activations, example.quantile)


def _by_window(rows: Iterable[ScoreRow]) -> defaultdict[tuple[int, int], list[VerdictLine]]:
    """Verdicts by (context, start)."""
    found: defaultdict[tuple[int, int], list[VerdictLine]] = defaultdict(list)
    for row in rows:
        if (verdicts := row.verdicts) is None:
            continue
        places = zip(verdicts.context.tolist(), verdicts.start.tolist(), strict=True)
        for place, line in zip(places, _lines(row, verdicts), strict=True):
            found[place].append(line)
    return found


def _lines(row: ScoreRow, verdicts: Verdicts) -> Iterator[VerdictLine]:
    """What was said, example by example."""
    plain = VerdictLine(arm_of(row.arm), row.scoring.scorer, None)
    columns = (verdicts.label, verdicts.truth, verdicts.probability, verdicts.failure, verdicts.value)
    strengths = verdicts.predicted.tolist()
    for (label, truth, probability, failure, value), levels in zip(
        zip(*(column.tolist() for column in columns), strict=True), strengths, strict=True
    ):
        if failure:
            yield replace(plain, failure=FAILURES[failure - 1])
        elif row.scoring.blind:
            yield replace(plain, right=label == truth)
        elif label >= 0:
            yield replace(plain, label=label, probability=None if math.isnan(probability) else probability)
        else:
            yield replace(plain, value=None if math.isnan(value) else value, strengths=tuple(levels))
