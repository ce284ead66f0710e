"""An agent's tools: what they answer, and that whatever a model writes gets an answer and ends nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.explainers.agent.tools import Toolbox
from harness.explainers.agent.trying import ToolError

pytestmark = pytest.mark.anyio


def given(**arguments: Any) -> str:
    return json.dumps(arguments)


async def test_a_text_is_shown_with_its_marks_and_strengths_of_ten(box: Toolbox) -> None:
    found = await box.call("read", given(texts=["the crow ate corn\nchips", "a << b", "a dog"]))
    assert found == (
        '1. the <<crow >>ate <<corn\\nchips >>\n   "crow " 4.0, "corn\\nchips " 10.0\n'
        "2. a \\<\\< b \n   (silent)\n3. a dog \n   (silent)"
    )


async def test_what_was_shown_is_not_shown_again_and_what_there_is_comes_to_an_end(box: Toolbox) -> None:
    assert box.windows.first(3)[1] == 3
    first = await box.call("examples", given(where="activating", count=4))
    assert [line for line in first.splitlines() if "cat" in line and "and" in line] == [
        f"{number}. a <<cat >>and {at} <<cows >>" for number, at in enumerate((3, 4, 5, 6), 1)
    ]
    assert (await box.call("examples", given(where="activating"))).startswith("1. a <<cat >>and 7")
    assert await box.call("examples", given(where="activating")) == "There are no more passages of this kind."
    assert (await box.call("examples", given(where="random"))).count("(silent)") == 2


async def test_a_test_tells_how_often_and_where_it_was_wrong_and_is_counted(box: Toolbox) -> None:
    found = await box.call("test", given(explanation="The word cat"))
    assert found.splitlines()[:3] == [
        "Of 2 passages in which the feature responds, 1 were judged rightly.",
        "Of 1 passages in which it is silent, 1 were judged rightly.",
        "Balanced accuracy 0.75; guessing gives 0.50.",
    ]
    assert "the <<cow >>sat" in found
    assert box.trials.best == (0.75, "The word cat")
    await box.call("test", given(explanation="The letters dog"))
    assert box.trials.best == (0.75, "The word cat")
    with pytest.raises(ToolError, match="no tests left"):
        await box.call("test", given(explanation="The word cow"))
    assert (box.trials.replies, box.trials.usage.input) == (("k", "k"), 6)


async def test_effects_are_told_token_by_token(box: Toolbox) -> None:
    found = await box.call("change", given(prompts=["I saw a"], how="add", nats=0.5))
    assert found == (
        '1. I saw a\n   next token moved by 0.500 nats\n   likelier: " cat" 0.100 to 0.400\n   less likely: none\n'
        '   unchanged it goes on: "dog."\n   changed it goes on: "cat."'
    )


BAD = [
    ("rm -rf /", "{}", "no tool of that name; there are: examples, read, change, test, submit"),
    ("scored", "{}", "no tool of that name"),
    ("__class__", "{}", "no tool of that name"),
    ("read", "not JSON", "no valid JSON"),
    ("read", '{"texts": ["a"', "no valid JSON"),
    ("read", "[" * 5000, "no valid JSON"),
    ("read", '["a"]', "have to be a JSON object"),
    ("read", "", "texts: is missing"),
    ("read", '{"texts": "a"}', "texts: input should be a valid list"),
    ("read", '{"texts": [3]}', "texts.1: input should be a valid string"),
    ("read", '{"texts": [null]}', "texts.1: input should be a valid string"),
    ("read", '{"texts": []}', "texts: list should have at least 1 item"),
    ("read", given(texts=["a"] * 9), "at most 8 at once, and these are 9"),
    ("read", given(texts=["a" * 1001]), "texts.1: string should have at most 1000 characters"),
    ("read", given(texts=["a" * 10**6]), "1,000,015 characters long, and 20,000 are the most"),
    ("read", '{"texts": ["half a \\ud83d character"]}', "texts.1: input should be a valid string"),
    ("read", given(texts=["a"], latent=4), "latent: is no argument of this tool; the arguments are: texts"),
    ("examples", given(where="scored"), "no passages of that kind; there are: activating, random"),
    ("examples", given(where={"a": 1}), "where: input should be a valid string"),
    ("examples", given(count=0), "count: input should be greater than or equal to 1"),
    ("examples", given(count=10**30), "count: input should be less than or equal to 10"),
    ("examples", given(count="many"), "count: input should be a valid integer"),
    ("examples", given(quantile=11), "quantile: quantiles are 1 to 10"),
    ("examples", given(where="random", quantile=3), "quantile: is of passages in which the feature responds"),
    ("examples", given(**{"x" * 10_000: 1}), "is no argument of this tool"),
    ("change", given(prompts=["a"], how="delete"), "how: input should be 'add' or 'ablate'"),
    ("change", given(prompts=["a"], how="add", nats=-1), "nats: input should be greater than 0"),
    ("change", '{"prompts": ["a"], "how": "add", "nats": NaN}', "nats: "),
    ("change", given(prompts=["a"] * 5, how="add"), "at most 4 at once"),
    ("test", given(explanation=""), "explanation: string should have at least 1 character"),
    ("test", given(explanation=7), "explanation: input should be a valid string"),
]


@pytest.mark.parametrize(("name", "arguments", "told"), BAD)
async def test_malicious_calls_are_answered_with_what_is_wrong(
    name: str, arguments: str, told: str, box: Toolbox, subject: Any
) -> None:
    with pytest.raises(ToolError) as error:
        await box.call(name, arguments)
    assert told in str(error.value)
    assert len(str(error.value)) < 300
    assert subject.read_texts == []


def test_only_words_can_be_submitted(box: Toolbox) -> None:
    assert box.submitted(given(explanation=" The\n word  cat. ")) == "The word cat."
    for wrong in ('{"explanation": "  "}', "{}", "[]", given(explanation="x" * 1001)):
        with pytest.raises(ToolError):
            box.submitted(wrong)


def test_tools_are_told_with_schemas_that_providers_take(box: Toolbox) -> None:
    names = [tool.name for tool in box.definitions]
    assert names == ["examples", "read", "change", "test", "submit"]
    for tool in box.definitions:
        assert tool.parameters["type"] == "object"
        assert set(tool.parameters["required"]) <= set(tool.parameters["properties"])
        assert tool.parameters["additionalProperties"] is False
    fewer = Toolbox(box.windows, box.trials, ("examples",))
    assert [tool.name for tool in fewer.definitions] == ["examples", "submit"]
