"""A sentence's latents as an offline page, and as cells for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.report.numbers import finite
from harness.report.page import page_parts, still_policy
from harness.report.text import figure

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SentenceLatent", "SentenceToken", "sentence_tokens", "write_sentence"]


@dataclass(frozen=True, slots=True)
class SentenceLatent:
    """One active latent as a reader sees it; `scores` are one for each scorer."""

    name: str
    hookpoint: str
    activation: str
    share: str
    explanation: str
    scores: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SentenceToken:
    """One token with its active latents, the most active first."""

    text: str
    latents: tuple[SentenceLatent, ...]


def sentence_tokens(table: pd.DataFrame, scorers: Sequence[str], most: int | None = None) -> list[SentenceToken]:
    """The tokens of a table that `harness.analysis.sentence` made, with at most so many latents each."""
    found: dict[int, tuple[str, list[SentenceLatent]]] = {}
    for row in table.to_dict("records"):
        _, latents = found.setdefault(row["position"], (row["token"], []))
        if not isinstance(row["coder"], str) or (most is not None and len(latents) == most):
            continue
        share = finite(row["share"])
        latents.append(
            SentenceLatent(
                f"{row['coder']} {row['latent']}",
                row["hookpoint"] if isinstance(row["hookpoint"], str) else "",
                f"{row['activation']:.4g}",
                "" if share is None else f"{100 * share:.0f} %",
                row["explanation"] if isinstance(row["explanation"], str) else "not explained",
                tuple(figure(finite(row[name])) for name in scorers),
            )
        )
    return [SentenceToken(text, tuple(latents)) for _, (text, latents) in sorted(found.items())]


def write_sentence(table: pd.DataFrame, scorers: Sequence[str], run: str, path: Path) -> Path:
    """Write a page of a sentence's tokens and latents; nothing in it acts, and it fetches nothing."""
    environment, style = page_parts()
    page = environment.get_template("sentence.html.jinja").render(
        run=run,
        scorers=scorers,
        tokens=sentence_tokens(table, scorers),
        style=Markup(style),
        policy=still_policy(style),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8", newline="\n")
    return path
