"""Every POST that takes a key: its first final answer stands, whatever has become of the world since."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from domain.cart_model import CartPolicy
from domain.checkout_model import Policy
from domain.messages import MOST_KEYED_ANSWERS
from tests.support.shop import CARD, DETAILS, Answer, Shop, cart_token, open_shop
from tests.unit.keyed_requests import DECLINED, IDLE_MS, REQUESTS, Request, cart_of, checkout_of, line, lines


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(policy=Policy(review_above_minor=50_000), carts=CartPolicy(idle_ms=IDLE_MS)) as shop:
        await shop.stock_up("A", 5)
        await shop.stock_up("GOLD", 5, {"USD": 90_000})
        yield shop


def content(answer: Answer) -> tuple[int, dict[str, Any]]:
    """The answer, but for what names the request."""
    return answer.status_code, answer.json() | {"request_id": ""}


@pytest.mark.parametrize(
    "prepare", [prepare for group in REQUESTS.values() for prepare in group], ids=lambda prepare: prepare.__name__
)
async def test_the_first_final_answer_stands(shop: Shop, prepare: Callable[[Shop], Awaitable[Request]]) -> None:
    """The same key and body: the same bytes, marked; another body: refused. Nothing is done a second time."""
    path, body, other_body, credentials, expected, change = await prepare(shop)
    headers = credentials | shop.key()
    first = await shop.post(path, body, headers)
    assert (first.status_code, first.json().get("code", "")) == expected, first.text
    assert "idempotent-replayed" not in first.headers
    await shop.engine.settled()
    if change is not None:
        await change()
        await shop.engine.settled()
    figures = [await shop.figures(sku) for sku in ("A", "GOLD")]
    again = await shop.post(path, body, headers)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    if other_body is not None:
        other = await shop.post(path, other_body, headers)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    await shop.engine.settled()
    assert [await shop.figures(sku) for sku in ("A", "GOLD")] == figures
    if change is not None:
        assert content(await shop.post(path, body, credentials)) != content(first), "nothing had changed"


async def test_the_table_has_every_operation_that_takes_a_key(shop: Shop) -> None:
    """The look-up reads, and the sandbox's buyer is no buyer: nothing there is done twice."""
    paths = (await shop.get("/openapi.json")).json()["paths"]
    posts = {path: item["post"].get("parameters", ()) for path, item in paths.items() if "post" in item}
    keyed = {path for path, takes in posts.items() if "Idempotency-Key" in [entry["name"] for entry in takes]}
    assert keyed == REQUESTS.keys()
    assert posts.keys() - keyed == {"/v1/orders/lookup", "/v1/ops/sandbox/payments/{payment_id}/resolve"}


async def test_one_key_on_two_resources_is_two_requests(shop: Shop) -> None:
    """The path with its ids is part of the operation."""
    key = shop.key()
    customer = shop.customer()
    paths = [(await checkout_of(shop, customer, **DETAILS))[0] for _ in range(2)]
    done = [await shop.post(f"{path}/complete", {"payments": CARD}, customer | key) for path in paths]
    assert [answer.status_code for answer in done] == [200, 200]
    assert len({answer.json()["order"]["id"] for answer in done}) == 2


async def test_one_key_on_two_lines_of_a_cart_is_two_requests(shop: Shop) -> None:
    """Though one owner keeps both answers, and the bodies are the same."""
    made = await shop.post("/v1/carts", {"line_items": [line("A"), line("GOLD")]})
    headers, path = cart_token(made) | shop.key(), f"/v1/carts/{made.json()['id']}"
    for entry in made.json()["line_items"]:
        assert (await shop.patch(f"{path}/items/{entry['id']}", {"quantity": 3}, headers)).status_code == 200
    assert [entry["quantity"] for entry in (await shop.get(path, headers)).json()["line_items"]] == [3, 3]


async def test_no_body_and_an_empty_one_are_the_same_request(shop: Shop) -> None:
    """Where no field is needed the body may be left out, also when asking again."""
    path, token = await checkout_of(shop)
    headers = token | shop.key()
    first = await shop.post(f"{path}/cancel", None, headers)
    assert (await shop.post(f"{path}/cancel", {}, headers)).content == first.content


async def test_a_refused_cart_is_no_cart(shop: Shop) -> None:
    """It is kept for its answer's sake: the customer's cart stays the one before, and a new key makes another."""
    customer = shop.customer()
    cart = await shop.post("/v1/carts", lines("A"), customer)
    refused = await shop.post("/v1/carts", lines("NEW"), customer)
    assert refused.status_code == 422
    assert (await shop.get("/v1/me/cart", customer)).json()["id"] == cart.json()["id"]


# ── a guest who has just become one ─────────────────────────────────────────────────────────────────────

KEY = "a key of at least sixteen characters".replace(" ", "-")
BEGINNINGS: list[tuple[str, dict[str, Any], int]] = [
    ("/v1/carts", lines("A"), 201),
    ("/v1/checkouts", lines("A"), 201),
    ("/v1/express-checkouts", lines("A") | DETAILS | {"payments": CARD}, 200),
    ("/v1/express-checkouts", lines("A") | DETAILS | {"payments": DECLINED}, 402),
]


@pytest.mark.parametrize(("path", "body", "status"), BEGINNINGS, ids=["cart", "checkout", "express", "declined"])
async def test_a_beginning_repeated_with_the_token_it_answered_is_the_same_request(
    shop: Shop, path: str, body: dict[str, Any], status: int
) -> None:
    """A client stores the token and sends its request again: it must not buy, hold or pay twice."""
    keyed = {"Idempotency-Key": KEY, "X-Request-Id": "the-same"}
    first = await shop.post(path, body, keyed)
    assert first.status_code == status
    token = {"Cart-Token": first.json()["token"]}
    again = await shop.post(path, body, keyed | token)
    assert (again.status_code, again.content) == (status, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    other = await shop.post(path, body | lines("A", 2), keyed | token)
    assert other.json()["code"] == "idempotency_key_reused"
    anew = await shop.post(path, body, {"Idempotency-Key": KEY + "2"} | token)
    assert (anew.status_code, "token" in anew.json()) == (status, False)


async def test_nobody_collects_answers_without_end(shop: Shop) -> None:
    """Each is written again with every change of its cart; a repeat is answered all the same."""
    path, headers = await cart_of(shop)
    first = await shop.post(f"{path}/items", line("A"), headers | {"Idempotency-Key": "first"})
    for _ in range(MOST_KEYED_ANSWERS):
        last = await shop.post(f"{path}/items", line("A"), headers)
    assert (last.status_code, last.json()["code"]) == (429, "rate_limited")
    again = await shop.post(f"{path}/items", line("A"), headers | {"Idempotency-Key": "first"})
    assert again.content == first.content
