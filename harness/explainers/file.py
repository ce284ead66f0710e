"""Explanations from a file: people's, another project's or a fixture's, scored as an arm like any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness import rules
from harness.clients.models import Models
from harness.errors import TaskError
from harness.examples.draw import LatentExamples
from harness.explainers.base import Explained, Explainer
from harness.validation import validated
from harness.values import Explanation, Failure, digest

__all__ = ["FromFile"]

_WANTED = '{"latent": 3, "explanation": "..."}'


class _Line(BaseModel):
    latent: int = Field(ge=0)
    explanation: str = Field(min_length=1)
    coder: str | None = None
    rule: dict[str, Any] | None = None

    @field_validator("rule")
    @classmethod
    def _executable(cls, rule: dict[str, Any] | None) -> dict[str, Any] | None:
        if rule is not None:
            rules.parse(rule)
        return rule


class FromFile(Explainer):
    """Reads `path`, JSON lines with `latent` and `explanation`, and `coder` where there are several."""

    class Settings(BaseModel):
        """Keys of an `[[explainer]]` of kind `file`."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        path: Path

    def __init__(self, settings: FromFile.Settings, models: Models, base: Path) -> None:  # noqa: ARG002 - asks none
        self._path = base / settings.path
        self._lines = _read(self._path)
        self.models: tuple[str, ...] = ()
        content = sorted(line.model_dump_json() for line in self._lines.values())
        self.identity: Mapping[str, Any] = {"kind": "file", "content": digest(content)}

    async def explain(self, examples: LatentExamples, seed: int) -> Explained:  # noqa: ARG002 - nothing is random
        """The file's explanation of a latent."""
        latent = examples.latent
        line = self._lines.get((latent.coder, latent.index)) or self._lines.get((None, latent.index))
        if line is None:
            return Explained(Failure("unparsable", f"{self._path} has no explanation of latent {latent.index}"))
        return Explained(Explanation(line.explanation, line.rule))


def _read(path: Path) -> dict[tuple[str | None, int], _Line]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: explanations cannot be read: {_why(error)}") from error
    lines: dict[tuple[str | None, int], _Line] = {}
    # not splitlines, which also parts at characters that JSON allows inside a string
    for number, row in enumerate(text.split("\n"), 1):
        if not row.strip():
            continue
        try:
            data = json.loads(row)
        except ValueError as error:
            raise TaskError(f"{path}:{number}: not a line such as {_WANTED}: {error}") from error
        if not isinstance(data, dict):
            raise TaskError(f"{path}:{number}: not a line such as {_WANTED}")
        line = validated(_Line, data, f"{path}:{number}")
        if (line.coder, line.latent) in lines:
            raise TaskError(f"{path}:{number}: latent {line.latent} is explained twice")
        lines[line.coder, line.latent] = line
    if not lines:
        raise TaskError(f"{path}: holds no explanations")
    return lines


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
