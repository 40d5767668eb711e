"""Orders at a fixed pace on SKUs of another shard, counted window by window.

Owns the pace: so many are begun every tick, whether those before have been answered or not. What a recovery takes
from them is seen as orders that are not there by the end of its window.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from benchmarks.engine.__main__ import Buyers
from benchmarks.flash_sale.measure import percentile
from cluster.engine_types import Busy, StillPending

TICK_S = 0.1  # shorter ones cost more processor time in calls between processes than in orders


class Windows:
    """What was answered, and in how many seconds, over all windows of one kind."""

    def __init__(self, buyers: Buyers) -> None:
        self._buyers = buyers
        self.seconds = 0.0
        self.latencies_s: list[float] = []

    @contextmanager
    def window(self) -> Iterator[None]:
        begun_s, first = time.perf_counter(), len(self._buyers.latencies_s)
        yield
        self.seconds += time.perf_counter() - begun_s
        self.latencies_s += self._buyers.latencies_s[first:]

    @property
    def orders_per_s(self) -> float:
        return len(self.latencies_s) / self.seconds

    def figures(self) -> dict[str, float]:
        """Rate, latencies in milliseconds, and the seconds they were taken over."""
        ordered = sorted(round(latency_s * 1000) for latency_s in self.latencies_s)
        return {
            "orders_per_s": round(self.orders_per_s, 1),
            "p50_ms": percentile(ordered, 50),
            "p99_ms": percentile(ordered, 99),
            "seconds": round(self.seconds, 1),
        }


@asynccontextmanager
async def paced(buyers: Buyers, orders_per_s: float) -> AsyncIterator[None]:
    """Begin orders at this pace; at the end wait for those that are still under way."""
    under_way: set[asyncio.Task[None]] = set()
    beginning = asyncio.create_task(_begin(buyers, orders_per_s, under_way))
    try:
        yield
    finally:
        beginning.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beginning
        await asyncio.gather(*under_way)


async def _buy(buyers: Buyers) -> None:
    try:
        await buyers.buy()
    except (Busy, StillPending) as error:
        code = type(error).__name__
        buyers.refused[code] = buyers.refused.get(code, 0) + 1


async def _begin(buyers: Buyers, orders_per_s: float, under_way: set[asyncio.Task[None]]) -> None:
    begun_s, begun = time.perf_counter(), 0
    while True:
        due = int((time.perf_counter() - begun_s) * orders_per_s)
        for _ in range(due - begun):
            task = asyncio.create_task(_buy(buyers))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        begun = due
        await asyncio.sleep(TICK_S)
