"""Who may see what, and an order's life, against a running server."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import httpx

from tests.support.client import ADDRESS, BUYER, PRICE, Client, code_of, lines, pay_with, total_of
from tests.support.server import wait_until


def test_a_token_opens_what_it_was_given_for_and_nothing_else(shop: Client) -> None:
    """Another guest, no token, a forged one and a customer all find nothing there."""
    sku = shop.product()
    order, token = shop.ordered(sku)
    mine, other = shop.start(sku), shop.start(sku)
    cart = shop.post("/v1/carts", lines((sku, 1))).json()
    forged = {"Cart-Token": mine.headers["Cart-Token"][:-3] + "AAA"}
    customer = {"Authorization": f"Bearer {shop.server.customer_token('eve')}"}
    for headers in (other.headers, customer):
        for path in (order, f"{order}/events", mine.path, f"{mine.path}/events", f"/v1/carts/{cart['id']}"):
            assert code_of(shop.get(path, headers)) == (404, "not_found")
        assert code_of(shop.send("PATCH", mine.path, {"buyer": {"name": "E"}}, headers)) == (404, "not_found")
        assert code_of(shop.post(f"{mine.path}/complete", pay_with(), headers)) == (404, "not_found")
        assert code_of(shop.post(f"{mine.path}/cancel", None, headers)) == (404, "not_found")
        assert code_of(shop.post(f"{order}/cancel", None, headers)) == (404, "not_found")
        assert code_of(shop.post("/v1/checkouts", {"cart_id": cart["id"]}, headers)) == (404, "not_found")
    for headers in ({}, forged):
        assert shop.get(order, headers).status_code in (401, 404)
        assert shop.get(mine.path, headers).status_code in (401, 404)
    assert shop.get(order, token).status_code == 200
    assert mine.read()["status"] == "ready_for_complete"


def test_operators_paths_need_an_operator(shop: Client) -> None:
    customer = {"Authorization": f"Bearer {shop.server.customer_token('eve')}"}
    guest = shop.start(shop.product()).headers
    for method, path in (
        ("GET", "/v1/ops/orders"), ("GET", "/v1/ops/audit"), ("GET", "/v1/ops/sandbox/ledger"),
        ("GET", "/v1/ops/stock/X"), ("PUT", "/v1/ops/products/X"), ("POST", "/v1/ops/stock/X/adjustments"),
        ("PUT", "/v1/ops/shipping"), ("PUT", "/v1/ops/tax"), ("PUT", "/v1/ops/sandbox"),
    ):  # fmt: skip
        body: dict[str, Any] | None = None if method == "GET" else {}
        assert code_of(shop.send(method, path, body, customer)) == (403, "insufficient_scope")
        for headers in ({}, guest, {"Authorization": "Bearer x.y.z"}, {"Authorization": "Basic eDp5"}):
            assert code_of(shop.send(method, path, body, headers)) == (401, "unauthorized")


def test_a_customer_finds_cart_and_orders_on_any_device(shop: Client) -> None:
    """Newest first, page by page; nothing of anybody else."""
    sku = shop.product()
    bearer = {"Authorization": f"Bearer {shop.server.customer_token('carla-' + sku)}"}
    assert shop.get("/v1/me/orders", bearer).json() == {"data": [], "next_cursor": None}
    cart = shop.post("/v1/carts", lines((sku, 1)), bearer).json()
    assert "token" not in cart
    assert cart["customer_id"] == f"carla-{sku}"
    assert shop.get("/v1/me/cart", bearer).json()["id"] == cart["id"]
    placed = []
    for _ in range(3):
        body = {**lines((sku, 1)), "buyer": BUYER, "shipping_address": ADDRESS, **pay_with()}
        answer = shop.post("/v1/express-checkouts", body, bearer)
        assert answer.status_code == 200, answer.text
        assert "token" not in answer.json()
        placed.append(answer.json()["order"]["id"])
    first = shop.get("/v1/me/orders", bearer, limit=2).json()
    rest = shop.get("/v1/me/orders", bearer, limit=2, cursor=first["next_cursor"]).json()
    assert [order["id"] for order in first["data"] + rest["data"]] == placed[::-1]
    assert rest["next_cursor"] is None
    assert code_of(shop.get("/v1/me/orders")) == (401, "unauthorized")


def test_an_order_is_canceled_before_it_is_shipped(shop: Client) -> None:
    """Restocked and refunded, once, however often it is asked for."""
    sku = shop.product()
    order, token = shop.ordered(sku)
    wait_until(lambda: shop.get(order, token).json()["payment_status"] == "paid", "paid", 5)
    canceled = shop.post(f"{order}/cancel", {"reason": "changed my mind"}, token)
    assert canceled.status_code in (200, 202), canceled.text
    ended = wait_until(
        lambda: shop.get(order, token).json()["payment_status"] == "refunded" and shop.get(order, token).json(),
        "refunded", 10,
    )  # fmt: skip
    assert ended["status"] == "canceled"
    assert shop.post(f"{order}/cancel", None, token).status_code in (200, 409)
    assert shop.figures(sku) == (10, 0, 10, 0)
    assert [entry[0] for entry in shop.money(ended["checkout_id"])] == ["authorization", "capture", "refund"]
    ship = {"carrier": "UPS", "tracking_number": "1"}
    late = shop.post(f"/v1/ops/orders/{ended['id']}/ship", ship, shop.operator)
    assert code_of(late) == (409, "invalid_order_status")


def test_an_order_is_shipped_and_delivered_and_tells_its_story(shop: Client) -> None:
    """An amendment before, a refusal after; what was confirmed stays; every step is in the trail."""
    sku = shop.product()
    order, token = shop.ordered(sku)
    number = order.rpartition("/")[2]
    moved = shop.send("PATCH", f"{order}/shipping-address", {"line1": "9 Harbour Way"}, token)
    assert moved.status_code == 200, moved.text
    assert moved.json()["shipping_address"] == ADDRESS
    assert moved.json()["ship_to"] == ADDRESS | {"line1": "9 Harbour Way"}
    assert len(moved.json()["amendments"]) == 1
    abroad = shop.send(
        "PATCH", f"{order}/shipping-address", {"country": "CA", "region": "ON", "postal_code": "K1A 0B1"}, token
    )
    assert code_of(abroad) == (422, "country_changed")

    shipped = shop.ship(number)
    assert (shipped["status"], shipped["tracking"]["tracking_number"]) == ("shipped", "1Z")
    assert code_of(shop.post(f"{order}/cancel", None, token)) == (409, "already_shipped")
    late = shop.send("PATCH", f"{order}/shipping-address", {"line1": "1 Too Late"}, token)
    assert code_of(late) == (409, "already_shipped")
    assert shop.ops("POST", f"/v1/ops/orders/{number}/deliver")["status"] == "delivered"

    trail = shop.pages(f"{order}/events", token)
    assert all(entry["actor"] and datetime.fromisoformat(entry["at"]) for entry in trail)
    kinds = [entry["type"] for entry in trail]
    assert len(kinds) >= 4
    assert kinds.index("shipped") < kinds.index("delivered"), kinds


def test_an_order_is_looked_up_by_number_and_email(shop: Client) -> None:
    order, token = shop.ordered(shop.product())
    number = shop.get(order, token).json()["number"]
    found = shop.post("/v1/orders/lookup", {"number": number, "email": BUYER["email"].upper()})
    assert found.json()["number"] == number
    wrong = [
        shop.post("/v1/orders/lookup", {"number": number, "email": "someone@else.example"}),
        shop.post("/v1/orders/lookup", {"number": "NO-SUCH-1", "email": BUYER["email"]}),
    ]
    for answer in wrong:
        assert code_of(answer) == (404, "not_found")
    assert wrong[0].json()["detail"] == wrong[1].json()["detail"]


def test_a_patch_merges_and_reprices(shop: Client) -> None:
    """Null takes back, absent stays; changed lines change the hold, or nothing changes."""
    sku, scarce = shop.product(5), shop.product(1, 700)
    checkout = shop.start(sku, 2)
    assert checkout.patch({"buyer": {"phone": "+1 217 555 0100"}}).json()["buyer"] == {
        **BUYER,
        "phone": "+1 217 555 0100",
    }
    assert "phone" not in {k: v for k, v in checkout.patch({"buyer": {"phone": None}}).json()["buyer"].items() if v}
    back = checkout.patch({"shipping_address": {"postal_code": None}}).json()
    assert back["status"] == "incomplete"
    assert any(message["path"] == "$.shipping_address.postal_code" for message in back["messages"])
    checkout.patch({"shipping_address": {"postal_code": "62701"}})
    more = checkout.patch(lines((sku, 4), (scarce, 1)))
    assert total_of(more.json()) == 4 * PRICE + 700
    assert (shop.figures(sku), shop.figures(scarce)) == ((5, 4, 1, 0), (1, 1, 0, 0))
    short = checkout.patch(lines((sku, 9), (scarce, 3)))
    assert code_of(short) == (409, "out_of_stock")
    assert [(e["sku"], e["requested"], e["available"]) for e in short.json()["errors"]] == [(sku, 9, 5), (scarce, 3, 1)]
    assert total_of(checkout.read()) == 4 * PRICE + 700
    fewer = checkout.patch(lines((sku, 1)))
    assert total_of(fewer.json()) == PRICE
    wait_until(lambda: (shop.figures(sku)[1], shop.figures(scarce)[1]) == (1, 0), "surplus released", 5)


def test_the_same_content_type_as_a_merge_patch_is_taken(shop: Client) -> None:
    checkout = shop.start(shop.product())
    headers = checkout.headers | {"Content-Type": "application/merge-patch+json"}
    assert shop.http.patch(checkout.path, content=b'{"buyer":{"name":"N"}}', headers=headers).status_code == 200


def test_every_short_line_is_named_or_cut(shop: Client) -> None:
    one, none = shop.product(1), shop.product(0)
    short = shop.post("/v1/checkouts", lines((one, 3), (none, 1)))
    assert code_of(short) == (409, "out_of_stock")
    assert [(e["path"], e["sku"], e["requested"], e["available"]) for e in short.json()["errors"]] == [
        ("$.line_items[0].quantity", one, 3, 1), ("$.line_items[1].quantity", none, 1, 0),
    ]  # fmt: skip
    cut = shop.post("/v1/checkouts", {**lines((one, 3), (none, 1)), "on_shortage": "accept_available"})
    assert cut.status_code == 201
    assert [(line["sku"], line["quantity"]) for line in cut.json()["line_items"]] == [(one, 1)]
    assert {"quantity_reduced"} <= {message["code"] for message in cut.json()["messages"]}


def test_listeners_hear_each_change_until_the_end(shop: Client) -> None:
    """Server-sent: the resource at once, after the change, and completed; then the stream closes."""
    checkout = shop.start(shop.product())
    seen = []
    with httpx.stream(
        "GET", shop.server.url + checkout.path + "/events", headers=checkout.headers, timeout=20
    ) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        lines_of = stream.iter_lines()
        for line in lines_of:
            if line.startswith("event:"):
                assert line == "event: checkout"
            if not line.startswith("data:"):
                continue
            seen.append(json.loads(line.removeprefix("data:")))
            if len(seen) == 1:
                assert checkout.patch({"buyer": {"name": "Listened To"}}).status_code == 200
            if len(seen) == 2:
                assert checkout.complete().status_code == 200
    assert seen[0]["id"] == checkout.id
    assert any(document["buyer"]["name"] == "Listened To" for document in seen)
    assert seen[-1]["status"] == "completed"


def test_operators_see_who_holds_what(shop: Client) -> None:
    sku = shop.product(9)
    checkout = shop.start(sku, 4)
    account = shop.stock(sku)
    assert [(h["checkout_id"], h["quantity"], h["pinned"]) for h in account["holds"]] == [(checkout.id, 4, False)]
    assert account["owner"]
    assert account["epoch"] >= 1
    assert shop.get(f"/v1/stock/{sku}").json() == {"sku": sku, "available": 5}
    assert checkout.cancel().json()["status"] == "canceled"
    wait_until(lambda: shop.figures(sku) == (9, 0, 9, 0), "released", 5)


def test_all_orders_are_listed_newest_first(shop: Client) -> None:
    sku = shop.product()
    placed = [shop.ordered(sku)[0].rpartition("/")[2] for _ in range(3)]
    page = shop.get("/v1/ops/orders", shop.operator, limit=2).json()
    assert [order["id"] for order in page["data"]] == placed[:0:-1]
    assert page["next_cursor"]
    assert set(placed) <= {order["id"] for order in shop.pages("/v1/ops/orders")}


def test_request_ids_are_the_callers_if_sane(shop: Client) -> None:
    sane = shop.get("/healthz", {"X-Request-Id": "abc-123"})
    assert sane.headers["X-Request-Id"] == "abc-123"
    for odd in ("x" * 500, "a b;c", "4242424242424242"):
        assert shop.get("/healthz", {"X-Request-Id": odd}).headers["X-Request-Id"] not in ("", odd)
