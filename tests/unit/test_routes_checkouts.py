"""Checkouts over HTTP before payment: start, change, read, listen, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from api.sse import checkout_events
from domain.checkout_model import CheckoutView, Policy
from tests.support.shop import ADDRESS, BUYER, CARD, DETAILS, Shop, cart_token, open_shop

SHIPPING = {
    "zones": [
        {
            "countries": ["US"],
            "options": [
                {"id": "fast", "label": "Fast", "amount": {"USD": 900}, "min_days": 1, "max_days": 1},
                {"id": "slow", "label": "Slow", "amount": {"USD": 300}, "min_days": 4, "max_days": 6},
            ],
        }
    ]
}


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(policy=Policy(hold_ttl_ms=60_000)) as shop:
        await shop.stock_up("A", 5)
        await shop.stock_up("B", 5, {"USD": 500})
        yield shop


def of(*pairs: tuple[str, int]) -> dict[str, Any]:
    return {"line_items": [{"sku": sku, "quantity": quantity} for sku, quantity in pairs]}


async def start(shop: Shop, **fields: Any) -> tuple[str, dict[str, str], dict[str, Any]]:
    """A guest's checkout: its path, its credentials, the resource."""
    answer = await shop.post("/v1/checkouts", of(("A", 2)) | fields)
    assert answer.status_code == 201, answer.text
    return f"/v1/checkouts/{answer.json()['id']}", cart_token(answer), answer.json()


async def test_starting_reserves_the_stock_and_freezes_the_prices(shop: Shop) -> None:
    """What is still missing is told in messages; a new price later changes nothing."""
    path, token, checkout = await start(shop)
    assert checkout["status"] == "incomplete"
    assert checkout["reservation"] == {"status": "held", "expires_at": "2027-01-15T08:01:00.000Z"}
    assert {message["path"] for message in checkout["messages"]} == {
        "$.buyer.email",
        "$.buyer.name",
        "$.shipping_address",
    }
    assert await shop.figures("A") == {"on_hand": 5, "reserved": 2, "available": 3, "sold": 0}
    account = (await shop.get("/v1/ops/stock/A", shop.operator())).json()
    assert [(h["checkout_id"], h["quantity"], h["pinned"]) for h in account["holds"]] == [(checkout["id"], 2, False)]
    await shop.put("/v1/ops/products/A", {"title": "A", "prices": {"USD": 1}})
    assert (await shop.get(path, token)).json()["totals"][-1]["amount"] == 3998


async def test_every_short_line_is_named_and_nothing_is_held(shop: Shop) -> None:
    answer = await shop.post("/v1/checkouts", of(("A", 9), ("B", 2), ("NOPE", 1)))
    assert (answer.status_code, answer.json()["code"]) == (422, "item_unavailable")
    answer = await shop.post("/v1/checkouts", of(("A", 9), ("B", 8)))
    assert (answer.status_code, answer.json()["code"]) == (409, "out_of_stock")
    assert [(e["sku"], e["requested"], e["available"]) for e in answer.json()["errors"]] == [
        ("A", 9, 5),
        ("B", 8, 5),
    ]
    assert "token" not in answer.json()
    assert (await shop.figures("A"))["reserved"] == 0


async def test_a_buyer_may_take_what_there_is(shop: Shop) -> None:
    answer = await shop.post("/v1/checkouts", of(("A", 9)) | {"on_shortage": "accept_available"})
    assert answer.status_code == 201
    assert answer.json()["line_items"][0]["quantity"] == 5
    told = answer.json()["messages"][0]
    assert (told["code"], told["path"]) == ("quantity_reduced", "$.line_items[0].quantity")


async def test_one_key_starts_one_checkout(shop: Shop) -> None:
    """The answer is the same byte for byte, token included; without a key there is none."""
    key = shop.key()
    first = await shop.post("/v1/checkouts", of(("A", 2)), key)
    await shop.engine.advance(1_000)
    again = await shop.post("/v1/checkouts", of(("A", 2)), key)
    assert again.content == first.content
    assert (await shop.figures("A"))["reserved"] == 2
    naked = await shop.client.post("/v1/checkouts", json=of(("A", 1)))
    assert (naked.status_code, naked.json()["code"]) == (400, "idempotency_key_required")
    short = await shop.post("/v1/checkouts", of(("A", 1)), {"Idempotency-Key": "short"})
    assert short.json()["code"] == "idempotency_key_invalid"


async def test_a_repeated_refusal_is_the_same_byte_for_byte(shop: Shop) -> None:
    """Its request id included, unless the caller names each request."""
    key = shop.key()
    first = await shop.post("/v1/checkouts", of(("A", 9)), key)
    await shop.stock_up("A", 100)
    again = await shop.post("/v1/checkouts", of(("A", 9)), key)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] == first.json()["request_id"]
    named = await shop.post("/v1/checkouts", of(("A", 9)), key | {"X-Request-Id": "mine"})
    assert named.json()["request_id"] == named.headers["x-request-id"] == "mine"


async def test_a_patch_merges_field_by_field(shop: Shop) -> None:
    """RFC 7396: what is left out stays, null takes back; null for a whole object takes it all back."""
    path, token, _ = await start(shop)
    await shop.patch(path, {"buyer": {"email": "ada@example.com"}}, token)
    changed = await shop.patch(path, {"buyer": {"name": "Ada", "phone": "+1 217 555 0100"}}, token)
    assert changed.json()["buyer"] == {"email": "ada@example.com", "name": "Ada", "phone": "+1 217 555 0100"}
    changed = await shop.patch(path, {"buyer": {"phone": None}, "shipping_address": ADDRESS}, token)
    assert changed.json()["buyer"] == {"email": "ada@example.com", "name": "Ada"}
    assert changed.json()["status"] == "ready_for_complete"
    assert changed.json()["selected_shipping_option"] == "standard"
    changed = await shop.patch(path, {"shipping_address": {"line2": "Flat 2", "region": "illinois"}}, token)
    assert changed.json()["shipping_address"] == ADDRESS | {"line2": "Flat 2", "region": "IL"}
    changed = await shop.patch(path, {"buyer": None}, token)
    assert changed.json()["buyer"] is None
    assert changed.json()["status"] == "incomplete"


@pytest.mark.parametrize(
    "patch",
    [
        {},
        DETAILS,
        {"buyer": {"name": "Ada Lovelace", "phone": None}, "billing_address": None},
        {"shipping_address": {"region": "illinois", "country": "us", "line2": ""}},
        of(("A", 2)),
        {"selected_shipping_option": None},
    ],
    ids=["empty", "the same", "part of it", "respelled", "lines", "no choice"],
)
async def test_a_patch_that_changes_nothing_makes_no_new_version(shop: Shop, patch: dict[str, Any]) -> None:
    """200 with the checkout as it was, to the byte; whoever knows its version can go on with it."""
    path, token, _ = await start(shop, **DETAILS)
    before = await shop.get(path, token)
    same = await shop.patch(path, patch, token)
    assert (same.status_code, same.content) == (200, before.content)
    assert same.headers["etag"] == before.headers["etag"]
    late = await shop.patch(path, patch, token | {"If-Match": '"99"'})
    assert (late.status_code, late.json()["code"]) == (412, "version_mismatch")
    other = await shop.patch(path, patch | {"buyer": {"name": "Bob"}}, token | {"If-Match": before.headers["etag"]})
    assert (other.json()["buyer"]["name"], other.headers["etag"] > before.headers["etag"]) == ("Bob", True)


async def test_an_address_is_judged_by_its_country(shop: Shop) -> None:
    """What it lacks or what does not fit is told, and keeps the checkout incomplete."""
    path, token, _ = await start(shop, buyer=BUYER)
    wrong = ADDRESS | {"postal_code": "ABC"}
    del wrong["city"]
    answer = await shop.patch(path, {"shipping_address": wrong}, token)
    assert answer.json()["status"] == "incomplete"
    assert {(m["path"], m["code"]) for m in answer.json()["messages"]} == {
        ("$.shipping_address.city", "missing"),
        ("$.shipping_address.postal_code", "invalid"),
    }


async def test_the_cheapest_option_is_selected_unless_one_is_chosen(shop: Shop) -> None:
    await shop.put("/v1/ops/shipping", SHIPPING)
    path, token, _ = await start(shop)
    answer = await shop.patch(path, DETAILS, token)
    assert answer.json()["selected_shipping_option"] == "slow"
    answer = await shop.patch(path, {"selected_shipping_option": "fast"}, token)
    assert answer.json()["totals"][1] == {"type": "fulfillment", "amount": 900}
    wrong = await shop.patch(path, {"selected_shipping_option": "teleport"}, token)
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "$.selected_shipping_option")


async def test_changed_lines_change_the_hold_or_nothing(shop: Shop) -> None:
    path, token, _ = await start(shop)
    answer = await shop.patch(path, of(("A", 1), ("B", 3)), token)
    assert [(line["sku"], line["quantity"]) for line in answer.json()["line_items"]] == [("A", 1), ("B", 3)]
    short = await shop.patch(path, of(("A", 1), ("B", 9)), token)
    assert (short.status_code, short.json()["code"]) == (409, "out_of_stock")
    assert short.json()["checkout_id"] == answer.json()["id"]
    assert (await shop.figures("A"))["reserved"] == 1
    assert (await shop.figures("B"))["reserved"] == 3


async def test_a_patch_may_name_the_version_it_means(shop: Shop) -> None:
    path, token, checkout = await start(shop)
    stale = await shop.patch(path, {"buyer": BUYER}, token | {"If-Match": '"99"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "version_mismatch")
    fresh = await shop.patch(path, {"buyer": BUYER}, token | {"If-Match": f'"{checkout["version"]}"'})
    assert fresh.status_code == 200
    assert fresh.headers["etag"] == f'"{fresh.json()["version"]}"'


async def test_two_patches_at_once_both_last(shop: Shop) -> None:
    """One merges with what the other wrote, or is told to ask again; neither is lost without a word."""
    path, token, _ = await start(shop)
    answers = await asyncio.gather(
        shop.patch(path, {"buyer": {"email": "ada@example.com"}}, token),
        shop.patch(path, {"buyer": {"name": "Ada"}}, token),
    )
    done = [answer for answer in answers if answer.status_code == 200]
    assert {answer.json().get("code") for answer in answers if answer not in done} <= {"request_in_progress"}
    buyer = (await shop.get(path, token)).json()["buyer"]
    expected = {answer.request.content for answer in done}
    assert len(buyer) == len(expected) >= 1


async def test_a_cart_becomes_a_checkout_of_the_same_guest(shop: Shop) -> None:
    """The cart's token opens it; a second start replaces the first; another's cart does not exist."""
    cart = await shop.post("/v1/carts", of(("A", 1)))
    token, body = cart_token(cart), {"cart_id": cart.json()["id"]}
    assert (await shop.post("/v1/checkouts", body)).status_code == 404
    assert (await shop.post("/v1/checkouts", body, shop.customer())).status_code == 404
    first = await shop.post("/v1/checkouts", body, token)
    assert first.status_code == 201
    assert "token" not in first.json()
    # A customer who has not claimed the cart may still use it, with both credentials.
    second = await shop.post("/v1/checkouts", body, token | shop.customer())
    assert second.status_code == 201
    replaced = (await shop.get(f"/v1/checkouts/{first.json()['id']}", token)).json()
    assert (replaced["status"], replaced["cancel_reason"]) == ("canceled", "replaced")
    assert (await shop.figures("A"))["reserved"] == 1


async def test_an_empty_or_unknown_cart_is_refused(shop: Shop) -> None:
    cart = await shop.post("/v1/carts")
    empty = await shop.post("/v1/checkouts", {"cart_id": cart.json()["id"]}, cart_token(cart))
    assert (empty.status_code, empty.json()["code"]) == (422, "cart_empty")
    for body in ({"cart_id": "cart_x"}, {"cart_id": f"cart_{'0' * 26}"}):
        assert (await shop.post("/v1/checkouts", body, cart_token(cart))).status_code == 404
    both = await shop.post("/v1/checkouts", {"cart_id": cart.json()["id"]} | of(("A", 1)), cart_token(cart))
    assert both.status_code == 422


async def test_a_checkout_expires_and_gives_its_stock_back(shop: Shop) -> None:
    path, token, _ = await start(shop)
    await shop.engine.advance(60_000)
    checkout = (await shop.get(path, token)).json()
    assert (checkout["status"], checkout["cancel_reason"]) == ("canceled", "expired")
    assert checkout["reservation"] == {"status": "expired", "expires_at": None}
    late = await shop.patch(path, {"buyer": BUYER}, token)
    assert (late.status_code, late.json()["code"]) == (409, "reservation_expired")
    assert (await shop.figures("A"))["reserved"] == 0


async def test_canceling_releases_the_stock(shop: Shop) -> None:
    """Asked again it answers the same; a completed checkout refuses."""
    path, token, _ = await start(shop)
    canceled = await shop.post(f"{path}/cancel", None, token)
    assert (canceled.status_code, canceled.json()["cancel_reason"]) == (200, "buyer")
    assert (await shop.post(f"{path}/cancel", {}, token)).json()["status"] == "canceled"
    assert (await shop.figures("A"))["reserved"] == 0
    bought = await shop.buy("A")
    path = f"/v1/checkouts/{bought.json()['checkout']['id']}/cancel"
    late = await shop.post(path, None, cart_token(bought))
    assert (late.status_code, late.json()["code"]) == (409, "checkout_completed")


async def test_canceling_while_paying_is_done_once_the_outcome_is_known(shop: Shop) -> None:
    """202 at once, then canceled, and nothing stays authorized."""
    path, token, _ = await start(shop, **DETAILS)
    slow = [{"method": "card", "token": "pm_sandbox_slow_150"}]
    paying = asyncio.create_task(shop.post(f"{path}/complete", {"payments": slow}, token))
    await shop.engine.reached(path.rpartition("/")[2], "complete_in_progress")
    canceled = await shop.post(f"{path}/cancel", None, token | {"Prefer": "wait=0"})
    assert (canceled.status_code, canceled.headers["retry-after"]) == (202, "1")
    assert (await paying).json()["code"] == "checkout_canceled"
    await shop.engine.settled()
    assert (await shop.get(path, token)).json()["cancel_reason"] == "buyer"
    assert len(await shop.ledger("void")) == len(await shop.ledger("authorization"))
    assert await shop.ledger("capture") == []


async def test_events_tell_every_change_until_the_end(shop: Shop) -> None:
    path, token, _ = await start(shop, **DETAILS)
    listening = asyncio.create_task(shop.get(f"{path}/events", token))
    await shop.engine.watched.wait()
    await shop.post(f"{path}/complete", {"payments": CARD}, token)
    heard = await asyncio.wait_for(listening, 5)
    assert heard.headers["content-type"].startswith("text/event-stream")
    told = [block.split("\n") for block in heard.text.strip().split("\n\n")]
    assert {lines[0] for lines in told} == {"event: checkout"}
    shown = [msgspec.json.decode(lines[2].removeprefix("data: ")) for lines in told]
    assert shown[0]["status"] == "ready_for_complete"
    assert shown[-1]["status"] == "completed"
    assert shown[-1]["buyer"] == BUYER
    assert (await shop.get(f"{path}/events")).status_code == 404


async def test_a_quiet_stream_is_kept_open_by_comments() -> None:
    """A heartbeat does not disturb what is being waited for."""
    news: asyncio.Queue[CheckoutView | None] = asyncio.Queue()

    async def views() -> AsyncIterator[CheckoutView]:
        while (view := await news.get()) is not None:
            yield view

    async def rendered(_view: CheckoutView) -> bytes:
        return b"{}"

    stream = checkout_events(views(), rendered, heartbeat_s=0.001)
    assert await anext(stream) == b": still here\n\n"
    news.put_nowait(_view(7))
    told = b""
    while not told.startswith(b"event"):
        told = await anext(stream)
    assert told == b"event: checkout\nid: 7\ndata: {}\n\n"
    news.put_nowait(None)
    rest = [chunk async for chunk in stream]
    assert all(chunk.startswith(b":") for chunk in rest)


def _view(version: int) -> CheckoutView:
    values: dict[str, Any] = dict.fromkeys(CheckoutView.__struct_fields__)
    return CheckoutView(**values | {"version": version})


async def test_personal_data_never_passes_the_edge_in_clear(shop: Shop) -> None:
    """Neither states nor rows hold a name, a street, an e-mail address or the words of a reason."""
    bought = await shop.buy("A", headers=shop.customer("ada-the-customer"))
    order_path = f"/v1/orders/{bought.json()['order']['id']}"
    await shop.post(f"{order_path}/cancel", {"reason": "Lovelace changed her mind"}, shop.customer("ada-the-customer"))
    await shop.engine.settled()
    kept = repr((shop.engine.checkouts.states, shop.engine.carts.states, shop.engine.orders.rows))
    for secret in ("Lovelace", "ada@example.com", "1 Main St", "ada-the-customer", "changed her mind"):
        assert secret not in kept
    trail = (await shop.get(f"{order_path}/events", shop.customer("ada-the-customer"))).json()["data"]
    assert [e["detail"]["reason"] for e in trail if e["type"] == "canceled"] == ["Lovelace changed her mind"]


async def test_an_erased_person_is_shown_as_such(shop: Shop) -> None:
    path, token, _ = await start(shop, **DETAILS)
    shop.data_keys.made.clear()
    checkout = (await shop.get(path, token)).json()
    assert checkout["buyer"] == {"email": "[erased]", "name": "[erased]"}
    assert checkout["shipping_address"]["line1"] == "[erased]"
