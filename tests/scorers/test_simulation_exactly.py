"""Strengths from logprobs equal the expectation under the model's distribution, by a plain pass over a plain text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from harness.clients import Client, connect
from harness.clients.models import Models
from harness.scorers.simulation import SimulationScorer
from harness.values import Example, Explanation, Passage, ScoredSet

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"subject": ROOT / "fixtures" / "subject", "stories": ROOT.parent / "shared" / "data" / "stories260K"}
BOTH = [
    "subject",
    pytest.param(
        "stories",
        marks=[
            pytest.mark.real_data,
            pytest.mark.skipif(not FOLDERS["stories"].is_dir(), reason="the real model is not beside the checkout"),
        ],
    ),
]
WORDS = Explanation("the word cat")
MODES = ("all-at-once", "token-by-token")
# the variant `tiny` as the model reads it, up to the first token of a passage
PROMPT = "Words and numbers.\n\nboats\n\n a\t0\n boat\t9\n and\t0\n\nthe word cat\n\n"
PLAIN = (" the", " cat", " sat", " down")
# tokens with tabs, line breaks, marks, backslashes, a character in two pieces, and no text at all
AWKWARD = ("\tsat\n", " <<", "dog", ">>", "\n\n", "\\n", " a<b", " caf", "\udcc3", "\udca9", "", "1\t9\n", " the")
AS_LINES = (
    r"\tsat\n", r" \<\<", "dog", r"\>\>", r"\n\n", r"\\n", " a<b", " caf", r"\xc3", r"\xa9", "", r"1\t9\n", " the",
)  # fmt: skip


@pytest.fixture(params=BOTH)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def client(name: str) -> AsyncIterator[Client]:
    made = connect(f"local/{FOLDERS[name]}", {})
    yield made
    await made.aclose()


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.clients.models.connect", lambda name, settings: None)
    monkeypatch.setattr(Models, "identity", lambda self, name: [name])


@pytest.fixture
def simulated(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A passage's strengths by a mode, before they are rounded for the journal."""
    kept: list[tuple[float, ...]] = []
    own: Callable[..., Any] = SimulationScorer._judged

    def seen(self: Any, *args: Any) -> Any:
        made = own(self, *args)
        kept.append(made.answer.strengths)
        return made

    monkeypatch.setattr(SimulationScorer, "_judged", seen)

    async def simulate(mode: str, tokens: Sequence[str], **settings: Any) -> tuple[float, ...]:
        kept.clear()
        options = {"prompt": "tiny", "digit_mass": 0.0, "alternatives": client.capabilities.top_logprobs, **settings}
        scorer = SimulationScorer(
            SimulationScorer.Settings(model="mock/model", mode=mode, **options),
            Models({}, lambda _: client),  # type: ignore[arg-type]  # the fixture's client, whatever was connected
            tmp_path,
        )
        scored = await scorer.score(WORDS, ScoredSet("random", (_example(tokens),), maximum=8.0), 0)
        assert scored.metrics["largest"] == 9  # both tokenizers cut "10"
        (strengths,) = kept
        assert scored.verdicts.predicted[0] == pytest.approx(strengths, abs=5e-3, nan_ok=True)
        return strengths

    return simulate


def _example(tokens: Sequence[str]) -> Example:
    activations = np.zeros(len(tokens), np.float32)
    activations[1] = 8
    return Example(Passage(tuple(tokens)), activations, 3)


class _Plain:
    """The model's next-token distribution by a plain forward pass over a text, which opens with BOS."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.bos = json.loads((folder / "config.json").read_text())["bos_token_id"]
        self.said = [self._text(token) for token in range(self.model.config.vocab_size)]

    def _text(self, token: int) -> str:
        # between letters, so that a decoder that drops a leading blank drops none of the token
        letter = self.tokenizer.encode("x", add_special_tokens=False).ids
        around = [self.tokenizer.decode([*letter, *middle, *letter]) for middle in ([token], [])]
        return around[0][1:-1].strip() if len(around[0]) > len(around[1]) else ""

    def masses(self, text: str) -> list[float]:
        """The probability of each digit as the next token, however it is spelled."""
        ids = [self.bos, *self.tokenizer.encode(text, add_special_tokens=False).ids]
        with torch.no_grad():
            chances = self.model(torch.tensor([ids])).logits[0, -1].double().softmax(-1).tolist()
        return [sum(c for c, said in zip(chances, self.said, strict=True) if said == str(n)) for n in range(10)]

    def expectation(self, text: str) -> float:
        masses = self.masses(text)
        return sum(value * mass for value, mass in enumerate(masses)) / sum(masses)


@pytest.fixture
def plain(name: str) -> _Plain:
    return _Plain(FOLDERS[name])


def test_digits_are_found_by_the_plain_reading_too(plain: _Plain) -> None:
    assert {str(number) for number in range(10)} <= set(plain.said)


@pytest.mark.parametrize(("tokens", "shown"), [(PLAIN, PLAIN), (AWKWARD, AS_LINES)], ids=["plain", "awkward"])
async def test_all_at_once_is_the_exact_expectation_at_every_token(
    simulated: Callable[..., Any], plain: _Plain, tokens: Sequence[str], shown: Sequence[str]
) -> None:
    found = await simulated("all-at-once", tokens)
    text, expected = PROMPT, []
    for token in shown:
        expected.append(plain.expectation(text + token + "\t"))
        text += token + "\tunknown\n"
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(found) - min(found) > 0.1  # tokens differ: a strength at a wrong place would be seen


@pytest.mark.parametrize(("tokens", "shown"), [(PLAIN, PLAIN), (AWKWARD, AS_LINES)], ids=["plain", "awkward"])
async def test_token_by_token_is_the_exact_expectation_after_the_likeliest_earlier_strengths(
    simulated: Callable[..., Any], plain: _Plain, tokens: Sequence[str], shown: Sequence[str]
) -> None:
    found = await simulated("token-by-token", tokens)
    text, expected = PROMPT, []
    for token in shown:
        text += token + "\t"
        masses = plain.masses(text)
        expected.append(sum(value * mass for value, mass in enumerate(masses)) / sum(masses))
        text += f"{masses.index(max(masses))}\n"
    assert found == pytest.approx(expected, abs=1e-5)


async def test_both_modes_agree_where_nothing_stands_before(simulated: Callable[..., Any]) -> None:
    # where a passage begins both modes read the same text
    firsts = [[(await simulated(mode, (token, " the")))[0] for token in AWKWARD] for mode in MODES]
    assert firsts[0] == pytest.approx(firsts[1], abs=1e-5)
    assert len({round(first, 4) for first in firsts[0]}) > len(AWKWARD) // 2


async def test_a_local_model_tells_every_number_however_few_alternatives_are_wanted(
    simulated: Callable[..., Any], plain: _Plain
) -> None:
    found = await simulated("all-at-once", PLAIN, alternatives=11)
    text = PROMPT
    for token, strength in zip(PLAIN, found, strict=True):
        masses = plain.masses(text + token + "\t")
        assert strength == pytest.approx(sum(n * mass for n, mass in enumerate(masses)) / sum(masses), abs=1e-5)
        text += token + "\tunknown\n"


async def test_too_little_digit_mass_is_a_failure(client: Client, tmp_path: Path) -> None:
    settings = SimulationScorer.Settings(model="mock/model", mode="all-at-once", prompt="tiny")
    scorer = SimulationScorer(settings, Models({}, lambda _: client), tmp_path)  # type: ignore[arg-type]  # as above
    scored = await scorer.score(WORDS, ScoredSet("random", (_example(PLAIN),), maximum=8.0), 0)
    assert scored.verdicts.failures() == {"unparsable": 1}
    assert scored.metrics["digit_mass"] < 0.5
