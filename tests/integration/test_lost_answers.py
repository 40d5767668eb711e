"""A network that loses answers, loses requests, and delivers late, between the engine and a real Postgres.

Whatever a TCP proxy does to one statement: it takes effect once, its caller is told once, and no order is lost,
placed twice or charged twice.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg
import msgspec
import pytest

from domain.payments import Accepted, Unknown
from gateways.sandbox import Sandbox
from persistence.journal import PostgresJournal
from persistence.sandbox_book import SandboxBook
from tests.support.engine_harness import Engine, engine
from tests.support.gateway_calls import authorize, capture, listing, no, ok, retrieve, void
from tests.support.shard_owner import ShardOwner, make_shard
from tests.support.tcp_proxy import Matches, Statement, TcpProxy, Way
from tests.unit.toy_shard import SHARD, Added, Asked, Look, Ring, Total, ToyCore, Wait, answers

ORDER_S = 20.0  # within which an order must have its answer, whatever happens to one statement
STALL_S = 1.0  # after which a client takes a silent connection for lost


def appends(shard: str) -> Matches:
    return lambda statement: "append_flush(" in statement.sql and statement.arguments[0] == shard.encode()


def is_take(statement: Statement) -> bool:
    return "take_shard(" in statement.sql


def asks_for_epoch(statement: Statement) -> bool:
    return statement.sql.startswith("SELECT epoch")


def writes_book(statement: Statement) -> bool:
    return "sandbox_add(" in statement.sql or "sandbox_append(" in statement.sql


@asynccontextmanager
async def pool_of(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """Closed as by the end of its process: some of its connections may lead nowhere."""
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=3, command_timeout=STALL_S)
    try:
        yield pool
    finally:
        pool.terminate()


# ── a shard's append ────────────────────────────────────────────────────────────────────────────────────


class Bench:
    """A shard whose owner talks through the proxy, and a way past the proxy."""

    def __init__(self, proxy: TcpProxy, direct: asyncpg.Pool, owner: ShardOwner) -> None:
        self.proxy = proxy
        self.direct = direct
        self.owner = owner

    async def figures(self) -> tuple[int, int]:
        """The shard's epoch and head."""
        row = await self.direct.fetchrow("SELECT epoch, head FROM shard WHERE id = $1", SHARD)
        return row["epoch"], row["head"]

    async def journal(self) -> dict[int, int]:
        """seq → epoch of every record."""
        return {row["seq"]: row["epoch"] for row in await self.direct.fetch("SELECT seq, epoch FROM journal")}

    async def added(self) -> Counter[bytes]:
        """How often each command's effect is in the journal."""
        decode = msgspec.msgpack.Decoder(list[ToyCore.event_type]).decode
        records = await self.direct.fetch("SELECT events FROM journal")
        events = [event for record in records for event in decode(record["events"])]
        return Counter(event.command_id for event in events if isinstance(event, Added))


@pytest.fixture
async def bench(database: str) -> AsyncIterator[Bench]:
    async with pool_of(database) as direct, TcpProxy(database) as proxy, pool_of(proxy.dsn) as pool:
        await make_shard(direct)
        owner = await ShardOwner(PostgresJournal(pool)).start()
        try:
            yield Bench(proxy, direct, owner)
        finally:
            await owner.crash()


APPEND = appends(SHARD)


class Trouble(NamedTuple):
    """What happens to one append after another, and the epoch under which the record stands in the end."""

    ways: Sequence[Way]
    written_by: int


TROUBLES = {
    "the answer is lost": Trouble([Way.ANSWER_LOST], 1),
    "the answer is torn": Trouble([Way.ANSWER_TORN], 1),
    "the statement never arrives": Trouble([Way.REQUEST_LOST], 2),
    "it never arrives, nor does the next one's answer": Trouble([Way.REQUEST_LOST, Way.ANSWER_LOST], 2),
    "it never arrives, three times": Trouble([Way.REQUEST_LOST] * 3, 4),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
async def test_an_append_of_unknown_outcome_is_applied_once_and_answered_once(bench: Bench, trouble: Trouble) -> None:
    """The writer takes a new epoch and looks at the head; every ticket of the batch gets its one reply."""
    owner = bench.owner
    assert await answers(owner.add("a", 10)) == [Total(10)]
    faults = [bench.proxy.plan(way, APPEND) for way in trouble.ways]
    added, waiting, looked = owner.add("a"), owner.ask(Wait, "a"), owner.ask(Look, "a")
    assert await answers(added, looked) == [Total(11), Total(11)]
    assert all(fault.met.is_set() for fault in faults)
    assert await bench.figures() == (1 + len(faults), 2)
    assert await bench.journal() == {1: 1, 2: trouble.written_by}
    assert await answers(owner.ask(Ring, "a"), waiting) == [Total(11), Total(11)]
    assert waiting.put_off == 1
    assert not owner.left.is_set()
    await same_for_an_heir(bench, {"a": 11}, commands=2)


async def same_for_an_heir(bench: Bench, totals: dict[str, int], commands: int) -> None:
    """What is in the journal, once each, is what an heir finds."""
    added = await bench.added()
    assert (len(added), set(added.values())) == (commands, {1})
    heir = await ShardOwner(PostgresJournal(bench.direct)).start()
    try:
        assert heir.totals() == totals
    finally:
        await heir.crash()


@pytest.mark.parametrize("way", [Way.LATE, Way.STALLED], ids=lambda way: way.value)
async def test_a_statement_that_arrives_under_a_new_epoch_inserts_nothing(bench: Bench, way: Way) -> None:
    """Its owner took the epoch itself, and has not written since: the head alone would let the statement in."""
    late = bench.proxy.plan(way, APPEND)
    again = bench.proxy.plan(Way.STALLED, APPEND)
    added = bench.owner.add("a", 10)
    await again.met.wait()
    assert await bench.figures() == (2, 0)
    late.release()
    await late.over.wait()
    assert (await bench.figures(), await bench.journal()) == ((2, 0), {})
    again.release()
    assert await answers(added) == [Total(10)]
    await same_for_an_heir(bench, {"a": 10}, commands=1)


@pytest.mark.parametrize("way", [Way.LATE, Way.STALLED], ids=lambda way: way.value)
async def test_a_statement_that_arrives_before_it_is_looked_into_is_not_sent_again(bench: Bench, way: Way) -> None:
    """Nobody knows which of the two comes first: the new epoch's head tells."""
    late = bench.proxy.plan(way, APPEND)
    look = bench.proxy.plan(Way.STALLED, is_take)
    added = bench.owner.add("a", 10)
    await look.met.wait()
    late.release()
    await late.over.wait()
    look.release()
    assert await answers(added) == [Total(10)]
    assert (await bench.figures(), await bench.journal()) == ((2, 1), {1: 1})
    await same_for_an_heir(bench, {"a": 10}, commands=1)


async def test_an_owner_whose_look_loses_its_answer_leaves_and_its_heir_has_the_record(bench: Bench) -> None:
    """The epoch that the look took may be anybody's: whoever cannot tell says nothing."""
    bench.proxy.plan(Way.ANSWER_LOST, APPEND)
    bench.proxy.plan(Way.ANSWER_LOST, is_take)
    added = bench.owner.add("a", 10)
    await bench.owner.left.wait()
    assert (added.replies, await bench.journal()) == ([], {1: 1})
    await same_for_an_heir(bench, {"a": 10}, commands=1)


async def test_an_heir_that_wrote_meanwhile_is_not_taken_for_the_owner_itself(bench: Bench) -> None:
    """The head is where the owner's record would be. The owner leaves, and says nothing to anybody."""
    late = bench.proxy.plan(Way.LATE, APPEND)
    look = bench.proxy.plan(Way.STALLED, is_take)
    lost = bench.owner.add("a", 3)
    await look.met.wait()
    heir = await ShardOwner(PostgresJournal(bench.direct)).start()
    assert await answers(heir.add("a", 4)) == [Total(4)]
    look.release()
    await bench.owner.left.wait()
    late.release()
    await late.over.wait()
    assert (lost.replies, await bench.journal()) == ([], {1: 2})
    await heir.crash()
    await same_for_an_heir(bench, {"a": 4}, commands=1)


async def test_a_reset_of_every_connection_between_two_appends_is_met_by_new_ones(bench: Bench) -> None:
    assert await answers(bench.owner.add("a", 10)) == [Total(10)]
    bench.proxy.cut()
    assert await answers(bench.owner.add("a")) == [Total(11)]
    await same_for_an_heir(bench, {"a": 11}, commands=2)


@pytest.mark.parametrize("way", [Way.ANSWER_LOST, Way.ANSWER_TORN, Way.REQUEST_LOST], ids=lambda way: way.value)
async def test_a_batch_without_events_is_asked_about_again(bench: Bench, way: Way) -> None:
    """To ask who owns the shard changes nothing, so a refusal waits for a second question and is told once."""
    fault = bench.proxy.plan(way, asks_for_epoch)
    refused: Asked = bench.owner.ask(Look, "nothing")
    (reply,) = await answers(refused)
    assert (reply.code, fault.met.is_set(), await bench.figures()) == ("not_found", True, (1, 0))


# ── the sandbox's book ──────────────────────────────────────────────────────────────────────────────────

BOOKED = {
    "the answer is lost": Way.ANSWER_LOST,
    "the answer is torn": Way.ANSWER_TORN,
    "the facts never arrive": Way.REQUEST_LOST,
    "the facts arrive late": Way.LATE,
    "the connection stalls": Way.STALLED,
}


@pytest.mark.parametrize("way", BOOKED.values(), ids=BOOKED)
async def test_a_charge_of_unknown_outcome_is_never_a_second_charge(database: str, way: Way) -> None:
    """Authorization and capture, asked for again under their keys; what arrives late finds its place taken."""
    async with pool_of(database) as direct, TcpProxy(database) as proxy, pool_of(proxy.dsn) as pool:
        sandbox, rival = Sandbox(SandboxBook(pool)), Sandbox(SandboxBook(direct))
        for request, answer in ((authorize(), ok("auth", 1)), (capture(), ok("cap", 2))):
            fault = proxy.plan(way, writes_book)
            assert isinstance(await sandbox.call(request), Unknown)
            assert await sandbox.call(request) == answer
            fault.release()
            await fault.over.wait()
            assert await rival.call(request) == answer
        assert await listing(rival) == [("authorization", "succeeded"), ("capture", "succeeded")]
        assert (await retrieve(sandbox)).captured_minor == 1000
        await sandbox.close()


async def test_an_authorization_that_arrives_after_it_was_given_up_finds_a_tombstone(database: str) -> None:
    """The void comes first, and is of a payment that nobody has seen."""
    async with pool_of(database) as direct, TcpProxy(database) as proxy, pool_of(proxy.dsn) as pool:
        sandbox, rival = Sandbox(SandboxBook(pool)), Sandbox(SandboxBook(direct))
        late = proxy.plan(Way.LATE, writes_book)
        assert isinstance(await sandbox.call(authorize()), Unknown)
        assert isinstance(await sandbox.call(void()), Accepted)
        late.release()
        await late.over.wait()
        assert await listing(rival) == [("void", "succeeded")]
        assert await rival.call(authorize(key="b")) == no("payment_voided")
        await sandbox.close()


# ── whole orders ────────────────────────────────────────────────────────────────────────────────────────

WRITERS: dict[str, Matches] = {
    "stock": appends("stock-0"),
    "cart": appends("cart-0"),
    "coordinator": appends("checkout-0"),
    "sandbox": writes_book,
}
LEAST = {"stock": 3, "cart": 2, "coordinator": 5, "sandbox": 2}  # appends of an order


class Trip(NamedTuple):
    """A way, and when a statement that is held arrives after all."""

    way: Way
    arrives_last: bool = False


TRIPS = {
    "answer lost": Trip(Way.ANSWER_LOST),
    "answer torn": Trip(Way.ANSWER_TORN),
    "request lost": Trip(Way.REQUEST_LOST),
    "stalled, and on its way while it is looked into": Trip(Way.LATE),
    "stalled until all is over": Trip(Way.LATE, arrives_last=True),
}


@pytest.mark.parametrize("trip", TRIPS.values(), ids=TRIPS)
@pytest.mark.parametrize("writer", WRITERS)
async def test_an_order_is_placed_and_charged_once_whichever_append_is_disturbed(
    database: str, writer: str, trip: Trip
) -> None:
    """The first append of its writer for one order, the second for the next, until an order has no such append."""
    async with TcpProxy(database) as proxy, engine(proxy.dsn) as e:
        await e.shelve({"A": 100})
        for nth in itertools.count(1):
            cart_id = await e.create_cart({"A": 1})
            fault = proxy.plan(trip.way, WRITERS[writer], nth)
            if not trip.arrives_last:
                fault.release()
            async with asyncio.timeout(ORDER_S):
                started = await e.start_checkout(cart_id=cart_id)
                done = await e.complete(started.checkout.id)
            assert (done.status, done.order.status) == (200, "confirmed")
            await e.settled()
            fault.release()
            if not fault.met.is_set():
                break
            await fault.over.wait()
        assert nth - 1 >= LEAST[writer]
        await placed_once(e, nth)


async def placed_once(e: Engine, orders: int) -> None:
    """So many orders of one unit, one authorization and one capture each, and the audit finds nothing."""
    levels = await e.levels("A")
    assert (levels.sold, levels.reserved) == (orders, 0)
    assert await e.pool.fetchval("SELECT count(*) FROM orders") == orders
    facts = await e.pool.fetch("SELECT type, count(*) FROM sandbox_ledger WHERE status = 'succeeded' GROUP BY type")
    assert dict(map(tuple, facts)) == {"authorization": orders, "capture": orders}
    assert (await e.audit(later_ms=60_000)).as_dict()["violations"] == []
