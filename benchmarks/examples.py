"""How many latents a second examples are drawn for, beside a plain way of doing the same in the same run.

`python -m benchmarks.examples [--tokens N] [--latents N] [--every N] [--rounds N] [--store FOLDER] [--copied SHARE]`

40 windows of 32 tokens to show and 100 + 100 to score, none that is shown sharing a run of 16 tokens with a scored one,
for every 16th latent of a synthetic store: those that never fire and those that activate fewer than 200 windows, which
end as failures, are among them (`kept` is without these). *With select*: by the default settings, which also draw 20 +
20 to choose among explanations, compared in the same way. Each round opens the store anew, so a latent's checksum is
compared as in a run; what is made once for a store is told apart, and Python looks for cycles as rarely as in the
command. Medians over the rounds; the last line is JSON.
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
from harness.examples.choosing import choose
from harness.examples.draw import draw
from harness.store import Store
from harness.task import ExampleSettings, SplitSettings
from harness.values import Failure

MIN_EXAMPLES = 200
# the plain way is timed on so small a share of the sample, and so are ours to compare with it
SHARE = 16
# tokens of a copied stretch
STRETCH = 64

Draw = Callable[[int], Any]
Way = Callable[[Store, ExampleSettings], Draw]

STATED = ExampleSettings(split=SplitSettings(shown=0.4, select=0, scored=0.6))


def arrays(store: Store, asked: ExampleSettings) -> Draw:
    """Windows, activations and quantiles as arrays."""
    coder = store.coder("c")
    return lambda index: choose(coder, index, asked, 0, min_examples=MIN_EXAMPLES)


def with_strings(store: Store, asked: ExampleSettings) -> Draw:
    """The same with the windows' token strings."""
    coder = store.coder("c")
    return lambda index: draw(coder, index, asked, 0, min_examples=MIN_EXAMPLES)


def plain(store: Store, asked: ExampleSettings) -> Draw:
    """The same, window by window."""
    return PlainExamples(store, asked, MIN_EXAMPLES).draw


def plain_with_strings(store: Store, asked: ExampleSettings) -> Draw:
    """The same, window by window, with strings."""
    return PlainExamples(store, asked, MIN_EXAMPLES).draw_with_strings


def seconds(way: Way, asked: ExampleSettings, folder: Path, latents: list[int]) -> dict[str, float]:
    """CPU seconds for some latents, for those of them that are not refused, and for what is made once."""
    store = Store.open(folder)
    counts = store.coder("c").windows(asked.window)
    began = time.process_time()
    one = way(store, asked)
    # makes what is made once: the grid, the repeated runs, the store's own checksums
    one(int(np.argsort(counts)[-len(counts) // 50]))
    once_s = time.process_time() - began
    kept, kept_s = 0, 0.0
    began = time.process_time()
    for index in latents:
        before = time.process_time()
        found = one(index)
        if found is not None and not isinstance(found, Failure):
            kept += 1
            kept_s += time.process_time() - before
    return {"all_s": time.process_time() - began, "kept_s": kept_s, "kept": kept, "once_s": once_s}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.examples", description=__doc__)
    parser.add_argument("--tokens", type=int, default=1 << 20)
    parser.add_argument("--latents", type=int, default=1 << 17)
    parser.add_argument("--density", type=int, default=50, help="latents that fire at a token, at most")
    parser.add_argument("--every", type=int, default=16, help="draw for every so many latents")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", type=Path, help="a store that `--store` wrote before, or where to write it")
    parser.add_argument("--copied", type=float, default=0.0, help="the share of the text that stands elsewhere too")
    given = parser.parse_args()
    collect_rarely()
    with ExitStack() as stack:
        folder = given.store or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store"
        if not folder.exists():
            write(Size(given.tokens, given.latents, given.density, 0), folder, given.copied)
        coder = Store.open(folder).coder("c")
        sample = list(range(0, coder.n_latents, given.every))
        print(f"{coder.store.n_tokens:,} tokens, {coder.n_latents:,} latents, {coder.firings.sum():,} nonzeros")
        tell([measure(folder, sample) for _ in range(given.rounds)], sample)


def write(size: Size, folder: Path, copied: float) -> None:
    """Write the store; that share of each batch is stretches of the first one, 64 tokens each."""
    generator, bank = np.random.default_rng(0), np.empty(0, dtype=np.uint32)
    with writer(size, folder) as store:
        for tokens, documents, part in batches(size):
            flat = tokens.reshape(-1)
            bank = bank if len(bank) else flat.copy()
            for start, source in generator.integers(len(flat) - STRETCH, size=(round(copied * len(flat) / STRETCH), 2)):
                flat[start : start + STRETCH] = bank[source : source + STRETCH]
            store.append(tokens, documents, {"c": part})
        store.finish()


def measure(folder: Path, sample: list[int]) -> dict[str, dict[str, float]]:
    """One round: each way in turn."""
    few, default = sample[::SHARE], ExampleSettings()
    return {
        "arrays": seconds(arrays, STATED, folder, sample),
        "with strings": seconds(with_strings, STATED, folder, sample),
        "arrays, with select": seconds(arrays, default, folder, sample),
        "with strings, with select": seconds(with_strings, default, folder, sample),
        "arrays, few": seconds(arrays, STATED, folder, few),
        "plain": seconds(plain, STATED, folder, few),
        "with strings, few": seconds(with_strings, STATED, folder, few),
        "plain with strings": seconds(plain_with_strings, STATED, folder, few),
    }


def tell(rounds: list[dict[str, dict[str, float]]], sample: list[int]) -> None:
    """Print the table and the line of JSON."""
    few = sample[::SHARE]
    rates, kept_rates = {}, {}
    print(f"{'latents per CPU-second':26} {'all':>10} {'kept':>10}")
    for way in rounds[0]:
        size = len(few if "few" in way or "plain" in way else sample)
        rates[way] = statistics.median(size / one[way]["all_s"] for one in rounds)
        kept_rates[way] = statistics.median(one[way]["kept"] / max(one[way]["kept_s"], 1e-9) for one in rounds)
        print(f"{way:26} {rates[way]:>10,.0f} {kept_rates[way]:>10,.0f}")

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
                "with_select_latents_per_cpu_s": round(rates["arrays, with select"]),
                "with_select_latents_per_cpu_s_with_strings": round(rates["with strings, with select"]),
                "with_select_kept_latents_per_cpu_s": round(kept_rates["arrays, with select"]),
                "with_select_kept_latents_per_cpu_s_with_strings": round(kept_rates["with strings, with select"]),
                "ratio_to_naive": ratio("arrays, few", "plain"),
                "ratio_to_naive_with_strings": ratio("with strings, few", "plain with strings"),
                "once_for_a_store_cpu_s": round(max(one["arrays"]["once_s"] for one in rounds), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
