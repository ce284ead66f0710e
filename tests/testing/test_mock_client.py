from __future__ import annotations

import pytest

from harness.clients import Reply, Request
from harness.errors import BadRequest, Overloaded
from harness.questions.messages import Message
from harness.testing import MockClient
from harness.values import Usage

pytestmark = pytest.mark.anyio

REQUEST = Request((Message("user", "hi"),), 10)


async def test_one_output_answers_everything() -> None:
    mock = MockClient("same")
    assert [(await mock.generate(REQUEST)).text for _ in range(3)] == ["same"] * 3
    assert mock.requests == [REQUEST] * 3


async def test_several_outputs_are_given_in_turn_and_then_there_are_none() -> None:
    reply = Reply("whole", "length", Usage(output=9))
    mock = MockClient(iter(["first", reply, Overloaded("third")]))
    assert (await mock.generate(REQUEST)).text == "first"
    assert await mock.generate(REQUEST) is reply
    with pytest.raises(Overloaded, match="third"):
        await mock.generate(REQUEST)
    with pytest.raises(BadRequest, match="no outputs left"):
        await mock.generate(REQUEST)


async def test_a_function_sees_the_request_and_may_wait() -> None:
    async def answer(request: Request) -> str:
        return request.messages[0].content.upper()

    assert (await MockClient(answer).generate(REQUEST)).text == "HI"
    assert (await MockClient(lambda request: str(request.max_tokens)).generate(REQUEST)).text == "10"


async def test_it_notes_that_it_was_closed() -> None:
    mock = MockClient()
    await mock.aclose()
    assert mock.closed
