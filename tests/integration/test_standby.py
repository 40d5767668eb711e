"""Two Postgres, one the synchronous standby of the other: what a buyer was told survives the loss of the first.

Both are real servers, killed, stopped and promoted as an operator would; the engine on them is the real one. That the
guarantee comes from the synchronous standby and from nothing else is shown by taking it away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from persistence.journal import PostgresJournal
from tests.support.engine_facts import assert_consistent, moved, sold
from tests.support.engine_harness import Engine, engine, until
from tests.support.postgres_pair import Pair, Postgres, postgres_pair
from tests.support.server import eventually
from tests.support.shard_owner import ShardOwner, make_shard
from tests.support.unending_sale import AT_ONCE, SKU, UnendingSale, bought_again, buy, order_ids, unending_sale
from tests.unit.toy_shard import SHARD

SHARDS = ("stock-0", "cart-0", "checkout-0")
STALL_S = 0.5  # after which a client takes a silent connection for lost


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pristine(tmp_path_factory: pytest.TempPathFactory) -> Postgres:
    """A cluster to be copied, for initdb and migrations take long."""
    return await Postgres.create(tmp_path_factory.mktemp("pristine") / "data")


@pytest.fixture
async def pair(pristine: Postgres, tmp_path: Path) -> AsyncIterator[Pair]:
    """Two servers that a test may kill."""
    async with postgres_pair(pristine, tmp_path) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def steady_pair(pristine: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Two servers for tests that leave them running."""
    async with postgres_pair(pristine, tmp_path_factory.mktemp("steady")) as started:
        yield started


@asynccontextmanager
async def selling(dsn: str) -> AsyncIterator[tuple[Engine, UnendingSale]]:
    """An engine, and buyers at it."""
    async with engine(dsn, latency_ms="1-10", gateway_timeout_s=1.0) as e:
        await e.shelve({SKU: 10_000})
        async with unending_sale(e) as sale:
            yield e, sale


async def stored_orders(server: Postgres) -> set[str]:
    return set(await server.value("SELECT coalesce(array_agg(order_id), '{}') FROM orders"))


# ── the primary is lost ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("waits", [False, True], ids=["both are well", "commits wait for the standby"])
async def test_no_acknowledged_order_is_lost_with_the_primary(pair: Pair, waits: bool) -> None:
    """Killed in mid-sale, the standby promoted: the engine finds it by itself, and everybody has one order and has paid
    once. An engine that starts there gives every key its first answer again, and sells on."""
    async with selling(pair.dsn) as (e, sale):
        await sale.answered(20)
        with pair.standby.cut_off() if waits else nullcontext():
            if waits:
                await waiting(pair.primary)
            acknowledged = dict(sale.answers)
            pair.primary.kill()
        pair.standby.promote()
        assert order_ids(acknowledged) <= await stored_orders(pair.standby)
        await sale.answered(20)
        answers = await sale.close()
        await e.settled()
        await sold_once(e, len(answers))
    async with engine(pair.standby.dsn) as e:
        assert await bought_again(e, answers) == answers
        await buy(e, "somebody else")
        await e.settled()
        await sold_once(e, len(answers) + 1)


async def sold_once(e: Engine, orders: int) -> None:
    """So many orders of one unit, each paid once, and the audit finds nothing."""
    assert await sold(e, SKU) == (orders, 0)
    assert await e.pool.fetchval("SELECT count(*) FROM orders") == orders
    assert await moved(e) == {"authorization": orders, "capture": orders}
    await assert_consistent(e)


async def test_a_primary_that_comes_back_acknowledges_nothing(pair: Pair) -> None:
    """Of two primaries only one has a standby to wait for, or none: a shard's owner at the other one never hears."""
    async with engine(pair.dsn) as e:
        await e.shelve({SKU: 1})
    pair.primary.kill()
    pair.standby.promote()
    pair.primary.start()
    async with asyncpg.create_pool(pair.primary.dsn, min_size=1, max_size=3) as pool:
        owners = [asyncio.create_task(PostgresJournal(pool).take(shard)) for shard in SHARDS]
        await waiting(pair.primary, len(SHARDS))
        assert not any(owner.done() for owner in owners)
        async with engine(pair.standby.dsn) as e:
            assert (await e.express({SKU: 1})).status == 200
        assert not any(owner.done() for owner in owners)
        pool.terminate()
        await asyncio.wait(owners)


# ── the standby is away ─────────────────────────────────────────────────────────────────────────────────


async def waiting(primary: Postgres, commits: int = 1) -> None:
    """Until so many commits wait for the standby at least."""

    async def are_waiting() -> bool:
        return await primary.waiting_for_standby() >= commits

    await eventually(are_waiting, "commits that wait for the standby")


async def test_nothing_is_acknowledged_that_no_standby_has(steady_pair: Pair) -> None:
    """While nothing arrives there buyers wait: whoever was told of an order has it there. Then the sale goes on."""
    async with selling(steady_pair.dsn) as (e, sale):
        await sale.answered(20)
        with steady_pair.standby.cut_off():
            await waiting(steady_pair.primary)
            assert order_ids(sale.answers) <= await stored_orders(steady_pair.standby)
        await sale.answered(20)
        answers = await sale.close()
        await e.settled()
        await sold_once(e, len(answers))


async def test_without_a_synchronous_standby_acknowledged_orders_are_lost(pristine: Postgres, tmp_path: Path) -> None:
    """The same cut, the same death: buyers were told of orders that nobody has any more."""
    async with postgres_pair(pristine, tmp_path, synchronous=False) as pair:
        async with selling(pair.primary.dsn) as (_, sale):
            await sale.answered(20)
            with pair.standby.cut_off():
                acknowledged = await sale.answered(20)
                pair.primary.kill()
                pair.standby.kill()
        pair.standby.start()
        pair.standby.promote()
        assert len(order_ids(acknowledged) - await stored_orders(pair.standby)) >= 20 - AT_ONCE


async def test_a_wait_for_the_standby_that_is_given_up_is_no_acknowledgement(steady_pair: Pair) -> None:
    """Whoever gives up ends the wait, and the primary alone has the record, for all to see: the writer takes it for an
    append of unknown outcome, and tells nobody."""
    patient = asyncpg.create_pool(steady_pair.primary.dsn, min_size=1, max_size=1)
    hasty = asyncpg.create_pool(steady_pair.primary.dsn, min_size=1, max_size=3, command_timeout=STALL_S)
    async with patient as direct, hasty as pool:
        await make_shard(direct)
        owner = await ShardOwner(PostgresJournal(pool)).start()
        with steady_pair.standby.cut_off():
            added = owner.add("a")
            await until(lambda: owner.left.is_set() or bool(added.replies))
            count = "SELECT count(*) FROM journal WHERE shard = $1"
            found = [await server.value(count, SHARD) for server in steady_pair]
            assert found == [1, 0]
        assert added.replies == []
        heir = await ShardOwner(PostgresJournal(direct)).start()
        assert heir.totals() == {"a": 1}
        await heir.crash()
