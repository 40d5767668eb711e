"""Bugs of other shops in which a buyer's money and a buyer's order went different ways."""

from __future__ import annotations

import asyncio

import pytest

from domain import cart_model
from domain import checkout_model as model
from domain.messages import Refusal
from tests.support.client import DETAILS, Client, code_of, key, lines, pay_with
from tests.support.engine_facts import assert_consistent, book, gateway_call, moved, orders, saga, sold
from tests.support.engine_harness import GUEST, VISA, Engine, card, engine, until

AUTHENTICATION = "pm_card_authenticationRequired"
DECLINED = "pm_card_chargeDeclined"
ONE_PURCHASE = {"authorization": 1, "capture": 1}


# ── PrestaShop#25530 ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("crash", [(), ("checkout-0",), ("checkout-0", "stock-0", "cart-0")])
async def test_prestashop_25530_who_pays_and_closes_the_tab_has_an_order(database: str, crash: tuple[str, ...]) -> None:
    """PrestaShop#25530: who paid at the bank's page and did not click back to the shop had paid for nothing.

    Nobody comes back here: the buyer passes the bank's step and is gone, and the shop finds out by itself.
    """
    async with engine(database) as e:
        await e.shelve({"A": 5})
        cart_id = await e.create_cart({"A": 2})
        asked = await e.start_checkout(cart_id=cart_id, express=card(AUTHENTICATION))
        assert asked.checkout.status == "requires_escalation"
        if crash:
            await e.kill(*crash)
        await e.resolve(asked.checkout.payments[0].id)
        await e.start()
        await e.settled()
        found = await e.read(asked.checkout.id)
        assert (found.checkout.status, found.order.payment_status) == ("completed", "paid")
        assert (await sold(e, "A"), await moved(e)) == ((2, 0), ONE_PURCHASE)
        await assert_consistent(e)


@pytest.mark.parametrize("crash", [False, True], ids=["calm", "crash"])
async def test_prestashop_25530_who_closes_the_tab_while_paying_has_an_order(
    database: str, monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    """PrestaShop#25530: the browser that had sent the payment is closed before any answer.

    Nobody asks again: if the coordinator dies too, its next incarnation takes the payment up from its journal.
    """
    called = gateway_call(monkeypatch)
    async with engine(database) as e:
        await e.shelve({"A": 5})
        checkout = (await e.start_checkout({"A": 1})).checkout
        paying = asyncio.create_task(e.complete(checkout.id, "pm_sandbox_slow_100"))
        await called.wait()
        paying.cancel()
        if crash:
            await e.kill("checkout-0")
            await e.start()
        await e.settled()
        assert (await e.read(checkout.id)).order.payment_status == "paid"
        assert (await sold(e, "A"), await moved(e)) == ((1, 0), ONE_PURCHASE)
        await assert_consistent(e)


# ── ps_checkout#1546 ────────────────────────────────────────────────────────────────────────────────────


async def test_ps_checkout_1546_a_payment_does_not_pay_for_another_cart(database: str) -> None:
    """ps_checkout#1546: the same payment came back under a new cart id, and made a second order.

    Two carts of one buyer wait at the bank's page. One step is passed, and the buyer comes back with that payment
    to both: it pays for the cart it was made for, and for nothing else.
    """
    async with engine(database) as e:
        await e.shelve({"A": 5})
        carts = [await e.create_cart({"A": 1}) for _ in range(2)]
        secured = card(AUTHENTICATION)
        first, second = [(await e.start_checkout(cart_id=name, express=secured)).checkout for name in carts]
        payment_id = first.payments[0].id
        await e.resolve(payment_id)
        wrong = await e.tell(model.ConfirmPayment, second.id, payment_id=payment_id, owner=GUEST)
        assert (isinstance(wrong, Refusal), wrong.code) == (True, "not_found")
        right = await e.tell(model.ConfirmPayment, first.id, payment_id=payment_id, owner=GUEST)
        assert right.order.status == "confirmed"
        own = second.payments[0].id
        waiting = await e.tell(model.ConfirmPayment, second.id, payment_id=own, owner=GUEST)
        assert (waiting.status, waiting.checkout.status) == (202, "requires_escalation")
        await e.settled(still_open=1)
        assert (await sold(e, "A"), await orders(e)) == ((1, 1), 1)
        assert await moved(e) == ONE_PURCHASE
        await assert_consistent(e)


def test_ps_checkout_1546_a_payment_sent_again_for_a_new_cart_is_refused(shop: Client) -> None:
    """ps_checkout#1546: buyers who were shown an error sent the same payment again for a new cart.

    The request's key stands for the cart it came with: with another cart it is refused, and nothing is charged.
    """
    sku = shop.product(5)
    customer = {"Authorization": f"Bearer {shop.server.customer_token('amélie')}"}
    one = key()
    answers = []
    for _ in range(2):
        cart = shop.post("/v1/carts", lines((sku, 1)), customer).json()
        body = {"cart_id": cart["id"], **DETAILS, **pay_with()}
        answers.append(shop.post("/v1/express-checkouts", body, customer, key_is=one))
    assert answers[0].status_code == 200, answers[0].text
    assert code_of(answers[1]) == (422, "idempotency_key_reused")
    assert shop.figures(sku) == (4, 0, 4, 1)


# ── woocommerce-gateway-stripe#5703 ─────────────────────────────────────────────────────────────────────


async def assert_nothing_is_owed(e: Engine, checkout_id: str) -> None:
    """The checkout is canceled; no unit is held, and nothing of the buyer's is at the gateway."""
    await e.settled()
    assert (await e.read(checkout_id)).checkout.status == "canceled"
    money = await moved(e)
    assert (money["authorization"], money["capture"], money["refund"]) == (money["void"], 0, 0)
    assert (await sold(e, "A"), await orders(e)) == ((0, 0), 0)
    await assert_consistent(e)


async def test_woocommerce_stripe_5703_canceled_at_the_banks_page_and_passed_afterwards(database: str) -> None:
    """woocommerce-gateway-stripe#5703: an order was canceled while 3-D Secure was pending; the payment went through
    later, was taken, and nobody gave it back.

    Here the payment is voided before the cancel is answered: the buyer's late step finds nothing to pay.
    """
    async with engine(database) as e:
        await e.shelve({"A": 1})
        asked = await e.express({"A": 1}, AUTHENTICATION)
        canceled = await e.tell(model.Cancel, asked.checkout.id, owner=GUEST)
        assert (canceled.status, canceled.checkout.status) == (200, "canceled")
        late = await e.resolve(asked.checkout.payments[0].id)
        assert getattr(late, "code", "") == "not_pending"
        assert [entry.type for entry in await book(e)] == ["authorization", "void"]
        assert "authorization" not in await moved(e)
        await e.settled()
        assert await sold(e, "A") == (0, 0)
        await assert_consistent(e)


@pytest.mark.parametrize("crash", [False, True], ids=["calm", "crash"])
@pytest.mark.parametrize("token", ["pm_sandbox_slow_100", "pm_sandbox_timeout_after"], ids=["slow", "no answer"])
async def test_woocommerce_stripe_5703_canceled_while_the_payment_is_under_way(
    database: str, monkeypatch: pytest.MonkeyPatch, token: str, crash: bool
) -> None:
    """woocommerce-gateway-stripe#5703: the payment settles after the cancel, or its answer never comes.

    The cancel is remembered until the outcome is known, also by the next incarnation; then the money goes back.
    """
    called = gateway_call(monkeypatch)
    async with engine(database, gateway_timeout_s=0.2) as e:
        await e.shelve({"A": 1})
        checkout = (await e.start_checkout({"A": 1})).checkout
        paying = asyncio.create_task(e.complete(checkout.id, token))
        await called.wait()
        canceling = asyncio.create_task(e.tell(model.Cancel, checkout.id, owner=GUEST))
        await until(lambda: len(saga(e, checkout.id).asked) == 2)
        if crash:
            await e.kill("checkout-0")
            await e.start()
        async with asyncio.timeout(20):
            refused, canceled = await asyncio.gather(paying, canceling)
        assert isinstance(refused, Refusal)
        assert canceled.checkout.status == "canceled"
        await assert_nothing_is_owed(e, checkout.id)
        assert (await moved(e))["authorization"] == 1


# ── medusa#12481 ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("first", [DECLINED, "pm_sandbox_timeout_before", "error"])
async def test_medusa_12481_after_a_failed_authorization_the_cart_can_be_bought(database: str, first: str) -> None:
    """medusa#12481: a cart whose authorization had failed once could never be completed again.

    Declined, never answered, or answered by errors for a while: the same cart is bought in the end, and paid once.
    """
    async with engine(database, gateway_timeout_s=0.1) as e:
        await e.shelve({"A": 1})
        cart_id = await e.create_cart({"A": 1})
        checkout = (await e.start_checkout(cart_id=cart_id)).checkout
        if first == "error":
            e.sandbox.configure(mode="error")
            paying = asyncio.create_task(e.complete(checkout.id))
            await until(lambda: any(leg.doubt for leg in saga(e, checkout.id).legs))
            e.sandbox.configure(mode="up")
            done = await paying
        else:
            failed = await e.complete(checkout.id, first)
            assert (isinstance(failed, Refusal), failed.code) == (True, "payment_failed")
            done = await e.complete(checkout.id)
        assert done.order.status == "confirmed"
        await e.settled()
        money = await moved(e)
        assert (await sold(e, "A"), money["authorization"], money["capture"]) == ((1, 0), 1, 1)
        await assert_consistent(e)


async def test_medusa_12481_a_cart_whose_checkout_failed_for_good_can_be_bought(database: str) -> None:
    """medusa#12481: too many declines end the checkout, and give its cart back."""
    async with engine(database) as e:
        await e.shelve({"A": 1})
        cart_id = await e.create_cart({"A": 1})
        checkout = (await e.start_checkout(cart_id=cart_id)).checkout
        for _ in range(e.policy.payment_attempts):
            assert (await e.complete(checkout.id, DECLINED)).code == "payment_failed"
        await e.settled()
        cart = (await e.ask(cart_model.ReadCart(command_id=b"", cart_id=cart_id, owner=GUEST))).cart
        assert (cart.status, cart.checkout_id) == ("open", None)
        again = await e.start_checkout(cart_id=cart_id, express=card(VISA))
        assert again.order.status == "confirmed"
        await e.settled()
        assert (await sold(e, "A"), await moved(e)) == ((1, 0), ONE_PURCHASE)
        await assert_consistent(e)
