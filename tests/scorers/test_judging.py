from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, roc_auc_score

from harness.clients.models import Models
from harness.clients.protocol import Capabilities, Reply, Request
from harness.errors import BadRequest, Drained, PromptError, QuotaExhausted
from harness.examples.draw import LatentExamples, draw
from harness.questions.kinds import Detect, Fuzz
from harness.scorers.base import Scored
from harness.scorers.detection import Detection
from harness.scorers.fuzzing import Fuzzing
from harness.scorers.judging import JudgeSettings, figures
from harness.scorers.verdicts import Verdicts
from harness.store import Store
from harness.task import ExampleSettings
from harness.testing import MockClient
from harness.values import Example, Explanation, Passage, ScoredSet, TokenLogprob, Usage

pytestmark = pytest.mark.anyio

WORDS = Explanation("the word w3")


@pytest.fixture
def examples(store: Store) -> ScoredSet:
    settings = ExampleSettings.model_validate({"scored": {"activating": 20, "non_activating": 20}})
    found = draw(store.coder("words"), 3, settings, 0)
    assert isinstance(found, LatentExamples)
    return found.scored[0]


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., tuple[Any, MockClient]]:
    def make(output: Any, kind: Any = Detection, logprobs: bool = True, **settings: Any) -> tuple[Any, MockClient]:
        client = MockClient(output, capabilities=Capabilities(logprobs=logprobs, seed=True))
        options = kind.Settings(model="lexical/rules", **settings)
        return kind(options, Models({}, lambda _: client), tmp_path), client

    return make


def _truth(request: Request) -> list[int]:
    """Labels of a perfect judge: the word, marked where there are marks."""
    question = request.question
    assert isinstance(question, Detect | Fuzz)
    found = []
    for passage in question.passages:
        marked = [passage.tokens[at] for at in passage.marks] if isinstance(question, Fuzz) else passage.tokens
        hits = [token.strip() == "w3" for token in marked]
        found.append(int(all(hits) if isinstance(question, Fuzz) else any(hits)))
    return found


@pytest.mark.parametrize("kind", [Detection, Fuzzing])
@pytest.mark.parametrize("batch", [1, 5, 7])
async def test_a_perfect_judge_scores_one_whatever_the_batch(
    judge: Callable[..., tuple[Any, MockClient]], examples: ScoredSet, kind: Any, batch: int
) -> None:
    scorer, client = judge(lambda request: json.dumps(_truth(request)), kind, batch=batch)
    scored: Scored = await scorer.score(WORDS, examples, 0)
    assert scored.metrics["balanced_accuracy"] == 1.0
    assert len(client.requests) == -(-40 // batch)
    assert scored.usage == Usage(input=len(client.requests), output=len(client.requests), requests=len(client.requests))
    assert len(set(scored.replies)) == len(client.requests)


@pytest.mark.parametrize(("kind", "prompt", "requests"), [(Fuzzing, "one-at-a-time", 40), (Detection, "json", 8)])
async def test_a_variant_may_hold_fewer_passages_and_have_another_reply(
    judge: Callable[..., tuple[Any, MockClient]], examples: ScoredSet, kind: Any, prompt: str, requests: int
) -> None:
    def reply(request: Request) -> str:
        labels = _truth(request)
        return str(labels[0]) if prompt == "one-at-a-time" else json.dumps({f"{n}": x for n, x in enumerate(labels, 1)})

    scorer, client = judge(reply, kind, prompt=prompt)
    scored: Scored = await scorer.score(WORDS, examples, 0)
    assert scored.metrics["balanced_accuracy"] == 1.0
    assert len(client.requests) == requests


async def test_every_example_is_asked_about_once_in_its_order(
    judge: Callable[..., tuple[Any, MockClient]], examples: ScoredSet
) -> None:
    scorer, client = judge("[0, 0, 0, 0, 0]")
    scored = await scorer.score(WORDS, examples, 0)
    asked = [passage.place for request in client.requests for passage in request.question.passages]
    assert sorted(asked, key=str) == sorted((example.passage.place for example in examples.examples), key=str)
    contexts = [example.passage.place.context for example in examples.examples if example.passage.place]
    assert scored.verdicts.context.tolist() == contexts


async def test_figures_are_those_of_scikit_learn(
    judge: Callable[..., tuple[Any, MockClient]], examples: ScoredSet
) -> None:
    generator = np.random.default_rng(1)

    def noisy(request: Request) -> Reply:
        labels = [label if generator.random() < 0.7 else 1 - label for label in _truth(request)]
        tokens = [TokenLogprob("[", -0.01, ())]
        for number, label in enumerate(labels):
            sure = float(generator.uniform(0.55, 0.99))
            pair = ((str(label), float(np.log(sure))), (str(1 - label), float(np.log(1 - sure))))
            tokens += [TokenLogprob(str(label), pair[0][1], pair)]
            tokens += [TokenLogprob(", " if number < len(labels) - 1 else "]", -0.01, ())]
        return Reply("".join(token.token for token in tokens), "stop", Usage(requests=1), tuple(tokens))

    scorer, _ = judge(noisy)
    scored = await scorer.score(WORDS, examples, 0)
    truth, labels, chances = scored.verdicts.truth, scored.verdicts.label, scored.verdicts.probability
    assert scored.metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, labels))
    assert scored.metrics["f1"] == pytest.approx(f1_score(truth, labels))
    assert scored.metrics["auroc"] == pytest.approx(roc_auc_score(truth, chances))
    assert ((chances > 0.5) == (labels == 1)).all()


async def test_without_logprobs_there_are_no_probabilities_and_no_auroc(
    judge: Callable[..., tuple[Any, MockClient]], examples: ScoredSet
) -> None:
    scorer, client = judge("[1, 0, 1, 0, 1]", logprobs=False)
    scored = await scorer.score(WORDS, examples, 0)
    assert np.isnan(scored.verdicts.probability).all()
    assert scored.metrics["auroc"] is None
    assert all(request.top_logprobs is None for request in client.requests)


async def test_a_batch_that_fails_leaves_the_verdicts_of_the_others(
    judge: Callable[..., tuple[Any, MockClient]], examples: ScoredSet
) -> None:
    count = 0

    def some(request: Request) -> Any:
        nonlocal count
        count += 1
        return BadRequest("no") if count == 3 else json.dumps(_truth(request))

    scorer, _ = judge(some)
    scored = await scorer.score(WORDS, examples, 0)
    assert scored.verdicts.failures() == {"provider_error": 5}
    assert int(scored.verdicts.answered.sum()) == 35
    assert scored.metrics["balanced_accuracy"] == 1.0
    assert np.isnan(scored.verdicts.probability[~scored.verdicts.answered]).all()


async def test_fuzzing_marks_all_passages_and_copies_the_patterns_of_positives(
    judge: Callable[..., tuple[Any, MockClient]], examples: ScoredSet
) -> None:
    scorer, client = judge("[0, 0, 0, 0, 0]", Fuzzing)
    await scorer.score(WORDS, examples, 0)
    passages = [passage for request in client.requests for passage in request.question.passages]
    assert all(passage.marks for passage in passages)
    counts: dict[bool, list[int]] = {True: [], False: []}
    for example, passage in zip(examples.examples, passages, strict=True):
        counts[example.activating].append(len(passage.marks))
    assert sorted(counts[True]) == sorted(counts[False])
    for request in client.requests:
        assert len(re.findall(r"<<.+?>>", request.messages[-1].content)) >= 5


async def test_the_judge_never_sees_activations_or_labels(
    judge: Callable[..., tuple[Any, MockClient]], examples: ScoredSet
) -> None:
    scorer, client = judge("[0, 0, 0, 0, 0]")
    await scorer.score(WORDS, examples, 0)
    for request in client.requests:
        assert "<<" not in request.messages[-1].content
        assert all(not passage.marks for passage in request.question.passages)


async def test_a_withheld_explanation_is_not_in_the_prompt_and_asked_about_all_the_same(
    judge: Callable[..., tuple[Any, MockClient]], examples: ScoredSet
) -> None:
    scorer, client = judge("[0, 0, 0, 0, 0]")
    scored = await scorer.score(None, examples, 0)
    assert len(scored.verdicts) == 40
    assert all(request.question.explanation is None for request in client.requests)


@pytest.mark.parametrize("error", [QuotaExhausted("empty"), Drained("stopping"), PromptError("x.toml: broken")])
async def test_what_ends_the_run_is_raised_plain_once_the_others_are_answered(
    judge: Callable[..., tuple[Any, MockClient]], examples: ScoredSet, error: Exception
) -> None:
    answered = 0

    async def late(request: Request) -> Any:
        nonlocal answered
        if len(client.requests) == 2:
            return error
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        answered += 1
        return "[0, 0, 0, 0, 0]"

    scorer, client = judge(late)
    with pytest.raises(type(error)) as caught:
        await scorer.score(WORDS, examples, 0)
    assert caught.value is error
    assert answered >= 1


def test_settings_have_the_papers_defaults() -> None:
    assert JudgeSettings(model="x/y").batch == 5
    assert Fuzzing.Settings(model="x/y").threshold == 0.3


def test_identity_holds_what_decides_a_verdict(judge: Callable[..., tuple[Any, MockClient]]) -> None:
    first = judge("x")[0].identity
    assert judge("x")[0].identity == first
    others = [judge("x", batch=4)[0].identity, judge("x", Fuzzing)[0].identity]
    others.append(judge("x", Fuzzing, threshold=0.5)[0].identity)
    assert len({json.dumps(found, sort_keys=True) for found in (first, *others)}) == 4


def test_probabilities_have_a_brier_score_and_a_calibration_and_labels_alone_have_none() -> None:
    labels, chances = [1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1]
    passage, silent = Passage(("a",)), np.zeros(1, np.float32)
    shown = [Example(passage, silent + 1, quantile=1), Example(passage, silent + 1, quantile=2)]
    shown += [Example(passage, silent, rung="random")] * 2
    sure = figures(Verdicts.of(shown, labels, chances))
    assert sure["brier"] == pytest.approx(brier_score_loss([1, 1, 0, 0], chances))
    assert sure["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.1) / 4)
    assert [row[:2] for row in sure["calibration"]] == [[0.1, 1], [0.2, 1], [0.4, 1], [0.9, 1]]
    assert json.loads(json.dumps(sure)) == sure
    plain = figures(Verdicts.of(shown, labels))
    assert [plain[name] for name in ("brier", "calibration_error", "calibration", "auroc")] == [None] * 4
    assert plain["balanced_accuracy"] == sure["balanced_accuracy"] == 1
