"""Draws of the same requests: another sample number and seed, and nothing asked anew where nothing is drawn."""

from __future__ import annotations

import pytest

from harness.clients.ask import ask, ask_once
from harness.clients.protocol import Request
from harness.clients.replies import request_key
from harness.clients.sampling import again, sampled
from harness.questions.kinds import Detect
from harness.questions.messages import Message
from harness.questions.prompts import load_variant
from harness.testing import MockClient
from harness.values import Explanation, Passage

pytestmark = pytest.mark.anyio

HELLO = (Message("user", "hello"),)
JUDGE = Detect(Explanation("months"), (Passage(("in", " May")), Passage(("no",))))


def test_the_first_draw_is_the_request_itself() -> None:
    request = Request(HELLO, 5, seed=7, sample=2)
    assert again(request) is request
    with sampled(0):
        assert again(request) is request


def test_draws_differ_in_sample_and_seed_and_are_the_same_each_time() -> None:
    request = Request(HELLO, 5, seed=7, sample=2)
    found = []
    for number in (1, 2, 1):
        with sampled(number):
            found.append(again(request))
    assert found[0] == found[2]
    assert len({request.sample, found[0].sample, found[1].sample}) == 3
    assert len({request.seed, found[0].seed, found[1].seed}) == 3
    assert again(request) is request


def test_a_client_without_seeds_is_sent_none() -> None:
    with sampled(1):
        assert again(Request(HELLO, 5)).seed is None


@pytest.mark.parametrize(
    "request_", [Request((), 0, texts=("a",)), Request(HELLO, 0, continuation="b", top_logprobs=1)]
)
def test_where_nothing_is_generated_nothing_is_asked_anew(request_: Request) -> None:
    with sampled(3):
        assert again(request_) is request_


async def test_a_draw_is_asked_for_and_kept_under_a_key_of_its_own() -> None:
    client = MockClient("[1, 0]")
    variant = load_variant("detect", "default")
    first = await ask(client, variant, JUDGE, seed=1)
    with sampled(1):
        second = await ask(client, variant, JUDGE, seed=1)
    assert set(first.replies).isdisjoint(second.replies)
    # the key is that of what was sent
    assert [request_key(client, sent) for sent in client.requests] == [*first.replies, *second.replies]


async def test_an_unreadable_reply_is_asked_about_within_its_draw() -> None:
    client = MockClient(["nothing", "[1, 0]"])
    with sampled(2):
        await ask(client, load_variant("detect", "default"), JUDGE)
    assert len({sent.sample for sent in client.requests}) == 1
    assert client.requests[0].sample > 0


async def test_samples_of_one_request_stay_apart_within_a_draw() -> None:
    client = MockClient()
    with sampled(1):
        for sample in (0, 1):
            await ask_once(client, Request(HELLO, 5, sample=sample))
    assert len({sent.sample for sent in client.requests}) == 2
