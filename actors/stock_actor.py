"""The stock actor: one shard of SKUs, its holds, and the sweep that returns what has expired.

Owns the deadlines of its holds. Promises that stock returns late rather than early (`actors.timers`), and that a
mass expiry delays nobody for long.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from actors.contracts import Journal, Ticket
from actors.cores import StockCore
from actors.event_sourced import EventSourced
from actors.timers import Deadlines, Tasks, Unasked
from domain import ledger, stock
from domain.messages import Key

SWEEP_MOST = 500  # holds a command
SWEEPS_A_TICK = 20  # so that a mass expiry delays nobody for long, and yet 10,000 holds are back in a second


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
        self._deadlines = Deadlines(clock_ms, self._sweep, SWEEP_MOST * SWEEPS_A_TICK)
        self._tasks = Tasks(shard, on_fenced)

    async def start(self) -> None:
        await self.writer.recover()
        self._deadlines.give_grace(self.writer.recovered_at_ms)
        self._tasks.spawn(self.writer.run())
        self._tasks.spawn(self._deadlines.run())

    async def stop(self) -> None:
        await self._tasks.stop()

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

    def _sweep(self, due: list[str], now_ms: int) -> None:
        for first in range(0, len(due), SWEEP_MOST):
            hold_ids = tuple(due[first : first + SWEEP_MOST])
            self.writer.submit(stock.Sweep(command_id=b"", hold_ids=hold_ids), Unasked())


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
