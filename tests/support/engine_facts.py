"""What is true in an engine of one process when the dust has settled: its stock, its orders, its gateway's book."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, NamedTuple

import pytest

from domain import checkout_model as model
from domain import ids
from gateways.sandbox import Sandbox
from tests.support.engine_harness import Engine


class Entry(NamedTuple):
    """One line of the gateway's book; ``payment_id`` is the payment's for ever, whichever checkout asks."""

    type: str
    status: str
    payment_id: str


async def assert_consistent(e: Engine) -> None:
    """The audit finds nothing, even if nothing more were to happen."""
    assert (await e.audit(later_ms=60_000)).as_dict()["violations"] == []


async def sold(e: Engine, sku: str) -> tuple[int, int]:
    """Units sold and reserved."""
    levels = await e.levels(sku)
    return levels.sold, levels.reserved


async def orders(e: Engine) -> int:
    return int(await e.pool.fetchval("SELECT count(*) FROM orders"))


async def book(e: Engine) -> list[Entry]:
    """All that the gateway has done, in order."""
    return [Entry(entry.type, entry.status, entry.payment_id) for entry in await e.sandbox.entries(limit=10_000)]


async def moved(e: Engine) -> Counter[str]:
    """How often money was really authorized, captured, voided, refunded."""
    return Counter(entry.type for entry in await book(e) if entry.status == "succeeded")


def saga(e: Engine, checkout_id: str) -> model.Checkout:
    """The checkout as its coordinator has it in memory; what is there may not be durable yet."""
    found: model.Checkout = e.coordinators[0].writer.world.get(model.KIND, ids.body(checkout_id))
    return found


def gateway_call(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when the gateway is first called: by then the payment's intent is durable."""
    called = asyncio.Event()
    call = Sandbox.call

    async def noting(sandbox: Sandbox, request: Any) -> Any:
        called.set()
        return await call(sandbox, request)

    monkeypatch.setattr(Sandbox, "call", noting)
    return called
