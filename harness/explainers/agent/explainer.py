"""The explainer kind `agent`: a model that experiments on a latent before it says what it does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.clients.models import Models
from harness.clients.wants import Want
from harness.errors import TaskError
from harness.examples.draw import LatentExamples
from harness.explainers.agent.prompt import load_prompt
from harness.explainers.agent.protocol import PROTOCOLS
from harness.explainers.agent.ration import Ration
from harness.explainers.agent.session import Limits, Session
from harness.explainers.agent.tools import TOOLS, Toolbox, ToolName
from harness.explainers.agent.trying import AskedSubject, Examiner, Trials
from harness.explainers.agent.windows import Windows
from harness.explainers.base import Explained, Explainer
from harness.values import seed_of

__all__ = ["Agent"]

# raised when tools do other things than before, so that explanations are made anew
_VERSION = 1


class Agent(Explainer):
    """Has a model look at examples, run the subject on texts of its own, test its descriptions, and submit one."""

    class Settings(BaseModel):
        """Keys of an `[[explainer]]` of kind `agent`.

        `tools` are those offered, of `examples`, `read`, `change` and `test`; left out, all that can be: `read` and
        `change` need a [subject], `change` a coder with directions, and `test` the model `by`, asked by the prompt
        `by_prompt` of detection. `protocol` is `tools` for the provider's tool calls, `text` for calls as lines of
        text, and `auto` for the first where the model is known to have them. A latent takes at most `turns` replies,
        `tests` tests, `tokens` of all kinds and `dollars`; `opening` of the shown examples open the conversation.
        """

        model_config = ConfigDict(extra="forbid", frozen=True)

        model: str
        prompt: str = "default"
        by: str | None = None
        by_prompt: str = "default"
        tools: tuple[ToolName, ...] | None = None
        protocol: Literal["auto", "tools", "text"] = "auto"
        turns: Annotated[int, Field(ge=1, le=200)] = 16
        tests: Annotated[int, Field(ge=0, le=50)] = 3
        tokens: Annotated[int, Field(ge=10_000)] = 200_000
        dollars: Annotated[float, Field(gt=0)] | None = None
        opening: Annotated[int, Field(ge=1)] = 12

        @field_validator("tools")
        @classmethod
        def _distinct(cls, tools: tuple[ToolName, ...] | None) -> tuple[ToolName, ...] | None:
            if tools is not None and len(set(tools)) != len(tools):
                raise ValueError("has duplicates")
            return tools

    def __init__(self, settings: Agent.Settings, models: Models, base: Path) -> None:
        self._settings = settings
        self._client = models.client(settings.model)
        if self._client.capabilities.model_free:
            raise TaskError(f"model: {settings.model} has no language model, and an agent is one")
        self._price = models.price(settings.model)
        if settings.dollars is not None and self._price is None:
            raise TaskError(
                f"dollars: no price is known for {settings.model}, so the limit could not be kept; give "
                f'[model."{settings.model}"] a price, or use tokens'
            )
        self._prompt = load_prompt(settings.prompt, base)
        chosen = settings.protocol
        if chosen == "auto":
            chosen = "tools" if self._client.capabilities.tools else "text"
        self._speech = PROTOCOLS[chosen]()
        if chosen == "tools":
            self.wants = (Want("agent", settings.model, "tools", needed=True, cure='set protocol = "text"'),)
        self._examiner = None
        if settings.by is not None:
            self._examiner = Examiner(settings.by, settings.by_prompt, models, base)
        given = settings.tools
        if given is not None and "test" in given and self._examiner is None:
            raise TaskError('tools: "test" needs a model that judges: name it in by')
        self.needs_subject = given is not None and ("read" in given or "change" in given)
        self.uses_subject = given is None
        self._subject: AskedSubject | None = None
        self.models = (settings.model, *(() if settings.by is None else (settings.by,)))
        limits = settings.model_dump(mode="json", include={"tools", "turns", "tests", "tokens", "dollars", "opening"})
        self.identity: Mapping[str, Any] = {
            "kind": "agent",
            "version": _VERSION,
            "model": models.identity(settings.model),
            "prompt": self._prompt.digest,
            "protocol": self._speech.name,
            "by": None if self._examiner is None else self._examiner.identity,
            **limits,
        }

    def bind(self, subject: AskedSubject) -> None:
        """Take the subject that experiments are made on."""
        self._subject = subject

    async def explain(self, examples: LatentExamples, seed: int) -> Explained:
        """Experiment on one latent and say what it does; of the examples the scored ones are not looked at."""
        settings = self._settings
        ration = Ration(settings.tokens, settings.dollars)
        own = seed_of(seed, "agent")
        trials = Trials(
            examples.latent,
            examples.maximum,
            self._subject,
            self._examiner,
            examples.select,
            ration,
            settings.tests,
            own,
        )
        windows = Windows(examples.shown, examples.pool, examples.maximum)
        toolbox = Toolbox(windows, trials, self._offered(trials))
        limits = Limits(settings.turns, settings.opening)
        return await Session(self._client, self._prompt, self._speech, toolbox, ration, limits, self._price, own).run()

    def _offered(self, trials: Trials) -> tuple[ToolName, ...]:
        """The tools that can be offered on a latent, of those wished for."""
        subject = trials.subject
        there = {
            "examples": True,
            "read": subject is not None,
            "change": subject is not None and subject.steers(trials.latent.coder),
            "test": trials.examiner is not None and bool(trials.select) and self._settings.tests > 0,
        }
        return tuple(name for name in self._settings.tools or TOOLS if there[name])
