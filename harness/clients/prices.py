"""What tokens cost: prices by the model's name, shipped in prices.toml, or a user's own."""

from __future__ import annotations

import functools
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from harness.clients.ledger import Amount
from harness.errors import TaskError
from harness.task import Frozen
from harness.validation import validated
from harness.values import Usage

__all__ = ["VARIABLE", "Price", "Rates", "price_of", "sourced_price"]

VARIABLE = "LATENT_HARNESS_PRICES"

_SHIPPED = Path(__file__).parent / "prices.toml"
# what may follow a model's name in that of one of its versions: -2026-09-22, -20260922, -latest, @20260922
_VERSION = re.compile(r"(?:[-@]\d{8}|-\d{4}-\d{2}-\d{2}|-latest|@latest)")

Dollars = Annotated[float, Field(ge=0)]


class Rates(Frozen):
    """Dollars per million tokens; cached ones cost what `input` does where nothing else is given."""

    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None

    def dollars(self, usage: Usage) -> float:
        """What a usage costs."""
        read = self.input if self.cache_read is None else self.cache_read
        written = self.input if self.cache_write is None else self.cache_write
        tokens = (usage.input, usage.cache_read, usage.cache_write, usage.output)
        return sum(n * rate for n, rate in zip(tokens, (self.input, read, written, self.output), strict=True)) / 1e6

    @property
    def highest_input(self) -> float:
        """The most that a token of a prompt can cost."""
        return max(self.input, self.cache_read or 0.0, self.cache_write or 0.0)


class Price(Rates):
    """A model's rates; a request whose prompt has more than `above` tokens costs what `beyond` says."""

    above: Annotated[int, Field(ge=1)] | None = None
    beyond: Rates | None = None

    @model_validator(mode="after")
    def _both(self) -> Price:
        if (self.above is None) != (self.beyond is None):
            raise ValueError("above and beyond belong together: give both or neither")
        return self

    def cost(self, usage: Usage) -> float:
        """Dollars for a request's usage."""
        return self._rates(usage.input + usage.cache_read + usage.cache_write).dollars(usage)

    def most(self, prompt: int, reply: int) -> Amount:
        """An upper bound of what a request of at most so many tokens each way can cost."""
        rates = self._rates(prompt)
        inputs, outputs = max(self.highest_input, rates.highest_input), max(self.output, rates.output)
        return Amount(prompt + reply, (prompt * inputs + reply * outputs) / 1e6)

    def times(self, factor: float) -> Price:
        """All rates times a factor: of requests that go by batch it is a half."""
        return Price(
            **_times(self, factor),
            above=self.above,
            beyond=None if self.beyond is None else Rates(**_times(self.beyond, factor)),
        )

    def _rates(self, prompt: int) -> Rates:
        return self.beyond if self.beyond is not None and self.above is not None and prompt > self.above else self


def _times(rates: Rates, factor: float) -> dict[str, Any]:
    read, written = rates.cache_read, rates.cache_write
    return {
        "input": rates.input * factor,
        "output": rates.output * factor,
        "cache_read": None if read is None else read * factor,
        "cache_write": None if written is None else written * factor,
    }


def price_of(name: str, settings: Mapping[str, Any] | None = None) -> Price | None:
    """The price of a model such as `openai/gpt-5-mini`, None where none is known.

    The first found of: `price` in the model's settings; the file that LATENT_HARNESS_PRICES names; the shipped file.
    In a file an exact name goes before the longest one of which it is a dated version, and that before `provider/*`.
    Where the settings ask for another service tier the list price does not hold, and only `price` counts.

    Raises:
        TaskError: a price or the file is wrong.
    """
    found = sourced_price(name, settings)
    return None if found is None else found[0]


def sourced_price(name: str, settings: Mapping[str, Any] | None = None) -> tuple[Price, str] | None:
    """As `price_of`, with where the price stands: the task's table, or a file.

    Raises:
        TaskError: a price or the file is wrong.
    """
    settings = settings or {}
    if (own := settings.get("price")) is not None:
        table = f'[model."{name}"].price'
        return (validated(Price, own, table) if isinstance(own, Mapping) else _wrong(name)), table
    extra = settings.get("extra")
    if isinstance(extra, Mapping) and extra.get("service_tier", "default") not in ("default", "standard"):
        return None
    files = [Path(path)] if (path := os.environ.get(VARIABLE)) else []
    for file in (*files, _SHIPPED):
        if (found := _find(name, _prices(file))) is not None:
            return found, file.name if file == _SHIPPED else str(file)
    return None


def _wrong(name: str) -> Price:
    raise TaskError(
        f'[model."{name}"].price: write it as {{ input = 1.0, output = 5.0 }}, in dollars per million tokens'
    )


def _find(name: str, prices: Mapping[str, Price]) -> Price | None:
    if name in prices:
        return prices[name]
    versions = [known for known in prices if name.startswith(known) and _VERSION.fullmatch(name[len(known) :])]
    if versions:
        return prices[max(versions, key=len)]
    return prices.get(f"{name.partition('/')[0]}/*")


@functools.cache
def _prices(file: Path) -> dict[str, Price]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"{VARIABLE}: {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{file}: not valid TOML: {error}") from error
    tables = data.get("price")
    if not isinstance(tables, dict):
        raise TaskError(f'{file}: needs tables such as [price."openai/gpt-5-mini"]')
    return {name: validated(Price, table, f'{file}: price."{name}"') for name, table in tables.items()}
