"""A prompt's Jinja2 template, sandboxed, whose mistakes are reported with the file and line they stand in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import StrictUndefined, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import SandboxedEnvironment

from harness.errors import PromptError

__all__ = ["Template"]

_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
_OBJECT = re.compile(r"'(?:[\w.]*\.)?(\w+) object'")
_KINDS = {
    "Shown": "an example",
    "Activation": "an activation",
    "Attempted": "what was tried",
    "Risen": "an example",
    "Moved": "a token",
    "str": "a text",
}


class Template:
    """One template of a prompt file: `key` is where it stands, `names` the variables it may use.

    `uses` are those that it does use.
    """

    def __init__(self, path: Path, source: str, key: str, text: str, names: Sequence[str]) -> None:
        self._path = path
        self._key = key
        self._above = _lines_above(source, key, text)
        try:
            tree = _ENVIRONMENT.parse(text)
            self._check_names(tree, names)
            self.uses = frozenset(meta.find_undeclared_variables(tree) & {*names})
            self._template = _ENVIRONMENT.from_string(text)
        except TemplateSyntaxError as error:
            self._fail(error.lineno, error.message or "syntax error", error)

    def render(self, **values: Any) -> str:
        """The template with values for its variables, without space around.

        Raises:
            PromptError: the template fails on them.
        """
        try:
            return self._template.render(values).strip()
        except Exception as error:  # a template may raise anything; whatever it is, it is the file's mistake
            self._fail(_line(error), str(error), error)

    def _check_names(self, tree: nodes.Template, names: Sequence[str]) -> None:
        unknown = meta.find_undeclared_variables(tree) - {*names, *_ENVIRONMENT.globals}
        for node in tree.find_all(nodes.Name):
            if node.name in unknown:
                known = ", ".join(names) if names else "none"
                self._fail(node.lineno, f'there is no variable "{node.name}"; known: {known}', None)

    def _fail(self, line: int | None, message: str, cause: Exception | None) -> NoReturn:
        message = _OBJECT.sub(lambda match: _KINDS.get(match[1], match[0]), message).rstrip(".")
        place, key = str(self._path), self._key
        if line is not None and self._above is not None:
            place += f":{self._above + line}"
        elif line is not None:
            key += f", line {line}"
        raise PromptError(f"{place}: {key}: {message}") from cause


def _lines_above(source: str, key: str, text: str) -> int | None:
    """How many lines of a file stand above a template in it; None where it is written with escapes."""
    source = source.replace("\r\n", "\n")
    start = re.search(
        rf"^[ \t]*(?:\w+\.)?{key.rpartition('.')[2]}[ \t]*=[ \t]*(?:\"\"\"|'''|\"|')\n?", source, re.MULTILINE
    )
    if start is None or not source.startswith(text, start.end()):
        return None
    return source.count("\n", 0, start.end())


def _line(error: Exception) -> int | None:
    """The line of the template in which an exception arose, as Jinja puts it into the traceback."""
    line, step = None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == "<template>":
            line = step.tb_lineno
        step = step.tb_next
    return line
