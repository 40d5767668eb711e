"""A stock actor of 100,000 SKUs is killed again and again, with a journal of 100,000 events to replay.

Owns a server of its own on a temporary directory (default settings, but two stock shards, so that there is another
actor to be spared), the verdict, and one line of JSON. A run whose audit finds a violation has no figure. Exit code
1: a target was missed, or there is no figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import uvloop

from benchmarks.engine.__main__ import Buyers, settled_audit, stock_up
from benchmarks.engine.own_engine import OwnEngine, own_engine
from benchmarks.engine.processes import cpu_seconds
from benchmarks.flash_sale.measure import percentile
from benchmarks.recovery.orders import Windows, paced
from benchmarks.recovery.pauses import longest_pauses
from benchmarks.recovery.shard import BASKET_SKUS, Recovery, Shard
from cluster import directory
from cluster.tuning import spare_the_collector
from domain import stock

KILLED, SPARED = "stock-0", "stock-1"
SPARED_SKUS = 1_000
UNITS = 1_000_000
SETTLE_S = 0.5  # before each window, for what came before it

RECOVERY_MS = 2_000
RATIO = 0.95
PAUSE_MS = 20.0


async def run(options: argparse.Namespace) -> dict[str, Any]:
    os.environ["LASTUNIT_STOCK_SHARDS"] = "2"
    async with own_engine("recovery") as own, asyncio.timeout(options.limit_s):
        return await measure(own, options)


async def measure(own: OwnEngine, options: argparse.Namespace) -> dict[str, Any]:
    spare_the_collector()
    shard_of = (await directory.load_tables(own.pool))["stock"].shard_of
    killed, spared = skus_of(KILLED, options.skus, shard_of), skus_of(SPARED, SPARED_SKUS, shard_of)
    await stock_up(own.engine, [*killed, *spared], UNITS)
    buyers = Buyers(own.engine, own.keys, own.master, spared, BASKET_SKUS)
    calm, disturbed = Windows(buyers), Windows(buyers)
    shard = Shard(KILLED, killed, own.engine, own.pool)
    recoveries = []
    cores = 0.0
    async with paced(buyers, options.orders_per_s):
        await asyncio.sleep(options.calm_s)
        for _ in range(options.kills):
            pid = await shard.freeze(options.events)
            await asyncio.sleep(SETTLE_S)
            with disturbed.window():
                recoveries.append(await shard.kill(pid))
            await asyncio.sleep(SETTLE_S)
            spent = cpu_seconds(own.server_pid)
            with calm.window():
                await asyncio.sleep(options.calm_s)
            cores += (cpu_seconds(own.server_pid) - spent).total()
    report = await settled_audit(own.engine)
    if not report["consistent"]:
        return {"violations": report["violations"][:5]}
    return {
        "skus": options.skus,
        **recovery_figures(recoveries),
        "others": {
            "ratio": round(disturbed.orders_per_s / calm.orders_per_s, 3),
            "while_recovering": disturbed.figures(),
            "otherwise": calm.figures(),
            "cores_busy": round(cores / calm.seconds, 2),
            "refused": buyers.refused,
        },
        "audit": report["checked"],
    }


def skus_of(shard: str, count: int, shard_of: Callable[[str], str]) -> list[str]:
    """So many SKUs that the shard owns."""
    found: list[str] = []
    n = 0
    while len(found) < count:
        sku = f"SKU-{n:07d}"
        if shard_of(stock.account_of(sku)) == shard:
            found.append(sku)
        n += 1
    return found


def recovery_figures(recoveries: Sequence[Recovery]) -> dict[str, Any]:
    """Milliseconds from the kill to the first answer, and how they are made up."""

    def figures(values_s: Iterable[float]) -> dict[str, int]:
        ordered = sorted(round(value_s * 1000) for value_s in values_s)
        return {"p50": percentile(ordered, 50), "p99": percentile(ordered, 99), "longest": ordered[-1]}

    events = [recovery.events for recovery in recoveries]
    return {
        "kills": len(recoveries),
        "recovery_ms": figures(recovery.total_s for recovery in recoveries),
        "until_the_shard_is_taken_ms": figures(recovery.restart_s for recovery in recoveries),
        "from_there_to_the_answer_ms": figures(recovery.replay_s for recovery in recoveries),
        "events_replayed": {"least": min(events), "most": max(events)},
        "journal": "topped up by records written in the stopped owner's stead",
    }


def missed(result: dict[str, Any]) -> list[str]:
    """The targets that the result does not meet."""
    met = {
        f"recovery p99 within {RECOVERY_MS} ms": result["recovery_ms"]["p99"] <= RECOVERY_MS,
        f"throughput of the others at least {RATIO:g} of normal": result["others"]["ratio"] >= RATIO,
        f"no pause beyond {PAUSE_MS:g} ms": result["pauses"]["longest_ms"]["cpu_ms"] <= PAUSE_MS,
    }
    return [target for target, is_met in met.items() if not is_met]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--skus", type=int, default=100_000, help="of the shard that is killed")
    parser.add_argument("--events", type=int, default=100_000, help="in the journal at each kill")
    parser.add_argument("--orders-per-s", type=float, default=300, help="begun meanwhile on the other stock shard")
    parser.add_argument("--calm-s", type=float, default=2.0, help="between two kills, for comparison")
    parser.add_argument("--commands-per-s", type=float, default=6_000, help="to the actor whose pauses are measured")
    parser.add_argument("--pauses-s", type=float, default=20.0, help="how long its load lasts")
    parser.add_argument("--limit-s", type=float, default=900.0, help="give up after so long")
    options = parser.parse_args()
    pauses = longest_pauses(options.skus, options.commands_per_s, options.pauses_s)
    result = uvloop.run(run(options))
    if "violations" not in result:
        result["pauses"] = pauses
        result["missed"] = missed(result)
    print(json.dumps(result))
    return 1 if result.get("missed", True) else 0


if __name__ == "__main__":
    sys.exit(main())
