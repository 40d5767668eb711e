"""Bad input of every kind against a running server: a clear 4xx that names the place, and nothing changed."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.client import ADDRESS, BUYER, DETAILS, Client, code_of, key, lines

CARD_NUMBER = "4242 4242-4242 4242"
OK = {"sku": "X", "quantity": 1}
JSON = {"Content-Type": "application/json"}

MALFORMED: list[bytes] = [
    b"{", b"[1,", b"nul", b"{'a':1}", b'{"a":1,}', b'{"a":01}', b'{"a":NaN}', b'{"a":Infinity}', b"\xff\xfe",
    b'{"line_items":"\xc3\x28"}', b'"\\ud800"', b'{"a":1}{"b":2}', b"[" * 5000 + b"]" * 5000,
    b'{"a":' * 3000 + b"1" + b"}" * 3000, "\ufeff{}".encode("utf-16"),
]  # fmt: skip

LINE_ITEMS: list[Any] = [
    "x", 7, [7], [[]], [None], [{}], [{"sku": "X"}], [{**OK, "quantity": 0}], [{**OK, "quantity": -1}],
    [{**OK, "quantity": 1000}], [{**OK, "quantity": 10**30}], [{**OK, "quantity": 1.0}], [{**OK, "quantity": 1.5}],
    [{**OK, "quantity": "1"}], [{**OK, "quantity": "\u0661"}], [{**OK, "quantity": True}],
    [{**OK, "quantity": None}], [{**OK, "sku": ""}], [{**OK, "sku": " X"}], [{**OK, "sku": "x" * 65}],
    [{**OK, "sku": 5}], [{**OK, "sku": "a\nb"}], [{**OK, "sku": "a\u0000b"}], [{**OK, "sku": "a\u200bb"}],
    [{**OK, "price": 1}], [{**OK, "sku": "NOT-THERE"}], [{**OK, "quantity": {"$gt": 0}}],
    [{"sku": f"S{n}", "quantity": 1} for n in range(51)], [{**OK, "quantity": 999}, OK],
]  # fmt: skip

FIELDS: list[dict[str, Any]] = [
    {"unknown": 1}, {"buyer": "x"}, {"buyer": {"email": "nobody"}}, {"buyer": {"email": "a@b\r\nBcc: c@d.org"}},
    {"buyer": {"email": 1}}, {"buyer": {"name": "x" * 201}}, {"buyer": {"name": "a\u0000b"}}, {"buyer": {"mail": "x"}},
    {"buyer": {"name": CARD_NUMBER}}, {"buyer": {"phone": "4242424242424242"}},
    {"shipping_address": {**ADDRESS, "line2": f"my card {CARD_NUMBER}"}},
    {"shipping_address": {"country": "XX"}}, {"shipping_address": {"country": "USA"}},
    {"shipping_address": {"postal_code": "x" * 21}}, {"shipping_address": []},
    {"shipping_address": {"line1": "a\u2028b"}}, {"selected_shipping_option": "teleport"},
    {"selected_shipping_option": 1}, {"line_items": []},
    {"line_items": None}, {"currency": "EUR"}, {"totals": []}, {"status": "completed"},
]  # fmt: skip

PAYMENTS: list[Any] = [
    None, "x", {}, [1], [{}], [{"method": "card"}], [{"method": "cash", "token": "pm_card_visa"}],
    [{"method": "card", "token": ""}], [{"method": "card", "token": "4242424242424242"}],
    [{"method": "card", "token": "pm_card_visa", "amount": -1}],
    [{"method": "card", "token": "pm_card_visa", "amount": 19.99}],
    [{"method": "card", "token": "pm_card_visa", "amount": "1999"}],
    [{"method": "card", "token": "pm_card_visa", "amount": 10**20}],
    [{"method": "card", "token": "pm_card_visa", "number": "1"}],
    [{"method": "card", "token": "pm_card_visa"}, {"method": "card", "token": "pm_card_visa"}],
    [{"method": "card", "token": "pm_card_visa", "amount": 1}] * 11, [{"method": "card", "token": "a\u0000"}],
]  # fmt: skip


def problem_status(answer: Any) -> int:
    """The status of a problem document. AssertionError: it is none, or a wrong one, or repeats a card number."""
    assert answer.headers["Content-Type"] == "application/problem+json", f"{answer.status_code} {answer.text[:300]}"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["code"]
    assert problem["title"]
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    for told in ("42424242", CARD_NUMBER[:9]):  # of four digits alone, a request id has some by chance
        assert told not in answer.text
    return int(answer.status_code)


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_not_json_is_400(shop: Client, body: bytes) -> None:
    for path in ("/v1/carts", "/v1/checkouts", "/v1/orders/lookup"):
        answer = shop.http.post(path, content=body, headers=JSON | {"Idempotency-Key": key()})
        assert problem_status(answer) == 400
        assert answer.json()["code"] == "malformed_json"


def test_no_line_items_of_any_wrong_kind_hold_anything(shop: Client) -> None:
    """The place is named; a cart, a checkout and an express checkout refuse alike."""
    for items in LINE_ITEMS:
        for path in ("/v1/carts", "/v1/checkouts", "/v1/express-checkouts"):
            answer = shop.post(path, {"line_items": items} | (DETAILS if "checkouts" in path else {}))
            assert problem_status(answer) == 422
            assert answer.json()["errors"][0]["path"].startswith("$.line_items"), items


def test_no_wrong_field_changes_a_checkout(shop: Client) -> None:
    sku = shop.product()
    checkout = shop.start(sku)
    before = checkout.read()
    for fields in FIELDS:
        assert problem_status(checkout.patch(fields)) == 422
    for payments in PAYMENTS:
        answer = shop.post(f"{checkout.path}/complete", {"payments": payments}, checkout.headers)
        assert problem_status(answer) == 422
    assert checkout.read() == before
    assert shop.figures(sku) == (10, 1, 9, 0)
    assert shop.money(checkout.id) == []


def test_a_surrogate_is_refused_wherever_it_stands(shop: Client) -> None:
    sku = shop.product()
    checkout = shop.start(sku)
    for name in ("email", "name", "phone"):
        content = json.dumps({"buyer": {name: "\ud800"}})
        answer = shop.http.patch(checkout.path, content=content, headers=checkout.headers | JSON)
        assert problem_status(answer) in (400, 422)


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/xml", "multipart/form-data", "application/json; charset=latin-1", ""]
)
def test_another_media_type_is_415(shop: Client, media_type: str) -> None:
    headers = {"Content-Type": media_type, "Idempotency-Key": key()}
    assert problem_status(shop.http.post("/v1/carts", content=b"{}", headers=headers)) == 415


def test_too_large_is_413(shop: Client) -> None:
    """Whether it is declared or comes in pieces."""
    big = json.dumps({"line_items": [], "x": "y" * 1_100_000}).encode()
    assert problem_status(shop.http.post("/v1/carts", content=big, headers=JSON)) == 413
    assert problem_status(shop.http.post("/v1/carts", content=iter([big[:100], big[100:]]), headers=JSON)) == 413


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/nothing", "/v1/carts/", "/v1//carts", "/v2/carts", "/v1/carts/../ops", "/v1/me/wallets"]
)
def test_an_unknown_path_is_404(shop: Client, path: str) -> None:
    assert problem_status(shop.get(path)) in (404, 405)


def test_a_wrong_method_is_405_and_names_the_right_ones(shop: Client) -> None:
    for method, path in (
        ("DELETE", "/v1/carts"),
        ("PUT", "/v1/checkouts"),
        ("POST", "/v1/stock/X"),
        ("BREW", "/v1/carts"),
    ):
        answer = shop.http.request(method, path)
        assert problem_status(answer) == 405
        assert answer.headers["Allow"]


@pytest.mark.parametrize(
    "identifier",
    ["x", "chk_", "chk_" + "0" * 26, "cart_" + "z" * 26, "%00", "%ff", "..", "a" * 5000, "chk_%F0%9F%98%80"],
)
def test_ids_that_name_nothing_are_404_or_422(shop: Client, identifier: str) -> None:
    token = shop.start(shop.product()).headers
    answers = [shop.get(f"/v1/{kind}/{identifier}", token) for kind in ("carts", "checkouts", "orders")]
    answers.append(shop.post(f"/v1/checkouts/{identifier}/complete", {"payments": []}, token))
    for answer in answers:
        assert problem_status(answer) in (404, 405, 414, 422)


@pytest.mark.parametrize(
    "sku", ["a/b", "a b", "a%2Fb", "\u00fcber/\u2605", "a?b#c", "...", "-", "x" * 64, "50% off", "a+b&c=d"]
)
def test_odd_skus_work_everywhere_percent_encoded(shop: Client, sku: str) -> None:
    """Slashes, spaces, percent signs, dots: made, stocked, shown, bought."""
    shop.product(3, sku=sku)
    path = quote(sku, safe="")
    assert shop.get("/v1/stock", sku=sku).json()["data"][0]["available"] == 3
    assert shop.get(f"/v1/stock/{path}").json() == {"sku": sku, "available": 3}
    assert shop.express(sku).json()["order"]["line_items"][0]["sku"] == sku
    assert shop.figures(sku) == (2, 0, 2, 1)


@pytest.mark.parametrize("path", ["%20", "%20a", "a%0Ab", "a%00", "x" * 65, "%ff", "%E2%80%8B"])
def test_skus_that_cannot_be_are_refused(shop: Client, path: str) -> None:
    assert problem_status(shop.get(f"/v1/stock/{path}")) in (404, 422)
    body = {"title": "T", "prices": {"USD": 1}}
    assert problem_status(shop.send("PUT", f"/v1/ops/products/{path}", body, shop.operator)) in (404, 422)


PRODUCT: dict[str, Any] = {"title": "T", "prices": {"USD": 100}}
RATE: dict[str, Any] = {"country": "DE", "rate": "0.19", "included": True, "shipping": False}

PRODUCTS: list[dict[str, Any]] = [
    {}, {"title": "T"}, {**PRODUCT, "prices": {}}, {**PRODUCT, "prices": {"USD": 1.5}}, {**PRODUCT, "title": ""},
    {**PRODUCT, "prices": {"usd": 1}}, {**PRODUCT, "prices": {"USD": -1}}, {**PRODUCT, "weight_g": -1},
    {**PRODUCT, "purchase_limit": 0}, {**PRODUCT, "x": 1}, {**PRODUCT, "title": CARD_NUMBER},
]  # fmt: skip

ADJUSTMENTS: list[dict[str, Any]] = [
    {}, {"delta": 1}, {"delta": 1, "set": 1, "reason": "r"}, {"delta": 1.5, "reason": "r"}, {"reason": "r"},
    {"set": -1, "reason": "r"}, {"delta": 10**18, "reason": "r"}, {"delta": "1", "reason": "r"},
    {"set": 10**10, "reason": "r"},
]  # fmt: skip

TABLES: list[tuple[str, Any]] = [
    ("shipping", {}), ("shipping", {"zones": 1}), ("shipping", {"zones": [{}]}),
    ("shipping", {"zones": [{"countries": ["XX"], "options": []}]}),
    *(("tax", {"rates": [{**RATE, "rate": rate}]}) for rate in ("x", "-1", "2000", "NaN", 0.19, "1e9", "\u0661")),
    ("sandbox", {"mode": "sideways"}), ("sandbox", {"latency_ms": "fast"}),
    ("sandbox", {"latency_ms": "3-1"}), ("sandbox", {"latency_ms": -1}),
]  # fmt: skip


def test_an_operators_mistakes_are_refused_too(shop: Client) -> None:
    sku = shop.product()
    for wrong in PRODUCTS:
        assert problem_status(shop.send("PUT", f"/v1/ops/products/{sku}", wrong, shop.operator)) == 422
    for wrong in ADJUSTMENTS:
        assert problem_status(shop.post(f"/v1/ops/stock/{sku}/adjustments", wrong, shop.operator)) == 422
    for table, wrong in TABLES:
        assert problem_status(shop.send("PUT", f"/v1/ops/{table}", wrong, shop.operator)) == 422
    assert shop.figures(sku) == (10, 0, 10, 0)


def test_page_parameters_have_limits(shop: Client) -> None:
    for params in (
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"limit": "\u0661"},
        {"cursor": "x"},
        {"cursor": "a" * 300},
    ):
        for path in ("/v1/ops/orders", "/v1/ops/sandbox/ledger"):
            assert problem_status(shop.get(path, shop.operator, **params)) == 422
    assert problem_status(shop.http.get("/v1/stock", params=[("sku", f"s{n}") for n in range(101)])) == 422
    assert problem_status(shop.get("/v1/stock")) == 422


def test_below_what_is_reserved_is_409(shop: Client) -> None:
    sku = shop.product(5)
    shop.start(sku, 3)
    path = f"/v1/ops/stock/{sku}/adjustments"
    for body in ({"set": 2, "reason": "r"}, {"delta": -3, "reason": "r"}):
        assert code_of(shop.post(path, body, shop.operator)) == (409, "below_reserved")
    assert shop.figures(sku) == (5, 3, 2, 0)
    assert shop.post(path, {"set": 3, "reason": "r"}, shop.operator).status_code == 200
    assert code_of(shop.post(path, {"delta": -9, "reason": "r"}, shop.operator)) == (409, "below_reserved")


def test_a_card_number_is_refused_in_headers_and_urls(shop: Client) -> None:
    number = "4242424242424242"
    assert problem_status(shop.post("/v1/carts", {}, {"Idempotency-Key": f"key-{number}-key"})) == 422
    assert problem_status(shop.get(f"/v1/stock/{number}")) == 422
    assert problem_status(shop.get("/v1/stock", sku=number)) == 422
    assert problem_status(shop.post("/v1/orders/lookup", {"number": number, "email": BUYER["email"]})) == 422


def test_a_version_that_is_stale_is_412(shop: Client) -> None:
    sku = shop.product()
    checkout = shop.start(sku)
    answer = shop.get(checkout.path, checkout.headers)
    etag = answer.headers["ETag"]
    assert etag == f'"{answer.json()["version"]}"'
    assert checkout.patch({"buyer": {"name": "New Name"}}, **{"If-Match": etag}).status_code == 200
    for stale in (etag, '"999999"', "nonsense", 'W/"1"'):
        assert code_of(checkout.patch({"buyer": {"name": "Late"}}, **{"If-Match": stale})) == (412, "version_mismatch")
        assert code_of(checkout.cancel(**{"If-Match": stale})) == (412, "version_mismatch")
    assert checkout.read()["buyer"]["name"] == "New Name"
    cart = shop.post("/v1/carts", lines((sku, 1)))
    token = {"Cart-Token": cart.json()["token"], "If-Match": '"0"'}
    late = shop.post(f"/v1/carts/{cart.json()['id']}/items", {"sku": sku, "quantity": 1}, token)
    assert code_of(late) == (412, "version_mismatch")
