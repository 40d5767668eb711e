"""The connections of an actor: one that stands still does not hold its shard for ever."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg
import pytest

from cluster import actor_classes
from cluster.actor_classes import open_pool
from persistence import outages
from persistence.journal import PostgresJournal
from persistence.outages import OUTAGES

SHARD = "stock-0"


async def test_an_owner_that_stands_still_in_a_transaction_blocks_no_heir(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between the bytes that execute and the bytes that commit, it holds the row that its heir needs."""
    heirs = await open_pool(database, 1)
    monkeypatch.setattr(actor_classes, "_OWNER", {"transaction_timeout": "300ms"})
    owners = await open_pool(database, 1)
    async with heirs, owners:
        await heirs.execute("INSERT INTO shard (id, kind) VALUES ($1, 'stock')", SHARD)
        owner = await owners.acquire()
        await owner.execute("BEGIN")
        await owner.fetch("SELECT * FROM take_shard($1)", SHARD)
        lease = await asyncio.wait_for(PostgresJournal(heirs).take(SHARD), 10)
        assert lease.epoch == 1  # what the owner had done is undone
        with pytest.raises(OUTAGES):
            await owner.execute("COMMIT")


async def test_actors_ask_for_it(database: str) -> None:
    async with await open_pool(database, 1) as pool:
        assert await pool.fetchval("SHOW transaction_timeout") == "10s"


async def test_a_server_that_does_not_know_it_serves_all_the_same(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor_classes, "_OWNER", {"a_setting_of_a_later_version": "10s"})
    async with await open_pool(database, 1) as pool:
        assert isinstance(pool, asyncpg.Pool)
        assert await pool.fetchval("SELECT 1") == 1


async def test_a_server_that_takes_the_connection_and_says_nothing_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits for a minute where the next attempt would succeed."""
    monkeypatch.setattr(outages, "CONNECT_S", 0.2)

    left = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        left.set()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent, asyncio.timeout(10):
        with pytest.raises(TimeoutError) as given_up:
            await open_pool(f"postgresql://nobody@127.0.0.1:{port}/nothing", 1)
        await left.wait()
    assert isinstance(given_up.value, OUTAGES)
