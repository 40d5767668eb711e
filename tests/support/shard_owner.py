"""A shard's owner on a real Postgres: the real writer around a small core, which tests cut off, overtake and revive.

Owns one incarnation: a writer and its task. What it stands for is a process; `end` is its death. The boxes of
`tests.unit.toy_shard` are its states: what was added to them tells what was applied, and how often.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

import asyncpg

from actors.event_sourced import EventSourced
from persistence.journal import PostgresJournal
from tests.unit.toy_shard import SHARD, Add, Asked, Clock, Toy, ToyCore, new_id


async def make_shard(pool: asyncpg.Pool) -> None:
    """The row without which nobody can take the shard."""
    await pool.execute("INSERT INTO shard (id, kind) VALUES ($1, 'toy')", SHARD)


class ShardOwner:
    """One incarnation. ``left`` is set when it was fenced, or broke; ``ended`` when its process is gone."""

    def __init__(self, journal: PostgresJournal) -> None:
        self.left = asyncio.Event()
        self.ended = False
        self.writer = EventSourced(SHARD, ToyCore(), journal, Clock(), on_fenced=self.left.set)
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> Self:
        """Take the shard over and run. `Fenced` if somebody else did meanwhile."""
        await self.writer.recover()
        self._running = asyncio.create_task(self.writer.run())
        return self

    async def end(self) -> None:
        """What it has sent may arrive, nothing else will."""
        self.ended = True
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def submit(self, command: Toy) -> Asked:
        asked = Asked()
        self.writer.submit(command, asked)
        return asked

    def add(self, name: str, n: int = 1) -> Asked:
        return self.submit(Add(command_id=new_id(), name=name, n=n))

    def ask(self, kind: type[Toy], name: str, **more: Any) -> Asked:
        return self.submit(kind(command_id=new_id(), name=name, **more))

    def totals(self) -> dict[str, int]:
        return {name: box.total for (_, name), box in self.writer.world.items()}
