"""One scenario with crashes at given points; then calm, and the same questions as after any storm.

Owns the driver: which scenario passes which points, every point alone, and every pair of a point and another
that is passed on the way back from it. A run finds a violation when its saga does not end, when an invariant,
the audit or the gateway's book disagrees, or when its buyer does not get what the scenario is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from tests.simulation.crash_points import Point
from tests.simulation.crash_scenarios import SCENARIOS, Buyer, Scenario
from tests.simulation.crash_watch import Watch
from tests.simulation.run import Result, Simulation
from tests.simulation.weather import WORST

PLAY_S = 120.0  # so long a scenario may last, crashes and all
UPSET_S = 0.3


class Case(NamedTuple):
    """A scenario, and where it is cut."""

    scenario: Scenario
    points: tuple[Point, ...]

    def __str__(self) -> str:
        return f"{self.scenario.name}: {', then '.join(map(str, self.points))}"


class CrashRun(Simulation):
    """One case. ``watch.targets`` holds afterwards what was not met, ``watch.passed`` what was since the last cut."""

    def __init__(self, case: Case, seed: int = 0) -> None:
        super().__init__(seed, without=frozenset(WORST), shop=case.scenario.shop())
        self._scenario = case.scenario
        self._upset = case.scenario.upset
        self.watch = Watch(self.processes, case.points, self._on_begin)

    def run(self) -> Result:
        with ExitStack() as stack:
            self.watch.install(stack, self.line)
            return super().run()

    def _befall(self) -> None:
        play = self.outside.create_task(self._scenario.play(Buyer(self.people)))
        self._run_until("not_played", PLAY_S, lambda: [] if play.done() else [self._scenario.name])
        error = play.exception() if play.done() else None
        if error is not None:
            self.violate("scenario", f"{self._scenario.name}: {error!r}")

    def _on_begin(self, phase: str, step: str) -> None:
        if self._upset != (phase, step):
            return
        self._upset = None
        sandbox = self.processes.present("sandbox")
        if sandbox is not None and sandbox.actor is not None:
            sandbox.actor.configure(mode="error")
            self.scheduler.after(UPSET_S, lambda: sandbox.actor.configure(mode="up"))


def play(case: Case, seed: int = 0) -> tuple[Result, Watch]:
    run = CrashRun(case, seed)
    return run.run(), run.watch


def alone(scenarios: Iterable[Scenario] = SCENARIOS) -> list[Case]:
    """Every point that a scenario passes, by itself."""
    return [Case(scenario, (point,)) for scenario in scenarios for point in play(Case(scenario, ()))[1].passed]


def each_once(cases: Sequence[Case]) -> list[Case]:
    """Of the cases for one point, the first."""
    first: dict[Point, Case] = {}
    for case in cases:
        first.setdefault(case.points[0], case)
    return list(first.values())


def after(case: Case, seed: int = 0) -> list[Case]:
    """The crash, and another at each point that is passed on the way back from it."""
    return [Case(case.scenario, (*case.points, second)) for second in play(case, seed)[1].passed]


def pairs(cases: Sequence[Case]) -> list[Case]:
    """Every pair of points that some scenario passes one after the other, in the first that does."""
    first: dict[tuple[Point, ...], Case] = {}
    for case in cases:
        for pair in after(case):
            first.setdefault(pair.points, pair)
    return list(first.values())


def findings(case: Case, seed: int = 0) -> list[str]:
    """What is wrong after the case, that it was not met included."""
    result, watch = play(case, seed)
    return result.violations + [f"not met: {point}" for point in watch.targets]
