"""Carts over HTTP, against the real core in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.engine_types import Busy
from domain.cart_model import CartPolicy, SetOpenCart
from tests.support.shop import Shop, cart_token, open_shop


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(carts=CartPolicy(idle_ms=60_000)) as shop:
        await shop.stock_up("A", 5)
        await shop.stock_up("B", 5, {"USD": 500, "EUR": 450})
        yield shop


def lines(*pairs: tuple[str, int]) -> dict[str, Any]:
    return {"line_items": [{"sku": sku, "quantity": quantity} for sku, quantity in pairs]}


async def test_a_guest_is_given_the_token_that_opens_the_cart(shop: Shop) -> None:
    """Without it, or with another's, the cart does not exist."""
    made = await shop.post("/v1/carts", lines(("A", 2)))
    other = await shop.post("/v1/carts")
    assert made.status_code == other.status_code == 201
    cart = made.json()
    path = f"/v1/carts/{cart['id']}"
    assert made.headers["location"] == path
    assert made.headers["etag"] == f'"{cart["version"]}"'
    assert cart["line_items"][0] | {"id": ""} == {
        "id": "",
        "sku": "A",
        "title": "Product A",
        "quantity": 2,
        "unit_price": 1999,
        "amount": 3998,
    }
    assert cart["totals"] == [{"type": "subtotal", "amount": 3998}, {"type": "total", "amount": 3998}]
    assert (await shop.get(path, cart_token(made))).json() == {k: v for k, v in cart.items() if k != "token"}
    for credentials in ({}, cart_token(other), {"Cart-Token": "lut_made-up"}, shop.customer()):
        assert (await shop.get(path, credentials)).status_code == 404


async def test_a_repeated_request_makes_one_cart(shop: Shop) -> None:
    """The same key answers the same bytes, also later; another body with it is refused."""
    key = shop.key()
    first = await shop.post("/v1/carts", lines(("A", 1)), key)
    await shop.engine.advance(5_000)
    again = await shop.post("/v1/carts", lines(("A", 1)), key)
    assert again.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = await shop.post("/v1/carts", lines(("B", 1)), key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (lines(("A", 1), ("NOPE", 1)), "item_unavailable", "$.line_items[1].sku"),
        (
            lines(("B", 1), ("B", 1), ("A", 1)) | {"currency": "EUR"},
            "item_unavailable",
            "$.line_items[2].sku",
        ),
        (lines(("A", 0)), "quantity_out_of_range", "$.line_items[0].quantity"),
        (lines(("A", 600), ("A", 600)), "quantity_out_of_range", "$.line_items"),
        (lines(*((f"S{i}", 1) for i in range(51))), "too_many_lines", "$.line_items"),
        ({"coupons": []}, "validation_failed", "$.coupons"),
        ({"currency": "usd"}, "validation_failed", "$.currency"),
    ],
)
async def test_what_cannot_be_sold_is_refused_and_named(shop: Shop, body: dict[str, Any], code: str, path: str) -> None:
    answer = await shop.post("/v1/carts", body)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["errors"][0]["path"]) == (422, code, path)


async def test_items_are_added_changed_and_removed(shop: Shop) -> None:
    """Units of one SKU merge into its line; 0 removes; every write shows the whole cart and a new version."""
    made = await shop.post("/v1/carts", lines(("A", 1), ("A", 1)))
    token, path = cart_token(made), f"/v1/carts/{made.json()['id']}"
    added = await shop.post(f"{path}/items", {"sku": "A", "quantity": 2}, token)
    assert [(line["sku"], line["quantity"]) for line in added.json()["line_items"]] == [("A", 4)]
    more = await shop.post(f"{path}/items", {"sku": "B", "quantity": 1}, token)
    a, b = (line["id"] for line in more.json()["line_items"])
    changed = await shop.patch(f"{path}/items/{a}", {"quantity": 1}, token)
    assert changed.json()["totals"][-1] == {"type": "total", "amount": 1999 + 500}
    assert changed.headers["etag"] > more.headers["etag"]
    removed = await shop.call("DELETE", f"{path}/items/{a}", headers=token)
    assert [line["sku"] for line in removed.json()["line_items"]] == ["B"]
    emptied = await shop.patch(f"{path}/items/{b}", {"quantity": 0}, token)
    assert emptied.json()["line_items"] == []
    assert (await shop.patch(f"{path}/items/{b}", {"quantity": 1}, token)).status_code == 404
    assert (await shop.post(f"{path}/items", {"sku": "NOPE", "quantity": 1}, token)).json()["errors"][0][
        "path"
    ] == "$.sku"


async def test_a_keyed_addition_happens_once(shop: Shop) -> None:
    """Asked twice with one key, the units are there once."""
    made = await shop.post("/v1/carts")
    path, headers = f"/v1/carts/{made.json()['id']}/items", cart_token(made) | shop.key()
    first = await shop.post(path, {"sku": "A", "quantity": 2}, headers)
    again = await shop.post(path, {"sku": "A", "quantity": 2}, headers)
    assert again.content == first.content
    assert again.json()["line_items"][0]["quantity"] == 2


@pytest.mark.parametrize(("header", "status"), [('"1"', 200), ('"7"', 412), ("*", 200), ("x", 412), ('W/"1"', 412)])
async def test_a_write_may_name_the_version_it_means(shop: Shop, header: str, status: int) -> None:
    made = await shop.post("/v1/carts")
    headers = cart_token(made) | {"If-Match": header}
    answer = await shop.post(f"/v1/carts/{made.json()['id']}/items", {"sku": "A", "quantity": 1}, headers)
    assert answer.status_code == status


async def test_a_read_shows_prices_of_now_and_says_what_changed(shop: Shop) -> None:
    """New prices, too few units and what is no longer sold are told; nothing is decided by it."""
    made = await shop.post("/v1/carts", lines(("A", 2), ("B", 9)))
    await shop.put("/v1/ops/products/A", {"title": "A", "prices": {"USD": 2500}})
    cart = (await shop.get(f"/v1/carts/{made.json()['id']}", cart_token(made))).json()
    assert cart["totals"][-1]["amount"] == 5000 + 4500
    assert [(m["code"], m["path"]) for m in cart["messages"]] == [
        ("price_changed", "$.line_items[0].unit_price"),
        ("out_of_stock", "$.line_items[1].quantity"),
    ]
    await shop.put("/v1/ops/products/B", {"title": "B", "prices": {"EUR": 1}})
    cart = (await shop.get(f"/v1/carts/{made.json()['id']}", cart_token(made))).json()
    assert cart["messages"][-1]["code"] == "item_unavailable"
    assert cart["totals"][-1]["amount"] == 5000


async def test_a_place_adds_estimated_shipping_and_tax(shop: Shop) -> None:
    """Only for the read that names it."""
    option = {"id": "post", "label": "Post", "amount": {"USD": 700}, "min_days": 1, "max_days": 2}
    await shop.put("/v1/ops/shipping", {"zones": [{"countries": ["US"], "options": [option]}]})
    await shop.put("/v1/ops/tax", {"rates": [{"country": "US", "region": "IL", "rate": "0.1", "included": False}]})
    made = await shop.post("/v1/carts", lines(("A", 1)))
    path = f"/v1/carts/{made.json()['id']}"
    estimate = (await shop.get(f"{path}?country=us&region=illinois", cart_token(made))).json()
    assert [total["amount"] for total in estimate["totals"]] == [1999, 700, 200, 2899]
    assert (await shop.get(path, cart_token(made))).json()["totals"][-1]["amount"] == 1999
    abroad = (await shop.get(f"{path}?country=FR", cart_token(made))).json()
    assert [message["code"] for message in abroad["messages"]] == ["address_undeliverable"]
    assert (await shop.get(f"{path}?country=XX", cart_token(made))).status_code == 422
    for half in ("region=IL", "postal_code=62704"):
        lost = await shop.get(f"{path}?{half}", cart_token(made))
        assert (lost.status_code, lost.json()["errors"][0]["path"]) == (422, "query.country")


async def test_an_idle_cart_expires_can_be_read_and_restored(shop: Shop) -> None:
    made = await shop.post("/v1/carts", lines(("A", 1)))
    token, path = cart_token(made), f"/v1/carts/{made.json()['id']}"
    await shop.engine.advance(60_001)
    refused = await shop.post(f"{path}/items", {"sku": "A", "quantity": 1}, token)
    assert (refused.status_code, refused.json()["code"]) == (410, "cart_expired")
    assert (await shop.get(path, token)).json()["status"] == "expired"
    restored = await shop.post(f"{path}/restore", None, token)
    assert (restored.status_code, restored.json()["status"]) == (200, "open")
    assert (await shop.post(f"{path}/items", {"sku": "A", "quantity": 1}, token)).status_code == 200


async def test_a_customer_finds_the_open_cart_on_any_device(shop: Shop) -> None:
    """No token is given out; the customer's id is shown, and never passes the edge in clear."""
    assert (await shop.get("/v1/me/cart", shop.customer())).status_code == 404
    made = await shop.post("/v1/carts", lines(("A", 1)), shop.customer())
    assert "token" not in made.json()
    assert made.json()["customer_id"] == "ada"
    assert (await shop.get("/v1/me/cart", shop.customer())).json() == made.json()
    assert (await shop.get("/v1/me/cart", shop.customer("bob"))).status_code == 404
    assert (await shop.get("/v1/me/cart")).status_code == 401
    assert b"ada" not in b"".join(repr(state).encode() for state in shop.engine.carts.states.values())


async def test_a_customers_cart_is_found_though_its_making_broke_off(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the cart and the pointer to it: until the key is sent again, the cart before it stays."""
    before = await shop.post("/v1/carts", lines(("B", 1)), shop.customer())
    ask, headers = shop.engine.ask, shop.customer() | shop.key()

    async def broken(command: Any, *more: Any) -> Any:
        if isinstance(command, SetOpenCart):
            raise Busy
        return await ask(command, *more)

    monkeypatch.setattr(shop.engine, "ask", broken)
    assert (await shop.post("/v1/carts", lines(("A", 1)), headers)).status_code == 503
    assert (await shop.get("/v1/me/cart", shop.customer())).json()["id"] == before.json()["id"]
    monkeypatch.undo()
    again = await shop.post("/v1/carts", lines(("A", 1)), headers)
    assert again.status_code == 201
    assert (await shop.get("/v1/me/cart", shop.customer())).json()["id"] == again.json()["id"]


async def test_a_write_asks_the_cart_twice_and_stock_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys cost no call of their own: the command finds its kept answer."""
    made = await shop.post("/v1/carts", lines(("A", 1), ("B", 1)))
    path, headers = f"/v1/carts/{made.json()['id']}/items", cart_token(made) | shop.key()
    asked: list[str] = []

    def noting(name: str) -> None:
        method = getattr(shop.engine, name)

        async def note(what: Any, *more: Any) -> Any:
            asked.append(name if name == "quote" else type(what).__name__)
            return await method(what, *more)

        monkeypatch.setattr(shop.engine, name, note)

    noting("ask")
    noting("quote")
    assert (await shop.post(path, {"sku": "A", "quantity": 1}, headers)).status_code == 200
    assert asked == ["ReadCart", "quote", "AddItem"]


async def test_what_belongs_to_later_work_is_not_there(shop: Shop) -> None:
    made = await shop.post("/v1/carts")
    path = f"/v1/carts/{made.json()['id']}"
    for method, target in (
        ("PUT", f"{path}/coupons/SAVE10"),
        ("POST", f"{path}/claim"),
        ("GET", "/v1/me/wishlist"),
    ):
        answer = await shop.call(method, target, {}, cart_token(made))
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
