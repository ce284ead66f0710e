"""Asking: one re-ask after an unreadable reply, failures as values, only what a client can take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.clients.ask import TOP_LOGPROBS, Asked, ask
from harness.clients.logprobs import RawLogprobs
from harness.clients.protocol import Capabilities, Reply, Request
from harness.clients.replies import request_key
from harness.clients.wire import Wire
from harness.errors import (
    AuthenticationFailed,
    BadRequest,
    ContextTooLong,
    MissingLogprobs,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Refused,
    TimedOut,
)
from harness.questions.kinds import Detect, Explain, Judgement, Question
from harness.questions.prompts import load_variant
from harness.values import Example, Explanation, Failure, Passage, TokenLogprob, Usage

pytestmark = pytest.mark.anyio

DETECT, EXPLAIN = load_variant("detect", "default"), load_variant("explain", "default")
JUDGE = Detect(Explanation("months"), (Passage(("in", " May")), Passage(("no",))))
TELL = Explain((Example(Passage(("in", " May")), np.array([0, 1], np.float32)),), 1.0)


class Scripted:
    """Answers from a list of replies and errors, and keeps what it was asked."""

    name = "test/scripted"

    def __init__(self, *script: Reply | Exception | str, **capabilities: Any) -> None:
        self.capabilities = Capabilities(**{"logprobs": False, **capabilities})
        self.script = list(script)
        self.asked: list[Request] = []

    def wire(self, request: Request) -> Wire:
        return Wire.of({"messages": [[message.role, message.content] for message in request.messages]})

    async def generate(self, request: Request) -> Reply:
        self.asked.append(request)
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Reply) else Reply(step, "stop", Usage(input=10, output=2, requests=1))

    async def aclose(self) -> None:
        """Nothing is open."""


async def asked(client: Scripted, question: Question = JUDGE, **options: Any) -> Asked:
    return await ask(client, DETECT if question is JUDGE else EXPLAIN, question, **options)


async def test_a_readable_reply_is_the_answer() -> None:
    client = Scripted("[1, 0]")
    result = await asked(client)
    assert result.answer == Judgement((1, 0), (None, None))
    assert result.replies == (request_key(client, client.asked[0]),)
    assert result.usage == Usage(input=10, output=2, requests=1)
    assert client.asked[0].messages == DETECT.render(JUDGE).messages
    assert client.asked[0].question is JUDGE


async def test_an_unreadable_reply_is_asked_about_once() -> None:
    client = Scripted("the first one", "[1, 0]")
    result = await asked(client)
    assert result.answer == Judgement((1, 0), (None, None))
    first, second = client.asked
    assert second.messages[:-2] == first.messages
    assert [(m.role, m.content) for m in second.messages[-2:]] == [
        ("assistant", "the first one"),
        (
            "user",
            "This cannot be read: the reply has no labels where 2 are needed. "
            "Reply with a JSON list of exactly 2 entries, each 0 or 1, and nothing else.",
        ),
    ]
    assert result.replies == (request_key(client, first), request_key(client, second))
    assert result.usage == Usage(input=20, output=4, requests=2)


async def test_two_unreadable_replies_are_a_failure() -> None:
    result = await asked(Scripted("hm", "[1, 0, 1]"))
    assert result.answer == Failure("unparsable", "the reply has 3 labels where 2 are needed")
    assert result.usage.requests == 2


async def test_after_an_empty_reply_no_empty_turn_is_sent() -> None:
    client = Scripted("", "[1, 0]")
    await asked(client)
    messages = client.asked[1].messages
    assert len(messages) == len(client.asked[0].messages)
    assert messages[-1].role == "user"
    assert messages[-1].content.endswith("Reply with a JSON list of exactly 2 entries, each 0 or 1, and nothing else.")


async def test_a_refusal_is_not_asked_about_again() -> None:
    for script in ("I'm sorry, but I can't help with that.", Reply("", "refusal", Usage()), Refused("content filter")):
        client = Scripted(script)
        result = await asked(client)
        assert isinstance(result.answer, Failure)
        assert result.answer.status == "refused"
        assert len(client.asked) == 1


async def test_a_cut_off_explanation_is_truncated_and_a_complete_list_is_not() -> None:
    client = Scripted(Reply("[explanation]: names of mon", "length", Usage()))
    assert await asked(client, TELL) == Asked(
        Failure("truncated", "the reply was cut off at the limit of 500 tokens"),
        (request_key(client, client.asked[0]),),
        Usage(),
    )
    assert (await asked(Scripted(Reply("[1, 0] because", "length", Usage())))).answer == Judgement((1, 0), (None, None))
    short = await asked(Scripted(Reply("[1,", "length", Usage())))
    assert isinstance(short.answer, Failure)
    assert short.answer.status == "truncated"


@pytest.mark.parametrize("error", [Overloaded, RateLimited, TimedOut, BadRequest, ContextTooLong, MissingLogprobs])
async def test_what_retries_could_not_mend_is_a_provider_error(error: type[Exception]) -> None:
    result = await asked(Scripted(error("no luck")))
    assert result == Asked(Failure("provider_error", "no luck"), (), Usage())


async def test_an_error_at_the_second_asking_keeps_the_first_reply() -> None:
    client = Scripted("hm", Overloaded("no luck"))
    result = await asked(client)
    assert result.answer == Failure("provider_error", "no luck")
    assert result.replies == (request_key(client, client.asked[0]),)
    assert result.usage.requests == 1


@pytest.mark.parametrize("error", [AuthenticationFailed, QuotaExhausted])
async def test_an_account_error_stops_everything(error: type[Exception]) -> None:
    with pytest.raises(error, match="no more"):
        await asked(Scripted(error("no more")))


async def test_only_what_the_client_can_take_is_sent() -> None:
    able, unable = Scripted("[1, 0]", logprobs=True, seed=True), Scripted("[1, 0]", temperature=False)
    for client in (able, unable):
        await asked(client, seed=7, sample=3)
    assert [(r.temperature, r.top_logprobs, r.seed, r.sample, r.max_tokens) for r in able.asked + unable.asked] == [
        (0.0, TOP_LOGPROBS, 7, 3, 500),
        (None, None, None, 3, 500),
    ]
    words = Scripted("[explanation]: months", logprobs=True)
    await asked(words, TELL)
    assert (words.asked[0].temperature, words.asked[0].top_logprobs) == (0.7, None)


async def test_logprobs_become_probabilities() -> None:
    pieces = [("[", 0.0), ("1", np.log(0.9)), (", ", 0.0), ("0", np.log(0.8)), ("]", 0.0)]
    tops = {"1": (("1", np.log(0.9)), ("0", np.log(0.1))), "0": (("0", np.log(0.8)), ("1", np.log(0.2)))}
    logprobs = [TokenLogprob(piece, float(value), tops.get(piece, ())) for piece, value in pieces]
    result = await asked(Scripted(Reply("[1, 0]", "stop", Usage(), logprobs), logprobs=True))
    assert isinstance(result.answer, Judgement)
    assert result.answer.probabilities == pytest.approx((0.9, 0.2))


async def test_a_rule_is_taken_only_from_a_client_without_a_language_model() -> None:
    text = '[explanation]: months\n[rule]: {"kind": "tokens", "tokens": [" May"]}'
    rule = {"kind": "tokens", "tokens": [" May"]}
    assert (await asked(Scripted(text, model_free=True), TELL)).answer == Explanation("months", rule)
    assert (await asked(Scripted(text), TELL)).answer == Explanation("months")


async def test_logprobs_that_turn_out_to_be_none_are_an_unreadable_reply_and_asked_for_once_more() -> None:
    broken = Reply("[1,0]", "stop", Usage(), RawLogprobs(b'{"content":[{"token":}]}'))
    good = tuple(TokenLogprob(token, -0.1, ((token, -0.1),)) for token in ("[", "1", ",", "0", "]"))
    client = Scripted(broken, Reply("[1,0]", "stop", Usage(), good), broken, broken, logprobs=True)
    answered = await ask(client, DETECT, JUDGE, logprobs=True)
    assert isinstance(answered.answer, Judgement)
    failed = await ask(client, DETECT, JUDGE, logprobs=True)
    assert isinstance(failed.answer, Failure)
    assert failed.answer.status == "unparsable"
    assert "logprobs cannot be read" in failed.answer.message
