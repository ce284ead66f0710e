from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from harness.clients.protocol import Reply
from harness.clients.serialise import reply_from_data, reply_to_data
from harness.values import TokenLogprob, Usage

# lone surrogates too: half a character in a token
text = st.text(st.characters(), max_size=20)
number = st.floats(allow_nan=False)
pairs = st.lists(st.tuples(text, number), max_size=5).map(tuple)
tokens = st.builds(TokenLogprob, text, number, pairs)
usages = st.builds(
    Usage,
    *(st.integers(0, 10**9) for _ in range(6)),
    st.none() | st.floats(0, 1e6),
)
replies = st.builds(
    Reply,
    text,
    st.sampled_from(["stop", "length", "refusal"]),
    usages,
    st.none() | st.lists(tokens, max_size=5).map(tuple),
    text,
    st.none() | text,
    fingerprint=st.none() | text,
    thoughts=text,
)


@given(replies)
def test_a_reply_comes_back_from_json_as_it_was(reply: Reply) -> None:
    written = json.dumps(reply_to_data(reply))
    assert reply_from_data(json.loads(written)) == reply


@given(replies)
def test_a_reply_comes_back_from_bytes_as_it_was(reply: Reply) -> None:
    raw = json.dumps(reply_to_data(reply), ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert reply_from_data(json.loads(raw.decode("utf-8", "surrogatepass"))) == reply


def test_a_cost_of_nothing_is_told_from_an_unknown_one() -> None:
    for cost in (None, 0.0):
        reply = Reply("", "stop", Usage(cost=cost))
        assert reply_from_data(reply_to_data(reply)).usage.cost == cost


def test_no_logprobs_are_told_from_an_empty_list() -> None:
    for logprobs in (None, ()):
        assert reply_from_data(reply_to_data(Reply("", "stop", Usage(), logprobs))).logprobs == logprobs


def test_a_logprob_of_minus_infinity_survives() -> None:
    reply = Reply("a", "stop", Usage(), (TokenLogprob("a", -math.inf),))
    assert reply_from_data(json.loads(json.dumps(reply_to_data(reply)))) == reply


def test_a_plain_reply_is_small() -> None:
    assert len(json.dumps(reply_to_data(Reply("[1]", "stop", Usage(input=9, output=3, requests=1), model="m")))) < 110
