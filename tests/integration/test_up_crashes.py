"""A sale while everything is killed: each unit sold once, nothing acknowledged lost, nobody charged twice."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

from tests.support.client import Client, code_of, lines
from tests.support.sale import Sale
from tests.support.server import Server, eventually

# Payments take long enough that the killing meets many under way.
SERVER = {"sandbox_latency_ms": "200-600"}
UNITS = 100
BUYERS = 1000
AT_ONCE = 12  # few enough that the sale outlasts the killing

Victim = Callable[[Server], psutil.Process]
ONE_BY_ONE: tuple[tuple[str, Victim], ...] = (
    ("the stock actor", lambda server: server.actor("StockActor")),
    ("the coordinator", lambda server: server.actor("CheckoutCoordinator")),
    ("the cart actor", lambda server: server.actor("CartActor")),
    ("the gateway", lambda server: server.actor("SandboxGateway")),
    ("an API worker", lambda server: server.api_worker()),
    ("Postgres", lambda server: server.postmaster()),
)


@pytest.mark.chaos
@pytest.mark.timeout(420)
async def test_a_sale_survives_kill_9_of_every_part_and_of_everything(client: Client) -> None:
    """A thousand buyers, a hundred units; every few sales another process dies, at last all of them.

    Then the same command on the same directory: a hundred sold, every acknowledged order there with one
    capture, the same answers to the same keys, and a clean audit.
    """
    server = client.server
    sku = client.product(UNITS)
    sale = Sale(server.url, sku)
    buying = asyncio.create_task(sale.run(BUYERS, AT_ONCE))
    for name, victim in ONE_BY_ONE:
        await _more_sold(sale, buying, f"sales before the end of {name}")
        victim(server).kill()
    await _more_sold(sale, buying, "sales before the end of everything")
    before = dict(sale.sold)
    await asyncio.to_thread(server.crash)
    await asyncio.to_thread(server.start)
    await buying
    assert sale.strange == []
    assert before.items() <= sale.sold.items()
    assert (len(sale.sold), sale.refused) == (UNITS, Counter(out_of_stock=BUYERS - UNITS))
    assert client.figures(sku) == (0, 0, 0, UNITS)
    assert await sale.repeat() == sale.sold
    _every_order_is_there_and_paid_once(client, sale)
    audit = server.run("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_ctrl_c_leaves_no_process_and_loses_nothing(client: Client) -> None:
    """Nothing works in its directories afterwards; started again, carts, holds, orders and tokens are there."""
    server = client.server
    sku = client.product(5)
    order, order_token = client.ordered(sku)
    checkout = client.start(sku, 2)
    cart = client.post("/v1/carts", lines((sku, 1))).json()

    assert server.stop(signal.SIGINT) == 0
    assert server.strays() == []
    assert not (server.data_dir / "instance.json").exists()
    assert server.run("audit").returncode == 2

    assert server.start().endswith(f"ready {server.url}\n")
    assert client.get(order, order_token).json()["status"] == "confirmed"
    assert client.get(f"/v1/carts/{cart['id']}", {"Cart-Token": cart["token"]}).status_code == 200
    assert checkout.read()["reservation"]["status"] == "held"
    assert client.figures(sku) == (4, 2, 2, 1)
    assert checkout.complete().status_code == 200
    assert code_of(client.express(sku, quantity=3)) == (409, "out_of_stock")
    assert server.run("audit").returncode == 0


async def _more_sold(sale: Sale, buying: asyncio.Task[None], what: str) -> None:
    mark = len(sale.sold) + 5

    async def moved() -> bool:
        return len(sale.sold) >= mark or sale.refused.total() > 0 or buying.done()

    await eventually(moved, f"{what}, {mark}", 60)
    assert len(sale.sold) >= mark, f"the sale ended too early for {what}"


def _every_order_is_there_and_paid_once(client: Client, sale: Sale) -> None:
    acknowledged = sale.orders()
    orders = {order["id"]: order for order in client.pages("/v1/ops/orders")}
    assert orders.keys() == acknowledged.keys()
    assert len(acknowledged) == UNITS
    assert {order["status"] for order in orders.values()} == {"confirmed"}
    book = client.ledger()
    captures = Counter(entry["checkout_id"] for entry in book if entry["type"] == "capture")
    assert captures == Counter(body["checkout"]["id"] for body in acknowledged.values())
    assert not [entry for entry in book if entry["type"] == "refund"]
    for order_id, body in acknowledged.items():
        token = {"Cart-Token": body["token"]}
        assert client.get(f"/v1/orders/{order_id}", token).json()["number"] == body["order"]["number"]
