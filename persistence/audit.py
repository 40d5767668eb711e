"""The audit: everything the database has, checked against itself and against the gateway's own book.

Owns the reading and the order of the checks; the rules are in `domain.audit*`, replay in `audit_replay`.
Works on a live system: one read-only transaction sees one instant and locks nobody. Memory is bounded by what
is unfinished, by the number of SKUs and by the journal, never by the number of orders. Promises that what a
healthy engine shows at any instant is no violation. The engine calls it for operators.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from domain import audit_money, audit_orders, ids
from domain.audit import StockTally, Violation
from domain.audit_money import Fact
from domain.audit_orders import OrderRows
from domain.checkout_state import Checkout
from domain.ledger_events import Hold
from domain.stock_model import Stock
from persistence.audit_replay import CORES, Rebuilt, Shard, ShardReplay
from persistence.journal import order_crc
from persistence.sql import sql

NAMED_MOST: Final = 1_000  # violations; the rest are counted
_AUDITED_GATEWAY: Final = "sandbox"  # the one whose book is in this database


class AuditReport(NamedTuple):
    """`checked`: how many accounts, payments, orders and journal records were looked at."""

    checked: Mapping[str, int]
    violations: Sequence[Violation]

    @property
    def consistent(self) -> bool:
        return not self.violations

    def as_dict(self) -> dict[str, Any]:
        """The body of `GET /v1/ops/audit`."""
        violations = [violation._asdict() for violation in self.violations]
        return {"consistent": self.consistent, "checked": dict(self.checked), "violations": violations}


async def audit(pool: asyncpg.Pool, now_ms: int, bound_ms: int = 10_000) -> AuditReport:
    """Check everything, as of one instant. What is younger than `bound_ms` may still be under way.

    Errors of asyncpg pass through: then nothing is known.
    """
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        found = _Audit(connection, now_ms, bound_ms)
        await found.run()
        return found.report()


class _Audit:
    """One run. Stock shards come first: checkouts are compared with what stock says."""

    def __init__(self, connection: asyncpg.pool.PoolConnectionProxy, now_ms: int, bound_ms: int) -> None:
        self._connection = connection
        self._now_ms = now_ms
        self._bound_ms = bound_ms
        self._violations: list[Violation] = []
        self._unnamed = 0
        self._checked = dict.fromkeys(("accounts", "payments", "orders", "journal_records"), 0)
        self._stock = StockTally()
        self._damaged: set[str] = set()  # kinds of which something could not be rebuilt for sure
        self._unread: list[str] = []  # keys of checkouts that could not be
        self._in_journal: list[str] = []  # keys of checkouts that have no snapshot yet
        self._apart: dict[str, asyncpg.Record] = {}  # money at the gateway that no order names

    def report(self) -> AuditReport:
        violations = self._violations
        if self._unnamed:
            text = f"{self._unnamed} more violations are not listed."
            violations = [*violations, Violation("more_violations", "audit", text)]
        return AuditReport(self._checked, violations)

    def _report(self, violation: Violation) -> None:
        if len(self._violations) < NAMED_MOST:
            self._violations.append(violation)
        else:
            self._unnamed += 1

    def _report_all(self, violations: Iterable[Violation]) -> None:
        for violation in violations:
            self._report(violation)

    async def run(self) -> None:
        self._apart = {row["payment_id"]: row for row in await self._join("audit_money_apart")}
        for row in await self._connection.fetch(sql("audit_shards")):
            if row["kind"] in CORES:
                await self._shard(Shard(**row))
        await self._orders_apart()
        self._money_apart()
        if "checkout" not in self._damaged and "stock" not in self._damaged:
            self._report_all(self._stock.leftovers())
        if "stock" not in self._damaged:
            self._report_all(self._stock.totals(orders_known="checkout" not in self._damaged))

    async def _join(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """A query over whole tables.

        On a database too young for statistics the planner would take them for small and loop: 21,000 orders
        took minutes instead of a second. Pages of an audit are looked up without joins.
        """
        await self._connection.execute("SET LOCAL enable_nestloop = off")
        rows: list[asyncpg.Record] = await self._connection.fetch(sql(name), *arguments)
        await self._connection.execute("SET LOCAL enable_nestloop = on")
        return rows

    async def _shard(self, shard: Shard) -> None:
        replay = ShardReplay(self._connection, shard, self._report)
        await replay.read()
        self._checked["journal_records"] += replay.records
        if replay.damaged_seq:
            self._damaged.add(shard.kind)
        async for page in replay.entities():
            if any(not rebuilt.certain for rebuilt in page):
                self._damaged.add(shard.kind)
            if shard.kind == "stock":
                self._take_stock(shard, page)
            elif shard.kind == "checkout":
                await self._checkouts(shard, page)
        if shard.kind == "checkout":
            self._unread += [identifier for _, identifier in replay.unread]
            self._in_journal += [identifier for _, identifier in replay.in_journal]

    def _take_stock(self, shard: Shard, page: Sequence[Rebuilt]) -> None:
        for (_, identifier), state, certain in page:
            match state:
                case Stock():
                    self._checked["accounts"] += 1
                    self._stock.account(identifier, state.figures)
                case Hold():
                    found = self._stock.hold(state, self._now_ms, shard.taken_at_ms, self._bound_ms)
                    self._report_all(found if certain else ())

    def _is_late(self, shard: Shard, since_ms: int) -> bool:
        """Whether something that began then should be done: the bound is one of healthy running."""
        return self._now_ms - max(since_ms, shard.taken_at_ms) > self._bound_ms

    # ── checkouts, with their orders and payments ───────────────────────────────────────────────────────

    async def _checkouts(self, shard: Shard, page: Sequence[Rebuilt]) -> None:
        states: list[tuple[Checkout, bool]] = [
            (state, certain) for _, state, certain in page if isinstance(state, Checkout)
        ]
        by_checkout, by_order = await self._rows_of([state for state, _ in states])
        books = await self._books_of([state for state, _ in states])
        for state, certain in states:
            rows = by_checkout.get(state.id) or (by_order.get(state.order.id) if state.order else None)
            self._order(state, rows, certain=certain)
            self._payments(shard, state, books, certain=certain)
            if certain and "stock" not in self._damaged:
                late = self._is_late(shard, state.updated_at_ms)
                self._report_all(self._stock.checkout(state, late=late))

    async def _rows_of(self, states: Sequence[Checkout]) -> tuple[dict[str, OrderRows], dict[str, OrderRows]]:
        checkouts = [state.id for state in states]
        orders = [state.order.id for state in states if state.order is not None]
        rows = await self._read_orders(checkouts, orders)
        return {row.checkout_id: row for row in rows}, {row.order_id: row for row in rows}

    async def _read_orders(self, checkouts: Sequence[str], orders: Sequence[str]) -> list[OrderRows]:
        confirmed = await self._connection.fetch(sql("audit_orders"), checkouts, orders)
        found = [row["order_id"] for row in confirmed]
        rows = await self._connection.fetch(sql("audit_order_states"), found)
        states = {row["order_id"]: row for row in rows}
        entries: dict[str, list[int]] = defaultdict(list)
        for row in await self._connection.fetch(sql("audit_order_entries"), found):
            entries[row["order_id"]].append(row["n"])
        return [_order_rows(row, states.get(row["order_id"]), entries[row["order_id"]]) for row in confirmed]

    async def _books_of(self, states: Sequence[Checkout]) -> dict[str, list[Fact]]:
        payments = [leg.id for state in states for leg in state.legs if leg.gateway == _AUDITED_GATEWAY]
        facts: dict[str, list[Fact]] = defaultdict(list)
        for row in await self._connection.fetch(sql("audit_book"), payments):
            facts[row["payment_id"]].append(Fact(*row))
        return facts

    def _order(self, state: Checkout, rows: OrderRows | None, *, certain: bool) -> None:
        if state.order is not None:
            if rows is None:
                self._report(audit_orders.missing(state))
                return
            self._checked["orders"] += 1
            self._report_all(audit_orders.row_violations(rows, state if certain else None))
        elif rows is not None:
            self._checked["orders"] += 1
            if certain:
                text = f"There is an order, but {state.id} has placed none ({state.phase})."
                self._report(Violation("order_unknown", rows.order_id, text))

    def _payments(self, shard: Shard, state: Checkout, books: Mapping[str, Sequence[Fact]], *, certain: bool) -> None:
        for leg in state.legs:
            if leg.gateway != _AUDITED_GATEWAY:
                continue
            self._checked["payments"] += 1
            book = audit_money.add_up(books.get(leg.id, ()))
            self._report_all(audit_money.book_violations(leg.id, book))
            if certain:
                self._apart.pop(leg.id, None)  # it is this checkout's business, and judged here
                self._report_all(audit_money.leg_violations(state, leg, book))
        if certain:
            confirmed_at_ms = state.order.confirmed_at_ms if state.order is not None else None
            found = audit_money.settlement_violations(
                state,
                late=self._is_late(shard, state.updated_at_ms),
                confirmed_late=self._is_late(shard, confirmed_at_ms or state.updated_at_ms),
            )
            self._report_all(found)

    # ── what no checkout has ────────────────────────────────────────────────────────────────────────────

    async def _orders_apart(self) -> None:
        """Orders that did not come by with their checkouts."""
        found = await self._join("audit_orders_apart", self._unread, self._in_journal)
        unread = set(self._unread)
        for row in await self._read_orders([], [row["order_id"] for row in found]):
            self._checked["orders"] += 1
            self._report_all(audit_orders.row_violations(row, None))
            if ids.body(row.checkout_id) not in unread and "checkout" not in self._damaged:
                self._report(Violation("order_unknown", row.order_id, f"There is no {row.checkout_id}."))

    def _money_apart(self) -> None:
        """Money at the gateway that belongs to no order and to no checkout under way."""
        for payment_id, row in self._apart.items():
            if row["captured"]:
                money = f"{row['captured']} {row['currency']}"
                text = f"{money} are captured for {row['checkout_id']}, but no order names this payment."
                self._report(Violation("capture_without_order", payment_id, text))
            elif "checkout" not in self._damaged:
                text = f"It is authorized for {row['checkout_id']}, but no checkout has this payment."
                self._report(Violation("authorization_unknown", payment_id, text))


def _order_rows(row: asyncpg.Record, state: asyncpg.Record | None, entries: Sequence[int]) -> OrderRows:
    """What the tables have of one order. Columns are named as the fields are."""
    confirmed = dict(row)
    intact = confirmed.pop("crc") == order_crc(row["order_id"], row["body"].encode())
    stands = dict(state) if state is not None else dict.fromkeys(("version", "status", "payment_status", "state"))
    return OrderRows(**(stands | confirmed), intact=intact, entries=entries)
