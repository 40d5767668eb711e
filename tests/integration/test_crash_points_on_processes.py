"""A saga that is cut at a crash point, on real processes and a real Postgres: SIGKILL, or a connection that breaks.

A sample, in which every cut and every phase of the saga comes; all points: `python -m tests.chaos.crash_points`.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.chaos.crash_points import cases, made_template, play_all
from tests.simulation.crash_points import CUTS, Point, crash_points
from tests.simulation.crash_run import Case
from tests.simulation.crash_scenarios import Buyer
from tests.support.databases import copied, dsn_of
from tests.support.process_world import world

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def every_case() -> list[Case]:
    return cases()


@pytest.fixture(scope="module")
def sample(every_case: list[Case]) -> list[Case]:
    """For every cut the first case in a phase that has come least often."""
    phases: Counter[str] = Counter()
    chosen = []
    for cut in CUTS:
        case = min((case for case in every_case if case.points[0].cut == cut), key=lambda case: phases[_phase(case)])
        phases[_phase(case)] += 1
        chosen.append(case)
    return chosen


def _phase(case: Case) -> str:
    return case.points[0].phase


def test_the_cases_are_of_every_crash_point_and_the_sample_of_every_cut_and_phase(
    every_case: list[Case], sample: list[Case]
) -> None:
    assert {case.points[0] for case in every_case} == set(crash_points())
    assert {case.points[0].cut for case in sample} == set(CUTS)
    assert {_phase(case) for case in sample} == {point.phase for point in crash_points()}


async def test_a_crash_at_a_sampled_point_is_recovered_from(sample: list[Case], postgres_dsn: str) -> None:
    """The saga ends, the buyer gets what the scenario is about, the audit and the gateway's ledger agree."""
    outcomes = await play_all(sample, postgres_dsn)
    assert {str(outcome.case): outcome.wrong for outcome in outcomes if outcome.wrong} == {}


async def test_a_cut_is_where_its_name_says(every_case: list[Case], postgres_dsn: str) -> None:
    """A record's epoch tells who wrote it: its first owner, or whoever took the shard when that was cut."""
    by_point = {str(case.points[0]): case for case in every_case}

    async def written_by_the_first(template: str, cut: str) -> int:
        case = by_point[f"paying/authorize intent {cut}"]
        async with copied(postgres_dsn, template) as name, world(dsn_of(postgres_dsn, name), *case) as shop:
            await case.scenario.play(Buyer(shop.people))
            records = "SELECT count(*) FROM journal WHERE epoch = 1 AND shard LIKE 'checkout%'"
            return int(await shop.pool.fetchval(records))

    async with made_template(postgres_dsn) as template:
        cuts = ("unwritten", "lost", "written", "in doubt")
        unwritten, lost, written, in_doubt = await asyncio.gather(
            *(written_by_the_first(template, cut) for cut in cuts)
        )
    assert (lost, written, in_doubt) == (unwritten, unwritten + 1, unwritten + 1)


async def test_a_point_that_is_not_met_is_no_success(every_case: list[Case], postgres_dsn: str) -> None:
    scenario = next(case.scenario for case in every_case if case.scenario.name == "finds too few")
    point = Point("placed", "refund", "answer lost")
    (outcome,) = await play_all([Case(scenario, (point,))], postgres_dsn)
    assert outcome.wrong == [f"not met: {point}"]


async def test_a_safeguard_that_is_missing_in_the_processes_is_noticed(
    every_case: list[Case], postgres_dsn: str
) -> None:
    """A writer that takes a lost statement for written tells its buyer what nobody finds later."""
    point = Point("paying", "authorize", "outcome lost")
    chosen = [case for case in every_case if case.points == (point,)]
    (outcome,) = await play_all(chosen, postgres_dsn, without="unknown_append_is_looked_up")
    assert any("was acknowledged to Complete, and is lost" in wrong for wrong in outcome.wrong), outcome.wrong
