from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.clients.models import Models
from harness.clients.protocol import Capabilities, Request
from harness.errors import TaskError
from harness.questions.kinds import Simulate
from harness.scorers.simulation import SimulationScorer
from harness.testing import MockClient
from harness.values import Example, Explanation, Passage, ScoredSet

pytestmark = pytest.mark.anyio

WORDS = Explanation("the word cat")


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
