from __future__ import annotations

import json
from typing import Any

import pytest

from harness.clients.protocol import Reply, Request
from harness.clients.sampling import sampled
from harness.errors import QuotaExhausted, TaskError
from harness.examples.draw import LatentExamples
from harness.questions.kinds import Detect, Explain
from harness.values import Explanation, Failure, Usage

pytestmark = pytest.mark.anyio

CONTEXTS = {"kind": "contexts", "model": "lexical/rules"}
SHORT = {**CONTEXTS, "prompt": "short", "name": "short"}
SCORER = {"kind": "detection", "model": "lexical/rules", "batch": 10}


def judged(request: Request, right: str) -> str:
    """Labels of a judge that knows the word w3 and believes one explanation alone."""
    question = request.question
    assert isinstance(question, Detect)
    assert question.explanation is not None
    believed = question.explanation.text == right
    return json.dumps([int(believed and " w3" in passage.tokens) for passage in question.passages])


def answering(texts: dict[str, str], right: str = "good") -> Any:
    """A model whose explanations go by the prompt's system message and sample number, and which judges."""

    def reply(request: Request) -> str:
        if isinstance(request.question, Detect):
            return judged(request, right)
        prompt = "short" if "at most ten words" in request.messages[0].content else "default"
        return f"[explanation]: {texts[f'{prompt} {request.sample // 1_000_000}']}"

    return reply


async def test_the_candidate_that_scores_highest_on_select_is_taken(asking: Any, examples: LatentExamples) -> None:
    output = answering({"default 0": "bad", "short 0": "good"})
    explainer, client = asking("best-of", output, candidates=(CONTEXTS, SHORT), scorer=SCORER)
    found = await explainer.explain(examples, 0)
    assert found.explanation == Explanation("good")
    assert found.notes["chosen"] == 1
    assert [one["explainer"] for one in found.notes["candidates"]] == ["contexts", "short"]
    assert [one["select"] for one in found.notes["candidates"]] == [0.5, 1.0]
    # two explanations, each judged on 32 windows in batches of 10
    assert len(client.requests) == 2 + 8
    assert found.usage == Usage(input=10, output=10, requests=10)
    assert len(found.replies) == 10


async def test_only_select_windows_are_judged(asking: Any, examples: LatentExamples) -> None:
    explainer, client = asking("best-of", answering({"default 0": "good"}), candidates=(CONTEXTS,), scorer=SCORER)
    await explainer.explain(examples, 0)
    asked = [
        one for request in client.requests if isinstance(request.question, Detect) for one in request.question.passages
    ]
    assert sorted(map(repr, asked)) == sorted(repr(one.passage) for one in examples.select)


async def test_equal_explanations_are_judged_once_and_the_first_is_taken(asking: Any, examples: LatentExamples) -> None:
    output = answering({"default 0": "same", "default 1": "same", "default 2": "same"})
    explainer, client = asking("best-of", output, candidates=(CONTEXTS,), samples=3, scorer=SCORER)
    found = await explainer.explain(examples, 0)
    assert found.notes["chosen"] == 0
    assert len(client.requests) == 3 + 4
    assert [one["explainer"] for one in found.notes["candidates"]] == [f"contexts {n}" for n in (1, 2, 3)]


async def test_samples_are_other_draws_and_the_first_is_what_contexts_draws(
    asking: Any, examples: LatentExamples
) -> None:
    output = answering({"default 0": "bad", "default 1": "good", "default 2": "worse"})
    explainer, client = asking("best-of", output, candidates=(CONTEXTS,), samples=3, scorer=SCORER)
    found = await explainer.explain(examples, 5)
    assert found.explanation == Explanation("good")
    plain, other = asking("contexts", "[explanation]: x", model="lexical/rules")
    await plain.explain(examples, 5)
    asked = [request for request in client.requests if isinstance(request.question, Explain)]
    assert other.requests[0] == asked[0]
    assert len({request.seed for request in asked}) == 3
    # a draw of the whole asks for other draws of its parts
    client.requests.clear()
    texts = {f"default {64 + n}": "x" for n in range(3)}
    again, client = asking("best-of", answering(texts), candidates=(CONTEXTS,), samples=3, scorer=SCORER)
    with sampled(1):
        await again.explain(examples, 5)


async def test_a_candidate_that_fails_is_noted_and_only_all_failing_is_a_failure(
    asking: Any, examples: LatentExamples
) -> None:
    def reply(request: Request) -> Any:
        if isinstance(request.question, Detect):
            return judged(request, "good")
        if "at most ten words" in request.messages[0].content:
            return "[explanation]: anything"
        return Reply("no", "refusal", Usage())

    explainer, _ = asking("best-of", reply, candidates=(CONTEXTS, SHORT), scorer=SCORER)
    found = await explainer.explain(examples, 0)
    assert found.explanation == Explanation("anything")
    assert found.notes["candidates"][0]["failure"] == "refused"
    explainer, _ = asking("best-of", reply, candidates=(CONTEXTS, {**CONTEXTS, "strengths": "ceil"}), scorer=SCORER)
    failed = (await explainer.explain(examples, 0)).explanation
    assert isinstance(failed, Failure)
    assert failed.status == "refused"


async def test_what_ends_the_run_is_raised(asking: Any, examples: LatentExamples) -> None:
    explainer, _ = asking("best-of", QuotaExhausted("empty", model="m"), candidates=(CONTEXTS, SHORT), scorer=SCORER)
    with pytest.raises(QuotaExhausted):
        await explainer.explain(examples, 0)


async def test_without_select_windows_the_first_candidate_stands(asking: Any, examples: LatentExamples) -> None:
    from dataclasses import replace

    output = answering({"default 0": "bad", "short 0": "good"})
    explainer, client = asking("best-of", output, candidates=(CONTEXTS, SHORT), scorer=SCORER)
    found = await explainer.explain(replace(examples, select=()), 0)
    assert found.explanation == Explanation("bad")
    assert [one["select"] for one in found.notes["candidates"]] == [None, None]
    assert len(client.requests) == 2


def test_parts_decide_the_identity_and_mistakes_in_them_are_told_with_their_key(asking: Any) -> None:
    def made(**settings: Any) -> Any:
        return asking("best-of", "x", **{"candidates": (CONTEXTS,), "scorer": SCORER, **settings})[0]

    others = [
        made(),
        made(samples=2),
        made(candidates=(SHORT,)),
        made(candidates=({**CONTEXTS, "sample": 1},)),
        made(scorer={**SCORER, "batch": 5}),
        made(scorer={**SCORER, "sample": 1}),
    ]
    identities = [json.dumps(one.identity, sort_keys=True) for one in others]
    assert len(set(identities)) == len(identities)
    assert made(candidates=(SHORT, CONTEXTS)).wants == others[0].wants
    assert made(candidates=({"kind": "contrastive", "model": "lexical/rules", "rungs": ["same-token"]},)).rungs == (
        "same-token",
    )
    with pytest.raises(TaskError, match=r"candidates\.1: promt: unknown key; did you mean prompt"):
        made(candidates=({**CONTEXTS, "promt": "short"},))
    with pytest.raises(TaskError, match="scorer: bach: unknown key"):
        made(scorer={**SCORER, "bach": 1})
    with pytest.raises(TaskError, match='scorer: the kind "intruder" judges no explanation'):
        made(scorer={"kind": "intruder", "model": "lexical/rules"})
