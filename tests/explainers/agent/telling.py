"""A trace as the page on agents shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def told(trace: Sequence[Mapping[str, Any]]) -> str:
    """Each step's words, calls and results."""
    lines: list[str] = []
    for number, step in enumerate(trace, 1):
        lines.append(f"{number}  {step['said']}".rstrip())
        for call in step["calls"]:
            lines.append(f"   {call['name']} {call['arguments']}")
            lines += [f"      {line}".rstrip() for line in call["result"].splitlines()]
    return "\n".join(lines)
