"""The coordinator: an action begins when the state that wants it is durable, and again until it has an outcome."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

import asyncpg
import pytest

from actors import checkout_coordinator
from actors.checkout_coordinator import AGAIN_S
from actors.timers import GRACE_MS, TICK_S
from domain import checkout_model as model
from domain.messages import Refusal
from domain.order import OrderRow
from domain.stock_model import HoldState
from tests.support.memory_journal import Database
from tests.support.virtual_time import idle, pass_time, until, virtual_time
from tests.unit.checkout_world import CARD, Shop
from tests.unit.coordinator_bench import POLICY, SHARD, TTL_S, final, now_s, opened, outcome
from tests.unit.toy_shard import answers

GRACE_S = GRACE_MS / 1_000

# ── intent before effect ────────────────────────────────────────────────────────────────────────────────


@virtual_time
async def test_an_action_is_begun_only_when_the_state_that_wants_it_is_durable() -> None:
    """Stock, payment, and what follows the order: while the record is being written nobody outside hears of it."""
    bench = await opened()
    gate = bench.wire.stop("append", way="answer")
    asked = bench.submit(bench.shop.start(express=CARD))
    for begun in (1, 2, 4):
        await gate.reached.wait()
        await idle()
        assert len(bench.desk.begun) < begun
        gate.open()
        await bench.desk.has_begun(begun)
        gate = bench.wire.stop("append", way="answer")
        _, action = bench.desk.begun[-1]
        bench.desk.answer(action.name, outcome(bench.shop, action))
    assert [type(action) for _, action in bench.desk.begun] == [
        model.TakeStock,
        model.CallGateway,
        model.CallGateway,
        model.HoldStep,
    ]
    assert (await answers(asked))[0].status == 200


@virtual_time
async def test_a_purchase_runs_to_its_end_and_rests() -> None:
    bench = await opened(at_once=True)
    (reply,) = await answers(bench.submit(bench.shop.start(express=CARD)))
    assert reply.order.status == "confirmed"
    await until(lambda: bench.actor.live == 0)
    assert bench.shop.levels("tea") == (49, 0, 1)
    assert bench.desk.forgotten == []
    assert max(Counter(bench.desk.names).values()) == 1, "what has an outcome is not begun again"


@pytest.mark.parametrize("after", range(1, 5))
@virtual_time
async def test_the_next_incarnation_takes_up_what_is_wanted_still(after: int) -> None:
    """The process dies once it has begun so many actions: the order is there once, paid once."""
    shop, database = Shop(POLICY, tea=50), Database(SHARD)
    first = await opened(shop, database)
    command = shop.start(express=CARD)
    first.submit(command)
    done = 0
    while len(first.desk.begun) < after:
        await idle()
        for _, action in first.desk.begun[done:]:
            done += 1
            if done < after:
                first.desk.answer(action.name, outcome(shop, action))
    await first.actor.stop()
    heir = await opened(shop, database, at_once=True)
    (reply,) = await answers(heir.submit(command))
    await until(lambda: heir.actor.live == 0)
    assert len(database.tables.orders) == 1
    assert shop.levels("tea") == (49, 0, 1)
    assert [verb for verb, _, _ in shop.gateway.log].count("capture") == 1
    (again,) = await answers(heir.submit(command))
    assert final(again) == final(reply)


@virtual_time
async def test_what_a_canceled_order_gave_back_is_forgotten_in_the_end() -> None:
    """All other ends of a hold are forgotten by themselves; a return may be asked for again."""
    bench = await opened(at_once=True)
    start = bench.shop.start(express=CARD)
    await answers(bench.submit(start))
    await until(lambda: bench.actor.live == 0)
    cancel = bench.shop.command(model.CancelOrder, start.checkout_id, reason="", actor="buyer")
    await answers(bench.submit(cancel))
    await until(lambda: bench.actor.live == 0)
    assert bench.shop.levels("tea") == (50, 0, 0)
    assert len(bench.desk.forgotten) == 1


@virtual_time
async def test_an_outcome_that_comes_while_another_is_being_written_is_not_left_behind() -> None:
    """The capture's second try ends while the confirmation's outcome is on its way into the journal."""
    bench = await opened()
    checkout_id, (capture, confirm) = await bench.order()
    bench.desk.answer(capture.name, Refusal("busy"))
    gate = bench.wire.stop("append")
    bench.desk.answer(confirm.name, outcome(bench.shop, confirm))
    await gate.reached.wait()
    await bench.desk.has_begun(5)
    bench.desk.answer(capture.name, outcome(bench.shop, capture))
    await idle()
    gate.open()
    await idle()
    assert (bench.actor.live, (await answers(bench.read(checkout_id)))[0].order.payment_status) == (0, "paid")


@virtual_time
async def test_outcomes_that_come_side_by_side_are_one_record() -> None:
    """For an action that has come to nothing before, nobody waits."""
    bench = await opened()
    _, actions = await bench.order()
    head = bench.actor.writer.lease.head
    for action in actions:
        bench.desk.answer(action.name, outcome(bench.shop, action))
        await idle()
    await until(lambda: bench.actor.live == 0)
    assert bench.actor.writer.lease.head == head + 1


@pytest.mark.parametrize(("silent", "payment_status"), [(model.EndCart, "paid"), (model.CallGateway, "authorized")])
@virtual_time
async def test_what_is_silent_keeps_no_outcome_out_of_the_journal(silent: Any, payment_status: str) -> None:
    """The buyer sees it within a second, and the next incarnation begins nothing but what was silent."""
    shop, database = Shop(POLICY, tea=50), Database(SHARD)
    bench = await opened(shop, database)
    checkout_id, actions = await bench.order(shop.make_cart({"tea": 1}))
    for action in actions:
        if not isinstance(action, silent):
            bench.desk.answer(action.name, outcome(shop, action))
    await pass_time(1)
    (reply,) = await answers(bench.read(checkout_id))
    assert (reply.order.payment_status, reply.checkout.reservation) == (payment_status, "confirmed")
    await bench.actor.stop()
    heir = await opened(shop, database)
    assert [type(action) for _, action in heir.desk.begun] == [silent]


# ── again and again ─────────────────────────────────────────────────────────────────────────────────────

NO_OUTCOMES = [Refusal("busy"), Refusal("internal_error"), ConnectionResetError("lost")]


@pytest.mark.parametrize("nothing", NO_OUTCOMES, ids=["busy", "internal error", "exception"])
@virtual_time
async def test_what_is_no_outcome_is_asked_again_with_growing_pauses(nothing: Any) -> None:
    """It says nothing about the step itself. A repeat says that a copy may be about; the next step starts anew."""
    bench = await opened()
    asked = bench.submit(bench.shop.start())
    for n in range(1, 10):
        await bench.desk.has_begun(n)
        if n < 9:
            bench.desk.answer("take:1", nothing)
    times_s = bench.desk.times_s("take:1")
    pauses_s = [later - earlier for earlier, later in itertools.pairwise(times_s)]
    assert pauses_s == pytest.approx([*AGAIN_S, AGAIN_S[-1], AGAIN_S[-1]], abs=0.02)
    assert [action.resent for _, action in bench.desk.begun] == [False] + [True] * 8
    bench.desk.answer("take:1", outcome(bench.shop, bench.desk.begun[-1][1]))
    (reply,) = await answers(asked)
    ended_s = now_s()
    bench.submit(bench.shop.command(model.Cancel, reply.checkout.id))
    await until(lambda: "release" in bench.desk.names)
    assert bench.desk.times_s("release") == pytest.approx([ended_s], abs=0.02)


@virtual_time
async def test_while_an_action_is_under_way_it_is_not_begun_again() -> None:
    """However long it takes, and whatever else happens to the checkout meanwhile."""
    bench = await opened()
    command = bench.shop.start()
    bench.submit(command)
    await idle()
    for _ in range(3):
        bench.submit(bench.shop.command(model.Cancel, command.checkout_id))
        await pass_time(30)
    assert bench.desk.names == ["take:1"]


@virtual_time
async def test_a_retry_that_is_no_longer_wanted_after_its_pause_is_not_begun() -> None:
    """A successor that was canceled meanwhile does not ask its cart's former checkout to give way."""
    bench = await opened()
    cart_id = bench.shop.make_cart({"tea": 1})
    bench.shop.run(bench.shop.start(cart_id=cart_id))
    successor = bench.shop.start(cart_id=cart_id)
    bench.submit(successor)
    await bench.desk.has_begun(1)
    bench.desk.answer("begin_cart", outcome(bench.shop, bench.desk.begun[0][1]))
    await bench.desk.has_begun(2)
    replace = bench.desk.begun[1][1]
    assert isinstance(replace, model.AskToReplace)
    bench.desk.answer(replace.name, Refusal("busy"))
    await idle()
    bench.submit(bench.shop.command(model.Cancel, successor.checkout_id))
    await pass_time(60)
    assert bench.desk.names == ["begin_cart", replace.name, "end_cart"]


# ── rows that the database refuses ──────────────────────────────────────────────────────────────────────


@virtual_time
async def test_an_order_that_the_database_refuses_is_unwound_and_its_buyer_told() -> None:
    """The payment is voided and the hold released; a neighbour in the same batch gets its order."""
    shop, database = Shop(POLICY, tea=50), Database(SHARD)
    bench = await opened(shop, database, at_once=True)
    poisoned, good = shop.start(express=CARD), shop.start(express=CARD)
    database.refuse = lambda row: (
        "poison" if isinstance(row, OrderRow) and row.checkout_id == poisoned.checkout_id else None
    )
    refused, placed = await answers(bench.submit(poisoned), bench.submit(good))
    assert isinstance(refused, Refusal)
    assert placed.status == 200
    await until(lambda: bench.actor.live == 0)
    assert [row.checkout_id for row in database.tables.orders.values()] == [good.checkout_id]
    assert shop.levels("tea") == (49, 0, 1)
    assert sorted(verb for verb, _, _ in shop.gateway.log) == ["authorize", "authorize", "capture", "void"]


@virtual_time
async def test_a_refused_giving_up_is_not_given_up_again() -> None:
    """Batch, outcome alone and giving up are refused alike: then the step itself is tried again, and succeeds."""
    shop, database = Shop(POLICY, tea=50), Database(SHARD)
    bench = await opened(shop, database)
    asked = bench.submit(shop.start(express=CARD))
    await bench.desk.has_begun(1)
    bench.desk.answer("take:1", outcome(shop, bench.desk.begun[0][1]))
    await bench.desk.has_begun(2)
    authorize = bench.desk.begun[1][1]
    bench.wire.fail("append", asyncpg.DataError("refused"), times=3)
    bench.desk.answer(authorize.name, outcome(shop, authorize))
    await bench.desk.has_begun(3)
    assert bench.desk.names[2] == authorize.name
    bench.desk.answer(authorize.name, outcome(shop, authorize))
    (reply,) = await answers(asked)
    assert reply.status == 200
    assert len(database.tables.orders) == 1


# ── watching ────────────────────────────────────────────────────────────────────────────────────────────


@virtual_time
async def test_a_watch_is_answered_at_once_when_there_is_news_else_at_the_next_change() -> None:
    bench = await opened()
    view = await bench.open()
    (reply,) = await answers(bench.watch(view.id, view.version - 1))
    assert reply.checkout.version == view.version
    watch = bench.watch(view.id, view.version)
    await pass_time(1)
    assert (watch.replies, watch.put_off) == ([], 1)
    bench.submit(bench.shop.command(model.Cancel, view.id))
    (reply,) = await answers(watch)
    assert reply.checkout.version > view.version


@virtual_time
async def test_a_change_between_the_reading_and_the_registering_of_a_watch_is_not_lost() -> None:
    """Both are decided in one batch: when the watch hears what it has read, the change is already over."""
    bench = await opened()
    view = await bench.open()
    gate = bench.wire.stop("append")
    bench.submit(bench.shop.start())
    await gate.reached.wait()
    watch = bench.watch(view.id, view.version)
    bench.submit(bench.shop.command(model.Cancel, view.id))
    await idle()
    gate.open()
    (reply,) = await answers(watch)
    assert reply.checkout.version > view.version


@virtual_time
async def test_the_end_of_a_checkout_between_the_reading_and_the_registering_of_a_watch_is_not_lost() -> None:
    """The same where the change is the last one: the saga is at rest when the watch is registered."""
    bench = await opened()
    view = await bench.open()
    bench.submit(bench.shop.command(model.Cancel, view.id))
    await until(lambda: "release" in bench.desk.names)
    (reply,) = await answers(bench.read(view.id))
    known = reply.checkout.version
    gate = bench.wire.stop("append")
    bench.submit(bench.shop.start())
    await gate.reached.wait()
    watch = bench.watch(view.id, known)
    bench.desk.answer("release", HoldState("released"))
    await idle()
    gate.open()
    (reply,) = await answers(watch)
    assert reply.checkout.status == "canceled"


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────


@virtual_time
async def test_a_checkout_expires_at_its_time() -> None:
    bench = await opened()
    await bench.open()
    await until(lambda: "release" in bench.desk.names)
    assert now_s() == pytest.approx(TTL_S, abs=2 * TICK_S)


@virtual_time
async def test_after_a_recovery_nothing_expires_for_a_while() -> None:
    """Its buyer could not reach us meanwhile: stock returns late rather than early."""
    shop, database = Shop(POLICY, tea=50), Database(SHARD)
    bench = await opened(shop, database)
    await bench.open()
    await bench.actor.stop()
    await pass_time(TTL_S * 2)
    heir = await opened(shop, database)
    recovered_s = now_s()
    await until(lambda: "release" in heir.desk.names)
    assert now_s() - recovered_s == pytest.approx(GRACE_S, abs=2 * TICK_S)


@virtual_time
async def test_after_a_jump_of_the_clock_nothing_expires_for_a_while() -> None:
    """A paused process and a moved clock look the same."""
    bench = await opened()
    await bench.open()
    await pass_time(1)
    bench.shop.now_ms += 3_600_000
    jumped_s = now_s()
    await until(lambda: "release" in bench.desk.names)
    assert now_s() - jumped_s == pytest.approx(GRACE_S, abs=2 * TICK_S)


@virtual_time
async def test_a_tick_looks_at_a_bounded_number_of_checkouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mass expiry delays nobody for long, and forgets none."""
    monkeypatch.setattr(checkout_coordinator, "DUE_MOST", 2)
    bench = await opened()
    for _ in range(7):
        await bench.open()
    await until(lambda: bench.desk.names.count("release") == 7)
    in_ticks = Counter(round(at_s / TICK_S) for at_s in bench.desk.times_s("release"))
    assert list(in_ticks.values()) == [2, 2, 2, 1]


# ── the end of the process ──────────────────────────────────────────────────────────────────────────────


@virtual_time
async def test_the_end_of_the_timer_ends_the_process() -> None:
    """Without it nothing would expire any more, and nobody would notice."""
    bench = await opened()
    bench.clock_broken = True
    await asyncio.wait_for(bench.left.wait(), 10)
    assert now_s() <= 2 * TICK_S


@virtual_time
async def test_the_end_of_the_writer_ends_the_process() -> None:
    bench = await opened()
    bench.wire.fail("append", RuntimeError("out of the blue"))
    asked = bench.submit(bench.shop.start())
    await asyncio.wait_for(bench.left.wait(), 10)
    assert asked.replies == []


@virtual_time
async def test_a_coordinator_that_was_overtaken_ends_its_process() -> None:
    shop, database = Shop(POLICY, tea=50), Database(SHARD)
    bench = await opened(shop, database)
    heir = await opened(shop, database)
    asked = bench.submit(shop.start())
    await asyncio.wait_for(bench.left.wait(), 10)
    assert (asked.replies, bench.desk.begun) == ([], [])
    assert not heir.left.is_set()


@virtual_time
async def test_an_action_that_cannot_even_be_begun_ends_the_process() -> None:
    """A bug in the ports: the saga would wait for ever for what was never begun."""
    bench = await opened()

    def broken(action: model.Action) -> asyncio.Future[Any]:
        raise KeyError(action.name)

    bench.desk.start = broken  # type: ignore[method-assign]
    asked = bench.submit(bench.shop.start())
    await asyncio.wait_for(bench.left.wait(), 10)
    assert asked.put_off == 0
