"""The real audit (`persistence.audit`) over the simulated database.

Owns what its queries find there, table by table, and nothing of what they mean. What the audit rebuilds on its
way is kept, for the run compares it with the actors' memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import msgspec

from domain import ids
from domain.audit_money import Fact, add_up
from domain.messages import Key
from domain.payments import BookEntry
from persistence import audit as real
from persistence.audit import AuditReport
from persistence.audit_replay import Rebuilt, ShardReplay
from persistence.journal import order_crc
from persistence.sql import sql
from tests.simulation.database import SimDatabase, at_once
from tests.simulation.processes import EPOCH_MS

KINDS = ("stock", "checkout", "cart")
Rows = list["Row"]


class Row(dict[str, Any]):
    """As asyncpg's: by name, and in the order of the columns when it is unpacked."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())


class Connection:
    """Answers the audit's queries, and is its own pool."""

    def __init__(self, database: SimDatabase) -> None:
        self._database = database
        self._tables = database.tables
        self._facts: dict[str, list[BookEntry]] = {}
        for fact in database.book._facts.values():
            self._facts.setdefault(fact.payment_id, []).append(fact)
        self._queries: dict[str, Callable[..., Rows]] = {
            sql(f"audit_{name}"): getattr(self, f"_{name}")
            for name in (
                "shards", "journal", "entities", "orders", "order_states", "order_entries", "book",
                "money_apart", "orders_apart",
            )
        }  # fmt: skip

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        yield self

    @asynccontextmanager
    async def transaction(self, **_: Any) -> AsyncIterator[None]:
        yield

    async def execute(self, query: str) -> None:
        assert query.startswith("SET LOCAL"), query

    async def fetch(self, query: str, *arguments: Any) -> Rows:
        return self._queries[query](*arguments)

    async def cursor(self, query: str, *arguments: Any, prefetch: int) -> AsyncIterator[Row]:
        for row in self._queries[query](*arguments):
            yield row

    # ── the queries ─────────────────────────────────────────────────────────────────────────────────────

    def _shards(self) -> Rows:
        rows = []
        for name, shard in self._database.shards.items():
            taken_at_ms = EPOCH_MS + int(self._database.taken_at_s[name] * 1000)
            kind = name.partition("-")[0]
            rows.append(Row(id=name, kind=kind, head=shard.head, tail=shard.tail, taken_at_ms=taken_at_ms))
        return sorted(rows, key=lambda row: (KINDS.index(row["kind"]), row["id"]))

    def _journal(self, shard: str, tail: int) -> Rows:
        records = sorted(self._database.shards[shard].journal.items())
        return [
            Row(seq=seq, at_ms=record.at_ms, count=record.event_count, events=record.events, crc=record.crc)
            for seq, record in records
            if seq >= tail
        ]

    def _entities(self, shard: str) -> Rows:
        rows = []
        for (kind, identifier), entity in self._database.shards[shard].entities.items():
            older = entity.older
            prev = (older.seq, older.state, older.crc) if older is not None else (None, None, None)
            newer = entity.newer
            rows.append(
                Row(
                    kind=kind,
                    id=identifier,
                    seq=newer.seq,
                    state=newer.state,
                    crc=newer.crc,
                    prev_seq=prev[0],
                    prev_state=prev[1],
                    prev_crc=prev[2],
                    resting=entity.resting,
                )
            )
        return rows

    def _orders(self, checkouts: list[str], orders: list[str]) -> Rows:
        rows = []
        for order in self._tables.orders.values():
            if order.checkout_id in checkouts or order.order_id in orders:
                fields = {name: getattr(order, name) for name in order.__struct_fields__}
                body = order.body.decode()
                rows.append(Row(fields | {"body": body, "crc": order_crc(order.order_id, order.body)}))
        return rows

    def _order_states(self, orders: list[str]) -> Rows:
        return [
            Row(
                order_id=row.order_id,
                version=row.version,
                status=row.status,
                payment_status=row.payment_status,
                state=row.body.decode(),
            )
            for row in self._tables.states.values()
            if row.order_id in orders
        ]

    def _order_entries(self, orders: list[str]) -> Rows:
        return [Row(order_id=order_id, n=n) for order_id, n in sorted(self._tables.events) if order_id in orders]

    def _book(self, payments: list[str]) -> Rows:
        return [
            Row({name: getattr(fact, name) for name in Fact._fields})
            for payment in payments
            for fact in self._facts.get(payment, ())
        ]

    def _money_apart(self) -> Rows:
        named = {line[0] for order in self._tables.orders.values() for line in _payments(order.body)}
        rows = []
        for payment, facts in self._facts.items():
            book = add_up([Fact(*(getattr(fact, name) for name in Fact._fields)) for fact in facts])
            captured = book.captured - book.refunded
            open_ = book.authorized and not book.captured and not book.voided
            if payment not in named and (captured > 0 or open_):
                rows.append(
                    Row(payment_id=payment, checkout_id=book.checkout_id, currency=book.currency, captured=captured)
                )
        return rows

    def _orders_apart(self, damaged: list[str], in_journal: list[str]) -> Rows:
        stored = {
            key[1] for shard in self._database.shards.values() for key in shard.entities if key[0] == "checkout"
        } | set(in_journal)
        return [
            Row(order_id=order.order_id, checkout_id=order.checkout_id)
            for order in self._tables.orders.values()
            if ids.body(order.checkout_id) in damaged or ids.body(order.checkout_id) not in stored
        ]


def _payments(body: bytes) -> Iterable[Any]:
    return msgspec.json.decode(body)["payments"]


def audit(database: SimDatabase, now_s: float) -> tuple[AuditReport, dict[str, dict[Key, Rebuilt]]]:
    """The audit's report, and every shard's entities as the database has them."""
    rebuilt: dict[str, dict[Key, Rebuilt]] = {}

    class Kept(ShardReplay):
        async def entities(self) -> AsyncIterator[list[Rebuilt]]:
            async for page in super().entities():
                rebuilt.setdefault(self.shard.id, {}).update({entry.key: entry for entry in page})
                yield page

    with patch.object(real, "ShardReplay", Kept):
        work = real.audit(Connection(database), EPOCH_MS + int(now_s * 1000))
        return at_once(work), rebuilt
