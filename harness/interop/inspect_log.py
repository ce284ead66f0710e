"""Findings as logs of inspect_ai: an evaluation for each arm, a sample for each latent, a score for each scorer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from harness.errors import FormatError
from harness.interop.documents import decoded
from harness.interop.findings import About, Found, Score, Told, Window
from harness.interop.writing import write_json
from harness.runs.arms import arm_label
from harness.values import digest

__all__ = ["KEYS", "check", "write_logs"]

KEYS = frozenset({"version", "status", "eval"})

# windows of a latent that a sample shows
_SHOWN = 10


class _Dataset(msgspec.Struct):
    name: str | None = None


class _Spec(msgspec.Struct):
    created: str
    task: str
    model: str
    dataset: _Dataset
    config: dict[str, Any]


class _Score(msgspec.Struct):
    value: Any


class _Sample(msgspec.Struct):
    id: str | int
    epoch: int
    input: str | list[dict[str, Any]]
    target: str | list[str]
    scores: dict[str, _Score] | None = None


class _Logged(msgspec.Struct):
    version: int
    status: Literal["started", "success", "cancelled", "error"]
    eval: _Spec
    samples: list[_Sample] | None = None


def check(data: bytes, where: str) -> None:
    """Whether a log has what their reader cannot do without, each sample once.

    Raises:
        FormatError: it has not.
    """
    log: _Logged = decoded(data, _Logged, where)
    seen: set[tuple[str | int, int]] = set()
    for at, sample in enumerate(log.samples or ()):
        if (sample.id, sample.epoch) in seen:
            raise FormatError(
                f'{where}: samples[{at}].id: "{sample.id}" is there twice; expected each once in an epoch'
            )
        seen.add((sample.id, sample.epoch))


def write_logs(about: About, latents: Iterable[Found], folder: Path) -> list[str]:
    """Write a `.json` log for each explainer and control.

    The input of a sample shows the latent's strongest windows, its output is the explanation. Scores have a scorer's
    figures as their value; the metrics of an evaluation are the mean of the main figure and its standard error over
    latents. What failed is an error of its sample, or has no score.
    """
    arms: dict[tuple[str, str | None], _Arm] = {}
    for found in latents:
        for told in found.told:
            arm = arms.setdefault((told.explainer, told.control), _Arm(told))
            arm.samples.append(_sample(about, found, told))
            for score in told.scores:
                arm.scores.setdefault(_score_name(score), []).append(replace(score, judged=()))
    for arm in arms.values():
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{about.run}-{arm.label}").strip("-")
        stamp = re.sub(r"[:+]", "-", about.created)
        path = folder / f"{stamp}_{name}_{_id(about, arm.label, 'task')}.json"
        write_json(path, _log(about, arm))
    return []


class _Arm:
    """What goes into an arm's log."""

    def __init__(self, first: Told) -> None:
        self.first = first
        self.label = arm_label(None if first.control == first.explainer else first.explainer, first.control)
        self.samples: list[dict[str, Any]] = []
        self.scores: dict[str, list[Score]] = {}


def _log(about: About, arm: _Arm) -> dict[str, Any]:
    first, label, rows = arm.first, arm.label, arm.samples
    ids = [row["id"] for row in rows]
    failed = sum("error" in row for row in rows)
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": _id(about, label, "eval"),
            "run_id": _id(about, label, "run"),
            "created": about.created,
            "task": about.run,
            "task_id": _id(about, label, "task"),
            "task_version": 0,
            "task_attribs": {},
            "task_args": {},
            "tags": [label],
            "dataset": {"name": about.dataset or None, "samples": len(rows), "sample_ids": ids, "shuffled": False},
            "model": first.model or f"none/{label}",
            "config": {},
            "packages": dict(about.versions),
            "metadata": {"explainer": first.explainer, "control": first.control, "subject": about.model},
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {
            "total_samples": len(rows),
            "completed_samples": len(rows) - failed,
            "scores": [_result(name, some) for name, some in arm.scores.items()],
        },
        "stats": {"started_at": about.created, "completed_at": about.created, "model_usage": {}},
        "samples": rows,
    }


def _sample(about: About, found: Found, told: Told) -> dict[str, Any]:
    model = told.model or f"none/{told.explainer}"
    row: dict[str, Any] = {
        "id": _sample_id(found),
        "epoch": 1,
        "input": _input(about, found),
        "target": "",
        "messages": [],
        "output": {"model": model, "choices": [], "completion": ""},
        "scores": {_score_name(score): _score(told, score) for score in told.scores if score.value is not None},
        "metadata": {"coder": found.coder, "latent": found.latent, "hookpoint": about.coders[found.coder].hookpoint},
    }
    if told.text is not None:
        message = {"role": "assistant", "content": told.text, "source": "generate"}
        row["output"] |= {"choices": [{"message": message, "stop_reason": "stop"}], "completion": told.text}
        row["messages"] = [{"role": "user", "content": row["input"]}, message]
    elif told.status != "ok":
        words = f"{told.status}: {told.message}"
        row["error"] = {"message": words, "traceback": words, "traceback_ansi": words}
    return row


def _input(about: About, found: Found) -> str:
    """The strongest windows, tokens that activate the latent between « and »."""
    lines = [f"What activates latent {found.latent} of {found.coder} ({about.coders[found.coder].hookpoint})?"]
    lines += [_marked(window) for window in found.windows[:_SHOWN] if window.maximum > 0]
    return "\n".join(lines)


def _marked(window: Window) -> str:
    parts = [f"«{t}»" if value > 0 else t for t, value in zip(window.tokens, window.values, strict=True)]
    return f"{window.maximum:.4g}: {''.join(parts)!r}"


def _score(told: Told, score: Score) -> dict[str, Any]:
    failed = sum(bool(judged.failure) for judged in score.judged)
    right = [judged.label == judged.truth for judged in score.judged if judged.label is not None]
    said = f"{sum(right)} of {len(right)} windows judged rightly" if right else ""
    return {
        "value": {name: value for name, value in score.figures.items() if math.isfinite(value)},
        "answer": told.text,
        "explanation": said + (f", {failed} without a verdict" if failed else ""),
        "metadata": {"figure": score.figure, "kind": score.kind, "model": score.model, "rung": score.rung},
    }


def _result(name: str, scores: Sequence[Score]) -> dict[str, Any]:
    values = np.array([score.value for score in scores if score.value is not None])
    figures = {}
    if len(values):
        figures[scores[0].figure] = float(values.mean())
    if len(values) > 1:
        figures["stderr"] = float(values.std(ddof=1) / math.sqrt(len(values)))
    return {
        "name": name,
        "scorer": scores[0].scorer,
        "scored_samples": len(values),
        "unscored_samples": len(scores) - len(values),
        "params": {},
        "metrics": {key: {"name": key, "value": value, "params": {}} for key, value in figures.items()},
    }


def _score_name(score: Score) -> str:
    return score.scorer if score.rung == "random" else f"{score.scorer} ({score.rung})"


def _sample_id(found: Found) -> str:
    return f"{found.coder}/{found.latent}"


def _id(about: About, *parts: str) -> str:
    """An id of 22 characters; equal parts give an equal one."""
    return digest([about.run, about.created, *parts])[:22]
