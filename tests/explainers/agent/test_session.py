"""An agent's turns: what is answered, what ends it, and what is noted of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.clients.protocol import Capabilities, Reply, Request
from harness.errors import OverBudget
from harness.explainers.agent.prompt import load_prompt
from harness.explainers.agent.protocol import InText, Speech, ToolCalls
from harness.explainers.agent.ration import Ration
from harness.explainers.agent.session import Limits, Session
from harness.explainers.agent.tools import Toolbox
from harness.explainers.base import Explained
from harness.questions.messages import ToolCall
from harness.testing import MockClient
from harness.values import Explanation, Failure, Usage

pytestmark = pytest.mark.anyio

USED = Usage(input=100, output=10, requests=1)


def call(name: str, arguments: Any) -> ToolCall:
    return ToolCall("c", name, arguments if isinstance(arguments, str) else json.dumps(arguments))


def calls(*made: ToolCall, text: str = "", finish: Any = "calls") -> Reply:
    numbered = tuple(ToolCall(f"c{at}", one.name, one.arguments) for at, one in enumerate(made))
    return Reply(text, finish, USED, calls=numbered)


SUBMIT = calls(call("submit", {"explanation": "Cats."}))

Run = Callable[..., Any]


@pytest.fixture
def run(box: Toolbox) -> Run:
    """Runs a session with a model that gives these replies, and gives what it came to and what was asked."""

    async def go(*replies: Any, turns: int = 6, speech: Speech | None = None) -> tuple[Explained, list[Request]]:
        client = MockClient(list(replies), capabilities=Capabilities(logprobs=False, tools=True))
        prompt = load_prompt("default", Path())
        session = Session(client, prompt, speech or ToolCalls(), box, Ration(10**6), Limits(turns, 3), None, 0)
        return await session.run(), client.requests

    return go


def last(request: Request) -> str:
    return request.messages[-1].content


async def test_what_is_submitted_is_the_explanation_and_every_step_is_noted(run: Run) -> None:
    found, asked = await run(calls(call("read", {"texts": ["the cat"]}), text="I look."), SUBMIT)
    assert found.explanation == Explanation("Cats.")
    assert len(found.replies) == 2
    assert found.usage == USED + USED
    first, second = found.notes["trace"]
    assert first["said"] == "I look."
    assert first["calls"][0] == {
        "name": "read",
        "arguments": '{"texts": ["the cat"]}',
        "result": '1. the <<cat >>\n   "cat " 3.0',
    }
    assert second["calls"] == [{"name": "submit", "arguments": '{"explanation": "Cats."}', "result": ""}]
    assert json.loads(json.dumps(found.notes)) == found.notes
    assert asked[1].messages[:2] == asked[0].messages
    assert last(asked[1]).endswith("(5 turns and 2 tests are left.)")


@pytest.mark.parametrize(
    "wrong",
    [
        call("rm -rf /", "{}"),
        call("read", "not JSON"),
        call("read", {"texts": ["x" * 10**6]}),
        call("read", {"texts": 3}),
        call("submit", {"explanation": 3}),
        call("submit", {"explanation": "x" * 1001}),
        call("change", {"prompts": ["a"], "how": "ablate"}),
    ],
)
async def test_a_call_that_cannot_be_done_is_answered_with_an_error_and_the_agent_goes_on(
    wrong: ToolCall, run: Run
) -> None:
    found, asked = await run(calls(wrong), SUBMIT)
    assert found.explanation == Explanation("Cats.")
    assert last(asked[1]).startswith("error: ")
    assert len(last(asked[1])) < 400
    assert found.notes["trace"][0]["calls"][0]["error"] is True
    # what a tool raised is told by its first line alone
    assert "much more" not in last(asked[1])


async def test_of_many_calls_in_one_turn_the_first_are_answered(run: Run) -> None:
    looking = call("examples", {"where": "activating", "count": 1})
    found, asked = await run(calls(*[looking] * 6), SUBMIT)
    results = [message.content for message in asked[1].messages if message.role == "tool"]
    assert len(results) == 6
    assert [result.startswith("error: at most 4 calls") for result in results] == [False] * 4 + [True] * 2
    assert isinstance(found.explanation, Explanation)


async def test_the_answers_of_one_turn_have_room_for_so_much_and_no_more(run: Run) -> None:
    texts = ["cat " * 249] * 8
    _, asked = await run(calls(*[call("read", {"texts": texts})] * 4), SUBMIT)
    results = [message.content for message in asked[1].messages if message.role == "tool"]
    assert sum(len(result.encode()) for result in results) < 8_000 + 4 * 80
    assert "cut off: there is no more room" in results[-1]


async def test_a_turn_without_a_call_is_reminded_and_three_of_them_are_the_end(run: Run) -> None:
    found, asked = await run(Reply("Hm.", "stop", USED), Reply("  ", "stop", USED), SUBMIT)
    assert found.explanation == Explanation("Cats.")
    assert "Call a tool" in last(asked[1])
    # nothing was said, so no turn of the assistant is there
    assert "Your reply was empty" in last(asked[2])
    assert [message.role for message in asked[2].messages] == ["system", "user", "assistant", "user"]
    found, asked = await run(*[Reply("Hm.", "stop", USED)] * 3)
    assert found.explanation == Failure("truncated", "3 turns in a row called no tool and submitted nothing")


async def test_a_description_that_was_cut_off_is_not_taken(run: Run) -> None:
    cut = Reply("[explanation]: The word", "length", USED)
    found, asked = await run(cut, Reply("[explanation]: The word cat", "stop", USED), speech=InText())
    assert found.explanation == Explanation("The word cat")
    assert "cut off at 4000 tokens: be shorter" in last(asked[1])


async def test_after_the_last_turn_the_description_that_did_best_in_a_test_counts(run: Run) -> None:
    testing = [calls(call("test", {"explanation": f"The word {word}"})) for word in ("cat", "dog")]
    found, asked = await run(*testing, calls(call("examples", {})), turns=3)
    assert found.explanation == Explanation("The word cat")
    assert "This is your last turn" in last(asked[2])
    assert found.notes["trace"][-1]["note"] == "nothing was submitted by turn 3, the last one"
    assert found.notes["trace"][2]["calls"][0]["error"] is True
    assert found.replies[-1] == "k"


async def test_refusals_and_errors_of_the_provider_are_failures_of_the_latent(run: Run) -> None:
    found, _ = await run(calls(call("examples", {})), Reply("", "refusal", USED))
    assert isinstance(found.explanation, Failure)
    assert found.explanation.status == "refused"
    assert len(found.replies) == 2
    with pytest.raises(OverBudget):
        await run(OverBudget("too much"))


async def test_equal_replies_lead_to_equal_requests(box: Toolbox, run: Run) -> None:
    replies: Sequence[Reply] = [
        calls(call("read", {"texts": ["the cat"]}), call("nothing", {})),
        calls(call("examples", {"where": "random"})),
        SUBMIT,
    ]
    _, one = await run(*replies)
    box.windows._seen.clear()
    _, other = await run(*replies)
    assert [request.messages for request in one] == [request.messages for request in other]


async def test_in_text_the_tools_are_told_in_the_system_message(run: Run) -> None:
    found, asked = await run(
        Reply('[call]: read {"texts": ["the cat"]}', "stop", USED),
        Reply("[explanation]: Cats.", "stop", USED),
        speech=InText(),
    )
    assert found.explanation == Explanation("Cats.")
    assert asked[0].tools == ()
    assert "[call]: examples" in asked[0].messages[0].content
    assert last(asked[1]).startswith('[result]:\n1. the <<cat >>\n   "cat " 3.0')
