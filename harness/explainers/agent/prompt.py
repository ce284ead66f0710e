"""An agent's prompt file: what it is told before it begins, and how its turns are drawn.

A file `prompts/agent/<variant>.toml` holds `description`, `[sampling]` with `max_tokens` of one turn and `temperature`
(left out: the provider's own), and `[templates]` with `system` and `user` in Jinja2. `system` has the variable `tools`,
the names of those that are offered; `user` has `examples`, the first passages as one text, `count`, how many they are,
and `turns`. What the tools do and how they are called is added to it.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import PromptError
from harness.questions.files import first_error
from harness.questions.prompts import prompt_file
from harness.questions.templates import Template

__all__ = ["AgentPrompt", "load_prompt"]

Words = Annotated[str, Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Sampling(_Frozen):
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int = Field(ge=16)


class _Templates(_Frozen):
    system: Words
    user: Words


class _File(_Frozen):
    description: Words
    sampling: _Sampling
    templates: _Templates


class AgentPrompt:
    """A prompt file, checked; `digest` is the SHA-256 of its bytes."""

    def __init__(self, path: Path, content: bytes) -> None:
        try:
            source = content.decode("utf-8")
            file = _File.model_validate(tomllib.loads(source))
        except ValidationError as error:
            raise PromptError(f"{path}: {first_error(error)}") from error
        except ValueError as error:
            raise PromptError(f"{path}: not a TOML file: {error}") from error
        self.digest = hashlib.sha256(content).hexdigest()
        self.max_tokens = file.sampling.max_tokens
        self.temperature = file.sampling.temperature
        self._system = Template(path, source, "templates.system", file.templates.system, ("tools",))
        self._user = Template(path, source, "templates.user", file.templates.user, ("examples", "count", "turns"))
        # a mistake shows before anything is sent
        self.system(())
        if "\0trial" not in self.user("\0trial", 1, 1):
            raise PromptError(f"{path}: templates.user: has to show the variable examples")

    def system(self, tools: Sequence[str]) -> str:
        """The system message for an agent with these tools."""
        return self._system.render(tools=tuple(tools))

    def user(self, examples: str, count: int, turns: int) -> str:
        """The first user message."""
        return self._user.render(examples=examples, count=count, turns=turns)


def load_prompt(name_or_path: str, base: Path) -> AgentPrompt:
    """The prompt of that name, or of a file by its path, relative to `base`.

    Raises:
        PromptError: there is no such file, or it is wrong; the message names the file and the key or line.
    """
    return AgentPrompt(*prompt_file("agent", name_or_path, base))
