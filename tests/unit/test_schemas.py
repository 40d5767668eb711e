"""Request bodies: what passes is bounded and exact; what does not is named with a remedy."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given as for_all
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from api.errors import STATUS_OF_CODE, from_validation
from api.schemas import carts, checkouts, common, operations, orders, stock, tables
from api.schemas.common import AddressFields, given, merge_patch
from api.schemas.problems import describe, problems
from domain.catalog import Product
from domain.shipping import ShippingOption, ShippingTable, Zone
from domain.tax import TaxRate, TaxTable

LINE = {"sku": "A", "quantity": 1}
OPTION = {"id": "std", "label": "Standard", "amount": {"USD": 500}, "min_days": 3, "max_days": 5}
PRODUCT = {"title": "Roses", "prices": {"USD": 1999}}
CARD = {"method": "card", "token": "pm_card_visa"}


def finding(model: type[BaseModel], body: Any) -> tuple[str, str, str]:
    """The answer's code, and path and code of its first error; fails if the body passes."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    problem = from_validation(errors)
    return problem.code, problem.errors[0]["path"], problem.errors[0]["code"]


@pytest.mark.parametrize(
    "payment",
    [
        {"method": "gift_card", "code": "SPRING"},
        {"method": "bitcoin", "address": "bc1", "amount": 0},
        {"method": None},
        {"token": ""},
        {},
    ],
)
def test_a_payment_of_no_known_method_is_found_fault_with_once(payment: dict[str, Any]) -> None:
    """What else it has to hold nobody can know; other payments are looked at all the same."""
    wrong = {"method": "card", "token": "", "code": "X"}
    with pytest.raises(ValidationError) as caught:
        checkouts.CompleteCheckout.model_validate({"payments": [payment, wrong]})
    paths = [error["loc"] for error in caught.value.errors()]
    assert paths == [("payments", 0, "method"), ("payments", 1, "token"), ("payments", 1, "code")]


ACCEPTED = [
    (carts.CreateCart, {}),
    (carts.CreateCart, {"currency": "KWD", "line_items": []}),
    (carts.ChangeItem, {"quantity": 0}),
    (carts.ChangeItem, {"quantity": 999}),
    (common.LineItem, {"sku": "Röschen 12", "quantity": 999}),
    (checkouts.StartCheckout, {"cart_id": "cart_1", "on_shortage": "accept_available"}),
    (checkouts.StartCheckout, {"line_items": [LINE], "currency": "EUR"}),
    (checkouts.CheckoutFields, {}),
    (checkouts.CheckoutFields, {"buyer": None, "shipping_address": {"line2": None}}),
    (
        checkouts.CheckoutFields,
        {"buyer": {"email": "zoë@bücher.example", "name": "Zoë 王", "phone": "+49 (30) 1-2"}},
    ),
    (checkouts.CompleteCheckout, {"payments": []}),
    (checkouts.CompleteCheckout, {"payments": [CARD, {**CARD, "amount": 1}], "expected_total": 0}),
    (checkouts.ExpressCheckout, {"line_items": [LINE], "payments": [CARD]}),
    (orders.LookUpOrder, {"number": "7K2M-Q9TV-BDFH", "email": "ada@example.com"}),
    (orders.CancelOrder, {}),
    (orders.ShipOrder, {"carrier": "DHL", "tracking_number": "JD01 46"}),
    (orders.ReviewOrder, {"decision": "deny", "reason": "stolen card"}),
    (stock.PutProduct, {**PRODUCT, "weight_g": 0, "category": None, "purchase_limit": 1}),
    (stock.AdjustStock, {"delta": -5, "reason": "broken"}),
    (stock.AdjustStock, {"set": 0, "reason": "recount"}),
    (tables.PutShipping, {"zones": []}),
    (tables.PutShipping, {"zones": [{"countries": ["*", "us"], "options": [OPTION]}]}),
    (tables.PutTax, {"rates": [{"country": "DE", "rate": "0.19", "included": True}]}),
    (operations.SetSandbox, {"mode": "down"}),
    (operations.SetSandbox, {"latency_ms": "1000-3000"}),
    (operations.SetSandbox, {"latency_ms": 0}),
    (operations.ResolvePayment, {"outcome": "fail"}),
]


@pytest.mark.parametrize(("model", "body"), ACCEPTED)
def test_a_good_body_passes_and_keeps_what_was_sent(model: type[BaseModel], body: dict[str, Any]) -> None:
    """What was sent can be told from defaults."""
    assert given(model.model_validate(body)).keys() == body.keys()


def payments(*payments: dict[str, Any]) -> dict[str, Any]:
    return {"payments": list(payments)}


def zone(**changes: Any) -> dict[str, Any]:
    return {"zones": [{"countries": ["US"], "options": [{**OPTION, **changes}]}]}


def rate(**changes: Any) -> dict[str, Any]:
    return {"rates": [{"country": "DE", "rate": "0.19", "included": True, **changes}]}


def buyer(**fields: Any) -> dict[str, Any]:
    return {"buyer": fields}


def address(**fields: Any) -> dict[str, Any]:
    return {"shipping_address": fields}


FIELDS, START, PAY = checkouts.CheckoutFields, checkouts.StartCheckout, checkouts.CompleteCheckout
PRODUCTS, ADJUST = stock.PutProduct, stock.AdjustStock
INVALID = "validation_failed"

REFUSED = [
    (carts.CreateCart, {"coupons": ["SAVE10"]}, (INVALID, "$.coupons", "unknown_field")),
    (carts.CreateCart, {"currency": "usd"}, (INVALID, "$.currency", "invalid")),
    (carts.CreateCart, {"currency": "XXX"}, (INVALID, "$.currency", "invalid")),
    (carts.CreateCart, {"currency": 1}, (INVALID, "$.currency", "invalid_type")),
    (carts.CreateCart, {"line_items": None}, (INVALID, "$.line_items", "invalid_type")),
    (
        carts.CreateCart,
        {"line_items": [{**LINE, "quantity": 500}] * 2},
        ("quantity_out_of_range", "$.line_items", "quantity_out_of_range"),
    ),
    (carts.ChangeItem, {"quantity": -1}, ("quantity_out_of_range", "$.quantity", "quantity_out_of_range")),
    (carts.ChangeItem, {}, (INVALID, "$.quantity", "missing")),
    (common.LineItem, {**LINE, "sku": "a" * 65}, (INVALID, "$.sku", "invalid")),
    (common.LineItem, {**LINE, "sku": "a\tb"}, (INVALID, "$.sku", "invalid")),
    (common.LineItem, {**LINE, "sku": 7}, (INVALID, "$.sku", "invalid_type")),
    (common.LineItem, {**LINE, "price": 1}, (INVALID, "$.price", "unknown_field")),
    (START, {}, (INVALID, "$", "invalid")),
    (START, {"cart_id": "cart_1", "line_items": [LINE]}, (INVALID, "$", "invalid")),
    (START, {"cart_id": "cart_1", "currency": "USD"}, (INVALID, "$", "invalid")),
    (START, {"line_items": []}, (INVALID, "$.line_items", "too_short")),
    (START, {"cart_id": "a b"}, (INVALID, "$.cart_id", "invalid")),
    (START, {"cart_id": "c", "on_shortage": "wait"}, (INVALID, "$.on_shortage", "invalid_choice")),
    (FIELDS, {"line_items": None}, (INVALID, "$.line_items", "invalid_type")),
    (FIELDS, {"cart_id": "cart_1"}, (INVALID, "$.cart_id", "unknown_field")),
    (FIELDS, {"selected_shipping_option": ""}, (INVALID, "$.selected_shipping_option", "too_short")),
    (FIELDS, {"buyer": "Ada"}, (INVALID, "$.buyer", "invalid_type")),
    (FIELDS, buyer(name="a\nb"), (INVALID, "$.buyer.name", "invalid")),
    (FIELDS, buyer(name="a\u2028b"), (INVALID, "$.buyer.name", "invalid")),
    (FIELDS, buyer(name="a" * 201), (INVALID, "$.buyer.name", "too_long")),
    (FIELDS, buyer(phone="call me"), (INVALID, "$.buyer.phone", "invalid")),
    (FIELDS, buyer(customer="c"), (INVALID, "$.buyer.customer", "unknown_field")),
    (FIELDS, address(country="ZZ"), (INVALID, "$.shipping_address.country", "invalid")),
    (FIELDS, address(country="USA"), (INVALID, "$.shipping_address.country", "invalid")),
    (FIELDS, address(country=""), (INVALID, "$.shipping_address.country", "invalid")),
    (FIELDS, address(postal_code="1" * 21), (INVALID, "$.shipping_address.postal_code", "too_long")),
    (FIELDS, address(postal_code=62701), (INVALID, "$.shipping_address.postal_code", "invalid_type")),
    (PAY, {}, (INVALID, "$.payments", "missing")),
    (PAY, payments(CARD, CARD), ("payment_amount_mismatch", "$.payments", "payment_amount_mismatch")),
    (PAY, payments({**CARD, "method": "cash"}), (INVALID, "$.payments[0].method", "invalid_choice")),
    (PAY, payments({"method": "card"}), (INVALID, "$.payments[0].token", "missing")),
    (PAY, payments({**CARD, "token": "a b"}), (INVALID, "$.payments[0].token", "invalid")),
    (PAY, payments({**CARD, "amount": 0}), (INVALID, "$.payments[0].amount", "out_of_range")),
    (PAY, payments({**CARD, "amount": 10**12 + 1}), (INVALID, "$.payments[0].amount", "out_of_range")),
    (PAY, payments(*[{**CARD, "amount": 1}] * 11), (INVALID, "$.payments", "too_long")),
    (PAY, {**payments(CARD), "expected_total": "100"}, (INVALID, "$.expected_total", "invalid_type")),
    (orders.LookUpOrder, {"number": "x"}, (INVALID, "$.email", "missing")),
    (orders.ShipOrder, {"carrier": " ", "tracking_number": "1"}, (INVALID, "$.carrier", "too_short")),
    (orders.ReviewOrder, {"decision": "maybe", "reason": "x"}, (INVALID, "$.decision", "invalid_choice")),
    (PRODUCTS, {**PRODUCT, "title": ""}, (INVALID, "$.title", "too_short")),
    (PRODUCTS, {**PRODUCT, "prices": {}}, (INVALID, "$.prices", "too_short")),
    (PRODUCTS, {**PRODUCT, "prices": {"usd": 1}}, (INVALID, "$.prices.usd", "invalid")),
    (PRODUCTS, {**PRODUCT, "prices": {"USD": -1}}, (INVALID, "$.prices.USD", "out_of_range")),
    (PRODUCTS, {**PRODUCT, "prices": {"USD": 19.99}}, (INVALID, "$.prices.USD", "invalid_type")),
    (PRODUCTS, {**PRODUCT, "weight_g": -1}, (INVALID, "$.weight_g", "out_of_range")),
    (PRODUCTS, {**PRODUCT, "purchase_limit": 0}, (INVALID, "$.purchase_limit", "out_of_range")),
    (PRODUCTS, {**PRODUCT, "price": 1}, (INVALID, "$.price", "unknown_field")),
    (ADJUST, {"delta": 1, "set": 1, "reason": "x"}, (INVALID, "$", "invalid")),
    (ADJUST, {"reason": "x"}, (INVALID, "$", "invalid")),
    (ADJUST, {"delta": 1}, (INVALID, "$.reason", "missing")),
    (ADJUST, {"delta": 1, "reason": ""}, (INVALID, "$.reason", "too_short")),
    (ADJUST, {"delta": 2**63, "reason": "x"}, (INVALID, "$.delta", "out_of_range")),
    (ADJUST, {"set": -1, "reason": "x"}, (INVALID, "$.set", "out_of_range")),
    (ADJUST, {"set_to": 1, "reason": "x"}, (INVALID, "$.set_to", "unknown_field")),
    (tables.PutShipping, zone(min_days=6), (INVALID, "$.zones[0].options[0]", "invalid")),
    (tables.PutShipping, zone(id="a b"), (INVALID, "$.zones[0].options[0].id", "invalid")),
    (
        tables.PutShipping,
        {"zones": [{"countries": ["US"], "options": [OPTION, OPTION]}]},
        (INVALID, "$.zones[0].options", "invalid"),
    ),
    (
        tables.PutShipping,
        {"zones": [{"countries": ["US", "**"], "options": [OPTION]}]},
        (INVALID, "$.zones[0].countries[1]", "invalid"),
    ),
    (tables.PutTax, rate(rate="19"), (INVALID, "$.rates[0].rate", "invalid")),
    (tables.PutTax, rate(rate=0.19), (INVALID, "$.rates[0].rate", "invalid_type")),
    (tables.PutTax, rate(included=1), (INVALID, "$.rates[0].included", "invalid_type")),
    (operations.SetSandbox, {"latency_ms": "3000-1000"}, (INVALID, "$.latency_ms", "invalid")),
    (operations.SetSandbox, {"latency_ms": "9999999"}, (INVALID, "$.latency_ms", "invalid")),
    (operations.SetSandbox, {"latency_ms": -1}, (INVALID, "$.latency_ms", "invalid")),
    (operations.SetSandbox, {"latency_ms": True}, (INVALID, "$.latency_ms", "invalid")),
    (operations.SetSandbox, {"mode": "sideways"}, (INVALID, "$.mode", "invalid_choice")),
]


@pytest.mark.parametrize(("model", "body", "expected"), REFUSED)
def test_a_bad_body_is_refused_by_name(model: type[BaseModel], body: Any, expected: tuple[str, str, str]) -> None:
    """The answer's code, the field's path, and the field's code."""
    assert finding(model, body) == expected


@pytest.mark.parametrize(
    "email",
    [
        "ada@example.com",
        "a@b.example",
        "first.last+tag@mail.example.co.uk",
        "o'brien@example.com",
        "用户@例子.中国",
        " ada@example.com ",
    ],
)
def test_email_addresses_pass(email: str) -> None:
    """Tags, quotes in names, and other scripts."""
    body = common.BuyerFields.model_validate({"email": email})
    assert body.email == email.strip()


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "ada@",
        "@example.com",
        "ada@localhost",
        "ada@example",
        "ada@-example.com",
        "ada@example-.com",
        "ada@example..com",
        ".ada@example.com",
        "ada.@example.com",
        "a..da@example.com",
        "a da@example.com",
        "ada@exa mple.com",
        "ada@example.com, eve@example.com",
        "Ada <ada@example.com>",
        "ada@eve@example.com",
        "ada@example.com\n",
        "a" * 65 + "@example.com",
        "a@" + "b." * 130 + "com",
    ],
)
def test_what_is_no_email_address_is_refused(email: str) -> None:
    """Above all several addresses, header injection, and a forgotten domain."""
    path, code = finding(common.BuyerFields, {"email": email})[1:]
    assert path == "$.email"
    assert code in ("invalid", "too_long")


def test_repeated_skus_merge_where_the_first_one_stands() -> None:
    """Before the limits on lines and quantities are checked."""
    lines = [("B", 1), ("A", 2), ("B", 3)]
    body = carts.CreateCart.model_validate({"line_items": [{"sku": s, "quantity": q} for s, q in lines]})
    assert [(line.sku, line.quantity) for line in body.line_items] == [("B", 4), ("A", 2)]


def test_text_is_brought_to_composed_form_and_trimmed() -> None:
    """Two spellings of one name are one name; nothing else is changed."""
    assert AddressFields.model_validate({"name": "  Zoe\u0308 王\u200dx "}).name == "Zoë 王\u200dx"


def test_bodies_become_what_the_engine_takes() -> None:
    """Products and tables, the region of a tax rate spelled as in addresses."""
    product = stock.PutProduct.model_validate({**PRODUCT, "weight_g": 600, "category": "flowers"})
    assert product.to_product() == Product("Roses", {"USD": 1999}, 600, "standard", "flowers", None)
    shipping = tables.PutShipping.model_validate(zone(free_above={"USD": 1}))
    option = ShippingOption("std", "Standard", {"USD": 500}, 3, 5, {"USD": 1})
    assert shipping.to_table() == ShippingTable((Zone(("US",), (option,)),))
    tax = tables.PutTax.model_validate(rate(country="us", region="Illinois", included=False, shipping=True))
    assert tax.to_table() == TaxTable((TaxRate("US", "0.19", False, "IL", None, None, True),))


MERGES = [  # RFC 7396, appendix A, the cases between objects
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    (None, {"a": 1}, {"a": 1}),
]


@pytest.mark.parametrize(("target", "patch", "merged"), MERGES)
def test_patches_merge_as_rfc_7396_has_it(target: Any, patch: Any, merged: Any) -> None:
    """Null removes, objects merge, all else replaces; the target is left alone."""
    before = repr(target)
    assert merge_patch(target, patch) == merged
    assert repr(target) == before


json_objects = st.recursive(
    st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda values: st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))


@for_all(target=json_objects, patch=json_objects)
def test_a_patch_applied_twice_changes_nothing_more(target: Any, patch: Any) -> None:
    """So a client may send it again."""
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


def test_a_patch_tells_null_from_absent() -> None:
    """Only what was sent is in it, nulls included, at every depth."""
    body = checkouts.CheckoutFields.model_validate({"buyer": {"phone": None}, "billing_address": None})
    assert given(body) == {"buyer": {"phone": None}, "billing_address": None}


@for_all(value=st.integers() | st.floats() | st.booleans() | st.text() | st.none())
def test_amounts_are_exact_integers_or_refused(value: Any) -> None:
    """Never a float, a string or a boolean that happens to look like one."""
    try:
        amount = TypeAdapter(common.Prices).validate_python({"USD": value}, strict=True)["USD"]
    except ValidationError:
        assert type(value) is not int or not 0 <= value <= 10**12
    else:
        assert type(value) is int
        assert amount == value


def test_the_description_of_problems_agrees_with_the_table_of_codes() -> None:
    """Each response names its codes; the framework's own error shape is gone."""
    app = FastAPI()

    @app.post("/v1/carts", responses=problems("item_unavailable", "idempotency_key_invalid", body=True))
    async def create(body: carts.CreateCart) -> None: ...

    document = describe(app.openapi())
    responses = document["paths"]["/v1/carts"]["post"]["responses"]
    assert {"400", "413", "415", "422", "500", "503"} <= responses.keys()
    for status in responses.keys() - {"200"}:
        for code, example in responses[status]["content"]["application/problem+json"]["examples"].items():
            assert STATUS_OF_CODE[code][0] == int(status) == example["value"]["status"]
    assert {"Problem", "ProblemError"} <= document["components"]["schemas"].keys()
    assert "HTTPValidationError" not in document["components"]["schemas"]
