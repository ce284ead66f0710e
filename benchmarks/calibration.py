"""What calibrating strengths costs, against whole forward passes: batched by the same search, and one at a time.

`ours` reads the last token again from the hookpoint's block upward. `batched` gives the same search whole forward
passes of the same batches. `reference` is the published way: one prompt at a time, whole passes, the clean one
repeated each round, the same start, at most ten rounds, done within a tenth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.measuring import Clock
from harness.subject.calibrate import CalibrationSettings, Prompts, calibrate, kl_divergence
from harness.subject.calibrate_search import Calibration, search
from harness.subject.coders.protocol import CoderInfo
from harness.subject.coders.sparse import SparseCoder, SparseWeights
from harness.subject.hookpoints import Hookpoint
from harness.subject.steer import Edit, Padded, Steering
from harness.subject.threads import torch_threads
from harness.subject.tracing import Traced

_ROUNDS = 10


def made_steering(layer: int, given: argparse.Namespace) -> Steering:
    """A Llama with random weights, and random directions behind one of its blocks."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=given.width,
        intermediate_size=given.width * 11 // 4,
        num_hidden_layers=given.layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        initializer_range=0.08,
    )
    model: Any = LlamaForCausalLM(config)
    model.eval().requires_grad_(False)
    w_dec = torch.nn.functional.normalize(torch.randn(given.latents, given.width), dim=-1).half().float()
    weights = SparseWeights(
        w_dec.T.contiguous(), torch.zeros(given.latents), w_dec, torch.zeros(given.width), "topk", 8
    )
    coder = SparseCoder(CoderInfo(given.latents, given.width, given.width, "", "random"), weights)
    return Steering(Traced(model), Hookpoint(f"model.layers.{layer}"), coder)


def batched(steering: Steering, prompts: Padded, latents: Sequence[int], settings: CalibrationSettings) -> Any:
    """The same search by whole forward passes of latents times prompts."""
    size = len(prompts.tokens)
    clean = steering.logits(prompts, [None] * size).log_softmax(-1)

    def measure(wanted: Sequence[tuple[int, float]]) -> list[float]:
        found: list[float] = []
        at_once = max(1, settings.rows // size)
        for begin in range(0, len(wanted), at_once):
            part = wanted[begin : begin + at_once]
            many = Padded(prompts.tokens.repeat(len(part), 1), prompts.mask.repeat(len(part), 1))
            edits = [Edit(latent, strength) for latent, strength in part for _ in range(size)]
            steered = steering.logits(many, edits).log_softmax(-1)
            found += kl_divergence(clean.repeat(len(part), 1), steered).view(len(part), size).mean(-1).tolist()
        return found

    starts = Prompts(steering, prompts).starts(latents)
    return search(measure, starts, settings.targets, tolerance=settings.tolerance, max_rounds=settings.max_rounds)


def reference(steering: Steering, prompts: Padded, latents: Sequence[int], target: float, start: float) -> list[float]:
    """One prompt at a time; doubling until the target is passed, halving the bracket after."""
    found: list[float] = []
    for latent in latents:
        low, high, strength = 0.0, None, start
        for _ in range(_ROUNDS):
            total = 0.0
            for tokens, mask in zip(prompts.tokens, prompts.mask, strict=True):
                one = Padded(tokens[None], mask[None])
                clean = steering.logits(one, [None]).log_softmax(-1)
                steered = steering.logits(one, [Edit(latent, strength)]).log_softmax(-1)
                total += float(kl_divergence(clean, steered))
            kl = total / len(prompts.tokens)
            if abs(kl / target - 1) <= 0.1:
                break
            low, high = (strength, high) if kl < target else (low, strength)
            strength = 2 * strength if high is None else (low + high) / 2
        found.append(strength)
    return found


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of all threads, and the result."""
    with Clock() as clock:
        result = work()
    return clock.cpu, result


def measure(layer: int, given: argparse.Namespace) -> dict[str, float]:
    """All three ways at one hookpoint; the reference on a few of the latents, scaled up."""
    steering = made_steering(layer, given)
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(4096, (given.prompts, given.tokens), generator=draw)
    prompts = Padded(tokens, torch.ones_like(tokens))
    settings = CalibrationSettings(targets=(given.target,))
    latents = range(given.latents)
    start = Prompts(steering, prompts).starts(latents)[0]
    ratios: list[float] = []
    ours: list[Calibration] = []
    others: list[Calibration] = []
    took = [0.0, 0.0]
    for _ in range(given.pairs):
        took[0], ours = seconds(lambda: calibrate(steering, prompts, latents, settings))
        took[1], others = seconds(lambda: batched(steering, prompts, latents, settings))
        ratios.append(took[0] / took[1])
    few = list(latents)[: given.reference]
    slow, _ = seconds(lambda: reference(steering, prompts, few, given.target, start))
    tried = sum(len(one.points) for one in ours)
    above = given.layers - layer - 1
    apart = max(abs(one.strength / other.strength - 1) for one, other in zip(ours, others, strict=True))
    return {
        "cpu_over_batched_full": round(statistics.median(ratios), 4),
        "reference_over_ours": round(slow * given.latents / len(few) / took[0], 1),
        # passes of one prompt's last token through one block, beside the one whole pass for all latents
        "layer_passes_per_latent": round(tried * given.prompts * above / given.latents, 1),
        "tries_per_latent": round(tried / given.latents, 2),
        "within_10_percent": round(sum(abs(one.kl / given.target - 1) <= 0.1 for one in ours) / len(ours), 3),
        "strengths_apart": round(apart, 6),
        "cpu_s": round(took[0], 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--latents", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a prompt")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--target", type=float, default=0.33)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--reference", type=int, default=4, help="latents that the reference way does")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    places = {"early": 1, "middle": given.layers // 2 - 1, "late": given.layers - 2}
    measured: dict[str, dict[str, float]] = {}
    with torch_threads(given.threads):
        for name, layer in places.items():
            measured[name] = measure(layer, given)
            print(f"{name}: {measured[name]}", file=sys.stderr)
    for name, found in measured.items():
        print(
            f"{name}: {found['cpu_over_batched_full']:.3f} of batched whole passes' CPU, the reference way "
            f"{found['reference_over_ours']:.0f} times ours; {found['within_10_percent']:.0%} within a tenth"
        )
    keys = ("cpu_over_batched_full", "reference_over_ours", "layer_passes_per_latent", "within_10_percent")
    told = {key: {name: found[key] for name, found in measured.items()} for key in keys}
    print(json.dumps({**told, "settings": vars(given), "measured": measured}))


if __name__ == "__main__":
    main()
