"""What every `Journal` does: the one in Postgres, and the one in memory that stands for it in tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from actors.patience import patiently
from domain.order import OrderEventRow, OrderRow, OrderStateRow, OutboxRow
from persistence.journal import AppendRejected, Corrupt, Fenced, Flush, Lease, PostgresJournal, Snapshot
from tests.support.memory_journal import Database, MemoryJournal

SHARD = "contract-0"
A, B = ("box", "a"), ("box", "b")


@pytest.fixture
async def journal(dsn: str | None) -> AsyncIterator[Any]:
    if dsn is None:
        yield MemoryJournal(Database(SHARD))
        return
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        await pool.execute("INSERT INTO shard (id, kind) VALUES ($1, 'contract')", SHARD)
        yield PostgresJournal(pool)


def flush(old_head: int, **more: Any) -> Flush:
    fields: dict[str, Any] = {
        "tail": 0,
        "at_ms": 1_000 + old_head,
        "event_count": 1,
        "events": b"e%d" % old_head,
        "snapshots": (),
        "deleted": (),
        "rows": (),
    }
    return Flush(SHARD, old_head, **(fields | more))


def order(n: int, checkout: int | None = None, **more: Any) -> OrderRow:
    fields: dict[str, Any] = {
        "number": "1",
        "owner": "g:1",
        "email_hash": "h",
        "currency": "USD",
        "total": 5,
        "placed_at_ms": 1_000,
        "body": b"{}",
    }
    return OrderRow(f"ord_{n}", f"chk_{checkout or n}", **(fields | more))


def state(
    n: int, version: int = 1, status: str = "confirmed", payment: str = "paid", body: bytes = b"{}"
) -> OrderStateRow:
    return OrderStateRow(f"ord_{n}", version, status, payment, 1_000, body)


def event(n: int, number: int = 1) -> OrderEventRow:
    return OrderEventRow(f"ord_{n}", number, 1_000, "buyer", "placed", b"{}")


def message(n: int, number: int = 1) -> OutboxRow:
    return OutboxRow(f"ord_{n}", number, "mail", b"{}")


async def awake(journal: Any) -> list[Snapshot]:
    return [snapshot async for page in journal.awake(SHARD) for snapshot in page]


async def test_take_and_owns(journal: Any) -> None:
    assert await journal.take(SHARD) == Lease(1, 0, 1)
    assert await journal.owns(SHARD, 1)
    assert await journal.take(SHARD) == Lease(2, 0, 1)
    assert not await journal.owns(SHARD, 1)
    with pytest.raises(Corrupt):
        await journal.take("nowhere")


async def test_who_takes_from_itself_takes_nothing_from_an_heir(journal: Any) -> None:
    await journal.take(SHARD)
    assert await journal.take(SHARD, 1) == Lease(2, 0, 1)
    with pytest.raises(Fenced):
        await journal.take(SHARD, 1)
    assert await journal.owns(SHARD, 2)


async def test_fence(journal: Any) -> None:
    await journal.take(SHARD)
    await journal.append(1, flush(0))
    for epoch, head in ((1, 0), (0, 1), (2, 1), (1, 2)):
        with pytest.raises(Fenced):
            await journal.append(epoch, flush(head, rows=(order(1),), snapshots=(Snapshot(A, 1, b"x"),)))
    assert await awake(journal) == []
    assert await journal.take(SHARD) == Lease(2, 1, 1)
    assert await journal.was_written(flush(0))
    assert not await journal.was_written(flush(0, events=b"other"))
    assert not await journal.was_written(flush(1))


async def test_generations(journal: Any) -> None:
    await journal.take(SHARD)
    await journal.append(1, flush(0, snapshots=(Snapshot(A, 1, b"a1"), Snapshot(B, 1, b"b1", True))))
    assert await awake(journal) == [Snapshot(A, 1, b"a1", False, 0)]
    await journal.append(1, flush(1, snapshots=(Snapshot(A, 2, b"a2"), Snapshot(B, 2, b"b2"))))
    assert await awake(journal) == [Snapshot(A, 2, b"a2", False, 1), Snapshot(B, 2, b"b2", False, 1)]
    await journal.append(1, flush(2, snapshots=(Snapshot(A, 3, b"a3", True),)))
    assert await awake(journal) == [Snapshot(B, 2, b"b2", False, 1)]
    assert await journal.entities(SHARD, [A, ("box", "none")]) == [Snapshot(A, 3, b"a3", True, 0)]
    await journal.append(1, flush(3, snapshots=(Snapshot(A, 4, b"a4"),), deleted=(B,)))
    assert await awake(journal) == [Snapshot(A, 4, b"a4", False, 3)]
    await journal.append(1, flush(4, deleted=(A, B)))
    assert await awake(journal) == []
    assert await journal.entities(SHARD, [A, B]) == []


async def test_what_is_said_to_be_new_and_is_not_is_refused_whole(journal: Any) -> None:
    """A writer that is wrong about what it has stored must not write over it."""
    await journal.take(SHARD)
    await journal.append(
        1, flush(0, snapshots=(Snapshot(A, 1, b"a1", new=True), Snapshot(B, 1, b"b1", True, new=True)))
    )
    for known in (A, B):
        with pytest.raises(AppendRejected):
            await journal.append(1, flush(1, rows=(order(1),), snapshots=(Snapshot(known, 2, b"2", new=True),)))
    assert await awake(journal) == [Snapshot(A, 1, b"a1", False, 0)]
    await journal.append(1, flush(1, rows=(order(1),), snapshots=(Snapshot(A, 2, b"a2"), Snapshot(B, 2, b"b2", True))))
    assert await journal.entities(SHARD, [A, B]) == [Snapshot(A, 2, b"a2", False, 1), Snapshot(B, 2, b"b2", True, 0)]


async def test_tail(journal: Any) -> None:
    await journal.take(SHARD)
    for head in range(5):
        await journal.append(1, flush(head, tail=3 if head == 3 else 0))
    assert await journal.take(SHARD) == Lease(2, 5, 3)
    assert [(r.seq, r.at_ms, r.events) for r in await journal.records(SHARD, 3, 5)] == [
        (3, 1002, b"e2"),
        (4, 1003, b"e3"),
        (5, 1004, b"e4"),
    ]
    await journal.append(2, flush(5, tail=2))
    assert await journal.take(SHARD) == Lease(3, 6, 3)
    for tail, head in ((2, 6), (3, 7), (3, 5), (1, 6)):
        with pytest.raises(Corrupt):
            await journal.records(SHARD, tail, head)


BAD = {
    "order twice": [order(1)],
    "order twice in one": [order(3), order(3, 4)],
    "checkout twice": [order(3, 1)],
    "checkout twice in one": [order(3), order(4, 3)],
    "negative": [order(3, total=-1)],
    "no json": [order(3, body=b"{")],
    "too large": [order(3, total=2**63)],
    "state of nothing": [state(9)],
    "state status": [state(1, 2, "lost")],
    "state payment": [state(1, 2, payment="lost")],
    "state no json": [state(1, 2, body=b"")],
    "event of nothing": [event(9)],
    "event twice": [event(1)],
    "event twice in one": [event(1, 2), event(1, 2)],
    "outbox twice": [message(1)],
    "outbox twice in one": [message(1, 3), message(1, 3)],
    "nul": [order(3, owner="\x00")],
    "separator": [order(3, owner="a\x1fb")],
}


@pytest.mark.parametrize("rows", BAD.values(), ids=BAD)
async def test_rows_refused(journal: Any, rows: list[Any]) -> None:
    await journal.take(SHARD)
    await journal.append(1, flush(0, rows=(order(1), state(1), event(1), message(1))))
    with pytest.raises(AppendRejected):
        await journal.append(1, flush(1, rows=(order(2), *rows), snapshots=(Snapshot(A, 2, b"a"),), tail=2))
    assert await journal.take(SHARD) == Lease(2, 1, 1)
    assert await awake(journal) == []
    await journal.append(
        2, flush(1, rows=(event(2), order(2), message(9), state(1, 3), state(1, 2), state(1, 1, "shipped")))
    )


# ── what only Postgres says ─────────────────────────────────────────────────────────────────────────────

TRIGGER = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never'; END $$;
    CREATE TRIGGER refuse BEFORE UPDATE ON order_state FOR EACH ROW EXECUTE FUNCTION refuse();
"""


async def test_what_a_trigger_refuses_is_rejected(database: str) -> None:
    """A row that will never be taken is its command's fault, not an outage and not the end of the writer."""
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as pool:
        await pool.execute("INSERT INTO shard (id, kind) VALUES ($1, 'contract')", SHARD)
        await pool.execute(TRIGGER)
        journal = PostgresJournal(pool)
        await journal.take(SHARD)
        await journal.append(1, flush(0, rows=(order(1), state(1))))
        with pytest.raises(AppendRejected, match="never"):
            await journal.append(1, flush(1, rows=(state(1, 2),)))
        assert await journal.take(SHARD) == Lease(2, 1, 1)


async def test_rows_about_former_orders_find_them_by_index(database: str) -> None:
    """A plan kept from the first order on must not read all orders at every flush of the busiest day."""
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        await pool.execute("INSERT INTO shard (id, kind) VALUES ($1, 'contract')", SHARD)
        journal = PostgresJournal(pool)
        await journal.take(SHARD)
        await journal.append(1, flush(0, rows=[order(n) for n in range(2_000)]))
        scans_before = await _sequential_scans(pool)
        for head in range(1, 9):
            await journal.append(1, flush(head, rows=[event(n, head) for n in range(10)]))
        assert await _sequential_scans(pool) == scans_before


async def _sequential_scans(pool: asyncpg.Pool) -> int:
    """Of orders; the pool has one connection, whose own counts are flushed first."""
    await pool.execute("SELECT pg_stat_force_next_flush()")
    return await pool.fetchval("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'orders'")


FAULTS = {
    "undefined function": ("DROP FUNCTION {}", None, asyncpg.UndefinedFunctionError),
    "no permission": ("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC", "pg_monitor", asyncpg.InsufficientPrivilegeError),
}


@pytest.mark.parametrize(("statement", "role", "error"), FAULTS.values(), ids=FAULTS)
async def test_what_waiting_does_not_mend_is_raised_at_once(
    database: str, statement: str, role: str | None, error: type[Exception]
) -> None:
    """Neither an outage nor a rejection: whoever tried it again and again would hide it for ever."""
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as owners:
        for function in ("take_shard", "append_flush"):
            await owners.execute(statement.format(function))
    settings = {"role": role} if role else {}
    async with asyncpg.create_pool(database, min_size=1, max_size=2, server_settings=settings) as pool:
        journal = PostgresJournal(pool)
        with pytest.raises(error):
            await journal.append(1, flush(0))
        with pytest.raises(error):
            await asyncio.wait_for(patiently(SHARD, lambda: journal.take(SHARD)), 5)


async def test_unknown_row(journal: Any) -> None:
    await journal.take(SHARD)
    with pytest.raises(TypeError):
        await journal.append(1, flush(0, rows=("what",)))
