"""What the routes work with: the engine, orders, keys, credentials, settings, the clock.

Owns nothing but the bundle and the ports it is made of; the composition root fills it in, a test with
doubles. Promises no globals: a route finds it in `app.state`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from fastapi import Request

from api.idempotency import IdempotencyKeys
from api.settings import ApiSettings
from api.tokens import Verifier
from cluster.engine_types import Engine
from domain.order import OrderEventRow, OrderView
from persistence.sealing import DataKey, MasterKey


class DataKeys(Protocol):
    """`persistence.key_ring.KeyRing`, as far as the edge needs it."""

    async def key(self, subject: str) -> DataKey: ...
    async def known_keys(self, subjects: Iterable[str]) -> dict[str, DataKey]: ...


class Orders(Protocol):
    """`persistence.order_queries.OrderQueries`."""

    async def by_id(self, order_id: str, owners: Sequence[str] | None) -> OrderView | None: ...
    async def by_number(self, number: str, email_hash: str) -> OrderView | None: ...
    async def of_owner(self, owner: str, before: str | None, limit: int) -> list[OrderView]: ...
    async def page(self, before: str | None, limit: int, status: str | None = None) -> list[OrderView]: ...
    async def events(self, order_id: str, after: int, limit: int) -> list[OrderEventRow]: ...


def wall_clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class AppContext:
    """Everything `create_app` is told. `now_ms` only dates new ids; the engine keeps its own time."""

    engine: Engine
    orders: Orders
    key_ring: DataKeys
    master_key: MasterKey
    verifier: Verifier
    settings: ApiSettings = field(default_factory=ApiSettings)
    now_ms: Callable[[], int] = wall_clock_ms
    keys: IdempotencyKeys = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", IdempotencyKeys(self.master_key))


def context_of(request: Request) -> AppContext:
    """The bundle of the application that serves the request."""
    return cast(AppContext, request.app.state.context)
