"""How an agent and its model speak: by the provider's tool calls, or in plain text for models that have none."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from harness.clients.protocol import Reply
from harness.questions.messages import Message, Tool, ToolCall

__all__ = ["PROTOCOLS", "InText", "Speech", "ToolCalls", "Turn"]

# what a provider takes as a tool's name; a model may write anything
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# of a reply's text and of one call's arguments, in characters, what is sent back in the conversation
_LONGEST = 20_000
_CALL = re.compile(r"^[ \t>*`-]*\[call\][ \t]*:?[ \t`]*([A-Za-z0-9_-]*)[ \t`]*:?[ \t]*", re.IGNORECASE | re.MULTILINE)
_RESULT = re.compile(r"^[ \t>*`]*\[result\b", re.IGNORECASE | re.MULTILINE)
_TOLD = re.compile(r"^[ \t>*]*\[explanation\]\**[ \t]*:\**[ \t]*(\S.*)$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a model said in one turn: words, the calls that it wishes for, as it wrote them, and what led to them."""

    text: str
    calls: tuple[ToolCall, ...]
    thoughts: str = ""


class Speech(Protocol):
    """One way to offer tools, to read what is called, and to answer it."""

    name: str

    def offered(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        """The tools that go along with a request."""
        ...

    def manual(self, tools: Sequence[Tool]) -> str:
        """What the system message says of the tools beyond the prompt; empty where nothing has to be said."""
        ...

    def read(self, reply: Reply, number: int) -> Turn:
        """What a reply says; `number` is the turn's, from 1."""
        ...

    def said(self, turn: Turn) -> Message | None:
        """The turn as it stands in the conversation from now on, None where nothing was said."""
        ...

    def answered(self, turn: Turn, results: Sequence[str]) -> tuple[Message, ...]:
        """The results of a turn's calls, in their order."""
        ...

    def write(self, turn: Turn) -> tuple[str, tuple[ToolCall, ...]]:
        """A turn as a model would give it: its text, and its calls beside that."""
        ...

    @property
    def reminder(self) -> str:
        """One sentence that tells how a tool is called."""
        ...


class ToolCalls:
    """The provider's own tool calls."""

    name = "tools"
    reminder = "Call a tool, or submit your description by calling submit."

    def offered(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        """All of them."""
        return tuple(tools)

    def manual(self, tools: Sequence[Tool]) -> str:  # noqa: ARG002 - the provider tells of them
        """Nothing: the provider tells of them."""
        return ""

    def read(self, reply: Reply, number: int) -> Turn:
        """A reply's text and calls; a description in the text alone counts as submitted."""
        names = [f"turn{number}_{at}" for at in range(len(reply.calls))]
        # some servers give no ids, or the same one twice
        given = [call.id for call in reply.calls]
        sound = all(_NAME.fullmatch(one) for one in given) and len(set(given)) == len(given)
        ids = given if sound else names
        calls = [ToolCall(one, call.name, call.arguments) for one, call in zip(ids, reply.calls, strict=True)]
        if not calls and (told := _TOLD.findall(reply.text)):
            calls.append(_submit(told[-1]))
        return Turn(reply.text, tuple(calls), reply.thoughts)

    def said(self, turn: Turn) -> Message | None:
        """The turn with its calls; names and arguments that providers refuse are put right."""
        calls = tuple(_sendable(call) for call in turn.calls)
        if not calls and not turn.text.strip():
            return None
        return Message("assistant", turn.text[:_LONGEST], calls, thoughts=turn.thoughts)

    def answered(self, turn: Turn, results: Sequence[str]) -> tuple[Message, ...]:
        """A message of the role `tool` for each call."""
        return tuple(Message("tool", result, answers=call.id) for call, result in zip(turn.calls, results, strict=True))

    def write(self, turn: Turn) -> tuple[str, tuple[ToolCall, ...]]:
        """As it is."""
        return turn.text, turn.calls


class InText:
    """Calls as lines of text, `[call]: NAME {...}`, whose results are the next user message."""

    name = "text"
    reminder = (
        'End your reply with a line such as [call]: examples {"where": "activating"}, or with [explanation]: and your '
        "description to submit it."
    )

    def offered(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:  # noqa: ARG002 - none go along
        """None."""
        return ()

    def manual(self, tools: Sequence[Tool]) -> str:
        """What each tool does, what it takes, and how it is called."""
        lines = [
            "You have these tools. To call one, write a line that begins with [call]: and has the tool's name and its "
            "arguments as a JSON object on one line, and end your reply; the results come as the next message.",
            "",
        ]
        for tool in tools:
            lines.append(f"{tool.name}: {tool.description}")
            for name, schema in tool.parameters["properties"].items():
                needed = "" if name in tool.parameters["required"] else ", may be left out"
                lines.append(f"  {name} ({_type(schema)}{needed}): {schema.get('description', '')}")
        lines += [
            "",
            "For example:",
            '[call]: examples {"where": "activating", "count": 5}',
            "",
            "To submit, end your reply with a line that begins with [explanation]: and has your description.",
        ]
        return "\n".join(lines)

    def read(self, reply: Reply, number: int) -> Turn:
        """The calls in a reply's lines; without any, a description in its last such line is submitted.

        What follows a result that the model made up itself is left out.
        """
        text = _RESULT.split(reply.text, maxsplit=1)[0]
        calls: list[ToolCall] = []
        for match in _CALL.finditer(text):
            calls.append(ToolCall(f"turn{number}_{len(calls)}", match[1], _object(text, match.end())))
        if not calls and (told := _TOLD.findall(text)):
            calls.append(_submit(told[-1]))
        return Turn(text, tuple(calls))

    def said(self, turn: Turn) -> Message | None:
        """The text."""
        return Message("assistant", turn.text[:_LONGEST]) if turn.text.strip() else None

    def answered(self, turn: Turn, results: Sequence[str]) -> tuple[Message, ...]:
        """One user message with all results."""
        if len(results) == 1:
            return (Message("user", f"[result]:\n{results[0]}"),)
        parts = [
            f"[result {number} of {call.name[:64]}]:\n{result}"
            for number, (call, result) in enumerate(zip(turn.calls, results, strict=True), 1)
        ]
        return (Message("user", "\n\n".join(parts)),)

    def write(self, turn: Turn) -> tuple[str, tuple[ToolCall, ...]]:
        """A line for each call."""
        lines = [f"[call]: {call.name} {call.arguments}" for call in turn.calls]
        return "\n".join([*([turn.text] if turn.text else []), *lines]), ()


PROTOCOLS: dict[Literal["tools", "text"], type[Speech]] = {"tools": ToolCalls, "text": InText}


def _submit(told: str) -> ToolCall:
    arguments = json.dumps({"explanation": told.strip().strip("*").strip()}, ensure_ascii=False)
    return ToolCall("submit", "submit", arguments)


def _sendable(call: ToolCall) -> ToolCall:
    """The call as any provider takes it back: arguments that are no JSON object are left out of it."""
    name = call.name if _NAME.fullmatch(call.name) else "invalid"
    arguments = call.arguments or "{}"
    try:
        sound = len(arguments) <= _LONGEST and isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        sound = False
    return ToolCall(call.id, name, arguments if sound else "{}")


def _object(text: str, start: int) -> str:
    """The JSON value that begins at a place of a text; where there is none, the rest of the line."""
    try:
        _, stop = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return text[start:].partition("\n")[0].strip().strip("`")
    return text[start:stop]


def _type(schema: object) -> str:
    assert isinstance(schema, dict)
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    kind = str(schema.get("type", "any"))
    return f"list of {_type(schema['items'])}s" if kind == "array" else kind
