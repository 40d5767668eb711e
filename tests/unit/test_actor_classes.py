"""With what options Ray creates our actors, and how one begins."""

from __future__ import annotations

from typing import Any, cast

import asyncpg
import pytest
import ray

from cluster import actor_classes, directory
from domain.cart_model import CartPolicy
from domain.checkout_model import Policy
from tests.support.virtual_time import virtual_time


class Remote:
    """What Ray makes of a class, and what it was asked for."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def __call__(self, actor_class: type) -> Remote:
        return self

    def options(self, **given: Any) -> Remote:
        self.given = given
        return self

    def remote(self, config: bytes) -> Remote:
        return self


class Config:
    namespace = "ours"

    def encoded(self) -> bytes:
        return b""


@pytest.mark.parametrize("kind", actor_classes.CLASSES)
def test_ray_brings_an_actor_back_and_repeats_none_of_its_calls(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that Ray repeats by itself would execute twice, and nobody who deals in copies would know of this one."""
    asked = Remote()
    monkeypatch.setattr(ray, "remote", asked)
    actor_classes.create(kind, f"{kind}-0", cast(actor_classes.ActorConfig, Config()))
    assert asked.given["max_task_retries"] == 0
    assert asked.given["max_restarts"] == -1
    assert asked.given["lifetime"] == "detached"


@virtual_time
async def test_an_actor_waits_for_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be constructed again and again, each time in a process that has to be brought up first."""
    refusals: list[Exception] = [
        ConnectionRefusedError("nobody listens"),
        asyncpg.CannotConnectNowError("it is starting"),
    ]
    opened: list[str] = []

    async def open_pool(dsn: str, size: int, password_file: str | None) -> str:
        if refusals:
            raise refusals.pop()
        opened.append(dsn)
        return "pool"

    async def namespace(pool: str) -> str:
        return "ours"

    monkeypatch.setattr(actor_classes, "log_to_stderr", lambda: None)
    monkeypatch.setattr(actor_classes, "open_pool", open_pool)
    monkeypatch.setattr(directory, "namespace", namespace)
    config = actor_classes.ActorConfig("stock-0", "dsn", "ours", "r", Policy(), CartPolicy(), 8, "0", 1)
    assert cast(Any, await actor_classes._Process()._open(config.encoded(), 1)) == "pool"
    assert opened == ["dsn"]
