"""How a process becomes a caller of the engine: a Ray driver with an explicit address, and its mailboxes."""

from __future__ import annotations

import asyncio
import signal

import asyncpg
import ray

from cluster import directory, transport
from cluster.engine import RayEngine


async def connect(ray_address: str, pool: asyncpg.Pool) -> RayEngine:
    """An engine over the actors that this database's installation has in the cluster at this address.

    To be called in the main thread, whose signal handlers it leaves as they are.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    await asyncio.to_thread(
        ray.init,
        address=ray_address,  # without one every worker would start a cluster of its own
        log_to_driver=False,
        configure_logging=False,
        ignore_reinit_error=True,
    )
    for number, handler in handlers.items():
        signal.signal(number, handler)  # Ray's own would print a stack trace at every orderly stop
    tables = await directory.load_tables(pool)
    namespace = await directory.namespace(pool)
    return RayEngine(
        transport.routers(tables, namespace), transport.sandbox_mailbox(namespace), pool, namespace=namespace
    )
