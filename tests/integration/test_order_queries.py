"""Orders read from Postgres, held against the rows that the saga wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from domain.order import OrderEventRow, OrderRow, OrderStateRow, OrderView
from persistence.order_queries import OrderQueries
from persistence.sealing import MasterKey
from tests.support.fake_orders import FakeOrders
from tests.support.shop import open_shop

_ORDER = "INSERT INTO orders VALUES ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8 / 1000.0), $9, 0)"
_STATE = "INSERT INTO order_state VALUES ($1, $2, $3, $4, to_timestamp($5 / 1000.0), $6)"
_NEWER = "DELETE FROM order_state WHERE order_id = $1"
_EVENT = "INSERT INTO order_event VALUES ($1, $2, to_timestamp($3 / 1000.0), $4, $5, $6)"


@pytest.fixture
async def sold() -> AsyncIterator[FakeOrders]:
    """Three orders of two customers, one of them canceled, as rows in memory."""
    async with open_shop() as shop:
        await shop.stock_up("A", 5)
        for name in ("ada", "bob", "ada"):
            shop.engine.clock.now_ms += 1
            bought = await shop.buy("A", headers=shop.customer(name))
        order = bought.json()["order"]["id"]
        await shop.post(f"/v1/orders/{order}/cancel", {"reason": "too late"}, shop.customer("ada"))
        await shop.engine.settled()
        yield shop.engine.orders


@pytest.fixture
async def queries(database: str, sold: FakeOrders) -> AsyncIterator[OrderQueries]:
    """The queries on a database with those rows."""
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as pool:
        for row in sold.rows:
            match row:
                case OrderRow():
                    placed = (row.order_id, row.checkout_id, row.number, row.owner, row.email_hash)
                    figures = (row.currency, row.total, row.placed_at_ms, row.body.decode())
                    await pool.execute(_ORDER, *placed, *figures)
                case OrderStateRow():
                    await pool.execute(_NEWER, row.order_id)
                    state = (row.order_id, row.version, row.status, row.payment_status, row.updated_at_ms)
                    await pool.execute(_STATE, *state, row.body.decode())
                case OrderEventRow():
                    entry = (row.order_id, row.n, row.at_ms, row.actor, row.type, row.detail.decode())
                    await pool.execute(_EVENT, *entry)
        yield OrderQueries(pool)


async def everything(sold: FakeOrders) -> list[OrderView]:
    return await sold.page(None, 100)


async def test_an_order_is_read_as_it_was_written(queries: OrderQueries, sold: FakeOrders) -> None:
    """By its id, and by number and address; only for one of its owners, if any are named."""
    for view in await everything(sold):
        assert await queries.by_id(view.id, None) == view
        assert await queries.by_id(view.id, ["c:somebody", view.owner]) == view
        assert await queries.by_id(view.id, ["c:somebody"]) is None
        assert await queries.by_id(view.id, []) is None
        email_hash = MasterKey(b"m" * 32).email_hash("ada@example.com")
        assert await queries.by_number(view.number, email_hash) == view
        assert await queries.by_number(view.number, "0" * 32) is None
    assert await queries.by_id("ord_" + "0" * 26, None) is None


async def test_pages_lead_through_all_orders_newest_first(queries: OrderQueries, sold: FakeOrders) -> None:
    """Of the shop, of one status, of one owner."""
    views = await everything(sold)
    assert await queries.page(None, 2) == views[:2]
    assert await queries.page(views[1].id, 2) == views[2:]
    assert await queries.page(None, 9, "canceled") == [view for view in views if view.status == "canceled"]
    owner = views[0].owner
    mine = [view for view in views if view.owner == owner]
    assert await queries.of_owner(owner, None, 9) == mine
    assert await queries.of_owner(owner, mine[0].id, 9) == mine[1:]


async def test_an_audit_trail_is_read_in_order(queries: OrderQueries, sold: FakeOrders) -> None:
    canceled = next(view for view in await everything(sold) if view.status == "canceled")
    trail = await sold.events(canceled.id, 0, 9)
    assert len(trail) > 2
    assert await queries.events(canceled.id, 0, 9) == trail
    assert await queries.events(canceled.id, 1, 1) == trail[1:2]
