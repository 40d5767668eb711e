"""Bugs of other shops in which one purchase was carried out by two at once: buyers, tabs, or the shop itself."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from domain import checkout_model as model
from domain.messages import Refusal
from tests.support.client import DETAILS, PRICE, Answer, Client, code_of, key, lines, pay_with
from tests.support.engine_facts import assert_consistent, book, moved, orders, sold
from tests.support.engine_harness import GUEST, VISA, engine, until
from tests.support.server import wait_until

AUTHENTICATION = "pm_card_authenticationRequired"
DECLINED = "pm_card_chargeDeclined"
SLOW = "pm_sandbox_slow_60"
ONE_PURCHASE = {"authorization": 1, "capture": 1}


# ── saleor#15855, medusa#15527 ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("other", [VISA, DECLINED, AUTHENTICATION], ids=["paid", "declined", "must act"])
@pytest.mark.parametrize("crash", [False, True], ids=["calm", "crash"])
async def test_saleor_15855_the_loser_of_two_completions_does_not_refund_the_winner(
    database: str, other: str, crash: bool
) -> None:
    """saleor#15855, medusa#15527: of two completions at once one made the order; the other failed, and undoing
    itself it gave the money of that order back.

    Whatever the second would pay with, and if the coordinator dies meanwhile: one order, paid, nothing given back.
    """
    async with engine(database) as e:
        await e.shelve({"A": 5})
        checkout = (await e.start_checkout({"A": 1})).checkout
        first = asyncio.create_task(e.complete(checkout.id, SLOW))
        others = [asyncio.create_task(e.complete(checkout.id, other)) for _ in range(4)]
        if crash:
            await until(lambda: all(task.done() for task in others))
            await e.kill("checkout-0")
            await e.start()
        done, *refused = await asyncio.gather(first, *others)
        assert (done.status, done.order.status) == (200, "confirmed")
        assert {reply.code for reply in refused} == {"completion_in_progress"}
        await e.settled()
        late = await e.complete(checkout.id, other)
        assert (late.status, late.order.id) == (200, done.order.id)
        await e.settled()
        assert (await sold(e, "A"), await orders(e)) == ((1, 0), 1)
        assert await moved(e) == ONE_PURCHASE
        assert (await e.read(checkout.id)).order.payment_status == "paid"
        await assert_consistent(e)


async def test_medusa_15527_a_failed_start_leaves_the_order_of_its_cart_alone(database: str) -> None:
    """medusa#15527: a failed completion of a cart undid the payment that another completion of it had made.

    Eight one-click purchases of one cart with different cards, good and bad: never more than one is paid, and
    what was paid stays paid.
    """
    async with engine(database, latency_ms="1-10") as e:
        await e.shelve({"A": 8})
        cart_id = await e.create_cart({"A": 1})
        cards = [model.Payments((model.Payment("card", token),)) for token in (VISA, DECLINED) * 4]
        replies = await asyncio.gather(*(e.start_checkout(cart_id=cart_id, express=card) for card in cards))
        placed = [reply for reply in replies if not isinstance(reply, Refusal)]
        assert len(placed) <= 1
        if not placed:  # each gave way to the next, and the last card was a bad one
            placed = [await e.start_checkout(cart_id=cart_id, express=cards[0])]
        await e.settled(still_open=(sum(actor.live for actor in e.coordinators) and None) or 0)
        assert (await orders(e), (await sold(e, "A"))[0]) == (1, 1)
        assert (await moved(e))["capture"] == 1
        assert "refund" not in await moved(e)
        assert (await e.read(placed[0].checkout.id)).order.payment_status == "paid"
        await assert_consistent(e)


# ── medusa#13301 ────────────────────────────────────────────────────────────────────────────────────────


async def test_medusa_13301_the_returning_buyer_and_the_shop_do_not_both_process_the_payment(database: str) -> None:
    """medusa#13301: the buyer's return and the gateway's notice each processed the payment: captured twice, or an
    order nobody could see.

    Here the shop asks the gateway by itself while the buyer comes back in several tabs and the coordinator dies:
    one order, captured once, and everybody is told of the same.
    """
    async with engine(database, latency_ms="1-15") as e:
        await e.shelve({"A": 5})
        for _ in range(3):
            asked = await e.express({"A": 1}, AUTHENTICATION)
            payment_id = asked.checkout.payments[0].id
            await e.resolve(payment_id)
            confirm = {"payment_id": payment_id, "owner": GUEST}
            tabs = [asyncio.create_task(e.tell(model.ConfirmPayment, asked.checkout.id, **confirm)) for _ in range(8)]
            await until(lambda tabs=tabs: any(tab.done() for tab in tabs))  # type: ignore[misc]
            await e.kill("checkout-0")
            await e.start()
            told = await asyncio.gather(*tabs)
            assert len({reply.order.id for reply in told}) == 1
            await e.settled()
            late = await e.tell(model.ConfirmPayment, asked.checkout.id, **confirm)
            assert late.order.id == told[0].order.id
            assert [entry.type for entry in await book(e) if entry.payment_id == payment_id] == [
                "authorization", "capture",
            ]  # fmt: skip
        assert (await sold(e, "A"), await orders(e)) == ((3, 0), 3)
        await assert_consistent(e)


# ── magento2#10767 ──────────────────────────────────────────────────────────────────────────────────────


def clicks(count: int, shop: Client, body: dict[str, object], keys: list[str], token: dict[str, str]) -> list[Answer]:
    """As many requests at once, each with its key."""
    with ThreadPoolExecutor(count) as pool:
        path = "/v1/express-checkouts"
        return list(pool.map(lambda one: shop.post(path, body, token, key_is=one), keys))


@pytest.mark.parametrize("keys", ["one key", "a key each"])
def test_magento2_10767_who_clicks_pay_twice_buys_once(shop: Client, keys: str) -> None:
    """magento2#10767: a second click on "pay", handled beside the first, made a second order and a second charge.

    Six clicks on one cart, whether the page sends its key again or a new one each time.
    """
    sku = shop.product(10)
    cart = shop.post("/v1/carts", lines((sku, 1))).json()
    body = {"cart_id": cart["id"], **DETAILS, **pay_with("pm_sandbox_slow_100")}
    one = key()
    chosen = [one if keys == "one key" else key() for _ in range(6)]
    answers = clicks(6, shop, body, chosen, {"Cart-Token": cart["token"]})
    done = [answer.json() for answer in answers if answer.status_code == 200]
    assert len({body["order"]["id"] for body in done}) == 1, [answer.text for answer in answers]
    assert {code_of(answer)[1] for answer in answers if answer.status_code != 200} <= {
        "completion_in_progress", "request_in_progress", "checkout_canceled", "cart_checked_out",
    }  # fmt: skip
    ids = {answer.json()["checkout_id"] for answer in answers if "checkout_id" in answer.json()}
    wait_until(lambda: shop.figures(sku) == (9, 0, 9, 1), "one unit sold, none held", 10)
    everything = [entry for name in {done[0]["checkout"]["id"], *ids} for entry in shop.money(name)]
    assert [entry for entry in everything if entry[0] == "capture"] == [("capture", "succeeded", PRICE)]
