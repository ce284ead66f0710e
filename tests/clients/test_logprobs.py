"""The logprobs of a chat completion set apart without going over them: the same reply, or none at all."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clients import Capabilities
from harness.clients.logprobs import set_apart
from harness.clients.providers._chat import ChatDialect

CHAT = ChatDialect("m", Capabilities(logprobs=True), "max_tokens", {})

# what a completion is made of, and what looks like it
PIECES = st.sampled_from(
    ["}]}]", "}", "]", "[", "{", '"', "\\", ",", ":", "null", '"logprobs":', '{"token": "a"}', "\n", "\u202e", "é", "a"]
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)
LOGPROBS = st.floats(-20, 0)


@st.composite
def tokens(draw: st.DrawFn) -> dict[str, Any]:
    alternative = {"token": draw(TEXTS), "logprob": draw(LOGPROBS), "bytes": None}
    return {"token": draw(TEXTS), "logprob": draw(LOGPROBS), "top_logprobs": [alternative] * draw(st.integers(0, 2))}


@st.composite
def completions(draw: st.DrawFn) -> str:
    logprobs = {"content": draw(st.lists(tokens(), min_size=1, max_size=3))}
    if draw(st.booleans()):
        logprobs["refusal"] = draw(st.sampled_from([None, []]))
    choice = [("message", {"content": draw(TEXTS)}), ("logprobs", logprobs), ("finish_reason", "stop"), ("index", 0)]
    data = [("choices", [dict(draw(st.permutations(choice)))]), ("id", draw(TEXTS)), ("vendor", {"logprobs": None})]
    indent, separators = draw(st.sampled_from([(None, (",", ":")), (None, (", ", ": ")), (1, None)]))
    return json.dumps(dict(draw(st.permutations(data))), indent=indent, separators=separators, ensure_ascii=False)


@given(completions())
def test_a_completion_reads_the_same_as_by_a_whole_pass_over_it(text: str) -> None:
    found = CHAT.decode(text.encode())
    whole = json.loads(text)
    logprobs = found["choices"][0].pop("logprobs")
    assert json.loads(bytes(logprobs)) == whole["choices"][0].pop("logprobs")
    assert found["choices"][0]["message"] == whole["choices"][0]["message"]
    assert found["id"] == whole["id"]


@given(completions(), st.data())
def test_a_completion_that_is_cut_off_is_none(text: str, data: st.DataObject) -> None:
    content = text.encode()
    with pytest.raises(msgspec.DecodeError):
        CHAT.decode(content[: data.draw(st.integers(0, len(content) - 1))])


def test_usual_completions_are_parted_and_others_left_whole() -> None:
    token = {"token": "1", "logprob": -0.1, "top_logprobs": [{"token": "1", "logprob": -0.1}]}
    usual = {"choices": [{"message": {"content": "1"}, "logprobs": {"content": [token], "refusal": None}}], "usage": {}}
    parts = set_apart(json.dumps(usual).encode())
    assert parts is not None
    assert json.loads(parts[0])["choices"][0]["logprobs"] is None
    assert json.loads(bytes(parts[1])) == {"content": [token], "refusal": None}
    for logprobs in (None, {"content": []}, {"content": [{"token": "1", "logprob": -0.1}]}):
        assert set_apart(json.dumps({"choices": [{"logprobs": logprobs}]}).encode()) is None


def test_two_choices_are_never_read_as_one() -> None:
    token = {"token": "1", "logprob": -0.1, "top_logprobs": [{"token": "1", "logprob": -0.1}]}
    choice = {"message": {"content": "1"}, "logprobs": {"content": [token]}}
    text = json.dumps({"choices": [choice, choice]}).encode()
    # the end is looked for from behind, so that the second choice may seem a part of the first one's logprobs
    logprobs = CHAT.decode(text)["choices"][0]["logprobs"]
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(bytes(logprobs))
