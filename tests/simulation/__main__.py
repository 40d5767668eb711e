"""`python -m tests.simulation`: many seeds, or one again; exit 1 if a seed found something, or many met too little.

--seeds N [--first F]   run N seeds from F on; each that fails prints the line that replays it
--seed S [--trace]      run one seed, with everything that happened in it
--coverage              how often each fault, step, refusal and recovery path was met
--ablate NAME           without a safeguard, until the simulation finds out; `all` for a table of them
--crashes               a crash at every point of every scenario (`crash_points`)
--pairs                 and another at every point that is passed on the way back from it
--without / --with      faults to leave out, or to take in that are left out by default
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.simulation.ablations import ABLATIONS, WEATHER, without
from tests.simulation.coverage import rare, table
from tests.simulation.crash_points import crash_points, recovery_points
from tests.simulation.crash_run import Case, alone, findings, pairs
from tests.simulation.run import Result, simulate
from tests.simulation.weather import NOT_PROMISED, WORST

SEEDS_TO_MEET_ALL = 10_000  # a run of so many that has missed something is not passed
SEEDS_MOST = 10_000  # within which the simulation must notice that a safeguard is missing


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    left_out = (NOT_PROMISED | frozenset(options.without)) - frozenset(options.including)
    if options.ablate:
        return _ablate(list(ABLATIONS) if options.ablate == "all" else [options.ablate], options.first)
    if options.crashes or options.pairs:
        return _crash(pairs_too=options.pairs, seed=options.first)
    if options.seed is not None:
        result = simulate(options.seed, without=left_out, trace=options.trace)
        _say(*result.trace)
        _tell(result, left_out)
        _say(f"seed {result.seed}: {result.events} callbacks, digest {result.digest}")
        return bool(result.violations)
    return _run(range(options.first, options.first + options.seeds), left_out, coverage=options.coverage)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--ablate", choices=["all", *ABLATIONS])
    parser.add_argument("--crashes", action="store_true")
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--without", action="append", choices=WORST, default=[])
    parser.add_argument("--with", dest="including", action="append", choices=sorted(NOT_PROMISED), default=[])
    return parser


def _run(seeds: range, left_out: frozenset[str], *, coverage: bool) -> int:
    began_s, failed, met = time.process_time(), 0, Counter[str]()
    for seed in seeds:
        result = simulate(seed, without=left_out)
        met += result.counts
        failed += bool(result.violations)
        _tell(result, left_out)
    spent_s = time.process_time() - began_s
    everything = len(seeds) >= SEEDS_TO_MEET_ALL and left_out == NOT_PROMISED
    if coverage or (everything and rare(met)):
        _say(*table(met))
    _say(f"{len(seeds)} seeds, {failed} failed, {len(seeds) / spent_s:.1f} seeds a second of one core")
    return bool(failed or (everything and rare(met)))


def _crash(*, pairs_too: bool, seed: int) -> int:
    """Every point alone in every scenario that passes it; every pair in the first that does."""
    began_s = time.process_time()
    cases = alone()
    failed = _cut_at(cases, seed)
    points = crash_points()
    unmet = set(points) - {case.points[0] for case in cases}
    _say(*(f"no scenario passes {point}" for point in sorted(unmet)))
    _say(f"{len(points)} crash points, {len(unmet)} not met; {len(cases)} crashes, {failed} failed")
    if pairs_too:
        twice = pairs(cases)
        missed = _cut_at(twice, seed)
        failed += missed
        seconds = {case.points[1] for case in twice}
        unmet |= set(recovery_points()) - seconds
        _say(f"{len(twice)} pairs, {missed} failed; {len(seconds)} points are met on the way back from another")
    _say(f"{time.process_time() - began_s:.0f} s of one core")
    return bool(failed or unmet)


def _cut_at(cases: Sequence[Case], seed: int) -> int:
    failed = 0
    for case in cases:
        wrong = findings(case, seed)
        failed += bool(wrong)
        if wrong:
            _say(f"{case}  # {wrong[0]}")
    return failed


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _tell(result: Result, left_out: frozenset[str]) -> None:
    if not result.violations:
        return
    flags = [f" --without {fault}" for fault in sorted(left_out - NOT_PROMISED)]
    flags += [f" --with {fault}" for fault in sorted(NOT_PROMISED - left_out)]
    _say(f"python -m tests.simulation --seed {result.seed}{''.join(flags)}  # {result.violations[0]}")


def seeds_to_find(name: str, first: int = 0, most: int = SEEDS_MOST) -> Result | None:
    """The first seed that finds out that this safeguard is missing, in the weather that it is for."""
    with without(name):
        return next((result for result in _results(name, first, most) if result.violations), None)


def _results(name: str, first: int, most: int) -> Iterator[Result]:
    for seed in range(first, first + most):
        yield simulate(seed, only=WEATHER.get(name, frozenset()))


def _ablate(names: Sequence[str], first: int) -> int:
    unnoticed = 0
    for name in names:
        result = seeds_to_find(name, first)
        unnoticed += result is None
        found = f"{result.seed - first + 1:6} seeds  {result.violations[0]}" if result else "not noticed"
        _say(f"{name:32} {found[:150]}")
    return bool(unnoticed)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        raise SystemExit(main())
