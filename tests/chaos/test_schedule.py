"""Which fault of a run of chaos comes when."""

from __future__ import annotations

from collections import Counter
from itertools import chain, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.faults import HANGS, KINDS, lanes
from tests.chaos.schedule import is_over, least, rounds, too_few

GROUPS = [("a",), ("b", "c"), ("d",)]
seeds = st.integers(0, 2**32)


@given(seeds, st.integers(0, 40))
def test_each_kind_comes_equally_often_wherever_the_run_ends(seed: int, groups: int) -> None:
    had = Counter(chain.from_iterable(islice(rounds(seed, "lane", GROUPS), groups)))
    times = [had[kind] for kind in "abcd"]
    assert max(times) - min(times) <= 1


@given(seeds)
def test_a_seed_gives_the_same_order_again(seed: int) -> None:
    one, other = (list(islice(rounds(seed, "lane", GROUPS), 30)) for _ in range(2))
    assert one == other


def test_seeds_and_lanes_give_other_orders() -> None:
    orders = {tuple(islice(rounds(seed, lane, GROUPS), 30)) for seed in range(3) for lane in "xy"}
    assert len(orders) == 6


def test_a_lane_without_kinds_ends() -> None:
    assert list(rounds(0, "lane", [])) == []


def test_every_kind_stands_in_one_lane_once() -> None:
    had = Counter(name for groups in lanes(set()).values() for group in groups for name in group)
    assert had == Counter(KINDS.keys())


def test_hangs_come_together_in_the_lane_of_what_would_end_them() -> None:
    """A restart of Ray ends all actors: it must not come while they are hung, or supervision would not be met."""
    (lane,) = (groups for groups in lanes(set()).values() if ("raylet: SIGKILL",) in groups)
    assert tuple(f"{part}: SIGSTOP, long" for part in HANGS) in lane


def test_what_is_spared_is_in_no_lane() -> None:
    left = [name for groups in lanes({"stock actor", "disk"}).values() for group in groups for name in group]
    assert left
    assert not [name for name in left if name.startswith(("stock actor", "disk"))]


def test_half_an_hour_brings_each_kind_twenty_times() -> None:
    assert least(30) == 20


OVER = {
    "before the time": (599.0, {"a": 50, "b": 50}, False),
    "in time": (600.0, {"a": 6, "b": 6}, True),
    "one kind too seldom": (600.0, {"a": 50, "b": 5}, False),
    "one kind never": (600.0, {"a": 50}, False),
    "after the overtime": (900.0, {}, True),
}


@pytest.mark.parametrize("name", OVER)
def test_a_run_ends_when_all_have_come_often_enough_or_after_the_overtime(name: str) -> None:
    elapsed_s, had, over = OVER[name]
    assert is_over(elapsed_s, 10.0, ("a", "b"), had) is over


def test_kinds_that_came_too_seldom_are_named() -> None:
    assert too_few(10.0, ("a", "b"), Counter(a=6, b=5)) == ["b: 5 times, not 6"]
