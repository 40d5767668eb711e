"""A benchmark's engine: a server of its own on a temporary directory, spoken to as an API worker speaks to it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg

from benchmarks.flash_sale.own_server import own_server
from cluster import connection
from cluster.engine import RayEngine
from persistence.key_ring import KeyRing
from persistence.sealing import MasterKey


class OwnEngine(NamedTuple):
    """``server_pid``: of the process above all others that serve."""

    engine: RayEngine
    pool: asyncpg.Pool
    master: MasterKey
    keys: KeyRing
    server_pid: int


@asynccontextmanager
async def own_engine(name: str) -> AsyncIterator[OwnEngine]:
    """Yields once it serves; nothing of it is left at the end."""
    with tempfile.TemporaryDirectory(prefix=f"lastunit-{name}-") as folder, own_server(Path(folder)) as server:
        instance = json.loads((Path(folder) / "instance.json").read_text())
        pool = await asyncpg.create_pool(instance["postgres_dsn"], min_size=1, max_size=4)
        engine = await connection.connect(instance["ray_address"], pool)
        try:
            master = MasterKey.load_or_create(Path(folder) / "master.key")
            yield OwnEngine(engine, pool, master, KeyRing(pool, master), server.process.pid)
        finally:
            await engine.close()
            await pool.close()
