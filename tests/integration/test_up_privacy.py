"""After a purchase, nothing personal and no secret is in clear in the database, the logs or Ray's files."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import asyncpg
import pytest

from tests.support.client import Client, lines, pay_with

BUYER = {"email": "zebulon.quagmire@example.net", "name": "Zebulon Quagmire", "phone": "+1 555 014 7788"}
ADDRESS = {
    "name": "Zebulon Quagmire", "line1": "4711 Marmalade Mews", "line2": "Flat Ocelot", "city": "Snickersville",
    "region": "IL", "postal_code": "62701", "country": "US",
}  # fmt: skip
MOVED = "13 Periwinkle Place"
REASON = "my aunt Hortensia bought it too"
MARKS = (
    "zebulon",
    "quagmire",
    "014 7788",
    "0147788",
    "marmalade",
    "ocelot",
    "snickersville",
    "periwinkle",
    "hortensia",
)

TEXTS = """
SELECT c.relname AS table, a.attname AS column
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname NOT IN ('pg_catalog', 'information_schema')
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p')
"""


@pytest.fixture
def secrets(shop: Client) -> dict[str, str]:
    """A guest who buys, moves, cancels, and is declined; a customer who does too. Every word and token of theirs."""
    sku = shop.product(20)
    body = {**lines((sku, 1)), "buyer": BUYER, "shipping_address": ADDRESS, "billing_address": ADDRESS, **pay_with()}
    guest = shop.post("/v1/express-checkouts", body)
    token = {"Cart-Token": guest.json()["token"]}
    order = f"/v1/orders/{guest.json()['order']['id']}"
    assert shop.send("PATCH", f"{order}/shipping-address", {"line1": MOVED}, token).status_code == 200
    assert shop.post(f"{order}/cancel", {"reason": REASON}, token).is_success
    lookup = {"number": guest.json()["order"]["number"], "email": BUYER["email"]}
    assert shop.post("/v1/orders/lookup", lookup).status_code == 200
    declined = shop.post("/v1/express-checkouts", body | pay_with("pm_card_chargeDeclined"))
    assert declined.status_code == 402
    jwt = shop.server.customer_token("quagmire-the-customer")
    bearer = {"Authorization": f"Bearer {jwt}"}
    assert shop.post("/v1/express-checkouts", body, bearer).status_code == 200
    cart = shop.post("/v1/carts", lines((sku, 1)), bearer)
    assert cart.status_code == 201
    bad = {**lines((sku, 1)), "buyer": {**BUYER, "email": "zebulon quagmire"}}
    assert shop.post("/v1/checkouts", bad).status_code == 422
    shop.get("/v1/orders/zebulon.quagmire@example.net", bearer)
    return {"guest's token": guest.json()["token"], "customer's token": jwt, "operator's token": shop.server.ops_token}


async def test_no_row_log_or_file_has_them_in_clear(shop: Client, secrets: dict[str, str]) -> None:
    marks = [*MARKS, *(secret.lower() for secret in secrets.values())]
    found = await _in_the_database(shop, marks)
    found += [
        f"{path}: {mark}"
        for place in _places(shop)
        for path in place.rglob("*")
        if path.is_file() and path.suffix not in (".out",)
        for mark in marks
        if _holds(path, mark)
    ]
    assert found == []


async def _in_the_database(shop: Client, marks: list[str]) -> list[str]:
    dsn = json.loads((shop.server.data_dir / "instance.json").read_text())["postgres_dsn"]
    connection = await asyncpg.connect(dsn)
    try:
        searched, in_clear = 0, False
        found = []
        for row in await connection.fetch(TEXTS):
            table, column = row["table"], row["column"]
            values = await connection.fetch(f'SELECT "{column}"::text FROM "{table}"')
            for (value,) in values:
                text = _readable(value or "")
                searched += len(text)
                in_clear = in_clear or ADDRESS["postal_code"] in text
                found += [f"{table}.{column}: {mark}" for mark in marks if mark in text]
        assert searched > 10_000
        assert in_clear, "the search would not see what is there in clear, such as postal codes"
        return found
    finally:
        await connection.close()


def _readable(value: str) -> str:
    """Lower case; what is hexadecimal bytea also as the text it may hold."""
    text = value.lower()
    if text.startswith("\\x"):
        text += bytes.fromhex(text.removeprefix("\\x")).decode("latin-1").lower()
    return text


def _places(shop: Client) -> list[Path]:
    """The data directory with its logs and the database's own files, and all that Ray writes."""
    from cluster.host import ray_temp_dir

    return [shop.server.data_dir.parent, ray_temp_dir(shop.server.data_dir)]


def _holds(path: Path, mark: str) -> bool:
    try:
        return mark.encode() in path.read_bytes().lower()
    except OSError as error:  # rotated or removed while we looked
        logging.getLogger(__name__).info("not read: %s", error)
        return False
