"""How long writing snapshots keeps a stock actor from everything else, with every SKU to be written at once.

Owns an actor alone in this process with a Postgres of its own, and a clock in the actor's event loop that ticks every
millisecond: what lies between two ticks beyond that is a pause. It is told in wall time and in processor time of the
loop's thread, which other processes of a busy machine cannot lengthen. The same load runs first with snapshots put
off for ever, so that what is theirs can be told from the rest.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import asyncpg
import uvloop

from actors import snapshots
from actors.stock_actor import StockActor
from actors.timers import Unasked
from cluster.actor_classes import clock_ms, open_pool
from cluster.tuning import spare_the_collector
from domain import stock
from domain.catalog import Product
from persistence.audit import audit
from persistence.embedded import EmbeddedPostgres
from persistence.journal import PostgresJournal
from persistence.migrations_runner import migrate

SHARD = "stock-0"
TICK_S = 0.001
SUBMIT_S = 0.005
WIDE_SKUS = 50  # of one hold: few commands make every SKU dirty
GATHERED = 1_000
RIPE_S = snapshots.WAIT_MS / 1000
HOLD_MS = 900_000
NEVER = 10**15


class Pauses(NamedTuple):
    """The longest, in milliseconds of wall time and of the loop's own processor time."""

    wall_ms: float
    cpu_ms: float


def longest_pauses(skus: int, commands_per_s: float, seconds: float) -> dict[str, Any]:
    """With and without snapshots. RuntimeError when the audit finds a violation."""
    with tempfile.TemporaryDirectory(prefix="lastunit-pauses-") as folder, EmbeddedPostgres(Path(folder)) as server:
        return uvloop.run(_measure(server.dsn, [f"SKU-{n:07d}" for n in range(skus)], commands_per_s, seconds))


async def _measure(dsn: str, skus: Sequence[str], commands_per_s: float, seconds: float) -> dict[str, Any]:
    await migrate(dsn)
    pool = await open_pool(dsn, 2)
    await pool.execute("INSERT INTO shard (id, kind) VALUES ($1, 'stock')", SHARD)
    try:
        with patch.multiple(snapshots, WAIT_EVENTS=NEVER, WAIT_MS=NEVER):
            async with _actor(pool) as actor:
                await _fill(actor, skus)
                spare_the_collector()
                without = await _under_load(actor, skus, commands_per_s, seconds)
        async with _actor(pool) as actor:
            await _make_dirty(actor, skus)
            await asyncio.sleep(RIPE_S)
            spare_the_collector()
            found = await _under_load(actor, skus, commands_per_s, seconds)
    finally:
        await pool.close()
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:  # not an owner's: it may take its time
        report = await audit(pool, clock_ms())
    if not report.consistent:
        raise RuntimeError(f"the audit found {report.violations[:5]}")
    return {
        "longest_ms": found._asdict(),
        "longest_without_snapshots_ms": without._asdict(),
        "commands_per_s": commands_per_s,
    }


@asynccontextmanager
async def _actor(pool: asyncpg.Pool) -> AsyncIterator[StockActor]:
    actor = StockActor(SHARD, PostgresJournal(pool), clock_ms)
    await actor.start()
    try:
        yield actor
    finally:
        await actor.stop()


async def _fill(actor: StockActor, skus: Sequence[str]) -> None:
    product = Product("A thing", {"USD": 1999}, 250)
    for some in _chunks(skus, GATHERED):
        await _all(
            actor, [stock.PutProduct(command_id=secrets.token_bytes(16), sku=sku, product=product) for sku in some]
        )
        await _all(actor, [stock.Adjust(command_id=secrets.token_bytes(16), sku=sku, set_to=1000) for sku in some])


async def _make_dirty(actor: StockActor, skus: Sequence[str]) -> None:
    await _all(actor, [command for some in _chunks(skus, WIDE_SKUS) for command in _basket(some)])


async def _under_load(actor: StockActor, skus: Sequence[str], commands_per_s: float, seconds: float) -> Pauses:
    """Baskets of one SKU after the other, at a fixed pace, while the clock ticks."""
    longest = [0.0, 0.0]
    ticking = asyncio.create_task(_tick(longest))
    begun_s, submitted = time.perf_counter(), 0
    while (passed_s := time.perf_counter() - begun_s) < seconds:
        due = int(passed_s * commands_per_s) // 2
        for n in range(submitted, due):
            for command in _basket([skus[n % len(skus)]]):
                actor.submit(command, Unasked())
        submitted = due
        await asyncio.sleep(SUBMIT_S)
    ticking.cancel()
    return Pauses(*(round(pause_s * 1000, 1) for pause_s in longest))


async def _tick(longest: list[float]) -> None:
    while True:
        wall_s, cpu_s = time.perf_counter(), time.thread_time()
        await asyncio.sleep(TICK_S)
        longest[0] = max(longest[0], time.perf_counter() - wall_s - TICK_S)
        longest[1] = max(longest[1], time.thread_time() - cpu_s)


def _basket(skus: Sequence[str]) -> list[stock.StockCommand]:
    """A unit of each taken, and given back."""
    hold_id, now_ms = secrets.token_hex(13), clock_ms()
    wanted = {stock.account_of(sku): 1 for sku in skus}
    take = stock.Take(
        command_id=b"", hold_id=hold_id, revision=1, wanted=wanted, expires_at_ms=now_ms + HOLD_MS, issued_at_ms=now_ms
    )
    return [take, stock.Release(command_id=b"", hold_id=hold_id)]


async def _all(actor: StockActor, commands: Sequence[stock.StockCommand]) -> None:
    """Submit, and wait until all are answered."""
    tickets = [_Ticket() for _ in commands]
    for command, ticket in zip(commands, tickets, strict=True):
        actor.submit(command, ticket)
    await asyncio.gather(*(ticket.answer for ticket in tickets))


class _Ticket:
    """The answer as a future."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def reply(self, reply: Any) -> None:
        self.answer.set_result(reply)

    def later(self) -> None:
        return


def _chunks(skus: Sequence[str], size: int) -> list[Sequence[str]]:
    return [skus[first : first + size] for first in range(0, len(skus), size)]
