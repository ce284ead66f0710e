"""The layer that lets no attempt pass that might cost more than is left, and writes down what each did cost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace

from harness.clients.budget import Budget
from harness.clients.layer import Layer
from harness.clients.ledger import Amount, Attempt, Ledger, new_id, total_tokens
from harness.clients.prices import Price
from harness.clients.protocol import Client, Reply, Request
from harness.clients.purpose import purpose
from harness.clients.wire import Wire
from harness.errors import ClientError

__all__ = ["Metering", "at_most", "kind_of", "priced"]

# What chat templates put around messages, in tokens: a few for each, and a default system prompt before all.
_PER_MESSAGE = 16
_PER_REQUEST = 64
_NOTHING = Amount()
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Metering(Layer):
    """Reserves before sending and settles after.

    An attempt whose outcome is never learned (a time-out, a reset connection, a cancelled or killed run) stays charged
    with all that it reserved; one that was answered with an error status, or never sent, costs nothing. `price` None
    is a price that is not known.
    """

    def __init__(
        self,
        client: Client,
        ledger: Ledger,
        budget: Budget,
        price: Price | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__(client)
        self._ledger = ledger
        self._budget = budget
        self._price = price
        self._clock = clock

    async def generate(self, request: Request) -> Reply:
        """Ask once.

        Raises:
            OverBudget: it might cost more than is left.
            ClientError: no reply.
        """
        wire = self.wire(request)
        bound = at_most(wire, request, self._price)
        await self._budget.reserve(bound)
        attempt = Attempt(new_id(), wire.key(request.sample), self.name, purpose(), bound)
        charged = _NOTHING
        try:
            await self._reserve(attempt)
            charged = bound
            began = self._clock()
            try:
                reply = await self._client.generate(request)
            except ClientError as error:
                charged = bound if error.billed else _NOTHING
                self._ledger.settle(attempt, kind_of(error), charged, None, self._clock() - began)
                raise
            reply, charged = priced(reply, bound, self._price)
            self._ledger.settle(attempt, "ok", charged, reply.usage, self._clock() - began)
            return reply
        finally:
            self._budget.settle(bound, charged)

    async def _reserve(self, attempt: Attempt) -> None:
        try:
            await self._ledger.reserve(attempt)
        except BaseException:
            # cancelled while it was committed: nothing was sent
            self._ledger.settle(attempt, "unsent", _NOTHING, None, 0.0)
            raise


def priced(reply: Reply, bound: Amount, price: Price | None) -> tuple[Reply, Amount]:
    """The reply with what it cost, and what to charge: the bound where the provider does not tell."""
    usage = reply.usage
    if not total_tokens(usage):
        return reply, bound
    cost = usage.cost if usage.cost is not None or price is None else price.cost(usage)
    if cost != usage.cost:
        reply = replace(reply, usage=replace(usage, cost=cost))
    return reply, Amount(total_tokens(usage), cost)


def at_most(wire: Wire, request: Request, price: Price | None) -> Amount:
    """An upper bound of what sending a request once can cost.

    No tokenizer makes more tokens of a text than it has bytes in UTF-8. To the bytes of the whole body come what chat
    templates, or embedders to each text, add, and as many generated tokens as are allowed; all at the highest price
    that may apply.
    """
    parts = len(request.messages) + len(request.texts or ())
    prompt = len(wire.body) + _PER_MESSAGE * parts + _PER_REQUEST
    # servers that tell the logprobs of a given text generate a token after it
    reply = request.max_tokens if request.continuation is None else 1
    return Amount(prompt + reply, None) if price is None else price.most(prompt, reply)


def kind_of(error: ClientError) -> str:
    """The kind of an error in the ledger's words: `rate_limited`, `timed_out`."""
    return _WORDS.sub("_", type(error).__name__).lower()
