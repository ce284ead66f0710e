"""Overrides of a task file by name: `--set explainer.mini.model=openai/gpt-5`."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from harness.errors import TaskError

__all__ = ["override"]


def override(data: dict[str, Any], given: str) -> None:
    """Set one key of a task file's data, such as `explainer.mini.model=openai/gpt-5`, in place.

    Raises:
        TaskError: it is not written as key=value, or the key's table does not exist.
    """
    key, equals, text = given.partition("=")
    path = re.findall(r'"([^"]*)"|([^."]+)', key.strip())
    steps = [quoted or plain for quoted, plain in path]
    if not equals or not steps:
        raise TaskError(f"--set {given}: write it as key=value, such as explainer.mini.model=openai/gpt-5")
    node: Any = data
    for depth, step in enumerate(steps[:-1]):
        if isinstance(node, list):
            node = _named(node, step, given)
        elif isinstance(node, dict):
            node = node.setdefault(step, {})
        else:
            raise TaskError(f"--set {given}: {'.'.join(steps[:depth])} is a value and has no keys")
    if isinstance(node, list):
        raise TaskError(f"--set {given}: name a key of the table, such as {'.'.join(steps)}.model")
    if not isinstance(node, dict):
        raise TaskError(f"--set {given}: {'.'.join(steps[:-1])} is a value and has no keys")
    node[steps[-1]] = _value(text.strip())


def _named(tables: list[Any], name: str, given: str) -> Any:
    for table in tables:
        if isinstance(table, dict) and table.get("name") == name:
            return table
    known = ", ".join(str(table.get("name")) for table in tables if isinstance(table, dict))
    raise TaskError(f'--set {given}: nothing is named "{name}" there; there are: {known}')


def _value(text: str) -> Any:
    """A TOML value where the text is one, else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
