"""Stock, products, batches, tables, the sandbox: what operators put there, and what everybody sees of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Match

from api.routes import batches, operations, stock
from api.settings import ApiSettings
from tests.support.shop import Answer, Shop, open_shop

ROSES = {"title": "Roses", "prices": {"USD": 1999, "EUR": 1899}, "weight_g": 600, "purchase_limit": 3}


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop() as shop:
        yield shop


def outcome(answer: Answer) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def adjust(shop: Shop, sku: str, headers: dict[str, str] | None = None, **body: Any) -> Answer:
    path = f"/v1/ops/stock/{quote(sku, safe='')}/adjustments"
    return await shop.post(path, {"reason": "test"} | body, shop.operator() | (headers or {}))


SKUS = ("A", "a b", "A/B", "50%", "ÄÖ#?", "batch", "x/adjustments", "adjustments", "/", "a//b", "a/../b", "...")


@pytest.mark.parametrize("sku", SKUS)
async def test_any_sku_has_its_paths(shop: Shop, sku: str) -> None:
    """Percent-encoded, whatever is in it."""
    path = quote(sku, safe="")
    created = await shop.put(f"/v1/ops/products/{path}", ROSES)
    assert (created.status_code, created.json()["sku"]) == (201, sku)
    replaced = await shop.put(f"/v1/ops/products/{path}", ROSES | {"title": "Red roses"})
    assert replaced.status_code == 200
    assert (await shop.get(f"/v1/ops/products/{path}", shop.operator())).json() == replaced.json()
    assert (await adjust(shop, sku, set=7)).json()["on_hand"] == 7
    assert (await shop.get(f"/v1/ops/stock/{path}", shop.operator())).json()["available"] == 7
    assert (await shop.get(f"/v1/stock/{path}")).json() == {"sku": sku, "available": 7}


@pytest.mark.parametrize("sku", SKUS)
def test_the_path_of_a_sku_is_no_other_operations(sku: str) -> None:
    """Whatever the SKU is called, one route takes its path: also `batch`, beside the batches."""
    routes = [route for module in (batches, stock, operations) for route in module.router.routes]
    of_skus = [route for route in routes if isinstance(route, APIRoute) and "{sku:path}" in route.path]
    assert of_skus
    for route in of_skus:
        for method in route.methods or ():
            scope = {"type": "http", "method": method, "path": route.path.replace("{sku:path}", sku)}
            assert [other for other in routes if other.matches(scope)[0] is Match.FULL] == [route]


@pytest.mark.parametrize("sku", [".", ".."])
async def test_what_no_path_can_name_is_no_sku(shop: Shop, sku: str) -> None:
    """Clients take dots out of a path; a product of that name could be made by a batch and never be read."""
    batch = {"products": [{"sku": sku, **ROSES}]}
    done = await shop.post("/v1/ops/products/batch", batch, shop.operator())
    assert done.json()["results"][0] == {
        "index": 0,
        "status": "error",
        "code": "invalid",
        "message": "$.sku: A SKU must not be . or .., which no path can name.",
    }
    put = await shop.put(f"/v1/ops/products/{sku.replace('.', '%2E')}", ROSES)
    assert outcome(put) == (422, "validation_failed")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (ROSES | {"prices": {"USD": -1}}, "$.prices.USD"),
        (ROSES | {"prices": {"USD": 19.99}}, "$.prices.USD"),
        (ROSES | {"prices": {"XXX": 1}}, "$.prices.XXX"),
        (ROSES | {"prices": {}}, "$.prices"),
        ({"prices": {"USD": 1}}, "$.title"),
        (ROSES | {"color": "red"}, "$.color"),
        (None, "$.title"),
    ],
)
async def test_a_wrong_product_is_refused_and_changes_nothing(shop: Shop, body: Any, path: str) -> None:
    answer = await shop.put("/v1/ops/products/A", body)
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, path)
    assert (await shop.get("/v1/stock/A")).status_code == 404


async def test_an_explicit_null_is_no_empty_body(shop: Shop) -> None:
    answer = await shop.client.post(
        "/v1/carts", content=b"null", headers=shop.key() | {"Content-Type": "application/json"}
    )
    assert outcome(answer) == (422, "validation_failed")


async def test_only_operators_may(shop: Shop) -> None:
    """401 without a token, 403 for a customer."""
    for method, path in (
        ("PUT", "/v1/ops/products/A"),
        ("GET", "/v1/ops/stock/A"),
        ("POST", "/v1/ops/stock/batch"),
        ("GET", "/v1/ops/orders"),
        ("GET", "/v1/ops/audit"),
        ("PUT", "/v1/ops/sandbox"),
    ):
        assert outcome(await shop.call(method, path, None, {})) == (401, "unauthorized")
        assert outcome(await shop.call(method, path, None, shop.customer())) == (403, "insufficient_scope")


async def test_stock_is_adjusted_once_a_key(shop: Shop) -> None:
    """`delta` adds, `set` sets what is on hand; never below what is reserved."""
    await shop.put("/v1/ops/products/A", ROSES)
    key = shop.key()
    first = await adjust(shop, "A", key, delta=5)
    assert (await adjust(shop, "A", key, delta=5)).content == first.content
    assert outcome(await adjust(shop, "A", key, delta=6)) == (422, "idempotency_key_reused")
    checkout = await shop.post("/v1/checkouts", {"line_items": [{"sku": "A", "quantity": 3}]})
    assert checkout.status_code == 201
    assert outcome(await adjust(shop, "A", set=2)) == (409, "below_reserved")
    assert outcome(await adjust(shop, "A", delta=-3)) == (409, "below_reserved")
    assert (await adjust(shop, "A", delta=-2)).json() == {
        "sku": "A",
        "on_hand": 3,
        "reserved": 3,
        "available": 0,
        "sold": 0,
        "received": 3,
    }
    assert outcome(await adjust(shop, "NOPE", delta=1)) == (404, "not_found")
    assert outcome(await adjust(shop, "A", delta=1, set=1)) == (422, "validation_failed")


async def test_many_levels_are_asked_at_once(shop: Shop) -> None:
    """In the order asked, 0 of what does not exist, at most 100."""
    await shop.stock_up("A", 2)
    await shop.stock_up("B", 3)
    answer = await shop.get("/v1/stock?sku=B&sku=NOPE&sku=A&sku=B")
    assert answer.json()["data"] == [
        {"sku": "B", "available": 3},
        {"sku": "NOPE", "available": 0},
        {"sku": "A", "available": 2},
    ]
    for query in ("", "?sku=", "?" + "&".join(f"sku=S{i}" for i in range(101))):
        assert outcome(await shop.get(f"/v1/stock{query}")) == (422, "validation_failed")


async def test_a_batch_of_products_lands_what_is_valid(shop: Shop) -> None:
    """Each entry has its fate; a second time nothing is new; a dry run changes nothing."""
    batch = [
        {"sku": "A", **ROSES, "on_hand": 4},
        {"sku": "B", "prices": {"USD": 1}},
        {"sku": "C", **ROSES},
        "nonsense",
        {"sku": "C", **ROSES, "title": "The last one wins"},
    ]
    dry = await shop.post("/v1/ops/products/batch", {"products": batch, "dry_run": True}, shop.operator())
    assert [result["status"] for result in dry.json()["results"]] == [
        "created",
        "error",
        "created",
        "error",
        "created",
    ]
    assert (await shop.get("/v1/stock/A")).status_code == 404
    done = await shop.post("/v1/ops/products/batch", {"products": batch}, shop.operator())
    results = done.json()["results"]
    assert [result["status"] for result in results] == ["created", "error", "created", "error", "replaced"]
    assert results[1] == {
        "index": 1,
        "status": "error",
        "code": "missing",
        "message": "$.title: This is required.",
    }
    assert (await shop.get("/v1/stock/A")).json()["available"] == 4
    assert (await shop.get("/v1/ops/products/C", shop.operator())).json()["title"] == "The last one wins"
    again = await shop.post("/v1/ops/products/batch", {"products": [batch[0]]}, shop.operator())
    assert again.json()["results"] == [{"index": 0, "status": "unchanged"}]
    many = await shop.post("/v1/ops/products/batch", {"products": [{}] * 1001}, shop.operator())
    assert outcome(many) == (422, "validation_failed")


async def test_a_keyed_batch_of_counts_is_not_repeated_after_sales(shop: Shop) -> None:
    """Asked again with its key, units that were sold meanwhile do not come back."""
    await shop.put("/v1/ops/products/A", ROSES)
    body = {"items": [{"sku": "A", "set": 5}, {"sku": "NOPE", "set": 1}], "reason": "count"}
    headers = shop.operator() | shop.key()
    done = await shop.post("/v1/ops/stock/batch", body, headers)
    assert [result["status"] for result in done.json()["results"]] == ["set", "error"]
    assert done.json()["results"][1]["code"] == "not_found"
    assert (await shop.buy("A", 2)).status_code == 200
    await shop.post("/v1/ops/stock/batch", body, headers)
    assert (await shop.figures("A"))["on_hand"] == 3
    fresh = await shop.post("/v1/ops/stock/batch", body, shop.operator())
    assert fresh.json()["results"][0]["status"] == "set"
    assert (await shop.figures("A"))["on_hand"] == 5


async def test_tables_are_answered_as_they_are(shop: Shop) -> None:
    option = {"id": "post", "label": "Post", "amount": {"USD": 700}, "min_days": 1, "max_days": 2}
    zones = {"zones": [{"countries": ["US"], "options": [option | {"free_above": {"USD": 5000}}]}]}
    rates = {"rates": [{"country": "US", "rate": "0.1", "included": False, "shipping": True}]}
    assert (await shop.put("/v1/ops/shipping", zones)).json() == zones
    assert (await shop.put("/v1/ops/tax", rates)).json()["rates"][0]["rate"] == "0.1"
    await shop.stock_up("A", 5)
    bought = await shop.buy("A", payments=[{"method": "card", "token": "pm_card_visa"}])
    assert [total["amount"] for total in bought.json()["order"]["totals"]] == [1999, 700, 270, 2969]
    wrong = {"rates": [{"country": "US", "rate": 0.1, "included": False}]}
    assert (await shop.put("/v1/ops/tax", wrong)).json()["errors"][0]["path"] == "$.rates[0].rate"


async def test_the_sandbox_shows_its_book_page_by_page(shop: Shop) -> None:
    await shop.stock_up("A", 5)
    for _ in range(2):
        await shop.buy("A")
    first = (await shop.get("/v1/ops/sandbox/ledger?limit=3", shop.operator())).json()
    cursor = first["next_cursor"]
    rest = (await shop.get(f"/v1/ops/sandbox/ledger?cursor={cursor}", shop.operator())).json()
    entries = first["data"] + rest["data"]
    assert [entry["type"] for entry in entries].count("capture") == 2
    assert (len(entries), rest["next_cursor"]) == (4, None)
    assert (await shop.get("/v1/ops/sandbox/ledger?cursor=x", shop.operator())).status_code == 422


async def test_the_sandbox_takes_a_mode_and_a_latency(shop: Shop) -> None:
    """Each may be left as it is; what is no latency is refused."""
    both = await shop.put("/v1/ops/sandbox", {"mode": "error", "latency_ms": "10-20"})
    assert both.json() == {"mode": "error", "latency_ms": "10-20"}
    assert (await shop.put("/v1/ops/sandbox", {"mode": "up"})).json() == {"mode": "up", "latency_ms": "10-20"}
    assert (await shop.put("/v1/ops/sandbox", {"latency_ms": "fast"})).status_code == 422


async def test_where_there_is_no_sandbox_its_paths_do_not_exist() -> None:
    async with open_shop(ApiSettings(mode="production", sandbox_on=False)) as shop:
        assert (await shop.put("/v1/ops/sandbox", {"mode": "down"})).status_code == 404


async def test_the_audit_is_answered_as_it_is_found(shop: Shop) -> None:
    audit = await shop.get("/v1/ops/audit", shop.operator())
    assert (audit.status_code, audit.json()["consistent"], audit.json()["violations"]) == (200, True, [])
