"""What an agent's model may write, in calls or in text, and what of it stands in the conversation afterwards."""

from __future__ import annotations

import json

import pytest

from harness.clients import Reply
from harness.clients.protocol import Capabilities, Request
from harness.clients.providers._messages import MessagesDialect
from harness.explainers.agent.protocol import InText, ToolCalls, Turn
from harness.questions.messages import Message, Tool, ToolCall
from harness.values import Usage

TEXTS = {"type": "array", "items": {"type": "string"}}
TOOL = Tool("read", "Reads.", {"type": "object", "properties": {"texts": TEXTS}, "required": ["texts"]})


def reply(text: str, *calls: ToolCall) -> Reply:
    return Reply(text, "calls" if calls else "stop", Usage(), calls=calls)


def names(turn: Turn) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in turn.calls]


def test_a_line_of_text_is_a_call_however_it_is_dressed() -> None:
    for line in (
        '[call]: read {"texts": ["a"]}',
        '[Call] read {"texts": ["a"]}',
        '**[call]: read {"texts": ["a"]}',
        '> `[call]: read` {"texts": ["a"]}`',
    ):
        assert names(InText().read(reply(f"I look.\n{line}\nand so on"), 1)) == [("read", '{"texts": ["a"]}')]


def test_a_call_may_go_over_lines_and_several_come_in_their_order() -> None:
    text = '[call]: read {\n "texts": ["a [call]: b"]\n}\n[call]: examples {}\n[call]: examples not JSON\nmore'
    found = InText().read(reply(text), 3)
    assert names(found) == [("read", '{\n "texts": ["a [call]: b"]\n}'), ("examples", "{}"), ("examples", "not JSON")]
    assert [call.id for call in found.calls] == ["turn3_0", "turn3_1", "turn3_2"]


def test_a_description_is_submitted_where_nothing_is_called() -> None:
    submitted = [("submit", json.dumps({"explanation": 'The word "cat".'}))]
    assert names(InText().read(reply('Well.\n[explanation]: The word "cat".'), 1)) == submitted
    assert names(InText().read(reply('[explanation]: no\n**[Explanation]:** The word "cat".'), 1)) == submitted
    assert names(ToolCalls().read(reply('[explanation]: The word "cat".'), 1)) == submitted
    both = InText().read(reply('[explanation]: soon\n[call]: read {"texts": ["a"]}'), 1)
    assert [name for name, _ in names(both)] == ["read"]
    assert names(InText().read(reply("I have no idea."), 1)) == []


def test_what_follows_a_result_that_was_made_up_is_not_read() -> None:
    made_up = '[call]: read {"texts": ["a"]}\n[result]:\n1. <<a>>\n[explanation]: The letter "a".'
    found = InText().read(reply(made_up), 1)
    assert names(found) == [("read", '{"texts": ["a"]}')]
    assert found.text == '[call]: read {"texts": ["a"]}\n'


def test_results_in_text_are_one_message_and_name_their_calls() -> None:
    turn = InText().read(reply('[call]: read {"texts": ["a"]}\n[call]: examples {}'), 1)
    (message,) = InText().answered(turn, ["one", "two"])
    assert message == Message("user", "[result 1 of read]:\none\n\n[result 2 of examples]:\ntwo")
    assert InText().offered([TOOL]) == ()
    assert "read: Reads.\n  texts (list of strings): " in InText().manual([TOOL])


def test_ids_are_given_where_a_server_gives_none_or_one_twice() -> None:
    calls = [ToolCall("", "read", "{}"), ToolCall("", "read", "{}")]
    assert [call.id for call in ToolCalls().read(reply("", *calls), 4).calls] == ["turn4_0", "turn4_1"]
    kept = ToolCalls().read(reply("", ToolCall("call_9", "read", "{}")), 4)
    assert [call.id for call in kept.calls] == ["call_9"]


@pytest.mark.parametrize("arguments", ["not JSON", "[1]", "", "[" * 5000, '{"a": "' + "x" * 30_000 + '"}'])
def test_what_goes_back_into_the_conversation_is_what_every_provider_takes(arguments: str) -> None:
    turn = ToolCalls().read(reply("", ToolCall("c", "rm -rf /", arguments)), 1)
    said = ToolCalls().said(turn)
    assert said is not None
    assert said.calls == (ToolCall("c", "invalid", "{}"),)
    answered = ToolCalls().answered(turn, ["error: no"])
    request = Request((Message("user", "go"), said, *answered), 10, tools=(TOOL,))
    # refuses arguments that are no object
    MessagesDialect("m", Capabilities(logprobs=False), {}).body(request)


def test_nothing_said_is_no_turn() -> None:
    for speech in (ToolCalls(), InText()):
        assert speech.said(speech.read(reply("  \n"), 1)) is None


def test_what_is_written_is_what_is_read() -> None:
    turn = Turn("", (ToolCall("turn1_0", "read", '{"texts": ["a"]}'),))
    for speech in (ToolCalls(), InText()):
        text, calls = speech.write(turn)
        assert names(speech.read(reply(text, *calls), 1)) == names(turn)
