"""One actor as a process would hold it: its own connections, its own mailboxes, and a way to die.

Owns what dies with a process. Promises that after `kill` nothing of the old incarnation acts any more: its
tasks are cancelled, its connections are cut, whoever waits for it hears `Unreachable`, as if Ray had said so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import asyncpg

from actors.mailbox import Unreachable
from actors.post_office import PostOffice

Stop = Callable[[], Awaitable[None]]
Build = Callable[[asyncpg.Pool], Awaitable[tuple[Any, PostOffice, Stop]]]


class Node:
    """Builds its actor with `start`, again and again."""

    def __init__(self, name: str, dsn: str, build: Build) -> None:
        self.name = name
        self.actor: Any = None
        self._dsn = dsn
        self._build = build
        self._office: PostOffice | None = None
        self._stop: Stop | None = None
        self._pool: asyncpg.Pool | None = None
        self._calls: set[asyncio.Task[bytes]] = set()

    @property
    def alive(self) -> bool:
        return self._office is not None

    async def start(self) -> None:
        self._pool = await asyncpg.create_pool(self._dsn, min_size=1, max_size=3, command_timeout=60)
        self.actor, self._office, self._stop = await self._build(self._pool)

    async def kill(self) -> None:
        """End at once, whatever is under way; a statement on its way to Postgres may or may not arrive."""
        if self._stop is None or self._pool is None:
            return
        self._office = None
        self._pool.terminate()
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._stop()
        self._stop = None

    # ── as a transport ──────────────────────────────────────────────────────────────────────────────────

    async def deliver(self, client: str, blob: bytes) -> bytes:
        return await self._call(lambda office: office.deliver(client, blob))

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        return await self._call(lambda office: office.drain(client, incarnation, acknowledged, wait_s))

    async def _call(self, work: Callable[[PostOffice], Coroutine[Any, Any, bytes]]) -> bytes:
        office = self._office
        if office is None:
            raise Unreachable(f"{self.name} is dead")
        call = asyncio.get_running_loop().create_task(work(office))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            return await call
        except asyncio.CancelledError:
            if self._office is office:
                call.cancel()
                raise
            raise Unreachable(f"{self.name} died") from None
