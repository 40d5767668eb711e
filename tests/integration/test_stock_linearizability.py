"""Stock as its clients see it, on real Postgres, while its actors die and overlap: is it one shelf after another?

Per SKU, every hold, release, confirmation, delivery and fenced read of many concurrent clients is held against the
sequential model. STOCK_SEEDS says how many histories are recorded (or a range, such as 100-200).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import asyncpg
import pytest

from cluster import directory
from tests.support.engine_harness import until
from tests.support.linearizability import UNANSWERED, Operation, check
from tests.support.shelf import Read, Receive, Shelf, apply
from tests.support.stock_clients import Client, Record, StockShard

SKUS = ["a", "b"]
UNITS = 12
BUYERS = 10
WATCHERS = 2
ROUNDS = 24
TROUBLES = 8


def seeds(text: str) -> range:
    """ "4" are the first four, "100-200" those from 100 up to 200."""
    first, _, end = text.rpartition("-")
    return range(int(first or 0), int(end))


SEEDS = seeds(os.environ.get("STOCK_SEEDS", "4"))


async def recorded(dsn: str, seed: int) -> tuple[Record, StockShard]:
    """What all clients heard, to the last read after everything."""
    chance = random.Random(seed)
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        await directory.ensure_shards(pool, {"stock": 1, "cart": 1, "checkout": 1})
    shard, record = StockShard(dsn), Record()
    await shard.start()
    buyers = [Client(f"b{n}", shard, record, random.Random(f"{seed} b{n}")) for n in range(BUYERS)]
    watchers = [Client(f"w{n}", shard, record, random.Random(f"{seed} w{n}")) for n in range(WATCHERS)]
    try:
        for sku in SKUS:
            await buyers[0].stocks(sku)
            await buyers[0].ask(sku, Receive(UNITS))
        looking = [asyncio.create_task(watcher.looks(SKUS)) for watcher in watchers]
        buying = [asyncio.create_task(buyer.buys(SKUS, ROUNDS)) for buyer in buyers]
        for _ in range(TROUBLES):
            mark = record.ended + chance.randrange(20, 60)
            await until(lambda mark=mark: record.ended >= mark or all(task.done() for task in buying))  # type: ignore[misc]
            await trouble(shard, buyers, chance)
        await asyncio.gather(*buying)
        for task in looking:
            task.cancel()
        for sku in SKUS:
            buyers[0].line.look_up()
            await buyers[0].ask(sku, Read())
    finally:
        for client in (*buyers, *watchers):
            await client.close()
        await shard.close()
    return record, shard


async def trouble(shard: StockShard, buyers: list[Client], chance: random.Random) -> None:
    """A crash; or an heir while the old one lives, of which all buyers hear before they go on, or some, or none.

    Watchers never hear of an heir before the old one is gone.
    """
    kind = chance.choice(("crash", "all hear", "all hear", "some hear", "none hears"))
    if kind == "crash":
        await shard.crash()
        return
    told = {"all hear": buyers, "some hear": buyers[::2], "none hears": []}[kind]
    if kind == "all hear":
        for buyer in told:
            buyer.line.pause()
        await until(lambda: not any(buyer.line.calls for buyer in told))
    await shard.start()
    for buyer in told:
        buyer.line.look_up()


def verdict_of(history: list[Operation]) -> str:
    """The verdict, with what does not fit."""
    verdict = check(history, Shelf(), apply)
    return verdict.kind if verdict.kind == "linearizable" else str(verdict)


@pytest.mark.parametrize("seed", SEEDS)
async def test_stock_is_linearizable_while_its_actors_die_and_overlap(database: str, seed: int) -> None:
    """Nobody hears anything that one shelf, asked by one client after another, could not have said."""
    record, shard = await recorded(database, seed)
    assert {sku: verdict_of(record.operations[sku]) for sku in SKUS} == dict.fromkeys(SKUS, "linearizable")
    for sku in SKUS:
        last = max(record.operations[sku], key=lambda op: op.invoked)
        assert last.call == Read()
        assert last.result is not UNANSWERED
        doctored = [op._replace(result=(*op.result[:3], op.result[3] + 1)) if op is last else op
                    for op in record.operations[sku]]  # fmt: skip
        assert check(doctored, Shelf(), apply).kind == "violated"
    met = record.kinds + Counter(fenced=shard.fenced)
    assert met.keys() >= {"Hold", "Hold refused", "Pin", "Confirm", "Release", "Receive", "Read", "fenced"}, met
