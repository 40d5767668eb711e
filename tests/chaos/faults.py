"""The kinds of fault of a run of chaos: what each does to a shop, from its begin to its end.

Owns the table of lanes and kinds. Promises that what a fault stops goes on when it ends, however it ends. A kill ends
when what was killed has an heir. Called by the runner only.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping
from random import Random

import asyncpg
import msgspec
import psutil

from tests.chaos.schedule import Group
from tests.chaos.shop import ACTORS, PARTS, Shop
from tests.support.tcp_proxy import Statement, Way

SHORT_S, LONG_S = (1.0, 5.0), (22.0, 30.0)  # of a pause: nobody minds, or supervision acts
FULL_S = (2.0, 6.0)
AWRY_S = (2.0, 6.0)  # of clocks
JUMP_MS = (1_000, 600_000)
STALL_S, ENDLESS_STALL_S, ENDLESS_EVERY = (1.0, 5.0), 62.0, 10  # the actors' own time-outs are 60 s
LOST_AT_ONCE, LOST_WITHIN_S = 4, 10.0
SERVES_AGAIN_S = 60.0  # after the death of Ray's head

Strike = Callable[[Shop, Random], Awaitable[None]]


class Kind(msgspec.Struct, frozen=True):
    """``concerns`` is what `--spare` names. ``alone``: not while another such fault is on, for each takes long."""

    concerns: str
    strike: Strike
    alone: bool = False


# ── processes ───────────────────────────────────────────────────────────────────────────────────────────


def kill(part: str) -> Strike:
    async def strike(shop: Shop, random: Random) -> None:
        before = await shop.standing(part)
        victim = random.choice(before)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        await shop.replaced(part, before, victim)

    return strike


def pause(part: str, seconds: tuple[float, float]) -> Strike:
    """SIGSTOP, and SIGCONT to whoever is still there. Postgres is stopped with all its servers."""

    async def strike(shop: Shop, random: Random) -> None:
        victim = random.choice(await shop.standing(part))
        stopped = [victim]
        try:
            if part == "Postgres":
                with contextlib.suppress(psutil.NoSuchProcess):
                    stopped += victim.children()
            _each(stopped, psutil.Process.suspend)
            await asyncio.sleep(random.uniform(*seconds))
        finally:
            _each(stopped, psutil.Process.resume)

    return strike


def _each(processes: list[psutil.Process], act: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            act(process)


# ── the network before Postgres ─────────────────────────────────────────────────────────────────────────


async def cut(shop: Shop, random: Random) -> None:
    shop.network.cut()


def stall() -> Strike:
    """Nothing passes for a moment; from time to time longer than anybody waits."""
    times = 0

    async def strike(shop: Shop, random: Random) -> None:
        nonlocal times
        times += 1
        shop.network.stall()
        try:
            endless = times % ENDLESS_EVERY == ENDLESS_EVERY // 2
            await asyncio.sleep(ENDLESS_STALL_S if endless else random.uniform(*STALL_S))
        finally:
            shop.network.resume()

    return strike


async def lose_answers(shop: Shop, random: Random) -> None:
    """Some statements are executed, or are not, and the connection is reset before anybody hears of it."""

    def writes(statement: Statement) -> bool:
        return "append_flush(" in statement.sql or "sandbox_a" in statement.sql

    ways = random.choices((Way.ANSWER_LOST, Way.ANSWER_TORN, Way.REQUEST_LOST), k=random.randint(1, LOST_AT_ONCE))
    planned = [shop.network.plan(way, writes) for way in ways]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOST_WITHIN_S):
            for fault in planned:
                await fault.over.wait()


# ── disk and clocks ─────────────────────────────────────────────────────────────────────────────────────


def fill_disk(*, log_too: bool) -> Strike:
    """To the last byte. Postgres goes on for as long as the files it has suffice, or its log is at its end at once."""

    async def strike(shop: Shop, random: Random) -> None:
        assert shop.disk is not None
        try:
            await asyncio.to_thread(shop.disk.fill)
            if log_too:
                with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await shop.end_log_segment()
            await asyncio.sleep(random.uniform(*FULL_S))
        finally:
            shop.disk.clear()

    return strike


def move_clocks(direction: int) -> Strike:
    """Of all processes that decide, as if it were their machine's, or of one kind; there, and back."""

    async def strike(shop: Shop, random: Random) -> None:
        assert shop.clocks is not None
        every = (*ACTORS, "API worker")
        parts = random.choice([every, *((part,) for part in every)])
        found = [process for part in parts for process in await shop.standing(part)]
        by_ms = direction * round(math.exp(random.uniform(*map(math.log, JUMP_MS))))
        try:
            shop.clocks.shift([process.pid for process in found], by_ms)
            await asyncio.sleep(random.uniform(*AWRY_S))
        finally:
            shop.clocks.shift([process.pid for process in found], 0)

    return strike


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────

HANGS = ("stock actor", "cart actor", "coordinator")  # whose silence supervision ends
HEADS = {f"{part}: SIGKILL": SERVES_AGAIN_S for part in ("raylet", "control store")}
KINDS: dict[str, Kind] = {
    **{f"{part}: SIGKILL": Kind(part, kill(part), f"{part}: SIGKILL" in HEADS) for part in PARTS},
    **{f"{part}: SIGSTOP, short": Kind(part, pause(part, SHORT_S)) for part in PARTS},
    **{f"{part}: SIGSTOP, long": Kind(part, pause(part, LONG_S)) for part in HANGS},
    "network: connections cut": Kind("network", cut),
    "network: stalled": Kind("network", stall(), alone=True),
    "network: answers lost": Kind("network", lose_answers),
    "disk: full": Kind("disk", fill_disk(log_too=False)),
    "disk: full, log at its end": Kind("disk", fill_disk(log_too=True)),
    "clocks: ahead": Kind("clocks", move_clocks(1)),
    "clocks: back": Kind("clocks", move_clocks(-1)),
}
CONCERNS = tuple(dict.fromkeys(kind.concerns for kind in KINDS.values()))


def lanes(spared: set[str]) -> Mapping[str, list[Group]]:
    """What may be on at the same time: one group of each. What ends all actors stands in the lane of their hangs."""
    ray = {"raylet", "control store"}
    hung = tuple(f"{part}: SIGSTOP, long" for part in HANGS)
    single = [name for name in KINDS if name not in hung]
    found: dict[str, list[Group]] = {
        "ray": [hung, *((name,) for name in single if KINDS[name].concerns in ray)],
        "processes": [(name,) for name in single if KINDS[name].concerns in {*ACTORS, "API worker"}],
        "ground": [(name,) for name in single if KINDS[name].concerns not in {*ACTORS, *ray, "API worker"}],
    }
    left = {
        lane: [tuple(name for name in group if KINDS[name].concerns not in spared) for group in groups]
        for lane, groups in found.items()
    }
    return {lane: [group for group in groups if group] for lane, groups in left.items()}
