"""Waiting for a database that is away: whoever asked meanwhile sees a pause, not an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from persistence.outages import OUTAGES

log = structlog.get_logger()

RETRY_S = 0.2

T = TypeVar("T")


async def patiently(shard: str, ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` returns, as soon as the database serves; only for what may be asked again."""
    while True:
        try:
            return await ask()
        except OUTAGES as error:
            log.warning("database unreachable", shard=shard, error=str(error))
            await asyncio.sleep(RETRY_S)
