"""A run's requests that go by batch: written down, submitted, found again after a kill, and collected in any order."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.clients import connect, price_of
from harness.clients.batches import DISCOUNT, BatchAPI, Batching, Result, attempt_of, custom_id, unpack_shape
from harness.clients.budget import Budget
from harness.clients.draining import pausing
from harness.clients.ledger import Amount, Attempt, new_id
from harness.clients.metering import kind_of, priced
from harness.clients.prices import Price
from harness.clients.protocol import Client, Reply, Request
from harness.clients.replies import Replies
from harness.clients.wire import Wire
from harness.errors import AccountError, ClientError, OverBudget, Overloaded, TransientError, UserError, Waiting
from harness.runs.batch_rows import BatchRow, BatchRows, Noted
from harness.runs.failpoints import passing
from harness.runs.journal import Journal
from harness.runs.journal_rows import Operation, keeping, settling
from harness.values import Usage

__all__ = ["PAUSE", "Batches", "batch_price"]

# seconds between two looks at batches that are waited for
PAUSE = 60.0
# A list of batches may lag behind their submission: before so many seconds a batch that is not found may still come.
SETTLED = 60.0
# so many times a request is sent that fails for a passing reason, before whoever asks hears of it
_TRIES = 3
# results that are committed together
CHUNK = 256
_NOTHING = Amount()


@dataclass
class Batches:
    """The desk that clients hand requests over to; one a run.

    Made when what an earlier run wrote down and never submitted is forgotten (`BatchRows.drop_unsent`). With `leaving`
    nothing is written down: a worker leaves it to its run. `trouble` says by model why its requests cannot go by batch
    now.
    """

    journal: Journal
    budget: Budget
    note_line: Callable[[str], None]
    stopping: Callable[[], bool]
    leaving: bool = False
    trouble: dict[str, str] = field(default_factory=dict)
    _senders: dict[str, _Sender] = field(default_factory=dict)
    _foreign: list[Client] = field(default_factory=list)
    _out: set[str] = field(default_factory=set)
    _failed: dict[str, ClientError] = field(default_factory=dict)
    # the most requests of a model's batch, after one that was too large for what the account may have waiting
    _most: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows = BatchRows(self.journal)
        self._out = self._rows.keys()

    def wrap(self, client: Client, live: Client, settings: Mapping[str, Any]) -> Client:
        """A client whose requests go by batch; `live` is the same with the layers of one that asks at once."""
        api = getattr(client, "batches", None)
        assert api is not None
        price = batch_price(client.name, settings)
        self._senders[client.name] = _Sender(api, price, settings)
        return Replies(Batching(client, api, live, self, price, self.stopping), self.journal)

    async def aclose(self) -> None:
        """Close connections to models that only their batches were collected from."""
        for client in self._foreign:
            await client.aclose()

    def waiting(self) -> list[BatchRow]:
        """The batches that are out."""
        return self._rows.batches()

    # what clients.batches.Desk asks for

    def out(self, key: str) -> bool:
        """Whether a request is written down or out already."""
        return key in self._out

    def failed(self, key: str) -> ClientError | None:
        """Why a request has no reply and gets none in this run."""
        return self._failed.get(key)

    async def note(self, attempt: Attempt, wire: Wire, request: Request) -> None:
        """Commit that a request is to be sent with the next batch.

        What it may cost counts as spent until its result is there: nobody can wait for that.

        Raises:
            OverBudget: it might cost more than is left.
            Waiting: it might, unless what is out costs less than it may.
        """
        if self.leaving:
            raise Waiting("the request is left to the run that submits batches")
        try:
            await self.budget.reserve(attempt.reserved)
        except OverBudget:
            if self._out:
                raise Waiting("the request waits until batches that are out tell what they cost") from None
            raise
        self.budget.settle(attempt.reserved, attempt.reserved)
        self._out.add(attempt.request)
        await self._rows.note(attempt, wire, request)

    # sending

    async def submit(self) -> None:
        """Submit what is written down, in as few batches as the provider takes; the rest is forgotten."""
        for model, sender in self._senders.items():
            while model not in self.trouble and (chunk := self._chunk(model, sender.api)) is not None:
                await self._submit(model, sender, chunk)
        await self._rows.drop_unsent()
        self._out = self._rows.keys()

    def _chunk(self, model: str, api: BatchAPI) -> _Chunk | None:
        """The next requests of a model that fit into one batch."""
        most = min(api.most_requests, self._most.get(model, api.most_requests))
        found: _Chunk | None = None
        size = 0
        waiting = self._rows.unsent(model)
        for attempt, key, path, body in waiting:
            line = api.line(custom_id(attempt, key), path, body)
            size += len(line) + 2
            if found is None:
                found = _Chunk(path)
            elif len(found.lines) >= most or size > api.most_bytes or path != found.path:
                break
            found.lines.append(line)
            found.last = attempt
        waiting.close()
        return found

    async def _submit(self, model: str, sender: _Sender, chunk: _Chunk) -> None:
        now = time.time()
        row = BatchRow(new_id(), model, sender.settings, None, "unsure", len(chunk.lines), 0, "", now, now)
        await self._rows.write(row, chunk.last)
        try:
            remote = await sender.api.submit(chunk.lines, chunk.path, row.id)
        except ClientError as error:
            self.trouble[model] = f"{model}: a batch could not be submitted: {error.message}"
            # an error on the provider's side may have come after the batch was made
            if not error.billed and not isinstance(error, Overloaded):
                await self._rows.unsend(row.id, error.message)
            return
        passing("batch-submitted")
        await self._rows.sent(row.id, remote)
        bound = self._rows.bound(row.id)
        cost = "" if bound.dollars is None else f", at most ${bound.dollars:.4f}"
        self.note_line(f"submitted {remote}: {row.requests:,} requests to {model}{cost}")

    # collecting

    async def collect(self) -> bool:
        """Collect every batch that ended; whether that makes a difference to what can be asked next."""
        came = False
        for row in self._rows.batches():
            try:
                came |= await self._look(row, self._sender(row))
            except AccountError as error:
                self.trouble[row.model] = f"{row.model}: {row.name} is not to be had from this account: {error}"
            except (ClientError, UserError) as error:
                # others may be there; and this one is neither lost nor asked again
                self.note_line(f"{row.model}: {row.name} cannot be looked at now: {error}")
        self._out = self._rows.keys()
        return came or not self._rows.batches()

    async def arrival(self, pause: float) -> None:
        """Wait until `collect` makes a difference, or the run is to stop; a look every `pause` seconds."""
        sleep = pausing(self.stopping)
        while not await self.collect() and not self.stopping() and not self.trouble:
            await sleep(pause)

    async def _look(self, row: BatchRow, sender: _Sender) -> bool:
        if row.remote is None:
            return await self._search(row, sender)
        look = await sender.api.look(row.remote)
        if look.state == "running":
            await self._rows.see(row.id, f"{look.done:,} of {look.total:,} done")
            return False
        if look.state == "ended":
            return await self._collect(row, sender, await sender.api.results(row.remote))
        bound = self._rows.bound(row.id)
        await self._rows.refuse(row.id, look.told)
        self._give_back(bound, _NOTHING)
        self.note_line(f"{row.name} was refused: {look.told}")
        if look.crowded and row.requests > 1:
            self._most[row.model] = min(self._most.get(row.model, row.requests), max(1, row.requests // 2))
        else:
            self.trouble[row.model] = f"{row.model}: {row.name} was refused: {look.told}"
        return False

    async def _search(self, row: BatchRow, sender: _Sender) -> bool:
        """Look for a batch that may have been submitted before the run was killed, or the connection broke."""
        found = await sender.api.find(
            row.id, row.requests, row.created, lambda custom: self._rows.noted(attempt_of(custom), row.id) is not None
        )
        if found.id is not None:
            await self._rows.sent(row.id, found.id)
            self.note_line(f"found {found.id}, submitted before its id was written down")
            return await self._look(next(each for each in self._rows.batches() if each.id == row.id), sender)
        if not found.sure or time.time() - row.created < SETTLED:
            return False
        bound = self._rows.bound(row.id)
        await self._rows.unsend(row.id, "the provider has no such batch")
        self._give_back(bound, _NOTHING)
        return True

    async def _collect(self, row: BatchRow, sender: _Sender, results: Iterable[Result]) -> bool:
        """Commit the results of a batch, each once, however often it comes and wherever this was broken off before."""
        found = _Found(row, sender, self._rows.failures(row.model))
        for result in results:
            attempt = attempt_of(result.custom_id)
            noted = None if attempt in found.seen else self._rows.noted(attempt, row.id)
            if noted is None:
                continue
            found.seen.add(attempt)
            self._settle(found, noted, result.read(unpack_shape(noted.shape)))
            if len(found.seen) % CHUNK == 0:
                await self._commit(found)
        await self._commit(found)
        for noted in self._rows.left(row.id):
            missing = Overloaded("the batch has no result of the request", model=row.model)
            self._settle(found, noted, missing, "missing")
        told = found.told()
        found.operations.append(self._rows.ending(row.id, "collected", 0, told))
        await self._commit(found)
        self.note_line(f"collected {row.name}: {told}")
        return True

    def _settle(self, found: _Found, noted: Noted, outcome: Reply | ClientError, kind: str | None = None) -> None:
        seconds = time.time() - noted.created
        usage: Usage | None = None
        charged = _NOTHING
        if isinstance(outcome, Reply):
            reply, charged = priced(outcome, noted.bound, found.sender.price)
            usage = reply.usage
            found.operations.append(keeping(noted.key, noted.wire, reply))
            found.replies += 1
        else:
            charged = noted.bound if outcome.billed else _NOTHING
            kind = kind or kind_of(outcome)
            found.failures[noted.key[:24]] += 1
            found.kinds[kind] += 1
            again = isinstance(outcome, TransientError) and found.failures[noted.key[:24]] % _TRIES
            if not again:
                self._failed[noted.key] = outcome
        found.operations += [
            settling(noted.attempt, kind or "ok", charged, usage, seconds),
            self._rows.done(noted.attempt),
        ]
        found.dollars += charged.dollars or 0.0
        self._give_back(noted.bound, charged)

    async def _commit(self, found: _Found) -> None:
        passing("batch-read")
        replies = found.replies - found.counted
        found.counted = found.replies
        operations = [*found.operations, self._rows.counting(found.row.id, replies)]
        found.operations = []
        await self.journal.commit(operations)
        passing("batch-settled")

    def _give_back(self, bound: Amount, charged: Amount) -> None:
        """Count what was charged in place of what was taken for spent."""
        dollars = (charged.dollars or 0.0) - (bound.dollars or 0.0)
        self.budget.settle(_NOTHING, Amount(charged.tokens - bound.tokens, dollars))

    def _sender(self, row: BatchRow) -> _Sender:
        """How to ask about a batch, also where the task has its model no more.

        Raises:
            UserError: its model cannot be reached, as where its key is missing.
        """
        if row.model not in self._senders:
            client = connect(row.model, row.settings)
            self._foreign.append(client)
            api = getattr(client, "batches", None)
            assert api is not None
            self._senders[row.model] = _Sender(api, batch_price(row.model, row.settings), row.settings)
        return self._senders[row.model]


def batch_price(name: str, settings: Mapping[str, Any] | None) -> Price | None:
    """The price of a model's requests that go by batch, None where its live price is not known.

    Raises:
        TaskError: a price is wrong.
    """
    price = price_of(name, settings)
    return None if price is None else price.times(DISCOUNT)


@dataclass(frozen=True, slots=True)
class _Sender:
    api: BatchAPI
    price: Price | None
    settings: Mapping[str, Any]


@dataclass(slots=True)
class _Chunk:
    """Requests of one path that are submitted together; `last` is the last one's attempt."""

    path: str
    lines: list[bytes] = field(default_factory=list)
    last: str = ""


@dataclass(slots=True)
class _Found:
    """What is being collected of a batch: operations that are not committed yet, and what it came to so far."""

    row: BatchRow
    sender: _Sender
    failures: Counter[str]
    seen: set[str] = field(default_factory=set)
    operations: list[Operation] = field(default_factory=list)
    replies: int = 0
    counted: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    dollars: float = 0.0

    def told(self) -> str:
        """In words."""
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in self.kinds.most_common())
        priced = "" if self.sender.price is None else f", ${self.dollars:.4f}"
        return f"{self.replies:,} replies" + (f"; failed: {kinds}" if kinds else "") + priced
