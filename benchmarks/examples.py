"""How many latents a second examples are drawn for, beside a plain way of doing the same in the same run.

`python -m benchmarks.examples [--tokens N] [--latents N] [--every N] [--rounds N] [--store FOLDER]`

40 windows of 32 tokens to show, 20 + 20 to choose among explanations, 100 + 100 to score, for every 16th latent of a
synthetic store: those that never fire and those that activate fewer than 200 windows, which end as failures, are among
them. Each round opens the store anew, so a latent's checksum is compared as in a run; what is made once for a store is
not counted, and Python looks for cycles as rarely as in the command. Medians over the rounds; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plain_examples import PlainExamples
from benchmarks.synthetic import Size, batches, writer
from harness.cli.memory import collect_rarely
from harness.examples.draw import choose, draw
from harness.store import Store
from harness.task import ExampleSettings
from harness.values import Failure

MIN_EXAMPLES = 200
# the plain way is timed on so small a share of the sample, and so are ours to compare with it
SHARE = 16

Draw = Callable[[int], Any]


def arrays(store: Store) -> Draw:
    """Windows, activations and quantiles as arrays."""
    coder, asked = store.coder("c"), ExampleSettings()
    return lambda index: choose(coder, index, asked, 0, min_examples=MIN_EXAMPLES)


def with_strings(store: Store) -> Draw:
    """The same with the windows' token strings."""
    coder, asked = store.coder("c"), ExampleSettings()
    return lambda index: draw(coder, index, asked, 0, min_examples=MIN_EXAMPLES)


def plain(store: Store) -> Draw:
    """The same, window by window."""
    return PlainExamples(store, ExampleSettings(), MIN_EXAMPLES).draw


def plain_with_strings(store: Store) -> Draw:
    """The same, window by window, with strings."""
    return PlainExamples(store, ExampleSettings(), MIN_EXAMPLES).draw_with_strings


def seconds(way: Callable[[Store], Draw], folder: Path, latents: list[int]) -> dict[str, float]:
    """CPU seconds for some latents, and for those of them that are not refused."""
    store = Store.open(folder)
    counts = store.coder("c").windows(ExampleSettings().window)
    one = way(store)
    # makes what is made once: the grid, the store's own checksums
    one(int(np.argsort(counts)[-len(counts) // 50]))
    kept, kept_s = 0, 0.0
    began = time.process_time()
    for index in latents:
        before = time.process_time()
        found = one(index)
        if found is not None and not isinstance(found, Failure):
            kept += 1
            kept_s += time.process_time() - before
    return {"all_s": time.process_time() - began, "kept_s": kept_s, "kept": kept}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.examples", description=__doc__)
    parser.add_argument("--tokens", type=int, default=1 << 20)
    parser.add_argument("--latents", type=int, default=1 << 17)
    parser.add_argument("--density", type=int, default=50, help="latents that fire at a token, at most")
    parser.add_argument("--every", type=int, default=16, help="draw for every so many latents")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", type=Path, help="a store that `--store` wrote before, or where to write it")
    given = parser.parse_args()
    collect_rarely()
    with ExitStack() as stack:
        folder = given.store or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store"
        if not folder.exists():
            write(Size(given.tokens, given.latents, given.density, 0), folder)
        coder = Store.open(folder).coder("c")
        sample = list(range(0, coder.n_latents, given.every))
        print(f"{coder.store.n_tokens:,} tokens, {coder.n_latents:,} latents, {coder.firings.sum():,} nonzeros")
        tell([measure(folder, sample) for _ in range(given.rounds)], sample)


def write(size: Size, folder: Path) -> None:
    """Write the store."""
    with writer(size, folder) as store:
        for tokens, documents, part in batches(size):
            store.append(tokens, documents, {"c": part})
        store.finish()


def measure(folder: Path, sample: list[int]) -> dict[str, dict[str, float]]:
    """One round: each way in turn."""
    few = sample[::SHARE]
    return {
        "arrays": seconds(arrays, folder, sample),
        "with strings": seconds(with_strings, folder, sample),
        "arrays, few": seconds(arrays, folder, few),
        "plain": seconds(plain, folder, few),
        "with strings, few": seconds(with_strings, folder, few),
        "plain with strings": seconds(plain_with_strings, folder, few),
    }


def tell(rounds: list[dict[str, dict[str, float]]], sample: list[int]) -> None:
    """Print the table and the line of JSON."""
    few = sample[::SHARE]
    rates, kept_rates = {}, {}
    print(f"{'latents per CPU-second':24} {'all':>10} {'kept':>10}")
    for way in rounds[0]:
        size = len(few if "few" in way or "plain" in way else sample)
        rates[way] = statistics.median(size / one[way]["all_s"] for one in rounds)
        kept_rates[way] = statistics.median(one[way]["kept"] / max(one[way]["kept_s"], 1e-9) for one in rounds)
        print(f"{way:24} {rates[way]:>10,.0f} {kept_rates[way]:>10,.0f}")

    def ratio(ours: str, theirs: str) -> float:
        return round(statistics.median(one[theirs]["all_s"] / one[ours]["all_s"] for one in rounds), 1)

    print(
        json.dumps(
            {
                "latents": len(sample),
                "kept": int(rounds[0]["arrays"]["kept"]),
                "latents_per_cpu_s": round(rates["arrays"]),
                "latents_per_cpu_s_with_strings": round(rates["with strings"]),
                "kept_latents_per_cpu_s": round(kept_rates["arrays"]),
                "kept_latents_per_cpu_s_with_strings": round(kept_rates["with strings"]),
                "ratio_to_naive": ratio("arrays, few", "plain"),
                "ratio_to_naive_with_strings": ratio("with strings, few", "plain with strings"),
            }
        )
    )


if __name__ == "__main__":
    main()
