"""Every point where a saga can be cut by a crash, alone and in pairs: it goes on from there to a good end.

All pairs: `python -m tests.simulation --pairs`.
"""

from __future__ import annotations

import inspect
from functools import cache
from random import Random

import pytest

from domain import checkout_actions
from tests.simulation import crash_points
from tests.simulation.ablations import without
from tests.simulation.crash_points import Point, recovery_points, saga_steps
from tests.simulation.crash_run import Case, after, alone, each_once, findings

SEEDS = 3
CASES_A_SEED = 25
PAIRS_A_CASE = 2

# What a single crash finds out, without any chance in it.
NOTICED_BY_ONE_CRASH = (
    "unknown_append_is_looked_up",
    "lost_calls_are_repeated",
    "owed_replies_are_asked_again",
    "stored_entities_are_known",
)


@cache
def cases() -> list[Case]:
    return alone()


def test_scenarios_pass_every_crash_point_and_no_other() -> None:
    """A step that is new in the code has points that no scenario passes yet: it must be given one."""
    passed = {case.points[0] for case in cases()}
    assert passed == set(crash_points.crash_points())


def test_a_new_step_has_crash_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is read from the code, so that what is new there is new here."""
    source = inspect.getsource(checkout_actions)
    added = source.replace(
        'return {"release": _on_hold}', 'return {"release": _on_hold, f"thaw:{state.round}": _on_hold}'
    )
    monkeypatch.setattr(inspect, "getsource", lambda module: added)
    assert ("unwinding", "thaw") in saga_steps()
    assert Point("unwinding", "thaw", "not begun") in crash_points.crash_points()


def test_a_crash_at_any_point_is_recovered_from() -> None:
    """The saga ends, the buyer gets what the scenario is about, the audit and the gateway's book agree."""
    found = {str(case): wrong for case in each_once(cases()) if (wrong := findings(case))}
    assert not found


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_a_crash_in_the_recovery_from_another_is_recovered_from(seed: int) -> None:
    """A sample of pairs, each seed with delays of its own."""
    rng = Random(seed)
    found = {}
    for case in rng.sample(cases(), CASES_A_SEED):
        pairs = after(case, seed)
        for pair in rng.sample(pairs, min(PAIRS_A_CASE, len(pairs))):
            found[str(pair)] = findings(pair, seed)
    assert len(found) > CASES_A_SEED
    assert not any(found.values()), {name: wrong for name, wrong in found.items() if wrong}


def test_a_second_crash_meets_the_heir_while_it_recovers() -> None:
    """Whatever an heir asks of the database before it serves, it can die after."""
    met = {pair.points[1] for case in cases()[::40] for pair in after(case)}
    assert met >= set(recovery_points())


@pytest.mark.parametrize("safeguard", NOTICED_BY_ONE_CRASH)
def test_a_crash_finds_out_that_a_safeguard_is_missing(safeguard: str) -> None:
    with without(safeguard):
        assert any(findings(case) for case in each_once(cases()))
