"""What a user wrote, checked: a pydantic value, or an error that names the place, the key and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import TaskError, UserError

__all__ = ["naming", "validated"]

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    """A pydantic value, or a TaskError that names `where`, the key and what was expected."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise TaskError("; ".join(_sentence(where, model, data, item) for item in error.errors())) from error


@contextmanager
def naming(where: str) -> Iterator[str]:
    """Inside, what is wrong says where: a task file, or a table of it."""
    try:
        yield where
    except UserError as error:
        if str(error).startswith(where):
            raise
        raise type(error)(f"{where}: {error}") from error


def _sentence(where: str, model: type[BaseModel], data: Mapping[str, Any], item: Any) -> str:
    key = _key(data, item["loc"])
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), _fields(model, item["loc"][:-1]), 1)
        text = "unknown key" + (f"; did you mean {near[0]}?" if near else "")
    elif item["type"] == "missing":
        text = "is missing"
    elif item["type"] == "value_error":
        text = str(item["ctx"]["error"])
    else:
        value = repr(item["input"])
        text = item["msg"][0].lower() + item["msg"][1:] + f", not {value if len(value) < 60 else value[:57] + '...'}"
    return f"{where}: {key}: {text}" if key else f"{where}: {text}"


def _key(data: Mapping[str, Any], location: Sequence[str | int]) -> str:
    """A location as a user writes it: tables of an array by their name where they have one."""
    parts: list[str] = []
    node: Any = data
    for step in location:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            node = None
        if isinstance(step, int):
            name = node.get("name") if isinstance(node, Mapping) else None
            parts.append(str(name) if name else str(step + 1))
        elif not step.startswith("function-"):
            parts.append(f'"{step}"' if "/" in step else step)
    return ".".join(parts)


def _fields(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that the table at a location may have."""
    for step in location:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step)
        inner = _inner(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _inner(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if (found := _inner(part)) is not None:
            return found
    return None
