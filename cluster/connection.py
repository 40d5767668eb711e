"""How a process becomes a caller of the engine: a Ray driver with an explicit address, and its mailboxes."""

from __future__ import annotations

import asyncio

import asyncpg
import ray

from cluster import directory, transport
from cluster.engine import RayEngine


async def connect(ray_address: str, pool: asyncpg.Pool) -> RayEngine:
    """An engine over the actors of the cluster at this address."""
    await asyncio.to_thread(
        ray.init,
        address=ray_address,  # without one every worker would start a cluster of its own
        namespace=transport.NAMESPACE,
        log_to_driver=False,
        configure_logging=False,
        ignore_reinit_error=True,
    )
    tables = await directory.load_tables(pool)
    return RayEngine(transport.routers(tables), transport.sandbox_mailbox(), pool)
