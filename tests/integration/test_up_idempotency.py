"""Idempotency keys, double submissions and two checkouts of one cart, against a running server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.client import DETAILS, PRICE, Answer, Client, Headers, code_of, key, lines, pay_with
from tests.support.server import wait_until

IN_PROGRESS = ((409, "completion_in_progress"), (409, "request_in_progress"))


def at_once(count: int, call: Callable[[], Answer]) -> list[Answer]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: call(), range(count)))


@pytest.mark.parametrize("same_key", [True, False])
def test_twenty_completes_at_once_are_one_order_and_one_charge(shop: Client, same_key: bool) -> None:
    """With one key or with twenty: 200 with the same order, or a clear "in progress"."""
    sku = shop.product()
    checkout = shop.start(sku)
    one = key()
    answers = at_once(20, lambda: checkout.complete("pm_sandbox_slow_300", key_is=one if same_key else key()))
    done = [answer for answer in answers if answer.status_code == 200]
    assert done
    assert all(code_of(answer) in IN_PROGRESS for answer in answers if answer.status_code != 200)
    assert len({answer.json()["order"]["id"] for answer in done}) == 1
    if same_key:
        assert len({answer.content for answer in done}) == 1
    late = checkout.complete("pm_card_chargeDeclined")
    assert (late.status_code, late.json()["order"]["id"]) == (200, done[0].json()["order"]["id"])
    assert shop.figures(sku) == (9, 0, 9, 1)
    wait_until(lambda: len(shop.money(checkout.id)) == 2, "captured", 5)
    assert [entry[0] for entry in shop.money(checkout.id)] == ["authorization", "capture"]


def test_a_double_submission_of_an_express_checkout_buys_once(shop: Client) -> None:
    """Ten at once and one later: the same bytes, one unit, one charge."""
    sku = shop.product()
    one = key()
    answers = at_once(10, lambda: shop.express(sku, "pm_sandbox_slow_200", key_is=one))
    done = [answer for answer in answers if answer.status_code == 200]
    assert done
    assert all(code_of(answer) in IN_PROGRESS for answer in answers if answer.status_code != 200)
    assert {answer.content for answer in [*done, shop.express(sku, "pm_sandbox_slow_200", key_is=one)]} == {
        done[0].content
    }
    assert shop.figures(sku) == (9, 0, 9, 1)


def test_an_answer_is_repeated_byte_for_byte_whatever_has_happened_since(shop: Client) -> None:
    """After the order was shipped, the price changed and the stock ran out, the first answer stands."""
    sku = shop.product(1)
    one = key()
    first = shop.express(sku, key_is=one)
    assert "Idempotent-Replayed" not in first.headers
    shop.ship(first.json()["order"]["id"])
    shop.ops("PUT", f"/v1/ops/products/{sku}", {"title": "Dearer", "prices": {"USD": 9999}})
    again = shop.express(sku, key_is=one)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]


def test_a_refusal_for_want_of_stock_is_remembered(shop: Client) -> None:
    """New stock does not change the answer to the old key; a new key buys."""
    sku = shop.product(0)
    one = key()
    first = shop.express(sku, key_is=one)
    assert code_of(first) == (409, "out_of_stock")
    shop.ops("POST", f"/v1/ops/stock/{sku}/adjustments", {"set": 5, "reason": "delivery"})
    again = shop.express(sku, key_is=one)
    assert (again.status_code, again.content) == (409, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert shop.express(sku).status_code == 200


def test_a_key_stands_for_one_body(shop: Client) -> None:
    sku = shop.product()
    one = key()
    assert shop.express(sku, key_is=one).status_code == 200
    for other in (shop.express(sku, quantity=2, key_is=one), shop.express(sku, "pm_card_mastercard", key_is=one)):
        assert code_of(other) == (422, "idempotency_key_reused")
    assert shop.figures(sku) == (9, 0, 9, 1)


def test_members_in_another_order_are_the_same_body(shop: Client) -> None:
    sku = shop.product()
    body = {**lines((sku, 1)), **DETAILS, **pay_with()}
    one = key()
    first = shop.post("/v1/express-checkouts", body, key_is=one)
    again = shop.post("/v1/express-checkouts", dict(reversed(body.items())), key_is=one)
    assert (again.status_code, again.content) == (200, first.content)


def test_a_key_belongs_to_its_caller_and_operation(shop: Client) -> None:
    """Two customers with one key are two buyers; one key on two operations is two requests."""
    sku = shop.product()
    one = key()
    body = {**lines((sku, 1)), **DETAILS, **pay_with()}
    orders = set()
    for name in ("ann", "bob"):
        bearer = {"Authorization": f"Bearer {shop.server.customer_token(name)}"}
        answer = shop.post("/v1/express-checkouts", body, bearer, key_is=one)
        assert answer.status_code == 200, answer.text
        orders.add(answer.json()["order"]["id"])
        assert shop.post("/v1/checkouts", lines((sku, 1)), bearer, key_is=one).status_code == 201
    assert len(orders) == 2


@pytest.mark.parametrize("path", ["/v1/checkouts", "/v1/express-checkouts"])
def test_a_key_is_required_and_must_be_usable(shop: Client, path: str) -> None:
    sku = shop.product()
    body = {**lines((sku, 1)), **DETAILS}
    assert code_of(shop.post(path, body, key_is=None)) == (400, "idempotency_key_required")
    for bad in ("short", "x" * 256, "white space inside it", "smile-\u263a-and-more-characters"):
        answer = shop.post(path, body, {"Idempotency-Key": bad.encode()}, key_is=None)  # type: ignore[dict-item]
        assert code_of(answer) == (400, "idempotency_key_invalid"), bad
    assert shop.figures(sku) == (10, 0, 10, 0)


def test_where_a_key_is_required_by_operators_and_orders(shop: Client) -> None:
    sku = shop.product()
    order, token = shop.ordered(sku)
    for path, headers in (
        (f"{order}/cancel", token),
        (f"/v1/ops/stock/{sku}/adjustments", shop.operator),
    ):
        body = {"delta": 1, "reason": "count"} if "ops" in path else {}
        assert code_of(shop.post(path, body, headers, key_is=None)) == (400, "idempotency_key_required")
    checkout = shop.start(sku)
    bare = shop.post(f"{checkout.path}/complete", pay_with(), checkout.headers, key_is=None)
    assert code_of(bare) == (400, "idempotency_key_required")


def test_an_adjustment_with_one_key_counts_once(shop: Client) -> None:
    sku = shop.product(10)
    one = key()
    path = f"/v1/ops/stock/{sku}/adjustments"
    answers = [shop.post(path, {"delta": 5, "reason": "d"}, shop.operator, key_is=one) for _ in range(3)]
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert shop.figures(sku) == (15, 0, 15, 0)


# ── two checkouts of one cart ─────────────────────────────────────────────────────────────────────────


def cart_of(shop: Client, sku: str, quantity: int) -> tuple[dict[str, Any], Headers]:
    cart = shop.post("/v1/carts", lines((sku, quantity))).json()
    return {"cart_id": cart["id"], **DETAILS}, {"Cart-Token": cart["token"]}


def test_a_second_start_replaces_the_first_and_its_own_hold_is_no_obstacle(shop: Client) -> None:
    """Three of three units: the second start needs what the first one holds."""
    sku = shop.product(3)
    body, token = cart_of(shop, sku, 3)
    first = shop.post("/v1/checkouts", body, token).json()
    second = shop.post("/v1/checkouts", body, token)
    assert second.status_code == 201, second.text
    old = f"/v1/checkouts/{first['id']}"
    replaced = shop.get(old, token).json()
    assert (replaced["status"], replaced["cancel_reason"]) == ("canceled", "replaced")
    assert code_of(shop.post(f"{old}/complete", pay_with(), token)) == (409, "checkout_canceled")
    wait_until(lambda: shop.figures(sku) == (3, 3, 0, 0), "one hold", 5)
    done = shop.post(f"/v1/checkouts/{second.json()['id']}/complete", pay_with(), token)
    assert done.status_code == 200
    assert shop.figures(sku) == (0, 0, 0, 3)


def test_starts_and_completes_of_one_cart_at_once_sell_it_once(shop: Client) -> None:
    """Eight starts at once leave one live checkout; completing all of them makes one order."""
    sku = shop.product(8)
    body, token = cart_of(shop, sku, 2)
    starts = at_once(8, lambda: shop.post("/v1/checkouts", body, token))
    assert {answer.status_code for answer in starts} <= {201, 409}, [answer.text for answer in starts]
    started = [answer.json()["id"] for answer in starts if answer.status_code == 201]
    assert started
    wait_until(lambda: shop.figures(sku) == (8, 2, 6, 0), "one hold", 5)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: shop.post(f"/v1/checkouts/{name}/complete", pay_with(), token), started))
    assert [answer.status_code for answer in answers].count(200) == 1
    assert {code_of(answer) for answer in answers if answer.status_code != 200} <= {(409, "checkout_canceled")}
    wait_until(lambda: shop.figures(sku) == (6, 0, 6, 2), "one order", 5)
    captures = [e for name in started for e in shop.money(name) if e[0] == "capture"]
    assert captures == [("capture", "succeeded", 2 * PRICE)]


def test_a_checkout_that_pays_is_not_replaced(shop: Client) -> None:
    sku = shop.product(5)
    body, token = cart_of(shop, sku, 2)
    first = shop.post("/v1/checkouts", body, token).json()
    path = f"/v1/checkouts/{first['id']}"
    one = key()
    paying = shop.post(f"{path}/complete", pay_with("pm_sandbox_slow_1500"), {**token, "Prefer": "wait=0"}, key_is=one)
    assert paying.status_code == 202
    assert code_of(shop.post("/v1/checkouts", body, token)) == (409, "completion_in_progress")
    done = shop.post(f"{path}/complete", pay_with("pm_sandbox_slow_1500"), token, key_is=one)
    assert done.status_code == 200
    assert shop.figures(sku) == (3, 0, 3, 2)


def test_its_end_without_an_order_reopens_the_cart(shop: Client) -> None:
    sku = shop.product(5)
    body, token = cart_of(shop, sku, 2)
    first = shop.post("/v1/checkouts", body, token).json()
    assert shop.post(f"/v1/checkouts/{first['id']}/cancel", None, token).status_code == 200
    cart = f"/v1/carts/{body['cart_id']}"
    assert shop.post(f"{cart}/items", {"sku": sku, "quantity": 1}, token).status_code == 200
    assert shop.post("/v1/checkouts", body, token).json()["line_items"][0]["quantity"] == 3
