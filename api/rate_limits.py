"""How often a stranger may guess: the limits on looking up orders.

Owns the limits and their counts, in this process only (several workers allow as many times more). Promises
that the count does not tell whether a guess was right. Called by the routes concerned; off where the
settings say so.
"""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from api.errors import Problem

LOOKUPS_OF_NUMBER = RateLimitItemPerMinute(5, namespace="lookup-number")
# Wide, because a whole company may share an address, and a proxy gives everybody its own.
LOOKUPS_FROM_ADDRESS = RateLimitItemPerMinute(60, namespace="lookup-address")


class LookupLimits:
    """Counts attempts to look orders up."""

    def __init__(self, *, on: bool) -> None:
        self._on = on
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def count(self, number: str, address: str) -> None:
        """Count one attempt. Problem: 429, with the seconds after which the next one is allowed."""
        if not self._on:
            return
        await self._hit(LOOKUPS_FROM_ADDRESS, address)
        await self._hit(LOOKUPS_OF_NUMBER, number.upper())

    async def _hit(self, limit: RateLimitItem, identifier: str) -> None:
        if await self._limiter.hit(limit, identifier):
            return
        reset_at, _ = await self._limiter.get_window_stats(limit, identifier)
        seconds = max(1, math.ceil(reset_at - time.time()))
        raise Problem(
            "rate_limited",
            f"Too many attempts; try again in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )
