from __future__ import annotations

import json
from typing import Any

import pytest

from harness.clients.protocol import Request
from harness.examples.draw import LatentExamples
from harness.questions.kinds import Detect, Explain
from harness.values import Explanation, Usage

pytestmark = pytest.mark.anyio

CONTEXTS = {"kind": "contexts", "model": "lexical/rules"}
SCORER = {"kind": "detection", "model": "lexical/rules", "batch": 40}
MORE = {"explainer": CONTEXTS, "scorer": SCORER, "model": "lexical/rules"}


def output(rounds: list[tuple[str, float, float]]) -> Any:
    """A model that says one text a round, and takes a share of the activating and of the silent windows for active."""
    shares = {text: (hits, alarms) for text, hits, alarms in rounds}

    def reply(request: Request) -> str:
        question = request.question
        if isinstance(question, Explain):
            past = None if question.tried is None else question.tried.explanation.text
            texts = [text for text, *_ in rounds]
            return f"[explanation]: {texts[0 if past is None else texts.index(past) + 1]}"
        assert isinstance(question, Detect)
        assert question.explanation is not None
        left = dict(zip((True, False), shares[question.explanation.text], strict=True))
        seen = {True: 0, False: 0}
        labels = []
        for passage in question.passages:
            fires = any(token.strip() == "w3" for token in passage.tokens)
            seen[fires] += 1
            labels.append(int(seen[fires] <= round(16 * left[fires])))
        return json.dumps(labels)

    return reply


async def test_each_round_is_shown_what_the_last_one_got_wrong_and_the_best_is_kept(
    asking: Any, examples: LatentExamples
) -> None:
    rounds = [("one", 0.5, 0.5), ("two", 1.0, 0.25), ("three", 0.5, 0.0)]
    explainer, client = asking("refine", output(rounds), **MORE, rounds=2, mistakes=3)
    found = await explainer.explain(examples, 0)
    assert found.explanation == Explanation("two")
    noted = found.notes["candidates"]
    assert [(one["text"], one["missed"], one["taken"]) for one in noted] == [
        ("one", 8, 8),
        ("two", 0, 4),
        ("three", 8, 0),
    ]
    assert [one["select"] for one in noted] == pytest.approx([0.5, 0.875, 0.75])
    assert found.notes["chosen"] == 1
    asked = [request for request in client.requests if isinstance(request.question, Explain)]
    tried = [request.question.tried for request in asked if isinstance(request.question, Explain)]
    assert tried[0] is None
    assert [(len(one.missed), len(one.taken)) for one in tried[1:] if one] == [(3, 3), (0, 3)]
    for one in tried[1:]:
        assert one is not None
        assert all(example in examples.select and example.activating for example in one.missed)
        assert all(example in examples.select and not example.activating for example in one.taken)
    assert "Earlier description: one\nOverlooked 1: " in asked[1].messages[-1].content
    assert found.usage == Usage(input=6, output=6, requests=6)
    hidden = [example for part in examples.scored for example in part.examples]
    assert not any(
        example.passage.text.strip() in request.messages[-1].content for example in hidden for request in asked
    )


async def test_nothing_wrong_is_the_end(asking: Any, examples: LatentExamples) -> None:
    explainer, client = asking("refine", output([("one", 1.0, 0.0), ("two", 1.0, 0.0)]), **MORE, rounds=5)
    found = await explainer.explain(examples, 0)
    assert found.explanation == Explanation("one")
    assert len(client.requests) == 2


async def test_a_worse_round_is_not_kept_and_the_earliest_of_equals_is(asking: Any, examples: LatentExamples) -> None:
    explainer, _ = asking("refine", output([("one", 0.75, 0.0), ("two", 0.5, 0.0), ("three", 1.0, 0.25)]), **MORE)
    found = await explainer.explain(examples, 0)
    assert found.explanation == Explanation("one")


async def test_the_lexical_baseline_refines_its_rule_by_what_it_is_shown(examples: LatentExamples) -> None:
    from dataclasses import replace
    from pathlib import Path

    from harness import registry
    from harness.clients.models import Models

    kind = registry.load("explainers", "refine")
    explainer = kind(kind.Settings(**MORE), Models({}, lambda client: client), Path())
    # one window alone, so that the first rule overlooks a spelling
    start = replace(examples, shown=tuple(one for one in examples.shown if "w3" in one.passage.tokens)[:1])
    found = await explainer.explain(start, 0)
    noted = found.notes["candidates"]
    assert len(noted) > 1
    assert max(one["select"] for one in noted) == noted[found.notes["chosen"]]["select"] > noted[0]["select"]
