"""Every crash point of the saga, each alone, on real processes and Postgres: `python -m tests.chaos.crash_points`.

Owns the runner. The points are those that the simulation reads from the code, each in the first of its scenarios that
passes it. Each has a fresh database and processes of its own, one of which is killed, or loses an answer, at the point;
an heir comes, the buyer goes on asking, and when all is at rest nothing may be wrong. Before, every scenario is played
without a cut: together they must pass the points of the table and no others. Exit 1 if something was wrong, or if a
point was not met.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import asyncpg
import structlog

from cluster import directory
from persistence.embedded import EmbeddedPostgres
from persistence.migrations_runner import migrate
from tests.simulation.crash_points import CUTS, Point, crash_points
from tests.simulation.crash_run import Case, alone, each_once
from tests.simulation.crash_scenarios import SCENARIOS, Buyer
from tests.support.databases import copied, dsn_of, execute
from tests.support.incarnation import preload
from tests.support.process_judge import judge
from tests.support.process_world import world

SHARDS = {"stock": 2, "cart": 1, "checkout": 2}
PLAY_S = 60.0  # so long a scenario may last, crash and all
JOBS = 3  # at a time: a case waits most of the time
# Whose absence a single crash brings out; more of them: `tests.simulation.ablations`.
SAFEGUARDS = ("unknown_append_is_looked_up", "lost_calls_are_repeated", "unknown_is_not_declined", "deduplication")
# What this module imports when a child of the command runs it once more.
IMPORTED = ("tests.simulation.crash_run", "tests.support.process_judge", "persistence.embedded", "cluster.directory")


class Outcome(NamedTuple):
    """``passed``: the points since the cut; without one, all. ``wrong``: what was, a point not met included.

    ``standing``: who was there in the end, and how.
    """

    case: Case
    passed: set[Point]
    wrong: list[str]
    standing: list[str]
    took_s: float

    def __str__(self) -> str:
        scenario, points = self.case
        where = ", then ".join(map(str, points)) or "without a cut"
        return f"{'FAILED' if self.wrong else 'ok    '} {self.took_s:5.1f} s  {scenario.name}: {where}"


def cases() -> list[Case]:
    """One for each point. Simulates; not to be called where an event loop runs."""
    return each_once(alone())


def uncut() -> list[Case]:
    return [Case(scenario, ()) for scenario in SCENARIOS]


def deaths(case: Case) -> int:
    """How many processes its cuts kill; the others lose an answer."""
    return sum(not CUTS[point.cut].endswith("nobody dies") for point in case.points)


async def play(case: Case, server_dsn: str, template: str, without: str = "") -> Outcome:
    """``without``: a safeguard that is missing in every process."""
    begun_s = time.monotonic()
    wrong = []
    async with (
        copied(server_dsn, template) as name,
        world(dsn_of(server_dsn, name), case.scenario, case.points, without) as shop,
    ):
        try:
            await asyncio.wait_for(case.scenario.play(Buyer(shop.people)), PLAY_S)
        except Exception as error:  # whatever it was, it is in the report
            wrong.append(f"the scenario ended with {error!r}")
        wrong += await judge(shop)
        wrong += [f"not met: {point}" for point in shop.watch.targets]
        if shop.deaths != deaths(case):
            wrong.append(f"{shop.deaths} processes died, not {deaths(case)}")
        standing = shop.standing()
    return Outcome(case, set(shop.watch.passed), wrong, standing, time.monotonic() - begun_s)


async def play_all(
    chosen: Sequence[Case],
    server_dsn: str,
    said: Callable[[Outcome], None] = lambda outcome: None,
    *,
    jobs: int = JOBS,
    without: str = "",
) -> list[Outcome]:
    """In their order, some at a time."""
    outcomes: list[Outcome] = []
    waiting = iter(chosen)

    async def work(template: str) -> None:
        for case in waiting:
            outcomes.append(await play(case, server_dsn, template, without))
            said(outcomes[-1])

    async with made_template(server_dsn) as template, asyncio.TaskGroup() as group:
        for _ in range(jobs):
            group.create_task(work(template))
    return outcomes


@asynccontextmanager
async def made_template(server_dsn: str) -> AsyncIterator[str]:
    """The name of a database with its shards, to be copied."""
    name = f"template_{uuid4().hex}"
    await execute(server_dsn, f"CREATE DATABASE {name}")
    try:
        await migrate(dsn_of(server_dsn, name))
        async with asyncpg.create_pool(dsn_of(server_dsn, name), min_size=1, max_size=1) as pool:
            await directory.claim_namespace(pool)
            await directory.ensure_shards(pool, SHARDS)
        yield name
    finally:
        await execute(server_dsn, f"DROP DATABASE {name} WITH (FORCE)")


# ── for people ──────────────────────────────────────────────────────────────────────────────────────────


def differences(played: Sequence[Outcome]) -> list[str]:
    """Between the points that scenarios without a cut have passed and those of the table."""
    passed, table = set[Point]().union(*(outcome.passed for outcome in played)), set(crash_points())
    return [
        *(f"no scenario passes {point}" for point in sorted(table - passed)),
        *(f"not in the table: {point}" for point in sorted(passed - table)),
    ]


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Of each step and of each cut: how many points there are, and how many ended well."""
    steps = [f"{point.phase}/{point.step}" for point in crash_points()]
    yield from _counted(steps, [(f"{o.case.points[0].phase}/{o.case.points[0].step}", not o.wrong) for o in outcomes])
    yield ""
    yield from _counted(CUTS, [(o.case.points[0].cut, not o.wrong) for o in outcomes])


def _counted(names: Sequence[str] | dict[str, str], met: Sequence[tuple[str, bool]]) -> Iterator[str]:
    all_, good = Counter(name for name, _ in met), Counter(name for name, well in met if well)
    return (f"{name:<24} {good[name]:3} of {all_[name]:3}" for name in dict.fromkeys(names) if all_[name])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say_outcome(outcome: Outcome) -> None:
    details = [*outcome.wrong, *outcome.standing] if outcome.wrong else []
    _say("\n         ".join([str(outcome), *details]))


async def _run(chosen: Sequence[Case], given: argparse.Namespace, server_dsn: str) -> bool:
    """Whether anything was wrong."""
    begun_s = time.monotonic()
    found: list[str] = []
    if len(chosen) == len(crash_points()) and not given.without:
        found += differences(await play_all(uncut(), server_dsn, _say_outcome, jobs=given.jobs))
    outcomes = await play_all(chosen, server_dsn, _say_outcome, jobs=given.jobs, without=given.without)
    failed = sum(bool(outcome.wrong) for outcome in outcomes)
    for line in [*table(outcomes), "", *found]:
        _say(line)
    _say(f"{len(outcomes)} points in {time.monotonic() - begun_s:.0f} s, {failed} failed")
    return bool(failed or found or not outcomes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.crash_points", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="number of the first point")
    parser.add_argument("--count", type=int, help="how many; all that are left if not said")
    parser.add_argument("--point", default="", help='one of them, "phase/step cut"')
    parser.add_argument("--jobs", type=int, default=JOBS, help="how many at a time")
    parser.add_argument("--without", default="", choices=SAFEGUARDS, help="a safeguard to be taken out")
    given = parser.parse_args()
    chosen = [case for case in cases() if given.point in ("", str(case.points[0]))][given.first :][: given.count]
    preload(*IMPORTED)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder)) as server:
        return asyncio.run(_run(chosen, given, server.dsn))


if __name__ == "__main__":
    sys.exit(main())
