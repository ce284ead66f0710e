"""From what requests took so far to what those still to come will take: calls, tokens and dollars as random draws.

A sum over requests to come is uncertain twice: their mean is known from a sample alone, and they scatter about it. Both
are drawn, many times over, and an interval is read off the draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.clients.prices import Price
from harness.values import Usage

__all__ = ["DRAWS", "Coming", "Common", "Draws", "Failures", "Flow", "Heard", "common", "draw", "extent"]

DRAWS = 4000

Array = NDArray[np.float64]

# Priors, worth a few observations each: half a one in so many attempts fails at no charge, fails and is charged, and is
# asked again.
_FREE, _CHARGED, _AGAIN = 10.0, 25.0, 10.0
# The spread that a few numbers are held for having at least: relative to their mean, worth so many observations.
_WORTH = 3
_SPREAD_OUTPUT, _SPREAD_RATIO = 0.5, 0.05
# Tokens of a byte of English in JSON, where no reply told, and the standard deviation of its logarithm.
_RATIO, _RATIO_SPREAD = 0.25, 0.15
# What is longer about a request that asks again: it holds the reply and what is wrong with it.
_LONGER = 1.1
# latents from which on it can be seen whether requests about one latent are alike
_GROUPS = 5
_Z90 = 1.645


@dataclass(frozen=True, slots=True)
class Heard:
    """An answered request: its body's `size` in bytes, the tokens and dollars charged for it, and whose it was."""

    size: int
    input: int
    output: int
    dollars: float | None
    latent: int | None
    again: bool


@dataclass(frozen=True, slots=True)
class Coming:
    """One to come: `size` in bytes, and as in `rehearsal.Asked`; `most` in tokens and dollars."""

    latent: int | None
    size: int
    most_tokens: int
    most_dollars: float | None
    max_tokens: int
    shortest: int


@dataclass(frozen=True, slots=True)
class Failures:
    """How a model's attempts ended so far: answered, failed at no charge, and failed but charged in full."""

    answered: int = 0
    free: int = 0
    charged: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """The requests of one arm and model: `coming` are rehearsed ones, of so many `rehearsed` latents.

    `others` is the number of latents that were not rehearsed; for each as many requests are to come as for a rehearsed
    one. `heard` are answered requests like them: the arm's own, or where it has too few (`borrowed`) those of the
    model's other arms. `ratio` is the tokens of a byte as far as it is known from elsewhere.
    """

    coming: Sequence[Coming]
    rehearsed: int
    others: int
    heard: Sequence[Heard]
    borrowed: bool
    ratio: float | None
    price: Price | None


@dataclass(frozen=True, slots=True)
class Common:
    """What the arms that ask one model have in common, float64 `[DRAWS]`.

    Failed attempts for each that is answered, at no charge and charged in full; and standard normal numbers by which
    prompts and answers are longer than they are held for where an arm itself tells nothing of it.
    """

    free: Array
    charged: Array
    longer_prompts: Array
    longer_answers: Array


@dataclass(frozen=True, slots=True)
class Draws:
    """Possible totals, float64 `[DRAWS]`; `dollars` is None where no price is known."""

    calls: Array
    tokens: Array
    dollars: Array | None


def common(failures: Failures, generator: np.random.Generator) -> Common:
    """What one model's arms have in common.

    Rates of failure are those of Poisson numbers with a gamma prior (Gelman et al., Bayesian Data Analysis, 3rd ed.,
    section 2.6).
    """
    return Common(
        generator.gamma(0.5 + failures.free, 1 / (_FREE + failures.answered), DRAWS),
        generator.gamma(0.5 + failures.charged, 1 / (_CHARGED + failures.answered), DRAWS),
        generator.standard_normal(DRAWS),
        generator.standard_normal(DRAWS),
    )


def draw(flow: Flow, shared: Common, generator: np.random.Generator) -> Draws:
    """Possible totals of what a flow will be charged.

    Requests that are asked again are binomial, with a beta prior (Gelman et al., section 2.4).
    """
    requests, sizes, bounds, bound_dollars = extent(flow, generator)
    if not flow.coming:
        return Draws(requests, requests, requests if _priced(flow) else None)
    first = [heard for heard in flow.heard if not heard.again]
    repeated = len(flow.heard) - len(first)
    share = generator.beta(0.5 + repeated, _AGAIN + max(len(first) - repeated, 0), DRAWS)
    again = generator.binomial(requests.astype(np.int64), share).astype(np.float64)
    answered = requests + again
    sizes = sizes * (1 + _LONGER * again / np.maximum(requests, 1))
    mean_size = sizes / np.maximum(answered, 1)

    ratio, ratio_spread = _ratio(flow, shared, generator)
    read = np.maximum(ratio * sizes + ratio_spread * mean_size * _scatter(answered, generator), 0)
    output, output_spread = _output(flow, shared, generator)
    limit = max(request.max_tokens for request in flow.coming)
    written = np.clip(output * answered + output_spread * _scatter(answered, generator), 0, limit * answered)

    free = generator.poisson(shared.free * answered)
    charged = generator.poisson(shared.charged * answered) / np.maximum(requests, 1)
    dollars = None
    if _priced(flow):
        per_input, per_output = _rates(flow, float(np.median(read / np.maximum(answered, 1))))
        dollars = per_input * read + per_output * written + charged * bound_dollars
    calls = answered + free + charged * requests
    return Draws(calls, read + written + charged * bounds, dollars)


def extent(flow: Flow, generator: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """How many requests are to come, their bytes and their upper bounds in tokens and dollars, each `[DRAWS]`.

    What latents need that were not rehearsed is drawn from those that were, by the Bayesian bootstrap (Rubin 1981):
    each has a weight from a flat Dirichlet distribution, and the others are drawn by these weights.
    """
    rows: dict[int | None, Array] = {}
    for request in flow.coming:
        one = np.array([1, request.size, request.most_tokens, request.most_dollars or 0.0])
        rows[request.latent] = rows.get(request.latent, np.zeros(4)) + one
    table = np.zeros((max(flow.rehearsed, len(rows)), 4))
    if rows:
        table[: len(rows)] = list(rows.values())
    totals = np.tile(table.sum(axis=0), (DRAWS, 1))
    if flow.others and len(table):
        weights = generator.dirichlet(np.ones(len(table)), DRAWS)
        totals += generator.multinomial(flow.others, weights) @ table
    requests, sizes, bounds, dollars = totals.T
    return requests, sizes, bounds, dollars


def _ratio(flow: Flow, shared: Common, generator: np.random.Generator) -> tuple[Array, Array]:
    """Tokens of a byte of the prompts: their mean and standard deviation, each `[DRAWS]`."""
    if flow.heard:
        values = np.array([heard.input / max(heard.size, 1) for heard in flow.heard])
        error = shared.longer_prompts if flow.borrowed else generator.standard_normal(DRAWS)
        return _mean(values, [heard.latent for heard in flow.heard], _SPREAD_RATIO, error, generator)
    middle, spread = (_RATIO, _RATIO_SPREAD) if flow.ratio is None else (flow.ratio, _SPREAD_RATIO)
    mean = middle * np.exp(spread * shared.longer_prompts)
    return mean, _SPREAD_RATIO * mean


def _output(flow: Flow, shared: Common, generator: np.random.Generator) -> tuple[Array, Array]:
    """Tokens of an answer: their mean and standard deviation, each `[DRAWS]`.

    Where none was heard the mean is lognormal, and its 90 % interval goes from the shortest answer of the right form to
    the limit that the prompt sets: models that reason come near to it, others do not.
    """
    if flow.heard:
        values = np.array([float(heard.output) for heard in flow.heard])
        error = shared.longer_answers if flow.borrowed else generator.standard_normal(DRAWS)
        return _mean(values, [heard.latent for heard in flow.heard], _SPREAD_OUTPUT, error, generator)
    low = float(np.mean([request.shortest for request in flow.coming]))
    high = max(float(np.mean([request.max_tokens for request in flow.coming])), low)
    middle, spread = np.sqrt(low * high), np.log(high / low) / (2 * _Z90)
    mean = middle * np.exp(spread * shared.longer_answers)
    return mean, _SPREAD_OUTPUT * mean


def _mean(
    values: Array, groups: Sequence[int | None], spread: float, error: Array, generator: np.random.Generator
) -> tuple[Array, Array]:
    """The mean and standard deviation of what values were drawn from, each `[DRAWS]`, given the values.

    Normal theory with a scaled inverse chi-square prior of the variance (Gelman et al., section 3.3): the mean has a
    Student t distribution; `error` are the standard normal numbers that it is drawn by. Its variance is raised where
    values of one group are alike (Kish's design effect).
    """
    count, mean = len(values), float(values.mean())
    squares = float(((values - mean) ** 2).sum())
    freedom = _WORTH + count - 1
    scale = _WORTH * (spread * mean) ** 2 + squares
    deviation = np.sqrt(scale / generator.chisquare(freedom, DRAWS))
    return mean + error * deviation * np.sqrt(_design_effect(values - mean, groups) / count), deviation


def _design_effect(residuals: Array, groups: Sequence[int | None]) -> float:
    """By how much groups that are alike raise the variance of a mean, at least 1; 1 where there are few groups.

    The variance of the mean by groups (Liang and Zeger 1986) over that of as many independent values.
    """
    sums: dict[int | None, float] = {}
    for group, residual in zip(groups, residuals.tolist(), strict=True):
        sums[group] = sums.get(group, 0.0) + residual
    count, squares = len(residuals), float((residuals**2).sum())
    if len(sums) < _GROUPS or len(sums) == count or squares == 0:
        return 1.0
    by_group = len(sums) / (len(sums) - 1) * sum(total**2 for total in sums.values())
    return max(1.0, by_group / (squares * count / (count - 1)))


def _scatter(count: Array, generator: np.random.Generator) -> Array:
    """What a sum of so many independent standard normal numbers comes to."""
    return np.sqrt(count) * generator.standard_normal(DRAWS)


def _priced(flow: Flow) -> bool:
    return flow.price is not None or any(heard.dollars is not None for heard in flow.heard)


def _rates(flow: Flow, prompt: float) -> tuple[float, float]:
    """Dollars of a token read and of one written, for prompts of so many tokens.

    Answered requests tell what a token read cost, the discount of a prompt cache included; where the price is not known
    but the provider told what they cost, all tokens count alike.
    """
    told = [(heard, heard.dollars) for heard in flow.heard if heard.dollars is not None]
    dollars = sum(cost for _, cost in told)
    read, written = sum(heard.input for heard, _ in told), sum(heard.output for heard, _ in told)
    if flow.price is None:
        rate = dollars / max(read + written, 1)
        return rate, rate
    tokens = max(round(prompt), 1)
    bare = flow.price.cost(Usage(input=tokens))
    per_output = (flow.price.cost(Usage(input=tokens, output=1000)) - bare) / 1000
    if read:
        return max(dollars - per_output * written, 0.0) / read, per_output
    return bare / tokens, per_output
