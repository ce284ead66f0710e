"""Keys of a [[coder]] that not every kind has."""

from __future__ import annotations

from typing import TypeVar

from harness.errors import CoderError
from harness.task import CoderSettings

__all__ = ["needed", "refuse_options"]

Value = TypeVar("Value")


def refuse_options(settings: CoderSettings, *keys: str) -> None:
    """Refuse keys that mean nothing to the coder's kind.

    Raises:
        CoderError: one is set; the message names it.
    """
    for key in keys:
        if getattr(settings, key) != type(settings).model_fields[key].default:
            raise CoderError(
                f'coder "{settings.name}": {key} means nothing to the kind "{settings.kind}"; leave it out'
            )


def needed(settings: CoderSettings, key: str, value: Value | None) -> Value:
    """The value of a key that the coder's kind cannot do without.

    Raises:
        CoderError: it is not set.
    """
    if value is None:
        raise CoderError(f'coder "{settings.name}": the kind "{settings.kind}" needs {key}')
    return value
