"""Generation: figures are those of where the latent fired, failures are verdicts that are missing, samples differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from harness.clients.models import Models
from harness.clients.protocol import Capabilities, Reply, Request
from harness.questions.kinds import Generate
from harness.scorers.generation import Generation
from harness.scorers.verdicts import NOWHERE
from harness.testing import MockClient
from harness.values import Explanation, Latent, ReadText, ScoredSet, Usage

pytestmark = pytest.mark.anyio

LATENT = Latent("sae", 3)
EXAMPLES = ScoredSet("random", (), LATENT, 8.0)
MONTHS = Explanation("months")


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.clients.models.connect", lambda name, settings: None)
    monkeypatch.setattr(Models, "identity", lambda self, name: [name])


class Digits:
    """Reads a text's words; the latent is as active on a number as it says."""

    def __init__(self) -> None:
        self.read_for: list[tuple[Latent, tuple[str, ...]]] = []

    async def read(self, latent: Latent, texts: Sequence[str]) -> list[ReadText]:
        self.read_for.append((latent, tuple(texts)))
        split = [tuple(text.split()) for text in texts]
        values = [[float(word) if word.isdigit() else 0.0 for word in words] for words in split]
        return [ReadText(words, np.array(value, np.float32)) for words, value in zip(split, values, strict=True)]


def scorer(client: Any, reader: Digits | None = None, **settings: Any) -> Generation:
    made = Generation(Generation.Settings(model="mock/model", **settings), Models({}, lambda _: client), Path())
    made.bind(reader or Digits())
    return made


def asked(request: Request) -> Generate:
    assert isinstance(request.question, Generate)
    return request.question


def numbered(texts: Sequence[str]) -> str:
    return "\n".join(f"{n}. {text}" for n, text in enumerate(texts, 1))


def sides(firing: Sequence[str], silent: Sequence[str]) -> MockClient:
    """A client that writes these texts."""
    return MockClient(lambda request: numbered(firing if asked(request).activating else silent))


async def test_figures_are_those_of_the_largest_activations() -> None:
    firing, silent = ["a 4 b 6", "2", "none", "12 1"], ["no", "nor this", "1 here", "3"]
    scored = await scorer(sides(firing, silent), texts=4).score(MONTHS, EXAMPLES, 0)
    peaks = np.array([6, 2, 0, 12, 0, 0, 1, 3], np.float64)
    truth = np.array([1] * 4 + [0] * 4)
    found = scored.metrics
    assert found["hit_rate"] == found["recall"] == 0.75
    assert found["false_alarm_rate"] == 0.5
    assert found["balanced_accuracy"] == balanced_accuracy_score(truth, peaks > 0)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, peaks))
    assert found["average_precision"] == pytest.approx(average_precision_score(truth, peaks))
    assert found["relative_maximum"] == pytest.approx((6 + 2 + 0 + 12) / 4 / 8)
    assert found["distinct"] == 8
    verdicts = scored.verdicts
    assert verdicts.truth.tolist() == truth.tolist()
    assert verdicts.label.tolist() == (peaks > 0).astype(int).tolist()
    assert verdicts.value.tolist() == peaks.tolist()
    assert set(verdicts.context.tolist()) == {NOWHERE}
    assert ["".join(example.passage.tokens) for example in scored.examples] == [
        t.replace(" ", "") for t in firing + silent
    ]
    assert [example.activating for example in scored.examples] == [True] * 4 + [False] * 4


async def test_the_latent_and_all_texts_go_to_the_subject_at_once_in_the_order_of_verdicts() -> None:
    reader = Digits()
    await scorer(sides(["1", "2"], ["x", "y"]), reader, texts=2).score(MONTHS, EXAMPLES, 0)
    assert reader.read_for == [(LATENT, ("1", "2", "x", "y"))]


async def test_texts_are_asked_for_in_batches_that_are_samples_of_their_own() -> None:
    client = MockClient(lambda request: numbered([f"{request.sample} {n}" for n in range(asked(request).count)]))
    scored = await scorer(client, texts=7, batch=3).score(MONTHS, EXAMPLES, 5)
    questions = [(asked(r).activating, r.sample, asked(r).count) for r in client.requests]
    assert sorted(questions) == [(side, n, size) for side in (False, True) for n, size in enumerate((3, 3, 1))]
    assert len({request.seed for request in client.requests}) == 6
    assert {request.temperature for request in client.requests} == {0.7}
    assert len(scored.verdicts) == 14
    assert scored.metrics["distinct"] == 7  # both sides got the same here
    again = MockClient(lambda request: numbered(["1"] * asked(request).count))
    await scorer(again, texts=7, batch=3).score(MONTHS, EXAMPLES, 5)
    assert {(r.sample, r.seed) for r in again.requests} == {(r.sample, r.seed) for r in client.requests}
    other = MockClient(lambda request: numbered(["1"] * asked(request).count))
    await scorer(other, texts=7, batch=3).score(MONTHS, EXAMPLES, 6)
    assert {r.seed for r in other.requests}.isdisjoint({r.seed for r in client.requests})


async def test_too_few_texts_are_asked_for_once_more_and_then_a_failure_of_their_side() -> None:
    client = sides(["1", "2"], ["x", "y", "z"])
    scored = await scorer(client, texts=3).score(MONTHS, EXAMPLES, 0)
    assert [asked(request).activating for request in client.requests].count(True) == 2
    again = [r for r in client.requests if len(r.messages) > len(client.requests[0].messages)]
    assert again[0].messages[-1].content == (
        "This cannot be read: the reply has 2 texts where 3 are needed. Reply with exactly 3 lines, numbered from 1. "
        "to 3. and a text on each, nothing else."
    )
    assert scored.verdicts.failures() == {"unparsable": 3}
    assert scored.verdicts.label.tolist() == [-1, -1, -1, 0, 0, 0]
    assert np.isnan(scored.verdicts.value[:3]).all()
    found = scored.metrics
    assert (found["hit_rate"], found["balanced_accuracy"], found["auroc"], found["relative_maximum"]) == (None,) * 4
    assert (found["false_alarm_rate"], found["distinct"]) == (0.0, 3)
    assert len(scored.examples) == 6


async def test_where_the_second_reply_has_enough_there_is_no_failure() -> None:
    replies = {True: iter(["1. 5", numbered(["1", "2"])]), False: iter([numbered(["x", "y"])])}
    client = MockClient(lambda request: next(replies[asked(request).activating]))
    scored = await scorer(client, texts=2).score(MONTHS, EXAMPLES, 0)
    assert scored.verdicts.failures() == {}
    assert scored.metrics["hit_rate"] == 1.0
    assert scored.usage.requests == 3
    assert len(scored.replies) == 3


async def test_a_reply_that_was_cut_off_counts_without_its_last_line() -> None:
    def written(request: Request) -> Reply:
        lines = (
            ["1 one", "2 two", "a thi"] if asked(request).activating else ["x", "y", "z"][: 2 + (request.sample > 0)]
        )
        return Reply(numbered(lines), "length", Usage(requests=1))

    scored = await scorer(MockClient(written), texts=2).score(MONTHS, EXAMPLES, 0)
    assert scored.verdicts.failures() == {"truncated": 2}
    assert scored.verdicts.label.tolist() == [1, 1, -1, -1]


async def test_without_an_explanation_texts_are_asked_for_all_the_same() -> None:
    client = sides(["1", "x"], ["2", "y"])
    scored = await scorer(client, texts=2).score(None, EXAMPLES, 0)
    assert all(asked(request).explanation is None for request in client.requests)
    assert all("withheld" in request.messages[-1].content for request in client.requests)
    assert scored.metrics["balanced_accuracy"] == 0.5


async def test_a_client_without_seeds_gets_none_and_a_latent_without_a_maximum_has_no_share_of_it() -> None:
    client = sides(["1"], ["x"])
    client.capabilities = Capabilities(logprobs=None)
    scored = await scorer(client, texts=1).score(MONTHS, ScoredSet("random", (), LATENT, 0.0), 0)
    assert {request.seed for request in client.requests} == {None}
    assert scored.metrics["relative_maximum"] is None


def test_it_is_asked_once_on_the_rung_of_the_headline_and_needs_the_subject() -> None:
    made = scorer(MockClient("1"))
    assert [made.takes(rung) for rung in ("random", "neighbour", "misplaced", "zero-row")] == [
        True,
        False,
        False,
        False,
    ]
    assert made.needs_subject
    assert made.identity["texts"] == made.identity["batch"] == 10


def test_figures_of_one_side_survive_packing() -> None:
    from harness.scorers.verdicts import Verdicts
    from harness.values import Example, Passage

    example = Example(Passage(("a",)), np.zeros(1, np.float32), None, "written")
    verdicts = Verdicts.of([example], [1], values=[70000.0])
    back = Verdicts.unpack(verdicts.pack())
    assert (back.value.tolist(), back.truth.tolist(), back.label.tolist()) == ([70000.0], [0], [1])
