"""The sandbox gateway's book in Postgres: what its constraints refuse, and how it tells of an outage."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.payments import BookEntry
from persistence.sandbox_book import SandboxBook

FACT = BookEntry(
    payment_id="pay_1",
    n=1,
    id="auth_1_1",
    type="authorization",
    status="succeeded",
    code="",
    authorization_id=None,
    checkout_id="chk_1",
    amount_minor=1000,
    currency="USD",
    token="pm_card_visa",
    idempotency_key="k1",
    fingerprint=b"\x00\xff",
    created_at_ms=1_700_000_000_123,
)


def fact(**changes: object) -> BookEntry:
    return msgspec.structs.replace(FACT, **changes)


def place(entry: BookEntry) -> tuple[str, int]:
    return entry.payment_id, entry.n


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=4) as pool:
        yield pool


@pytest.fixture
def book(pool: asyncpg.Pool) -> SandboxBook:
    return SandboxBook(pool)


@asynccontextmanager
async def rival(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection inside a transaction, committed at the end."""
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def insert(connection: asyncpg.Connection, payment_id: str) -> None:
    await connection.execute(
        "INSERT INTO sandbox_ledger (payment_id, n, id, type, status, code, checkout_id, amount_minor,"
        " currency, token, fingerprint, created_at)"
        " VALUES ($1, 1, 'rival', 'void', 'succeeded', '', '', 0, '', '', '', now())",
        payment_id,
    )


async def until_blocked(connection: asyncpg.Connection) -> int:
    """The backend that waits for a lock of this connection's transaction, as soon as there is one."""
    query = "SELECT pid FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    while (pid := await connection.fetchval(query)) is None:
        await connection.execute("SELECT pg_stat_clear_snapshot()")
    return pid


async def test_a_fact_comes_back_as_it_was_written(book: SandboxBook) -> None:
    """To the millisecond, by payment, by key and in the listing; only `seq` is new."""
    assert await book.append([FACT]) == {"pay_1"}
    (by_payment,) = await book.recall(["pay_1"], [])
    (by_key,) = await book.recall([], ["k1"])
    (listed,) = await book.entries(0, 10)
    assert by_payment == by_key == listed
    assert by_payment.seq > 0
    assert msgspec.structs.replace(by_payment, seq=0) == FACT


async def test_a_token_with_a_control_character_is_written_as_it_is(book: SandboxBook) -> None:
    """Whatever a buyer sends is the gateway's to judge; here it parts columns, so it goes the slower way."""
    odd = [fact(payment_id=f"pay_{i}", idempotency_key=None, token=token) for i, token in enumerate(["\x1f", "\x1e"])]
    assert await book.append(odd) == {"pay_0", "pay_1"}
    assert [entry.token for entry in await book.recall(["pay_0", "pay_1"], [])] == ["\x1f", "\x1e"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(times_ms=st.lists(st.integers(0, 4_102_444_800_000), min_size=1, max_size=50))
def test_times_keep_their_millisecond(database: str, times_ms: list[int]) -> None:
    async def round_trip() -> list[int]:
        async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
            await pool.execute("TRUNCATE sandbox_ledger")
            facts = [
                fact(payment_id=f"pay_{i:02}", idempotency_key=None, created_at_ms=t) for i, t in enumerate(times_ms)
            ]
            await SandboxBook(pool).append(facts)
            return [entry.created_at_ms for entry in await SandboxBook(pool).entries(0, 100)]

    assert asyncio.run(round_trip()) == times_ms


TAKEN = [
    ("the place", fact(idempotency_key="k2", id="auth_1_1b")),
    ("the key, by the same payment", fact(n=2)),
    ("the key, by another payment", fact(payment_id="pay_2")),
]


@pytest.mark.parametrize("late", [row[1] for row in TAKEN], ids=[row[0] for row in TAKEN])
async def test_what_is_taken_is_refused_and_its_neighbours_are_kept(book: SandboxBook, late: BookEntry) -> None:
    await book.append([FACT])
    neighbour = fact(payment_id="pay_9", idempotency_key="k9")
    assert await book.append([late, neighbour]) == {"pay_9"}
    facts = await book.recall([late.payment_id, "pay_1", "pay_9"], [])
    assert [place(entry) for entry in facts] == [("pay_1", 1), ("pay_9", 1)]
    assert facts[0].idempotency_key == "k1"


async def test_a_key_twice_in_one_group_is_kept_once(book: SandboxBook) -> None:
    kept = await book.append([FACT, fact(payment_id="pay_2")])
    assert len(kept) == 1
    assert [entry.payment_id for entry in await book.recall([], ["k1"])] == list(kept)


@pytest.mark.parametrize("second", ["capture", "void"])
async def test_an_authorization_is_spent_once_whatever_the_gateway_thinks(book: SandboxBook, second: str) -> None:
    """The schema holds it even against a gateway whose own rules are broken."""
    await book.append([FACT])
    assert await book.append([fact(n=2, type="capture", idempotency_key="k2")]) == {"pay_1"}
    assert await book.append([fact(n=3, type=second, idempotency_key="k3")]) == set()
    assert await book.append([fact(n=3, type=second, status="declined", idempotency_key="k3")]) == {"pay_1"}


async def test_two_groups_with_the_same_payments_wait_in_line(book: SandboxBook, database: str) -> None:
    """Whatever their order: a writer that has got the first of them can get the second."""
    async with rival(database) as connection:
        await insert(connection, "pay_1")
        late = asyncio.create_task(
            book.append([fact(payment_id="pay_2", idempotency_key="k2"), fact(payment_id="pay_1")])
        )
        await until_blocked(connection)
        await insert(connection, "pay_2")
    assert await late == set()
    facts = await book.recall(["pay_1", "pay_2"], [])
    assert [entry.id for entry in facts] == ["rival", "rival"]


async def test_a_deadlock_is_told_as_an_outage(book: SandboxBook, database: str) -> None:
    """With a writer that keeps no order: the group of the victim is rolled back whole.

    Who has waited for a second looks whether it is a deadlock and becomes its victim. That is the book, which waits
    first; on a machine so slow that its rival begins to wait a second later, it is the rival, and they meet again.
    """
    for meeting in itertools.count():
        first, second = f"pay_{meeting}_1", f"pay_{meeting}_2"
        group = [fact(payment_id=name, idempotency_key=name) for name in (first, second)]
        try:
            async with rival(database) as connection:
                await insert(connection, second)
                late = asyncio.create_task(book.append(group))
                await until_blocked(connection)
                await insert(connection, first)
            break
        except asyncpg.DeadlockDetectedError:
            assert await late == {first, second}
    with pytest.raises(ConnectionError):
        await late
    facts = await book.recall([first, second], [])
    assert [entry.id for entry in facts] == ["rival", "rival"]


async def test_a_recall_reads_by_index_even_when_it_was_planned_on_an_empty_table(database: str) -> None:
    """A plan kept from the start of a sale must not read the whole book at its height."""
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        book = SandboxBook(pool)
        scans_before = await _sequential_scans(pool)
        for _ in range(10):
            await book.recall(["pay_1"], ["k1"])
        await book.append([fact(payment_id=f"pay_{i}", idempotency_key=f"k{i}") for i in range(2000)])
        for _ in range(10):
            assert len(await book.recall(["pay_1"], ["k2"])) == 2
        assert await _sequential_scans(pool) == scans_before


async def _sequential_scans(pool: asyncpg.Pool) -> int:
    """Of the ledger; the pool has one connection, whose own counts are flushed first."""
    await pool.execute("SELECT pg_stat_force_next_flush()")
    return await pool.fetchval("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'sandbox_ledger'")


async def test_no_postgres_is_a_connection_error(database: str) -> None:
    """The one error the gateway takes for "it may or may not be written"."""
    pool = await asyncpg.create_pool(database, min_size=1, max_size=1)
    book = SandboxBook(pool)
    await book.append([FACT])
    await pool.close()
    with pytest.raises(ConnectionError):
        await book.append([fact(n=2, idempotency_key="k2")])
    with pytest.raises(ConnectionError):
        await book.entries(0, 1)


async def test_a_connection_killed_while_it_writes_is_a_connection_error(book: SandboxBook, database: str) -> None:
    async with rival(database) as connection:
        await insert(connection, "pay_1")
        append = asyncio.create_task(book.append([fact(payment_id="pay_1")]))
        pid = await until_blocked(connection)
        await connection.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(ConnectionError):
            await append
    assert await book.append([fact(n=2)]) == {"pay_1"}


async def test_a_fact_that_cannot_be_stored_is_a_bug_not_an_outage(book: SandboxBook) -> None:
    with pytest.raises(asyncpg.DataError):
        await book.append([fact(amount_minor="many")])
