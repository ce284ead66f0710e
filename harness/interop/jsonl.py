"""Export as JSON lines: `explanations.jsonl` and `scores.jsonl`, one object a line, the same keys on each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

__all__ = ["EXPLANATION_KEYS", "SCORE_KEYS", "Records", "export"]

EXPLANATION_KEYS = ("run", "coder", "hookpoint", "latent", "explainer", "control", "text", "status", "usage")
SCORE_KEYS = (
    "run", "coder", "hookpoint", "latent", "explainer", "control", "scorer", "scorer_model", "prompt", "rung",
    "status", "metrics", "n_pos", "n_neg", "failed",
)  # fmt: skip


class Records(Protocol):
    """Whatever gives a run's rows; a loaded run does."""

    def each_explanation(self) -> Iterable[dict[str, Any]]:
        """One dictionary an explanation."""
        ...

    def each_score(self) -> Iterable[dict[str, Any]]:
        """One dictionary a score."""
        ...


def export(run: Records, folder: Path) -> list[Path]:
    """Write both files into a folder, which is made; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _write(folder / "explanations.jsonl", run.each_explanation(), EXPLANATION_KEYS),
        _write(folder / "scores.jsonl", run.each_score(), SCORE_KEYS),
    ]


def _write(path: Path, rows: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            # ASCII, so that a lone surrogate of the corpus stays an escape that every JSON reader takes
            file.write(json.dumps({key: row[key] for key in keys}, allow_nan=False) + "\n")
    return path
