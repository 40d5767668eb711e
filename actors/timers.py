"""What an actor does unasked: tasks that last as long as its process, and looking at what is due.

Owns an actor's tasks and its deadlines. Promises that a task which breaks is not outlived by its process, and that
what is due is handed over late rather than early: after a recovery or a jump of the clock there is a minute of
grace, for a buyer could not reach us meanwhile. Does not know what its identifiers name, or whether they are still
meant: the actor that owns it finds out when they are due.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger()

TICK_S = 0.25
GRACE_MS = 60_000
JUMP_MS = 5_000  # a tick that comes this late means a paused process or a moved clock


class Tasks:
    """Tasks none of which ends by itself: without one of them the process is of no use, and ``leave`` is called."""

    def __init__(self, shard: str, leave: Callable[[], None]) -> None:
        self._shard = shard
        self._leave = leave
        self._tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._ended)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("actor broken", shard=self._shard, error=repr(task.exception()))
            self._leave()


class Deadlines:
    """Identifiers, each with its time. ``run`` hands over those that are due, at most ``most`` a tick.

    ``on_due`` is called with them, earliest first, and with the time in milliseconds; never without any.
    """

    def __init__(self, clock_ms: Callable[[], int], on_due: Callable[[list[str], int], None], most: int) -> None:
        self._clock_ms = clock_ms
        self._on_due = on_due
        self._most = most
        self._heap: list[tuple[int, int, str]] = []
        self._order = itertools.count()

    def add(self, at_ms: int, identifier: str) -> None:
        heapq.heappush(self._heap, (at_ms, next(self._order), identifier))

    def give_grace(self, since_ms: int) -> None:
        """Nothing that is known now is due before `GRACE_MS` from then."""
        until_ms = since_ms + GRACE_MS
        self._heap = [(max(at_ms, until_ms), n, identifier) for at_ms, n, identifier in self._heap]
        heapq.heapify(self._heap)

    async def run(self) -> None:
        """Tick until cancelled."""
        ticked_ms = self._clock_ms()
        while True:
            await asyncio.sleep(TICK_S)
            now_ms = self._clock_ms()
            if abs(now_ms - ticked_ms) > JUMP_MS:
                self.give_grace(now_ms)
            ticked_ms = now_ms
            due = self._take_due(now_ms)
            if due:
                self._on_due(due, now_ms)

    def _take_due(self, now_ms: int) -> list[str]:
        found: list[str] = []
        while self._heap and self._heap[0][0] <= now_ms and len(found) < self._most:
            found.append(heapq.heappop(self._heap)[2])
        return found


class Unasked:
    """The ticket of a command that nobody waits for."""

    def reply(self, reply: Any) -> None:
        return

    def later(self) -> None:
        return
