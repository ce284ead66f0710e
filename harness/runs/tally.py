"""What a run's requests took so far, read off its ledger: by arm and model, and for single requests."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from harness.clients.prices import Price
from harness.runs.batch_rows import WAITING
from harness.runs.extrapolate import Failures, Heard
from harness.runs.forecast import Cost
from harness.runs.journal import Journal
from harness.runs.journal_rows import StoredAttempt
from harness.runs.rehearsal import Asked
from harness.values import Usage

__all__ = ["ARM", "Key", "Tally", "key_of", "tally"]

# hex digits of an arm's digest that the ledger keeps
ARM = 24
# replies of a model that are looked at for how many tokens it makes of a byte
_REPLIES = 200
# attempts that say nothing of how often a model fails: never learned, for that was a kill of this process; never sent;
# and those whose batch is out
_SAY_NOTHING = (None, "unsent", WAITING)

# the beginning of an arm's digest, or the stage of requests for no arm, and a model
Key: TypeAlias = tuple[str, str]


@dataclass
class Tally:
    """What attempts were charged, by arm and model and in all; answered requests that were rehearsed, too.

    `failures` are by model.
    """

    done: defaultdict[Key, Cost] = field(default_factory=lambda: defaultdict(Cost))
    total: Cost = field(default_factory=Cost)
    heard: defaultdict[Key, list[Heard]] = field(default_factory=lambda: defaultdict(list))
    failures: defaultdict[str, Failures] = field(default_factory=lambda: defaultdict(Failures))
    ratios: dict[str, tuple[int, int]] = field(default_factory=dict)

    def ratio(self, model: str) -> float | None:
        """Tokens of a byte of the prompts that a model was sent, None where nothing is known."""
        tokens, size = self.ratios.get(model, (0, 0))
        return tokens / size if tokens else None


def tally(journal: Journal | None, asked: Iterable[Asked], prices: Mapping[str, Price | None] | None = None) -> Tally:
    """What a run's ledger says, of rehearsed requests in particular; one without an outcome counts in full.

    `prices` are of models of which some requests may have been asked at another price, by batch or not: what is heard
    of single requests is then at this one.
    """
    found = Tally()
    if journal is None:
        return found
    rehearsed = {one.key: one for one in asked if one.kept}
    samples: defaultdict[str, list[StoredAttempt]] = defaultdict(list)
    for attempt in journal.attempts():
        cost = Cost(1, attempt.tokens, attempt.dollars)
        found.done[attempt.arm or attempt.stage, attempt.model] += cost
        found.total += cost
        found.failures[attempt.model] = _counted(found.failures[attempt.model], attempt)
        if attempt.outcome != "ok":
            continue
        if (one := rehearsed.get(attempt.request)) is not None:
            found.heard[key_of(one)].append(_heard(one, attempt, (prices or {}).get(attempt.model)))
        elif len(samples[attempt.model]) < _REPLIES:
            samples[attempt.model].append(attempt)
    for model, attempts in samples.items():
        found.ratios[model] = _sizes(journal, attempts)
    return found


def key_of(asked: Asked) -> Key:
    """What a rehearsed request is tallied under."""
    return asked.purpose.arm[:ARM] or asked.purpose.stage, asked.model


def _counted(failures: Failures, attempt: StoredAttempt) -> Failures:
    if attempt.outcome in _SAY_NOTHING:
        return failures
    if attempt.outcome == "ok":
        return Failures(failures.answered + 1, failures.free, failures.charged)
    charged = int(attempt.tokens > 0)
    return Failures(failures.answered, failures.free + 1 - charged, failures.charged + charged)


def _heard(one: Asked, attempt: StoredAttempt, price: Price | None) -> Heard:
    output, dollars = attempt.output or 0, attempt.dollars
    if price is not None and attempt.input is not None:
        used = Usage(attempt.input, attempt.cache_read or 0, attempt.cache_write or 0, output)
        dollars = price.cost(used)
    return Heard(one.size, attempt.tokens - output, output, dollars, one.purpose.latent, one.again)


def _sizes(journal: Journal, attempts: Iterable[StoredAttempt]) -> tuple[int, int]:
    """Tokens of the prompts of some requests, and the bytes of their bodies."""
    tokens = size = 0
    for attempt in attempts:
        stored = journal.reply(attempt.request)
        if stored is None or attempt.output is None:
            continue
        tokens += attempt.tokens - attempt.output
        body = json.dumps(stored.wire["body"], separators=(",", ":"), ensure_ascii=False)
        size += len(body.encode("utf-8", "surrogatepass"))
    return tokens, size
