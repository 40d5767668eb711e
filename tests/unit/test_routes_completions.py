"""Payment over HTTP: complete, confirm, express; what is final, and what is told as under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.settings import ApiSettings
from domain.cart_model import CartPolicy
from domain.checkout_model import Policy
from tests.support.shop import ADDRESS, BUYER, CARD, DETAILS, Answer, Shop, cart_token, open_shop

DECLINED = [{"method": "card", "token": "pm_card_chargeDeclinedInsufficientFunds"}]
SECURED = [{"method": "card", "token": "pm_card_authenticationRequired"}]


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    settings = ApiSettings(public_url="https://shop.example")
    async with open_shop(settings, Policy(payment_attempts=2)) as shop:
        await shop.stock_up("A", 5)
        yield shop


async def ready(shop: Shop, quantity: int = 1) -> tuple[str, dict[str, str]]:
    """A checkout that lacks only its payment: its path and credentials."""
    body = {"line_items": [{"sku": "A", "quantity": quantity}], **DETAILS}
    answer = await shop.post("/v1/checkouts", body)
    assert answer.json()["status"] == "ready_for_complete", answer.text
    return f"/v1/checkouts/{answer.json()['id']}", cart_token(answer)


async def pay(shop: Shop, path: str, token: dict[str, str], payments: Any = CARD, **more: Any) -> Answer:
    return await shop.post(f"{path}/complete", {"payments": payments, **more}, token)


def outcome(answer: Answer) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


# ── complete ────────────────────────────────────────────────────────────────────────────────────────────


async def test_completing_places_the_order_and_takes_the_money_once(shop: Shop) -> None:
    """Again, with any key: the same order, nothing charged."""
    path, token = await ready(shop)
    done = await pay(shop, path, token)
    assert done.status_code == 200
    assert done.json()["checkout"]["order_id"] == done.json()["order"]["id"]
    again = await pay(shop, path, token)
    assert (again.status_code, again.json()["order"]["id"]) == (200, done.json()["order"]["id"])
    await shop.engine.settled()
    assert [entry["amount"] for entry in await shop.ledger("capture")] == [1999]
    assert await shop.figures("A") == {"on_hand": 4, "reserved": 0, "available": 4, "sold": 1}


async def test_a_repeated_completion_is_answered_byte_for_byte(shop: Shop) -> None:
    """Even after the order has moved on; another body with the key is refused."""
    path, token = await ready(shop)
    headers = token | shop.key()
    first = await shop.post(f"{path}/complete", {"payments": CARD}, headers)
    await shop.engine.settled()
    again = await shop.post(f"{path}/complete", {"payments": CARD}, headers)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    other = await shop.post(f"{path}/complete", {"payments": []}, headers)
    assert outcome(other) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("same_key", [True, False])
async def test_twenty_completions_at_once_pay_once(shop: Shop, same_key: bool) -> None:
    """With one key all get the order; with twenty the others get it or are told that one is under way."""
    path, token = await ready(shop)
    key = shop.key()
    answers = await asyncio.gather(
        *(
            shop.post(f"{path}/complete", {"payments": CARD}, token | (key if same_key else shop.key()))
            for _ in range(20)
        )
    )
    await shop.engine.settled()
    assert len(await shop.ledger("authorization")) == len(await shop.ledger("capture")) == 1
    outcomes = {outcome(answer) for answer in answers}
    assert outcomes <= ({(200, "")} if same_key else {(200, ""), (409, "completion_in_progress")})
    assert len({answer.json()["order"]["id"] for answer in answers if answer.status_code == 200}) == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"payments": CARD, "expected_total": 1}, (409, "total_changed")),
        ({"payments": [CARD[0] | {"amount": 5}]}, (422, "payment_amount_mismatch")),
        ({"payments": [CARD[0], CARD[0]]}, (422, "payment_amount_mismatch")),
        ({"payments": []}, (422, "payment_amount_mismatch")),
        ({}, (422, "validation_failed")),
        ({"payments": [{"method": "gift_card", "code": "X"}]}, (422, "validation_failed")),
        ({"payments": [{"method": "card", "token": "4242424242424242"}]}, (422, "card_number_refused")),
        ({"payments": [{"method": "paypal", "token": "pm_card_visa"}]}, (422, "validation_failed")),
    ],
)
async def test_a_payment_that_does_not_fit_moves_no_money(
    shop: Shop, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    path, token = await ready(shop)
    assert outcome(await shop.post(f"{path}/complete", body, token)) == expected
    assert await shop.ledger("authorization") == []
    assert (await pay(shop, path, token)).status_code == 200


@pytest.mark.parametrize(
    ("method", "token"),
    [("paypal", "pm_card_visa"), ("paypal", "pm_sandbox_wallet"), ("card", "pm_sandbox_paypal")],
)
async def test_a_test_token_of_another_method_is_named(shop: Shop, method: str, token: str) -> None:
    """Also in an express checkout, which then leaves no trace; the second payment is the one that is wrong."""
    payments = [CARD[0] | {"amount": 1}, {"method": method, "token": token}]
    path, headers = await ready(shop)
    for answer in (await pay(shop, path, headers, payments), await shop.buy("A", payments=payments)):
        assert outcome(answer) == (422, "validation_failed")
        assert [(error["path"], error["code"]) for error in answer.json()["errors"]] == [
            ("$.payments[1].token", "invalid")
        ]
    assert (await shop.figures("A"))["reserved"] == 1


@pytest.mark.parametrize(
    ("method", "token"),
    [("wallet", "pm_card_visa"), ("card", "pm_sandbox_wallet"), ("paypal", "pm_sandbox_error_once")],
)
async def test_wallets_hold_cards_and_trouble_is_anybodys(shop: Shop, method: str, token: str) -> None:
    assert (await shop.buy("A", payments=[{"method": method, "token": token}])).status_code == 200


async def test_where_there_is_no_sandbox_tokens_are_the_gateways_business() -> None:
    async with open_shop(ApiSettings(sandbox_on=False)) as shop:
        await shop.stock_up("A", 5)
        assert (await shop.buy("A", payments=[{"method": "paypal", "token": "pm_card_visa"}])).status_code == 200


async def test_a_changed_total_is_told(shop: Shop) -> None:
    path, token = await ready(shop)
    answer = await pay(shop, path, token, expected_total=1)
    assert answer.json()["current_total"] == 1999
    assert answer.json()["checkout_id"] in path


async def test_what_is_missing_is_listed(shop: Shop) -> None:
    """409 names every field, and a key is no longer bound once something was changed with a new one."""
    answer = await shop.post("/v1/checkouts", {"line_items": [{"sku": "A", "quantity": 1}]})
    path, token = f"/v1/checkouts/{answer.json()['id']}", cart_token(answer)
    refused = await pay(shop, path, token)
    assert outcome(refused) == (409, "checkout_not_ready")
    assert {error["path"] for error in refused.json()["errors"]} == {
        "$.buyer.email",
        "$.buyer.name",
        "$.shipping_address",
    }
    await shop.patch(path, DETAILS, token)
    assert (await pay(shop, path, token)).status_code == 200


async def test_after_a_decline_another_method_is_welcome(shop: Shop) -> None:
    """The hold stays; after as many declines as are allowed the checkout is canceled, its hold released."""
    path, token = await ready(shop)
    declined = await pay(shop, path, token, DECLINED)
    assert outcome(declined) == (402, "payment_failed")
    assert declined.json()["errors"][0]["code"] == "insufficient_funds"
    assert declined.json()["errors"][0]["retryable"] is True
    assert (await shop.get(path, token)).json()["reservation"]["status"] == "held"
    assert (await pay(shop, path, token)).status_code == 200
    path, token = await ready(shop)
    declines = [await pay(shop, path, token, DECLINED) for _ in range(2)]
    assert [outcome(declined) for declined in declines] == [(402, "payment_failed")] * 2
    assert outcome(await pay(shop, path, token)) == (409, "checkout_canceled")
    assert (await shop.figures("A"))["reserved"] == 0


async def test_the_last_decline_says_that_it_was_the_last(shop: Shop) -> None:
    """402 as ever, with the bank's reason first; then that the checkout is over, which the checkout explains, too."""
    path, token = await ready(shop)
    first, last = [(await pay(shop, path, token, DECLINED)).json() for _ in range(2)]
    assert [(error["code"], error.get("retryable")) for error in first["errors"]] == [("insufficient_funds", True)]
    assert [(error["code"], error.get("retryable")) for error in last["errors"]] == [
        ("insufficient_funds", False),
        ("checkout_canceled", None),
    ]
    told = last["errors"][1]["message"]
    assert last["detail"] == f"{first['detail']} {told}"
    checkout = (await shop.get(path, token)).json()
    assert (checkout["status"], checkout["cancel_reason"]) == ("canceled", "payment")
    assert checkout["messages"] == [
        {
            "type": "error",
            "code": "payment_failed",
            "path": "$.payments",
            "content": told,
            "severity": "unrecoverable",
        }
    ]


async def test_two_payments_share_the_total(shop: Shop) -> None:
    path, token = await ready(shop)
    wallet = {"method": "wallet", "token": "pm_sandbox_wallet"}
    done = await pay(shop, path, token, [CARD[0] | {"amount": 1000}, wallet])
    assert [payment["amount"] for payment in done.json()["order"]["payments"]] == [1000, 999]


async def test_a_free_order_takes_no_payment(shop: Shop) -> None:
    await shop.stock_up("FREE", 1, {"USD": 0})
    done = await shop.buy("FREE", payments=[])
    assert (done.status_code, done.json()["order"]["payment_status"]) == (200, "paid")


async def test_whose_checkout_it_is_not_it_does_not_exist(shop: Shop) -> None:
    path, _ = await ready(shop)
    _, other = await ready(shop)
    for headers in ({}, other, shop.customer(), shop.operator()):
        assert (await shop.post(f"{path}/complete", {"payments": CARD}, headers)).status_code == 404
        assert (await shop.patch(path, {}, headers)).status_code == 404
        assert (await shop.post(f"{path}/cancel", None, headers)).status_code == 404


# ── under way ───────────────────────────────────────────────────────────────────────────────────────────


async def test_what_takes_longer_than_one_waits_is_told_as_under_way(shop: Shop) -> None:
    """202 with the checkout; the same key then gets the order, and nothing was paid twice."""
    path, token = await ready(shop)
    headers = token | shop.key()
    body = {"payments": [{"method": "card", "token": "pm_sandbox_slow_100"}]}
    early = await shop.post(f"{path}/complete", body, headers | {"Prefer": "wait=0"})
    assert early.status_code == 202
    assert early.headers["retry-after"] == "1"
    assert early.json()["checkout"]["status"] == "complete_in_progress"
    assert "order" not in early.json()
    done = await shop.post(f"{path}/complete", body, headers | {"Prefer": "wait=5"})
    assert done.status_code == 200
    assert len(await shop.ledger("authorization")) == 1


async def test_an_unknown_outcome_is_never_told_as_failed(shop: Shop) -> None:
    """While the gateway is down the answer is 202; once it is back the same key gets the order."""
    path, token = await ready(shop)
    await shop.put("/v1/ops/sandbox", {"mode": "down"})
    headers = token | shop.key()
    pending = await shop.post(f"{path}/complete", {"payments": CARD}, headers | {"Prefer": "wait=0"})
    await shop.engine.settled()
    assert pending.status_code == 202
    assert (await shop.get(path, token)).json()["payments"][0]["status"] == "unknown"
    await shop.put("/v1/ops/sandbox", {"mode": "up"})
    shop.engine.resume()
    done = await shop.post(f"{path}/complete", {"payments": CARD}, headers)
    assert done.status_code == 200
    assert len(await shop.ledger("authorization")) == 1


@pytest.mark.parametrize(("step", "expected"), [("succeed", (200, "")), ("fail", (402, "payment_failed"))])
async def test_a_buyer_who_must_act_is_sent_to_do_so(shop: Shop, step: str, expected: tuple[int, str]) -> None:
    """202 with the next action; confirming after the step ends it either way, before it changes nothing."""
    path, token = await ready(shop)
    waiting = await pay(shop, path, token, SECURED)
    checkout = waiting.json()["checkout"]
    assert (waiting.status_code, checkout["status"]) == (202, "requires_escalation")
    assert checkout["next_action"]["type"] == "redirect_to_url"
    assert checkout["continue_url"] == checkout["next_action"]["redirect_to_url"]["url"]
    assert checkout["continue_url"].startswith("https://shop.example/")
    payment = checkout["payments"][0]["id"]
    confirm = f"{path}/payments/{payment}/confirm"
    assert (await shop.post(confirm, None, token)).status_code == 202
    resolve = f"/v1/ops/sandbox/payments/{payment}/resolve"
    assert (await shop.post(resolve, {"outcome": step}, shop.operator())).status_code == 200
    assert outcome(await shop.post(confirm, None, token)) == expected
    again = await shop.post(resolve, {"outcome": step}, shop.operator())
    assert outcome(again) == (409, "payment_not_pending")
    unknown = resolve.replace(payment, "pay_nope")
    assert outcome(await shop.post(unknown, {"outcome": step}, shop.operator())) == (404, "not_found")
    assert (await shop.post(f"{path}/payments/pay_nope/confirm", None, token)).status_code == 404


async def test_an_engine_that_is_busy_asks_for_patience(shop: Shop) -> None:
    """503 with Retry-After, on reads and writes; afterwards the same key works."""
    from cluster.engine_types import Busy

    path, token = await ready(shop)
    headers = token | shop.key()
    shop.engine.busy = Busy(2.5)
    refused = await shop.post(f"{path}/complete", {"payments": CARD}, headers)
    assert (*outcome(refused), refused.headers["retry-after"]) == (503, "busy", "3")
    shop.engine.busy = None
    assert (await shop.post(f"{path}/complete", {"payments": CARD}, headers)).status_code == 200


# ── express ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_express_checkout_is_answered_as_a_completion(shop: Shop) -> None:
    """A guest is told the token, which opens checkout and order; a repeat is the same byte for byte."""
    key = shop.key()
    first = await shop.buy("A", headers=key)
    assert first.status_code == 200
    await shop.engine.advance(3_000)
    again = await shop.buy("A", headers=key)
    assert again.content == first.content
    token = cart_token(first)
    assert (await shop.get(f"/v1/checkouts/{first.json()['checkout']['id']}", token)).status_code == 200
    assert (await shop.get(f"/v1/orders/{first.json()['order']['id']}", token)).status_code == 200
    assert (await shop.figures("A"))["sold"] == 1


async def test_ten_buyers_of_five_units_get_five_orders(shop: Shop) -> None:
    """Everybody else is told out_of_stock, and nothing of theirs is left."""
    answers = await asyncio.gather(*(shop.buy("A") for _ in range(10)))
    outcomes = sorted(outcome(answer) for answer in answers)
    assert outcomes == [(200, "")] * 5 + [(409, "out_of_stock")] * 5
    assert await shop.figures("A") == {"on_hand": 0, "reserved": 0, "available": 0, "sold": 5}
    assert len(await shop.ledger("capture")) == 5


async def test_a_declined_express_checkout_stays_open_to_another_method(shop: Shop) -> None:
    """402 tells the guest token and checkout; both open the way to a second attempt."""
    declined = await shop.buy("A", payments=DECLINED)
    assert outcome(declined) == (402, "payment_failed")
    assert (await shop.figures("A"))["reserved"] == 1
    path = f"/v1/checkouts/{declined.json()['checkout_id']}"
    assert (await pay(shop, path, cart_token(declined))).status_code == 200


async def test_an_express_checkout_that_lacks_something_holds_nothing(shop: Shop) -> None:
    answer = await shop.buy("A", buyer={"email": "ada@example.com"}, shipping_address=ADDRESS | {"city": ""})
    assert outcome(answer) == (409, "checkout_not_ready")
    assert {error["path"] for error in answer.json()["errors"]} == {"$.buyer.name", "$.shipping_address.city"}
    assert "token" not in answer.json()
    assert (await shop.figures("A"))["reserved"] == 0


async def test_an_express_checkout_under_way_tells_the_token(shop: Shop) -> None:
    """Even when the wait is over before anything was heard: the same key takes it up again."""
    slow = [{"method": "card", "token": "pm_sandbox_slow_100"}]
    key = shop.key()
    early = await shop.post(
        "/v1/express-checkouts",
        {"line_items": [{"sku": "A", "quantity": 1}], **DETAILS, "payments": slow},
        key | {"Prefer": "wait=0"},
    )
    assert early.status_code == 202
    assert (await shop.get(f"/v1/checkouts/{early.json()['checkout']['id']}", cart_token(early))).status_code == 200
    done = await shop.buy("A", headers=key, payments=slow)
    assert (done.status_code, done.json()["token"]) == (200, early.json()["token"])


async def test_a_customer_needs_no_token(shop: Shop) -> None:
    bought = await shop.buy("A", headers=shop.customer())
    assert "token" not in bought.json()
    assert bought.json()["order"]["customer_id"] == "ada"
    assert bought.json()["order"]["buyer"] == BUYER
    mine = await shop.get("/v1/me/orders", shop.customer())
    assert [order["id"] for order in mine.json()["data"]] == [bought.json()["order"]["id"]]


async def test_a_cart_does_not_expire_while_its_checkout_is_paid() -> None:
    """Read it is open, another start is told that a payment is under way, and the payment buys."""
    async with open_shop(policy=Policy(cart_idle_ms=60_000), carts=CartPolicy(idle_ms=60_000)) as shop:
        await shop.stock_up("A", 5)
        cart = await shop.post("/v1/carts", {"line_items": [{"sku": "A", "quantity": 2}]})
        token, body = cart_token(cart), {"cart_id": cart.json()["id"]}
        waiting = await shop.post("/v1/express-checkouts", {**body, **DETAILS, "payments": SECURED}, token)
        assert waiting.status_code == 202, waiting.text
        await shop.engine.advance(120_000)
        assert (await shop.get(f"/v1/carts/{body['cart_id']}", token)).json()["status"] == "open"
        for path, more in (("/v1/checkouts", {}), ("/v1/express-checkouts", {**DETAILS, "payments": CARD})):
            assert outcome(await shop.post(path, body | more, token)) == (409, "completion_in_progress")
        checkout = waiting.json()["checkout"]
        payment = checkout["payments"][0]["id"]
        await shop.post(f"/v1/ops/sandbox/payments/{payment}/resolve", {"outcome": "succeed"}, shop.operator())
        paid = await shop.post(f"/v1/checkouts/{checkout['id']}/payments/{payment}/confirm", None, token)
        assert paid.status_code == 200
        await shop.engine.settled()
        assert (await shop.get(f"/v1/carts/{body['cart_id']}", token)).json()["status"] == "checked_out"


async def test_a_cart_can_be_bought_in_one_step(shop: Shop) -> None:
    """Afterwards it is checked out."""
    cart = await shop.post("/v1/carts", {"line_items": [{"sku": "A", "quantity": 2}]})
    body = {"cart_id": cart.json()["id"], **DETAILS, "payments": CARD}
    bought = await shop.post("/v1/express-checkouts", body, cart_token(cart))
    assert bought.status_code == 200
    await shop.engine.settled()
    path = f"/v1/carts/{cart.json()['id']}"
    assert (await shop.get(path, cart_token(cart))).json()["status"] == "checked_out"
    late = await shop.post(f"{path}/items", {"sku": "A", "quantity": 1}, cart_token(cart))
    assert outcome(late) == (409, "cart_checked_out")
