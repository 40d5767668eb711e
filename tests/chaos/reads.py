"""The final reads of a run of chaos, as the checker takes them; None for what could not be read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import httpx

from tests.chaos.checker import Entry, Level, Order, Reads
from tests.support.client import Client


def read(client: Client, skus: Sequence[str]) -> Reads:
    """All that can be read."""

    def tried(question: Callable[[], Any]) -> Any:
        try:
            return question()
        except (httpx.HTTPError, AssertionError, KeyError) as error:
            sys.stderr.write(f"not read: {error!r}\n")
            return None

    return Reads(
        tried(lambda: [_order(found) for found in client.pages("/v1/ops/orders")]),
        tried(lambda: [_entry(found) for found in client.ledger() if found["status"] == "succeeded"]),
        {sku: tried(partial(_level, client, sku)) for sku in skus},
        tried(lambda: [str(named) for named in client.ops("GET", "/v1/ops/audit")["violations"]]),
    )


def _order(found: dict[str, Any]) -> Order:
    total = next(entry["amount"] for entry in found["totals"] if entry["type"] == "total")
    units = {line["sku"]: line["quantity"] for line in found["line_items"]}
    return Order(found["id"], found["checkout_id"], found["status"], total, units)


def _entry(found: dict[str, Any]) -> Entry:
    kind: Any = "authorize" if found["type"] == "authorization" else found["type"]
    return Entry(kind, found["checkout_id"], found["payment_id"], found["amount"])


def _level(client: Client, sku: str) -> Level:
    found = client.stock(sku)
    return Level(*(found[name] for name in Level.__struct_fields__))
