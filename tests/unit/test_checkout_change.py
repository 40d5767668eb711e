"""Changing an open checkout: what it takes, gives back and re-prices, and that it is all or nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain import cart_model
from domain import checkout_model as model
from domain.catalog import Product
from domain.checkout_actions import next_actions
from domain.pricing import Total
from domain.shipping import ShippingOption, ShippingTable, Zone
from domain.stock import HoldState, Sweep
from tests.unit.checkout_phases import lines_patch, open_checkout
from tests.unit.checkout_world import AWAY, BUYER, HOME, PRICE, READY, Shop, wanted

SLOW = ShippingOption("slow", "Slow", {"USD": 500}, 3, 9)
FAST = ShippingOption("fast", "Fast", {"USD": 900}, 1, 2)
TABLE = ShippingTable((Zone(("US",), (SLOW, FAST)), Zone(("*",), (SLOW,))))


def change(shop: Shop, checkout_id: str, **fields: Any) -> Any:
    """Patch fields by their names in the state."""
    names = {"selected_option": "selected_shipping_option", "lines": "line_items"}
    given = tuple(names.get(name, name) for name in fields)
    return shop.run(shop.command(model.Patch, checkout_id, fields=model.Fields(given, **fields)))


CHANGES = [
    ({"tea": 3}, {"tea": 3, "mug": 0, "milk": 0}),
    ({"tea": 1}, {"tea": 1, "mug": 0, "milk": 0}),
    ({"mug": 2, "tea": 2}, {"tea": 2, "mug": 2, "milk": 0}),
    ({"mug": 2}, {"tea": 0, "mug": 2, "milk": 0}),
    ({"milk": 1, "tea": 5}, {"tea": 5, "mug": 0, "milk": 1}),
]


@pytest.mark.parametrize(("lines", "reserved"), CHANGES)
def test_changed_lines_change_the_hold(lines, reserved):
    """More is taken, less given back, on whichever shard; the totals follow, lines keep their ids."""
    shop = Shop(tea=5, mug=3, milk=2)
    checkout_id = open_checkout(shop, lines={"tea": 2})
    before = {line.sku: line.id for line in shop.state(checkout_id).lines}
    view = shop.run(lines_patch(shop, checkout_id, **lines)).checkout
    assert {line.sku: line.quantity for line in view.lines} == lines
    assert view.totals[-1] == Total("total", sum(lines.values()) * PRICE)
    assert {sku: shop.levels(sku)[1] for sku in reserved} == reserved
    assert all(line.id == before.get(line.sku, line.id) for line in view.lines)
    assert shop.run(shop.complete(checkout_id, "ok")).status == 200


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ({"tea": 6}, "out_of_stock"),
        ({"mug": 3, "tea": 9}, "out_of_stock"),
        ({"hat": 1, "mug": 1}, "item_unavailable"),
    ],
)
def test_a_change_that_stock_refuses_changes_nothing(lines, code):
    """What other shards took for it is given back; lines, totals and the reservation's time stay."""
    shop = Shop(tea=5, mug=3)
    checkout_id = open_checkout(shop, lines={"tea": 2})
    before = shop.ask(shop.command(model.Read, checkout_id)).checkout
    shop.now_ms += 60_000
    assert shop.run(lines_patch(shop, checkout_id, **lines)).code == code
    after = shop.ask(shop.command(model.Read, checkout_id)).checkout
    assert (after.lines, after.totals) == (before.lines, before.totals)
    assert after.reservation_expires_at_ms == before.reservation_expires_at_ms
    assert (shop.levels("tea")[1], shop.levels("mug")[1]) == (2, 0)
    assert shop.run(shop.complete(checkout_id, "ok")).status == 200


def test_a_sku_that_was_given_up_may_come_back():
    """Also after what was left of its shard's part of the hold has gone with its time."""
    shop = Shop(tea=5, mug=3)
    checkout_id = open_checkout(shop, lines={"tea": 1, "mug": 1})
    shop.run(lines_patch(shop, checkout_id, tea=1))
    for _ in range(3):
        shop.now_ms += shop.policy.hold_ttl_ms - 1
        shop.run(lines_patch(shop, checkout_id, tea=2))
        shop.run(lines_patch(shop, checkout_id, tea=1))
        for core in shop.stocks.values():
            core.ask(Sweep(command_id=b"", hold_ids=(checkout_id[-16:],)), shop.now_ms)
    assert shop.run(lines_patch(shop, checkout_id, tea=1, mug=2)).status == 200
    assert (shop.levels("tea")[1], shop.levels("mug")[1]) == (1, 2)


def test_every_action_of_the_buyer_moves_the_reservations_end():
    """The whole time again after each change, on every shard; never longer than a cart may idle."""
    shop = Shop(model.Policy(cart_idle_ms=600_000), tea=5, mug=3)
    checkout_id = open_checkout(shop, lines={"tea": 1, "mug": 1})
    for lines in (None, {"tea": 2, "mug": 1}):
        shop.now_ms += 500_000
        fields = {} if lines is None else {"lines": wanted(lines)}
        view = change(shop, checkout_id, **fields).checkout
        assert view.reservation_expires_at_ms == shop.now_ms + shop.policy.hold_ttl_ms
        assert {hold.expires_at_ms for hold in shop.holds(checkout_id)} == {view.reservation_expires_at_ms}


@pytest.mark.parametrize(("ttl_ms", "idle_ms"), [(500_000, 600_000), (600_000, 500_000)])
def test_what_a_buyer_does_in_a_checkout_is_done_in_its_cart(ttl_ms, idle_ms):
    """Neither is idle: the reservation has its whole time again, but for what a cart may idle, and so has the cart."""
    shop = Shop(model.Policy(hold_ttl_ms=ttl_ms, cart_idle_ms=idle_ms), tea=5)
    cart_id = shop.make_cart({"tea": 1})
    start = shop.start(cart_id=cart_id, fields=READY)
    assert shop.run(start).checkout.reservation_expires_at_ms == shop.now_ms + 500_000
    read = cart_model.ReadCart(command_id=b"", cart_id=cart_id)
    for act in ("patch", "decline") * 2:
        shop.now_ms += 400_000
        if act == "patch":
            change(shop, start.checkout_id, billing_address=HOME if shop.now_ms % 800_000 else AWAY)
        else:
            shop.run(shop.complete(start.checkout_id, "bad"))
        view = shop.ask(shop.command(model.Read, start.checkout_id)).checkout
        assert view.reservation_expires_at_ms == shop.now_ms + 500_000
        cart = shop.carts.ask(read, shop.now_ms).reply.cart
        assert (cart.status, cart.expires_at_ms) == ("open", shop.now_ms + idle_ms)
    shop.pass_time(500_000)
    shop.settle()
    assert shop.state(start.checkout_id).phase == "canceled"
    shop.now_ms += idle_ms + 1
    assert shop.carts.ask(read, shop.now_ms).reply.cart.status == "expired"


NOTHING_NEW = [
    {},
    {"lines": wanted({"tea": 2})},
    {"shipping_address": HOME, "buyer": BUYER, "billing_address": None},
    {"selected_option": "fast"},
]


@pytest.mark.parametrize("fields", NOTHING_NEW, ids=lambda fields: "+".join(fields) or "empty")
def test_a_patch_that_changes_nothing_is_answered_as_it_stands(fields):
    """The same version, nothing asked of stock; the version that it names must be the present one all the same."""
    shop = Shop(tea=5)
    shop.ask(model.PutRules(command_id=b"", shipping=TABLE))
    checkout_id = open_checkout(shop, lines={"tea": 2})
    change(shop, checkout_id, selected_option="fast")
    before = shop.state(checkout_id)
    shop.now_ms += 60_000
    reply = change(shop, checkout_id, **fields)
    read = shop.ask(shop.command(model.Read, checkout_id))
    assert (reply.status, reply) == (200, read)
    after = shop.state(checkout_id)
    assert msgspec.structs.replace(after, answers={}) == msgspec.structs.replace(before, answers={})
    given = model.Fields(tuple(fields), **fields)
    stale = shop.command(model.Patch, checkout_id, fields=given, expected_version=before.version - 1)
    assert shop.ask(stale).code == "version_mismatch"


@pytest.mark.parametrize("spent", [0.49, 0.51])
def test_a_buyer_who_changes_nothing_is_there_all_the_same(spent):
    """Once half of the reservation's time is over, the same again prolongs it."""
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    before = shop.state(checkout_id)
    shop.now_ms += int(spent * shop.policy.hold_ttl_ms)
    view = change(shop, checkout_id, shipping_address=HOME).checkout
    began_ms = shop.now_ms if spent > 0.5 else before.updated_at_ms
    assert view.reservation_expires_at_ms == began_ms + shop.policy.hold_ttl_ms
    assert {hold.expires_at_ms for hold in shop.holds(checkout_id)} == {view.reservation_expires_at_ms}
    assert (view.version > before.version) == (spent > 0.5)


def test_a_patch_of_nothing_reprices_when_the_tables_have_changed():
    """Something is then other than it was."""
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    before = shop.state(checkout_id)
    shop.ask(model.PutRules(command_id=b"", shipping=TABLE))
    view = change(shop, checkout_id).checkout
    assert (view.selected, view.version > before.version) == ("slow", True)


def test_an_address_without_its_country_is_shipped_nowhere():
    """No zone takes it, not even that of all countries; the buyer is told what is missing, and nothing else."""
    shop = Shop(tea=5)
    shop.ask(model.PutRules(command_id=b"", shipping=ShippingTable((Zone(("*",), TABLE.zones[0].options),))))
    checkout_id = open_checkout(shop)
    nowhere = model.Address(b"sealed", "", None, None, (model.Problem("country", "missing", "Give the country."),))
    view = change(shop, checkout_id, shipping_address=nowhere).checkout
    assert (view.offers, view.selected, [total.type for total in view.totals]) == ((), None, ["subtotal", "total"])
    assert [message.path for message in view.messages] == ["$.shipping_address.country"]


def test_the_cheapest_option_is_selected_until_the_buyer_chooses():
    """A choice stays while it is offered; an address where it is not, or clearing it, brings the cheapest back."""
    shop = Shop(tea=5)
    shop.ask(model.PutRules(command_id=b"", shipping=TABLE))
    checkout_id = open_checkout(shop)
    steps: list[tuple[dict[str, Any], str]] = [
        ({}, "slow"),
        ({"selected_option": "fast"}, "fast"),
        ({"billing_address": AWAY}, "fast"),
        ({"shipping_address": AWAY}, "slow"),
        ({"shipping_address": HOME}, "slow"),
        ({"shipping_address": HOME, "selected_option": "fast"}, "fast"),
        ({"selected_option": None}, "slow"),
    ]
    for fields, selected in steps:
        view = change(shop, checkout_id, **fields).checkout
        assert (view.selected, view.totals[1].amount) == (selected, 500 if selected == "slow" else 900)


@pytest.mark.parametrize("lines", [{}, {"lines": wanted({"tea": 2})}], ids=["alone", "with other lines"])
def test_an_option_that_is_not_offered_changes_nothing(lines):
    """Found out at once, or, with lines that must be held first, when they are; they are given back."""
    shop = Shop(tea=5)
    shop.ask(model.PutRules(command_id=b"", shipping=TABLE))
    checkout_id = open_checkout(shop)
    reply = change(shop, checkout_id, selected_option="rocket", **lines)
    assert (reply.code, reply.errors[0].path) == ("validation_failed", "$.selected_shipping_option")
    assert shop.levels("tea") == (5, 1, 0)


def test_a_line_without_a_price_in_the_checkouts_currency_changes_nothing():
    shop = Shop(tea=5)
    shop.put("mug", Product("Mug", {"EUR": 5}), 5)
    checkout_id = open_checkout(shop)
    assert change(shop, checkout_id, lines=wanted({"tea": 1, "mug": 1})).code == "item_unavailable"
    assert (shop.levels("tea")[1], shop.levels("mug")[1]) == (1, 0)


def test_a_field_can_be_cleared_and_what_is_not_given_stays():
    """A JSON null clears; a field that is not named is left alone."""
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    view = change(shop, checkout_id, shipping_address=None).checkout
    assert (view.status, view.buyer, view.shipping_address) == ("incomplete", BUYER.sealed, None)
    assert change(shop, checkout_id, shipping_address=HOME).checkout.status == "ready_for_complete"


@pytest.mark.parametrize("lines", [None, {"mug": 1, "tea": 1}], ids=["an extension", "other lines"])
def test_a_change_that_finds_the_hold_expired_ends_the_checkout(lines):
    """The buyer is told so; what was taken for the change elsewhere goes back."""
    shop = Shop(tea=5, mug=3)
    checkout_id = open_checkout(shop)
    shop.now_ms += shop.policy.hold_ttl_ms
    for core in shop.stocks.values():
        core.ask(Sweep(command_id=b"", hold_ids=(checkout_id[-16:],)), shop.now_ms)
    fields = {} if lines is None else {"lines": wanted(lines)}
    assert change(shop, checkout_id, **fields).code == "reservation_expired"
    assert (shop.state(checkout_id).phase, shop.holds(checkout_id)) == ("canceled", [])
    assert (shop.levels("tea")[1], shop.levels("mug")[1]) == (0, 0)


def test_a_late_copy_of_the_take_does_not_undo_the_trim():
    """The trim has a revision of its own."""
    shop = Shop(tea=5, mug=3)
    checkout_id = open_checkout(shop, lines={"tea": 2})
    shop.ask(lines_patch(shop, checkout_id, tea=1, mug=1))
    [take] = next_actions(shop.state(checkout_id))
    shop.settle()
    assert isinstance(shop.do(take), HoldState)
    assert (shop.levels("tea")[1], shop.levels("mug")[1]) == (1, 1)


def test_a_change_that_was_too_long_on_its_way_is_sent_again():
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    patch = lines_patch(shop, checkout_id, tea=2)
    shop.ask(patch)
    [take] = next_actions(shop.state(checkout_id))
    shop.tell(checkout_id, take.name, HoldState("held", "stale"))
    assert next_actions(shop.state(checkout_id)) == [take]
    assert shop.run(patch).status == 200


@pytest.mark.parametrize("kind", [model.Cancel, model.Replace])
def test_what_comes_during_a_change_is_done_after_it(kind):
    """The patch is answered as it was made, then the checkout ends."""
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    patch = lines_patch(shop, checkout_id, tea=2)
    shop.ask(patch)
    end = (
        shop.command(model.Cancel, checkout_id)
        if kind is model.Cancel
        else model.Replace(command_id=b"r", checkout_id=checkout_id, successor="chk_2")
    )
    assert shop.ask(end) is None
    shop.settle()
    assert shop.answer(patch).status == 200
    assert shop.state(checkout_id).phase == "canceled"
    assert shop.levels("tea") == (5, 0, 0)
    assert shop.answer(end) == model.GaveWay() if kind is model.Replace else shop.answer(end).status == 200
