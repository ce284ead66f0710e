"""A sentence read by the subject: latents active at each token, with what a run knows of them (paper, figure A1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.load import Run
from harness.errors import RunError, StoreError, UserError
from harness.store import Rows
from harness.subject.coders.protocol import TokenCoder
from harness.subject.texts import Loaded, SubjectTexts
from harness.task import Task
from harness.values import Latent

__all__ = ["asentence", "sentence"]

COLUMNS = ("position", "token", "coder", "hookpoint", "latent", "activation", "share", "explanation", "explainer")

_Active = list[tuple[str, dict[str, list[tuple[int, float]]]]]


def sentence(run: Run, text: str, explainer: str | None = None, *, every: bool = False) -> pd.DataFrame:
    """As `asentence`, for where nothing is awaited; inside a running event loop in a thread of its own."""

    def work() -> Coroutine[Any, Any, pd.DataFrame]:
        return asentence(run, text, explainer, every=every)

    return _anywhere(work)


async def asentence(run: Run, text: str, explainer: str | None = None, *, every: bool = False) -> pd.DataFrame:
    """Which latents are active at each token of a text, as the run's subject reads it by itself.

    One row a token and active latent, the most active first by its `share` of the largest activation in the store;
    latents that the run explained, or `every` one. Columns `position`, `token`, `coder`, `hookpoint`, `latent`,
    `activation`, `share` (missing where the store is gone), `explanation` and `explainer` (the run's first unless
    named) and one column a scorer with the figure that it is shown by on the headline's rung; missing where there is
    none. A token at which nothing is active has one row without a latent.

    Raises:
        UserError: the run has no subject or no such explainer, the text has no token, or the subject cannot be had.
    """
    task = Task.model_validate({**run.record["task"], "base": _base(run)})
    names = [one.name for one in task.explainer]
    chosen = explainer or names[0]
    if chosen not in names:
        raise UserError(f'{run.path} has no explainer "{chosen}"; it has {", ".join(names)}')
    if task.subject is None:
        raise UserError(f"{run.path} has no [subject] to read a sentence, only a store")
    subject = SubjectTexts(task.subject, task.coder, task.base)
    try:
        read = await subject.call(lambda loaded, check: _read(loaded, text, check))
    finally:
        await subject.aclose()
    return _frame(run, read, chosen, every=every)


def _base(run: Run) -> Path:
    """The folder that the task's relative paths start from; runs that do not tell it are those of their task's file.

    Raises:
        RunError: it is not told, and the file is not where it was.
    """
    if "base" in run.record:
        return Path(run.record["base"])
    source = Path(run.record["source"])
    if not source.is_file():
        raise RunError(
            f"{source}: the task file of {run.path} is not there, and relative paths start from its folder: run "
            "harness sentence from where the task was run"
        )
    return source.parent.resolve()


def _read(loaded: Loaded, text: str, check: Callable[[], None]) -> _Active:
    """Each token with, by coder, the latents that are active there and how strongly."""
    ids = loaded.opened(text)[: loaded.plan.subject.context]
    first = 0 if loaded.plan.tokenizer.bos is None else 1
    if len(ids) == first:
        raise UserError("the sentence has no token")
    pieces = loaded.vocabulary.pieces(ids[first:])
    tokens = np.array([ids], np.uint32)
    documents = np.where(np.arange(len(ids)) < first, -1, 0)[None].astype(np.int32)
    rows: dict[str, Rows] = {} if loaded.reading is None else loaded.reading.rows(tokens, documents)
    check()
    for name, coder in loaded.coders.items():
        if isinstance(coder, TokenCoder):
            rows[name] = coder.encode_pieces([(*([""] * first), *pieces)])
    return [
        (piece, {name: _at(found, position + first) for name, found in rows.items()})
        for position, piece in enumerate(pieces)
    ]


def _at(rows: Rows, position: int) -> list[tuple[int, float]]:
    inside = slice(int(rows.indptr[position]), int(rows.indptr[position + 1]))
    pairs = zip(np.asarray(rows.latents[inside]).tolist(), np.asarray(rows.values[inside]).tolist(), strict=True)
    return [(int(latent), float(value)) for latent, value in pairs if value > 0]


def _frame(run: Run, read: _Active, explainer: str, *, every: bool) -> pd.DataFrame:
    words, scores = _known(run, explainer)
    hookpoints = {item["name"]: item.get("hookpoint") for item in run.record["task"]["coder"]}
    largest = _largest(run, hookpoints)
    chosen = {Latent(coder, index) for coder, indices in run.latents.items() for index in indices}
    table: list[dict[str, Any]] = []
    for position, (piece, by_coder) in enumerate(read):
        found = []
        for coder, active in by_coder.items():
            for index, value in active:
                latent = Latent(coder, index)
                if not every and latent not in chosen:
                    continue
                most = largest[coder][index] if coder in largest else np.nan
                found.append(
                    {
                        "position": position,
                        "token": piece,
                        "coder": coder,
                        "hookpoint": hookpoints[coder],
                        "latent": index,
                        "activation": value,
                        "share": value / float(most) if most > 0 else np.nan,
                        "explanation": words.get(latent),
                        "explainer": explainer,
                        **scores.get(latent, {}),
                    }
                )
        found.sort(key=lambda row: -(row["share"] if row["share"] == row["share"] else row["activation"]))
        table += found or [{"position": position, "token": piece}]
    columns = [*COLUMNS, *run.scorers]
    return pd.DataFrame(table, columns=columns).astype({"latent": "Int64"})


def _known(run: Run, explainer: str) -> tuple[dict[Latent, str], dict[Latent, dict[str, float]]]:
    """Each latent's explanation and scores by an explainer."""
    words = {
        Latent(row["coder"], row["latent"]): row["text"]
        for row in run.explanation_records()
        if row["explainer"] == explainer and row["control"] is None and row["text"] is not None
    }
    figures = {name: run.metric_of(name) for name in run.scorers}
    scores: dict[Latent, dict[str, float]] = {}
    for row in run.score_records():
        own = row["explainer"] in (explainer, None) and row["rung"] == run.rung and row["status"] == "ok"
        if own and row["control"] in (None, "latent"):
            value = row["metrics"].get(figures[row["scorer"]])
            if value is not None:
                scores.setdefault(Latent(row["coder"], row["latent"]), {})[row["scorer"]] = float(value)
    return words, scores


def _largest(run: Run, coders: Mapping[str, Any]) -> dict[str, Any]:
    try:
        store = run.store()
    except StoreError:
        return {}
    return {name: store.coder(name).maximum for name in coders}


def _anywhere(work: Callable[[], Coroutine[Any, Any, pd.DataFrame]]) -> pd.DataFrame:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(1, thread_name_prefix="harness-sentence") as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
