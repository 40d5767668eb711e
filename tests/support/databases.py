"""Databases made for a test on the session's server, and dropped after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg


def dsn_of(server_dsn: str, name: str) -> str:
    """The DSN of another database on the same server."""
    return f"{server_dsn.rpartition('/')[0]}/{name}"


async def execute(dsn: str, statement: str) -> None:
    """Run one statement on a connection of its own."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def copied(server_dsn: str, template: str) -> AsyncIterator[str]:
    """The name of a fresh copy of a database, which goes with whoever is still connected to it."""
    name = f"copy_{uuid4().hex}"
    await execute(server_dsn, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield name
    finally:
        await execute(server_dsn, f"DROP DATABASE {name} WITH (FORCE)")
