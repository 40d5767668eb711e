"""Buying over HTTP against a running server: the full journey, express, paying in every way, failing, retrying."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import (
    ADDRESS,
    BUYER,
    PRICE,
    Client,
    code_of,
    key,
    lines,
    pay_with,
    total_of,
)  # fmt: skip
from tests.support.server import wait_until

CAPTURED = [("authorization", "succeeded", PRICE), ("capture", "succeeded", PRICE)]


def test_the_full_journey_from_a_cart_to_a_paid_order(shop: Client) -> None:
    """Cart, lines, checkout, details, completion, order: each step shows where the buyer is."""
    sku, other = shop.product(), shop.product(price=500)
    cart = shop.post("/v1/carts", lines((sku, 1), (sku, 1))).json()
    assert [(line["sku"], line["quantity"], line["amount"]) for line in cart["line_items"]] == [(sku, 2, 3998)]
    token = {"Cart-Token": cart["token"]}
    path = f"/v1/carts/{cart['id']}"
    cart = shop.post(f"{path}/items", {"sku": other, "quantity": 3}, token).json()
    line = cart["line_items"][1]["id"]
    cart = shop.send("PATCH", f"{path}/items/{line}", {"quantity": 1}, token).json()
    assert [(entry["type"], entry["amount"]) for entry in cart["totals"]] == [("subtotal", 4498), ("total", 4498)]

    started = shop.post("/v1/checkouts", {"cart_id": cart["id"]}, token)
    assert started.status_code == 201
    assert "token" not in started.json()
    assert started.json()["status"] == "incomplete"
    assert shop.figures(sku) == (10, 2, 8, 0)
    checkout = f"/v1/checkouts/{started.json()['id']}"
    early = shop.post(f"{checkout}/complete", pay_with(), token)
    assert code_of(early) == (409, "checkout_not_ready")
    assert {"$.buyer.email", "$.shipping_address"} <= {error["path"] for error in early.json()["errors"]}
    changed = shop.send("PATCH", checkout, {"buyer": BUYER, "shipping_address": ADDRESS}, token)
    assert changed.json()["status"] == "ready_for_complete"
    assert changed.json()["selected_shipping_option"] == "standard"

    done = shop.post(f"{checkout}/complete", pay_with() | {"expected_total": 4498}, token)
    assert done.status_code == 200, done.text
    order = done.json()["order"]
    assert (order["status"], total_of(order), order["buyer"]) == ("confirmed", 4498, BUYER)
    assert done.json()["checkout"]["order_id"] == order["id"]
    assert shop.figures(sku) == (8, 0, 8, 2)
    wait_until(lambda: shop.get(f"/v1/orders/{order['id']}", token).json()["payment_status"] == "paid", "paid", 5)
    assert shop.money(started.json()["id"]) == [
        ("authorization", "succeeded", 4498), ("capture", "succeeded", 4498),
    ]  # fmt: skip
    wait_until(lambda: shop.get(path, token).json()["status"] == "checked_out", "cart checked out", 5)
    assert code_of(shop.post(f"{path}/items", {"sku": sku, "quantity": 1}, token)) == (409, "cart_checked_out")
    assert code_of(shop.post("/v1/checkouts", {"cart_id": cart["id"]}, token)) == (409, "cart_checked_out")


def test_express_buys_in_one_call_and_its_token_opens_the_order(shop: Client) -> None:
    sku = shop.product(1)
    answer = shop.express(sku)
    assert answer.status_code == 200
    body = answer.json()
    token = {"Cart-Token": body["token"]}
    assert shop.get(f"/v1/orders/{body['order']['id']}", token).json()["number"] == body["order"]["number"]
    assert shop.get(f"/v1/checkouts/{body['checkout']['id']}", token).json()["status"] == "completed"
    assert shop.figures(sku) == (0, 0, 0, 1)
    short = shop.express(sku)
    assert code_of(short) == (409, "out_of_stock")
    assert [(e["sku"], e["requested"], e["available"]) for e in short.json()["errors"]] == [(sku, 1, 0)]


def test_an_express_checkout_that_is_not_ready_leaves_nothing_held(shop: Client) -> None:
    sku = shop.product(3)
    answer = shop.post("/v1/express-checkouts", lines((sku, 2)) | pay_with())
    assert code_of(answer) == (409, "checkout_not_ready")
    wait_until(lambda: shop.figures(sku) == (3, 0, 3, 0), "nothing held", 5)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("pm_card_chargeDeclined", "card_declined"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ],
)
def test_a_declined_payment_keeps_everything_and_another_is_welcome(shop: Client, token: str, reason: str) -> None:
    """402 names the reason; the same key says it again; a new key with another card buys."""
    sku = shop.product()
    checkout = shop.start(sku)
    first = key()
    declined = checkout.complete(token, key_is=first)
    assert code_of(declined) == (402, "payment_failed")
    assert declined.json()["errors"][0]["code"] == reason
    assert isinstance(declined.json()["errors"][0]["retryable"], bool)
    assert declined.json()["checkout_id"] == checkout.id
    again = checkout.complete(token, key_is=first)
    assert (again.status_code, again.content) == (402, declined.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    after = checkout.read()
    assert (after["status"], after["buyer"], after["reservation"]["status"]) == ("ready_for_complete", BUYER, "held")
    assert shop.figures(sku)[1] == 1
    assert checkout.complete("pm_card_mastercard").status_code == 200
    told = ["declined", "succeeded", "succeeded"]
    wait_until(lambda: [entry[1] for entry in shop.money(checkout.id)] == told, "the second card captured", 5)


def test_a_declined_express_checkout_stays_and_its_token_completes_it(shop: Client) -> None:
    sku = shop.product(1)
    declined = shop.express(sku, "pm_card_chargeDeclined")
    assert code_of(declined) == (402, "payment_failed")
    problem = declined.json()
    assert shop.figures(sku) == (1, 1, 0, 0)
    path = f"/v1/checkouts/{problem['checkout_id']}/complete"
    assert shop.post(path, pay_with(), {"Cart-Token": problem["token"]}).status_code == 200
    assert shop.figures(sku) == (0, 0, 0, 1)


def test_too_many_declines_cancel_the_checkout_and_release_its_hold(shop: Client) -> None:
    """Five by default."""
    sku = shop.product()
    checkout = shop.start(sku)
    for _ in range(5):
        assert checkout.complete("pm_card_chargeDeclined").status_code == 402
    canceled = checkout.until("canceled", 5)
    assert canceled["cancel_reason"] == "payment"
    assert code_of(checkout.complete()) == (409, "checkout_canceled")
    wait_until(lambda: shop.figures(sku)[1] == 0, "hold released", 5)


@pytest.mark.parametrize(
    ("token", "method"), [("pm_card_authenticationRequired", "card"), ("pm_sandbox_paypal", "paypal")]
)
def test_the_buyers_own_step_is_asked_for_and_confirmed(shop: Client, token: str, method: str) -> None:
    """3-D Secure and PayPal: 202 with a way on, then confirm answers as complete would have."""
    sku = shop.product()
    checkout = shop.start(sku)
    asked = checkout.complete(token, method=method)
    assert asked.status_code == 202, asked.text
    waiting = asked.json()["checkout"]
    assert waiting["status"] == "requires_escalation"
    assert waiting["next_action"]["type"] in ("redirect_to_url", "use_stripe_sdk")
    assert waiting["continue_url"].startswith("http")
    assert waiting["reservation"]["status"] == "pinned"
    payment = waiting["payments"][0]["id"]
    shop.resolve(payment)
    confirmed = checkout.confirm(payment)
    assert confirmed.status_code == 200, confirmed.text
    assert confirmed.json()["order"]["status"] == "confirmed"
    wait_until(lambda: shop.money(checkout.id)[-1] == CAPTURED[1], "captured", 5)
    assert [entry[0] for entry in shop.money(checkout.id)].count("capture") == 1


def test_a_buyers_step_that_fails_is_a_payment_that_failed(shop: Client) -> None:
    sku = shop.product()
    checkout = shop.start(sku)
    payment = checkout.complete("pm_card_authenticationRequired").json()["checkout"]["payments"][0]["id"]
    shop.resolve(payment, "fail")
    assert code_of(checkout.confirm(payment)) == (402, "payment_failed")
    assert checkout.complete().status_code == 200
    assert shop.figures(sku) == (9, 0, 9, 1)


def test_a_checkout_that_waits_for_the_buyers_step_can_be_canceled(shop: Client) -> None:
    sku = shop.product()
    checkout = shop.start(sku)
    assert checkout.complete("pm_sandbox_paypal", method="paypal").status_code == 202
    assert checkout.cancel().status_code in (200, 202)
    checkout.until("canceled")
    wait_until(lambda: shop.figures(sku) == (10, 0, 10, 0), "released", 10)
    assert not [entry for entry in shop.money(checkout.id) if entry[0] == "capture"]


@pytest.mark.parametrize("token", ["pm_sandbox_error_once", "pm_sandbox_slow_300", "pm_sandbox_wallet"])
def test_a_gateway_that_stumbles_or_dawdles_charges_once(shop: Client, token: str) -> None:
    sku = shop.product()
    checkout = shop.start(sku)
    method = "wallet" if token.endswith("wallet") else "card"
    assert checkout.complete(token, method=method).status_code == 200
    wait_until(lambda: shop.money(checkout.id) == CAPTURED, "one capture", 5)


def test_no_waiting_is_202_then_the_same_key_has_the_order(shop: Client) -> None:
    """Prefer: wait=0; poll; the same key answers 200; another PATCH or start meanwhile is refused."""
    sku = shop.product()
    checkout = shop.start(sku)
    first = key()
    pending = checkout.complete("pm_sandbox_slow_1500", key_is=first, Prefer="wait=0")
    assert pending.status_code == 202
    assert "order" not in pending.json()
    assert pending.json()["checkout"]["status"] == "complete_in_progress"
    assert code_of(checkout.patch({"buyer": {"name": "X"}})) == (409, "completion_in_progress")
    other = checkout.complete(key_is=key())
    assert code_of(other) == (409, "completion_in_progress")
    checkout.until("completed")
    done = checkout.complete("pm_sandbox_slow_1500", key_is=first)
    assert done.status_code == 200, done.text
    assert done.json()["order"]["id"] == checkout.read()["order_id"]
    wait_until(lambda: shop.money(checkout.id) == CAPTURED, "one capture", 5)


def test_split_payments_must_add_up(shop: Client) -> None:
    sku = shop.product()
    checkout = shop.start(sku)
    path = f"{checkout.path}/complete"
    rest: dict[str, Any] = {"method": "card", "token": "pm_card_visa"}
    two = [{**rest, "amount": 500}, rest]
    wrong = {"payments": [two[0], {**rest, "amount": 1}]}
    assert code_of(shop.post(path, wrong, checkout.headers)) == (422, "payment_amount_mismatch")
    assert code_of(shop.post(path, {"payments": []}, checkout.headers)) == (422, "payment_amount_mismatch")
    assert shop.post(path, {"payments": two}, checkout.headers).status_code == 200
    wait_until(
        lambda: sorted(entry for entry in shop.money(checkout.id) if entry[0] == "capture")
        == [("capture", "succeeded", 500), ("capture", "succeeded", PRICE - 500)],
        "two captures", 5,
    )  # fmt: skip


def test_one_leg_declined_voids_the_other(shop: Client) -> None:
    """Nobody pays for nothing: what was authorized is voided before the buyer hears the 402."""
    sku = shop.product()
    checkout = shop.start(sku)
    payments = [
        {"method": "card", "token": "pm_card_visa", "amount": 500},
        {"method": "card", "token": "pm_card_chargeDeclined"},
    ]
    answer = shop.post(f"{checkout.path}/complete", {"payments": payments}, checkout.headers)
    assert code_of(answer) == (402, "payment_failed")
    wait_until(lambda: ("void", "succeeded", 500) in shop.money(checkout.id), "voided", 5)
    assert checkout.complete().status_code == 200


def test_nothing_to_pay_takes_no_payment(shop: Client) -> None:
    sku = shop.product(price=0)
    checkout = shop.start(sku)
    done = shop.post(f"{checkout.path}/complete", {"payments": []}, checkout.headers)
    assert done.status_code == 200, done.text
    assert shop.money(checkout.id) == []


def test_a_total_that_is_not_the_expected_one_charges_nothing(shop: Client) -> None:
    checkout = shop.start(shop.product())
    answer = shop.post(f"{checkout.path}/complete", {**pay_with(), "expected_total": 1}, checkout.headers)
    assert code_of(answer) == (409, "total_changed")
    assert answer.json()["current_total"] == PRICE
    assert shop.money(checkout.id) == []
