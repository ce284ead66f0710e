"""How fast and in how much memory the store is written and read, at the width of a large SAE.

`python -m benchmarks.store [--tokens N] [--latents N] [--density N] [--rows] [--against] [--rounds N]`

Writes synthetic activations, looks up single latents and reads them all in order, each in a process of its own: CPU
seconds and peak memory are the system's (`getrusage`). With `--against` also draws examples and does the same in plain
ways, which hold everything in memory. Medians over the rounds; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csc_array, csr_array, vstack

from benchmarks.measuring import Clock, alone, peak
from benchmarks.synthetic import WINDOW, Size, batches, writer
from harness.examples.choosing import choose
from harness.examples.draw import draw
from harness.store import Rows, Store
from harness.task import ExampleSettings


def _matrix(part: Rows, size: Size) -> csr_array:
    return csr_array((part.values, part.latents, part.indptr), shape=(len(part.indptr) - 1, size.latents))


def write_store(size: Size, folder: Path) -> dict[str, float]:
    """Segments and compaction, flushed to the disk."""
    clock, base = Clock(), peak()
    nonzeros = 0
    with writer(size, folder) as store:
        for tokens, documents, part in batches(size):
            nonzeros += len(part.latents)
            with clock:
                store.append(tokens, documents, {"c": part})
        with clock:
            store.finish()
    matrix = sum(file.stat().st_size for file in folder.rglob("*.npy") if "csc" in file.parts)
    every = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "cpu": clock.cpu,
        "peak": peak() - base,
        "peak_process": peak(),
        "nonzeros": nonzeros,
        "matrix_bytes": matrix,
        "bytes": every,
    }


def write_scipy(size: Size, folder: Path) -> dict[str, float]:
    """Everything in memory: stack, convert, save."""
    clock, base = Clock(), peak()
    folder.mkdir()
    parts, texts, owners = [], [], []
    for tokens, documents, part in batches(size):
        parts.append(_matrix(part, size))
        texts.append(tokens)
        owners.append(documents)
    with clock:
        columns = csc_array(vstack(parts, format="csr"))
        np.save(folder / "indptr.npy", columns.indptr)
        np.save(folder / "indices.npy", columns.indices)
        np.save(folder / "data.npy", columns.data.astype(np.float16))
        np.save(folder / "tokens.npy", np.concatenate(texts))
        np.save(folder / "documents.npy", np.concatenate(owners))
    return {"cpu": clock.cpu, "peak": peak() - base, "nonzeros": columns.nnz}


def write_dict(size: Size, folder: Path) -> dict[str, float]:
    """A list of firings for each latent, on one batch in sixteen."""
    clock, base = Clock(), peak()
    found: dict[int, list[tuple[int, float]]] = defaultdict(list)
    nonzeros = 0
    for _, _, part in batches(size, 16):
        nonzeros += len(part.latents)
        matrix = _matrix(part, size)
        with clock:
            cells = matrix.tocoo()
            for row, latent, value in zip(*(part.tolist() for part in cells.coords), cells.data.tolist(), strict=True):
                found[latent].append((row, value))
    folder.mkdir()
    return {"cpu": clock.cpu, "peak": peak() - base, "nonzeros": nonzeros}


def _chosen(store: Store, size: Size) -> list[int]:
    """Latents that can be drawn from, at random."""
    counts = store.coder("c").windows(WINDOW)
    eligible = np.flatnonzero((counts >= 200) & (counts < store.n_windows(WINDOW) // 2))
    return np.random.default_rng(1).permutation(eligible)[: size.draws].tolist()


def look_up(_: Size, folder: Path) -> dict[str, float]:
    """Single latents that fire, at random, each once: the checksum is compared, too."""
    coder = Store.open(folder).coder("c")
    alive = np.random.default_rng(1).permutation(np.flatnonzero(coder.firings))
    took = []
    for index in alive[:2_000].tolist():
        began = time.perf_counter()
        coder.latent(index)
        took.append(time.perf_counter() - began)
    return {
        "cpu": sum(took),
        "peak": 0,
        "latents": len(took),
        "median_us": statistics.median(took) * 1e6,
        "p95_us": float(np.quantile(took, 0.95)) * 1e6,
    }


def scan(_: Size, folder: Path) -> dict[str, float]:
    """The whole matrix in order, its files' checksums compared, the sum of each latent's values taken."""
    base, clock = peak(), Clock()
    coder, nonzeros, total = Store.open(folder).coder("c"), 0, 0.0
    with clock:
        for block in coder.scan():
            nonzeros += len(block.positions)
            alive = block.indptr[:-1][np.diff(block.indptr) > 0]
            if len(alive):
                total += float(np.add.reduceat(block.values, alive, dtype=np.float32).sum())
    assert total > 0
    return {"cpu": clock.cpu, "peak": peak() - base, "nonzeros": nonzeros}


def describe(size: Size, folder: Path) -> dict[str, float]:
    """Open the store and read its statistics."""
    clock = Clock()
    with clock:
        found = Store.open(folder).coder("c").statistics
    return {
        "cpu": clock.cpu,
        "peak": 0,
        "latents": size.latents,
        "l0": found.l0,
        "dead": float(found.dead.mean()),
        "rare": float(found.rare().mean()),
    }


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
    base = peak()
    with clock:
        for index in chosen:
            one(store, index)
    return {"cpu": clock.cpu, "peak": peak() - base, "latents": len(chosen)}


MEASURED: dict[str, tuple[Callable[[Size, Path], dict[str, float]], str]] = {
    "write: store": (write_store, "nonzeros"),
    "look up: store": (look_up, "latents"),
    "scan: store": (scan, "nonzeros"),
    "count windows: store": (count_windows, "nonzeros"),
    "statistics: store": (describe, "latents"),
}
AGAINST: dict[str, tuple[Callable[[Size, Path], dict[str, float]], str]] = {
    "write: scipy in memory": (write_scipy, "nonzeros"),
    "write: dict of lists": (write_dict, "nonzeros"),
    "draw: arrays": (draw_arrays, "latents"),
    "draw: with text": (draw_examples, "latents"),
    "draw: dicts and lists": (draw_naive, "latents"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--tokens", type=int, default=1 << 19)
    parser.add_argument("--latents", type=int, default=1 << 17)
    parser.add_argument("--density", type=int, default=50, help="latents that fire at a token, at most")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rows", action="store_true", help="keep the store by token, too")
    parser.add_argument("--against", action="store_true", help="beside it, plain ways of doing the same")
    given = parser.parse_args()
    size = Size(given.tokens, given.latents, given.density, given.draws, given.rows)
    wanted = MEASURED | (AGAINST if given.against else {})
    rounds: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as scratch:
            for name, (measure, _) in wanted.items():
                kind = name.partition(":")[2].strip().replace(" ", "-")
                folder = Path(scratch) / (kind if name.startswith("write") else "store")
                rounds[name].append(alone(measure, size, folder))
                print(f"round {number + 1}: {name}", file=sys.stderr)
    _tell(size, wanted, rounds)


def _tell(
    size: Size,
    wanted: dict[str, tuple[Callable[[Size, Path], dict[str, float]], str]],
    rounds: dict[str, list[dict[str, float]]],
) -> None:
    result: dict[str, dict[str, float]] = {}
    print(f"{size.tokens:,} tokens, {size.latents:,} latents, {rounds['write: store'][0]['nonzeros']:,.0f} nonzeros")
    print(f"{'':24} {'per CPU-second':>22} {'CPU s':>8} {'peak MiB':>9}")
    for name, (_, unit) in wanted.items():
        found = rounds[name]
        cpu = _median(found, lambda one: one["cpu"])
        rate = _median(found, lambda one, unit=unit: one[unit] / one["cpu"])
        peak = _median(found, lambda one: one["peak"]) / 2**20
        result[name] = {f"{unit}_per_cpu_second": round(rate), "cpu_seconds": round(cpu, 3), "peak_mib": round(peak)}
        print(f"{name:24} {rate:>13,.0f} {unit:>8} {cpu:>8.2f} {peak:>9.0f}")
    ratio = {}
    if "write: dict of lists" in wanted:
        ratio = {
            "write_over_dict": _ratio(rounds, "write: store", "write: dict of lists", "nonzeros"),
            "write_over_scipy": _ratio(rounds, "write: store", "write: scipy in memory", "nonzeros"),
            "draw_over_dicts": _ratio(rounds, "draw: with text", "draw: dicts and lists", "latents"),
        }
    figures = _figures(rounds)
    print(json.dumps(figures | {"size": vars(size), "measured": result, "speed_ratios": ratio}))


def _figures(rounds: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """What is compared from one size to the next."""
    written, looked, scanned = rounds["write: store"], rounds["look up: store"], rounds["scan: store"]
    last = rounds["statistics: store"][0]
    return {
        "nonzeros": round(written[0]["nonzeros"]),
        "l0": round(last["l0"], 2),
        "dead": round(last["dead"], 3),
        "rare": round(last["rare"], 3),
        "nonzeros_per_cpu_s": round(_median(written, lambda one: one["nonzeros"] / one["cpu"])),
        "bytes_per_nonzero": round(written[0]["bytes"] / written[0]["nonzeros"], 3),
        "matrix_bytes_per_nonzero": round(written[0]["matrix_bytes"] / written[0]["nonzeros"], 3),
        "peak_rss_gib": round(max(one["peak_process"] for one in written) / 2**30, 3),
        "lookup_us": round(_median(looked, lambda one: one["median_us"]), 1),
        "lookup_p95_us": round(_median(looked, lambda one: one["p95_us"]), 1),
        "scan_nonzeros_per_cpu_s": round(_median(scanned, lambda one: one["nonzeros"] / one["cpu"])),
    }


def _median(found: list[dict[str, float]], what: Callable[[dict[str, float]], float]) -> float:
    return statistics.median(what(one) for one in found)


def _ratio(rounds: dict[str, list[dict[str, float]]], ours: str, theirs: str, unit: str) -> float:
    """The median over rounds of how many times as fast the first is as the second."""
    pairs = zip(rounds[ours], rounds[theirs], strict=True)
    return round(statistics.median((a[unit] / a["cpu"]) / (b[unit] / b["cpu"]) for a, b in pairs), 2)


if __name__ == "__main__":
    main()
