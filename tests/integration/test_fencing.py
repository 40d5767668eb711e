"""Two live incarnations of one actor, on real processes and a real Postgres: only the newer one's word counts.

The older one is paused (SIGSTOP) while buyers wait for it, its heir takes the shard over and serves, and then it
is woken. It is the cluster's own actor class, and leaves as that does; only Ray is not there, which would have
ended it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import psutil
import pytest

from cluster import directory
from tests.support.fencing_world import CartCase, Case, CheckoutCase, OrderCase, StockCase
from tests.support.incarnation import Incarnation, Shard
from tests.support.incarnation_process import DECIDED, SENT
from tests.support.server import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(60)]

IDLE = "idle"
LEFT = 1  # the exit code of an actor that was fenced


class Database:
    """What Postgres says of one shard, and of whoever is connected."""

    def __init__(self, pool: asyncpg.Pool, shard: str) -> None:
        self._pool = pool
        self._shard = shard

    async def owner(self) -> tuple[int, int]:
        """(epoch, head)"""
        row = await self._pool.fetchrow("SELECT epoch, head FROM shard WHERE id = $1", self._shard)
        return row["epoch"], row["head"]

    async def writers(self) -> dict[int, int]:
        """The epoch of each record from the tail to the head. None is missing."""
        records = "SELECT seq, epoch FROM journal WHERE shard = $1 ORDER BY seq"
        bounds = "SELECT tail, head FROM shard WHERE id = $1"
        # Both as of one instant: the heir may be writing.
        async with self._pool.acquire() as one, one.transaction(isolation="repeatable_read", readonly=True):
            rows = await one.fetch(records, self._shard)
            tail, head = await one.fetchrow(bounds, self._shard)
        assert [row["seq"] for row in rows] == list(range(tail, head + 1))
        return {row["seq"]: row["epoch"] for row in rows}

    async def wrote_after(self, epoch: int, head: int) -> list[int]:
        """The records above that head which an owner of that epoch wrote."""
        return [seq for seq, writer in (await self.writers()).items() if seq > head and writer == epoch]

    async def orders(self) -> int:
        return int(await self._pool.fetchval("SELECT count(*) FROM orders"))

    async def finished(self) -> int:
        """Checkouts at rest."""
        return int(await self._pool.fetchval("SELECT count(*) FROM entity WHERE resting AND kind = 'checkout'"))

    async def resume(self, name: str) -> None:
        """The servers' ends of that incarnation's connections go on."""
        rows = await self._pool.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = $1", name)
        for row in rows:
            psutil.Process(row["pid"]).resume()

    async def has_appended(self, name: str, since: Any) -> bool:
        """Whether an append of that incarnation, begun after `since`, has come to its end."""
        return bool(
            await self._pool.fetchval(
                "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name = $1"
                " AND state = 'idle' AND query LIKE '%append_flush%' AND query_start > $2)",
                name,
                since,
            )
        )

    async def now(self) -> Any:
        return await self._pool.fetchval("SELECT clock_timestamp()")

    async def disconnect(self, name: str) -> None:
        """Cut its connections, with the statement that no backend has read."""
        await self._pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", name
        )
        await self.resume(name)


@pytest.fixture(params=[StockCase, CartCase, CheckoutCase, OrderCase], ids=lambda case: case.__name__)
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param()
    return made


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as pool:
        yield pool


@pytest.fixture
async def shard(database: str, pool: asyncpg.Pool, case: Case) -> AsyncIterator[Shard]:
    await directory.ensure_shards(pool, dict.fromkeys(directory.KINDS, 1))
    shard = Shard(case.kind, database, await directory.claim_namespace(pool), case.do)
    yield shard
    await Database(pool, shard.id).resume("old")
    await shard.close()


@pytest.fixture
def postgres(pool: asyncpg.Pool, shard: Shard) -> Database:
    return Database(pool, shard.id)


async def old_owner(shard: Shard, case: Case, postgres: Database) -> Incarnation:
    """The first incarnation; it has journaled something and has nothing under way."""
    old = await shard.incarnate("old")
    for command in case.before:
        await shard.buyer().ask(command)

    async def settled() -> bool:
        return await postgres.finished() == case.units[0]

    await eventually(settled, "what came before at rest")
    return old


async def expect(shard: Shard, case: Case, postgres: Database, units: int) -> None:
    """Whoever asks now is told of so many units; as many orders are there as were sold."""

    async def arrived() -> bool:
        return case.effect(await shard.buyer().ask(case.look)) == units

    await eventually(arrived, f"{units} units")
    assert await postgres.orders() == (units if case.kind == "checkout" else 0)


@pytest.mark.parametrize(
    ("moment", "heir_writes"),
    # Where the heir has written, the head alone would stop the old one.
    [(IDLE, False), (DECIDED, False), (SENT, False), (SENT, True)],
    ids=["idle", "decided", "sent", "sent, and the heir has written"],
)
async def test_an_owner_that_wakes_after_its_heir_has_served_writes_and_acknowledges_nothing(
    case: Case, shard: Shard, postgres: Database, moment: str, heir_writes: bool
) -> None:
    """Paused between two commands, between decision and append, or with its statement on the way to Postgres.

    It leaves; not even a refusal of its is told; its buyers are served by the heir, each once.
    """
    old = await old_owner(shard, case, postgres)
    began = await postgres.now()
    if moment == IDLE:
        old.stop()
    else:
        old.stop_in_append(moment, with_order=case.with_order)
    written = shard.buyer().ask(case.write)
    await old.stopped()
    asked = shard.buyer().ask(case.ask)
    told, (_, head) = old.replies, await postgres.owner()

    heir = await shard.incarnate("heir")
    refused = await shard.buyer().ask(case.ask)
    if heir_writes:
        assert case.is_done(await shard.buyer().ask(case.other))
    if moment == SENT:
        await postgres.resume("old")
        await eventually(lambda: postgres.has_appended("old", began), "the late statement at its end")
    old.wake()

    assert await old.left() == LEFT
    assert old.replies == told
    assert await postgres.wrote_after(old.epoch, head) == []
    assert case.is_done(await written)
    assert type(await asked) is type(refused)
    await expect(shard, case, postgres, sum(case.units[: 2 + heir_writes]))
    assert heir.exit_code is None
    assert (await postgres.owner())[0] == heir.epoch


async def test_what_was_written_before_the_heir_came_stays_and_is_told_alike_by_both(
    case: Case, shard: Shard, postgres: Database
) -> None:
    """Paused with its statement committed and the answer unread: that much is its own, and nothing after it."""
    old = await old_owner(shard, case, postgres)
    began = await postgres.now()
    old.stop_in_append(SENT, with_order=case.with_order)
    written = shard.buyer().ask(case.write)
    await old.stopped()
    await postgres.resume("old")
    await eventually(lambda: postgres.has_appended("old", began), "the statement at its end")
    asked = shard.buyer().ask(case.ask)
    _, head = await postgres.owner()
    assert await postgres.wrote_after(old.epoch, head - 1) == [head]

    heir = await shard.incarnate("heir")
    reply = await shard.buyer().ask(case.write)
    refused = await shard.buyer().ask(case.ask)
    assert case.is_done(reply)
    old.wake()

    assert await old.left() == LEFT
    assert case.is_done(await written)
    assert type(await asked) is type(refused)
    assert await postgres.wrote_after(old.epoch, head) == []
    await expect(shard, case, postgres, sum(case.units[:2]))
    assert (await postgres.owner())[0] == heir.epoch


async def test_a_lost_connection_does_not_make_an_old_owner_the_owner_again(
    case: Case, shard: Shard, postgres: Database
) -> None:
    """Paused with its statement sent, its connection cut meanwhile: it looks what became of it, and leaves.

    Looking, it takes nothing from its heir, who serves on.
    """
    old = await old_owner(shard, case, postgres)
    old.stop_in_append(SENT, with_order=case.with_order)
    written = shard.buyer().ask(case.write)
    await old.stopped()
    told, (_, head) = old.replies, await postgres.owner()
    await postgres.disconnect("old")

    heir = await shard.incarnate("heir")
    assert case.is_done(await shard.buyer().ask(case.write))
    old.wake()

    assert await old.left() == LEFT
    assert old.replies == told
    assert await postgres.wrote_after(old.epoch, head) == []
    assert case.is_done(await written)
    assert (await postgres.owner())[0] == heir.epoch
    await expect(shard, case, postgres, sum(case.units[:2]))
