"""One agent at work on one latent: turn by turn, within its budget, every step noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.clients.ask import ask_once
from harness.clients.ledger import Amount, total_tokens
from harness.clients.metering import at_most
from harness.clients.prices import Price
from harness.clients.protocol import Client, Reply, Request
from harness.errors import Drained, PromptError, RunEnding
from harness.explainers.agent.prompt import AgentPrompt
from harness.explainers.agent.protocol import Speech, Turn
from harness.explainers.agent.ration import Ration, amount
from harness.explainers.agent.tools import Toolbox
from harness.explainers.agent.trying import ToolError, Unfinished
from harness.explainers.base import Explained
from harness.questions.kinds import Experiment
from harness.questions.messages import Message, Tool, ToolCall
from harness.values import Explanation, Failure, Usage

__all__ = ["Limits", "Session"]

# calls of one turn that are answered, and the bytes of all their answers together
_CALLS = 4
_ROOM = 8_000
# what may stand around what is new in a request: roles, ids, names, what is said of the turns left
_AROUND = 1024
_LAST = "This is your last turn: submit your description now. Nothing else is answered."
_AGAIN = "That was the last turn: nothing but a description that is submitted is taken."
# turns without a call, one after the other, that end it
_IDLE = 3
# of a step in the trace, in characters
_NOTED = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """Turns at most, and how many of the shown examples open the conversation."""

    turns: int
    opening: int


@dataclass(slots=True)
class Session:
    """An agent on one latent; `run` may be called once.

    Equal replies lead to equal requests, so that a run that was killed replays what it has and goes on from there.
    """

    client: Client
    prompt: AgentPrompt
    speech: Speech
    toolbox: Toolbox
    ration: Ration
    limits: Limits
    price: Price | None
    seed: int
    _definitions: tuple[Tool, ...] = ()
    _messages: list[Message] = field(default_factory=list)
    _trace: list[dict[str, Any]] = field(default_factory=list)
    _replies: tuple[str, ...] = ()
    _usage: Usage = Usage()
    # tokens that the conversation surely does not pass, None before the first reply
    _length: int | None = None

    async def run(self) -> Explained:
        """Experiment until a description is submitted or the budget ends.

        Raises:
            RunEnding, Drained: nothing more can be asked.
            PromptError: a prompt's template fails.
        """
        self._open()
        idle = number = 0
        for number in range(1, self.limits.turns + 1):
            last = number == self.limits.turns or not self._goes_on()
            if last:
                self._add(_LAST)
            request = self._request(number, last=last)
            if not self.ration.fits(self._most(request)):
                return self._ended(self._unsubmitted(f"the budget ended before turn {number}"))
            reply, keys = await ask_once(self.client, request)
            self._replies += keys
            if isinstance(reply, Failure):
                return self._ended(reply)
            self._count(request, reply)
            if reply.finish == "refusal":
                return self._ended(Failure("refused", "the provider ended the reply as a refusal"))
            turn = self.speech.read(reply, number)
            try:
                told = await self._do(turn, reply, last=last)
            except Unfinished as error:
                return self._ended(error.failure)
            if told is not None:
                return self._ended(Explanation(told))
            idle = 0 if turn.calls else idle + 1
            if idle == _IDLE:
                return self._ended(self._unsubmitted(f"{_IDLE} turns in a row called no tool and submitted nothing"))
            if last:
                break
        return self._ended(self._unsubmitted(f"nothing was submitted by turn {number}, the last one"))

    # the conversation

    def _open(self) -> None:
        # once: what is said of the tools stands at the beginning of every request
        self._definitions = self.toolbox.definitions
        manual = self.speech.manual(self._definitions)
        system = self.prompt.system(self.toolbox.names)
        examples, count = self.toolbox.windows.first(self.limits.opening)
        self._messages = [
            Message("system", f"{system}\n\n{manual}" if manual else system),
            Message("user", self.prompt.user(examples, count, self.limits.turns)),
        ]

    def _request(self, number: int, *, last: bool) -> Request:
        capabilities = self.client.capabilities
        return Request(
            messages=tuple(self._messages),
            max_tokens=self.prompt.max_tokens,
            temperature=self.prompt.temperature if capabilities.temperature else None,
            seed=self.seed if capabilities.seed else None,
            tools=self.speech.offered(self._definitions),
            question=Experiment(self.toolbox.trials.latent, number, self._usual(number, last=last)),
        )

    def _usual(self, number: int, *, last: bool) -> Callable[[str], tuple[str, tuple[ToolCall, ...]]]:
        """What makes a turn that a rehearsal takes for the model's: many examples, then all tests, then the end."""
        tests, turns = self.toolbox.trials.left, self.limits.turns
        testing = "test" in self.toolbox.names and tests and number >= turns - tests

        def usual(words: str) -> tuple[str, tuple[ToolCall, ...]]:
            about = '{"explanation": "' + words.replace("\\", "").replace('"', "") + '"}'
            call = ToolCall(f"turn{number}_0", "examples", '{"where": "activating", "count": 10}')
            if last:
                call = ToolCall(call.id, "submit", about)
            elif testing:
                call = ToolCall(call.id, "test", about)
            return self.speech.write(Turn("", (call,)))

        return usual

    def _add(self, words: str) -> None:
        """Say something more at the end of the last message, which is never the assistant's."""
        message = self._messages[-1]
        self._messages[-1] = replace(message, content=f"{message.content}\n\n{words}")

    def _answer(self, turn: Turn, results: Sequence[str]) -> None:
        said = self.speech.said(turn)
        if said is not None:
            self._messages.append(said)
            self._messages += self.speech.answered(turn, results) if turn.calls else ()
        if not turn.calls and said is None:
            self._add(f"Your reply was empty. {self.speech.reminder}")
        elif not turn.calls:
            self._messages.append(Message("user", self.speech.reminder))

    # what is done

    async def _do(self, turn: Turn, reply: Reply, *, last: bool) -> str | None:
        """Make a turn's calls and answer them; gives the description if one is submitted."""
        noted: list[dict[str, Any]] = []
        step = {"said": turn.text[:_NOTED], "calls": noted, "tokens": total_tokens(reply.usage)}
        self._trace.append(step)
        cut = reply.finish == "length"
        results: list[str] = []
        room = _ROOM
        for at, call in enumerate(turn.calls):
            try:
                if call.name == "submit":
                    told = self.toolbox.submitted(call.arguments)
                    if cut:
                        raise ToolError(f"the reply was cut off at {self.prompt.max_tokens} tokens: be shorter")
                    noted.append(_noted(call, "", right=True))
                    return told
                result, right = await self._call(call, at, last=last), True
            except ToolError as error:
                result, right = f"error: {error}", False
            result = _fitting(result, room)
            room -= len(result.encode("utf-8", "replace"))
            results.append(result)
            noted.append(_noted(call, result, right=right))
        self._answer(turn, results)
        left = self.limits.turns - len(self._trace)
        cut_off = f"Your reply was cut off at {self.prompt.max_tokens} tokens: be shorter. " if cut else ""
        tests = f" and {self.toolbox.trials.left} tests" if "test" in self.toolbox.names else ""
        self._add(f"({cut_off}{left} turns{tests} are left.)")
        new = sum(
            len(message.content.encode("utf-8", "replace")) for message in self._messages[-max(1, len(results)) :]
        )
        self._length = None if self._length is None else self._length + new + _AROUND
        return None

    async def _call(self, call: ToolCall, at: int, *, last: bool) -> str:
        """What a tool answers.

        Raises:
            ToolError: it does not; the message says why.
        """
        if last:
            raise ToolError(_AGAIN)
        if at >= _CALLS:
            raise ToolError(f"at most {_CALLS} calls are answered in one turn")
        try:
            return await self.toolbox.call(call.name, call.arguments)
        except (ToolError, Unfinished, RunEnding, Drained, PromptError):
            raise
        except Exception as error:  # whatever goes wrong in a tool is told to the model and ends nothing
            line = (str(error).strip().splitlines() or [""])[0]
            raise ToolError(f"it failed: {type(error).__name__}: {line[:300]}") from error

    # the budget

    def _most(self, request: Request) -> Amount:
        """The most that a request can take.

        By the bytes of its body, and, where the reply before told how long the conversation was, by that and what has
        come to it since.
        """
        wire = self.client.wire(request)
        prompt = at_most(wire, request, None).tokens - request.max_tokens
        if self._length is not None:
            prompt = min(prompt, self._length)
        return amount(prompt, request.max_tokens, self.price)

    def _goes_on(self) -> bool:
        """Whether there is room for another turn and, after it, one more to submit in."""
        request = self._request(0, last=False)
        most = self._most(request)
        prompt = most.tokens - request.max_tokens
        closing = amount(prompt + request.max_tokens + _ROOM + 2 * _AROUND, request.max_tokens, self.price)
        return self.ration.fits(most + closing)

    def _count(self, request: Request, reply: Reply) -> None:
        self.ration.spend(reply.usage, self._most(request))
        self._usage += reply.usage
        self._length = total_tokens(reply.usage) or None
        self.toolbox.trials.reserve = amount(
            (self._length or at_most(self.client.wire(request), request, None).tokens) + _ROOM + 2 * _AROUND,
            request.max_tokens,
            self.price,
        )

    # the end

    def _unsubmitted(self, why: str) -> Explanation | Failure:
        """The description that did best in a test, where there was one."""
        best = self.toolbox.trials.best
        self._trace.append({"said": "", "calls": [], "tokens": 0, "note": why})
        return Failure("truncated", why) if best is None else Explanation(best[1])

    def _ended(self, answer: Explanation | Failure) -> Explained:
        trials = self.toolbox.trials
        keys = tuple(dict.fromkeys((*self._replies, *trials.replies)))
        return Explained(answer, keys, self._usage + trials.usage, {"trace": self._trace, "protocol": self.speech.name})


def _noted(call: ToolCall, result: str, *, right: bool) -> dict[str, Any]:
    noted = {"name": call.name[:64], "arguments": call.arguments[:_NOTED], "result": result[:_NOTED]}
    return noted if right else {**noted, "error": True}


def _fitting(result: str, room: int) -> str:
    """A result cut to so many bytes, or a few words where there is no room at all."""
    raw = result.encode("utf-8", "replace")
    if len(raw) <= room:
        return result
    return f"{raw[: max(room, 0)].decode('utf-8', 'ignore')}\n(cut off: there is no more room in this turn)"
