"""Where shipped files are: beside the package in a checkout, inside it when installed."""

from __future__ import annotations

from pathlib import Path

__all__ = ["fixture", "folder"]

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The shipped folder of that name: `prompts`, `tasks` or `fixtures`."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def fixture(*parts: str) -> Path:
    """A shipped fixture's path, such as `fixture("subject")`."""
    return folder("fixtures").joinpath(*parts)
