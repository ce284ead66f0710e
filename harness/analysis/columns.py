"""A run's scores as columns of arrays, kept beside the journal, so that tables of very many latents take seconds.

They lie in the folder `columns` of the run directory: `meta.json`, and an array a file. They hold nothing that the
journal does not, and are made from it by reading it once. What they were made from stands in `meta.json`: columns of
another task, of other latents or of a journal that was written since are made again, as are those of which a file is
missing or is not as it was written.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.clients.packing import unpack_quickly
from harness.runs.skimming import Skimmed, skim
from harness.scorers.verdicts import Verdicts
from harness.values import digest

if TYPE_CHECKING:
    from harness.analysis.load import Run

__all__ = ["FOLDER", "USAGE", "Columns", "columns"]

FOLDER = "columns"
# raised when the columns hold something else than before
_VERSION = 1
# what of `harness.values.Usage` stands in columns
_TOKENS = ("input", "cache_read", "cache_write", "output", "reasoning", "requests")
USAGE = (*_TOKENS, "cost")
# figures of other scorers by quantile
_BY = "by_quantile"

Array = NDArray[Any]


def columns(run: Run) -> Columns:
    """A run's columns: those that lie beside its journal if they are of it, else made anew, and kept if possible."""
    folder, mark = run.path / FOLDER, _mark(run)
    found = _read(folder, mark)
    if found is None:
        found = _made(run)
        _keep(folder, mark, found)
    return Columns(found)


class Columns:
    """Arrays by name.

    `explanations/<arm>` and `scores/<arm>/<scoring>` are the numbers of `harness.runs.skimming.Skimmed`. By number of
    an explanation are `explanation/status`, `words`, `characters`, `base_rate` and the parts of its usage; by number of
    a score `score/status`, `n_pos`, `n_neg`, `failures` by reason, `given`, `right` and `answered` of
    `harness.scorers.verdicts.Tallies`, usage, `metric/<name>`, and `quantile/<name>` of scorers that give no labels.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def explanations(self, arm: int) -> Array:
        """The numbers of an arm's explanations, `[latents]`."""
        return self[f"explanations/{arm}"]

    def scores(self, arm: int, scoring: int) -> Array | None:
        """The numbers of an arm's scores by a scorer on a rung, `[latents]`, None where it does not judge them."""
        name = f"scores/{arm}/{scoring}"
        return self._arrays.get(name)

    def failed(self) -> Array:
        """The verdicts that each score lacks."""
        return self["score/failures"].sum(axis=1)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The names of all figures."""
        return tuple(name.removeprefix("metric/") for name in self._arrays if name.startswith("metric/"))

    @cached_property
    def quantiles(self) -> tuple[str, ...]:
        """The quantiles that scorers without labels have figures of."""
        return tuple(name.removeprefix("quantile/") for name in self._arrays if name.startswith("quantile/"))


def _mark(run: Run) -> str:
    """What the columns are made from: the task with its latents, and the journal as it was last written."""
    chosen = {
        coder: hashlib.sha256(np.asarray(indices, np.int64).tobytes()).hexdigest()
        for coder, indices in run.record["latents"].items()
    }
    return digest([_VERSION, run.task.number, run.task.digest, chosen, *run.journal.newest()])


def _made(run: Run) -> dict[str, Array]:
    builder = _Builder(_quantiles(run))
    skimmed = skim(run.journal, run.arms, run.scoring, run.record["latents"], builder)
    assert skimmed is not None
    return {**_numbers(skimmed), **builder.arrays()}


def _quantiles(run: Run) -> int:
    task = run.record["task"]
    changing = task.get("interventions") or {}
    return max(10, task["examples"]["scored"]["quantiles"], int(changing.get("quantiles", 0)))


def _numbers(skimmed: Skimmed) -> dict[str, Array]:
    found = {f"explanations/{arm}": numbers.astype(np.int32) for arm, numbers in enumerate(skimmed.explanations)}
    found |= {f"scores/{arm}/{one}": numbers.astype(np.int32) for (arm, one), numbers in skimmed.scores.items()}
    return found | {"explanation/status": skimmed.explanation_statuses, "score/status": skimmed.score_statuses}


class _Builder:
    """Takes the units as they are skimmed."""

    def __init__(self, quantiles: int) -> None:
        self._quantiles = quantiles
        self._told = {name: array("d") for name in ("words", "characters", "base_rate", *USAGE)}
        self._parts: dict[str, list[Array]] = {}
        self._figures: dict[str, list[Array]] = {}
        self._count = 0

    def explanation(self, status: str, result: Mapping[str, Any]) -> None:
        """Note an explanation."""
        text = result["text"] if status == "ok" else None
        counts = result.get("examples") or {}
        rate = counts["activating_windows"] / counts["windows"] if counts.get("windows") else math.nan
        told = self._told
        told["words"].append(math.nan if text is None else len(text.split()))
        told["characters"].append(math.nan if text is None else len(text))
        told["base_rate"].append(rate)
        for name, value in zip(USAGE, _used(result), strict=True):
            told[name].append(value)

    def scores(self, rows: Sequence[tuple[str, bytes, bytes | None]]) -> None:
        """Note scores."""
        results = [unpack_quickly(result) for _, result, _ in rows]
        judged = [row for row, (_, _, blob) in enumerate(rows) if blob is not None]
        tallies = Verdicts.tally([blob for _, _, blob in rows if blob is not None], self._quantiles)
        for name in ("n_pos", "n_neg", "failures", "given", "right", "answered"):
            counted = getattr(tallies, name)
            whole = np.zeros((len(rows), *counted.shape[1:]), np.uint16)
            whole[judged] = counted
            self._parts.setdefault(name, []).append(whole)
        usage = np.array([_used(result) for result in results], np.float64)
        for at, name in enumerate(USAGE):
            self._parts.setdefault(name, []).append(usage[:, at])
        labelled: list[bool] = self._parts["given"][-1].max(axis=1, initial=0).astype(bool).tolist()
        self._note([_figures(result, by=not has) for result, has in zip(results, labelled, strict=True)])
        self._count += len(rows)

    def _note(self, figures: list[dict[str, float]]) -> None:
        new = dict.fromkeys(name for one in figures for name in one)
        for name in new:
            if name not in self._figures:
                self._figures[name] = [np.full(self._count, np.nan)] if self._count else []
        for name, parts in self._figures.items():
            parts.append(np.array([one.get(name, math.nan) for one in figures], np.float64))

    def arrays(self) -> dict[str, Array]:
        """What was noted."""
        found: dict[str, Array] = {
            f"explanation/{name}": np.frombuffer(told, np.float64) for name, told in self._told.items()
        }
        # each part is let go once it stands in its column, so that not all is there twice
        for name in list(self._parts):
            found[f"score/{name}"] = np.concatenate(self._parts.pop(name))
        for name in list(self._figures):
            found[name] = np.concatenate(self._figures.pop(name))
        return found


def _used(result: Mapping[str, Any]) -> tuple[float, ...]:
    """The parts of a usage, NaN throughout where there is none, and for a cost that is not known."""
    told = result.get("usage")
    if told is None:
        return (math.nan,) * len(USAGE)
    values = [told.get(name, 0) for name in _TOKENS]
    cost = told.get("cost")
    return (*values, math.nan if cost is None else cost)


def _figures(result: Mapping[str, Any], *, by: bool) -> dict[str, float]:
    """The figures of a score, with `by` also those by quantile; those that are not defined are left out."""
    metrics = result.get("metrics", {})
    found = {
        f"metric/{name}": float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if by:
        told = metrics.get(_BY) or {}
        found |= {f"quantile/{name}": float(value) for name, value in told.items() if value is not None}
    return found


def _keep(folder: Path, mark: str, arrays: Mapping[str, Array]) -> None:
    """Write the columns; where they cannot be, they are made again next time."""
    room = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir()
        files = {}
        for number, (name, values) in enumerate(arrays.items()):
            path = room / f"{number}.npy"
            np.save(path, values)
            files[name] = {"file": path.name, "crc32": _sum(path)}
        (room / "meta.json").write_text(json.dumps({"mark": mark, "arrays": files}, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        room.rename(folder)
    except OSError:
        shutil.rmtree(room, ignore_errors=True)


def _read(folder: Path, mark: str) -> dict[str, Array] | None:
    """The arrays in a folder, None unless all are there, whole, and made from what has this mark."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["mark"] != mark:
            return None
        found = {}
        for name, file in meta["arrays"].items():
            path = folder / file["file"]
            if _sum(path) != file["crc32"]:
                return None
            # read when it is looked at, and by the page
            found[name] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found


def _sum(path: Path) -> int:
    value = 0
    for block in _blocks(path):
        value = zlib.crc32(block, value)
    return value


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block
