"""Health, figures, the page for people, and HTTP's own manners."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from domain.order import OrderView
from tests.support.shop import Shop, cart_token, open_shop


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop() as shop:
        await shop.stock_up("A", 5)
        yield shop


async def test_health_tells_of_the_process_and_readiness_of_the_shop(shop: Shop) -> None:
    assert (await shop.get("/healthz")).json()["status"] == "ok"
    assert (await shop.get("/readyz")).json()["ready"] is True
    shop.engine.is_ready = False
    starting = await shop.get("/readyz")
    assert (starting.status_code, starting.headers["retry-after"]) == (503, "1")


async def test_figures_are_by_route_and_status(shop: Shop) -> None:
    """Ids and unknown paths do not become labels."""
    await shop.get("/v1/stock/A")
    await shop.get("/v1/carts/cart_1")
    await shop.get("/nowhere/at/all")
    text = (await shop.get("/metrics")).text
    assert 'lastunit_http_requests_total{method="GET",route="/v1/stock/{sku}",status="200"} 1.0' in text
    assert 'lastunit_http_requests_total{method="GET",route="/v1/carts/{cart_id}",status="404"} 1.0' in text
    assert 'route="unknown",status="404"} 1.0' in text
    assert 'lastunit_http_request_duration_seconds_count{method="GET",route="/v1/stock/{sku}"} 1.0' in text
    assert "nowhere" not in text


async def test_the_page_for_people_needs_nothing_from_elsewhere(shop: Shop) -> None:
    page = await shop.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for part in (
        "/v1/express-checkouts",
        "/v1/ops/stock/{sku}/adjustments",
        "Idempotency-Key",
        "ROSE-RED-12",
    ):
        assert part in page.text
    for elsewhere in ("<script", "<link", "src=", "@import", "url(", "//cdn"):
        assert elsewhere not in page.text


async def test_head_is_get_without_its_body(shop: Shop) -> None:
    get, head = await shop.get("/v1/stock/A"), await shop.call("HEAD", "/v1/stock/A")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    checkout = await shop.post("/v1/checkouts", {"line_items": [{"sku": "A", "quantity": 1}]})
    events = f"/v1/checkouts/{checkout.json()['id']}/events"
    assert (await shop.call("HEAD", events, headers=cart_token(checkout))).status_code == 200


async def test_a_method_that_is_not_taken_tells_those_that_are(shop: Shop) -> None:
    path = f"/v1/checkouts/chk_{'0' * 26}"
    refused = await shop.call("DELETE", path)
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    assert refused.headers["allow"] == "GET, HEAD, OPTIONS, PATCH"
    asked = await shop.call("OPTIONS", path)
    assert (asked.status_code, asked.headers["allow"]) == (204, "GET, HEAD, OPTIONS, PATCH")


async def test_an_unknown_path_is_a_problem(shop: Shop) -> None:
    for path in ("/v1", "/v1/carts/", "/v1/gift-cards/balance"):
        answer = await shop.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "error",
    [asyncpg.CannotConnectNowError("starting"), asyncpg.DeadlockDetectedError("victim"), ConnectionRefusedError()],
)
async def test_a_store_that_is_away_asks_for_patience(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """503 with Retry-After: neither a 500, nor a 404 for an order that is there."""

    async def away(*_args: object) -> OrderView | None:
        raise error

    monkeypatch.setattr(shop.engine.orders, "by_id", away)
    answer = await shop.get(f"/v1/orders/ord_{'0' * 26}", shop.operator())
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "busy", "1")
