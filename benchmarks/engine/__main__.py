"""Orders through the actors of a real instance: express checkouts of three SKUs each, sealed and priced.

Owns a server of its own on a temporary directory (default settings), speaks to its actors as an API worker
does, ends with the audit, and prints one line of JSON. A run with a violation has no figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import time
from typing import Any

import uvloop

from benchmarks.engine.own_engine import OwnEngine, own_engine
from benchmarks.engine.processes import cpu_seconds, per_order_us
from cluster.engine import RayEngine
from cluster.tuning import spare_the_collector
from domain import checkout_model as model
from domain import ids, stock
from domain.catalog import Product
from persistence.key_ring import KeyRing
from persistence.sealing import MasterKey, owner_of_token

SETTLE_S = 30.0


class Buyers:
    """Makes express checkouts as the API's edge does: keys, tokens, sealed personal data."""

    def __init__(self, engine: RayEngine, keys: KeyRing, master: MasterKey, skus: list[str], per_order: int) -> None:
        self._engine = engine
        self._keys = keys
        self._master = master
        self._skus = skus
        self._per_order = per_order
        self._random = random.Random(1)
        self.latencies_s: list[float] = []
        self.refused: dict[str, int] = {}

    async def buy(self) -> None:
        begun_s = time.perf_counter()
        reply = (await self._engine.ask(await self._start(), 120)).reply
        if isinstance(reply, model.CheckoutReply) and reply.order is not None:
            self.latencies_s.append(time.perf_counter() - begun_s)
        else:
            code = getattr(reply, "code", type(reply).__name__)
            self.refused[code] = self.refused.get(code, 0) + 1

    async def _start(self) -> model.Start:
        command_id = secrets.token_bytes(16)
        body = ids.derive_body(command_id, "checkout")
        checkout_id = ids.make("chk", time.time_ns() // 1_000_000, body)
        owner = owner_of_token(self._master.guest_token(checkout_id))
        key = await self._keys.key(owner)
        buyer = model.Buyer(
            key.seal("buyer", b'{"email":"ada@example.com","name":"Ada Lovelace"}'),
            self._master.email_hash("ada@example.com"),
        )
        address = model.Address(
            key.seal("shipping_address", b'{"name":"Ada Lovelace","line1":"1 Main St","city":"Springfield"}'),
            "US",
            "IL",
            "62704",
        )
        wanted = tuple(model.Wanted(sku, 1) for sku in self._random.sample(self._skus, self._per_order))
        return model.Start(
            command_id=command_id,
            fingerprint=command_id,
            checkout_id=checkout_id,
            owner=owner,
            root=checkout_id,
            customer=None,
            cart_id=None,
            wanted=wanted,
            currency="USD",
            fields=model.Fields(("buyer", "shipping_address"), buyer, address),
            express=model.Payments((model.Payment("card", "pm_card_visa"),)),
        )


async def run(options: argparse.Namespace) -> dict[str, Any]:
    async with own_engine("engine") as own:
        return await measure(own, options)


async def measure(own: OwnEngine, options: argparse.Namespace) -> dict[str, Any]:
    skus = [f"SKU-{n:07d}" for n in range(options.skus)]
    spare_the_collector()  # as an API worker does
    await stock_up(own.engine, skus, options.orders * 3)
    buyers = Buyers(own.engine, own.keys, own.master, skus, min(3, options.skus))
    await in_parallel(buyers, options.warmup, options.in_flight)
    buyers.latencies_s.clear()
    spent = cpu_seconds(own.server_pid)
    begun_s = time.perf_counter()
    await in_parallel(buyers, options.orders, options.in_flight)
    took_s = time.perf_counter() - begun_s
    costs = per_order_us(spent, cpu_seconds(own.server_pid), options.orders)
    latencies = sorted(buyers.latencies_s)
    report = await settled_audit(own.engine)
    return {
        "orders_per_s": round(len(latencies) / took_s) if report["consistent"] else None,
        "orders": len(latencies),
        "refused": buyers.refused,
        "p50_ms": round(latencies[len(latencies) // 2] * 1000, 1),
        "cpu_us_per_order": costs,
        "p99_ms": round(latencies[len(latencies) * 99 // 100] * 1000, 1),
        "audit": report["checked"] if report["consistent"] else report["violations"][:5],
    }


async def stock_up(engine: RayEngine, skus: list[str], units: int) -> None:
    product = Product("A thing", {"USD": 1999}, 250)

    async def one(sku: str) -> None:
        await engine.ask(stock.PutProduct(command_id=secrets.token_bytes(16), sku=sku, product=product), 60)
        adjust = stock.Adjust(command_id=secrets.token_bytes(16), sku=sku, set_to=units, reason="benchmark")
        await engine.ask(adjust, 60)

    for start in range(0, len(skus), 2000):
        await asyncio.gather(*(one(sku) for sku in skus[start : start + 2000]))


async def in_parallel(buyers: Buyers, orders: int, in_flight: int) -> None:
    left = iter(range(orders))

    async def worker() -> None:
        for _ in left:
            await buyers.buy()

    await asyncio.gather(*(worker() for _ in range(in_flight)))


async def settled_audit(engine: RayEngine) -> dict[str, Any]:
    """The audit once captures and confirmations have caught up."""
    end_s = time.monotonic() + SETTLE_S
    while True:
        report = await engine.audit()
        if report["consistent"] or time.monotonic() > end_s:
            return report
        await asyncio.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=30_000)
    parser.add_argument("--warmup", type=int, default=3_000)
    parser.add_argument("--in-flight", type=int, default=2_000)
    parser.add_argument("--skus", type=int, default=10_000, help="3 of them an order; 1 for the hot SKU")
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
