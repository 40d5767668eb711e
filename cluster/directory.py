"""Who owns what: shards and slots, as Postgres has them.

Owns the first assignment of a new installation (slots spread evenly over as many shards as the settings say), and
the name under which the installation is known in Ray. Afterwards the tables rule; a start with other numbers
changes nothing.
"""

from __future__ import annotations

import asyncpg

from actors.routing import SlotTable
from domain.ids import SLOTS

KINDS = ("stock", "cart", "checkout")


async def claim_namespace(pool: asyncpg.Pool) -> str:
    """The Ray namespace of this database's installation, given at its first start. For whoever creates actors."""
    return _namespace_of(await pool.fetchval("SELECT claim_installation()"))


async def namespace(pool: asyncpg.Pool) -> str:
    """The Ray namespace in which this database's actors are to be found."""
    return _namespace_of(await pool.fetchval("SELECT id FROM installation"))


def _namespace_of(installation: str) -> str:
    return f"lastunit-{installation}"


async def ensure_shards(pool: asyncpg.Pool, counts: dict[str, int]) -> None:
    """Assign the slots of kinds that have none yet. Safe to run from several places at once."""
    for kind in KINDS:
        shards = [f"{kind}-{n}" for n in range(counts[kind])]
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE slot IN SHARE ROW EXCLUSIVE MODE")
            if await connection.fetchval("SELECT EXISTS (SELECT 1 FROM slot WHERE kind = $1)", kind):
                continue
            await connection.executemany(
                "INSERT INTO shard (id, kind) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                [(s, kind) for s in shards],
            )
            await connection.executemany(
                "INSERT INTO slot (kind, slot, shard) VALUES ($1, $2, $3)",
                [(kind, slot, shards[slot * len(shards) // SLOTS]) for slot in range(SLOTS)],
            )


async def load_tables(pool: asyncpg.Pool) -> dict[str, SlotTable]:
    """The slot table of each kind."""
    slots = await pool.fetch("SELECT kind, slot, shard FROM slot ORDER BY kind, slot")
    overrides = await pool.fetch("SELECT kind, key, shard FROM slot_override")
    return {
        kind: SlotTable(
            [row["shard"] for row in slots if row["kind"] == kind],
            {row["key"]: row["shard"] for row in overrides if row["kind"] == kind},
        )
        for kind in KINDS
    }
