"""Group commit for anything: while one flush is in flight, the next gathers.

Owns the gathering, not the flush. Promises one flush at a time, items in the order they came, and no delay
when idle: no timer, the first item goes at once. Is told a function that takes a batch and returns one result
an item. Never retries. For callers on one event loop who would otherwise make a statement or a call each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Coalescer(Generic[T, R]):
    """Turns many `submit(item)` into few `flush(items)`."""

    def __init__(self, flush: Callable[[list[T]], Awaitable[Sequence[R]]], max_batch: int) -> None:
        """`flush` returns as many results as it got items, in their order; `max_batch` bounds those."""
        self._flush = flush
        self._max_batch = max_batch
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: asyncio.Task[None] | None = None

    def submit(self, item: T) -> asyncio.Future[R]:
        """The item's result, once its batch is flushed; an error of the flush is everyone's in the batch.

        Cancelling the future takes back neither the item nor the flush.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        try:
            while self._waiting:
                size = min(len(self._waiting), self._max_batch)
                await self._flush_batch([self._waiting.popleft() for _ in range(size)])
        finally:
            self._running = None
            # Only a cancelled task leaves anybody here, and nobody else would answer them.
            while self._waiting:
                self._waiting.popleft()[1].cancel()

    async def _flush_batch(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        futures = [future for _, future in batch]
        try:
            results = await self._flush([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"a flush of {len(batch)} items returned {len(results)} results")
        except Exception as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        else:
            for future, result in zip(futures, results, strict=True):
                if not future.done():
                    future.set_result(result)
