"""What the page's script reads: an index of all latents, and their examples in compressed chunks.

In either everything of one kind stands together, the texts of all latents' examples, then their activations, and so on:
what is alike packs best side by side, a fifth smaller than latent by latent.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.report.data import ReportData
from harness.report.evidence import (
    Arm,
    Change,
    ExplanationLine,
    LatentReport,
    ScoredExample,
    ScoreLine,
    ShownExample,
    Trace,
    VerdictLine,
)
from harness.report.text import METRIC_NAMES, STATUS_WORDS, metric_name, visible
from harness.report.words import CONTROL_NOTES
from harness.task import POPULATIONS

__all__ = ["CHUNK", "Payload", "pack", "payload"]

# about as much JSON as a browser unpacks and parses without a noticeable wait
CHUNK = 1_000_000

Payload = tuple[str, tuple[str, ...]]

# the fields of each example of a latent
_EXAMPLES = {"shown": ("p", "a", "q"), "scored": ("p", "a", "t", "q", "r", "m", "v")}


def payload(data: ReportData) -> Payload:
    """The index and the chunks, each JSON in gzip in base64, which no text in it can leave."""
    chunks: list[str] = []
    places: list[tuple[int, int]] = []
    for number, members in enumerate(_chunks(data)):
        places += [(number, position) for position in range(len(members))]
        chunks.append(pack(_columns(members)))
    return pack(_json(_index(data, places))), tuple(chunks)


def pack(text: str) -> str:
    """Text as base64 of gzip; the same text always gives the same characters."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _chunks(data: ReportData) -> Iterator[list[Mapping[str, str]]]:
    """So many latents as make a chunk, each as JSON by kind; `scored.p` is `p` of each of its scored examples."""
    members: list[Mapping[str, str]] = []
    size, names = 0, _figures(data)
    for latent in data.latents:
        kinds = {kind: _json(value) for kind, value in _by_kind(_details(data, latent, names))}
        length = sum(map(len, kinds.values()))
        if members and size + length > CHUNK:
            yield members
            members, size = [], 0
        members.append(kinds)
        size += length
    if members:
        yield members


def _by_kind(details: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in details.items():
        if name not in _EXAMPLES:
            yield name, value
            continue
        for field in _EXAMPLES[name]:
            yield f"{name}.{field}", [example[field] for example in value]


def _columns(members: Sequence[Mapping[str, str]]) -> str:
    """A JSON object of lists, a value a latent; null where a latent has nothing of that kind."""
    kinds = dict.fromkeys(kind for member in members for kind in member)
    columns = (f"{_json(kind)}:[{','.join(member.get(kind, 'null') for member in members)}]" for kind in kinds)
    return "{" + ",".join(columns) + "}"


def _index(data: ReportData, places: list[tuple[int, int]]) -> dict[str, Any]:
    rows = [_row(data, latent, place) for latent, place in zip(data.latents, places, strict=True)]
    return {
        "arms": [_arm(arm) for arm in data.arms],
        "scorers": [
            {"name": visible(s.name), "metric": visible(metric_name(s.metric)), "chance": s.chance}
            for s in data.scorers
        ],
        "primary": next((at for at, s in enumerate(data.scorers) if s.name == data.header.primary.scorer), 0),
        "status": STATUS_WORDS,
        "metrics": METRIC_NAMES,
        "figures": [visible(name) for name in _figures(data)],
        "latents": {key: [row[key] for row in rows] for key in (rows[0] if rows else ())},
    }


def _arm(arm: Arm) -> dict[str, Any]:
    note = CONTROL_NOTES.get(arm.control or "", "")
    population = arm.control in POPULATIONS
    return {"label": visible(arm.label), "control": arm.control is not None, "population": population, "note": note}


def _row(data: ReportData, latent: LatentReport, place: tuple[int, int]) -> dict[str, Any]:
    scores = {(s.arm, s.scorer): s for s in latent.scores if s.rung == data.header.primary.rung}
    explanations = {line.arm: line for line in latent.explanations}
    return {
        "coder": visible(latent.latent.coder),
        "latent": latent.latent.index,
        "hookpoint": visible(latent.hookpoint),
        "rate": _short(latent.firing_rate),
        "maximum": _short(latent.maximum),
        "status": latent.status,
        "explanations": [_explanation(explanations.get(arm)) for arm in data.arms],
        "scores": [[_headline(scores.get((arm, s.name)), s.metric) for s in data.scorers] for arm in data.arms],
        "failures": _failures(latent),
        "apart": _apart(latent, data),
        "at": place,
    }


def _explanation(line: ExplanationLine | None) -> list[Any] | None:
    if line is None:
        return None
    text = None if line.text is None else visible(line.text, breaks=True)
    return [text, line.status, visible(line.message), line.partner]


def _headline(line: ScoreLine | None, metric: str) -> Any:
    """`[value, low, high]`, `[value]`, the status where it failed, or None where it was not asked for."""
    if line is None:
        return None
    if line.status != "ok":
        return line.status
    if not math.isfinite(line.metrics.get(metric, math.nan)):
        return None
    value = _third(line.metrics[metric])
    return [value] if line.interval is None else [value, *map(_third, line.interval)]


def _apart(latent: LatentReport, data: ReportData) -> float | None:
    """How far scorers are apart at most on a real arm, each from its chance to 1; None where none has two figures."""
    rung, gaps = data.header.primary.rung, []
    for arm in data.arms:
        if arm.control is not None:
            continue
        found = [
            (line.metrics[scorer.metric] - scorer.chance) / (1 - scorer.chance)
            for scorer in data.scorers
            for line in latent.scores
            if (line.arm, line.scorer, line.rung) == (arm, scorer.name, rung)
            and math.isfinite(line.metrics.get(scorer.metric, math.nan))
        ]
        if len(found) > 1:
            gaps.append(max(found) - min(found))
    return round(max(gaps), 3) if gaps else None


def _failures(latent: LatentReport) -> int:
    """How many explanations, scores and verdicts of a latent failed; 1 where it was not asked about at all."""
    explanations = sum(line.status != "ok" for line in latent.explanations)
    scores = sum(line.status != "ok" for line in latent.scores)
    verdicts = sum(line.failed for line in latent.scores if line.status == "ok")
    return explanations + scores + verdicts + (latent.status != "ok")


def _figures(data: ReportData) -> tuple[str, ...]:
    """The names of all figures that any score has."""
    return tuple(dict.fromkeys(name for latent in data.latents for line in latent.scores for name in line.metrics))


def _details(data: ReportData, latent: LatentReport, names: Sequence[str]) -> dict[str, Any]:
    return {
        "scores": [_score(data, line, names) for line in latent.scores],
        "shown": [_shown(example) for example in latent.shown],
        "scored": [_scored(data, example) for example in latent.scored],
        "traces": [_trace(data, trace) for trace in latent.traces],
        "profile": _profile(latent),
        "exchanges": [
            [
                data.arms.index(one.arm),
                visible(one.scorer),
                visible(one.prompt, breaks=True),
                visible(one.reply, breaks=True),
            ]
            for one in latent.exchanges
        ],
        # most runs change no latent: nothing is said of it then
        **({"changes": [_change(data, change) for change in latent.changes]} if latent.changes else {}),
    }


def _change(data: ReportData, change: Change) -> dict[str, Any]:
    return {
        "target": change.target,
        "kl": _short(change.kl),
        "strength": _short(change.strength),
        "status": change.status,
        "pairs": [
            {
                "prompt": visible(pair.prompt, breaks=True),
                "clean": visible(pair.clean, breaks=True),
                "steered": visible(pair.steered, breaks=True),
                "q": pair.quantile,
                "v": _said(data, pair.verdicts),
            }
            for pair in change.pairs
        ],
    }


def _said(data: ReportData, verdicts: Sequence[VerdictLine]) -> list[list[Any]]:
    """Verdicts as `[scorers][arms]`."""
    found = {(verdict.arm, verdict.scorer): verdict for verdict in verdicts}
    return [[_verdict(found.get((arm, s.name))) for arm in data.arms] for s in data.scorers]


def _trace(data: ReportData, trace: Trace) -> dict[str, Any]:
    steps = [
        {
            "said": visible(step.said, breaks=True),
            "calls": [
                [visible(call.name), visible(call.arguments), visible(call.result, breaks=True), int(call.failed)]
                for call in step.calls
            ],
            "tokens": step.tokens,
            "note": visible(step.note),
        }
        for step in trace.steps
    ]
    return {"arm": data.arms.index(trace.arm), "steps": steps}


def _profile(latent: LatentReport) -> dict[str, Any] | None:
    if (found := latent.profile) is None:
        return None
    tokens = [[visible(text), firings, _short(maximum)] for text, firings, maximum in found.tokens]
    return {"histogram": list(found.histogram), "tokens": tokens, "firings": found.firings}


def _third(value: float | None) -> float | None:
    """A figure to three digits, one more than is shown: those beyond would be half of a large report's scores."""
    return None if value is None or not math.isfinite(value) else round(value, 3)


def _score(data: ReportData, line: ScoreLine, names: Sequence[str]) -> dict[str, Any]:
    return {
        "arm": data.arms.index(line.arm),
        "scorer": visible(line.scorer),
        "rung": visible(line.rung),
        "status": line.status,
        "message": visible(line.message),
        "metrics": [_third(line.metrics.get(name)) for name in names],
        "n": [line.n_pos, line.n_neg, line.failed],
    }


def _shown(example: ShownExample) -> dict[str, Any]:
    return {"p": _pieces(example.pieces), "a": _sparse(example), "q": example.quantile}


def _scored(data: ReportData, example: ScoredExample) -> dict[str, Any]:
    return {
        "p": _pieces(example.pieces),
        "a": _sparse(example),
        "t": int(example.truth),
        "q": example.quantile,
        "r": visible(example.rung),
        "m": _marks(example.marks),
        "v": _said(data, example.verdicts),
    }


def _marks(marks: Mapping[str, tuple[int, ...]]) -> dict[str, list[int]]:
    return {visible(scorer): list(positions) for scorer, positions in marks.items()}


def _verdict(verdict: VerdictLine | None) -> Any:
    """A label, `[label, probability]`, `{value}`, `{strengths}` or `{right}`, the failure, or None where not asked."""
    if verdict is None:
        return None
    if verdict.right is not None:
        return {"right": verdict.right}
    if verdict.value is not None:
        return {"value": float(f"{verdict.value:.4g}")}
    if verdict.strengths:
        return {"strengths": [None if math.isnan(level) else round(level, 1) for level in verdict.strengths]}
    if verdict.label is None:
        return visible(verdict.failure) or "unparsable"
    if verdict.probability is None:
        return int(verdict.label)
    return [int(verdict.label), round(float(verdict.probability), 3)]


def _pieces(pieces: tuple[str, ...]) -> str:
    """Token strings, one a line: in what is visible there is no line break, and so it packs best."""
    return "\n".join(visible(piece) for piece in pieces)


def _sparse(example: ShownExample | ScoredExample) -> list[float]:
    """Positions and activations in turn, where the latent fires."""
    flat: list[float] = []
    for position, value in enumerate(example.activations.tolist()):
        if value > 0:
            flat += [position, float(f"{value:.4g}")]
    return flat


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
