from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.clients.models import Models
from harness.clients.protocol import Reply, Request
from harness.clients.vectors import Vectors
from harness.examples.draw import LatentExamples
from harness.explainers.clusters import union
from harness.questions.kinds import Explain
from harness.values import Example, Explanation, Failure, Passage, Usage

pytestmark = pytest.mark.anyio

CONTEXTS = {"kind": "contexts", "model": "lexical/rules"}
FISH = ("trout", "salmon", "cod", "eel")
RIVER = (" river", " boat", " net", " water", " rod", " bait")
LESSON = (" pupil", " desk", " lesson", " teacher", " class", " essay")
SCHOOL = ("algebra", "history", "latin", "physics")


@pytest.fixture
def two(examples: LatentExamples) -> LatentExamples:
    """A latent that fires on fish in a river and on subjects in a school."""
    generator = np.random.default_rng(0)
    shown = []
    for number in range(40):
        words, near = (FISH, RIVER) if number % 2 else (SCHOOL, LESSON)
        before, after = generator.permutation(near).reshape(2, 3).tolist()
        tokens = (" the", *before, f" {words[number // 2 % 4]}", *after, ".")
        shown.append(Example(Passage(tokens), np.array([0, 0, 0, 0, 1, 0, 0, 0, 0], np.float32)))
    return replace(examples, shown=tuple(shown))


def spoken(request: Request) -> str:
    assert isinstance(request.question, Explain)
    fish = [example.passage.tokens[4].strip() in FISH for example in request.question.examples]
    return f"[explanation]: {'fish' if all(fish) else 'subjects.' if not any(fish) else 'both'}"


async def test_each_mode_is_explained_by_itself_and_the_union_told(asking: Any, two: LatentExamples) -> None:
    explainer, client = asking("clusters", spoken, explainer=CONTEXTS)
    found = await explainer.explain(two, 0)
    assert found.explanation == Explanation("any of 2 things: (1) subjects; (2) fish")
    assert [(one["windows"], one["text"]) for one in found.notes["modes"]] == [(20, "subjects."), (20, "fish")]
    assert found.notes["silhouette"] > 0.2
    assert len(client.requests) == 2
    assert found.usage == Usage(input=2, output=2, requests=2)


async def test_the_lexical_baselines_rules_are_joined_too(two: LatentExamples, tmp_path: Path) -> None:
    kind = registry.load("explainers", "clusters")
    explainer = kind(kind.Settings(explainer=CONTEXTS), Models({}, lambda client: client), tmp_path)
    answer = (await explainer.explain(two, 0)).explanation
    assert isinstance(answer, Explanation)
    assert answer.rule is not None
    assert answer.rule["kind"] == "any"
    told = [set(rule["tokens"]) for rule in answer.rule["rules"]]
    assert told == [{f" {word}" for word in SCHOOL}, {f" {word}" for word in FISH}]


async def test_embeddings_part_the_windows_where_an_embedder_is_given(asking: Any, two: LatentExamples) -> None:
    def reply(request: Request) -> Any:
        if request.texts is None:
            return spoken(request)
        vectors = [[1.0, 0.1] if any(word in text for word in FISH) else [0.1, 1.0] for text in request.texts]
        return Reply("", "stop", Usage(input=5, requests=1), vectors=Vectors.of(vectors))

    explainer, client = asking("clusters", reply, explainer=CONTEXTS, embedder="lexical/rules")
    found = await explainer.explain(two, 0)
    assert found.explanation == Explanation("any of 2 things: (1) subjects; (2) fish")
    texts = client.requests[0].texts
    assert texts == tuple(example.passage.text for example in two.shown)
    assert found.usage.requests == 3
    assert [want.what for want in explainer.wants] == ["embeddings"]


async def test_an_embedder_that_fails_is_a_failure(asking: Any, two: LatentExamples) -> None:
    explainer, _ = asking("clusters", Reply("", "stop", Usage()), explainer=CONTEXTS, embedder="lexical/rules")
    answer = (await explainer.explain(two, 0)).explanation
    assert isinstance(answer, Failure)
    assert answer.status == "unparsable"


async def test_a_mode_that_fails_leaves_the_other_and_only_both_are_a_failure(asking: Any, two: LatentExamples) -> None:
    def reply(request: Request) -> Any:
        said = spoken(request)
        return Reply("", "refusal", Usage()) if "fish" in said else said

    explainer, _ = asking("clusters", reply, explainer=CONTEXTS)
    found = await explainer.explain(two, 0)
    assert found.explanation == Explanation("subjects.")
    assert found.notes["modes"][1]["failure"] == "refused"
    explainer, _ = asking("clusters", Reply("", "refusal", Usage()), explainer=CONTEXTS)
    assert isinstance((await explainer.explain(two, 0)).explanation, Failure)


def test_a_union_says_each_thing_once_and_has_a_rule_where_all_have_one() -> None:
    one, other = Explanation("a.", {"kind": "x"}), Explanation("b", {"kind": "y"})
    assert union([one, one]) == one
    assert union([one, other, one]) == Explanation(
        "any of 2 things: (1) a; (2) b", {"kind": "any", "rules": [{"kind": "x"}, {"kind": "y"}]}
    )
    assert union([one, Explanation("b")]).rule is None
