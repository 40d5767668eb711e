"""The roads to an order: the journey, express, split payments, nothing to pay; and what bars the way."""

from __future__ import annotations

import msgspec
import pytest

from domain import checkout_model as model
from domain.checkout_actions import next_actions, resting
from domain.pricing import Total
from domain.shipping import ShippingOption, ShippingTable, Zone
from domain.stock import Sweep
from tests.unit.checkout_phases import open_checkout
from tests.unit.checkout_world import ALL, AWAY, BUYER, CARD, HOME, PRICE, READY, Shop


def test_the_whole_journey_from_a_cart_to_a_captured_order():
    """Start, address, completion: one order, paid, units sold, the cart checked out."""
    shop = Shop(tea=5, mug=3)
    cart_id = shop.make_cart({"tea": 2, "mug": 1})
    start = shop.start(cart_id=cart_id)
    opened = shop.run(start)
    assert (opened.status, opened.checkout.status) == (201, "incomplete")
    assert [message.path for message in opened.checkout.messages][-1] == "$.shipping_address"
    checkout_id = start.checkout_id

    ready = shop.run(shop.command(model.Patch, checkout_id, fields=READY))
    assert (ready.checkout.status, ready.checkout.selected) == ("ready_for_complete", "standard")

    done = shop.run(shop.complete(checkout_id, "ok", expected_total=3 * PRICE))
    assert (done.status, done.checkout.status, done.order.status) == (200, "completed", "confirmed")
    assert done.order.totals == (Total("subtotal", 3 * PRICE), Total("total", 3 * PRICE))

    state = shop.state(checkout_id)
    assert [leg.status for leg in state.legs] == ["captured"]
    assert shop.gateway.net(state.legs[0].id) == 3 * PRICE
    assert (shop.levels("tea"), shop.levels("mug")) == ((3, 0, 2), (2, 0, 1))
    assert shop.carts.get("cart", cart_id[-16:]).ordered
    assert resting(state)


def test_an_express_checkout_is_one_question_and_one_order():
    """Its hold is born pinned, and the first thing that is sent out after stock is the payment."""
    shop = Shop(tea=5)
    start = shop.start(express=CARD)
    shop.ask(start)
    [take] = next_actions(shop.state(start.checkout_id))
    assert isinstance(take, model.TakeStock)
    assert take.pinned
    done = shop.run(start)
    assert (done.status, done.order.payment_status) == (200, "authorized")
    assert shop.levels("tea") == (4, 0, 1)


def test_a_total_of_zero_needs_no_payment():
    """An empty list of payments completes it; nothing is asked of a gateway."""
    shop = Shop(tea=5, price=0)
    checkout_id = open_checkout(shop)
    done = shop.run(shop.complete(checkout_id))
    assert (done.status, done.order.status, done.order.payment_status) == (200, "confirmed", "paid")
    assert shop.gateway.log == []


def test_two_payments_are_authorized_one_after_another():
    """The one without an amount takes the rest; the order exists when both are authorized."""
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    shop.ask(shop.complete(checkout_id, "ok", "ok", amounts=(300,)))
    shop.step(checkout_id)
    assert len(next_actions(shop.state(checkout_id))) == 1
    shop.settle()
    legs = shop.state(checkout_id).legs
    assert [(leg.amount, leg.status) for leg in legs] == [(300, "captured"), (PRICE - 300, "captured")]


def test_money_moves_only_after_the_hold_is_pinned():
    """Between the completion and the gateway stands the pin; one that is refused means 409 and no money."""
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    shop.now_ms += shop.policy.hold_ttl_ms
    for core in shop.stocks.values():
        core.ask(Sweep(command_id=b"", hold_ids=(checkout_id[-16:],)), shop.now_ms)
    reply = shop.run(shop.complete(checkout_id, "ok"))
    assert reply.code == "reservation_expired"
    assert shop.gateway.log == []
    assert shop.state(checkout_id).phase == "canceled"


# ── refusals of a completion ────────────────────────────────────────────────────────────────────────────

CARD_FOR_ALL = model.Payment("card", "ok")
COMPLETIONS: list[tuple[str, tuple[model.Payment, ...], int | None, str]] = [
    ("another total", (CARD_FOR_ALL,), PRICE + 1, "total_changed"),
    ("too little", (model.Payment("card", "ok", PRICE - 1),), None, "payment_amount_mismatch"),
    ("nothing", (), None, "payment_amount_mismatch"),
    ("two without an amount", (CARD_FOR_ALL, CARD_FOR_ALL), None, "payment_amount_mismatch"),
    ("nothing left", (model.Payment("card", "ok", PRICE), CARD_FOR_ALL), None, "payment_amount_mismatch"),
    ("a payment of zero", (model.Payment("card", "ok", 0), CARD_FOR_ALL), None, "payment_amount_mismatch"),
    ("an unknown method", (model.Payment("shells", "ok"),), None, "validation_failed"),
]


@pytest.mark.parametrize(("why", "payments", "expected_total", "code"), COMPLETIONS)
def test_a_completion_that_cannot_be_is_refused_and_changes_nothing(why, payments, expected_total, code):
    """The amounts must add up to the total the buyer saw, by methods the shop takes."""
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    asked = model.Payments(payments, expected_total)
    reply = shop.run(shop.command(model.Complete, checkout_id, payments=asked))
    assert reply.code == code
    if code == "total_changed":
        assert reply.extra == {"current_total": PRICE}
    assert shop.state(checkout_id).phase == "open"
    express = shop.start(express=asked)
    assert shop.run(express).code == code
    assert shop.holds(express.checkout_id) == []


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        (model.Fields(), ["$.buyer.email", "$.buyer.name", "$.shipping_address"]),
        (model.Fields(ALL, BUYER), ["$.shipping_address"]),
        (
            model.Fields(ALL, BUYER, msgspec.structs.replace(HOME, problems=(model.Problem("city", "missing", "?"),))),
            ["$.shipping_address.city"],
        ),
    ],
    ids=["nothing given", "no address", "a field of the address"],
)
def test_an_unready_checkout_is_not_completed_and_an_unready_express_holds_nothing(fields, paths):
    """`errors` has everything that is missing, each with its path."""
    shop = Shop(tea=5)
    start = shop.start(fields=fields)
    shop.run(start)
    reply = shop.run(shop.complete(start.checkout_id, "ok"))
    assert (reply.code, [error.path for error in reply.errors]) == ("checkout_not_ready", paths)
    express = shop.run(shop.start(fields=fields, express=CARD))
    assert (express.code, [error.path for error in express.errors]) == ("checkout_not_ready", paths)
    assert shop.levels("tea") == (5, 1, 0)


def test_what_cannot_be_delivered_cannot_be_completed():
    """Only Germany is served; a buyer elsewhere is told so, and an express checkout leaves no hold."""
    shop = Shop(tea=5)
    zone = Zone(("DE",), (ShippingOption("slow", "Slow", {"USD": 500}, 1, 9),))
    shop.ask(model.PutRules(command_id=b"", shipping=ShippingTable((zone,))))
    checkout_id = open_checkout(shop)
    assert shop.run(shop.complete(checkout_id, "ok")).errors[0].code == "address_undeliverable"
    assert shop.run(shop.start(express=CARD)).errors[0].code == "address_undeliverable"
    there = model.Fields(("shipping_address",), shipping_address=AWAY)
    assert shop.run(shop.command(model.Patch, checkout_id, fields=there)).checkout.selected == "slow"
    assert shop.run(shop.complete(checkout_id, "ok")).order.totals[1] == Total("fulfillment", 500)
