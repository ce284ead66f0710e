"""The tiny variants leave room in a context of 512 tokens, window included."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from harness.questions.kinds import (
    Amplified,
    Detect,
    Explain,
    Fuzz,
    Generate,
    Intruder,
    Question,
    Rises,
    Simulate,
    Steered,
    Surprisal,
)
from harness.questions.prompts import load_variant
from harness.questions.simulating import LEAD, UNKNOWN, lines
from harness.values import Example, Explanation, Passage, Rise

FILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "stories260K" / "tokenizer.json"
TEXT = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her friends. One"
    " day, she saw a big red ball and wanted to"
)
WORDS = Explanation("The names of girls and boys in stories, above all where they are told for the first time.")

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FILE.is_file(), reason="the real model is not beside the checkout"),
]


def _questions() -> list[tuple[str, Question]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(FILE))
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids[:32]
    assert len(ids) == 32
    pieces = [tokenizer.decode(ids[:n]) for n in range(33)]
    tokens = tuple(after[len(before) :] for before, after in pairwise(pieces))
    plain, marked = Passage(tokens), Passage(tokens, (3, 9, 20))
    activations = np.zeros(32, np.float32)
    activations[[3, 9, 20]] = 1.0
    return [
        ("tiny", Explain((Example(plain, activations),) * 6, 1.0)),
        ("tiny", Detect(WORDS, (plain, plain))),
        ("tiny", Fuzz(WORDS, (marked, marked))),
        ("tiny", Simulate(WORDS, plain, 9)),
        ("tiny-list", Simulate(WORDS, plain)),
        ("tiny", Intruder((plain,) * 5)),
        ("tiny", Generate(WORDS, 3, activating=False)),
        ("tiny", Surprisal(WORDS)),
        ("tiny", Rises((Rise(TEXT, tuple((token, 0.1) for token in tokens[:5])),) * 10)),
        ("tiny", Amplified(Passage((*tokens, TEXT)))),
        ("tiny", Steered(WORDS, (Passage((*tokens, TEXT), (32,)), Passage((*tokens, TEXT), (32,))))),
    ]


@pytest.mark.parametrize("index", range(11))
def test_a_tiny_question_and_its_reply_fit_512_tokens(index: int) -> None:
    from tokenizers import Tokenizer

    name, question = _questions()[index]
    variant = load_variant(question.name, name)
    text = "\n\n".join(message.content for message in variant.render(question).messages)
    room = variant.max_tokens
    if isinstance(question, Simulate) and variant.reply == "strength-lines":
        tokens = question.passage.tokens
        text += LEAD + lines(tokens, [UNKNOWN] * len(tokens))[0]
        room = 0
    if isinstance(question, Surprisal):
        text += f"\n\n{TEXT}"  # some tokens longer than a window
        room = 0
    if isinstance(question, Amplified):
        text += f"\n\n{variant.format(WORDS, question)}"
        room = 0
    count = len(Tokenizer.from_file(str(FILE)).encode(text, add_special_tokens=False).ids)
    assert count + 1 + room <= 512, f"{count} tokens and {room} for the reply"
