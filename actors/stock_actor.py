"""The stock actor: one shard of SKUs, its holds, and the sweep that returns what has expired.

Owns the timers of its holds. Promises that stock returns late rather than early: a hold found at recovery, or
after the clock has jumped, has a minute of grace, for its buyer could not reach us meanwhile.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from actors.contracts import Journal, Ticket
from actors.cores import StockCore
from actors.event_sourced import EventSourced
from domain import ledger, stock
from domain.messages import Key

log = structlog.get_logger()

TICK_S = 0.25
GRACE_MS = 60_000
JUMP_MS = 5_000  # a tick that comes this late means a paused process or a moved clock
SWEEP_MOST = 500  # holds a command
SWEEPS_A_TICK = 20  # so that a mass expiry delays nobody for long, and yet 10,000 holds are back in a second


class Deadlines:
    """Things to be looked at when their time comes: a heap whose outdated entries are found out when due."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str]] = []
        self._order = itertools.count()

    def add(self, at_ms: int, identifier: str) -> None:
        heapq.heappush(self._heap, (at_ms, next(self._order), identifier))

    def due(self, now_ms: int, most: int) -> list[str]:
        found: list[str] = []
        while self._heap and self._heap[0][0] <= now_ms and len(found) < most:
            found.append(heapq.heappop(self._heap)[2])
        return found

    def put_off(self, until_ms: int) -> None:
        """Nothing is due before this time."""
        self._heap = [(max(at_ms, until_ms), n, identifier) for at_ms, n, identifier in self._heap]
        heapq.heapify(self._heap)


class Unasked:
    """The ticket of a command that nobody waits for."""

    def reply(self, reply: Any) -> None:
        return

    def later(self) -> None:
        return


class StockActor:
    """`submit` commands; `start` recovers and runs."""

    def __init__(
        self,
        shard: str,
        journal: Journal,
        clock_ms: Callable[[], int],
        *,
        on_fenced: Callable[[], None] = lambda: None,
        max_queue: int = 20_000,
    ) -> None:
        self.writer = EventSourced(
            shard,
            StockCore(),
            journal,
            clock_ms,
            on_commit=self._note,
            on_fenced=on_fenced,
            max_queue=max_queue,
        )
        self._clock_ms = clock_ms
        self._on_fenced = on_fenced
        self._deadlines = Deadlines()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.writer.recover()
        self._deadlines.put_off(self.writer.recovered_at_ms + GRACE_MS)
        self._tasks = [asyncio.create_task(self.writer.run()), asyncio.create_task(self._sweep())]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """The writer and the sweep never end by themselves: without one of them the process is of no use."""
        if not task.cancelled() and task.exception() is not None:
            log.error("stock actor broken", shard=self.writer.shard, error=repr(task.exception()))
            self._on_fenced()

    def submit(self, command: stock.StockCommand, ticket: Ticket) -> None:
        if isinstance(command, stock.Inspect):
            ticket = _WithHolds(ticket, self.writer.world)
        self.writer.submit(command, ticket)

    def _note(self, changed: Mapping[Key, Any]) -> None:
        """Durable changes: which holds have a time now."""
        for (kind, identifier), state in changed.items():
            if kind != "hold" or state is None:
                continue
            if state.status == "held":
                self._deadlines.add(state.expires_at_ms, identifier)
            elif state.forgotten_at_ms:
                self._deadlines.add(state.forgotten_at_ms + ledger.TOMBSTONE_MS, identifier)

    async def _sweep(self) -> None:
        ticked_ms = self._clock_ms()
        while True:
            await asyncio.sleep(TICK_S)
            now_ms = self._clock_ms()
            if abs(now_ms - ticked_ms) > JUMP_MS:
                self._deadlines.put_off(now_ms + GRACE_MS)
            ticked_ms = now_ms
            for _ in range(SWEEPS_A_TICK):
                due = self._deadlines.due(now_ms, SWEEP_MOST)
                if not due:
                    break
                self.writer.submit(stock.Sweep(command_id=b"", hold_ids=tuple(due)), Unasked())


class _WithHolds:
    """Adds the first hundred live holds to the answer about a SKU: an operator's question, so it may scan."""

    def __init__(self, ticket: Ticket, world: Any) -> None:
        self._ticket = ticket
        self._world = world

    def reply(self, reply: Any) -> None:
        if isinstance(reply, stock.Levels):
            account = stock.account_of(reply.sku)
            holds = (
                stock.HoldLine(hold.id, hold.legs[account], hold.status == "pinned", hold.expires_at_ms)
                for (kind, _), hold in list(self._world.items())
                if kind == "hold" and hold.live and account in hold.legs
            )
            reply = stock.Levels(
                reply.sku, reply.on_hand, reply.reserved, reply.available, reply.sold, reply.received,
                tuple(itertools.islice(holds, 100)),
            )  # fmt: skip
        self._ticket.reply(reply)

    def later(self) -> None:
        self._ticket.later()
