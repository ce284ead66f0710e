"""What a run spent, in words: for the report's table and the terminal's last lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.analysis.spending import SpendingLine
from harness.report.text import count

__all__ = ["failed_attempts", "spent_line", "total_dollars"]


def total_dollars(lines: Sequence[SpendingLine]) -> str:
    """What lines came to: `$1.27`, `none`, or what is known of it."""
    known = [line.dollars for line in lines if line.dollars is not None]
    if not lines:
        return "none"
    if not known:
        return "not known"
    total = _dollars(sum(known))
    return total if len(known) == len(lines) else f"{total} and what is not known"


def failed_attempts(line: SpendingLine) -> str:
    """Attempts that failed by kind: `12 rate_limited, 1 unknown`."""
    counts = dict(line.failed) | ({"unknown": line.unknown} if line.unknown else {})
    return ", ".join(f"{count(number)} {kind}" for kind, number in counts.items())


def spent_line(lines: Sequence[SpendingLine]) -> str | None:
    """One line on what everything in a run directory took; None where nothing was asked."""
    if not lines:
        return None
    failed: Counter[str] = Counter()
    for line in lines:
        failed.update(line.failed)
        failed["unknown"] += line.unknown
    prompt, cached = sum(line.prompt for line in lines), sum(line.cached for line in lines)
    share = f" ({cached / prompt:.0%} cached)" if cached else ""
    reasons = ", ".join(f"{count(number)} {kind}" for kind, number in failed.most_common() if number)
    attempts = f" in {count(sum(line.attempts for line in lines))} attempts ({reasons})" if reasons else ""
    return (
        f"spent in this directory: {count(sum(line.requests for line in lines))} requests{attempts}, "
        f"{count(prompt)} tokens in{share}, {count(sum(line.reply for line in lines))} out, "
        f"cost {total_dollars(lines)}"
    )


def _dollars(value: float) -> str:
    """Cents, and what is less than ten cents with more digits."""
    return f"${value:.2f}" if value >= 0.1 or not value else f"${value:.4f}"
