"""Puts the demo goods into a running shop, through its HTTP API and nothing else.

Promises that it may run at every start: what exists is left as its operator made it, prices, stock and
tables alike; what a crash cut short is made up for. Told an operator's client. Never asks for more than the
API gives every operator, and never decides whether a shop wants demo goods. Called by `lastunit up`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import quote

from demo import catalogue

REASON = "demo shop opens"


class BatchResult(Protocol):
    """The fate of one item of a batch: `created`, `replaced`, `unchanged` or `error` with `message`."""

    @property
    def status(self) -> str: ...
    @property
    def message(self) -> str: ...


class Account(Protocol):
    """A SKU's stock: `received` counts every unit that ever came in."""

    @property
    def received(self) -> int: ...


class Client(Protocol):
    """`operator_client.OperatorClient`, as far as it is needed here."""

    async def put_products(
        self, products: Sequence[dict[str, Any]], *, dry_run: bool = False
    ) -> Sequence[BatchResult]: ...
    async def stock(self, sku: str) -> Account: ...
    async def call(
        self, method: str, path: str, body: object = None, *, headers: dict[str, str] | None = None
    ) -> bytes: ...


class DemoRefusedError(Exception):
    """The shop did not take a demo product; the message says which and why."""


async def load_demo(client: Client) -> int:
    """Create what is missing; the number of products created. Errors of the client pass through."""
    bodies = [_body(product) for product in catalogue.products()]
    new = await _unknown_to_the_shop(client, bodies)
    if len(new) == len(bodies):
        # Tables go first: as long as no product is there, a crash lets the next start put them again;
        # later they belong to the operator, and nothing in the API tells whether they were changed.
        await client.call("PUT", "/v1/ops/shipping", catalogue.shipping_table())
        await client.call("PUT", "/v1/ops/tax", catalogue.tax_table())
    if new:
        _accepted(new, await client.put_products(new))
    levels = catalogue.stock_levels()
    await asyncio.gather(*(_stock_up(client, sku, units) for sku, units in levels.items() if units))
    return len(new)


async def _unknown_to_the_shop(client: Client, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    results = _accepted(bodies, await client.put_products(bodies, dry_run=True))
    return [body for body, result in zip(bodies, results, strict=True) if result.status == "created"]


async def _stock_up(client: Client, sku: str, units: int) -> None:
    """Units for a SKU that never had any, which is what a crash after its creation leaves."""
    if (await client.stock(sku)).received:
        return
    path = f"/v1/ops/stock/{quote(sku, safe='')}/adjustments"
    # One key for ever: an operator who took the unsold units out again does not get them back at a restart.
    headers = {"Idempotency-Key": f"demo-stock-{sku}-{units}"}
    await client.call("POST", path, {"delta": units, "reason": REASON}, headers=headers)


def _accepted(bodies: list[dict[str, Any]], results: Sequence[BatchResult]) -> Sequence[BatchResult]:
    for body, result in zip(bodies, results, strict=True):
        if result.status == "error":
            raise DemoRefusedError(f"{body['sku']}: {result.message}")
    return results


def _body(product: dict[str, Any]) -> dict[str, Any]:
    fields = ("sku", "title", "prices", "weight_g", "tax_category", "category")
    return {name: product[name] for name in fields}
