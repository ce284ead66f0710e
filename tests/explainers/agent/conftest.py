"""A subject, a judge and a few windows that an agent's tools work on without a model or a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from harness.examples.pool import Pool
from harness.explainers.agent.ration import Ration
from harness.explainers.agent.tools import TOOLS, Toolbox
from harness.explainers.agent.trying import Examiner, Trials
from harness.explainers.agent.windows import Windows
from harness.scorers.verdicts import Verdicts
from harness.subject.effect import Change, Effect, Moved
from harness.values import Example, Latent, Passage, Place, ReadText, Usage


class Words:
    """A subject that reads words: the latent fires on those that begin with "c", as strongly as they are long."""

    def __init__(self) -> None:
        self.read_texts: list[str] = []

    def steers(self, coder: str) -> bool:
        return True

    async def read(self, latent: Latent, texts: Sequence[str]) -> list[ReadText]:
        self.read_texts += texts
        return [_read(text) for text in texts]

    async def effects(
        self, latent: Latent, prompts: Sequence[str], change: Change, *, nats: float, tokens: int, seed: int
    ) -> list[Effect]:
        if change == "ablate":
            raise RuntimeError("CUDA out of memory\nand much more")
        return [Effect(prompt, nats, (Moved(" cat", 0.1, 0.4),), (), "dog.", "cat.") for prompt in prompts]


class Judge:
    """Calls every passage firing that has a letter of the explanation's last word; only `test` of an examiner."""

    async def test(self, explanation: str, examples: Sequence[Example], *_: Any) -> tuple[Any, Any, Usage]:
        labels = [int(explanation.split()[-1] in example.passage.text) for example in examples]
        return Verdicts.of(examples, labels), ("k",), Usage(input=3)


def _read(text: str) -> ReadText:
    pieces = tuple(f"{word} " for word in text.split(" "))
    return ReadText(pieces, np.array([len(p) - 1 if p.startswith("c") else 0 for p in pieces], np.float32))


def example(text: str, at: int, rung: str | None = None) -> Example:
    read = _read(text)
    silent = np.zeros(len(read.pieces), np.float32)
    return Example(Passage(read.pieces, (), Place("s", at, 0)), silent if rung else read.activations, None, rung)


class Few(Pool):
    """A pool of few windows."""

    def activating(self, count: int, quantile: int | None = None, *, start: int = 0, purpose: str = "") -> Any:
        return tuple(example(f"a cat and {at} cows", at) for at in range(8))[start : start + count]

    def silent(self, count: int, rung: Any, *, start: int = 0, purpose: str = "") -> Any:
        return tuple(example(f"a dog and {at} hens", 100 + at, rung) for at in range(2))[start : start + count]


@pytest.fixture
def subject() -> Words:
    return Words()


@pytest.fixture
def box(subject: Words) -> Toolbox:
    select = [example("the cat", 50), example("the cow sat", 51), example("the dog", 52, "random")]
    examiner = cast(Examiner, Judge())
    trials = Trials(Latent("words", 3), 10.0, subject, examiner, select, Ration(10**6), 2, 0)
    shown = [example(f"a cat and {at} cows", at) for at in range(3)]
    return Toolbox(Windows(shown, Few(None, ("random",), 10), 10.0), trials, TOOLS)
