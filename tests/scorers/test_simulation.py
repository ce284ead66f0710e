from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from harness.clients import connect
from harness.clients.models import Models
from harness.clients.protocol import Capabilities, Request
from harness.errors import TaskError
from harness.questions.kinds import Simulate
from harness.questions.prompts import load_variant
from harness.scorers.simulation import SimulationScorer
from harness.testing import MockClient
from harness.values import Example, Explanation, Passage, ScoredSet

pytestmark = pytest.mark.anyio

SUBJECT = Path(__file__).resolve().parents[2] / "fixtures" / "subject"
WORDS = Explanation("the word cat")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _example(tokens: Sequence[str], activations: Sequence[float]) -> Example:
    firing = any(activations)
    values = np.array(activations, np.float32)
    return Example(Passage(tuple(tokens)), values, 3 if firing else None, None if firing else "random")


EXAMPLES = ScoredSet(
    "random",
    (_example((" the", " cat", "\tsat\n"), (0, 8, 2)), _example((" a", " <<dog>>", " ran"), (0, 0, 0))),
    maximum=8.0,
)


def _scorer(client: Any, tmp_path: Path, **settings: Any) -> SimulationScorer:
    options = SimulationScorer.Settings(model="mock/model", **settings)
    return SimulationScorer(options, Models({}, lambda _: client), tmp_path)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.clients.models.connect", lambda name, settings: None)
    monkeypatch.setattr(Models, "identity", lambda self, name: [name])


async def test_lists_are_compared_with_the_true_levels_over_all_tokens(tmp_path: Path) -> None:
    replies = {"cat": [1, 9, 3], "dog": [0, 2, 0]}

    def answer(request: Request) -> str:
        assert isinstance(request.question, Simulate)
        return json.dumps(replies["cat" if " cat" in request.question.passage.tokens else "dog"])

    scored = await _scorer(MockClient(answer), tmp_path).score(WORDS, EXAMPLES, 0)
    assert scored.verdicts.predicted.tolist() == [[1, 9, 3], [0, 2, 0]]
    assert scored.verdicts.actual.tolist() == [[0, 10, 2], [0, 0, 0]]  # 10 * 2 / 8 is 2.5, rounded down
    expected = np.corrcoef([1, 9, 3, 0, 2, 0], [0, 10, 2, 0, 0, 0])[0, 1]
    assert scored.metrics["pearson"] == pytest.approx(expected)
    assert scored.metrics["pearson_activating"] == pytest.approx(np.corrcoef([1, 9, 3], [0, 10, 2])[0, 1])


async def test_a_list_of_the_wrong_length_is_a_failure_and_no_row_of_zeros(tmp_path: Path) -> None:
    scored = await _scorer(MockClient("[0, 1]"), tmp_path).score(WORDS, EXAMPLES, 0)
    assert scored.verdicts.failures() == {"unparsable": 2}
    assert np.isnan(scored.verdicts.predicted).all()
    assert scored.metrics["pearson"] is None


async def test_a_prompt_of_another_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="strength-lines"):
        _scorer(MockClient(), tmp_path, mode="all-at-once", prompt="default")
    free = MockClient(capabilities=Capabilities(logprobs=True, model_free=True))
    with pytest.raises(TaskError, match='take "list"'):
        _scorer(free, tmp_path, mode="token-by-token")


class _Plain:
    """The subject's next-token distribution by a plain forward pass over a text."""

    def __init__(self) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(SUBJECT, dtype=torch.float32).eval()
        self.tokenizer = Tokenizer.from_file(str(SUBJECT / "tokenizer.json"))
        self.bos = json.loads((SUBJECT / "config.json").read_text())["bos_token_id"]

    def expectation(self, text: str, largest: int) -> float:
        ids = [self.bos, *self.tokenizer.encode(text, add_special_tokens=False).ids]
        with torch.no_grad():
            chances = self.model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
        sums = [0.0] * (largest + 1)
        for token, chance in enumerate(chances.tolist()):
            said = self.tokenizer.decode([token], skip_special_tokens=False).strip()
            if said in map(str, range(largest + 1)):
                sums[int(said)] += chance
        return sum(value * chance for value, chance in enumerate(sums)) / sum(sums)


def _texts(tokens: Sequence[str], largest: int) -> list[str]:
    """For each token the text before its value, written without the code under test; tokens need no escapes."""
    variant = load_variant("simulate", "tiny")
    messages = variant.render(Simulate(WORDS, Passage(tuple(tokens)), largest)).messages
    text = "\n\n".join(message.content for message in messages) + "\n\n"
    found = []
    for token in tokens:
        found.append(text + token + "\t")
        text += token + "\tunknown\n"
    return found


@pytest.fixture
async def subject() -> Any:
    client = connect(f"local/{SUBJECT}", {})
    yield client
    await client.aclose()


PLAIN = ScoredSet("random", (_example((" the", " cat", " sat"), (0, 8, 2)),), maximum=8.0)


async def test_all_at_once_is_the_exact_expectation_and_token_by_token_agrees_where_prefixes_are_one(
    subject: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[float, ...]] = []
    own: Callable[..., Any] = SimulationScorer._judged

    def seen(self: Any, *args: Any) -> Any:
        made = own(self, *args)
        kept.append(made.answer.strengths)  # before they are rounded to float16
        return made

    monkeypatch.setattr(SimulationScorer, "_judged", seen)
    settings = {"prompt": "tiny", "digit_mass": 0.0, "alternatives": 4096}
    scored = [
        await _scorer(subject, tmp_path, mode=mode, **settings).score(WORDS, PLAIN, 0)
        for mode in ("all-at-once", "token-by-token")
    ]
    largest = scored[0].metrics["largest"]
    plain = _Plain()
    expected = [plain.expectation(text, largest) for text in _texts((" the", " cat", " sat"), largest)]
    at_once, by_token = kept
    assert at_once == pytest.approx(expected, abs=1e-5)
    assert by_token[0] == pytest.approx(at_once[0], abs=1e-5)
    assert scored[0].verdicts.predicted[0] == pytest.approx(expected, abs=5e-3)


async def test_too_little_digit_mass_is_a_failure(subject: Any, tmp_path: Path) -> None:
    scored = await _scorer(subject, tmp_path, mode="all-at-once", prompt="tiny").score(WORDS, PLAIN, 0)
    assert scored.verdicts.failures() == {"unparsable": 1}
    assert scored.metrics["digit_mass"] < 0.5
