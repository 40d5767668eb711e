"""The sandbox gateway's book in Postgres.

Owns the calls of the SQL functions of migrations 0002 and 0008 and the one row of 0005: no rule of the gateway is here.
Promises that an append is written by one autocommit statement, whose constraints arbitrate between instances.
Told a pool; never holds a connection between calls. The composition root hands it to the sandbox.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any

import asyncpg

from domain.payments import BookEntry
from persistence.columns import Unwritable, numbers, texts, texts_or_none
from persistence.outages import OUTAGES

_RECALL = "SELECT * FROM sandbox_recall($1, $2)"
_FACT = "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14"
_ADD = f"SELECT sandbox_add({_FACT})"
_APPEND = f"SELECT sandbox_append({_FACT})"
_PAGE = "SELECT * FROM sandbox_page($1, $2)"

_KEPT_SETTINGS = "SELECT mode, latency_ms FROM sandbox_settings WHERE run = $1"
_KEEP_SETTINGS = """
    INSERT INTO sandbox_settings (run, mode, latency_ms) VALUES ($1, $2, $3)
    ON CONFLICT ON CONSTRAINT sandbox_settings_pkey
    DO UPDATE SET run = excluded.run, mode = excluded.mode, latency_ms = excluded.latency_ms
"""

# How the columns go to `sandbox_add`, in the order of `BookEntry`.
_FORMS: tuple[Callable[[Sequence[Any]], Any], ...] = (
    texts, numbers, texts, texts, texts, texts, texts_or_none,
    texts, numbers, texts, texts, texts_or_none, list, numbers,
)  # fmt: skip

_row_of = attrgetter(*(field for field in BookEntry.__struct_fields__ if field != "seq"))


class SandboxBook:
    """`Book` and `SettingsBook` of `gateways.sandbox_book` on a pool. ConnectionError when Postgres cannot serve.

    ``run`` is whatever the settings are kept for: those of another run are not found.
    """

    def __init__(self, pool: asyncpg.Pool, run: str = "") -> None:
        self._pool = pool
        self._run = run

    async def recall(self, payment_ids: Sequence[str], keys: Sequence[str]) -> list[BookEntry]:
        async with self._connection() as connection:
            rows = await connection.fetch(_RECALL, payment_ids, keys)
        return [BookEntry(*row) for row in rows]

    async def append(self, entries: Sequence[BookEntry]) -> Collection[str]:
        # In one order everywhere, so that two instances with the same payments wait for each other in line.
        columns = list(zip(*sorted(map(_row_of, entries)), strict=True))
        async with self._connection() as connection:
            try:
                await connection.execute(_ADD, *(form(column) for form, column in zip(_FORMS, columns, strict=True)))
            except (asyncpg.UniqueViolationError, Unwritable):
                return {row[0] for row in await connection.fetch(_APPEND, *columns)}
        return {entry.payment_id for entry in entries}

    async def entries(self, after: int, limit: int) -> list[BookEntry]:
        async with self._connection() as connection:
            rows = await connection.fetch(_PAGE, after, limit)
        return [BookEntry(*row) for row in rows]

    async def kept_settings(self) -> tuple[str, str] | None:
        async with self._connection() as connection:
            row = await connection.fetchrow(_KEPT_SETTINGS, self._run)
        return None if row is None else (row["mode"], row["latency_ms"])

    async def keep_settings(self, mode: str, latency_ms: str) -> None:
        async with self._connection() as connection:
            await connection.execute(_KEEP_SETTINGS, self._run, mode, latency_ms)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except OUTAGES as error:
            if isinstance(error, ValueError):  # an InterfaceError too: an argument that cannot be encoded
                raise
            raise ConnectionError(str(error)) from error
