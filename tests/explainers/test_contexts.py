from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from harness.clients.models import Models
from harness.clients.protocol import Reply
from harness.errors import QuotaExhausted
from harness.examples.draw import LatentExamples
from harness.explainers.contexts import Contexts
from harness.testing import MockClient
from harness.values import Explanation, Failure, Usage

pytestmark = pytest.mark.anyio


@pytest.fixture
def asking(tmp_path: Path) -> Callable[[Any], tuple[Contexts, MockClient]]:
    def make(output: Any) -> tuple[Contexts, MockClient]:
        client = MockClient(output)
        models = Models({}, lambda _: client)
        return Contexts(Contexts.Settings(model="lexical/rules"), models, tmp_path), client

    return make


async def test_it_asks_once_and_shows_every_example_with_its_marks(
    asking: Callable[[Any], tuple[Contexts, MockClient]], examples: LatentExamples
) -> None:
    explainer, client = asking("Thoughts.\n[explanation]: the word w3")
    found = await explainer.explain(examples, 7)
    assert found.explanation == Explanation("the word w3")
    assert (len(found.replies), found.usage) == (1, Usage(input=1, output=1, requests=1))
    (request,) = client.requests
    prompt = request.messages[-1].content
    assert prompt.count("<< w3>>") + prompt.count("<<w3>>") >= len(examples.shown) == 40
    assert request.seed == 7


async def test_of_the_scored_and_select_windows_nothing_is_shown(
    asking: Callable[[Any], tuple[Contexts, MockClient]], examples: LatentExamples
) -> None:
    explainer, client = asking("[explanation]: x")
    await explainer.explain(examples, 0)
    prompt = client.requests[0].messages[-1].content.replace("<<", "").replace(">>", "")
    hidden = [*examples.select, *(example for part in examples.scored for example in part.examples)]
    assert hidden
    assert not any(example.passage.text.strip() in prompt for example in hidden)
    assert all(example.passage.text.strip() in prompt for example in examples.shown)


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ("I do not know.", "unparsable"),
        (Reply("[explanation]: half of a", "length", Usage()), "truncated"),
        (Reply("no", "refusal", Usage()), "refused"),
    ],
)
async def test_a_failure_is_a_value(
    asking: Callable[[Any], tuple[Contexts, MockClient]], examples: LatentExamples, output: Any, status: str
) -> None:
    explainer, _ = asking(output)
    found = (await explainer.explain(examples, 0)).explanation
    assert isinstance(found, Failure)
    assert found.status == status


async def test_an_account_that_fails_is_raised(
    asking: Callable[[Any], tuple[Contexts, MockClient]], examples: LatentExamples
) -> None:
    explainer, _ = asking(QuotaExhausted("empty"))
    with pytest.raises(QuotaExhausted):
        await explainer.explain(examples, 0)


@pytest.mark.parametrize(("strengths", "rounded"), [("floor", math.floor), ("ceil", math.ceil)])
async def test_strengths_are_rounded_as_the_task_says(
    tmp_path: Path, examples: LatentExamples, strengths: Literal["floor", "ceil"], rounded: Callable[[float], int]
) -> None:
    client = MockClient("[explanation]: x")
    explainer = Contexts(
        Contexts.Settings(model="lexical/rules", strengths=strengths), Models({}, lambda _: client), tmp_path
    )
    await explainer.explain(examples, 0)
    shown = [int(level) for level in re.findall(r'"[^"]*", (\d+)\)', client.requests[0].messages[-1].content)]
    peaks = [example.activations[example.activations > 0.3 * example.activations.max()] for example in examples.shown]
    assert shown == [min(10, rounded(10 * float(a) / examples.maximum)) for window in peaks for a in window]


def test_how_strengths_are_rounded_is_part_of_an_explanations_key(tmp_path: Path) -> None:
    models = Models({}, lambda _: MockClient("x"))
    down, up = (
        Contexts(Contexts.Settings(model="lexical/rules", strengths=rounding), models, tmp_path)
        for rounding in ("floor", "ceil")
    )
    assert down.identity != up.identity
