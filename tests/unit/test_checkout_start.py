"""Starting: shortages over two stock shards, what is cut, carts and the checkouts that give way."""

from __future__ import annotations

from typing import Any

import pytest

from domain import checkout_model as model
from domain.catalog import Product
from domain.checkout_actions import next_actions, resting
from domain.checkout_start import MAX_SHORTAGES
from domain.stock import Held, HoldState, Shortage, ShortLine
from tests.unit.checkout_phases import open_checkout, replacing
from tests.unit.checkout_world import CARD, READY, Shop, stock_command, wanted

EXPRESS = (None, CARD)


@pytest.mark.parametrize("express", EXPRESS, ids=["start", "express"])
def test_a_shortage_names_every_short_line_and_leaves_no_hold(express):
    """The lines live on two shards; the one that has enough gives its units back."""
    shop = Shop(tea=1, mug=3, milk=1)
    start = shop.start(lines={"mug": 3, "tea": 2, "milk": 2}, express=express)
    reply = shop.run(start)
    assert reply.code == "out_of_stock"
    assert [(error.path, error.extra) for error in reply.errors] == [
        ("$.line_items[1].quantity", {"sku": "tea", "requested": 2, "available": 1}),
        ("$.line_items[2].quantity", {"sku": "milk", "requested": 2, "available": 1}),
    ]
    assert [shop.levels(sku)[1] for sku in ("tea", "mug", "milk")] == [0, 0, 0]
    assert shop.ask(shop.command(model.Read, start.checkout_id)).code == "not_found"


@pytest.mark.parametrize("express", EXPRESS, ids=["start", "express"])
def test_what_does_not_exist_or_has_no_price_is_unavailable(express):
    """Neither is cut away, for it is a mistake and no shortage; nothing stays held."""
    shop = Shop(tea=5)
    shop.put("mug", Product("Mug", {"EUR": 5}), 5)
    for lines, path in (({"tea": 1, "hat": 1}, "$.line_items[1].sku"), ({"mug": 1}, "$.line_items[0].sku")):
        start = shop.start(lines=lines, express=express, on_shortage="accept_available")
        reply = shop.run(start)
        assert (reply.code, reply.errors[0].path) == ("item_unavailable", path)
    assert (shop.levels("tea")[1], shop.levels("mug")[1]) == (0, 0)


def test_who_takes_what_there_is_is_told_what_was_cut():
    """Lines shrink to what is available, those of nothing go, and messages say so."""
    shop = Shop(tea=1, mug=0, milk=5)
    opened = shop.run(shop.start(lines={"tea": 3, "mug": 1, "milk": 2}, on_shortage="accept_available"))
    assert opened.status == 201
    assert [(line.sku, line.quantity) for line in opened.checkout.lines] == [("tea", 1), ("milk", 2)]
    assert cuts(opened.checkout) == [
        ("quantity_reduced", "$.line_items[0].quantity", "Only 1 of tea were available."),
        ("out_of_stock", "$.line_items", "mug is out of stock and was left out."),
    ]


def test_what_was_cut_is_shown_where_its_line_is_now():
    """Lines before it went in a later round, and it was cut again: one message a line, the newest."""
    shop = Shop(tea=1, mug=3, milk=5)
    start = shop.start(lines={"tea": 2, "mug": 9, "milk": 9}, on_shortage="accept_available")
    shop.ask(start)
    rounds = [
        (ShortLine("sku:mug", 9, 4, True), ShortLine("sku:milk", 9, 5, True)),
        (ShortLine("sku:tea", 2, 0, True), ShortLine("sku:mug", 4, 3, True)),
    ]
    for short in rounds:
        [take] = next_actions(shop.state(start.checkout_id))
        shop.tell(start.checkout_id, take.name, Shortage(short))
    opened = shop.run(start).checkout
    assert [(line.sku, line.quantity) for line in opened.lines] == [("mug", 3), ("milk", 5)]
    assert sorted(cuts(opened)) == [
        ("out_of_stock", "$.line_items", "tea is out of stock and was left out."),
        ("quantity_reduced", "$.line_items[0].quantity", "Only 3 of mug were available."),
        ("quantity_reduced", "$.line_items[1].quantity", "Only 5 of milk were available."),
    ]


def cuts(view: model.CheckoutView) -> list[tuple[str, str, str]]:
    """What the buyer is told of the lines."""
    return [(told.code, told.path, told.content) for told in view.messages if told.type == "warning"]


def test_nothing_of_what_was_asked_for_is_a_shortage_even_for_who_takes_what_there_is():
    shop = Shop(tea=0)
    assert shop.run(shop.start(on_shortage="accept_available")).code == "out_of_stock"


def test_a_stock_that_melts_away_under_every_try_ends_in_a_refusal():
    """Each take finds less than the last one said; after a few rounds the buyer is told, and nothing is held."""
    shop = Shop(tea=9)
    start = shop.start(lines={"tea": 9}, on_shortage="accept_available")
    shop.ask(start)
    takes: list[model.TakeStock] = []
    while shop.state(start.checkout_id).phase == "holding":
        [take] = next_actions(shop.state(start.checkout_id))
        assert isinstance(take, model.TakeStock)
        takes.append(take)
        units = take.wanted["sku:tea"]
        shop.tell(start.checkout_id, take.name, Shortage((ShortLine("sku:tea", units, units - 1, True),)))
    assert [take.wanted["sku:tea"] for take in takes] == [9, 8, 7, 6]
    assert len({take.name for take in takes}) == len(takes) == MAX_SHORTAGES + 1
    shop.settle()
    assert shop.answer(start).code == "out_of_stock"
    assert shop.state(start.checkout_id).phase == "refused"


@pytest.mark.parametrize("twice", [False, True], ids=["sent once", "sent twice"])
def test_a_refused_take_is_released_when_a_copy_of_it_may_still_come(twice):
    """The late copy finds a tombstone; where there can be none, nothing more is asked of stock."""
    shop = Shop(tea=0)
    start = shop.start(express=CARD)
    shop.ask(start)
    [take] = next_actions(shop.state(start.checkout_id))
    shop.tell(start.checkout_id, take.name, Shortage((ShortLine("sku:tea", 1, 0, True),), held_elsewhere=twice))
    assert [type(action) for action in next_actions(shop.state(start.checkout_id))] == [model.HoldStep] * twice
    shop.settle()
    shop.put("tea", Product("Tea", {"USD": 1}), 5)
    if twice:
        assert isinstance(shop.do(take), HoldState)
        assert shop.levels("tea") == (5, 0, 0)


@pytest.mark.parametrize("late", ["before the second take", "before the payment", "after everything"])
def test_a_shard_of_which_nothing_is_wanted_any_more_keeps_nothing(late):
    """The milk was short and is left out; a late copy of the first take finds units after all."""
    shop = Shop(tea=1, milk=0)
    start = shop.start(lines={"tea": 1, "milk": 1}, express=CARD, on_shortage="accept_available")
    shop.ask(start)
    [take] = next_actions(shop.state(start.checkout_id))
    copy = stock_command(take, {"sku:milk": 1}, shop.now_ms)
    shop.step(start.checkout_id)
    shop.put("milk", Product("Milk", {"USD": 1}), 5)
    if late == "before the payment":
        shop.step(start.checkout_id)
    elif late == "after everything":
        shop.settle()
    shop.stocks["y"].ask(copy, shop.now_ms)
    shop.settle()
    reply = shop.answer(start)
    assert [line.sku for line in reply.order.lines] == ["tea"]
    assert shop.levels("milk") == (5, 0, 0)


def test_a_take_that_was_too_long_on_its_way_is_sent_again():
    shop = Shop(tea=1)
    start = shop.start()
    shop.ask(start)
    [take] = next_actions(shop.state(start.checkout_id))
    shop.tell(start.checkout_id, take.name, HoldState("unknown", "stale"))
    assert next_actions(shop.state(start.checkout_id)) == [take]
    assert shop.run(start).status == 201


def test_a_hold_that_expired_before_the_start_was_answered_ends_it():
    """The coordinator was away for longer than the reservation lasts."""
    shop = Shop(tea=1)
    start = shop.start()
    shop.ask(start)
    [take] = next_actions(shop.state(start.checkout_id))
    assert isinstance(shop.do(take), Held)
    shop.pass_time(shop.policy.hold_ttl_ms)
    assert shop.run(start).code == "reservation_expired"
    assert shop.state(start.checkout_id).phase == "canceled"


def test_an_option_that_is_not_offered_is_refused_at_the_start():
    shop = Shop(tea=1)
    fields = model.Fields((), READY.buyer, READY.shipping_address, selected_option="rocket")
    assert shop.run(shop.start(fields=fields)).errors[0].path == "$.selected_shipping_option"
    assert shop.levels("tea") == (1, 0, 0)


@pytest.mark.parametrize("kind", [model.Cancel, model.Replace])
@pytest.mark.parametrize("express", EXPRESS, ids=["start", "express"])
def test_a_checkout_that_is_not_wanted_any_more_when_stock_answers_ends_without_paying(kind, express):
    """The cancel, or the next start of the same cart, came while its units were being taken."""
    shop = Shop(tea=5)
    start = shop.start(fields=READY, express=express)
    shop.ask(start)
    command = (
        model.Replace(command_id=b"r", checkout_id=start.checkout_id, successor="chk_2")
        if kind is model.Replace
        else shop.command(model.Cancel, start.checkout_id)
    )
    assert shop.ask(command) is None
    shop.settle()
    assert shop.answer(start).code == "checkout_canceled"
    assert shop.gateway.log == []
    assert shop.levels("tea") == (5, 0, 0)
    reason = "replaced" if kind is model.Replace else "buyer"
    view = shop.ask(shop.command(model.Read, start.checkout_id)).checkout
    assert (view.status, view.cancel_reason) == ("canceled", reason)


# ── carts ───────────────────────────────────────────────────────────────────────────────────────────────


def cart_of(shop: Shop, cart_id: str) -> Any:
    return shop.carts.get("cart", cart_id[-16:])


def test_an_empty_cart_cannot_be_checked_out():
    shop = Shop(tea=5)
    assert shop.run(shop.start(cart_id=shop.make_cart({}))).code == "cart_empty"


def test_a_cart_that_is_not_there_or_not_open_refuses_the_start():
    """The cart's own refusal is the answer."""
    shop = Shop(tea=5)
    assert shop.run(shop.start(cart_id="cart_00000000000000000000000000")).code == "not_found"
    cart_id = shop.make_cart({"tea": 1})
    shop.run(shop.start(cart_id=cart_id, express=CARD, fields=READY))
    assert shop.run(shop.start(cart_id=cart_id)).code == "cart_checked_out"
    old = shop.make_cart({"tea": 1})
    shop.now_ms += shop.policy.cart_idle_ms + 1
    assert shop.run(shop.start(cart_id=old)).code == "cart_expired"


def test_a_second_start_replaces_the_first_and_its_hold():
    """The only unit goes over to it; the first is canceled as replaced, and the cart names the second."""
    shop = Shop(tea=1)
    cart_id = shop.make_cart({"tea": 1})
    first, second = shop.start(cart_id=cart_id), shop.start(cart_id=cart_id)
    assert shop.run(first).status == 201
    assert shop.run(second).status == 201
    view = shop.ask(shop.command(model.Read, first.checkout_id)).checkout
    assert (view.status, view.cancel_reason) == ("canceled", "replaced")
    assert cart_of(shop, cart_id).checkout_id == second.checkout_id


def test_a_checkout_that_pays_keeps_its_cart_and_the_other_start_may_come_back():
    """Refused while a payment is under way; once that has failed, the same key takes the same start up again."""
    shop = Shop(tea=1)
    cart_id = shop.make_cart({"tea": 1})
    first = open_checkout(shop, cart_id=cart_id)
    shop.gateway.faults = ["before"] * 3
    shop.ask(shop.complete(first, "bad"))
    second = shop.start(cart_id=cart_id)
    for _ in range(3):
        shop.step(first)
    shop.ask(second)
    while not shop.replies.get(second.command_id):
        shop.step(second.checkout_id)
    reply = shop.answer(second)
    assert (reply.code, reply.extra) == ("completion_in_progress", {"checkout_id": first})
    assert shop.ask(second).code == "request_in_progress"  # its own end is not written to the cart yet
    shop.step(second.checkout_id)
    assert cart_of(shop, cart_id).checkout_id == first
    shop.settle()
    assert shop.state(first).phase == "open"
    assert shop.run(second).status == 201
    assert cart_of(shop, cart_id).checkout_id == second.checkout_id
    assert shop.state(first).phase == "canceled"
    shop.run(shop.command(model.Cancel, second.checkout_id))
    assert cart_of(shop, cart_id).checkouts == ()


def test_a_start_that_is_displaced_before_its_cart_answers_does_not_wait_for_others():
    """It would wait for the first while the third waits for it; it goes as soon as it knows that it has to wait."""
    shop = Shop(tea=5)
    cart_id = shop.make_cart({"tea": 1})
    first = open_checkout(shop, cart_id=cart_id)
    second = shop.start(cart_id=cart_id)
    shop.ask(second)
    replace = model.Replace(command_id=b"r", checkout_id=second.checkout_id, successor="chk_3")
    assert shop.ask(replace) is None
    shop.step(second.checkout_id)
    assert shop.answer(replace) == model.GaveWay()
    assert shop.answer(second).code == "checkout_canceled"
    shop.settle()
    assert shop.state(first).phase == "open"
    assert cart_of(shop, cart_id).checkouts == (first,)


def test_a_checkout_that_waits_for_its_place_gives_it_up_at_once():
    """It must not wait for one that may be waiting for it."""
    shop = Shop(tea=5)
    waiting = replacing(shop)
    assert shop.ask(model.Replace(command_id=b"r", checkout_id=waiting, successor="chk_3")) is None
    assert shop.replies[b"r"] == [model.GaveWay()]
    shop.settle()
    assert shop.state(waiting).phase == "refused"


def test_of_many_starts_at_once_one_is_left_and_the_cart_knows_which():
    """Whatever they displaced while they were waiting: the cart tells each who is next to give way."""
    shop = Shop(tea=5)
    cart_id = shop.make_cart({"tea": 1})
    starts = [shop.start(cart_id=cart_id) for _ in range(4)]
    for start in starts:
        shop.ask(start)
    for start in reversed(starts):
        shop.step(start.checkout_id)
    shop.settle()
    live = [state for state in shop.states() if state.phase == "open"]
    assert len(live) == 1
    assert cart_of(shop, cart_id).checkouts == (live[0].id,)
    assert all(resting(state) or state is live[0] for state in shop.states())
    assert shop.levels("tea") == (5, 1, 0)


def test_the_end_of_a_checkout_reopens_its_cart():
    """Its idle time begins anew; nothing of it is reserved any more."""
    shop = Shop(tea=5)
    cart_id = shop.make_cart({"tea": 1})
    first = open_checkout(shop, cart_id=cart_id)
    shop.now_ms += 60_000
    shop.run(shop.command(model.Cancel, first))
    assert cart_of(shop, cart_id).checkouts == ()
    assert cart_of(shop, cart_id).updated_at_ms == shop.now_ms
    assert wanted({"tea": 1}) == shop.state(open_checkout(shop, cart_id=cart_id)).wanted
