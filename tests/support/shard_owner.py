"""The toy shard's owner on a real Postgres, which tests cut off, overtake and revive."""

from __future__ import annotations

import asyncpg

from persistence.journal import PostgresJournal
from tests.unit.toy_shard import SHARD, Incarnation


async def make_shard(pool: asyncpg.Pool) -> None:
    """The row without which nobody can take the shard."""
    await pool.execute("INSERT INTO shard (id, kind) VALUES ($1, 'toy')", SHARD)


class ShardOwner(Incarnation):
    """What was added to its boxes tells what was applied, and how often."""

    def __init__(self, journal: PostgresJournal) -> None:
        super().__init__(journal)

    def totals(self) -> dict[str, int]:
        return {name: box.total for (_, name), box in self.writer.world.items()}
