from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.clients.models import Models
from harness.clients.protocol import Reply, Request
from harness.questions.kinds import Intruder
from harness.scorers.intruder import Intruders
from harness.testing import MockClient
from harness.values import Example, Passage, ScoredSet, TokenLogprob, Usage

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.clients.models.connect", lambda name, settings: None)
    monkeypatch.setattr(Models, "identity", lambda self, name: [name])


def _set(count: int) -> ScoredSet:
    active = np.ones(1, np.float32)
    firing = tuple(Example(Passage((f"on {n}",)), active, n * 10 // count + 1) for n in range(count))
    silent = tuple(Example(Passage((f"off {n}",)), 0 * active, None, "random") for n in range(count))
    return ScoredSet("random", (*firing, *silent), maximum=1.0)


def _scorer(client: Any) -> Intruders:
    return Intruders(Intruders.Settings(model="mock/model"), Models({}, lambda _: client), Path())


def _odd(request: Request) -> int:
    assert isinstance(request.question, Intruder)
    return next(at for at, passage in enumerate(request.question.passages, 1) if passage.text.startswith("off"))


async def test_who_finds_every_intruder_has_accuracy_one_and_who_never_does_none() -> None:
    examples = _set(40)
    found = await _scorer(MockClient(lambda request: str(_odd(request)))).score(None, examples, 0)
    missed = await _scorer(MockClient(lambda request: str(_odd(request) % 5 + 1))).score(None, examples, 0)
    assert (found.metrics["accuracy"], missed.metrics["accuracy"]) == (1.0, 0.0)
    assert found.metrics["chance"] == Intruders.chance == 0.2
    assert len(found.verdicts) == 10
    assert found.verdicts.truth.all()


async def test_each_question_has_one_silent_window_among_four_of_neighbouring_quantiles_none_twice() -> None:
    client = MockClient("1")
    await _scorer(client).score(None, _set(40), 0)
    shown = [[p.text for p in request.question.passages] for request in client.requests]  # type: ignore[union-attr]  # asked above
    assert all(sum(text.startswith("off") for text in texts) == 1 and len(texts) == 5 for texts in shown)
    flat = [text for texts in shown for text in texts]
    assert len(set(flat)) == len(flat)
    for texts in shown:
        numbers = [int(text[3:]) // 4 for text in texts if text.startswith("on")]
        assert len(set(numbers)) == 1


async def test_the_order_follows_the_seed_and_places_are_even() -> None:
    client = MockClient("1")
    places = []
    for seed in range(30):
        await _scorer(client).score(None, _set(40), seed)
    places = np.bincount([_odd(request) for request in client.requests], minlength=6)[1:]
    assert places.min() > 35
    again = MockClient("1")
    await _scorer(again).score(None, _set(40), 0)
    assert again.requests[0].messages == client.requests[0].messages


async def test_probabilities_are_those_of_the_numbers_and_prose_is_a_failure() -> None:
    top = (("1", np.log(0.6)), ("2", np.log(0.2)), ("the", np.log(0.2)))
    reply = Reply("1", "stop", Usage(), (TokenLogprob("1", float(np.log(0.6)), top),))
    examples = _set(4)
    client = MockClient(reply)
    scored = await _scorer(client).score(None, examples, 0)
    expected = {1: 0.75, 2: 0.25}.get(_odd(client.requests[0]), 0.0)
    assert scored.verdicts.probability.tolist() == [pytest.approx(expected)]
    prose = await _scorer(MockClient("either 2 or 3")).score(None, examples, 0)
    assert prose.verdicts.failures() == {"unparsable": 1}
    assert prose.metrics["accuracy"] is None
