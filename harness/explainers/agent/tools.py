"""The tools of an agent: what each does, what it takes, and what it answers; none can reach a scored example."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.explainers.agent.trying import ToolError, Trials
from harness.explainers.agent.windows import Windows
from harness.questions.messages import Tool

__all__ = ["TOOLS", "ToolName", "Toolbox"]

ToolName = Literal["examples", "read", "change", "test"]
TOOLS: tuple[ToolName, ...] = ("examples", "read", "change", "test")

# of one call's arguments, in characters; what any tool takes is far less
_LONGEST = 20_000
_TEXTS, _TEXT = 8, 1000
_PROMPTS = 4


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Examples(_Arguments):
    where: str = "activating"
    quantile: Annotated[int, Field(ge=1)] | None = None
    count: Annotated[int, Field(ge=1, le=10)] = 5


class _Read(_Arguments):
    texts: Annotated[list[Annotated[str, Field(min_length=1, max_length=_TEXT)]], Field(min_length=1)]


class _Change(_Arguments):
    prompts: Annotated[list[Annotated[str, Field(min_length=1, max_length=_TEXT)]], Field(min_length=1)]
    how: Literal["add", "ablate"]
    nats: Annotated[float, Field(gt=0, le=10)] = 1.0


class _Words(_Arguments):
    explanation: Annotated[str, Field(min_length=1, max_length=_TEXT)]


_TAKES: dict[str, type[_Arguments]] = {
    "examples": _Examples,
    "read": _Read,
    "change": _Change,
    "test": _Words,
    "submit": _Words,
}


@dataclass(slots=True)
class Toolbox:
    """The tools offered to one agent on one latent: `examples` and `test` need no subject, `read` and `change` do.

    It holds the shown and the select examples alone: what is scored is not in it.
    """

    windows: Windows
    trials: Trials
    names: tuple[ToolName, ...]

    @property
    def definitions(self) -> tuple[Tool, ...]:
        """The tools as a model is told of them; `submit` comes last."""
        made = {"examples": self._of_examples, "read": _of_read, "change": _of_change, "test": self._of_test}
        return (*(made[name]() for name in self.names), _SUBMIT)

    def submitted(self, arguments: str) -> str:
        """The explanation that a call of `submit` gives.

        Raises:
            ToolError: the arguments are not what it takes.
        """
        found = self._checked("submit", arguments)
        assert isinstance(found, _Words)
        words = " ".join(found.explanation.split())
        if not words:
            raise ToolError("explanation: is empty")
        return words

    async def call(self, name: str, arguments: str) -> str:
        """What a tool answers.

        Raises:
            ToolError: there is no such tool, the arguments are not what it takes, or it cannot be done.
            RunEnding, Drained: nothing more can be asked.
        """
        if name not in self.names:
            known = ", ".join([*self.names, "submit"])
            raise ToolError(f"there is no tool of that name; there are: {known}")
        match self._checked(name, arguments):
            case _Examples(where=where, quantile=quantile, count=count):
                return self._examples(where, quantile, count)
            case _Read(texts=texts):
                if len(texts) > _TEXTS:
                    raise ToolError(f"texts: at most {_TEXTS} at once, and these are {len(texts)}")
                return await self.trials.read(texts)
            case _Change(prompts=prompts, how=how, nats=nats):
                if len(prompts) > _PROMPTS:
                    raise ToolError(f"prompts: at most {_PROMPTS} at once, and these are {len(prompts)}")
                return await self.trials.change(prompts, how, nats)
            case _Words(explanation=explanation):
                return await self.trials.test(" ".join(explanation.split()))
        raise AssertionError(name)

    def _examples(self, where: str, quantile: int | None, count: int) -> str:
        if where != "activating" and where not in self.windows.rungs:
            known = ", ".join(["activating", *self.windows.rungs])
            raise ToolError(f"where: there are no passages of that kind; there are: {known}")
        if quantile is not None and where != "activating":
            raise ToolError("quantile: is of passages in which the feature responds; leave it out")
        if quantile is not None and quantile > self.windows.quantiles:
            told = f"quantiles are 1 to {self.windows.quantiles}" if self.windows.quantiles else "there are none"
            raise ToolError(f"quantile: {told}")
        return self.windows.more(where, quantile, count)

    def _checked(self, name: str, arguments: str) -> _Arguments:
        if len(arguments) > _LONGEST:
            raise ToolError(f"the arguments are {len(arguments):,} characters long, and {_LONGEST:,} are the most")
        try:
            data = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise ToolError("the arguments are no valid JSON") from None
        if not isinstance(data, dict):
            raise ToolError("the arguments have to be a JSON object")
        try:
            return _TAKES[name].model_validate(data)
        except ValidationError as error:
            raise ToolError(_wrong(error, _TAKES[name])) from None

    def _of_examples(self) -> Tool:
        where = {"type": "string", "enum": ["activating", *self.windows.rungs], "description": _where(self.windows)}
        properties: dict[str, Any] = {"where": where}
        if self.windows.quantiles:
            properties["quantile"] = {
                "type": "integer",
                "minimum": 1,
                "maximum": self.windows.quantiles,
                "description": "of activating passages, how strong: 1 has the weakest; left out, all strengths",
            }
        properties["count"] = {"type": "integer", "minimum": 1, "maximum": 10, "description": "how many, at most"}
        return _tool("examples", "Shows more passages of real text, other ones at each call.", properties, ["where"])

    def _of_test(self) -> Tool:
        return _tool(
            "test",
            f"Has a reader who knows the description alone tell in which of {self.trials.passages} passages that you "
            "have not seen the feature responds, and tells how often it was right and where it was wrong. Can be "
            f"called {_times(self.trials.left)} in all.",
            {"explanation": {"type": "string", "description": "the description to test, one sentence"}},
            ["explanation"],
        )


def _of_read() -> Tool:
    return _tool(
        "read",
        f"Has the model read texts that you write, up to {_TEXTS}, each by itself, and shows where the feature "
        "responds and how strongly.",
        {"texts": {"type": "array", "items": {"type": "string"}, "maxItems": _TEXTS, "description": "the texts"}},
        ["texts"],
    )


def _of_change() -> Tool:
    return _tool(
        "change",
        f"Has the model go on with prompts that you write, up to {_PROMPTS}, without and with a change of the feature "
        "at the last token and at each new one, and shows which next tokens become likelier and what is written. "
        "To ablate it changes something only where the feature responds.",
        {
            "prompts": {"type": "array", "items": {"type": "string"}, "maxItems": _PROMPTS, "description": "prompts"},
            "how": {"type": "string", "enum": ["add", "ablate"], "description": "add it, or set it to 0"},
            "nats": {
                "type": "number",
                "description": "how strongly to add it: the KL divergence of the next token in nats, above 0 and at "
                "most 10; 1 unless told",
            },
        },
        ["prompts", "how"],
    )


_SUBMIT = Tool(
    "submit",
    "Submits your description and ends the investigation.",
    {
        "type": "object",
        "properties": {"explanation": {"type": "string", "description": "one sentence"}},
        "required": ["explanation"],
        "additionalProperties": False,
    },
)

_KINDS = {
    "random": "any in which it is silent",
    "zero-row": "in which it is silent, of records where it responds nowhere",
    "same-row": "in which it is silent, of records where it responds elsewhere",
    "same-token": "in which it is silent, though a word that it responds to stands there",
    "neighbour": "in which it is silent and a feature that is like it responds",
    "cooccurring": "in which it is silent and a feature that often responds together with it does",
}


def _where(windows: Windows) -> str:
    kinds = [f"{rung}: {_KINDS.get(rung, 'in which it is silent')}" for rung in windows.rungs]
    return "; ".join(["activating: passages in which the feature responds", *kinds])


def _tool(name: str, description: str, properties: Mapping[str, Any], required: Sequence[str]) -> Tool:
    schema = {"type": "object", "properties": dict(properties), "required": list(required)}
    return Tool(name, description, {**schema, "additionalProperties": False})


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _wrong(error: ValidationError, takes: type[_Arguments]) -> str:
    """What is wrong first, and what the tool takes."""
    detail = error.errors()[0]
    at = ".".join(str(part + 1) if isinstance(part, int) else str(part)[:40] for part in detail["loc"])
    words = {"missing": "is missing", "extra_forbidden": "is no argument of this tool"}
    told = words.get(detail["type"]) or detail["msg"][0].lower() + detail["msg"][1:]
    return f"{at}: {told}; the arguments are: {', '.join(takes.model_fields)}"
