"""Migrations: numbered SQL files, each applied once, in order, in a transaction of its own.

Owns the table ``migration``. Promises that two starts at once apply each file once (an advisory lock), and
that a file that was changed after it was applied is refused by name.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

import asyncpg

_LOCK = 0x1A57_0417  # any number that nothing else in this database locks


class MigrationChanged(Exception):
    """An applied migration differs from its file."""


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing; the names of what was applied."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        return await _apply_missing(connection)
    finally:
        await connection.close()


async def _apply_missing(connection: asyncpg.Connection) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migration"
        " (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    known = {row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM migration")}
    applied = []
    folder = files("persistence") / "migrations"
    for file in sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name):
        text = file.read_text()
        digest = sha256(text.encode()).hexdigest()
        if file.name in known:
            if known[file.name] != digest:
                raise MigrationChanged(f"{file.name} was changed after it was applied; add a new migration instead")
            continue
        async with connection.transaction():
            await connection.execute(text)
            await connection.execute("INSERT INTO migration (name, sha256) VALUES ($1, $2)", file.name, digest)
        applied.append(file.name)
    return applied
