"""The whole engine without Ray and HTTP: journeys, the last units, and what a crash at any moment leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from actors import checkout_coordinator
from actors.ports import MailboxPorts
from actors.snapshots import SnapshotQueue
from domain import cart_model, ids, ledger
from domain import checkout_model as model
from domain.checkout_model import Policy
from domain.messages import Refusal
from domain.order import OrderRow
from persistence.journal import AppendRejected, Corrupt, Flush, PostgresJournal
from tests.support.engine_harness import ADDRESS, BUYER, GUEST, Engine, engine, until

DECLINED = "pm_card_chargeDeclined"
AUTHENTICATION = "pm_card_authenticationRequired"


async def assert_consistent(e: Engine) -> None:
    """The audit finds nothing, even if nothing more were to happen."""
    assert (await e.audit(later_ms=60_000)).as_dict()["violations"] == []


async def sold(e: Engine, sku: str) -> tuple[int, int]:
    """Units sold and reserved."""
    levels = await e.levels(sku)
    return levels.sold, levels.reserved


async def captured(e: Engine) -> int:
    return int(await e.pool.fetchval("SELECT count(*) FROM sandbox_ledger WHERE type = 'capture'"))


# ── journeys ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_journey_from_the_cart_to_a_paid_order(database: str) -> None:
    """Stock is held at the start, sold with the order; the money is captured, the cart is closed."""
    async with engine(database) as e:
        await e.shelve({"A": 10, "B": 10}, price=1000)
        cart_id = await e.create_cart({"A": 2, "B": 1})
        started = await e.start_checkout(cart_id=cart_id, fields=model.Fields())
        assert (started.status, started.checkout.status) == (201, "incomplete")
        assert await sold(e, "A") == (0, 2)
        fields = model.Fields(("buyer", "shipping_address"), buyer=BUYER, shipping_address=ADDRESS)
        patched = await e.tell(model.Patch, started.checkout.id, fields=fields, owner=GUEST)
        assert patched.checkout.status == "ready_for_complete"
        done = await e.complete(started.checkout.id)
        assert (done.status, done.order.status, done.checkout.status) == (200, "confirmed", "completed")
        await e.settled()
        assert (await e.read(started.checkout.id)).order.payment_status == "paid"
        assert await sold(e, "A") == (2, 0)
        cart = await e.ask(cart_model.ReadCart(command_id=b"", cart_id=cart_id, owner=GUEST))
        assert cart.cart.status == "checked_out"
        await assert_consistent(e)


async def test_an_express_checkout_is_one_question_and_one_answer(database: str) -> None:
    async with engine(database) as e:
        await e.shelve({"A": 3})
        reply = await e.express({"A": 2})
        assert (reply.status, reply.order.status) == (200, "confirmed")
        await e.settled()
        assert await sold(e, "A") == (2, 0)
        await assert_consistent(e)


async def test_a_declined_card_leaves_everything_in_place_for_another(database: str) -> None:
    """402, the hold stays; the second attempt is paid, and only it."""
    async with engine(database) as e:
        await e.shelve({"A": 1})
        refused = await e.express({"A": 1}, DECLINED)
        assert isinstance(refused, Refusal)
        assert (refused.code, refused.errors[0].code) == ("payment_failed", "card_declined")
        assert await sold(e, "A") == (0, 1)
        done = await e.complete(refused.extra["checkout_id"])
        assert (done.status, [payment.status for payment in done.checkout.payments]) == (
            200,
            ["declined", "authorized"],
        )
        await e.settled()
        assert (await sold(e, "A"), await captured(e)) == ((1, 0), 1)
        await assert_consistent(e)


async def test_a_buyer_who_must_act_is_waited_for(database: str) -> None:
    async with engine(database) as e:
        await e.shelve({"A": 1})
        asked = await e.express({"A": 1}, AUTHENTICATION)
        assert (asked.status, asked.checkout.status) == (202, "requires_escalation")
        await assert_consistent(e)
        payment_id = asked.checkout.payments[0].id
        await e.resolve(payment_id)
        done = await e.tell(model.ConfirmPayment, asked.checkout.id, payment_id=payment_id, owner=GUEST)
        assert done.order.status == "confirmed"
        await e.settled()
        await assert_consistent(e)


async def test_a_shortage_names_every_short_line_and_holds_nothing(database: str) -> None:
    async with engine(database) as e:
        await e.shelve({"A": 1, "B": 1, "C": 9})
        refused = await e.express({"A": 2, "B": 3, "C": 1})
        assert refused.code == "out_of_stock"
        assert [(error.extra["sku"], error.extra["available"]) for error in refused.errors] == [
            ("A", 1),
            ("B", 1),
        ]
        assert [await sold(e, sku) for sku in "ABC"] == [(0, 0)] * 3
        await assert_consistent(e)


async def test_a_canceled_order_gives_back_its_units_and_its_money(database: str) -> None:
    async with engine(database) as e:
        await e.shelve({"A": 5})
        done = await e.express({"A": 2})
        await until(lambda: not e.coordinators[0].live)
        canceled = await e.tell(model.CancelOrder, done.checkout.id, reason="too big", actor="buyer")
        assert (canceled.order.status, canceled.order.payment_status) == ("canceled", "refunded")
        await e.settled()
        assert await sold(e, "A") == (0, 0)
        await assert_consistent(e)


async def test_a_hold_that_expires_comes_back(database: str) -> None:
    """No coordinator need ask for it, and the checkout says so."""
    async with engine(database, policy=Policy(hold_ttl_ms=1)) as e:
        await e.shelve({"A": 1})
        started = await e.start_checkout({"A": 1})
        await e.settled()
        assert (await e.read(started.checkout.id)).checkout.status == "canceled"
        assert await sold(e, "A") == (0, 0)
        await assert_consistent(e)


# ── the last units ──────────────────────────────────────────────────────────────────────────────────────


async def test_three_hundred_buyers_of_twenty_units_make_twenty_orders(database: str) -> None:
    """Twenty captures, and a clear answer for everybody else."""
    async with engine(database, latency_ms="1-20") as e:
        await e.shelve({"A": 20})
        replies = await asyncio.gather(*(e.express({"A": 1}) for _ in range(300)))
        answers = Counter(getattr(reply, "code", "order") for reply in replies)
        assert answers == {"order": 20, "out_of_stock": 280}
        await e.settled()
        assert (await sold(e, "A"), await captured(e)) == ((20, 0), 20)
        await assert_consistent(e)


async def test_one_key_twenty_times_at_once_is_one_order(database: str) -> None:
    async with engine(database, latency_ms="1-20") as e:
        await e.shelve({"A": 20})
        command = e.start_command({"A": 1}, express=model.Payments((model.Payment("card", "pm_card_visa"),)), key="k")
        replies = await asyncio.gather(*(e.ask(command) for _ in range(20)))
        assert len({reply.order.id for reply in replies}) == 1
        await e.settled()
        assert (await sold(e, "A"), await captured(e)) == ((1, 0), 1)
        await assert_consistent(e)


# ── crashes ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("victims", [("stock-0",), ("checkout-0",), ("cart-0",), ("sandbox",), ()])
async def test_a_crash_in_the_middle_loses_nothing_and_doubles_nothing(database: str, victims: tuple[str, ...]) -> None:
    """Whoever dies, thrice, while orders are under way: every buyer gets the one answer, every saga ends."""
    async with engine(database, latency_ms="5-60", gateway_timeout_s=1.0) as e:
        await e.shelve({"A": 30, "B": 100})
        carts = [await e.create_cart({"A": 1, "B": 1}) for _ in range(20)]
        payments = model.Payments((model.Payment("card", "pm_card_visa"),))
        buyers = [
            *(asyncio.create_task(e.express({"A": 1, "B": 1}, key=f"express-{n}")) for n in range(20)),
            *(asyncio.create_task(e.start_checkout(cart_id=cart_id, express=payments)) for cart_id in carts),
        ]
        for enough in (4, 12, 20):
            await until(partial(_are_done, buyers, enough))
            await e.kill(*victims)
            await e.start()
        replies = await asyncio.gather(*buyers)
        answers = Counter(getattr(reply, "code", "order") for reply in replies)
        assert answers == {"order": 30, "out_of_stock": 10}
        await e.settled()
        assert (await sold(e, "A"), await captured(e)) == ((30, 0), 30)
        await assert_consistent(e)


def _are_done(tasks: Sequence[asyncio.Task[Any]], enough: int) -> bool:
    return sum(task.done() for task in tasks) >= enough


async def test_an_answer_survives_a_crash(database: str) -> None:
    """The same key after the end of everything: the same order, and nothing is sold twice."""
    async with engine(database) as e:
        await e.shelve({"A": 5})
        first = await e.express({"A": 1}, key="one")
    async with engine(database) as e:
        again = await e.express({"A": 1}, key="one")
        assert again.order.id == first.order.id
        await e.settled()
        assert await sold(e, "A") == (1, 0)
        await assert_consistent(e)


async def test_a_hold_is_there_after_a_crash_and_can_be_bought(database: str) -> None:
    async with engine(database) as e:
        await e.shelve({"A": 5})
        started = await e.start_checkout({"A": 2})
        await e.kill()
        await e.start()
        assert await sold(e, "A") == (0, 2)
        assert (await e.complete(started.checkout.id)).order.status == "confirmed"
        await e.settled()
        await assert_consistent(e)


async def test_several_shards_of_each_kind_keep_out_of_each_others_way(database: str) -> None:
    """A hold has a part on each shard, under one name; the tables of the shop are on every checkout shard."""
    async with engine(database, shards={"stock": 2, "checkout": 2}) as e:
        shelves = {"rose": 500, "lily": 500}
        await e.shelve(shelves)
        assert len({e._tables["stock"].shard_of(f"sku:{sku}") for sku in shelves}) == 2
        held = [await e.start_checkout({"rose": 1, "lily": 1}) for _ in range(10)]
        for _ in range(20):
            await e.express({"rose": 1})
        await e.settled(still_open=10)
        await e.kill()
        await e.start()
        await asyncio.gather(*(e.complete(started.checkout.id) for started in held))
        await e.settled()
        assert (await sold(e, "rose"), await sold(e, "lily")) == ((30, 0), (10, 0))
        await assert_consistent(e)


async def test_a_damaged_snapshot_of_what_rests_is_named_and_never_half_applied(database: str) -> None:
    """Its older generation is no use, for the journal since then may be cut."""
    async with engine(database) as e:
        await e.shelve({"A": 50})
        first = await e.express({"A": 1})
        key = ids.body(first.checkout.id)
        stored = "SELECT resting FROM entity WHERE id = $1"
        while not await e.pool.fetchval(stored, key):
            await e.express({"A": 1})
        await e.settled()
        await e.kill()
        flipped = "UPDATE entity SET state = set_bit(state, 9, 1 - get_bit(state, 9)) WHERE id = $1"
        await e.pool.execute(flipped, key)
        with pytest.raises(Corrupt, match=key):
            await PostgresJournal(e.pool).entities("checkout-0", [("checkout", key)])


@pytest.mark.usefixtures("written_at_once")
async def test_a_shard_recovers_wherever_its_journal_was_cut(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle of a hold's life, if the hold has ended since; and cutting goes on afterwards."""
    monkeypatch.setattr(ledger, "TOMBSTONE_MS", 0)
    async with engine(database) as e:
        await e.shelve({"A": 50})
        for _ in range(5):
            started = await e.start_checkout({"A": 1})
            await e.complete(started.checkout.id)
        await e.settled()
        writer = e.nodes["stock-0"].actor.writer
        await until(lambda: not any(kind == "hold" for kind, _ in writer.world))
        before = dict(writer.world)
        kept = await e.pool.fetchval("SELECT prev_seq FROM entity WHERE kind = 'account'")
        assert kept > 10
        for tail in range(writer.lease.tail, kept + 2):
            await e.kill("stock-0")
            await e.pool.execute("DELETE FROM journal WHERE shard = 'stock-0' AND seq < $1", tail)
            await e.pool.execute("UPDATE shard SET tail = $1 WHERE id = 'stock-0'", tail)
            await e.start()
            recovered = e.nodes["stock-0"].actor.writer
            assert recovered.world == before
            assert len(recovered._memory._snapshots) <= 1
        await assert_consistent(e)


# ── what must not happen twice, or not at all ───────────────────────────────────────────────────────────


async def test_every_step_of_a_saga_is_begun_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outcome is durable before its step is looked at again; or else every command would go out twice."""
    begun: Counter[tuple[str, Any]] = Counter()
    start = MailboxPorts.start

    def counting(ports: MailboxPorts, action: model.Action) -> Any:
        name = getattr(action, "hold_id", "") or getattr(getattr(action, "request", None), "payment_id", "")
        begun[name, action.name] += 1
        return start(ports, action)

    monkeypatch.setattr(MailboxPorts, "start", counting)
    monkeypatch.setattr(checkout_coordinator, "AGAIN_S", (0.0,))  # a repeat would come at once
    async with engine(database) as e:
        await e.shelve({"A": 50})
        await asyncio.gather(*(e.express({"A": 1}) for _ in range(20)))
        await e.settled()
        assert set(begun.values()) == {1}


async def test_an_order_the_database_refuses_is_undone_and_its_neighbours_are_placed(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody hears of an order that is not there, and nobody near it is kept waiting."""
    append = PostgresJournal.append

    async def refusing(journal: PostgresJournal, epoch: int, flush: Flush) -> None:
        if any(isinstance(row, OrderRow) and row.total == 6666 for row in flush.rows):
            raise AppendRejected("poisoned")
        await append(journal, epoch, flush)

    monkeypatch.setattr(PostgresJournal, "append", refusing)
    async with engine(database) as e:
        await e.shelve({"A": 100}, price=1000)
        await e.shelve({"P": 10}, price=6666)
        replies = await asyncio.gather(*(e.express({"P" if n % 20 == 7 else "A": 1}) for n in range(100)))
        answers = Counter(getattr(reply, "code", "order") for reply in replies)
        assert answers == {"order": 95, "internal_error": 5}
        await e.settled()
        assert (await sold(e, "A"), await sold(e, "P")) == ((95, 0), (0, 0))
        await assert_consistent(e)


async def test_entities_that_rest_are_woken_by_their_id_alone(database: str) -> None:
    """Many at once, with questions about what was never there among them."""
    async with engine(database) as e:
        await e.shelve({"A": 50})
        orders = await asyncio.gather(*(e.express({"A": 1}) for _ in range(20)))
        known = [reply.checkout.id for reply in orders]
        world = e.coordinators[0].writer.world
        while any(world.get(model.KIND, ids.body(checkout_id)) for checkout_id in known):
            await e.express({"A": 1})  # each flush stores a few more, which then may leave memory
            await e.settled()
        unknown = [ids.make("chk", 0, ids.derive_body(bytes([n]) * 16, "chk")) for n in range(20)]
        replies = await asyncio.gather(*(e.tell(model.Read, name) for name in [*known, *unknown]))
        assert [reply.order.id for reply in replies[:20]] == [reply.order.id for reply in orders]
        assert {reply.code for reply in replies[20:]} == {"not_found"}


def test_the_journal_is_cut_only_below_what_every_older_generation_needs() -> None:
    """An entity that ends is waited for no longer."""
    queue = SnapshotQueue()
    queue.dirty(("hold", "1"), 3)
    queue.dirty(("hold", "2"), 7)
    queue.forget(("hold", "1"))
    assert queue.tail(9) == 7
