"""The audit finds what is broken on purpose, names it, and finds nothing in what is whole, however busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from domain import checkout_model as model
from domain import ids
from domain.checkout_model import Policy
from domain.ledger_events import Account, Dropped, Forgotten, Released
from domain.messages import Refusal
from domain.stock_model import Stock, Take
from persistence.audit import AuditReport, audit
from persistence.journal import Flush, PostgresJournal, order_crc, snapshot_crc
from tests.support.damages import DAMAGES, ORDER, Damage
from tests.support.databases import copied, dsn_of, execute
from tests.support.engine_harness import VISA, Engine, clock_ms, engine, until

pytestmark = pytest.mark.usefixtures("written_at_once")

DECLINED = "pm_card_chargeDeclined"
AUTHENTICATION = "pm_card_authenticationRequired"
POLICY = Policy(review_above_minor=50_000)


async def fill(e: Engine) -> None:
    """Orders paid, canceled, under review; checkouts open, declined, canceled, waiting for a buyer."""
    await e.shelve({"A": 40, "B": 40}, price=1000)
    await e.shelve({"R": 5}, price=60_000)
    for _ in range(4):
        await e.express({"A": 1, "B": 2}, VISA, VISA)
        await e.settled()
    canceled = await e.express({"A": 3})
    await e.settled()
    await e.tell(model.CancelOrder, canceled.checkout.id, reason="", actor="buyer")
    assert (await e.express({"R": 1})).order.status == "pending"
    refused = await e.express({"A": 1}, DECLINED)
    await e.complete(refused.extra["checkout_id"])
    await e.express({"B": 1}, DECLINED)
    started = await e.start_checkout(cart_id=await e.create_cart({"B": 1}))
    await e.tell(model.Cancel, started.checkout.id, owner="g:guest")
    assert (await e.start_checkout(cart_id=await e.create_cart({"B": 4}))).status == 201
    assert (await e.express({"A": 1}, VISA, AUTHENTICATION)).status == 202
    await e.settled(still_open=3)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def filled(postgres_dsn: str, migrated_template: str) -> AsyncIterator[str]:
    """The name of a database in which a shop has done business and stopped, to be copied."""
    async with copied(postgres_dsn, migrated_template) as name:
        async with engine(dsn_of(postgres_dsn, name), policy=POLICY) as e:
            await fill(e)
        yield name


# What an intruder with the rights of the database's owner would do first.
UNPROTECTED = """
    ALTER TABLE orders DISABLE TRIGGER USER;
    ALTER TABLE order_event DISABLE TRIGGER USER;
"""


@pytest_asyncio.fixture
async def pool(postgres_dsn: str, filled: str) -> AsyncIterator[asyncpg.Pool]:
    """A copy of the shop's database in which everything can be changed."""
    async with copied(postgres_dsn, filled) as name:
        dsn = dsn_of(postgres_dsn, name)
        await execute(dsn, UNPROTECTED)
        async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
            yield pool


async def look(pool: asyncpg.Pool, *, later_ms: int = 60_000) -> AuditReport:
    """The audit of a shop that has stopped, as if it had run on for a minute without doing anything."""
    return await audit(pool, clock_ms() + later_ms)


def found(report: AuditReport) -> set[tuple[str, str]]:
    return {(violation.code, violation.subject) for violation in report.violations}


# ── what is whole ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_whole_shop_is_consistent(pool: asyncpg.Pool) -> None:
    """In the very shape of the contract, with everything counted."""
    records = await pool.fetchval("SELECT sum(head) FROM shard")
    assert (await look(pool)).as_dict() == {
        "consistent": True,
        "checked": {"accounts": 3, "payments": 15, "orders": 7, "journal_records": records},
        "violations": [],
    }


async def test_an_empty_database_is_consistent(database: str) -> None:
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        assert (await look(pool)).consistent


async def test_an_audit_of_a_busy_shop_finds_nothing_while_it_works(database: str) -> None:
    """Whatever instant it sees: orders half-way, cancels under way, an actor that has just died."""
    async with engine(database, latency_ms="1-30", gateway_timeout_s=1.0) as e:
        await e.shelve({"A": 60, "B": 200}, price=1000)

        async def buyer(n: int) -> bool:
            """Whether a checkout is left open."""
            reply = await e.express({"A": 1, "B": 1}, VISA if n % 7 else DECLINED)
            if isinstance(reply, model.CheckoutReply) and n % 3 == 0:
                await e.tell(model.CancelOrder, reply.checkout.id, reason="", actor="buyer")
            return isinstance(reply, Refusal) and reply.code == "payment_failed"

        buyers = asyncio.gather(*(buyer(n) for n in range(140)))
        looks = 0
        while not buyers.done():
            report = await audit(e.pool, clock_ms())
            assert report.violations == []
            looks += 1
            if looks in (3, 6):
                await e.kill("stock-0" if looks == 3 else "checkout-0")
                await e.start()
        assert looks >= 6
        await e.settled(still_open=sum(await buyers))
        assert (await look(e.pool)).violations == []


async def test_an_audit_neither_waits_for_a_writer_nor_holds_one_up(database: str) -> None:
    """It locks nothing: even with everything locked by others but for reading, it goes through."""
    async with engine(database) as e:
        await e.shelve({"A": 1})
        async with e.pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE journal, entity, orders, shard IN EXCLUSIVE MODE")
            assert (await look(e.pool)).consistent


# ── what is broken ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.name for damage in DAMAGES])
async def test_damage_is_named(pool: asyncpg.Pool, damage: Damage) -> None:
    """By its code and its subject, and nothing else is suspected."""
    subject = await do(pool, damage.statements)
    assert found(await look(pool)) == {(code, subject) for code in damage.codes}


async def do(pool: asyncpg.Pool, statements: str) -> str:
    """Run statements, and return what the last one does."""
    async with pool.acquire() as connection, connection.transaction():
        *first, last = statements.split(";")
        for statement in first:
            await connection.execute(statement)
        rows = await connection.fetch(last)
        (returned,) = {row[0] for row in rows}
        return str(returned)


async def test_every_damage_is_named_where_there_is_more_than_one(pool: asyncpg.Pool) -> None:
    """A cut journal does not hide what happened to orders and money."""
    names = [
        "a record in the middle of a journal is cut",
        "an order's total is changed",
        "a capture is doubled under another payment",
        "an entry of an audit trail is gone",
    ]
    expected: set[tuple[str, str]] = set()
    for damage in DAMAGES:
        if damage.name in names:
            subject = await do(pool, damage.statements)
            expected |= {(code, subject) for code in damage.codes}
    await do(pool, "DELETE FROM journal WHERE shard = 'checkout-0' AND seq = 3 RETURNING 1")
    await do(pool, "DELETE FROM journal WHERE shard = 'stock-0' AND seq = 3 RETURNING 1")
    report = found(await look(pool))
    assert report >= {("journal_record_missing", "checkout-0:3"), ("journal_record_missing", "stock-0:3")}
    assert report >= expected


# ── forgeries: what has a valid checksum ────────────────────────────────────────────────────────────────

FORGERIES = [
    ("units appear", lambda a: Account(a.received + 5, a.confirmed, a.held), {"snapshot_disagrees"}),
    (
        "units are sold to nobody",
        lambda a: Account(a.received, a.confirmed + 1, a.held),
        {"snapshot_disagrees", "sold_mismatch"},
    ),
    (
        "units are reserved for nobody",
        lambda a: Account(a.received, a.confirmed, a.held + 1),
        {"snapshot_disagrees", "held_mismatch"},
    ),
    (
        "more is reserved than there is",
        lambda a: Account(a.confirmed, a.confirmed, a.held),
        {"snapshot_disagrees", "account_out_of_bounds"},
    ),
]


@pytest.mark.parametrize(("forge", "codes"), [row[1:] for row in FORGERIES], ids=[row[0] for row in FORGERIES])
async def test_forged_figures_are_named(
    pool: asyncpg.Pool, forge: Callable[[Account], Account], codes: set[str]
) -> None:
    """A snapshot rewritten with a checksum that fits: journal, holds and orders tell otherwise."""
    row = await pool.fetchrow("SELECT seq, state FROM entity WHERE id = 'sku:A'")
    stock = msgspec.msgpack.decode(row["state"], type=Stock)
    forged = msgspec.structs.replace(stock, figures=forge(stock.figures))
    state = msgspec.msgpack.encode(forged)
    crc = snapshot_crc(("account", "sku:A"), row["seq"], state)
    await pool.execute("UPDATE entity SET state = $1, crc = $2 WHERE id = 'sku:A'", state, crc)
    subjects = {(code, "account/sku:A" if code.startswith("snapshot") else "A") for code in codes}
    assert found(await look(pool)) == subjects


async def test_a_forged_order_is_named(pool: asyncpg.Pool) -> None:
    """Another body under a checksum that fits is still not what the saga confirmed."""
    row = await pool.fetchrow(f"SELECT order_id, body::text AS body FROM orders WHERE order_id = {ORDER}")
    body = row["body"].replace('"The A"', '"The Z"')
    statement = "UPDATE orders SET body = $2::text::json, crc = $3 WHERE order_id = $1"
    await pool.execute(statement, row["order_id"], body, order_crc(row["order_id"], body.encode()))
    (violation,) = (await look(pool)).violations
    assert (violation.code, violation.subject) == ("order_altered", row["order_id"])
    assert "line_items" in violation.detail
    assert "checksum" not in violation.detail


# ── what is late ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_hold_that_no_checkout_has_is_orphaned(database: str) -> None:
    async with engine(database) as e:
        await e.shelve({"A": 5})
        now_ms = clock_ms()
        take = Take(
            command_id=b"",
            hold_id="0123456789abcdef",
            revision=1,
            wanted={"sku:A": 2},
            expires_at_ms=now_ms + 900_000,
            issued_at_ms=now_ms,
        )
        await e._routers["stock"].ask_shard("stock-0", take)
        assert found(await look(e.pool)) == {("hold_orphaned", "0123456789abcdef")}


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((Dropped("x"), Released("x", {}, 1)), set()), ((Dropped("x"),), set()), ((Forgotten("x", 1),), {"hold/x"})],
    ids=["forgotten and released again", "forgotten", "neither begun nor ended"],
)
async def test_what_ended_and_was_begun_again_is_no_finding(
    database: str, ends: tuple[Any, ...], expected: set[str]
) -> None:
    """The journal of its first life is cut away: its second one begins it. What goes on must have begun."""
    async with engine(database) as e:
        await e.shelve({"A": 5})
        await e.kill()
        journal = PostgresJournal(e.pool)
        lease = await journal.take("stock-0")
        flush = Flush("stock-0", lease.head, 0, clock_ms(), len(ends), msgspec.msgpack.encode(ends), (), (), ())
        await journal.append(lease.epoch, flush)
        assert found(await look(e.pool)) == {("snapshot_missing", subject) for subject in expected}


async def test_a_hold_beyond_its_time_is_overdue(database: str) -> None:
    """Its time, a minute of grace and the bound; not a second earlier."""
    async with engine(database) as e:
        await e.shelve({"A": 5})
        checkout = (await e.start_checkout({"A": 1})).checkout
        await e.kill()
        over_ms = checkout.reservation_expires_at_ms + 70_000
        assert found(await audit(e.pool, over_ms - 1_000)) == set()
        assert found(await audit(e.pool, over_ms + 1_000)) == {("hold_overdue", ids.body(checkout.id))}


async def test_what_is_not_captured_is_a_violation_once_the_bound_is_over(database: str) -> None:
    """The gateway is gone just after the order was placed."""
    async with engine(database) as e:
        await e.shelve({"A": 5})
        await e.kill("sandbox")
        buyer = asyncio.create_task(e.express({"A": 1}))
        await e.nodes["sandbox"].start()
        e.sandbox.configure(latency_ms="50")
        reply = await buyer
        await e.kill("sandbox")
        payment = reply.checkout.payments[0].id
        assert found(await look(e.pool, later_ms=5_000)) == set()
        assert found(await look(e.pool, later_ms=11_000)) == {("order_not_captured", payment)}


async def test_what_is_not_sold_is_a_violation_once_the_bound_is_over(database: str) -> None:
    """Stock is gone before the order's hold was confirmed."""
    async with engine(database, latency_ms="100") as e:
        await e.shelve({"A": 5})
        buyer = asyncio.create_task(e.express({"A": 1}))
        world: dict[Any, Any] = e.nodes["stock-0"].actor.writer.world
        await until(lambda: any(kind == "hold" for kind, _ in world))
        await until(lambda: bool(e.sandbox._delayed))
        await e.kill("stock-0")
        order_id = (await buyer).order.id
        assert found(await look(e.pool, later_ms=5_000)) == set()
        assert ("units_not_confirmed", order_id) in found(await look(e.pool, later_ms=11_000))


async def test_a_thousand_findings_are_listed_and_the_rest_are_counted(pool: asyncpg.Pool) -> None:
    await do(
        pool,
        "INSERT INTO orders SELECT 'ord_' || n, 'chk_' || lpad(n::text, 26, '0'), number, owner, email_hash,"
        f" currency, total, placed_at, body, crc FROM orders, generate_series(1, 400) AS n"
        f" WHERE order_id = {ORDER};SELECT 1",
    )
    violations = (await look(pool)).violations
    assert len(violations) == 1001
    assert violations[-1].code == "more_violations"
    assert "600" in violations[-1].detail
