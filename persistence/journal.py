"""The journal: a shard's events, the snapshots of its entities, and the rows that ride with them.

Owns the write path's one statement and what recovery reads. Promises: an append is atomic and conditional on
(epoch, head), so a fenced owner writes nothing; what is read back is verified (sequence, checksum, head) and a
damaged record or snapshot is named, never half-applied. Is told everything; decides nothing. Called by
`actors.event_sourced` only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple
from zlib import crc32

import asyncpg

from domain.messages import Key
from domain.order import OrderEventRow, OrderRow, OrderStateRow, OutboxRow
from persistence.columns import numbers, texts
from persistence.outages import OUTAGES
from persistence.sql import sql

RECOVERY_PAGE = 5_000

# What Postgres says of rows that it will never take.
REFUSALS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.RaiseError,
    ValueError,
)


class Fenced(Exception):
    """Somebody has taken the shard over. Nothing was written, and nothing will be."""


class AppendUnknown(Exception):
    """The statement may or may not have been committed: the connection or the server failed."""


class AppendRejected(Exception):
    """The database refuses these rows; nothing was written."""


class Corrupt(Exception):
    """A record or snapshot is not what was written. The message names it."""


class Lease(NamedTuple):
    epoch: int
    head: int
    tail: int


class Snapshot(NamedTuple):
    """The state of one entity as of journal record ``seq``; ``older_seq`` is the other stored generation's.

    ``new``: as far as the writer knows, the entity has no row yet. If it has one, the append is refused.
    """

    key: Key
    seq: int
    state: bytes
    resting: bool = False
    older_seq: int = 0
    new: bool = False


class Record(NamedTuple):
    seq: int
    at_ms: int
    events: bytes


class Flush(NamedTuple):
    """Everything that one append writes. ``tail``: records below it are no longer needed (0: leave them)."""

    shard: str
    old_head: int
    tail: int
    at_ms: int
    event_count: int
    events: bytes
    snapshots: Sequence[Snapshot]
    deleted: Sequence[Key]
    rows: Sequence[Any]

    @property
    def seq(self) -> int:
        return self.old_head + 1


def record_crc(shard: str, seq: int, at_ms: int, events: bytes) -> int:
    """Over place and content, so that a record moved or swapped is as wrong as a flipped bit."""
    return crc32(events, crc32(f"{shard}:{seq}:{at_ms}".encode()))


def snapshot_crc(key: Key, seq: int, state: bytes) -> int:
    return crc32(state, crc32(f"{key[0]}:{key[1]}:{seq}".encode()))


def order_crc(order_id: str, body: bytes) -> int:
    return crc32(body, crc32(order_id.encode()))


class PostgresJournal:
    """The journal in Postgres. One pool for all shards of the process."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def take(self, shard: str, held: int | None = None) -> Lease:
        """Become the shard's owner: every older owner is fenced from here on.

        Who is the owner already, and needs another epoch, names the one it has: `Fenced` if that is not the newest.
        """
        row = await self._pool.fetchrow("SELECT * FROM take_shard($1, $2)", shard, held)
        if row is None and held is not None:
            raise Fenced(f"{shard} has a newer owner than epoch {held}")
        if row is None:
            raise Corrupt(f"shard {shard} is not in the table of shards")
        return Lease(row["epoch"], row["head"], row["tail"])

    async def owns(self, shard: str, epoch: int) -> bool:
        """Whether the epoch is still the newest: what a batch without events asks before it answers."""
        newest: int = await self._pool.fetchval("SELECT epoch FROM shard WHERE id = $1", shard)
        return newest == epoch

    async def append(self, epoch: int, flush: Flush) -> None:
        """Write the flush in one statement. Raises `Fenced`, `AppendUnknown` or `AppendRejected`."""
        try:
            written = await self._pool.fetchval(_APPEND, *_arguments(epoch, flush))
        except REFUSALS as error:
            raise AppendRejected(str(error)) from error
        except OUTAGES as error:
            raise AppendUnknown(f"{type(error).__name__}: {error}") from error
        if not written:
            raise Fenced(f"{flush.shard} is owned by a newer epoch than {epoch}")

    async def was_written(self, flush: Flush) -> bool:
        """Whether the record of a flush of unknown outcome is there (ask under a newer epoch only)."""
        crc = await self._pool.fetchval("SELECT crc FROM journal WHERE shard = $1 AND seq = $2", flush.shard, flush.seq)
        return bool(crc == record_crc(flush.shard, flush.seq, flush.at_ms, flush.events))

    async def awake(self, shard: str) -> AsyncIterator[list[Snapshot]]:
        """The snapshots of all entities that are not resting, in pages, verified."""
        reading = self._read_awake(shard, ("", ""))
        try:
            while rows := await reading:
                # Postgres reads the next page while this one is taken in.
                reading = self._read_awake(shard, (rows[-1]["kind"], rows[-1]["id"]))
                await asyncio.sleep(0)
                yield await self._verified_page(shard, rows)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)  # it may have failed meanwhile

    async def _verified_page(self, shard: str, rows: Sequence[asyncpg.Record]) -> list[Snapshot]:
        """The older generation is read only where the newer is damaged: a recovery has a hundred thousand entities."""
        sound, damaged = list[Snapshot](), list[Key]()
        for kind, identifier, seq, state, crc, prev_seq in rows:
            key = (kind, identifier)
            if snapshot_crc(key, seq, state) == crc:
                sound.append(Snapshot(key, seq, state, False, prev_seq or 0))
            else:
                damaged.append(key)
        return [*sound, *await self.entities(shard, damaged)] if damaged else sound

    def _read_awake(self, shard: str, after: Key) -> asyncio.Task[list[asyncpg.Record]]:
        return asyncio.create_task(self._pool.fetch(sql("awake_entities"), shard, *after, RECOVERY_PAGE))

    async def entities(self, shard: str, keys: Sequence[Key]) -> list[Snapshot]:
        """The shard's snapshots of these entities, resting or not; those that have none are left out."""
        kinds, identifiers = [key[0] for key in keys], [key[1] for key in keys]
        return [_verified(row) for row in await self._pool.fetch(sql("entities_by_key"), shard, kinds, identifiers)]

    async def records(self, shard: str, tail: int, head: int) -> list[Record]:
        """The journal from ``tail`` to ``head``, complete and verified; `Corrupt` names what is not."""
        rows = await self._pool.fetch(sql("journal_records"), shard, tail)
        expected = tail
        records = []
        for row in rows:
            if row["seq"] != expected:
                raise Corrupt(f"journal record {shard}/{expected} is missing")
            if record_crc(shard, row["seq"], row["at_ms"], row["events"]) != row["crc"]:
                raise Corrupt(f"journal record {shard}/{row['seq']} is damaged")
            records.append(Record(row["seq"], row["at_ms"], row["events"]))
            expected += 1
        if expected != head + 1:
            raise Corrupt(f"journal of {shard} ends at {expected - 1}, but its head is {head}")
        return records


def _verified(row: asyncpg.Record) -> Snapshot:
    """The newer generation; the older where the newer is damaged (the journal since then is still kept)."""
    kind, identifier, seq, state, crc, prev_seq, prev_state, prev_crc, resting = row
    key = (kind, identifier)
    if snapshot_crc(key, seq, state) == crc:
        return Snapshot(key, seq, state, resting, prev_seq or 0)
    if prev_seq is not None and snapshot_crc(key, prev_seq, prev_state) == prev_crc:
        return Snapshot(key, prev_seq, prev_state, resting, prev_seq)
    raise Corrupt(f"snapshot {key[0]}/{key[1]} is damaged in both generations")


# ── the statement ───────────────────────────────────────────────────────────────────────────────────────

_ARGUMENTS = 44
_APPEND = f"SELECT append_flush({', '.join(f'${n}' for n in range(1, _ARGUMENTS + 1))})"


# How the columns of each table go: texts and numbers as one text each, bytes as an array.
_SNAPSHOT = (texts, texts, list, numbers, numbers, numbers)
_DELETED = (texts, texts)
_ORDER = (texts, texts, texts, texts, texts, texts, numbers, numbers, texts, numbers)
_STATE = (texts, numbers, texts, texts, numbers, texts, numbers)
_EVENT = (texts, numbers, numbers, texts, texts, texts)
_OUTBOX = (texts, numbers, texts, texts)


def _columns(rows: Sequence[Any], forms: Sequence[Callable[[Sequence[Any]], Any]]) -> list[Any]:
    """Rows of fields as columns."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(forms)
    return [form(column) for form, column in zip(forms, columns, strict=True)]


def _arguments(epoch: int, flush: Flush) -> list[Any]:
    seq = flush.seq
    rows = _Rows(flush.rows)
    snapshots = [
        (snap.key[0], snap.key[1], snap.state, snapshot_crc(snap.key, seq, snap.state), snap.resting, snap.new)
        for snap in flush.snapshots
    ]
    return [
        flush.shard,
        epoch,
        flush.old_head,
        flush.tail,
        flush.at_ms,
        flush.event_count,
        flush.events,
        record_crc(flush.shard, seq, flush.at_ms, flush.events),
        *_columns(snapshots, _SNAPSHOT),
        *_columns(flush.deleted, _DELETED),
        *_columns(rows.orders, _ORDER),
        *_columns(rows.newest_states(), _STATE),
        *_columns(rows.events, _EVENT),
        *_columns(rows.outbox, _OUTBOX),
        texts(rows.referred()),
    ]


class _Rows:
    """The rows that ride, sorted by table."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.orders: list[tuple[Any, ...]] = []
        self.states: list[OrderStateRow] = []
        self.events: list[tuple[Any, ...]] = []
        self.outbox: list[tuple[Any, ...]] = []
        self._placed: set[str] = set()
        for row in rows:
            match row:
                case OrderRow():
                    self.orders.append(_order(row))
                    self._placed.add(row.order_id)
                case OrderStateRow():
                    self.states.append(row)
                case OrderEventRow():
                    self.events.append((row.order_id, row.n, row.at_ms, row.actor, row.type, row.detail.decode()))
                case OutboxRow():
                    self.outbox.append((row.order_id, row.n, row.destination, row.payload.decode()))
                case _:
                    raise TypeError(f"{type(row).__name__} is not a row that rides")

    def newest_states(self) -> list[tuple[Any, ...]]:
        """The last state of each order, with whether the order comes along (then it has none yet)."""
        newest = {row.order_id: row for row in sorted(self.states, key=_version)}
        return [
            (
                row.order_id,
                row.version,
                row.status,
                row.payment_status,
                row.updated_at_ms,
                row.body.decode(),
                row.order_id in self._placed,
            )
            for row in newest.values()
        ]

    def referred(self) -> list[str]:
        """The orders that must be there already."""
        return list(({row.order_id for row in self.states} | {row[0] for row in self.events}) - self._placed)


_version = attrgetter("version")


def _order(row: OrderRow) -> tuple[Any, ...]:
    return (
        row.order_id,
        row.checkout_id,
        row.number,
        row.owner,
        row.email_hash,
        row.currency,
        row.total,
        row.placed_at_ms,
        row.body.decode(),
        order_crc(row.order_id, row.body),
    )
