"""Explainers of a task that name others: the tables that stand for the names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import registry
from harness.errors import TaskError
from harness.explainers.base import Refers
from harness.task import ExplainerSettings, KindSettings, Task

__all__ = ["referred"]


def referred(task: Task, settings: ExplainerSettings) -> dict[str, Any]:
    """An explainer's own keys, with tables in place of the names of other explainers and scorers of the task.

    Raises:
        TaskError: there is none of a name, or explainers name each other in a circle.
    """
    return _resolved(task, settings.kind, settings.options, (settings.name,))


def _resolved(task: Task, kind: str, options: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
    found = dict(options)
    refers: Refers = getattr(registry.load("explainers", kind), "refers", {})
    for key, group in refers.items():
        given = found.get(key)
        if isinstance(given, list | tuple):
            found[key] = [_table(task, group, one, key, within) for one in given]
        elif given is not None:
            found[key] = _table(task, group, given, key, within)
    return found


def _table(task: Task, group: str, given: Any, key: str, within: tuple[str, ...]) -> Any:
    """The table that a name stands for, and of a table itself with those that names in it stand for."""
    if isinstance(given, str):
        there = {one.name: one for one in (task.explainer if group == "explainer" else task.scorer)}
        if given not in there:
            known = ", ".join(there)
            raise TaskError(f'{key}: no [[{group}]] has the name "{given}"; there are: {known}')
        if group == "scorer":
            return _given(there[given], there[given].options)
        if given in within:
            raise TaskError(f"{key}: {' names '.join((*within, given))}: no explainer can be a part of itself")
        options = _resolved(task, there[given].kind, there[given].options, (*within, given))
        return _given(there[given], options)
    if isinstance(given, Mapping) and isinstance(given.get("kind"), str) and group == "explainer":
        return _resolved(task, given["kind"], given, within)
    return given


def _given(settings: KindSettings, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": settings.kind, "name": settings.name, "sample": settings.sample, **options}
