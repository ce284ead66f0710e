"""Explanations from a file: people's, another project's or a fixture's, scored as an arm like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.clients.models import Models
from harness.errors import TaskError
from harness.examples.draw import LatentExamples
from harness.explainers.base import Explained
from harness.values import Explanation, Failure, digest

__all__ = ["FromFile"]


class _Line(BaseModel):
    latent: int = Field(ge=0)
    explanation: str = Field(min_length=1)
    coder: str | None = None
    rule: dict[str, Any] | None = None


class FromFile:
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
        self.identity: dict[str, Any] = {"kind": "file", "content": digest(content)}

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
        raise TaskError(f"{path}: explanations cannot be read: {error}") from error
    lines: dict[tuple[str | None, int], _Line] = {}
    for number, row in enumerate(text.splitlines(), 1):
        if not row.strip():
            continue
        try:
            line = _Line.model_validate(json.loads(row))
        except (json.JSONDecodeError, ValidationError) as error:
            wanted = '{"latent": 3, "explanation": "..."}'
            raise TaskError(f"{path}:{number}: not a line such as {wanted}: {str(error).splitlines()[0]}") from error
        if (line.coder, line.latent) in lines:
            raise TaskError(f"{path}:{number}: latent {line.latent} is explained twice")
        lines[line.coder, line.latent] = line
    if not lines:
        raise TaskError(f"{path}: holds no explanations")
    return lines
