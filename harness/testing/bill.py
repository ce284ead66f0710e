"""What the fake provider charges: its own count of tokens and dollars, whether or not the client got the reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Bill", "Counted", "Price", "Priced", "halved", "price_of"]


class Priced(Protocol):
    """Dollars for a million tokens; where a cached token's price is None it costs as much as any other."""

    @property
    def input(self) -> float: ...

    @property
    def output(self) -> float: ...

    @property
    def cache_read(self) -> float | None: ...

    @property
    def cache_write(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for a million tokens of a model; see `Priced`."""

    input: float = 1.0
    output: float = 10.0
    cache_read: float | None = None
    cache_write: float | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """The tokens of one generation: `input` without those in a cache; `output` with the `reasoning` ones."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def dollars(self, price: Priced) -> float:
        """What they cost."""
        read = price.input if price.cache_read is None else price.cache_read
        write = price.input if price.cache_write is None else price.cache_write
        cached = self.cache_read * read + self.cache_write * write
        return (self.input * price.input + cached + self.output * price.output) / 1e6


@dataclass(slots=True)
class Bill:
    """The sum over all generations that were performed."""

    generations: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    dollars: float = 0.0

    def add(self, counted: Counted, price: Priced) -> float:
        """Charge one generation; gives its dollars."""
        dollars = counted.dollars(price)
        self.generations += 1
        self.input += counted.input
        self.output += counted.output
        self.cache_read += counted.cache_read
        self.cache_write += counted.cache_write
        self.reasoning += counted.reasoning
        self.dollars += dollars
        return dollars


def price_of(prices: Mapping[str, Priced], model: str) -> Priced:
    """The price of a model: its own, else that of `*`, else the default."""
    return prices.get(model) or prices.get("*") or Price()


def halved(price: Priced) -> Price:
    """What a request costs that goes by batch."""
    read, write = price.cache_read, price.cache_write
    return Price(
        price.input / 2,
        price.output / 2,
        None if read is None else read / 2,
        None if write is None else write / 2,
    )
