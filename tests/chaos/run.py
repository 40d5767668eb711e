"""One run of chaos: products, buyers, faults in their lanes, a last part in which Ray loses answers, the final reads.

Owns the order of these and everything they start. Promises an end: every wait has one, and an interrupted run leaves
nothing behind. Never judges: what it hands over is for `checker` and `availability`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from subprocess import TimeoutExpired
from typing import NamedTuple

from tests.chaos import schedule, shop
from tests.chaos.availability import Fault
from tests.chaos.buyers import Crowd
from tests.chaos.checker import Answer, Buyer, Reads
from tests.chaos.faults import KINDS, lanes
from tests.chaos.reads import read
from tests.chaos.schedule import Group
from tests.chaos.shop import NotBack, Shop
from tests.support.client import Client
from tests.support.server import eventually

A_SECOND = 5  # buyers, whatever becomes of those who came before
UNITS, BUYERS = 100, 130  # of one SKU
AT_ONCE = 16  # of the final questions
QUIET_S = (0.5, 2.5)  # between somebody's purchase and the lane's next fault
SERVES_AGAIN_S = 150.0
AT_REST_S = 10.0  # within which every saga has ended
LOSING_SHARE = 1 / 6  # of the run, at its end
RESTART, ANSWERS_LOST = "shop: stopped and started", "Ray: answers lost"


class Report(NamedTuple):
    """What a run has seen. ``unfinished``: what it lacks; ``violations``: what it saw go wrong by itself."""

    buyers: Sequence[Buyer]
    reads: Reads
    answers: Sequence[Answer]
    faults: Sequence[Fault]
    notes: Sequence[str]
    unfinished: Sequence[str]
    violations: Sequence[str]


class Disturber:
    """Brings the faults over a shop, lane by lane."""

    def __init__(self, shop: Shop, crowd: Crowd, plan: Mapping[str, list[Group]], seed: int, minutes: float) -> None:
        self.faults: list[Fault] = []
        self.violations: list[str] = []
        self.kinds = [name for groups in plan.values() for group in groups for name in group]
        self._shop = shop
        self._crowd = crowd
        self._seed = seed
        self._minutes = minutes
        self._begun_s = time.monotonic()
        self._alone = asyncio.Lock()
        self._lanes = {lane: schedule.rounds(seed, lane, groups) for lane, groups in plan.items()}

    @property
    def had(self) -> Counter[str]:
        return Counter(fault.kind for fault in self.faults)

    def is_over(self) -> bool:
        return schedule.is_over(time.monotonic() - self._begun_s, self._minutes, self.kinds, self.had)

    def is_past(self, share: float) -> bool:
        return time.monotonic() - self._begun_s >= share * self._minutes * 60

    async def disturb(self, share: float | None = None) -> None:
        """Until that share of the time is over, or until the run is. NotBack if a part, or the service, is not."""
        async with asyncio.TaskGroup() as group:
            for lane, order in self._lanes.items():
                group.create_task(self._disturb(lane, order, share))

    async def _disturb(self, lane: str, order: Iterator[Group], share: float | None) -> None:
        random = Random(f"{self._seed} {lane} {share}")
        for group in order:
            # First some quiet: whoever was nearly served when the fault came is no sign that others are.
            await asyncio.sleep(random.uniform(*QUIET_S))
            await self._bought_again()
            if self.is_over() if share is None else self.is_past(share):
                return
            alone = any(KINDS[name].alone for name in group)
            async with self._alone if alone else contextlib.nullcontext():
                await self._strike(lane, group, random)
                if alone:
                    await self._bought_again()

    async def _strike(self, lane: str, group: Group, random: Random) -> None:
        """All of the group at once."""
        begun_s = time.monotonic()

        async def strike(name: str, own: Random) -> None:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name}\n")
            ended_s = None
            try:
                await KINDS[name].strike(self._shop, own)
                ended_s = time.monotonic()
            finally:
                self.faults.append(Fault(name, begun_s, ended_s, lane))

        async with asyncio.TaskGroup() as together:
            for name in group:
                together.create_task(strike(name, Random(random.random())))

    async def _bought_again(self) -> None:
        mark = self._crowd.sold + 3

        async def moved() -> bool:
            return self._crowd.sold >= mark

        try:
            await eventually(moved, "three more sold", SERVES_AGAIN_S)
        except AssertionError as error:
            raise NotBack(str(error)) from None

    async def restarted_to_lose_answers(self) -> None:
        """An orderly stop and start; from then on Ray loses answers."""
        begun_s = time.monotonic()
        try:
            code = await asyncio.to_thread(self._shop.stop)
            assert code == 0, f"it ended with {code}"
        except (AssertionError, TimeoutExpired) as error:  # whoever was left has been killed
            self.violations.append(f"the shop did not stop in order: {error}")
        self._shop.loses_answers = True
        await asyncio.to_thread(self._shop.start)
        up_s = time.monotonic()
        self.faults += [Fault(RESTART, begun_s, up_s, "shop"), Fault(ANSWERS_LOST, up_s, up_s, "shop")]


def _skus(client: Client, minutes: float) -> list[str]:
    """As many as the buyers of the longest run empty."""
    return [client.product(UNITS) for _ in range(2 + int(minutes * schedule.OVERTIME * 60 * A_SECOND / BUYERS))]


async def run(
    minutes: float, seed: int, spared: Collection[str], folder: Path, *, lose_answers: bool, keep: Path | None
) -> Report:
    """The whole run, with everything in that folder, and in ``keep`` what the server leaves."""
    report: Report | None = None
    try:
        async with shop.opened(folder, keep) as opened:
            report = await _run(opened, minutes, seed, set(spared), lose_answers=lose_answers)
    except (AssertionError, TimeoutExpired) as error:
        if report is None:
            raise
        return report._replace(violations=[*report.violations, f"the shop did not stop in order: {error}"])
    return report


async def _run(shop: Shop, minutes: float, seed: int, spared: set[str], *, lose_answers: bool) -> Report:
    client = Client(shop)
    skus = await asyncio.to_thread(_skus, client, minutes)
    crowd = Crowd(shop.url, skus, BUYERS)
    disturber = Disturber(shop, crowd, lanes(spared | shop.left_out.keys()), seed, minutes)
    coming = asyncio.create_task(crowd.run(A_SECOND))
    try:
        if lose_answers:
            await disturber.disturb(1 - LOSING_SHARE)
            await disturber.restarted_to_lose_answers()
        await disturber.disturb()
    except* NotBack as group:
        count = len(disturber.faults)
        disturber.violations += [f"ended early after {count} faults: {error}" for error in _leaves(group)]
    crowd.closing.set()
    await coming
    disturbed = list(crowd.answers)
    await crowd.ask_all(AT_ONCE)
    await crowd.leave(AT_ONCE)
    await asyncio.sleep(AT_REST_S)
    final = await asyncio.to_thread(read, client, skus)
    client.close()
    notes, unfinished = _told(shop, disturber, minutes, spared, lose_answers=lose_answers)
    return Report(crowd.buyers, final, disturbed, disturber.faults, notes, unfinished, disturber.violations)


def _told(
    shop: Shop, disturber: Disturber, minutes: float, spared: set[str], *, lose_answers: bool
) -> tuple[list[str], list[str]]:
    """What else has to be said of the run, and what it lacks: that is, also what nobody asked to be spared."""
    notes = [f"Postgres found its disk full {shop.disk_errors()} times"]
    unfinished = [
        *(f"left out: {reason}" for what, reason in shop.left_out.items() if what not in spared),
        *schedule.too_few(minutes, disturber.kinds, disturber.had),
    ]
    if lose_answers:
        lost, least = shop.answers_lost(), schedule.least(minutes)
        notes.append(f"Ray lost {lost} calls between processes")
        unfinished += [f"{ANSWERS_LOST}: {lost} times, not {least}"] if lost < least else []
    return notes, unfinished


def _leaves(group: BaseExceptionGroup[NotBack]) -> Iterator[NotBack]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
