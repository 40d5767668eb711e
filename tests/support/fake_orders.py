"""Orders in memory: the rows that ride with the saga's events, read as the queries on Postgres read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from domain.order import OrderBody, OrderEventRow, OrderRow, OrderStateRow, OrderView, StateBody
from persistence.order_queries import order_view


class FakeOrders:
    """`api.context.Orders`. `rows`: all that was written, for tests that look for what must not be there."""

    def __init__(self) -> None:
        self.rows: list[OrderRow | OrderStateRow | OrderEventRow] = []
        self._orders: dict[str, OrderRow] = {}
        self._states: dict[str, OrderStateRow] = {}
        self._events: dict[str, list[OrderEventRow]] = {}

    def add(self, rows: Iterable[OrderRow | OrderStateRow | OrderEventRow]) -> None:
        for row in rows:
            self.rows.append(row)
            match row:
                case OrderRow():
                    assert row.order_id not in self._orders, "an order is placed once"
                    self._orders[row.order_id] = row
                case OrderStateRow():
                    self._states[row.order_id] = row
                case OrderEventRow():
                    self._events.setdefault(row.order_id, []).append(row)

    async def by_id(self, order_id: str, owners: Sequence[str] | None) -> OrderView | None:
        row = self._orders.get(order_id)
        return self._view(row) if row is not None and (owners is None or row.owner in owners) else None

    async def by_number(self, number: str, email_hash: str) -> OrderView | None:
        rows = [r for r in self._orders.values() if r.number == number and r.email_hash == email_hash]
        return self._view(max(rows, key=lambda row: row.order_id)) if rows else None

    async def of_owner(self, owner: str, before: str | None, limit: int) -> list[OrderView]:
        return [view for view in self._newest(before) if view.owner == owner][:limit]

    async def page(self, before: str | None, limit: int, status: str | None = None) -> list[OrderView]:
        return [view for view in self._newest(before) if status in (None, view.status)][:limit]

    async def events(self, order_id: str, after: int, limit: int) -> list[OrderEventRow]:
        return [row for row in self._events.get(order_id, ()) if row.n > after][:limit]

    def _newest(self, before: str | None) -> list[OrderView]:
        rows = sorted(self._orders.values(), key=lambda row: row.order_id, reverse=True)
        return [self._view(row) for row in rows if before is None or row.order_id < before]

    def _view(self, row: OrderRow) -> OrderView:
        state = self._states[row.order_id]
        return order_view(
            msgspec.json.decode(row.body, type=OrderBody),
            msgspec.json.decode(state.body, type=StateBody),
            order_id=row.order_id,
            number=row.number,
            owner=row.owner,
            currency=row.currency,
            status=state.status,
            payment_status=state.payment_status,
            placed_at_ms=row.placed_at_ms,
        )
