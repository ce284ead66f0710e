"""What an agent may spend on one latent: never passed, and the same decisions whether replies are new or remembered."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.clients.ledger import Amount, total_tokens
from harness.clients.prices import Price
from harness.values import Usage

__all__ = ["Ration", "amount"]


@dataclass(slots=True)
class Ration:
    """At most `tokens` and `dollars` (None: no limit) for one latent, of which `spent` is gone.

    Only replies count, remembered ones as when they were new, so that a run that is resumed decides as before; attempts
    that failed count in the run's own limits.
    """

    tokens: int
    dollars: float | None = None
    spent: Amount = field(default_factory=Amount)

    def fits(self, wanted: Amount) -> bool:
        """Whether so much more may be spent."""
        total = self.spent + wanted
        if total.tokens > self.tokens:
            return False
        return self.dollars is None or (total.dollars is not None and total.dollars <= self.dollars)

    def spend(self, usage: Usage, most: Amount) -> None:
        """Count what replies took: `most` where the provider does not tell."""
        told = total_tokens(usage)
        # what is free, or has no price, costs no dollars
        self.spent += Amount(told, usage.cost or 0.0) if told else Amount(most.tokens, most.dollars or 0.0)


def amount(prompt: int, reply: int, price: Price | None) -> Amount:
    """The most that a request of at most so many tokens each way can cost."""
    return Amount(prompt + reply, None) if price is None else price.most(prompt, reply)
