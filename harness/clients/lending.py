"""What several processes share is lent by one of them: asked for and given back in batches, lost with who held it.

A `Counter` lends; each customer of it, in whatever process, has a `Desk`. Between the two pass plain values, over
anything that is a `Line`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from harness.errors import ClientError, Drained, RunEnding

__all__ = ["Back", "Counter", "Desk", "Event", "Leave", "Lender", "Line", "Loan", "Say", "Take"]

# seconds between two looks at whether the customer is stopping
_LOOK = 0.25


@dataclass(frozen=True, slots=True)
class Take:
    """A customer wishes for something, and calls it by this number."""

    number: int
    wish: Any


@dataclass(frozen=True, slots=True)
class Leave:
    """A customer wants it no more, and has not used it if it came."""

    number: int


@dataclass(frozen=True, slots=True)
class Back:
    """A customer gives something back, and says what came of it."""

    number: int
    how: Any


@dataclass(frozen=True, slots=True)
class Say:
    """What a customer found out while it had something."""

    number: int
    what: Any


Event: TypeAlias = Take | Leave | Back | Say


@dataclass(frozen=True, slots=True)
class Loan:
    """A wish is fulfilled, or refused with an error."""

    number: int
    error: ClientError | None = None


class Lender(Protocol):
    """What a counter lends."""

    async def lend(self, wish: Any) -> Any:
        """Wait until a wish can be fulfilled; what is lent.

        Raises:
            ClientError: it never can.
        """
        ...

    def back(self, lent: Any, how: Any) -> None:
        """It is given back, and what came of it."""
        ...

    def unused(self, lent: Any) -> None:
        """It is given back as it was lent."""
        ...

    def lost(self, lent: Any) -> None:
        """Who held it is gone, and what came of it will never be known."""
        ...

    def told(self, lent: Any, what: Any) -> None:
        """What its holder found out."""
        ...


@dataclass
class _Customer:
    """One customer's visit: wishes that wait, what it holds, and what it has not been told yet."""

    visit: str
    waiting: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    held: dict[int, Any] = field(default_factory=dict)
    news: list[Loan] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False


class Counter:
    """Lends to customers, each known by its name and its visit: a later visit ends the earlier, which is lost."""

    def __init__(self, lender: Lender) -> None:
        self._lender = lender
        self._customers: dict[str, _Customer] = {}

    async def enter(self, name: str, visit: str) -> None:
        """A customer comes, perhaps again after its process was lost."""
        await self.leave(name)
        self._customers[name] = _Customer(visit)

    async def leave(self, name: str) -> None:
        """A customer is gone; what it still holds is lost."""
        customer = self._customers.pop(name, None)
        if customer is None:
            return
        for task in customer.waiting.values():
            task.cancel()
        for lent in customer.held.values():
            self._lender.lost(lent)
        customer.held.clear()
        customer.gone = True
        customer.ready.set()

    async def tell(self, name: str, visit: str, events: Sequence[Event]) -> None:
        """What a customer wants and gives back, in its order."""
        customer = self._known(name, visit)
        if customer is None:
            return
        for event in events:
            self._handle(customer, event)

    async def news(self, name: str, visit: str) -> list[Loan]:
        """What became of a customer's wishes since it asked last; waits until there is any. Empty: it was sent away."""
        customer = self._known(name, visit)
        if customer is None:
            return []
        await customer.ready.wait()
        customer.ready.clear()
        told, customer.news = customer.news, []
        return [] if customer.gone else told

    def _known(self, name: str, visit: str) -> _Customer | None:
        customer = self._customers.get(name)
        return customer if customer is not None and customer.visit == visit else None

    def _handle(self, customer: _Customer, event: Event) -> None:
        number = event.number
        if isinstance(event, Take):
            customer.waiting[number] = asyncio.create_task(self._lend(customer, event))
        elif isinstance(event, Leave):
            if number in customer.held:
                self._lender.unused(customer.held.pop(number))
            elif number in customer.waiting:
                customer.waiting.pop(number).cancel()
        elif isinstance(event, Back):
            if number in customer.held:
                self._lender.back(customer.held.pop(number), event.how)
        elif number in customer.held:
            self._lender.told(customer.held[number], event.what)

    async def _lend(self, customer: _Customer, wanted: Take) -> None:
        try:
            customer.held[wanted.number] = await self._lender.lend(wanted.wish)
            loan = Loan(wanted.number)
        except ClientError as error:
            loan = Loan(wanted.number, error)
        customer.waiting.pop(wanted.number, None)
        customer.news.append(loan)
        customer.ready.set()


class Line(Protocol):
    """What connects a customer with its counter."""

    async def enter(self) -> None:
        """Begin a visit."""
        ...

    async def leave(self) -> None:
        """End it."""
        ...

    async def tell(self, events: Sequence[Event]) -> None:
        """See `Counter.tell`."""
        ...

    async def news(self) -> Sequence[Loan]:
        """See `Counter.news`."""
        ...


class Desk:
    """A customer's side of a counter; an async context manager, in whose time things may be taken.

    What is wanted and given back while a message is under way goes with the next one: however many requests there are,
    few messages pass.
    """

    def __init__(self, line: Line, stopping: Callable[[], bool] = lambda: False) -> None:
        self._line = line
        self._stopping = stopping
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._leaving: list[Event] = []
        self._something = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._broken: str | None = None

    async def __aenter__(self) -> Self:
        await self._line.enter()
        self._tasks = [asyncio.create_task(part()) for part in (self._send, self._listen, self._watch)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._broken is None:
            # what was charged last has to be told, whatever ended the visit
            await asyncio.shield(self._say_goodbye())

    async def take(self, wish: Any) -> int:
        """Wait until a wish is fulfilled: the number to give it back by.

        Raises:
            ClientError: it never is; `Drained` where the customer stops, `RunEnding` where the counter is gone.
        """
        if self._broken is not None:
            raise RunEnding(self._broken)
        number = next(self._numbers)
        fulfilled = self._asked[number] = asyncio.get_running_loop().create_future()
        self._note(Take(number, wish))
        try:
            await fulfilled
        except asyncio.CancelledError:
            self._asked.pop(number, None)
            self._note(Leave(number))
            raise
        return number

    def back(self, number: int, how: Any) -> None:
        """Give something back and say what came of it."""
        self._note(Back(number, how))

    def say(self, number: int, what: Any) -> None:
        """Tell what was found out meanwhile."""
        self._note(Say(number, what))

    def _note(self, event: Event) -> None:
        self._leaving.append(event)
        self._something.set()

    async def _send(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            events, self._leaving = self._leaving, []
            try:
                await self._line.tell(events)
            except asyncio.CancelledError:
                self._leaving = [*events, *self._leaving]
                raise
            except Exception as error:
                self._break(error)

    async def _listen(self) -> None:
        while True:
            try:
                loans = await self._line.news()
            except Exception as error:
                return self._break(error)
            if not loans:
                return self._break(None)
            for loan in loans:
                # who left is known to the counter, too
                fulfilled = self._asked.pop(loan.number, None)
                if fulfilled is None or fulfilled.done():
                    continue
                if loan.error is None:
                    fulfilled.set_result(None)
                else:
                    fulfilled.set_exception(loan.error)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            if self._stopping():
                self._refuse(lambda: Drained("the run is stopping"))

    def _refuse(self, error: Callable[[], ClientError]) -> None:
        asked, self._asked = self._asked, {}
        for number, fulfilled in asked.items():
            if not fulfilled.done():
                fulfilled.set_exception(error())
                self._note(Leave(number))

    def _break(self, error: Exception | None) -> None:
        """The counter is gone: nothing can be taken any more."""
        told = f": {error}" if error is not None else ""
        broken = self._broken = f"the process that keeps what all workers share cannot be reached{told}"
        self._refuse(lambda: RunEnding(broken))

    async def _say_goodbye(self) -> None:
        # a counter that is gone needs no goodbye
        with suppress(Exception):
            if self._leaving:
                await self._line.tell(self._leaving)
            await self._line.leave()
