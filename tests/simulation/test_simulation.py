"""The simulation in the test suite: seeds without a finding, runs that repeat exactly, safeguards that are missed.

More seeds: `python -m tests.simulation --seeds 100000 --coverage`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.__main__ import seeds_to_find
from tests.simulation.ablations import ABLATIONS, WEATHER
from tests.simulation.run import simulate

SEEDS = 1_000
REPEATED = (1, 7, 42)
ROOT = Path(__file__).resolve().parents[2]

SEEDS_TO_NOTICE = 1_000


@pytest.mark.parametrize("first", range(0, SEEDS, 100))
def test_no_seed_finds_a_violation(first: int) -> None:
    """Whatever befalls the shop: nothing oversold, nobody charged twice, no order lost, and it all ends."""
    found = {seed: result.violations for seed in range(first, first + 100) if (result := simulate(seed)).violations}
    assert not found, [f"python -m tests.simulation --seed {seed}" for seed in found]


@pytest.mark.parametrize("seed", REPEATED)
def test_the_same_seed_is_the_same_run(seed: int) -> None:
    """A second run in this process does the same at the same instants, and tracing changes nothing."""
    first, again = simulate(seed), simulate(seed, trace=True)
    assert (first.digest, first.events, first.counts) == (again.digest, again.events, again.counts)


def test_the_same_seed_is_the_same_run_in_another_process() -> None:
    """Another process, with other hashes of strings, runs a seed to the same digest."""
    seed = REPEATED[0]
    environment = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed)]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert simulate(seed).digest in told.stdout, told.stderr


def test_other_seeds_are_other_runs() -> None:
    assert len({simulate(seed).digest for seed in range(20)}) == 20


@pytest.mark.parametrize("safeguard", sorted(ABLATIONS))
def test_a_missing_safeguard_is_noticed(safeguard: str) -> None:
    """Without it some seed finds a violation; with it, the same seed finds none."""
    result = seeds_to_find(safeguard, most=SEEDS_TO_NOTICE)
    assert result is not None, f"nothing notices that {safeguard} is missing"
    assert not simulate(result.seed, only=WEATHER.get(safeguard, frozenset())).violations
