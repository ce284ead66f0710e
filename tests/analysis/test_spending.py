from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.analysis.spending import attempt_frame, spending
from harness.clients.ledger import Amount, Attempt
from harness.clients.purpose import Purpose
from harness.report.spending import failed_attempts, spent_line, total_dollars
from harness.runs.journal import Journal
from harness.runs.journal_rows import TaskRecord
from harness.values import Usage, digest

pytestmark = pytest.mark.anyio

EXPLAINING, SCORING, ELSEWHERE = (digest(name) for name in ("explaining", "scoring", "same-token"))
ARMS = {
    EXPLAINING: {"explainer": "mini", "control": None, "coder": "res"},
    SCORING: {"scorer": "detection", "rung": "random", "coder": "res"},
    ELSEWHERE: {"scorer": "detection", "rung": "same-token", "coder": "res"},
}


@pytest.fixture
async def journal(tmp_path: Path) -> Journal:
    def attempt(request: int, number: int, stage: str, arm: str, latent: int | None = 3) -> Attempt:
        about = Purpose(stage, arm, latent)
        return Attempt(f"{request:016x}{number:016x}", digest(request), "openai/m", about, Amount(900, 0.9))

    async with Journal(tmp_path / "j") as writing:
        await writing.begin(TaskRecord(1, "d", {}), ARMS)
        # a request that was refused twice before it was answered
        for number, outcome in enumerate(("rate_limited", "rate_limited")):
            await writing.reserve(attempt(0, number, "score", SCORING))
            writing.settle(attempt(0, number, "score", SCORING), outcome, Amount(), None, 0.01)
        for request, seconds in ((0, 1.0), (1, 2.0), (2, 9.0)):
            made = attempt(request, 7, "score", SCORING)
            await writing.reserve(made)
            usage = Usage(input=10, cache_read=80, cache_write=5, output=7, reasoning=2, requests=1)
            writing.settle(made, "ok", Amount(102, 0.01), usage, seconds)
        # one of which nothing was ever learned, one that timed out, one without a price, one before the run
        await writing.reserve(attempt(3, 0, "explain", EXPLAINING))
        late = attempt(4, 0, "explain", EXPLAINING)
        await writing.reserve(late)
        writing.settle(late, "timed_out", Amount(900, 0.9), None, 60.0)
        free = Attempt(f"{5:032x}", digest(5), "openai-api/lab/m", Purpose("score", ELSEWHERE, 3), Amount(50, None))
        await writing.reserve(free)
        writing.settle(free, "ok", Amount(9, None), Usage(input=8, output=1, requests=1), 0.5)
        await writing.reserve(Attempt(f"{6:032x}", digest(6), "openai/m", Purpose("probe"), Amount(20, 0.0)))
    return Journal(tmp_path / "j")


async def test_attempts_are_summed_by_stage_arm_and_model(journal: Journal) -> None:
    lines = spending(journal)
    assert [(line.stage, line.arm, line.model) for line in lines] == [
        ("probe", "", "openai/m"),
        ("explain", "mini", "openai/m"),
        ("score", "detection", "openai/m"),
        ("score", "detection (same-token)", "openai-api/lab/m"),
    ]
    _, explained, scored, unpriced = lines
    assert (scored.requests, scored.attempts, scored.failed, scored.unknown) == (3, 5, {"rate_limited": 2}, 0)
    assert (scored.prompt, scored.cached, scored.reply, scored.reasoning) == (3 * 95, 240, 21, 6)
    assert (scored.charged, scored.dollars) == (306, pytest.approx(0.03))
    assert (scored.median, scored.slowest) == (2.0, pytest.approx(np.quantile([1.0, 2.0, 9.0], 0.95)))
    # what was never learned is charged in full
    assert (explained.requests, explained.failed, explained.unknown) == (2, {"timed_out": 1}, 1)
    assert (explained.charged, explained.dollars, explained.median) == (1800, pytest.approx(1.8), None)
    assert unpriced.dollars is None


async def test_the_frame_has_every_attempt_with_its_latent(journal: Journal) -> None:
    frame = attempt_frame(journal)
    assert len(frame) == 9
    assert frame["request"].nunique() == 7
    assert frame["tokens"].sum() == journal.spent().tokens
    assert set(frame["latent"].dropna()) == {3}
    assert set(frame["coder"].dropna()) == {"res"}
    assert list(frame.columns[:5]) == ["request", "stage", "coder", "arm", "latent"]


async def test_spending_in_words(journal: Journal) -> None:
    lines = spending(journal)
    assert spent_line(lines) == (
        "spent in this directory: 7 requests in 9 attempts (2 unknown, 2 rate_limited, 1 timed_out), "
        "293 tokens in (82% cached), 22 out, cost $1.83 and what is not known"
    )
    assert failed_attempts(lines[1]) == "1 timed_out, 1 unknown"
    assert total_dollars(lines[3:]) == "not known"
    assert spent_line([]) is None
    assert total_dollars([]) == "none"
