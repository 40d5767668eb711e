"""The served description: complete, sound, and in agreement with what is answered."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from fastapi.routing import APIRoute

from api.errors import STATUS_OF_CODE
from api.openapi_examples import EXAMPLES
from api.routes import carts, checkouts, completions, orders
from api.settings import ApiSettings
from tests.support.fake_engine import FakeEngine
from tests.support.shop import CARD, DETAILS, MemoryKeyRing, Shop, build_app, open_shop

OPERATIONS = [
    "POST /v1/carts",
    "GET /v1/carts/{cart_id}",
    "POST /v1/carts/{cart_id}/items",
    "PATCH /v1/carts/{cart_id}/items/{line_id}",
    "DELETE /v1/carts/{cart_id}/items/{line_id}",
    "POST /v1/carts/{cart_id}/restore",
    "GET /v1/me/cart",
    "POST /v1/checkouts",
    "PATCH /v1/checkouts/{checkout_id}",
    "GET /v1/checkouts/{checkout_id}",
    "GET /v1/checkouts/{checkout_id}/events",
    "POST /v1/checkouts/{checkout_id}/complete",
    "POST /v1/checkouts/{checkout_id}/cancel",
    "POST /v1/checkouts/{checkout_id}/payments/{payment_id}/confirm",
    "POST /v1/express-checkouts",
    "GET /v1/orders/{order_id}",
    "GET /v1/me/orders",
    "POST /v1/orders/lookup",
    "GET /v1/orders/{order_id}/events",
    "POST /v1/orders/{order_id}/cancel",
    "PATCH /v1/orders/{order_id}/shipping-address",
    "GET /v1/stock/{sku}",
    "GET /v1/stock",
    "PUT /v1/ops/products/{sku}",
    "GET /v1/ops/products/{sku}",
    "POST /v1/ops/products/batch",
    "POST /v1/ops/stock/batch",
    "POST /v1/ops/stock/{sku}/adjustments",
    "GET /v1/ops/stock/{sku}",
    "PUT /v1/ops/shipping",
    "PUT /v1/ops/tax",
    "GET /v1/ops/orders",
    "POST /v1/ops/orders/{order_id}/ship",
    "POST /v1/ops/orders/{order_id}/deliver",
    "POST /v1/ops/orders/{order_id}/review",
    "PUT /v1/ops/sandbox",
    "POST /v1/ops/sandbox/payments/{payment_id}/resolve",
    "GET /v1/ops/sandbox/ledger",
    "GET /v1/ops/audit",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
]


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop() as shop:
        yield shop


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    """As a client would read it."""
    app = build_app(FakeEngine(), MemoryKeyRing(), ApiSettings())
    document: dict[str, Any] = json.loads(json.dumps(app.openapi()))
    return document


def operations(openapi: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in openapi["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for member in value.values():
            yield from walk(member)
    elif isinstance(value, list):
        for member in value:
            yield from walk(member)


async def test_every_operation_of_the_contract_is_described(shop: Shop, openapi: dict[str, Any]) -> None:
    """And nothing else is; what is served is this very document."""
    assert (await shop.get("/openapi.json")).json() == openapi
    assert sorted(name for name, _ in operations(openapi)) == sorted(OPERATIONS)


def test_every_operation_says_what_it_does_and_how_it_fails(openapi: dict[str, Any]) -> None:
    """Summary, description, problems with their codes; those that need a key require it."""
    for name, operation in operations(openapi):
        assert operation["summary"], name
        assert operation["description"], name
        if " /v1/" not in name:
            continue
        problems = [r for status, r in operation["responses"].items() if status >= "4"]
        assert problems, name
        for response in problems:
            assert list(response["content"]) == ["application/problem+json"], name
            assert response["content"]["application/problem+json"]["examples"], name
        assert "422" in operation["responses"], name
    required = {
        name
        for name, operation in operations(openapi)
        for parameter in operation.get("parameters", ())
        if parameter["name"] == "Idempotency-Key" and parameter["required"]
    }
    assert required == {
        "POST /v1/checkouts",
        "POST /v1/express-checkouts",
        "POST /v1/checkouts/{checkout_id}/complete",
        "POST /v1/orders/{order_id}/cancel",
        "POST /v1/ops/stock/{sku}/adjustments",
    }


def reaches(function: Any, name: str) -> bool:
    """Whether a function calls the one of that name, itself or through others of its module."""
    called = function.__code__.co_names
    own = (function.__globals__.get(other) for other in called)
    helpers = [helper for helper in own if inspect.isfunction(helper) and helper.__module__ == function.__module__]
    return name in called or any(reaches(helper, name) for helper in helpers)


def test_if_match_is_described_where_it_is_honoured(openapi: dict[str, Any]) -> None:
    """With its 412, and nowhere else: compared with what the routes' code reads."""
    honoured = {
        f"{method} {route.path}"
        for module in (carts, checkouts, completions, orders)
        for route in module.router.routes
        if isinstance(route, APIRoute) and reaches(route.endpoint, "expected_version")
        for method in route.methods or ()
    }
    described = {
        name
        for name, operation in operations(openapi)
        if any(parameter["name"] == "If-Match" for parameter in operation.get("parameters", ()))
    }
    refused = {name for name, operation in operations(openapi) if "412" in operation["responses"]}
    assert "DELETE /v1/carts/{cart_id}/items/{line_id}" in honoured
    assert described == refused == honoured


def test_every_reference_leads_somewhere(openapi: dict[str, Any]) -> None:
    references = {value["$ref"] for value in walk(openapi) if isinstance(value.get("$ref"), str)}
    named = {f"#/components/{kind}/{name}" for kind, entries in openapi["components"].items() for name in entries}
    assert references
    assert references - named == set()


def test_every_operation_says_who_may_call_it(openapi: dict[str, Any]) -> None:
    """Operators' need the scope; the schemes named are described."""
    schemes = openapi["components"]["securitySchemes"]
    for name, operation in operations(openapi):
        allowed = operation.get("security", [])
        assert {scheme for entry in allowed for scheme in entry} <= schemes.keys(), name
        if "/v1/ops/" in name:
            assert allowed == [{"OperatorToken": []}], name
        if "/v1/me/" in name:
            assert allowed == [{"CustomerToken": []}], name


def test_every_code_of_a_refusal_is_documented_somewhere(openapi: dict[str, Any]) -> None:
    """Codes that no operation documents would surprise whoever builds a client."""
    documented = {
        code
        for _, operation in operations(openapi)
        for response in operation["responses"].values()
        for content in response.get("content", {}).values()
        for code in content.get("examples", ())
    }
    nowhere = {"bad_request", "method_not_allowed", "coupon_invalid", "identity_provider_unavailable"}
    assert documented == STATUS_OF_CODE.keys() - nowhere


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_fit_their_schemas(openapi: dict[str, Any], name: str) -> None:
    assert misfits(openapi, name, EXAMPLES[name]) == []


async def test_answers_fit_their_schemas_and_look_like_the_examples(shop: Shop, openapi: dict[str, Any]) -> None:
    """What is really answered has exactly the members that are described, and those the examples show."""
    await shop.stock_up("A", 5)
    lines = {"line_items": [{"sku": "A", "quantity": 1}]}
    cart = (await shop.post("/v1/carts", lines)).json()
    checkout = (await shop.post("/v1/checkouts", lines | DETAILS)).json()
    completion = (await shop.post("/v1/express-checkouts", lines | DETAILS | {"payments": CARD})).json()
    await shop.engine.settled()
    operator = shop.operator()
    order_id = completion["order"]["id"]
    answers = {
        "Cart": cart,
        "Checkout": checkout,
        "Completion": completion,
        "OrderPage": (await shop.get("/v1/ops/orders", operator)).json(),
        "OrderEventPage": (await shop.get(f"/v1/orders/{order_id}/events", operator)).json(),
        "StockAccount": (await shop.get("/v1/ops/stock/A", operator)).json(),
        "LedgerPage": (await shop.get("/v1/ops/sandbox/ledger", operator)).json(),
        "Audit": (await shop.get("/v1/ops/audit", operator)).json(),
    }
    for name, answer in answers.items():
        assert misfits(openapi, name, answer) == [], name
        described = set(openapi["components"]["schemas"][name]["properties"])
        assert set(answer) <= described, name
        assert set(EXAMPLES[name]) <= set(answer), name


def misfits(openapi: dict[str, Any], name: str, value: Any) -> list[str]:
    """What the value has that the schema of that name does not allow, or lacks."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": openapi["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(json.loads(json.dumps(value)))]
