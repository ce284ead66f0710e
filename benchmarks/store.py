"""How fast the store is written, read and drawn from, beside plain versions of the same in the same run.

`python -m benchmarks.store [--tokens N] [--latents N] [--density N] [--draws N] [--rounds N]`

Every measurement runs alone in a process of its own: CPU seconds and peak memory are the system's (`getrusage`),
memory less what the process had before. Medians over the rounds; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, vstack

from harness.examples.draw import choose, draw
from harness.store import CoderFrame, ManifestFrame, Rows, Store, StoreWriter, Vocabulary
from harness.task import ExampleSettings

CONTEXT, BATCH, WORDS, WINDOW = 256, 32, 50_000, 32


@dataclass(frozen=True)
class Size:
    """What is measured on: tokens, latents, how many fire at a token, and how many latents are looked up."""

    tokens: int
    latents: int
    density: int
    draws: int


def batches(size: Size, step: int = 1) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32], csr_array]]:
    """Random text and activations, every `step`-th batch: rates fall as a power law, values are lognormal."""
    rates = (np.arange(size.latents) + 100.0) ** -1.1
    cumulative = np.cumsum(np.random.default_rng(0).permutation(rates) / rates.sum())
    for start in range(0, size.tokens, CONTEXT * BATCH * step):
        generator = np.random.default_rng(start)
        positions = CONTEXT * BATCH
        drawn = np.searchsorted(cumulative, generator.random((positions, size.density))).clip(0, size.latents - 1)
        cells = np.unique(np.arange(positions)[:, None] * size.latents + drawn)
        rows, latents = np.divmod(cells, size.latents)
        values = generator.lognormal(0, 1, len(cells)).astype(np.float32)
        indptr = np.searchsorted(rows, np.arange(positions + 1))
        tokens = generator.zipf(1.3, (BATCH, CONTEXT)).clip(1, WORDS - 1).astype(np.uint32)
        documents = (np.arange(start, start + positions) // 700).astype(np.int32).reshape(BATCH, CONTEXT)
        matrix = csr_array((values, latents.astype(np.int32), indptr), shape=(positions, size.latents))
        yield tokens, documents, matrix


@dataclass
class Clock:
    """CPU seconds of what is done inside it."""

    cpu: float = 0.0

    def __enter__(self) -> Clock:
        self._start = _cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu += _cpu() - self._start


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def write_store(size: Size, folder: Path) -> dict[str, float]:
    """Segments and compaction, flushed to the disk."""
    clock, base = Clock(), _peak()
    vocabulary = Vocabulary(tuple(f" w{index}" for index in range(WORDS)))
    frame = ManifestFrame(model="synthetic", corpus={}, context=CONTEXT)
    nonzeros = 0
    with StoreWriter.create(folder, frame, vocabulary, [CoderFrame("c", size.latents, "block")]) as writer:
        for tokens, documents, matrix in batches(size):
            nonzeros += matrix.nnz
            part = Rows(matrix.indptr.astype(np.int64), matrix.indices, np.asarray(matrix.data, dtype=np.float32))
            with clock:
                writer.append(tokens, documents, {"c": part})
        with clock:
            writer.finish()
    return {"cpu": clock.cpu, "peak": _peak() - base, "nonzeros": nonzeros}


def write_scipy(size: Size, folder: Path) -> dict[str, float]:
    """Everything in memory: stack, convert, save."""
    clock, base = Clock(), _peak()
    folder.mkdir()
    parts, texts, owners = [], [], []
    for tokens, documents, matrix in batches(size):
        parts.append(matrix)
        texts.append(tokens)
        owners.append(documents)
    with clock:
        columns = csc_array(vstack(parts, format="csr"))
        np.save(folder / "indptr.npy", columns.indptr)
        np.save(folder / "indices.npy", columns.indices)
        np.save(folder / "data.npy", columns.data.astype(np.float16))
        np.save(folder / "tokens.npy", np.concatenate(texts))
        np.save(folder / "documents.npy", np.concatenate(owners))
    return {"cpu": clock.cpu, "peak": _peak() - base, "nonzeros": columns.nnz}


def write_dict(size: Size, folder: Path) -> dict[str, float]:
    """A list of firings for each latent, on one batch in sixteen."""
    clock, base = Clock(), _peak()
    found: dict[int, list[tuple[int, float]]] = defaultdict(list)
    nonzeros = 0
    for _, _, matrix in batches(size, 16):
        nonzeros += matrix.nnz
        with clock:
            cells = matrix.tocoo()
            for row, latent, value in zip(*(part.tolist() for part in cells.coords), cells.data.tolist(), strict=True):
                found[latent].append((row, value))
    folder.mkdir()
    return {"cpu": clock.cpu, "peak": _peak() - base, "nonzeros": nonzeros}


def _chosen(store: Store, size: Size) -> list[int]:
    """Latents that can be drawn from, at random."""
    counts = store.coder("c").windows(WINDOW)
    eligible = np.flatnonzero((counts >= 200) & (counts < store.n_windows(WINDOW) // 2))
    return np.random.default_rng(1).permutation(eligible)[: size.draws].tolist()


def look_up(size: Size, folder: Path) -> dict[str, float]:
    """One latent after another, read by position."""
    store = Store.open(folder)
    coder, chosen, clock = store.coder("c"), _chosen(store, size), Clock()
    with clock:
        for index in chosen:
            coder.latent(index)
    return {"cpu": clock.cpu, "peak": 0, "latents": len(chosen)}


def count_windows(_: Size, folder: Path) -> dict[str, float]:
    """The activating windows of every latent, not remembered."""
    for file in folder.rglob("windows-*.npy"):
        file.unlink()
    coder, clock = Store.open(folder).coder("c"), Clock()
    with clock:
        coder.windows(WINDOW)
    return {"cpu": clock.cpu, "peak": 0, "nonzeros": int(coder.firings.sum())}


def draw_arrays(size: Size, folder: Path) -> dict[str, float]:
    """Examples without text."""
    return _drawing(size, folder, lambda store, index: choose(store.coder("c"), index, ExampleSettings(), 0))


def draw_examples(size: Size, folder: Path) -> dict[str, float]:
    """Examples with text."""
    return _drawing(size, folder, lambda store, index: draw(store.coder("c"), index, ExampleSettings(), 0))


def draw_naive(size: Size, folder: Path) -> dict[str, float]:
    """As many examples by dicts and lists: an object a window, a mask over all windows, no splits, no checks."""
    store = Store.open(folder)
    words = store.vocabulary.strings
    parts = folder / "coders" / "c" / "csc"
    arrays = [np.load(parts / f"{name}.npy", mmap_mode="r") for name in ("values", "positions", "indptr")]
    matrix = csc_array(
        (arrays[0].astype(np.float32), arrays[1].astype(np.int64), arrays[2]), shape=(store.n_tokens, size.latents)
    )
    tokens = np.array(store.tokens).reshape(-1, WINDOW)

    def one(_: Store, index: int) -> Any:
        chooser = random.Random(index)
        column = matrix[:, [index]].tocoo()
        windows: dict[int, dict[int, float]] = defaultdict(dict)
        for position, value in zip(column.coords[0].tolist(), column.data.tolist(), strict=True):
            windows[position // WINDOW][position % WINDOW] = value
        ranked = sorted(windows, key=lambda k: max(windows[k].values()))
        deciles = [ranked[q * len(ranked) // 10 : (q + 1) * len(ranked) // 10] for q in range(10)]
        picked = [k for decile in deciles for k in chooser.sample(decile, min(14, len(decile)))]
        silent = chooser.sample([k for k in range(len(tokens)) if k not in windows], 120)
        return [[words[token] for token in tokens[k].tolist()] for k in (*picked, *silent)]

    return _drawing(size, folder, one, store)


def _drawing(
    size: Size, folder: Path, one: Callable[[Store, int], Any], opened: Store | None = None
) -> dict[str, float]:
    store = opened or Store.open(folder)
    chosen, clock = _chosen(store, size), Clock()
    one(store, chosen[0])
    base = _peak()
    with clock:
        for index in chosen:
            one(store, index)
    return {"cpu": clock.cpu, "peak": _peak() - base, "latents": len(chosen)}


MEASURED: dict[str, tuple[Callable[[Size, Path], dict[str, float]], str]] = {
    "write: store": (write_store, "nonzeros"),
    "write: scipy in memory": (write_scipy, "nonzeros"),
    "write: dict of lists": (write_dict, "nonzeros"),
    "count windows: store": (count_windows, "nonzeros"),
    "look up: store": (look_up, "latents"),
    "draw: arrays": (draw_arrays, "latents"),
    "draw: with text": (draw_examples, "latents"),
    "draw: dicts and lists": (draw_naive, "latents"),
}


def alone(measure: Callable[[Size, Path], dict[str, float]], size: Size, folder: Path) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        started = time.perf_counter()
        found = pool.submit(measure, size, folder).result()
        return found | {"wall": time.perf_counter() - started}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--tokens", type=int, default=1 << 20)
    parser.add_argument("--latents", type=int, default=16_384)
    parser.add_argument("--density", type=int, default=16, help="latents that fire at a token, at most")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    size = Size(given.tokens, given.latents, given.density, given.draws)
    rounds: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as scratch:
            for name, (measure, _) in MEASURED.items():
                kind = name.partition(":")[2].strip().replace(" ", "-")
                folder = Path(scratch) / (kind if name.startswith("write") else "store")
                rounds[name].append(alone(measure, size, folder))
                print(f"round {number + 1}: {name}", file=sys.stderr)
    _tell(size, rounds)


def _tell(size: Size, rounds: dict[str, list[dict[str, float]]]) -> None:
    result: dict[str, dict[str, float]] = {}
    print(f"{size.tokens:,} tokens, {size.latents:,} latents, {rounds['write: store'][0]['nonzeros']:,.0f} nonzeros")
    print(f"{'':24} {'per CPU-second':>22} {'CPU s':>8} {'peak MiB':>9}")
    for name, (_, unit) in MEASURED.items():
        found = rounds[name]
        cpu = statistics.median(one["cpu"] for one in found)
        rate = statistics.median(one[unit] / one["cpu"] for one in found)
        peak = statistics.median(one["peak"] for one in found) / 2**20
        result[name] = {f"{unit}_per_cpu_second": round(rate), "cpu_seconds": round(cpu, 3), "peak_mib": round(peak)}
        print(f"{name:24} {rate:>13,.0f} {unit:>8} {cpu:>8.2f} {peak:>9.0f}")
    ratio = {
        "write_over_dict": _ratio(rounds, "write: store", "write: dict of lists", "nonzeros"),
        "write_over_scipy": _ratio(rounds, "write: store", "write: scipy in memory", "nonzeros"),
        "draw_over_dicts": _ratio(rounds, "draw: with text", "draw: dicts and lists", "latents"),
    }
    print(json.dumps({"size": vars(size), "measured": result, "speed_ratios": ratio}))


def _ratio(rounds: dict[str, list[dict[str, float]]], ours: str, theirs: str, unit: str) -> float:
    """The median over rounds of how many times as fast the first is as the second."""
    pairs = zip(rounds[ours], rounds[theirs], strict=True)
    return round(statistics.median((a[unit] / a["cpu"]) / (b[unit] / b["cpu"]) for a, b in pairs), 2)


if __name__ == "__main__":
    main()
