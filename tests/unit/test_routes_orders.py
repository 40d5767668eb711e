"""Orders over HTTP, from both sides of the counter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.settings import ApiSettings
from domain.checkout_model import Policy
from tests.support.shop import Answer, Shop, cart_token, open_shop


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(ApiSettings(rate_limits_on=True), Policy(review_above_minor=50_000)) as shop:
        await shop.stock_up("A", 50)
        await shop.stock_up("GOLD", 5, {"USD": 90_000})
        yield shop


async def order(shop: Shop, sku: str = "A", headers: dict[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """A placed order: its path and what opens it."""
    bought = await shop.buy(sku, headers=headers)
    assert bought.status_code == 200, bought.text
    return f"/v1/orders/{bought.json()['order']['id']}", headers or cart_token(bought)


def outcome(answer: Answer) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def test_an_order_is_read_by_its_buyer_and_by_operators(shop: Shop) -> None:
    """For everybody else it does not exist."""
    path, token = await order(shop)
    _, other = await order(shop)
    mine = await shop.get(path, token)
    assert (mine.json()["status"], mine.json()["payment_status"]) == ("confirmed", "paid")
    assert (await shop.get(path, shop.operator())).json() == mine.json()
    for headers in ({}, other, shop.customer()):
        assert outcome(await shop.get(path, headers)) == (404, "not_found")
        assert outcome(await shop.get(f"{path}/events", headers)) == (404, "not_found")
    assert (await shop.get("/v1/orders/ord_nope", token)).status_code == 404
    assert (await shop.get(path, {"Authorization": "Bearer nonsense"})).status_code == 401


async def test_lists_are_paged_newest_first(shop: Shop) -> None:
    """`next_cursor` leads through all of them once; a customer sees their own only."""
    placed = []
    for i in range(5):
        shop.engine.clock.now_ms += 1
        path, _ = await order(shop, headers=shop.customer("ada" if i % 2 else "bob"))
        placed.append(path.rpartition("/")[2])
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await shop.get(f"/v1/ops/orders?limit=2{cursor}", shop.operator())).json()
        seen += [entry["id"] for entry in page["data"]]
        cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else None
    assert seen == placed[::-1]
    mine = (await shop.get("/v1/me/orders", shop.customer("ada"))).json()
    assert ([entry["id"] for entry in mine["data"]], mine["next_cursor"]) == ([placed[3], placed[1]], None)
    for path in ("/v1/ops/orders?limit=0", "/v1/ops/orders?limit=101", "/v1/ops/orders?cursor=x"):
        assert outcome(await shop.get(path, shop.operator())) == (422, "validation_failed")


async def test_operators_filter_by_status(shop: Shop) -> None:
    await order(shop)
    path, _ = await order(shop, "GOLD")
    pending = (await shop.get("/v1/ops/orders?status=pending", shop.operator())).json()["data"]
    assert [f"/v1/orders/{entry['id']}" for entry in pending] == [path]
    assert (await shop.get("/v1/ops/orders?status=lost", shop.operator())).status_code == 422


async def test_a_guest_finds_an_order_by_number_and_address(shop: Shop) -> None:
    """In any spelling of either; whichever is wrong, the answer is the same."""
    path, token = await order(shop)
    number = (await shop.get(path, token)).json()["number"]
    compact = number.replace("-", "").lower()
    for typed in (number.lower(), f" {number}\t", compact, f"{compact[:4]} {compact[4:8]} - {compact[8:]}"):
        found = await shop.post("/v1/orders/lookup", {"number": typed, "email": "ADA@example.com"})
        assert found.json()["number"] == number
    wrong = [
        await shop.post("/v1/orders/lookup", body, {"X-Request-Id": "same"})
        for body in (
            {"number": number, "email": "eve@example.com"},
            {"number": "0000-0000-0000", "email": "ada@example.com"},
        )
    ]
    assert wrong[0].content == wrong[1].content
    assert outcome(wrong[0]) == (404, "not_found")


async def test_guesses_are_limited(shop: Shop) -> None:
    """The sixth guess at one number within a minute is refused, with the time to wait."""
    body = {"number": "0000-0000-0000", "email": "eve@example.com"}
    answers = [await shop.post("/v1/orders/lookup", body) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [404] * 5 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    respelled = await shop.post("/v1/orders/lookup", body | {"number": "0000 00000000"})
    assert respelled.status_code == 429


@pytest.mark.parametrize(("number", "status"), [("", 422), (" \t", 422), ("É" * 12, 422), ("-", 404), ("0" * 11, 404)])
async def test_what_cannot_be_an_order_number_finds_nothing(shop: Shop, number: str, status: int) -> None:
    """Text that nobody could read out is refused; the rest is just not there."""
    answer = await shop.post("/v1/orders/lookup", {"number": number, "email": "ada@example.com"})
    assert answer.status_code == status


async def test_canceling_restocks_and_refunds(shop: Shop) -> None:
    """Once, however often it is asked; another key gets the canceled order too."""
    path, token = await order(shop)
    headers = token | shop.key()
    canceled = await shop.post(f"{path}/cancel", {"reason": "changed my mind"}, headers)
    assert (canceled.json()["status"], canceled.json()["payment_status"]) == ("canceled", "refunded")
    again = await shop.post(f"{path}/cancel", {"reason": "changed my mind"}, headers)
    assert again.content == canceled.content
    assert (await shop.post(f"{path}/cancel", None, token)).json()["status"] == "canceled"
    await shop.engine.settled()
    assert await shop.figures("A") == {"on_hand": 50, "reserved": 0, "available": 50, "sold": 0}
    assert len(await shop.ledger("refund")) == 1
    naked = await shop.client.post(f"{path}/cancel", headers=token)
    assert outcome(naked) == (400, "idempotency_key_required")


async def test_a_cancel_that_takes_long_is_told_as_under_way(shop: Shop) -> None:
    """202 with the canceled order while the gateway is away; the same key gets the refund once it is back."""
    path, token = await order(shop)
    await shop.put("/v1/ops/sandbox", {"mode": "down"})
    headers = token | shop.key()
    pending = await shop.post(f"{path}/cancel", None, headers | {"Prefer": "wait=0"})
    assert (pending.status_code, pending.json()["status"]) == (202, "canceled")
    await shop.engine.settled()
    await shop.put("/v1/ops/sandbox", {"mode": "up"})
    shop.engine.resume()
    await shop.engine.settled()
    done = await shop.post(f"{path}/cancel", None, headers)
    assert (done.status_code, done.json()["payment_status"]) == (200, "refunded")


async def test_an_order_is_shipped_and_delivered(shop: Shop) -> None:
    """After that it can neither be canceled nor redirected; each step is in the trail with its operator."""
    path, token = await order(shop)
    ops = path.replace("/v1/", "/v1/ops/")
    early = await shop.post(f"{ops}/deliver", None, shop.operator())
    assert outcome(early) == (409, "invalid_order_status")
    parcel = {"carrier": "DHL", "tracking_number": "JD014600006281230701"}
    assert (await shop.post(f"{ops}/ship", parcel, shop.customer())).status_code == 403
    shipped = await shop.post(f"{ops}/ship", parcel, shop.operator())
    assert (shipped.json()["status"], shipped.json()["tracking"]) == ("shipped", parcel)
    assert outcome(await shop.post(f"{path}/cancel", None, token)) == (409, "already_shipped")
    redirected = await shop.patch(f"{path}/shipping-address", {"line1": "2 Side St"}, token)
    assert outcome(redirected) == (409, "already_shipped")
    delivered = await shop.post(f"{ops}/deliver", None, shop.operator())
    assert delivered.json()["status"] == "delivered"
    trail = (await shop.get(f"{path}/events", token)).json()["data"]
    assert [entry["type"] for entry in trail] == ["confirmed", "payment_captured", "shipped", "delivered"]
    assert trail[2]["detail"] == parcel
    whole = (await shop.get(f"{path}/events", shop.operator())).json()["data"]
    assert whole[2]["actor"].startswith("operator:")
    first = (await shop.get(f"{path}/events?limit=3", token)).json()
    rest = (await shop.get(f"{path}/events?cursor={first['next_cursor']}", token)).json()
    assert (first["data"] + rest["data"], rest["next_cursor"]) == (trail, None)


async def test_a_parcel_is_redirected_within_its_country_and_price(shop: Shop) -> None:
    """The confirmed address stays; the new one is an amendment."""
    path, token = await order(shop)
    confirmed = (await shop.get(path, token)).json()["shipping_address"]
    moved = await shop.patch(f"{path}/shipping-address", {"line1": "2 Side St"}, token)
    assert moved.json()["shipping_address"] == confirmed
    assert moved.json()["ship_to"] == confirmed | {"line1": "2 Side St"}
    assert moved.json()["amendments"][0]["shipping_address"] == moved.json()["ship_to"]
    assert (await shop.get(path, token)).json() == moved.json()
    same = await shop.patch(f"{path}/shipping-address", {"line1": "2 Side St"}, token)
    assert same.json() == moved.json()
    broken = await shop.patch(f"{path}/shipping-address", {"postal_code": None}, token)
    assert (outcome(broken), broken.json()["errors"][0]["path"]) == (
        (422, "validation_failed"),
        "$.postal_code",
    )
    abroad = {"country": "DE", "postal_code": "10117", "city": "Berlin", "region": None}
    assert outcome(await shop.patch(f"{path}/shipping-address", abroad, token)) == (422, "country_changed")


async def test_a_buyer_is_not_told_who_of_the_shop_canceled_nor_why(shop: Shop) -> None:
    """A reason may be a suspicion. Their own words they may read; operators read both."""
    for credentials, buyer_sees in ((shop.operator(), ("operator", {})), (None, ("buyer", {"reason": "stolen card"}))):
        path, token = await order(shop)
        await shop.post(f"{path}/cancel", {"reason": "stolen card"}, credentials or token)
        await shop.engine.settled()
        told = {}
        for name, headers in (("buyer", token), ("operator", shop.operator())):
            trail = (await shop.get(f"{path}/events", headers)).json()["data"]
            told[name] = next(entry for entry in trail if entry["type"] == "canceled")
        assert (told["buyer"]["actor"], told["buyer"]["detail"]) == buyer_sees
        assert told["operator"]["detail"] == {"reason": "stolen card"}


@pytest.mark.parametrize(
    ("decision", "expected"), [("approve", ("confirmed", "paid")), ("deny", ("canceled", "voided"))]
)
async def test_a_large_order_waits_for_an_operator(shop: Shop, decision: str, expected: tuple[str, str]) -> None:
    """Until then it is pending and only authorized."""
    path, token = await order(shop, "GOLD")
    placed = (await shop.get(path, token)).json()
    assert (placed["status"], placed["payment_status"]) == ("pending", "authorized")
    review = path.replace("/v1/", "/v1/ops/") + "/review"
    body: dict[str, Any] = {"decision": decision, "reason": "called Ada"}
    assert (await shop.post(review, body, shop.operator())).status_code == 200
    await shop.engine.settled()
    reviewed = (await shop.get(path, token)).json()
    assert (reviewed["status"], reviewed["payment_status"]) == expected
    trail = (await shop.get(f"{path}/events", shop.operator())).json()["data"]
    assert {"decision": decision, "reason": "called Ada"} in [entry["detail"] for entry in trail]
    [index] = [i for i, entry in enumerate(trail) if entry["actor"].startswith("operator:")]
    shown = (await shop.get(f"{path}/events", token)).json()["data"]
    assert shown[index] == trail[index] | {"actor": "operator", "detail": {}}
    assert [*shown[:index], *shown[index + 1 :]] == [*trail[:index], *trail[index + 1 :]]
    assert outcome(await shop.post(review, body, shop.operator()))[1] == "invalid_order_status"
