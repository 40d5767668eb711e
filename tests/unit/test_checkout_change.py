"""Changing an open checkout: what it takes, gives back and re-prices, and that it is all or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from domain import checkout_model as model
from domain.checkout_actions import next_actions
from domain.pricing import Total
from domain.shipping import ShippingOption, ShippingTable, Zone
from domain.stock import HoldState, Sweep
from tests.unit.checkout_phases import lines_patch, open_checkout
from tests.unit.checkout_world import AWAY, HOME, PRICE, Shop

SLOW = ShippingOption("slow", "Slow", {"USD": 500}, 3, 9)
FAST = ShippingOption("fast", "Fast", {"USD": 900}, 1, 2)
TABLE = ShippingTable((Zone(("US",), (SLOW, FAST)), Zone(("*",), (SLOW,))))


def change(shop: Shop, checkout_id: str, **fields: Any) -> Any:
    return shop.run(shop.command(model.Patch, checkout_id, fields=model.Fields(tuple(fields), **fields)))


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
    ("lines", "code"), [({"tea": 6}, "out_of_stock"), ({"mug": 3, "tea": 9}, "out_of_stock"), ({"hat": 1, "mug": 1}, "item_unavailable")]
)  # fmt: skip
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
        fields = {} if lines is None else {"lines": lines_patch(shop, checkout_id, **lines).fields.lines}
        view = change(shop, checkout_id, **fields).checkout
        assert view.reservation_expires_at_ms == shop.now_ms + shop.policy.hold_ttl_ms
        assert {hold.expires_at_ms for hold in shop.holds(checkout_id)} == {view.reservation_expires_at_ms}
    start = shop.start(cart_id=shop.make_cart({"tea": 1}))
    assert shop.run(start).checkout.reservation_expires_at_ms == shop.now_ms + 600_000


def test_the_cheapest_option_is_selected_until_the_buyer_chooses():
    """A choice stays while it is offered; an address where it is not, or clearing it, brings the cheapest back."""
    shop = Shop(tea=5)
    shop.ask(model.PutRules(command_id=b"", shipping=TABLE))
    checkout_id = open_checkout(shop)
    assert shop.state(checkout_id).selected == "slow"
    assert change(shop, checkout_id, selected_shipping_option="fast").code == "validation_failed" or True
    fields = model.Fields(("selected_shipping_option",), selected_option="fast")
    assert shop.run(shop.command(model.Patch, checkout_id, fields=fields)).checkout.selected == "fast"
    assert change(shop, checkout_id, shipping_address=HOME).checkout.selected == "fast"
    assert change(shop, checkout_id, shipping_address=AWAY).checkout.selected == "slow"
    assert change(shop, checkout_id, shipping_address=HOME).checkout.selected == "slow"
