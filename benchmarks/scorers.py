"""What scorers that read text by a model of this process cost, against plain loops over the same model.

Surprisal: windows are scored under several explanations and under the words that tell nothing, all after the same
few-shot blocks, by the scorer with `local/`, its replies kept in memory. `naive` is one forward pass a text, the whole
of it; `batched` pads whole texts of like length to batches, and wants no more logits than are needed. Both do each text
once, and are given the texts' tokens beforehand; ours finds them itself.

Embedding: see `benchmarks.scorers_embedding`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from benchmarks.measuring import in_turn
from benchmarks.scorers_embedding import embedding
from harness import resources
from harness.clients import MemoryKeeper, Request, assemble, connect
from harness.clients.models import Models
from harness.questions.kinds import Surprisal
from harness.questions.messages import Message
from harness.questions.prompts import load_variant
from harness.scorers.surprisal import SurprisalScorer
from harness.subject.threads import torch_threads
from harness.values import Example, Explanation, Passage, ScoredSet

_WINDOW = 32
_WORDS = (
    "Names of people where they are told for the first time, and titles before them.",
    "Words for weather, above all for rain and what it does to roads.",
    "Verbs in the past tense that say that something moved.",
    "Numbers in dates and prices.",
)
# of information values in nats, which are differences of sums over a window's tokens
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Text:
    """A whole text's tokens, the last `count` of which are to be scored."""

    ids: Sequence[int]
    count: int


@dataclass(frozen=True)
class Case:
    """What all ways are measured on: windows, explanations, and `[1 + explanations][windows]` texts, z0's first."""

    explanations: Sequence[Explanation]
    examples: ScoredSet
    texts: Sequence[Sequence[Text]]


def made_case(tokenizer: Tokenizer, given: argparse.Namespace) -> Case:
    """Windows of 32 tokens of held-out text, every other one held for activating."""
    windows = made_windows(tokenizer, given.windows)
    silent = np.zeros(1, np.float32)
    examples = [
        Example(Passage((text,)), silent, None if at % 2 else 1 + at % 10, "random" if at % 2 else None)
        for at, text in enumerate(windows)
    ]
    explanations = [Explanation(words) for words in _WORDS[: given.explanations]]
    variant = load_variant("surprisal", given.prompt)
    texts: list[list[Text]] = []
    for told in (None, *explanations):
        prefix = "\n\n".join(message.content for message in variant.render(Surprisal(told)).messages) + "\n\n"
        texts.append([made_text(tokenizer, prefix, window, given.bos) for window in windows])
    return Case(explanations, ScoredSet("random", tuple(examples)), texts)


def made_windows(tokenizer: Tokenizer, count: int) -> list[str]:
    """Windows of held-out text."""
    windows: list[str] = []
    for line in resources.fixture("text", "heldout.jsonl").read_text().splitlines():
        ids = tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids
        starts = range(0, len(ids) - _WINDOW + 1, _WINDOW)
        windows += [tokenizer.decode(ids[start : start + _WINDOW]) for start in starts]
        if len(windows) >= count:
            return windows[:count]
    raise SystemExit(f"--windows: the held-out text has {len(windows)}")


def made_text(tokenizer: Tokenizer, prefix: str, window: str, bos: int) -> Text:
    """A window after a prefix."""
    found = tokenizer.encode(prefix + window, add_special_tokens=False)
    return Text([bos, *found.ids], sum(stop > len(prefix) for _, stop in found.offsets))


@torch.no_grad()
def naive(model: Any, case: Case) -> NDArray[np.float64]:
    """Information values `[explanations, windows]`: one forward pass a text."""

    def one(text: Text) -> float:
        ids = torch.tensor([text.ids])
        logprobs = model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
        return float(logprobs.gather(-1, ids[0, 1:, None])[-text.count :].sum())

    return _values([[one(text) for text in row] for row in case.texts])


@torch.no_grad()
def batched(model: Any, case: Case, rows: int) -> NDArray[np.float64]:
    """The same in batches of whole texts, padded on the left."""
    every = [text for row in case.texts for text in row]
    found = np.zeros(len(every))
    order = sorted(range(len(every)), key=lambda at: len(every[at].ids))
    for start in range(0, len(order), rows):
        batch = [every[at] for at in order[start : start + rows]]
        longest, keep = max(len(text.ids) for text in batch), max(text.count for text in batch)
        ids = torch.tensor([[0] * (longest - len(text.ids)) + list(text.ids) for text in batch])
        mask = torch.tensor([[0] * (longest - len(text.ids)) + [1] * len(text.ids) for text in batch])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        options = {"attention_mask": mask, "position_ids": positions, "logits_to_keep": keep + 1, "use_cache": False}
        logprobs = model(input_ids=ids, **options).logits[:, :-1].float().log_softmax(-1)
        chosen = logprobs.gather(-1, ids[:, -keep:, None])[..., 0]
        for row, at in enumerate(order[start : start + rows]):
            found[at] = float(chosen[row, -every[at].count :].sum())
    return _values(found.reshape(len(case.texts), -1))


def _values(sums: Any) -> NDArray[np.float64]:
    logprobs = np.asarray(sums, np.float64)
    return logprobs[1:] - logprobs[0]


async def ours(case: Case, name: str, given: argparse.Namespace) -> NDArray[np.float64]:
    """The same by the scorer, all explanations at once, with replies kept until it ends."""
    models = Models({name: _settings(given)}, lambda client: assemble(client, MemoryKeeper()))
    scorer = SurprisalScorer(SurprisalScorer.Settings(model=name, prompt=given.prompt), models, Path())
    found: dict[int, NDArray[np.float32]] = {}

    async def one(at: int) -> None:
        found[at] = (await scorer.score(case.explanations[at], case.examples, 0)).verdicts.value

    async with anyio.create_task_group() as group:
        for at in range(len(case.explanations)):
            group.start_soon(one, at)
    await models.aclose()
    return np.array([found[at] for at in range(len(found))], np.float64)


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    return {"batch": given.batch, "threads": given.threads}


def surprisal(given: argparse.Namespace) -> dict[str, Any]:
    """Medians over rounds in which the ways take turns."""
    name = f"local/{given.model}"
    tokenizer = Tokenizer.from_file(str(given.model / "tokenizer.json"))
    case = made_case(tokenizer, given)
    model: Any = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    # a second client, so that the model stays loaded between rounds
    held = connect(name, _settings(given))
    anyio.run(held.generate, Request((Message("user", "a"),), 0, continuation=" b"))
    ways: Mapping[str, Callable[[], NDArray[np.float64]]] = {
        "ours": lambda: anyio.run(ours, case, name, given),
        "batched": partial(batched, model, case, given.batch),
        "naive": partial(naive, model, case),
    }
    turns = in_turn(ways, given.rounds)
    anyio.run(held.aclose)
    if (apart := turns.apart("ours")) > _TOLERANCE:
        raise SystemExit(f"the ways are {apart} nats apart")
    ratios = turns.ratios("ours")
    asked = len(case.texts) * given.windows
    return {
        "surprisal_over_naive": round(statistics.median(ratios["naive"]), 4),
        "surprisal_over_batched": round(statistics.median(ratios["batched"]), 4),
        "values_apart": round(apart, 7),
        "prefix_tokens": statistics.median(len(text.ids) - text.count for row in case.texts for text in row),
        "cpu_ms_a_text": {way: round(1000 * taken / asked, 3) for way, taken in turns.medians().items()},
        "rounds": ratios,
    }


PARTS: Mapping[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"surprisal": surprisal, "embedding": embedding}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scorers", description=__doc__)
    parser.add_argument("--model", type=Path, default=resources.fixture("subject"), help="folder of a base model")
    parser.add_argument("--prompt", default="default", help="prompt variant of surprisal")
    parser.add_argument("--bos", type=int, default=0, help="the token that opens a text of the model")
    parser.add_argument("--windows", type=int, default=100)
    parser.add_argument("--explanations", type=int, default=2, choices=range(1, len(_WORDS) + 1))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    with torch_threads(given.threads):
        for name, part in PARTS.items():
            measured = part(given)
            print(f"{name}: {measured}", file=sys.stderr)
            found |= {key: value for key, value in measured.items() if key != "rounds"}
    print(f"surprisal: {found['surprisal_over_naive']:.3f} of the naive loop's CPU, ", end="")
    print(f"{found['surprisal_over_batched']:.3f} of the batched loop's; milliseconds a text {found['cpu_ms_a_text']}")
    print(f"embedding: {found['embedding_over_naive']:.3f} of the naive loop's CPU, ", end="")
    print(f"{found['embedding_over_once']:.3f} of a loop's that embeds each text once")
    print(json.dumps({**found, "settings": {key: str(value) for key, value in vars(given).items()}}))


if __name__ == "__main__":
    main()
