"""Findings in the layout of Neuronpedia's bulk export, which its own import reads, with upload batches beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain, count, groupby, islice
from pathlib import Path
from typing import Any

from harness.interop.findings import About, AboutCoder, Found, Score, Told, sections
from harness.interop.neuronpedia_rows import (
    SCORE_TYPES,
    ActivationRow,
    ExplanationRow,
    FeatureRow,
    ModelRow,
    ReleaseRow,
    ScoreTableRow,
    SourceRow,
    SourceSetRow,
    plain,
)
from harness.interop.neuronpedia_upload import Uploads
from harness.interop.score_rows import row_of
from harness.interop.writing import json_text, lines_zipped, write_lines
from harness.values import digest

__all__ = ["BATCH", "write_bulk"]

# features of a batch of the export
BATCH = 1024
_CREATOR = "latent-harness"


def write_bulk(about: About, latents: Iterable[Found], folder: Path, *, method: str | None = None) -> list[str]:
    """Write `v1/` and `upload/` into a folder; what was left out is told in sentences.

    Args:
        about: what the findings have in common.
        latents: coder by coder.
        folder: where to write.
        method: the explanations' type, which Neuronpedia has to know; left open unless given.
    """
    notes: list[str] = []
    types: dict[str, None] = {}
    for name, some in groupby(latents, key=lambda found: found.coder):
        coder = about.coders[name]
        place = folder / "v1" / about.model_id / coder.source
        _write_source(about, coder, place)
        uploads = Uploads(about, coder, folder / "upload" / coder.source, method)
        left = iter(some)
        for number in count():
            batch = list(islice(left, 1))
            if not batch:
                break
            with ExitStack() as files:
                whole = chain(batch, islice(left, BATCH - 1))
                uploads.write(_written(about, coder, whole, method, types, _Tables(place, number, files)))
        notes += [f"{name}: {line}" for line in uploads.left()]
    if types:
        notes.append(f"scores of {', '.join(types)} are left out: Neuronpedia has no such kind, or another rung")
    return notes


class _Tables:
    """The files of a batch by table, each made with its first row: from that the columns are taken."""

    def __init__(self, place: Path, number: int, files: ExitStack) -> None:
        self._place, self._number, self._files = place, number, files
        self._writing: dict[str, Callable[[Mapping[str, Any]], None]] = {}

    def write(self, table: str, row: Mapping[str, Any]) -> None:
        """Write a row."""
        if table not in self._writing:
            path = self._place / table / f"batch-{self._number}.jsonl.gz"
            self._writing[table] = self._files.enter_context(lines_zipped(path))
        self._writing[table](row)


def _written(
    about: About, coder: AboutCoder, batch: Iterable[Found], method: str | None, types: dict[str, None], tables: _Tables
) -> Iterator[Found]:
    """The latents of a batch, each once its rows are written."""
    for found in batch:
        tables.write("features", _feature(about, coder, found))
        for row in _activations(about, coder, found):
            tables.write("activations", plain(row))
        for told in (one for one in found.told if one.control is None and one.text):
            tables.write("explanations", plain(_explanation(about, coder, found, told, method)))
            for score in _scores(about, coder, found, told, types):
                tables.write("scores", plain(score))
        yield found


def _write_source(about: About, coder: AboutCoder, place: Path) -> None:
    created = about.created
    release = f"{about.run}-{_CREATOR}"
    said = f"Explanations of {coder.name} ({coder.hookpoint}) of {about.model}, written and scored by {_CREATOR}."
    model = ModelRow(
        about.model_id, about.model, 0, 0, _CREATOR, displayNameShort=about.model_id,
        createdAt=created, updatedAt=created,
    )  # fmt: skip
    write_lines(place / "model.jsonl", [plain(model)])
    shown = ReleaseRow(release, said, _CREATOR, _CREATOR, descriptionShort=about.run, createdAt=created)
    write_lines(place / "release.jsonl", [plain(shown)])
    of_set = SourceSetRow(
        about.model_id, coder.set_name, _CREATOR, said, coder.hookpoint, _CREATOR, release, createdAt=created
    )
    write_lines(place / "sourceset.jsonl", [plain(of_set)])
    prompts = about.tokens // about.context if about.context else None
    source = SourceRow(
        coder.source, about.model_id, coder.set_name, _CREATOR, num_prompts=prompts,
        num_tokens_in_prompt=about.context or None, dataset=about.dataset or None, notes=coder.path, createdAt=created,
    )  # fmt: skip
    write_lines(place / "source.jsonl", [plain(source)])


def _feature(about: About, coder: AboutCoder, found: Found) -> dict[str, Any]:
    heights, values = [float(count) for count in found.histogram], []
    if found.histogram and found.maximum:
        width = found.maximum / len(found.histogram)
        values = [width * (at + 0.5) for at in range(len(found.histogram))]
    row = FeatureRow(
        about.model_id, coder.source, str(found.latent), _CREATOR, coder.set_name, found.maximum,
        freq_hist_data_bar_heights=heights if values else [], freq_hist_data_bar_values=values,
        hookName=coder.hookpoint,
    )  # fmt: skip
    if found.rate is not None:
        row.frac_nonzero = found.rate
    return plain(row)


def _activations(about: About, coder: AboutCoder, found: Found) -> Iterator[ActivationRow]:
    of = sections(found.windows)
    for number, window in enumerate(found.windows):
        at = max(range(len(window.values)), key=window.values.__getitem__)
        section = None if window.quantile is None else of[window.quantile]
        row = ActivationRow(
            _cuid("activation", about.run, coder.source, found.latent, number), about.model_id, coder.source,
            str(found.latent), _CREATOR, list(window.tokens), list(window.values), window.maximum,
            min(window.values), at, about.dataset or None,
        )  # fmt: skip
        if section is not None:
            row.binMin, row.binMax, row.binContains = section.low, section.high, section.share
        yield row


def _explanation(about: About, coder: AboutCoder, found: Found, told: Told, method: str | None) -> ExplanationRow:
    return ExplanationRow(
        _explanation_id(about, coder, found, told), about.model_id, coder.source, str(found.latent), told.text or "",
        _CREATOR, method, told.model, None, told.explainer, about.created,
    )  # fmt: skip


def _scores(
    about: About, coder: AboutCoder, found: Found, told: Told, types: dict[str, None]
) -> Iterator[ScoreTableRow]:
    of = _explanation_id(about, coder, found, told)
    for score in told.scores:
        kind = SCORE_TYPES.get(score.kind)
        if kind is None or score.rung != about.rung:
            types[score.scorer if kind is None else f"{score.scorer} on {score.rung}"] = None
        elif score.value is not None and math.isfinite(score.value):
            yield ScoreTableRow(
                _cuid(of, score.scorer, score.rung), score.value, of, kind, score.model, _details(score),
                createdAt=about.created,
            )  # fmt: skip


def _details(score: Score) -> str:
    return json_text([row_of(each, detail=True) for each in score.judged])


def _explanation_id(about: About, coder: AboutCoder, found: Found, told: Told) -> str:
    return _cuid("explanation", about.run, coder.source, found.latent, told.explainer, told.text or "")


def _cuid(*parts: str | int) -> str:
    """An id of 25 characters that looks as theirs do; equal parts give an equal one."""
    number, text = int(digest(list(parts)), 16), ""
    for _ in range(24):
        number, digit = divmod(number, 36)
        text += "0123456789abcdefghijklmnopqrstuvwxyz"[digit]
    return "c" + text
