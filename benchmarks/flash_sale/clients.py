"""Sends the buyers: from this process, or from several when one cannot keep the server busy.

Promises that all processes start together and that their answers come back as one recorder's.
A share of the buyers is picklable; a child process gets nothing else. Called by the run.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Barrier

import uvloop

from benchmarks.flash_sale.buyers import Letters
from benchmarks.flash_sale.config import Basket, Journey, Plan, SaleConfig, Stage
from benchmarks.flash_sale.journeys import Buyers
from benchmarks.flash_sale.measure import Recorder, merged
from benchmarks.flash_sale.progress import live_progress

_TICK_S = 0.2
_STARTUP_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Share:
    """The buyers of one process, by number, and what they need to know."""

    index: int
    url: str
    run: str
    journey: Journey
    shipping_option: str | None
    buyers: list[tuple[int, Basket]]
    connections: int
    patience_s: float


async def sell(config: SaleConfig, plan: Plan, stage: Stage) -> Recorder:
    """Take every buyer of the plan through their journey; returns what they saw."""
    shares = _shares(config, plan, stage)
    if len(shares) == 1:
        recorder = Recorder(time.monotonic())
        async with live_progress(len(plan.baskets), recorder.counts, config.show_progress):
            await _play(shares[0], recorder)
        return recorder
    return await _sell_in_processes(config, plan, shares)


def _shares(config: SaleConfig, plan: Plan, stage: Stage) -> list[Share]:
    """The buyers dealt out like cards, so that each process has early and late ones."""
    numbered = list(enumerate(plan.baskets, 1))
    count = min(config.client_processes, config.concurrency, len(numbered))
    per_process, rest = divmod(config.concurrency, count)
    return [
        Share(
            n,
            config.url,
            plan.run,
            config.journey,
            stage.shipping_option,
            numbered[n::count],
            per_process + (n < rest),
            config.patience_s,
        )
        for n in range(count)
    ]


async def _play(share: Share, recorder: Recorder) -> None:
    _allow_connections(share.connections)
    queue = iter(share.buyers)
    async with Buyers(
        share.url,
        Letters(share.run, share.shipping_option),
        recorder,
        run=share.run,
        connections=share.connections,
        patience_s=share.patience_s,
    ) as buyers:

        async def till() -> None:
            for number, basket in queue:
                await buyers.buy(share.journey, number, basket)

        async with asyncio.TaskGroup() as tills:
            for _ in range(min(share.connections, len(share.buyers))):
                tills.create_task(till())


async def _sell_in_processes(config: SaleConfig, plan: Plan, shares: list[Share]) -> Recorder:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(len(shares))
    tally = context.Array("Q", 3 * len(shares))

    def counts() -> tuple[int, int, int]:
        return sum(tally[0::3]), sum(tally[1::3]), sum(tally[2::3])

    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(len(shares), context, _enter_child, (gate, tally)) as pool:
        async with live_progress(len(plan.baskets), counts, config.show_progress):
            parts = await asyncio.gather(*(loop.run_in_executor(pool, _play_in_child, share) for share in shares))
    return merged(parts)


_shared: tuple[Barrier, SynchronizedArray[int]] | None = None


def _enter_child(gate: Barrier, tally: SynchronizedArray[int]) -> None:
    global _shared
    _shared = gate, tally


def _play_in_child(share: Share) -> Recorder:
    assert _shared is not None
    gate, tally = _shared
    gate.wait(_STARTUP_LIMIT_S)
    recorder = Recorder(time.monotonic())

    async def tell() -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            tally[3 * share.index : 3 * share.index + 3] = recorder.counts()

    async def play() -> None:
        teller = asyncio.create_task(tell())
        try:
            await _play(share, recorder)
        finally:
            teller.cancel()
            with suppress(asyncio.CancelledError):
                await teller

    uvloop.run(play())
    return recorder


def _allow_connections(count: int) -> None:
    """Raise this process's limit of open files where the connections would not fit into it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
