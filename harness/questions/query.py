"""The query that an embedder is asked with: a variant of the folder `embedding`, a TOML file.

It holds a `description`, one sentence on what is particular about it, and `[templates]`: `query` in Jinja2 (sandboxed;
an unknown name is an error), whose one variable is `explanation`, and `withheld`, the words in place of an explanation
that is withheld. These may be none where the query has an instruction, which then stands alone.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import PromptError
from harness.questions.files import first_error
from harness.questions.prompts import prompt_file
from harness.questions.render import one_line
from harness.questions.templates import Template
from harness.values import Explanation

__all__ = ["QueryVariant", "load_query"]

_FOLDER = "embedding"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Templates(_Frozen):
    query: Annotated[str, Field(min_length=1)]
    withheld: str


class _File(_Frozen):
    description: Annotated[str, Field(min_length=1)]
    templates: _Templates


class QueryVariant:
    """A checked variant; `digest` is the SHA-256 of the file's bytes."""

    def __init__(self, path: Path, content: bytes) -> None:
        try:
            source = content.decode("utf-8")
            file = _File.model_validate(tomllib.loads(source))
        except UnicodeDecodeError as error:
            raise PromptError(f"{path}: not UTF-8: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise PromptError(f"{path}: not a TOML file: {error}") from error
        except ValidationError as error:
            raise PromptError(f"{path}: {first_error(error)}") from error
        self.path = path
        self.name = path.stem
        self.digest = hashlib.sha256(content).hexdigest()
        self.description = file.description
        self._withheld = file.templates.withheld
        self._template = Template(path, source, "templates.query", file.templates.query, ("explanation",))
        withheld = self.query(None)
        if self.query(Explanation("trial words")) == withheld:
            raise PromptError(f"{path}: templates.query: has to show the variable explanation")
        if not withheld:
            raise PromptError(f"{path}: templates.withheld: has to be some words where the query is nothing else")

    def query(self, explanation: Explanation | None) -> str:
        """The query for an explanation; None is one that is withheld.

        Raises:
            PromptError: the template fails on it.
        """
        return self._template.render(explanation=self._withheld if explanation is None else one_line(explanation.text))


def load_query(name_or_path: str, base: Path | None = None) -> QueryVariant:
    """The variant of a name, or of a file's path, relative to `base`; see `harness.questions.prompts.load_variant`.

    Raises:
        PromptError: there is no such file, or it is wrong; the message names the file and the key or line.
    """
    return QueryVariant(*prompt_file(_FOLDER, name_or_path, base))
