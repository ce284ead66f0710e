"""Do pairs speak for an explanation: equation 1 by hand with a real model, judges who cannot win by the place."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.clients.models import Models
from harness.questions.kinds import Amplified, Steered
from harness.questions.prompts import load_variant
from harness.resources import fixture
from harness.scorers.amplified import ByJudge, ByLogprobs, Told
from harness.scorers.base import Scored
from harness.scorers.intervention import InterventionScorer, figures
from harness.scorers.verdicts import NOWHERE
from harness.subject.calibrate_search import Calibration
from harness.subject.intervened import Intervened
from harness.testing import MockClient
from harness.values import Explanation, Failure, Latent, Pair, Passage, Place, Rise, ScoredSet

pytestmark = pytest.mark.anyio

LOCAL = f"local/{fixture('subject')}"
WORDS = Explanation('more of " river",\nand "boats"')
PAIRS = tuple(
    Pair(f"{text} the", clean, steered, Place("store", number, 32), number % 5 + 1)
    for number, (text, clean, steered) in enumerate(
        [
            ("We went down to", " market on Monday", " river river boats"),
            ("In March\n<<", " school had no", " boats and the"),
            ("She said that", " bread was late", " bread was late"),
            ("Boil", " beans for an hour", ""),
        ]
    )
)


@pytest.fixture
def models() -> Models:
    return Models({LOCAL: {"threads": 1}}, lambda client: client)


def naive(explanation: Explanation, passage: str) -> float:
    """log p of the explanation and its closing quote behind the few-shot blocks and a passage, in one plain pass."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(fixture("subject"))
    model = AutoModelForCausalLM.from_pretrained(fixture("subject"), dtype=torch.float32).eval()
    variant = load_variant("amplified", "tiny")
    question = Amplified(Passage((passage,)))
    prefix = "\n\n".join(message.content for message in variant.render(question).messages) + '\n\n"'
    text = prefix + explanation.text.replace("\n", " ") + '"'
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = [tokenizer.bos_token_id, *encoded["input_ids"]]
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    own = [at for at, (_, stop) in enumerate(encoded["offset_mapping"], 1) if stop > len(prefix)]
    return float(sum(logprobs[at - 1, ids[at]] for at in own))


async def test_equation_1_is_what_a_naive_computation_gives(models: Models) -> None:
    told = await ByLogprobs("who", LOCAL, "tiny", models, Path()).tell(WORDS, PAIRS, seed=0)
    expected = [naive(WORDS, pair.prompt + pair.steered) - naive(WORDS, pair.prompt + pair.clean) for pair in PAIRS]
    assert told.values == pytest.approx(expected, abs=2e-3)
    assert told.values[2] == 0
    assert abs(expected[0]) > 0.1
    found = figures(intervened(), told)
    assert found["nats"] == pytest.approx(np.mean(expected), abs=2e-3)
    assert found["nats_se"] == pytest.approx(np.std(expected, ddof=1) / 2, abs=2e-3)
    await models.aclose()


async def test_withheld_words_are_worth_no_nats_and_nobody_is_asked() -> None:
    client = MockClient()
    told = await ByLogprobs("who", LOCAL, "tiny", Models({}, lambda _: client), Path()).tell(None, PAIRS, seed=0)
    assert told == Told((0.0,) * 4)
    assert client.requests == []


def judging(answer: Callable[[Steered], str]) -> Models:
    def reply(request: Any) -> str:
        assert isinstance(request.question, Steered)
        return answer(request.question)

    return Models({}, lambda _: MockClient(reply))


def intervened(**changes: Any) -> Intervened:
    calibration = Calibration(7, 1.0, 12.5, 0.97, "ok", ())
    nothing = Rise(None, ())
    return Intervened(calibration, (), nothing, nothing, (), tuple(changes.get("score", PAIRS)))


async def test_a_judge_who_goes_by_the_place_is_right_half_the_time() -> None:
    pairs = PAIRS * 10
    for number in ("1", "2"):
        told = await ByJudge("who", "lexical/rules", "default", judging(lambda _, n=number: n), Path()).tell(
            WORDS, pairs, seed=3
        )
        assert sum(told.second) == 20
        assert figures(intervened(score=pairs), told)["accuracy"] == 0.5


async def test_a_judge_who_knows_is_always_right_and_the_order_is_the_seed_s_alone() -> None:
    def knows(question: Steered) -> str:
        return str(1 + (" boats" in question.passages[1].tokens[1]))

    pairs = PAIRS[:2] * 4
    by = ByJudge("who", "lexical/rules", "default", judging(knows), Path())
    told, again = await by.tell(WORDS, pairs, seed=1), await by.tell(None, pairs, seed=1)
    assert told.values == (1.0,) * 8
    assert again.second == told.second
    assert (await by.tell(WORDS, pairs, seed=2)).second != told.second
    assert figures(intervened(), told) == {
        "accuracy": 1.0,
        "accuracy_low": pytest.approx(0.738, abs=1e-3),
        "accuracy_high": 1.0,
        "chance": 0.5,
        "questions": 8,
        "target": 1.0,
        "kl": 0.97,
        "strength": 12.5,
        "status": "ok",
    }


class Source:
    """Gives the same interventions for every latent."""

    def __init__(self, found: list[Intervened] | Failure) -> None:
        self.found = found

    async def intervened(self, latent: Latent) -> list[Intervened] | Failure:
        assert latent == LATENT
        return self.found


LATENT = Latent("sae", 7)


async def scored(found: list[Intervened] | Failure, models: Models, **settings: Any) -> Scored:
    chosen = InterventionScorer.Settings(model="lexical/rules", kl=1.0, mode="judge", **settings)
    scorer = InterventionScorer(chosen, models, Path())
    scorer.bind_interventions(Source(found))
    return await scorer.score(WORDS, ScoredSet("random", (), LATENT), seed=5)


async def test_a_verdict_is_of_a_pair_and_of_no_window_and_failures_are_counted() -> None:
    def sometimes(question: Steered) -> str:
        return "neither" if "Boil" in question.passages[0].text else "2"

    found = await scored([intervened()], judging(sometimes))
    verdicts = found.verdicts
    assert set(verdicts.context.tolist()) == {NOWHERE}
    assert verdicts.quantile.tolist() == [1, 2, 3, 4]
    assert verdicts.failures() == {"unparsable": 1}
    assert verdicts.label.tolist() == [1, 1, 1, -1]
    assert found.metrics["questions"] == 3
    assert found.metrics["accuracy"] == verdicts.truth[:3].mean()


async def test_without_interventions_the_score_is_the_failure() -> None:
    found = await scored(Failure("too_few_examples", "3 windows are left"), judging(lambda _: "1"))
    assert found.verdicts.failures() == {"too_few_examples": 1}
    assert found.metrics == {}


def test_a_kl_that_is_no_number_is_none_and_one_pair_has_no_standard_error() -> None:
    calibration = Calibration(7, 50.0, 1e30, math.nan, "nonfinite", ())
    nothing = Rise(None, ())
    found = Intervened(calibration, (), nothing, nothing, (), PAIRS[:1])
    told = figures(found, Told((2.0,)))
    assert told == {
        "nats": 2.0, "nats_se": None, "pairs": 1, "target": 50.0, "kl": None, "strength": 1e30, "status": "nonfinite",
    }  # fmt: skip
    assert figures(found, Told((Failure("refused", "no"),)))["nats"] is None
