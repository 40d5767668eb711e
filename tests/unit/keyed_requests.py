"""Every POST that takes a key, as a request to be sent twice: what it says, what it gets, what else it would get later.

Told a shop that has five units each of the SKUs "A" and "GOLD" (dear enough for a review).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from tests.support.shop import CARD, DETAILS, Shop, cart_token

DECLINED = [{"method": "card", "token": "pm_card_chargeDeclined"}]
IDLE_MS = 60_000
PARCEL = {"carrier": "UPS", "tracking_number": "1Z"}

Headers = dict[str, str]


class Request(NamedTuple):
    """A POST and the answer it gets. `other`: a body that differs; None where the operation takes no fields.

    `change` makes a new request of the same kind get another answer; None where nothing can.
    """

    path: str
    body: Any
    other: Any
    headers: Headers
    answer: tuple[int, str]
    change: Callable[[], Awaitable[Any]] | None


def line(sku: str, quantity: int = 1) -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity}


def lines(sku: str, quantity: int = 1) -> dict[str, Any]:
    return {"line_items": [line(sku, quantity)]}


def off_sale(shop: Shop, sku: str = "A") -> Callable[[], Awaitable[Any]]:
    """It has a price in another currency only, from now on."""
    return lambda: shop.put(f"/v1/ops/products/{sku}", {"title": sku, "prices": {"EUR": 1}})


def on_sale(shop: Shop, sku: str) -> Callable[[], Awaitable[Any]]:
    return lambda: shop.stock_up(sku, 9)


def posting(shop: Shop, path: str, body: Any, headers: Headers) -> Callable[[], Awaitable[Any]]:
    return lambda: shop.post(path, body, headers)


async def cart_of(shop: Shop) -> tuple[str, Headers]:
    made = await shop.post("/v1/carts", lines("A"))
    return f"/v1/carts/{made.json()['id']}", cart_token(made)


async def checkout_of(shop: Shop, headers: Headers | None = None, **fields: Any) -> tuple[str, Headers]:
    made = await shop.post("/v1/checkouts", lines("A") | fields, headers)
    assert made.status_code == 201, made.text
    return f"/v1/checkouts/{made.json()['id']}", headers or cart_token(made)


async def order_of(shop: Shop, sku: str = "A") -> tuple[str, str, Headers]:
    """The order's path, the operators' path to it, and what opens it."""
    bought = await shop.buy(sku)
    assert bought.status_code == 200, bought.text
    order_id = bought.json()["order"]["id"]
    return f"/v1/orders/{order_id}", f"/v1/ops/orders/{order_id}", cart_token(bought)


# ── carts ───────────────────────────────────────────────────────────────────────────────────────────────


async def a_cart(shop: Shop) -> Request:
    return Request("/v1/carts", lines("A"), lines("A", 2), {}, (201, ""), off_sale(shop))


async def a_customers_cart(shop: Shop) -> Request:
    return Request("/v1/carts", lines("A"), lines("A", 2), shop.customer(), (201, ""), off_sale(shop))


async def a_cart_of_what_is_not_sold(shop: Shop) -> Request:
    return Request("/v1/carts", lines("NEW"), lines("A"), {}, (422, "item_unavailable"), on_sale(shop, "NEW"))


async def an_item(shop: Shop) -> Request:
    path, token = await cart_of(shop)
    return Request(f"{path}/items", line("A"), line("A", 2), token, (200, ""), off_sale(shop))


async def an_item_that_is_not_sold(shop: Shop) -> Request:
    path, token = await cart_of(shop)
    change = on_sale(shop, "NEW")
    return Request(f"{path}/items", line("NEW"), line("A"), token, (422, "item_unavailable"), change)


async def an_item_for_an_expired_cart(shop: Shop) -> Request:
    path, token = await cart_of(shop)
    await shop.engine.advance(IDLE_MS + 1)
    restore = posting(shop, f"{path}/restore", None, token)
    return Request(f"{path}/items", line("A"), line("A", 2), token, (410, "cart_expired"), restore)


async def a_restored_cart(shop: Shop) -> Request:
    path, token = await cart_of(shop)
    await shop.engine.advance(IDLE_MS + 1)
    fill = posting(shop, f"{path}/items", line("A"), token)
    return Request(f"{path}/restore", None, None, token, (200, ""), fill)


# ── checkouts ───────────────────────────────────────────────────────────────────────────────────────────


async def a_start(shop: Shop) -> Request:
    return Request("/v1/checkouts", lines("A"), lines("A", 2), {}, (201, ""), off_sale(shop))


async def a_start_without_stock(shop: Shop) -> Request:
    return Request("/v1/checkouts", lines("A", 6), lines("A"), {}, (409, "out_of_stock"), on_sale(shop, "A"))


async def a_start_of_what_is_not_sold(shop: Shop) -> Request:
    return Request("/v1/checkouts", lines("NEW"), lines("A"), {}, (422, "item_unavailable"), on_sale(shop, "NEW"))


async def a_start_of_an_empty_cart(shop: Shop) -> Request:
    made = await shop.post("/v1/carts")
    body, token = {"cart_id": made.json()["id"]}, cart_token(made)
    fill = posting(shop, f"/v1/carts/{body['cart_id']}/items", line("A"), token)
    return Request("/v1/checkouts", body, body | DETAILS, token, (422, "cart_empty"), fill)


async def an_express_checkout_without_stock(shop: Shop) -> Request:
    body = lines("A", 6) | DETAILS | {"payments": CARD}
    return Request("/v1/express-checkouts", body, body | lines("A"), {}, (409, "out_of_stock"), on_sale(shop, "A"))


async def a_completion(shop: Shop) -> Request:
    path, token = await checkout_of(shop, **DETAILS)

    async def ship() -> None:
        placed = (await shop.get(path, token)).json()["order_id"]
        await shop.post(f"/v1/ops/orders/{placed}/ship", PARCEL, shop.operator())

    return Request(f"{path}/complete", {"payments": CARD}, {"payments": []}, token, (200, ""), ship)


async def a_completion_that_lacks_something(shop: Shop) -> Request:
    path, token = await checkout_of(shop)
    answer = (409, "checkout_not_ready")
    fill_in = lambda: shop.patch(path, DETAILS, token)  # noqa: E731
    return Request(f"{path}/complete", {"payments": CARD}, {"payments": []}, token, answer, fill_in)


async def a_declined_completion(shop: Shop) -> Request:
    path, token = await checkout_of(shop, **DETAILS)
    pay = posting(shop, f"{path}/complete", {"payments": CARD}, token)
    return Request(f"{path}/complete", {"payments": DECLINED}, {"payments": CARD}, token, (402, "payment_failed"), pay)


async def a_cancel(shop: Shop) -> Request:
    path, token = await checkout_of(shop)
    return Request(f"{path}/cancel", None, None, token, (200, ""), None)


async def a_confirmation_of_no_payment(shop: Shop) -> Request:
    path, token = await checkout_of(shop, **DETAILS)
    return Request(f"{path}/payments/pay_none/confirm", None, None, token, (404, "not_found"), None)


async def a_confirmation_by_a_customer_who_was_a_guest(shop: Shop) -> Request:
    """With two credentials: the checkout opens to the second."""
    path, token = await checkout_of(shop, **DETAILS)
    headers = shop.customer() | token
    return Request(f"{path}/payments/pay_none/confirm", None, None, headers, (404, "not_found"), None)


async def a_confirmation_by_a_customer_with_a_guests_token(shop: Shop) -> Request:
    """With two credentials: the checkout opens to the first."""
    path, bearer = await checkout_of(shop, shop.customer(), **DETAILS)
    _, token = await cart_of(shop)
    return Request(f"{path}/payments/pay_none/confirm", None, None, bearer | token, (404, "not_found"), None)


# ── orders and stock ────────────────────────────────────────────────────────────────────────────────────


async def an_orders_cancel(shop: Shop) -> Request:
    path, _, token = await order_of(shop)
    return Request(f"{path}/cancel", {}, {"reason": "another"}, token, (200, ""), None)


async def an_orders_cancel_after_shipping(shop: Shop) -> Request:
    path, ops, token = await order_of(shop)
    await shop.post(f"{ops}/ship", PARCEL, shop.operator())
    return Request(f"{path}/cancel", {}, {"reason": "another"}, token, (409, "already_shipped"), None)


async def a_shipment(shop: Shop) -> Request:
    _, ops, _ = await order_of(shop)
    deliver = posting(shop, f"{ops}/deliver", None, shop.operator())
    return Request(f"{ops}/ship", PARCEL, PARCEL | {"carrier": "DHL"}, shop.operator(), (200, ""), deliver)


async def a_delivery_before_the_shipment(shop: Shop) -> Request:
    _, ops, _ = await order_of(shop)
    ship = posting(shop, f"{ops}/ship", PARCEL, shop.operator())
    return Request(f"{ops}/deliver", None, None, shop.operator(), (409, "invalid_order_status"), ship)


async def a_review(shop: Shop) -> Request:
    _, ops, _ = await order_of(shop, "GOLD")
    body, other = ({"decision": decision, "reason": "known"} for decision in ("approve", "deny"))
    ship = posting(shop, f"{ops}/ship", PARCEL, shop.operator())
    return Request(f"{ops}/review", body, other, shop.operator(), (200, ""), ship)


def adjustment(shop: Shop, sku: str, units: int, answer: tuple[int, str], change: Any) -> Request:
    body = {"set": units, "reason": "count"}
    return Request(f"/v1/ops/stock/{sku}/adjustments", body, body | {"set": units + 1}, shop.operator(), answer, change)


async def an_adjustment(shop: Shop) -> Request:
    return adjustment(shop, "A", 7, (200, ""), lambda: shop.buy("A"))


async def an_adjustment_of_what_does_not_exist(shop: Shop) -> Request:
    return adjustment(shop, "NEW", 7, (404, "not_found"), on_sale(shop, "NEW"))


async def an_adjustment_below_what_is_reserved(shop: Shop) -> Request:
    path, token = await checkout_of(shop)
    return adjustment(shop, "A", 0, (409, "below_reserved"), posting(shop, f"{path}/cancel", None, token))


async def a_batch_of_products(shop: Shop) -> Request:
    """One is new, one is not valid, one has its count set: each fate is told again as it was."""
    good = {"title": "New", "prices": {"USD": 1}}
    body = {"products": [{"sku": "NEW", **good}, {"sku": "BAD"}, {"sku": "A", **good, "on_hand": 3}]}
    other = {"products": [{"sku": "ELSE", **good}]}
    return Request("/v1/ops/products/batch", body, other, shop.operator(), (200, ""), off_sale(shop, "NEW"))


async def a_batch_of_counts(shop: Shop) -> Request:
    """One stays as it is, one is changed, one does not exist."""
    items = [{"sku": "A", "set": 5}, {"sku": "GOLD", "set": 9}, {"sku": "NEW", "set": 1}]
    body, other = ({"items": entries, "reason": "count"} for entries in (items, [{"sku": "ELSE", "set": 1}]))
    return Request("/v1/ops/stock/batch", body, other, shop.operator(), (200, ""), on_sale(shop, "NEW"))


REQUESTS: dict[str, tuple[Callable[[Shop], Awaitable[Request]], ...]] = {
    "/v1/carts": (a_cart, a_customers_cart, a_cart_of_what_is_not_sold),
    "/v1/carts/{cart_id}/items": (an_item, an_item_that_is_not_sold, an_item_for_an_expired_cart),
    "/v1/carts/{cart_id}/restore": (a_restored_cart,),
    "/v1/checkouts": (a_start, a_start_without_stock, a_start_of_what_is_not_sold, a_start_of_an_empty_cart),
    "/v1/checkouts/{checkout_id}/complete": (a_completion, a_completion_that_lacks_something, a_declined_completion),
    "/v1/checkouts/{checkout_id}/cancel": (a_cancel,),
    "/v1/checkouts/{checkout_id}/payments/{payment_id}/confirm": (
        a_confirmation_of_no_payment,
        a_confirmation_by_a_customer_who_was_a_guest,
        a_confirmation_by_a_customer_with_a_guests_token,
    ),
    "/v1/express-checkouts": (an_express_checkout_without_stock,),
    "/v1/orders/{order_id}/cancel": (an_orders_cancel, an_orders_cancel_after_shipping),
    "/v1/ops/orders/{order_id}/ship": (a_shipment,),
    "/v1/ops/orders/{order_id}/deliver": (a_delivery_before_the_shipment,),
    "/v1/ops/orders/{order_id}/review": (a_review,),
    "/v1/ops/stock/{sku}/adjustments": (
        an_adjustment,
        an_adjustment_of_what_does_not_exist,
        an_adjustment_below_what_is_reserved,
    ),
    "/v1/ops/products/batch": (a_batch_of_products,),
    "/v1/ops/stock/batch": (a_batch_of_counts,),
}
