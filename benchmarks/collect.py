"""What collection costs over a bare PyTorch loop: a hook that ends the forward pass, and the same encoding.

Both ways read the same batches with the same model and coder, in pairs that take turns. What is compared is
`Reading.rows`, from token ids to sparse rows; the store has a benchmark of its own. On a GPU the clock counts instead
of CPU time, and the whole forward pass alone is measured too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from benchmarks import measuring
from harness import registry
from harness.resources import fixture
from harness.store.format import Rows
from harness.subject.coders.protocol import CoderInfo
from harness.subject.coders.sparse import SparseCoder, SparseWeights
from harness.subject.hookpoints import Hookpoint, first
from harness.subject.reading import Batch, Reading
from harness.subject.threads import torch_threads
from harness.subject.tracing import Traced
from harness.task import CoderSettings


@dataclass(frozen=True)
class Case:
    """A model with an SAE, and how many batches one measurement reads."""

    model: Any
    coder: SparseCoder
    hookpoint: str
    batches: int


def fixture_case(device: str, dtype: torch.dtype) -> Case:
    """The shipped subject and its SAE."""
    folder = fixture("subject")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    settings = CoderSettings(name="sae", hookpoint="model.layers.1", path=str(folder / "sae"))
    return Case(model, registry.load("coders", settings.kind).load(settings, Path(), device), "model.layers.1", 6)


def random_case(
    device: str, dtype: torch.dtype, *, width: int, layers: int, heads: int, latents: int, k: int, batches: int
) -> Case:
    """A Llama with random weights, and a random TopK SAE behind its middle block."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=2048,
    )
    with torch.device(device):
        model: Any = LlamaForCausalLM(config)
    w_enc = torch.randn(width, latents) / width**0.5
    weights = SparseWeights(w_enc, torch.zeros(latents), w_enc.T.contiguous(), torch.zeros(width), "topk", k)
    info = CoderInfo(latents, width, width, "", "random")
    return Case(model.to(dtype), SparseCoder(info, weights, device), f"model.layers.{layers // 2}", batches)


CASES: dict[str, Callable[[str, torch.dtype], Case]] = {
    "fixture": fixture_case,
    "d512": lambda device, dtype: random_case(
        device, dtype, width=512, layers=12, heads=8, latents=16_384, k=32, batches=2
    ),
    "1b": lambda device, dtype: random_case(
        device, dtype, width=2048, layers=16, heads=32, latents=131_072, k=50, batches=8
    ),
}


class _Enough(BaseException):
    """Ends a forward pass after the hook."""


class Bare:
    """The loop that one would write by hand."""

    def __init__(self, case: Case, device: str) -> None:
        self._case = case
        self._device = device
        self._hidden = torch.empty(0)
        self.ending = True
        self._hook = case.model.get_submodule(case.hookpoint).register_forward_hook(self._keep)

    def _keep(self, *parts: Any) -> None:
        self._hidden = first(parts[-1])
        if self.ending:
            raise _Enough

    @torch.no_grad()
    def forward(self, tokens: np.ndarray[Any, Any]) -> torch.Tensor:
        """The activations `[batch, seq, d]`."""
        ids = torch.from_numpy(tokens.astype(np.int64)).to(self._device)
        with suppress(_Enough):
            self._case.model(input_ids=ids, use_cache=False, logits_to_keep=1)
        return self._hidden

    def rows(self, batch: Batch) -> Rows:
        """What fires at the positions of documents."""
        tokens, documents = batch
        hidden = self.forward(tokens)
        return self._case.coder.encode(hidden[torch.from_numpy(documents >= 0).to(hidden.device)])

    def close(self) -> None:
        """Take the hook off again: what nnsight wraps has to be the bare model."""
        self._hook.remove()


def batches(case: Case, rows: int, seq: int) -> list[Batch]:
    """Random token ids; each row begins with a BOS, which is not encoded."""
    draw = np.random.default_rng(0)
    documents = np.zeros((rows, seq), np.int32)
    documents[:, 0] = -1
    size = case.model.config.vocab_size
    return [(draw.integers(size, size=(rows, seq)).astype(np.uint32), documents) for _ in range(case.batches)]


def seconds(work: Callable[[Batch], Any], read: list[Batch], *, cpu: bool) -> float:
    """CPU seconds of all threads, or seconds by the clock until the GPU is done."""
    now = measuring.cpu if cpu else time.perf_counter
    began = now()
    for batch in read:
        work(batch)
    if not cpu:
        torch.cuda.synchronize()
    return now() - began


def measure(name: str, given: argparse.Namespace) -> dict[str, float]:
    """Both ways in turn, after one round of each that is not counted."""
    cpu = given.device == "cpu"
    case = CASES[name](given.device, getattr(torch, given.dtype))
    case.model.to(given.device).eval().requires_grad_(False)
    read = batches(case, given.rows, given.seq)
    point = Hookpoint(case.hookpoint)
    reading = Reading(Traced(case.model), {"sae": point}, {"sae": case.coder})

    def ours(batch: Batch) -> None:
        reading.rows(*batch)

    pairs: list[tuple[float, float, float]] = []
    for number in range(given.pairs + 1):
        order = (0, 1) if number % 2 else (1, 0)
        took = [0.0, 0.0, 0.0]
        for which in order:
            if which:
                took[1] = seconds(ours, read, cpu=cpu)
                continue
            bare = Bare(case, given.device)
            took[0] = seconds(bare.rows, read, cpu=cpu)
            if not cpu:
                bare.ending = False
                took[2] = seconds(lambda batch, bare=bare: bare.forward(batch[0]), read, cpu=cpu)
            bare.close()
        pairs.append((took[0], took[1], took[2]))
        print(f"{name}: pair {number} of {given.pairs}", file=sys.stderr)
    return _told(pairs[1:], len(read) * given.rows * given.seq, cpu=cpu)


def _told(pairs: list[tuple[float, float, float]], tokens: int, *, cpu: bool) -> dict[str, float]:
    bare, ours, whole = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(ours / bare for bare, ours, _ in pairs)
    found = {
        "over_bare": round(statistics.median(ratios), 3),
        "lowest": round(ratios[0], 3),
        "highest": round(ratios[-1], 3),
        "tokens_per_s": round(tokens / ours),
        "bare_tokens_per_s": round(tokens / bare),
        "peak_gib": round(measuring.peak() / 2**30, 2),
    }
    if not cpu:
        found["forward_tokens_per_s"] = round(tokens / whole)
        found["over_forward"] = round(statistics.median(ours / whole for _, ours, whole in pairs), 3)
        found["gpu_peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collect", description=__doc__)
    parser.add_argument("--model", choices=sorted(CASES), action="append", help="which; fixture and d512 if not given")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    with torch_threads(given.threads):
        measured = {name: measure(name, given) for name in given.model or ("fixture", "d512")}
    unit = "CPU-second" if given.device == "cpu" else "second"
    for name, found in measured.items():
        print(
            f"{name}: {found['over_bare']:.3f} of a bare loop's ({found['lowest']:.3f} to {found['highest']:.3f}); "
            f"{found['tokens_per_s']:,} tokens a {unit} (bare {found['bare_tokens_per_s']:,}), peak "
            f"{found['peak_gib']} GiB"
        )
    key = "cpu_over_bare" if given.device == "cpu" else "time_over_bare"
    ratios = {name: found["over_bare"] for name, found in measured.items()}
    print(json.dumps({key: ratios, "settings": vars(given), "measured": measured}))


if __name__ == "__main__":
    main()
