"""`python -m tests.chaos --minutes 30`: a real `lastunit up` under real buyers, while its processes die and hang.

Owns the run: products, buyers, one fault after another, the final reads, the verdict and the report. Exit 0 for
"pass", 1 for "fail", 2 for "unknown". Kinds of fault come in shuffled rounds, so that each comes equally often; the
next one waits until somebody has bought again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psutil
from msgspec.structs import replace

from tests.chaos import availability
from tests.chaos.availability import Fault, Service, by_fault
from tests.chaos.buyers import Crowd
from tests.chaos.checker import Entry, Level, Order, Reads, Verdict, check
from tests.support.client import Client
from tests.support.server import Server, eventually

AT_ONCE = 8
UNITS, BUYERS = 100, 130  # of one SKU
SKUS_PER_MINUTE = 15  # twice as many as the buyers empty, for each waits a little between two purchases
QUIET_S = (2.0, 6.0)  # between somebody's purchase and the next fault
SHORT_S, LONG_S = (1.0, 5.0), (22.0, 30.0)  # of a pause: nobody minds, or supervision acts
SERVES_AGAIN_S = 120.0

Victim = Callable[[Server], psutil.Process]
Rounds = Iterator[tuple[str, str, tuple[float, float] | None]]


def _process(server: Server, part: str) -> psutil.Process:
    """The one whose command line has that part, such as `raylet/raylet`."""
    for process in server.processes():
        with contextlib.suppress(psutil.Error):
            if part in (process.cmdline() or [""])[0]:
                return process
    raise psutil.NoSuchProcess(0, part)


VICTIMS: dict[str, Victim] = {
    "stock actor": lambda server: server.actor("StockActor"),
    "cart actor": lambda server: server.actor("CartActor"),
    "coordinator": lambda server: server.actor("CheckoutCoordinator"),
    "sandbox gateway": lambda server: server.actor("SandboxGateway"),
    "API worker": lambda server: server.api_worker(),
    "Postgres": lambda server: server.postmaster(),
    "raylet": lambda server: _process(server, "raylet/raylet"),
    "control store": lambda server: _process(server, "gcs_server"),
}
HANGS = ("stock actor", "cart actor", "coordinator")  # whose silence supervision ends


def kinds() -> list[tuple[str, str, tuple[float, float] | None]]:
    """(what it is called, whom it hits, how long a pause lasts or None for a kill)"""
    killed: list[Any] = [(f"{name}: SIGKILL", name, None) for name in VICTIMS]
    paused: list[Any] = [(f"{name}: SIGSTOP, short", name, SHORT_S) for name in VICTIMS]
    hung: list[Any] = [(f"{name}: SIGSTOP, long", name, LONG_S) for name in HANGS]
    return killed + paused + hung


def rounds(random: Random, spared: Collection[str]) -> Rounds:
    while True:
        found = [kind for kind in kinds() if kind[1] not in spared]
        random.shuffle(found)
        yield from found


async def disturb(
    server: Server, crowd: Crowd, plan: Rounds, random: Random, until_s: float, faults: list[Fault]
) -> None:
    """One fault after another until the time is over."""
    for kind, name, pause in plan:
        # First some quiet: whoever was nearly served when the fault came is no sign that others are.
        await asyncio.sleep(random.uniform(*QUIET_S))
        await bought_again(crowd)
        if time.monotonic() > until_s:
            return
        victim = await found(server, name)
        faults.append(Fault(kind, time.monotonic()))
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {kind}\n")
        with contextlib.suppress(psutil.NoSuchProcess):
            if pause is None:
                victim.kill()
            else:
                victim.suspend()
                await asyncio.sleep(random.uniform(*pause))
                victim.resume()


async def found(server: Server, name: str) -> psutil.Process:
    """The present process of that name; a new one may be on its way, or all of Ray."""
    end_s = time.monotonic() + SERVES_AGAIN_S
    while True:
        try:
            return await asyncio.to_thread(VICTIMS[name], server)
        except (AssertionError, OSError, psutil.Error):
            if time.monotonic() > end_s:
                raise


async def bought_again(crowd: Crowd) -> None:
    mark = crowd.sold + 3

    async def moved() -> bool:
        assert not crowd.sold_out, "everything is sold out before the end of the run"
        return crowd.sold >= mark

    await eventually(moved, "three more sold", SERVES_AGAIN_S)


# ── the final reads ─────────────────────────────────────────────────────────────────────────────────────


def read(client: Client, skus: list[str]) -> Reads:
    """All that can be read; None for what cannot."""

    def tried(question: Callable[[], Any]) -> Any:
        try:
            return question()
        except (httpx.HTTPError, AssertionError, KeyError) as error:
            sys.stderr.write(f"not read: {error!r}\n")
            return None

    return Reads(
        tried(lambda: [order(found) for found in client.pages("/v1/ops/orders")]),
        tried(lambda: [entry(found) for found in client.ledger() if found["status"] == "succeeded"]),
        {sku: tried(partial(stock_level, client, sku)) for sku in skus},
        tried(lambda: [str(named) for named in client.ops("GET", "/v1/ops/audit")["violations"]]),
    )


def order(found: dict[str, Any]) -> Order:
    total = next(entry["amount"] for entry in found["totals"] if entry["type"] == "total")
    units = {line["sku"]: line["quantity"] for line in found["line_items"]}
    return Order(found["id"], found["checkout_id"], found["status"], total, units)


def entry(found: dict[str, Any]) -> Entry:
    kind: Any = "authorize" if found["type"] == "authorization" else found["type"]
    return Entry(kind, found["checkout_id"], found["payment_id"], found["amount"])


def stock_level(client: Client, sku: str) -> Level:
    found = client.stock(sku)
    return Level(*(found[name] for name in Level.__struct_fields__))


async def run(
    minutes: float, seed: int, spared: Collection[str], folder: Path
) -> tuple[Verdict, Crowd, dict[str, Service]]:
    with Server(folder / "data", sandbox_latency_ms="20-200") as server:
        client = Client(server)
        skus = [client.product(UNITS) for _ in range(max(2, round(minutes * SKUS_PER_MINUTE)))]
        crowd = Crowd(server.url, skus, BUYERS)
        faults: list[Fault] = []
        coming = asyncio.create_task(crowd.run(AT_ONCE))
        unfinished: tuple[str, ...] = ()
        try:
            random = Random(seed)
            plan = rounds(random, spared)
            await disturb(server, crowd, plan, random, time.monotonic() + minutes * 60, faults)
        except (AssertionError, psutil.Error) as error:
            unfinished = (f"ended early after {len(faults)} faults: {error}",)
        crowd.closing.set()
        await coming
        disturbed = list(crowd.answers)
        await crowd.ask_all(AT_ONCE)
        reads = await asyncio.to_thread(read, client, skus)
        client.close()
    verdict = check(crowd.buyers, reads)
    return replace(verdict, unknown=(*verdict.unknown, *unfinished)), crowd, by_fault(faults, disturbed)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.chaos")
    arguments.add_argument("--minutes", type=float, default=5.0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--spare", action="append", default=[], choices=VICTIMS, help="whom nothing happens to")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        verdict, crowd, served = asyncio.run(run(given.minutes, given.seed, given.spare, Path(folder)))
    say = sys.stdout.write
    say("\n".join(availability.lines(served)) + "\n")
    disturbed = sum(service.faults for service in served.values())
    say(f"{len(crowd.histories)} buyers, {crowd.sold} sold, {len(crowd.answers)} requests, {disturbed} faults\n")
    for named in (*verdict.violations, *verdict.unknown):
        say(f"  {named}\n")
    say(f"seed {given.seed}: {verdict.outcome}\n")
    return {"pass": 0, "fail": 1, "unknown": 2}[verdict.outcome]


if __name__ == "__main__":
    sys.exit(main())
