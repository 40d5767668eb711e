"""What is stored is damaged on a real Postgres: recovery comes to the very same world, or says what is wrong and stops.

Never a world in between. What the operator sees is the audit, which names the record or the snapshot; what an actor
says when it refuses to start names it too.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from random import Random
from typing import Any, NamedTuple

import asyncpg
import pytest
import pytest_asyncio

from actors.cores import CartCore, CheckoutCore, Core, StockCore
from actors.event_sourced import EventSourced
from domain.cart_model import CartPolicy
from domain.checkout_model import Policy
from domain.messages import Key
from persistence.audit import audit
from persistence.journal import Corrupt, PostgresJournal
from tests.support.databases import copied, dsn_of
from tests.support.engine_harness import Engine, clock_ms, engine

pytestmark = pytest.mark.usefixtures("written_at_once")

CORES: dict[str, Core] = {
    "stock-0": StockCore(),
    "cart-0": CartCore(CartPolicy()),
    "checkout-0": CheckoutCore(Policy()),
}
Worlds = dict[str, dict[Key, Any]]


async def recovered(pool: asyncpg.Pool, shard: str) -> dict[Key, Any]:
    """What an actor of the shard would have in memory."""
    writer = EventSourced(shard, CORES[shard], PostgresJournal(pool), clock_ms)
    await writer.recover()
    return dict(writer.world)


async def _do_business(e: Engine, still_open: int) -> None:
    """Orders and carts, and one more checkout that stays open."""
    for _ in range(4):
        started = await e.start_checkout(cart_id=await e.create_cart({"A": 1, "B": 1}))
        await e.complete(started.checkout.id)
    assert (await e.start_checkout(cart_id=await e.create_cart({"B": 2}))).status == 201
    await e.settled(still_open=still_open)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(postgres_dsn: str, migrated_template: str) -> AsyncIterator[tuple[str, Worlds]]:
    """The name of a database in which a shop has stopped, its journals cut once, and what its actors had in memory."""
    async with copied(postgres_dsn, migrated_template) as name:
        async with engine(dsn_of(postgres_dsn, name)) as e:
            await e.shelve({"A": 100, "B": 100}, price=1000)
            for n in range(1, 5):
                await _do_business(e, still_open=n)
                await e.kill()
                await e.start()  # the first flush of an incarnation looks how far the journal may be cut
            await e.kill()
            worlds = {shard: await recovered(e.pool, shard) for shard in CORES}
        yield name, worlds


class Copy(NamedTuple):
    """A copy of the shop's database, and what its actors should find."""

    pool: asyncpg.Pool
    dsn: str
    worlds: Worlds

    async def stored(self) -> list[Any]:
        """All that is stored of journals and snapshots, and where they end."""
        tables = ("TABLE journal ORDER BY shard, seq", "TABLE entity ORDER BY shard, kind, id")
        shards = "SELECT id, head, tail FROM shard ORDER BY id"
        return [await self.pool.fetch(query) for query in (*tables, shards)]

    async def named(self) -> set[tuple[str, str]]:
        """What the operator is told: codes and subjects."""
        return {(found.code, found.subject) for found in (await audit(self.pool, clock_ms())).violations}


@pytest.fixture
async def copy(postgres_dsn: str, shop: tuple[str, Worlds]) -> AsyncIterator[Copy]:
    async with copied(postgres_dsn, shop[0]) as name:
        dsn = dsn_of(postgres_dsn, name)
        async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
            yield Copy(pool, dsn, shop[1])


async def test_the_shop_is_whole_before_it_is_damaged(copy: Copy) -> None:
    """Its journals are cut, and its snapshots have two generations: else the damages below would show little."""
    assert await copy.named() == set()
    assert await copy.pool.fetchval("SELECT min(tail) FROM shard WHERE id <> 'cart-0'") > 1
    kinds = "SELECT array_agg(DISTINCT kind ORDER BY kind) FROM entity WHERE prev_seq IS NOT NULL AND NOT resting"
    assert {"account", "hold"} <= set(await copy.pool.fetchval(kinds))
    for shard, world in copy.worlds.items():
        assert await recovered(copy.pool, shard) == world


# ── the journal ─────────────────────────────────────────────────────────────────────────────────────────


class Damage(NamedTuple):
    """``statement`` returns the first harmed seq of shard $1; ``says`` is what the actor says of it."""

    statement: str
    says: str
    code: str


LAST = "(SELECT head FROM shard WHERE id = $1)"
MIDDLE = "(SELECT (head + tail) / 2 FROM shard WHERE id = $1)"
DAMAGES = {
    "the last record is torn": Damage(
        f"UPDATE journal SET events = substr(events, 1, length(events) / 2) WHERE shard = $1 AND seq = {LAST}"
        " RETURNING seq",
        "journal record {shard}/{seq} is damaged",
        "journal_record_damaged",
    ),
    "the last record is empty": Damage(
        f"UPDATE journal SET events = '' WHERE shard = $1 AND seq = {LAST} RETURNING seq",
        "journal record {shard}/{seq} is damaged",
        "journal_record_damaged",
    ),
    "a record is missing": Damage(
        f"DELETE FROM journal WHERE shard = $1 AND seq = {MIDDLE} RETURNING seq",
        "journal record {shard}/{seq} is missing",
        "journal_record_missing",
    ),
    "the first record is missing": Damage(
        "DELETE FROM journal WHERE shard = $1 AND seq = (SELECT tail FROM shard WHERE id = $1) RETURNING seq",
        "journal record {shard}/{seq} is missing",
        "journal_record_missing",
    ),
    "the tail is cut off": Damage(
        f"WITH cut AS (DELETE FROM journal WHERE shard = $1 AND seq > {LAST} - 3 RETURNING seq)"
        " SELECT min(seq) FROM cut",
        "journal of {shard} ends at {before}, but its head is",
        "journal_record_missing",
    ),
    "the head is ahead of the journal": Damage(
        "UPDATE shard SET head = head + 1 WHERE id = $1 RETURNING head",
        "journal of {shard} ends at {before}, but its head is {seq}",
        "journal_record_missing",
    ),
    "the head is behind the journal": Damage(
        "UPDATE shard SET head = head - 1 WHERE id = $1 RETURNING head + 1",
        "journal of {shard} ends at {seq}, but its head is {before}",
        "journal_record_unexpected",
    ),
    "a record has its neighbour's events": Damage(
        "UPDATE journal j SET events = n.events, count = n.count, crc = n.crc FROM journal n"
        f" WHERE j.shard = $1 AND n.shard = $1 AND j.seq = {MIDDLE} AND n.seq = j.seq + 1 RETURNING j.seq",
        "journal record {shard}/{seq} is damaged",
        "journal_record_damaged",
    ),
    "a record is of another time": Damage(
        f"UPDATE journal SET at_ms = at_ms + 1 WHERE shard = $1 AND seq = {MIDDLE} RETURNING seq",
        "journal record {shard}/{seq} is damaged",
        "journal_record_damaged",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("shard", CORES)
async def test_a_damaged_journal_is_named_and_nothing_is_done_with_it(copy: Copy, shard: str, damage: Damage) -> None:
    """The actor does not start, and changes nothing on its way out; once the damage is mended, all is as it was."""
    await copy.pool.execute("CREATE TABLE kept_journal AS TABLE journal; CREATE TABLE kept_shard AS TABLE shard")
    seq = await copy.pool.fetchval(damage.statement, shard)
    stored = await copy.stored()
    with pytest.raises(Corrupt, match=damage.says.format(shard=shard, seq=seq, before=seq - 1)):
        await recovered(copy.pool, shard)
    assert await copy.stored() == stored
    assert (damage.code, f"{shard}:{seq}") in await copy.named()
    await copy.pool.execute(
        "DELETE FROM journal; INSERT INTO journal TABLE kept_journal;"
        "UPDATE shard SET head = kept.head FROM kept_shard kept WHERE shard.id = kept.id"
    )
    assert await recovered(copy.pool, shard) == copy.worlds[shard]
    assert await copy.named() == set()


@pytest.mark.parametrize("shard", CORES)
async def test_a_flipped_bit_in_any_record_is_named(copy: Copy, shard: str) -> None:
    """Each record in turn, at a place of chance; the others are not suspected."""
    chance = Random(shard)
    flip = "UPDATE journal SET events = set_bit(events, $3, 1 - get_bit(events, $3)) WHERE shard = $1 AND seq = $2"
    records = await copy.pool.fetch("SELECT seq, length(events) AS size FROM journal WHERE shard = $1", shard)
    assert len(records) >= 5
    for seq, size in records:
        bit = chance.randrange(8 * size)
        await copy.pool.execute(flip, shard, seq, bit)
        with pytest.raises(Corrupt, match=rf"^journal record {shard}/{seq} is damaged$"):
            await recovered(copy.pool, shard)
        journal = {found for found in await copy.named() if found[0].startswith("journal")}
        assert journal == {("journal_record_damaged", f"{shard}:{seq}")}
        await copy.pool.execute(flip, shard, seq, bit)
    assert await recovered(copy.pool, shard) == copy.worlds[shard]


async def test_a_shop_with_a_damaged_journal_does_not_open(copy: Copy) -> None:
    """Its actors are not constructed; nothing is sold, nothing is written."""
    await copy.pool.execute(DAMAGES["the last record is torn"].statement, "stock-0")
    stored = await copy.stored()
    with pytest.raises(Corrupt, match="stock-0"):
        async with engine(copy.dsn):
            pass
    assert (await copy.stored())[1:] == stored[1:]


# ── snapshots ───────────────────────────────────────────────────────────────────────────────────────────

AWAKE = "shard = $1 AND NOT resting"
TWICE = f"{AWAKE} AND prev_seq IS NOT NULL"
EITHER = {  # {g}: the generation's columns have this prefix
    "a bit is flipped": "{g}state = set_bit({g}state, 9, 1 - get_bit({g}state, 9))",
    "it is torn": "{g}state = substr({g}state, 1, length({g}state) / 2)",
    "it is empty": "{g}state = ''",
    "its checksum is another": "{g}crc = {g}crc # 1",
}
NEWER = {name: change.format(g="") for name, change in EITHER.items()} | {
    "it says that it is newer": "seq = seq + 1",
    "it is the older one": "state = prev_state, crc = prev_crc",
}
OLDER = {name: change.format(g="prev_") for name, change in EITHER.items()}


@pytest.mark.parametrize("change", NEWER.values(), ids=NEWER)
@pytest.mark.parametrize("shard", ["stock-0", "checkout-0"])
async def test_a_damaged_newer_generation_is_replaced_by_the_older_and_the_journal(
    copy: Copy, shard: str, change: str
) -> None:
    """Of all entities at once: the world is the same, and the audit names each."""
    harmed = await copy.pool.fetch(f"UPDATE entity SET {change} WHERE {TWICE} RETURNING kind || '/' || id", shard)
    assert harmed
    assert await recovered(copy.pool, shard) == copy.worlds[shard]
    assert await copy.named() >= {("snapshot_damaged", row[0]) for row in harmed}


@pytest.mark.parametrize("change", EITHER)
@pytest.mark.parametrize("shard", ["stock-0", "checkout-0"])
async def test_a_snapshot_damaged_in_both_generations_is_named_and_nothing_is_recovered(
    copy: Copy, shard: str, change: str
) -> None:
    victim = f"(SELECT id FROM entity WHERE {TWICE} ORDER BY id LIMIT 1)"
    damage = f"UPDATE entity SET {NEWER[change]}, {OLDER[change]} WHERE shard = $1 AND id = {victim}"
    name = await copy.pool.fetchval(f"{damage} RETURNING kind || '/' || id", shard)
    stored = await copy.stored()
    with pytest.raises(Corrupt, match=f"^snapshot {name} is damaged in both generations$"):
        await recovered(copy.pool, shard)
    assert await copy.stored() == stored
    assert ("snapshot_damaged", name) in await copy.named()


@pytest.mark.parametrize("kind", ["account", "hold"])
async def test_a_snapshot_that_is_lost_altogether_is_no_beginning(copy: Copy, kind: str) -> None:
    """No checksum shows it: what the journal goes on with must have begun, and the figures must add up."""
    world, said = copy.worlds["stock-0"], []
    for key in [key for (of, key), state in world.items() if of == kind and getattr(state, "live", True)]:
        row = await copy.pool.fetchrow("DELETE FROM entity WHERE shard = 'stock-0' AND id = $1 RETURNING *", key)
        try:
            assert await recovered(copy.pool, "stock-0") == world  # the journal has all of it
        except Corrupt as error:
            said.append(str(error))
            assert await copy.named()
        if row is not None:
            await copy.pool.execute("INSERT INTO entity SELECT ($1::entity).*", row)
    assert said
    assert all(re.search("does not add up|neither a snapshot nor a record begins it", words) for words in said)
    assert await recovered(copy.pool, "stock-0") == world


@pytest.mark.parametrize("change", OLDER.values(), ids=OLDER)
async def test_a_damaged_older_generation_is_named_and_concerns_nobody(copy: Copy, change: str) -> None:
    harmed = await copy.pool.fetch(f"UPDATE entity SET {change} WHERE {TWICE} RETURNING kind || '/' || id", "stock-0")
    assert await recovered(copy.pool, "stock-0") == copy.worlds["stock-0"]
    assert await copy.named() >= {("snapshot_damaged", row[0]) for row in harmed}


async def test_a_shop_that_fell_back_sells_on_and_writes_the_damage_over(copy: Copy) -> None:
    """Both generations are written anew in the ordinary course: after some orders the audit finds nothing."""
    await copy.pool.execute(f"UPDATE entity SET state = '' WHERE {TWICE} AND kind = 'account'", "stock-0")
    assert await copy.named()
    async with engine(copy.dsn) as e:
        before = (await e.levels("A")).sold
        orders = 0
        while await copy.named() and orders < 100:
            assert (await e.express({"A": 1, "B": 1})).order.status == "confirmed"
            orders += 1
        assert orders < 100
        assert (await e.levels("A")).sold == before + orders
        await e.kill()
        assert (await recovered(copy.pool, "stock-0"))["account", "sku:A"].figures.confirmed == before + orders
