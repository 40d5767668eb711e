"""Holds and carts that expire, and a second instance beside the shared one."""

from __future__ import annotations

import time

import pytest

from tests.support.client import DETAILS, Client, code_of, lines, pay_with
from tests.support.server import wait_until

HOLD_TTL_S = 1
IDLE_S = 2
RELEASED_WITHIN_S = 2.0
SERVER = {"hold_ttl_s": str(HOLD_TTL_S), "cart_idle_s": str(IDLE_S), "gateway_timeout_s": "1"}


@pytest.fixture
def hasty(client: Client, shop: Client) -> Client:
    """A shop of its own, beside the shared one, where a hold lasts one second and a cart two."""
    return client


def test_an_expired_hold_is_back_in_stock_within_two_seconds(hasty: Client) -> None:
    """Not before its time; then somebody else buys the unit, and the first buyer is told why not they."""
    sku = hasty.product(1)
    checkout = hasty.start(sku)
    began = time.monotonic()
    assert hasty.figures(sku) == (1, 1, 0, 0)
    wait_until(lambda: hasty.figures(sku)[1] == 0, "hold released", 10)
    held_s = time.monotonic() - began
    assert HOLD_TTL_S - 0.2 <= held_s <= HOLD_TTL_S + RELEASED_WITHIN_S + 0.5
    assert hasty.express(sku).status_code == 200
    expired = checkout.until("canceled", 5)
    assert (expired["cancel_reason"], expired["reservation"]["status"]) == ("expired", "expired")
    assert code_of(checkout.complete()) in ((409, "reservation_expired"), (409, "checkout_canceled"))
    assert hasty.money(checkout.id) == []
    assert hasty.figures(sku) == (0, 0, 0, 1)


def test_each_action_of_the_buyer_prolongs_the_hold(hasty: Client) -> None:
    sku = hasty.product(1)
    checkout = hasty.start(sku)
    first = checkout.read()["reservation"]["expires_at"]
    end_s = time.monotonic() + 2.0 * HOLD_TTL_S
    while time.monotonic() < end_s:
        assert checkout.patch({"buyer": {"phone": "+1 217 555 0100"}}).status_code == 200
    assert checkout.read()["reservation"]["expires_at"] > first
    assert checkout.complete().status_code == 200


def test_nothing_expires_while_money_is_pending(hasty: Client) -> None:
    """A payment that takes thrice the hold's time still buys."""
    sku = hasty.product(1)
    checkout = hasty.start(sku)
    assert checkout.complete("pm_card_authenticationRequired").status_code == 202
    pinned_s = time.monotonic() + 3 * HOLD_TTL_S

    def passed() -> bool:
        assert hasty.figures(sku) == (1, 1, 0, 0)
        return time.monotonic() > pinned_s

    wait_until(passed, "three lifetimes of a hold", 10)
    waiting = checkout.read()
    assert waiting["reservation"]["status"] == "pinned"
    hasty.resolve(waiting["payments"][0]["id"])
    assert checkout.confirm(waiting["payments"][0]["id"]).status_code == 200


def test_a_cart_does_not_expire_while_its_checkout_is_paid(hasty: Client) -> None:
    """Its idle time passes while the buyer is at their bank: the cart is open, and another start has to wait."""
    sku = hasty.product(1)
    cart = hasty.post("/v1/carts", lines((sku, 1))).json()
    path, token = f"/v1/carts/{cart['id']}", {"Cart-Token": cart["token"]}
    secured = pay_with("pm_card_authenticationRequired")
    paying = hasty.post("/v1/express-checkouts", {"cart_id": cart["id"], **DETAILS, **secured}, token)
    assert paying.status_code == 202, paying.text
    idle_s = time.monotonic() + IDLE_S + 0.5
    wait_until(lambda: time.monotonic() > idle_s, "more than a cart may idle", 10)
    assert hasty.get(path, token).json()["status"] == "open"
    other = hasty.post("/v1/checkouts", {"cart_id": cart["id"]}, token)
    assert code_of(other) == (409, "completion_in_progress")
    payment = paying.json()["checkout"]["payments"][0]["id"]
    hasty.resolve(payment)
    confirm = f"/v1/checkouts/{paying.json()['checkout']['id']}/payments/{payment}/confirm"
    assert hasty.post(confirm, None, token).status_code == 200
    wait_until(lambda: hasty.get(path, token).json()["status"] == "checked_out", "checked out", 10)


def test_an_idle_cart_expires_and_can_be_restored(hasty: Client) -> None:
    sku = hasty.product()
    cart = hasty.post("/v1/carts", lines((sku, 1))).json()
    path, token = f"/v1/carts/{cart['id']}", {"Cart-Token": cart["token"]}
    wait_until(lambda: hasty.get(path, token).json()["status"] == "expired", "cart expired", 10)
    assert hasty.get(path, token).json()["line_items"][0]["quantity"] == 1
    for answer in (
        hasty.post(f"{path}/items", {"sku": sku, "quantity": 1}, token),
        hasty.post("/v1/checkouts", {"cart_id": cart["id"]}, token),
    ):
        assert code_of(answer) == (410, "cart_expired")
    assert hasty.post(f"{path}/restore", None, token).json()["status"] == "open"
    assert hasty.post(f"{path}/items", {"sku": sku, "quantity": 1}, token).status_code == 200


@pytest.mark.parametrize("token", ["pm_sandbox_timeout_before", "pm_sandbox_timeout_after"])
def test_a_payment_nobody_answers_for_is_found_out_and_charged_once(hasty: Client, token: str) -> None:
    """Unknown is never "failed": the buyer gets 202 or the result; if it was charged, it is the order's."""
    sku = hasty.product(1)
    checkout = hasty.start(sku)
    answer = checkout.complete(token, Prefer="wait=0")
    assert answer.status_code == 202, answer.text
    ended = ("completed",) if token.endswith("after") else ("completed", "ready_for_complete", "canceled")
    wait_until(lambda: checkout.read()["status"] in ended, "an end", 40)
    charged = checkout.read()["status"] == "completed"
    assert hasty.figures(sku)[3] == int(charged)
    if charged:
        wait_until(lambda: [e[0] for e in hasty.money(checkout.id)].count("capture") == 1, "captured", 10)
    else:
        assert not [e for e in hasty.money(checkout.id) if e[0] == "capture"]


@pytest.mark.parametrize("mode", ["down", "error"])
def test_a_gateway_outage_is_a_pause(hasty: Client, mode: str) -> None:
    """202 while it lasts, the order once it is over, one capture."""
    sku = hasty.product(1)
    checkout = hasty.start(sku)
    hasty.ops("PUT", "/v1/ops/sandbox", {"mode": mode})
    try:
        answer = checkout.complete(Prefer="wait=1")
        assert answer.status_code == 202, answer.text
        assert checkout.read()["status"] == "complete_in_progress"
    finally:
        hasty.ops("PUT", "/v1/ops/sandbox", {"mode": "up"})
    checkout.until("completed", 30)
    wait_until(lambda: [e[0] for e in hasty.money(checkout.id)].count("capture") == 1, "captured", 10)
    assert hasty.figures(sku) == (0, 0, 0, 1)


def test_two_instances_side_by_side_do_not_know_each_other(shop: Client, hasty: Client) -> None:
    order, token = hasty.ordered(hasty.product())
    assert hasty.get(order, token).status_code == 200
    assert shop.get(order, token).status_code == 404
    assert shop.get("/v1/ops/orders", hasty.operator).status_code == 401
    body = {**lines((hasty.product(), 1)), **DETAILS, **pay_with()}
    assert code_of(shop.post("/v1/express-checkouts", body)) == (422, "item_unavailable")


def test_all_of_it_leaves_a_clean_audit(hasty: Client) -> None:
    """Whatever was left open above ends by itself."""
    assert wait_until(lambda: hasty.server.run("audit").returncode == 0, "a clean audit", 30)
