"""The journal in memory: what `persistence.journal` and its SQL do to a shard, without Postgres.

Owns a `Database` that any number of owners use at once, each through a `MemoryJournal` and its `Wire`. Promises
the same fence (epoch and head), the same atomic append (record, two generations of snapshots, deletions, rows
and their constraints), the same checks when it is read, the same errors. A statement executes in one piece, at
one instant between `Wire.request` and `Wire.answer`; a test's wire delays, breaks or loses either way.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import asyncpg
import msgspec

from domain.messages import Key
from domain.order import OrderEventRow, OrderRow, OrderStateRow, OutboxRow
from persistence.columns import ABSENT, SEPARATOR
from persistence.journal import (
    RECOVERY_PAGE,
    REFUSALS,
    AppendRejected,
    AppendUnknown,
    Corrupt,
    Fenced,
    Flush,
    Lease,
    Record,
    Snapshot,
    record_crc,
    snapshot_crc,
)
from persistence.outages import OUTAGES

T = TypeVar("T")

ORDER_STATUSES = ("pending", "confirmed", "shipped", "delivered", "canceled")
PAYMENT_STATUSES = ("authorized", "paid", "refunded", "voided")


# ── the database ────────────────────────────────────────────────────────────────────────────────────────


class JournalRow(NamedTuple):
    epoch: int
    at_ms: int
    event_count: int
    events: bytes
    crc: int


class Generation(NamedTuple):
    seq: int
    state: bytes
    crc: int


class EntityRow(NamedTuple):
    newer: Generation
    older: Generation | None
    resting: bool


class Shard:
    """One row of ``shard``, its journal and its entities. Tests may damage what they like."""

    def __init__(self) -> None:
        self.epoch = 0
        self.head = 0
        self.tail = 1
        self.journal: dict[int, JournalRow] = {}
        self.entities: dict[Key, EntityRow] = {}


class OrderTables:
    """The rows that ride, with the constraints under which Postgres takes them."""

    def __init__(self) -> None:
        self.orders: dict[str, OrderRow] = {}
        self.order_of_checkout: dict[str, str] = {}
        self.states: dict[str, OrderStateRow] = {}
        self.events: dict[tuple[str, int], OrderEventRow] = {}
        self.outbox: dict[tuple[str, int, str], OutboxRow] = {}

    def staged(self, rows: Sequence[Any]) -> OrderTables:
        """These tables' new rows alone, checked: nothing is changed before all of them may be."""
        new = OrderTables()
        stages: dict[type, Callable[[OrderTables, Any], None]] = {
            OrderRow: self._stage_order,
            OrderStateRow: self._stage_state,
            OrderEventRow: self._stage_event,
            OutboxRow: self._stage_message,
        }
        for table, stage in stages.items():
            for row in rows:
                if isinstance(row, table):
                    _encodable(row)
                    stage(new, row)
        return new

    def take(self, new: OrderTables) -> None:
        self.orders |= new.orders
        self.order_of_checkout |= new.order_of_checkout
        self.states |= new.states
        self.events |= new.events
        self.outbox |= new.outbox

    def _stage_order(self, new: OrderTables, row: OrderRow) -> None:
        _unique(row.order_id, self.orders, new.orders)
        _unique(row.checkout_id, self.order_of_checkout, new.order_of_checkout)
        _check(row.total >= 0, f"total {row.total}")
        _is_json(row.body)
        new.orders[row.order_id] = row
        new.order_of_checkout[row.checkout_id] = row.order_id

    def _stage_state(self, new: OrderTables, row: OrderStateRow) -> None:
        self._refers(row.order_id, new)
        _check(row.status in ORDER_STATUSES, row.status)
        _check(row.payment_status in PAYMENT_STATUSES, row.payment_status)
        _is_json(row.body)
        staged = new.states.get(row.order_id)
        if staged is None or staged.version < row.version:
            new.states[row.order_id] = row

    def _stage_event(self, new: OrderTables, row: OrderEventRow) -> None:
        self._refers(row.order_id, new)
        _unique((row.order_id, row.n), self.events, new.events)
        _is_json(row.detail)
        new.events[row.order_id, row.n] = row

    def _stage_message(self, new: OrderTables, row: OutboxRow) -> None:
        key = (row.order_id, row.n, row.destination)
        _unique(key, self.outbox, new.outbox)
        _is_json(row.payload)
        new.outbox[key] = row

    def _refers(self, order_id: str, new: OrderTables) -> None:
        if order_id not in self.orders and order_id not in new.orders:
            raise asyncpg.ForeignKeyViolationError(f"no order {order_id}")


def _unique(key: Any, *tables: Mapping[Any, Any]) -> None:
    if any(key in table for table in tables):
        raise asyncpg.UniqueViolationError(f"{key} is already there")


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise asyncpg.CheckViolationError(what)


_UNWRITABLE = {"\x00", SEPARATOR, ABSENT}


def _encodable(row: Any) -> None:
    for value in msgspec.structs.astuple(row):
        unwritable = isinstance(value, str) and not _UNWRITABLE.isdisjoint(value)
        if unwritable or (isinstance(value, int) and value.bit_length() > 63):
            raise asyncpg.DataError(f"{value!r} is nothing that Postgres can hold")


def _is_json(body: bytes) -> None:
    try:
        json.loads(body)
    except ValueError as error:
        raise asyncpg.InvalidTextRepresentationError(str(error)) from error


class Database:
    """What outlives every owner. Its methods are the statements: each executes whole or not at all.

    ``refuse``: why the database takes a row no more, or None; asked of every row that rides.
    """

    def __init__(self, *shards: str) -> None:
        self.shards = {name: Shard() for name in shards}
        self.tables = OrderTables()
        self.refuse: Callable[[Any], str | None] = lambda row: None

    def take(self, name: str, held: int | None) -> Lease:
        shard = self.shards.get(name)
        if shard is None:
            raise Corrupt(f"shard {name} is not in the table of shards")
        if held is not None and shard.epoch != held:
            raise Fenced(f"{name} has a newer owner than epoch {held}")
        shard.epoch += 1
        return Lease(shard.epoch, shard.head, shard.tail)

    def owns(self, name: str, epoch: int) -> bool:
        return self.shards[name].epoch == epoch

    def append(self, epoch: int, flush: Flush) -> None:
        """`Fenced`, or an asyncpg error for what a constraint forbids; nothing is written then."""
        shard = self.shards[flush.shard]
        if (shard.epoch, shard.head) != (epoch, flush.old_head):
            raise Fenced(f"{flush.shard} is owned by a newer epoch than {epoch}")
        if len({snapshot.key for snapshot in flush.snapshots}) < len(flush.snapshots):
            raise asyncpg.CardinalityViolationError("an entity twice in one flush")
        for row in flush.rows:
            reason = self.refuse(row)
            if reason is not None:
                raise asyncpg.IntegrityConstraintViolationError(reason)
        for snapshot in flush.snapshots:
            if snapshot.new:
                _unique(snapshot.key, shard.entities)
        self.tables.take(self.tables.staged(flush.rows))
        shard.head = flush.seq
        crc = record_crc(flush.shard, flush.seq, flush.at_ms, flush.events)
        shard.journal[flush.seq] = JournalRow(epoch, flush.at_ms, flush.event_count, flush.events, crc)
        if flush.tail > 0:
            shard.tail = max(shard.tail, flush.tail)
            shard.journal = {seq: row for seq, row in shard.journal.items() if seq >= flush.tail}
        for snapshot in flush.snapshots:
            shard.entities[snapshot.key] = _moved_up(shard.entities.get(snapshot.key), snapshot, flush.seq)
        for key in flush.deleted:
            shard.entities.pop(key, None)

    def was_written(self, flush: Flush) -> bool:
        row = self.shards[flush.shard].journal.get(flush.seq)
        return row is not None and row.crc == record_crc(flush.shard, flush.seq, flush.at_ms, flush.events)

    def awake(self, name: str, after: Key) -> list[Snapshot]:
        """One page of what recovery loads, in the order of keys."""
        entities = self.shards[name].entities
        keys = sorted(key for key, row in entities.items() if not row.resting and key > after)
        return [_verified(key, entities[key]) for key in keys[:RECOVERY_PAGE]]

    def entities(self, name: str, keys: Sequence[Key]) -> list[Snapshot]:
        entities = self.shards[name].entities
        return [_verified(key, entities[key]) for key in keys if key in entities]

    def records(self, name: str, tail: int, head: int) -> list[Record]:
        rows = sorted((seq, row) for seq, row in self.shards[name].journal.items() if seq >= tail)
        for expected, (seq, row) in enumerate(rows, tail):
            if seq != expected:
                raise Corrupt(f"journal record {name}/{expected} is missing")
            if record_crc(name, seq, row.at_ms, row.events) != row.crc:
                raise Corrupt(f"journal record {name}/{seq} is damaged")
        if tail + len(rows) != head + 1:
            raise Corrupt(f"journal of {name} ends at {tail + len(rows) - 1}, but its head is {head}")
        return [Record(seq, row.at_ms, row.events) for seq, row in rows]


def _moved_up(stored: EntityRow | None, snapshot: Snapshot, seq: int) -> EntityRow:
    newer = Generation(seq, snapshot.state, snapshot_crc(snapshot.key, seq, snapshot.state))
    older = stored.newer if stored is not None and not snapshot.resting else None
    return EntityRow(newer, older, snapshot.resting)


def _verified(key: Key, row: EntityRow) -> Snapshot:
    newer, older = row.newer, row.older
    if snapshot_crc(key, newer.seq, newer.state) == newer.crc:
        return Snapshot(key, newer.seq, newer.state, row.resting, older.seq if older is not None else 0)
    if older is not None and snapshot_crc(key, older.seq, older.state) == older.crc:
        return Snapshot(key, older.seq, older.state, row.resting, older.seq)
    raise Corrupt(f"snapshot {key[0]}/{key[1]} is damaged in both generations")


# ── the way there ───────────────────────────────────────────────────────────────────────────────────────

Trouble = Callable[[], Awaitable[None]]


class Gate:
    """A place where a call is stopped: ``reached`` when one stands there, until `open`."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def __call__(self) -> None:
        self.reached.set()
        await self._opened.wait()


class Wire:
    """The connection of one owner: troubles are met in the order they were planned, one a call.

    ``call`` is a method of the journal's; its subject the flush, the keys, or the shard.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._planned: dict[tuple[str, str], deque[Trouble]] = {}

    async def request(self, call: str, subject: Any) -> None:
        """On the way there: what fails here has not executed."""
        self.calls.append((call, subject))
        await asyncio.sleep(0)
        await self._meet(call, "request")

    async def answer(self, call: str, subject: Any) -> None:
        """On the way back: what fails here has executed."""
        await self._meet(call, "answer")

    def stop(self, call: str, *, way: str = "request") -> Gate:
        """The next such call stands at the gate until it is opened."""
        gate = Gate()
        self.plan(call, gate, way=way)
        return gate

    def fail(self, call: str, error: BaseException, *, way: str = "request", times: int = 1) -> None:
        async def trouble() -> None:
            raise error

        for _ in range(times):
            self.plan(call, trouble, way=way)

    def plan(self, call: str, trouble: Trouble, *, way: str = "request") -> None:
        self._planned.setdefault((call, way), deque()).append(trouble)

    async def _meet(self, call: str, way: str) -> None:
        planned = self._planned.get((call, way))
        if planned:
            await planned.popleft()()


class MemoryJournal:
    """The `Journal` of one owner. Same promises, same errors as `persistence.journal.PostgresJournal`."""

    def __init__(self, database: Database, wire: Wire | None = None) -> None:
        self.database = database
        self.wire = wire or Wire()

    async def take(self, shard: str, held: int | None = None) -> Lease:
        return await self._call("take", shard, lambda: self.database.take(shard, held))

    async def owns(self, shard: str, epoch: int) -> bool:
        return await self._call("owns", shard, lambda: self.database.owns(shard, epoch))

    async def append(self, epoch: int, flush: Flush) -> None:
        for row in flush.rows:
            if not isinstance(row, OrderRow | OrderStateRow | OrderEventRow | OutboxRow):
                raise TypeError(f"{type(row).__name__} is not a row that rides")
        try:
            await self._call("append", flush, lambda: self.database.append(epoch, flush))
        except REFUSALS as error:
            raise AppendRejected(str(error)) from error
        except OUTAGES as error:
            raise AppendUnknown(f"{type(error).__name__}: {error}") from error

    async def was_written(self, flush: Flush) -> bool:
        return await self._call("was_written", flush, lambda: self.database.was_written(flush))

    async def awake(self, shard: str) -> AsyncIterator[list[Snapshot]]:
        last: Key = ("", "")
        while page := await self._page(shard, last):
            yield page
            last = page[-1].key

    async def entities(self, shard: str, keys: Sequence[Key]) -> list[Snapshot]:
        return await self._call("entities", tuple(keys), lambda: self.database.entities(shard, keys))

    async def records(self, shard: str, tail: int, head: int) -> list[Record]:
        return await self._call("records", shard, lambda: self.database.records(shard, tail, head))

    async def _page(self, shard: str, last: Key) -> list[Snapshot]:
        return await self._call("awake", shard, lambda: self.database.awake(shard, last))

    async def _call(self, call: str, subject: Any, statement: Callable[[], T]) -> T:
        await self.wire.request(call, subject)
        result = statement()
        await self.wire.answer(call, subject)
        return result
