"""Bugs of other shops in which more was promised than there was, or units were lost to everybody."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from domain import checkout_model as model
from domain.checkout_model import Policy
from domain.messages import Refusal
from tests.support.client import DETAILS, PRICE, Client, code_of, lines, pay_with
from tests.support.engine_facts import assert_consistent, moved, orders, sold
from tests.support.engine_harness import GUEST, Engine, card, engine

AUTHENTICATION = "pm_card_authenticationRequired"
DECLINED = "pm_card_chargeDeclined"


def codes(replies: list[object]) -> Counter[str]:
    """Orders, and refusals by their codes."""
    return Counter(reply.code if isinstance(reply, Refusal) else "order" for reply in replies)


async def from_cart(e: Engine, cart_id: str) -> object:
    """One click that buys a cart."""
    return await e.start_checkout(cart_id=cart_id, express=card())


# ── medusa#16825 ────────────────────────────────────────────────────────────────────────────────────────


async def test_medusa_16825_many_carts_race_for_the_last_unit(database: str) -> None:
    """medusa#16825: carts completed at once for one last unit made two orders, the second an orphan.

    The reservation failed while the steps beside it had succeeded and were not undone: an order without stock and
    without payment stayed. Here: one order, one charge, and of the losers neither order, payment nor hold.
    """
    async with engine(database, latency_ms="1-10") as e:
        await e.shelve({"last": 1})
        carts = [await e.create_cart({"last": 1}) for _ in range(40)]
        replies = await asyncio.gather(*(from_cart(e, cart_id) for cart_id in carts))
        assert codes(replies) == {"order": 1, "out_of_stock": 39}
        await e.settled()
        assert (await sold(e, "last"), await orders(e)) == ((1, 0), 1)
        assert await moved(e) == {"authorization": 1, "capture": 1}
        await assert_consistent(e)


async def test_medusa_16825_what_a_loser_had_reserved_elsewhere_goes_back(database: str) -> None:
    """medusa#16825: of the loser's parallel steps those that had succeeded stayed.

    Here the basket lies on two shards, which answer side by side: the lily is held while the rose is refused.
    """
    async with engine(database, shards={"stock": 2}, latency_ms="1-10") as e:
        await e.shelve({"rose": 1, "lily": 50})
        replies = await asyncio.gather(*(e.express({"rose": 1, "lily": 1}) for _ in range(20)))
        assert codes(replies) == {"order": 1, "out_of_stock": 19}
        await e.settled()
        assert (await sold(e, "rose"), await sold(e, "lily")) == ((1, 0), (1, 0))
        assert await moved(e) == {"authorization": 1, "capture": 1}
        await assert_consistent(e)


# ── medusa#16502 ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["a cart", "a checkout", "an express checkout", "a change of lines"])
def test_medusa_16502_two_lines_of_one_item_are_checked_together(shop: Client, way: str) -> None:
    """medusa#16502: two lines of one stock item were each checked against all of it, and reserved in sum.

    Three units, and a basket with two lines of two: short by one, whichever way it comes, and nothing is held.
    """
    sku = shop.product(3)
    twice = lines((sku, 2), (sku, 2))
    match way:
        case "a cart":
            cart = shop.post("/v1/carts", twice).json()
            answer = shop.post("/v1/checkouts", {"cart_id": cart["id"]}, {"Cart-Token": cart["token"]})
        case "a checkout":
            answer = shop.post("/v1/checkouts", twice)
        case "an express checkout":
            answer = shop.post("/v1/express-checkouts", {**twice, **DETAILS, **pay_with()})
        case _:
            answer = shop.start(sku, 1).patch(twice)
    held = int(way == "a change of lines")
    assert code_of(answer) == (409, "out_of_stock")
    assert [(error["sku"], error["requested"], error["available"]) for error in answer.json()["errors"]] == [
        (sku, 4, 3)
    ]
    assert shop.figures(sku) == (3, held, 3 - held, 0)


def test_medusa_16502_two_lines_that_fit_are_both_held_and_paid(shop: Client) -> None:
    """medusa#16502, the other way round: what is sold is what was paid for."""
    sku = shop.product(5)
    done = shop.post("/v1/express-checkouts", {**lines((sku, 2), (sku, 3)), **DETAILS, **pay_with()})
    assert done.status_code == 200, done.text
    assert done.json()["order"]["totals"][-1] == {"type": "total", "amount": 5 * PRICE}
    assert shop.figures(sku) == (0, 0, 0, 5)


# ── vendure#1738 ────────────────────────────────────────────────────────────────────────────────────────


async def test_vendure_1738_what_lies_in_a_cart_is_not_sold_once_it_is_gone(database: str) -> None:
    """vendure#1738: stock was checked when a cart was filled and taken only when it was paid.

    Five of twenty lie in a cart while others buy all twenty: its owner is told, pays nothing, and keeps the cart.
    """
    async with engine(database) as e:
        await e.shelve({"A": 20})
        cart_id = await e.create_cart({"A": 5})
        await asyncio.gather(*(e.express({"A": 4}) for _ in range(5)))
        refused = await from_cart(e, cart_id)
        assert isinstance(refused, Refusal)
        assert (refused.code, refused.errors[0].extra["available"]) == ("out_of_stock", 0)
        await e.settled()
        assert (await sold(e, "A"), await moved(e)) == ((20, 0), {"authorization": 5, "capture": 5})
        await e.adjust("A", 5)
        assert codes([await from_cart(e, cart_id)]) == {"order": 1}
        await e.settled()
        await assert_consistent(e)


async def test_vendure_1738_no_update_of_stock_is_lost(database: str) -> None:
    """vendure#1738: stock was read, changed and written back by several at once, and 3,000 were sold of 1,000.

    Buyers, cancellations and deliveries of one SKU all at once: every unit is accounted for.
    """
    async with engine(database) as e:
        await e.shelve({"A": 40})
        early = await asyncio.gather(*(e.express({"A": 1}) for _ in range(10)))
        await e.settled()
        cancel = [e.tell(model.CancelOrder, order.checkout.id, reason="no", actor="buyer") for order in early]
        deliver = [e.adjust("A", 1) for _ in range(20)]
        buy = [e.express({"A": 1}) for _ in range(150)]
        replies = (await asyncio.gather(*cancel, *deliver, *buy))[30:]
        await e.settled()
        levels = await e.levels("A")
        assert codes(replies)["order"] == levels.sold <= 60
        assert (levels.received, levels.reserved, levels.on_hand) == (60, 0, 60 - levels.sold)
        money = await moved(e)
        assert money["capture"] - money["refund"] == levels.sold
        await assert_consistent(e)


# ── vendure#3509 ────────────────────────────────────────────────────────────────────────────────────────


async def test_vendure_3509_what_nobody_pays_for_comes_back(database: str) -> None:
    """vendure#3509: an order that nobody paid for held its stock for ever.

    Buyers who leave with the form open, and one who leaves at the bank's page: all units are for sale again.
    """
    policy = Policy(hold_ttl_ms=1, buyer_action_ms=1)
    async with engine(database, policy=policy) as e:
        await e.shelve({"A": 10})
        await asyncio.gather(*(e.start_checkout({"A": 1}) for _ in range(9)))
        await e.express({"A": 1}, AUTHENTICATION)
        await e.settled()
        assert await sold(e, "A") == (0, 0)
        assert (await e.express({"A": 10})).status == 200
        await e.settled()
        assert (await moved(e))["capture"] == 1
        await assert_consistent(e)


# ── Sylius#3573 ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("token", [DECLINED, AUTHENTICATION])
async def test_sylius_3573_a_buyers_own_hold_is_no_obstacle_to_the_second_attempt(database: str, token: str) -> None:
    """Sylius#3573: after a failed payment the retry found no stock: the buyer's own order had it on hold."""
    async with engine(database) as e:
        await e.shelve({"last": 1})
        checkout = (await e.start_checkout({"last": 1})).checkout
        answer = await e.complete(checkout.id, token)
        if token == AUTHENTICATION:
            payment_id = answer.checkout.payments[0].id
            await e.resolve(payment_id, "fail")
            answer = await e.tell(model.ConfirmPayment, checkout.id, payment_id=payment_id, owner=GUEST)
        assert codes([answer]) == {"payment_failed": 1}
        assert await sold(e, "last") == (0, 1)
        assert (await e.complete(checkout.id)).status == 200
        await e.settled()
        assert await sold(e, "last") == (1, 0)
        await assert_consistent(e)


async def test_sylius_3573_a_buyers_own_hold_is_no_obstacle_to_a_change_or_a_new_start(database: str) -> None:
    """Sylius#3573: who has two of three units may ask for the third, and may start over with all three."""
    async with engine(database) as e:
        await e.shelve({"A": 3})
        cart_id = await e.create_cart({"A": 2})
        checkout = (await e.start_checkout(cart_id=cart_id)).checkout
        all_of_it = model.Fields(("line_items",), lines=(model.Wanted("A", 3),))
        changed = await e.tell(model.Patch, checkout.id, fields=all_of_it, owner=GUEST)
        assert codes([changed]) == {"order": 1}
        assert await sold(e, "A") == (0, 3)
        again = await e.start_checkout(cart_id=cart_id)
        assert (again.status, await sold(e, "A")) == (201, (0, 2))
        assert (await e.complete(again.checkout.id)).status == 200
        await e.settled()
        assert await sold(e, "A") == (2, 0)
        await assert_consistent(e)
