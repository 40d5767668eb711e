"""The cart actor: one shard of carts and of the customers' pointers to them.

Owns session state. Has no deadlines: what a cart is after thirty idle minutes is derived from its times when it
is read. Everything it promises is `event_sourced`'s and `domain.cart`'s.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.contracts import Journal, Ticket
from actors.cores import CartCore
from actors.event_sourced import EventSourced
from actors.timers import Tasks
from domain import cart_model


class CartActor:
    """`submit` commands; `start` recovers and runs."""

    def __init__(
        self,
        shard: str,
        journal: Journal,
        clock_ms: Callable[[], int],
        policy: cart_model.CartPolicy,
        *,
        on_fenced: Callable[[], None] = lambda: None,
        max_queue: int = 20_000,
    ) -> None:
        self.writer = EventSourced(shard, CartCore(policy), journal, clock_ms, on_fenced=on_fenced, max_queue=max_queue)
        self._tasks = Tasks(shard, on_fenced)

    async def start(self) -> None:
        await self.writer.recover()
        self._tasks.spawn(self.writer.run())

    async def stop(self) -> None:
        await self._tasks.stop()

    def submit(self, command: cart_model.CartCommand, ticket: Ticket) -> None:
        self.writer.submit(command, ticket)
