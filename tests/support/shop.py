"""A shop to talk to over HTTP in one process: the real application over the engine in memory."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from api.app import create_app
from api.context import AppContext
from api.settings import ApiSettings
from api.tokens import DevelopmentKey, Verifier
from domain.cart_model import CartPolicy
from domain.checkout_model import Policy
from persistence.sealing import DataKey, MasterKey
from tests.support.fake_engine import FakeEngine

BUYER = {"email": "ada@example.com", "name": "Ada Lovelace"}
ADDRESS = {
    "name": "Ada Lovelace",
    "line1": "1 Main St",
    "city": "Springfield",
    "region": "IL",
    "postal_code": "62701",
    "country": "US",
}
CARD = [{"method": "card", "token": "pm_card_visa"}]
DETAILS = {"buyer": BUYER, "shipping_address": ADDRESS}

Answer = httpx.Response


class MemoryKeyRing:
    """`api.context.DataKeys` without a database."""

    def __init__(self) -> None:
        self.made: dict[str, DataKey] = {}

    async def key(self, subject: str) -> DataKey:
        return self.made.setdefault(subject, DataKey.generate(subject))

    async def known_keys(self, subjects: Iterable[str]) -> dict[str, DataKey]:
        return {subject: self.made[subject] for subject in subjects if subject in self.made}


class Shop:
    """The application, its engine, and short ways of calling it. Every call has a key of its own."""

    def __init__(self, client: httpx.AsyncClient, app: FastAPI, engine: FakeEngine, keys: MemoryKeyRing) -> None:
        self.client = client
        self.app = app
        self.engine = engine
        self.data_keys = keys
        self._keys = itertools.count()
        self._jwt = DevelopmentKey(b"k" * 32)

    def customer(self, name: str = "ada") -> dict[str, str]:
        return {"Authorization": f"Bearer {self._jwt.mint(name)}"}

    def operator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._jwt.mint('olga', operator=True)}"}

    def key(self) -> dict[str, str]:
        return {"Idempotency-Key": f"key-of-a-test-{next(self._keys):06d}"}

    async def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request; POSTs get a new key unless `headers` bring one."""
        sent = (self.key() if method == "POST" else {}) | (headers or {})
        return await self.client.request(method, path, json=body, headers=sent)

    async def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return await self.call("GET", path, headers=headers)

    async def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        return await self.call("POST", path, body, headers)

    async def patch(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
        return await self.call("PATCH", path, body, headers)

    async def put(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
        return await self.call("PUT", path, body, headers if headers is not None else self.operator())

    async def stock_up(self, sku: str, units: int, prices: dict[str, int] | None = None) -> None:
        """A product with so many units on hand."""
        product = {"title": f"Product {sku}", "prices": prices or {"USD": 1999}}
        assert (await self.put(f"/v1/ops/products/{sku}", product)).status_code in (200, 201)
        adjusted = await self.post(
            f"/v1/ops/stock/{sku}/adjustments", {"set": units, "reason": "test"}, self.operator()
        )
        assert adjusted.status_code == 200, adjusted.text

    async def buy(self, sku: str, quantity: int = 1, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        """An express checkout with everything it takes."""
        body = {"line_items": [{"sku": sku, "quantity": quantity}], **DETAILS, "payments": CARD, **fields}
        answer = await self.post("/v1/express-checkouts", body, headers)
        await self.engine.settled()
        return answer

    async def figures(self, sku: str) -> dict[str, Any]:
        account = (await self.get(f"/v1/ops/stock/{sku}", self.operator())).json()
        return {name: account[name] for name in ("on_hand", "reserved", "available", "sold")}

    async def ledger(self, kind: str) -> list[dict[str, Any]]:
        page = (await self.get("/v1/ops/sandbox/ledger?limit=100", self.operator())).json()
        return [entry for entry in page["data"] if entry["type"] == kind]


def build_app(engine: FakeEngine, key_ring: MemoryKeyRing, settings: ApiSettings) -> FastAPI:
    """The application over an engine in memory."""
    return create_app(
        AppContext(
            engine=engine,
            orders=engine.orders,
            key_ring=key_ring,
            master_key=MasterKey(b"m" * 32),
            verifier=Verifier([DevelopmentKey(b"k" * 32)]),
            settings=settings,
            now_ms=engine.clock,
        )
    )


@asynccontextmanager
async def open_shop(
    settings: ApiSettings | None = None, policy: Policy | None = None, carts: CartPolicy | None = None
) -> AsyncIterator[Shop]:
    """A shop without products."""
    engine, key_ring = FakeEngine(policy, carts), MemoryKeyRing()
    app = build_app(engine, key_ring, settings or ApiSettings())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        try:
            yield Shop(client, app, engine, key_ring)
        finally:
            await engine.close()


def cart_token(answer: Answer) -> dict[str, str]:
    """The header that opens what a guest has just made."""
    return {"Cart-Token": answer.json()["token"]}
