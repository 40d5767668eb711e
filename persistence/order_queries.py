"""Orders as they stand in Postgres, for whoever shows them.

Owns the queries on `orders`, `order_state` and `order_event`, and the way back from rows to the shapes of
`domain.order`. Promises that an order that is not one of the owners' given does not exist. Personal data
stays sealed. Never writes: the saga's rows ride in its coordinator's append. The API calls it, over a pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from domain.order import OrderBody, OrderEventRow, OrderView, StateBody
from persistence.sql import sql

_read_body = msgspec.json.Decoder(OrderBody).decode
_read_state = msgspec.json.Decoder(StateBody).decode


class OrderQueries:
    """Reads orders. Errors of asyncpg pass through (`persistence.outages` names those that ask for patience)."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def by_id(self, order_id: str, owners: Sequence[str] | None) -> OrderView | None:
        """The order if it belongs to one of `owners`; None for them means whosever it is."""
        row = await self._pool.fetchrow(sql("order_by_id"), order_id, owners)
        return _view(row) if row is not None else None

    async def by_number(self, number: str, email_hash: str) -> OrderView | None:
        """The order with this number, placed with this e-mail address."""
        row = await self._pool.fetchrow(sql("order_by_number"), number, email_hash)
        return _view(row) if row is not None else None

    async def of_owner(self, owner: str, before: str | None, limit: int) -> list[OrderView]:
        """Up to `limit` orders of the owner, newest first, older than the order `before`."""
        rows = await self._pool.fetch(sql("orders_of_owner"), owner, before, limit)
        return [_view(row) for row in rows]

    async def page(self, before: str | None, limit: int, status: str | None = None) -> list[OrderView]:
        """Up to `limit` orders of the shop, newest first, older than the order `before`."""
        rows = await self._pool.fetch(sql("orders_page"), before, status, limit)
        return [_view(row) for row in rows]

    async def events(self, order_id: str, after: int, limit: int) -> list[OrderEventRow]:
        """Up to `limit` entries of the audit trail beyond entry `after`, oldest first."""
        rows = await self._pool.fetch(sql("order_events"), order_id, after, limit)
        return [
            OrderEventRow(order_id, row["n"], row["at_ms"], row["actor"], row["type"], row["detail"].encode())
            for row in rows
        ]


def order_view(
    body: OrderBody,
    state: StateBody,
    *,
    order_id: str,
    number: str,
    owner: str,
    currency: str,
    status: str,
    payment_status: str,
    placed_at_ms: int,
) -> OrderView:
    """The order out of its two rows: what was confirmed, and how it stands."""
    return OrderView(
        id=order_id,
        number=number,
        status=status,
        payment_status=payment_status,
        checkout_id=body.checkout_id,
        customer=body.customer,
        currency=currency,
        buyer=body.buyer,
        shipping_address=body.shipping_address,
        ship_to=state.ship_to or body.shipping_address,
        amendments=state.amendments,
        lines=body.line_items,
        totals=body.totals,
        payments=state.payments,
        tracking=state.tracking,
        created_at_ms=placed_at_ms,
        confirmed_at_ms=state.confirmed_at_ms,
        owner=owner,
        root=body.root,
    )


def _view(row: Any) -> OrderView:
    return order_view(
        _read_body(row["body"]),
        _read_state(row["state"]),
        order_id=row["order_id"],
        number=row["number"],
        owner=row["owner"],
        currency=row["currency"],
        status=row["status"],
        payment_status=row["payment_status"],
        placed_at_ms=row["placed_at_ms"],
    )
