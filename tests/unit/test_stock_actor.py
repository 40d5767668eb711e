"""The stock actor's own tasks: one that breaks ends the process, for its heir does the work."""

from __future__ import annotations

import asyncio
import time

from actors.stock_actor import StockActor
from tests.support.memory_journal import Database, MemoryJournal
from tests.support.virtual_time import virtual_time


class FailingClock:
    """The right time, until it is broken."""

    def __init__(self) -> None:
        self.broken = False

    def __call__(self) -> int:
        if self.broken:
            raise OSError("no clock")
        return time.time_ns() // 1_000_000


@virtual_time
async def test_a_broken_sweep_ends_the_process() -> None:
    """A shard whose sweep has ended would never give expired stock back: better that its heir does."""
    left = asyncio.Event()
    clock = FailingClock()
    actor = StockActor("stock-0", MemoryJournal(Database("stock-0")), clock, on_fenced=left.set)
    await actor.start()
    clock.broken = True
    try:
        assert await asyncio.wait_for(left.wait(), 5)
    finally:
        await actor.stop()
