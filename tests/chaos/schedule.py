"""Which fault comes when: lanes side by side, each a shuffled round of its kinds after another. Pure.

Owns the order. Promises that the kinds of a lane come equally often, to one, wherever the run ends, and that a seed
gives the same order again. What begins together stands together in a group. Knows no fault by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random

Group = tuple[str, ...]
A_MINUTE = 2 / 3  # of each kind, at least: twenty in half an hour
OVERTIME = 1.5  # of the time that was asked for, at most, where that takes longer


def rounds(seed: int, lane: str, groups: Sequence[Group]) -> Iterator[Group]:
    """Endless, unless there is nothing to come."""
    random = Random(f"{seed} {lane}")
    while groups:
        yield from random.sample(groups, len(groups))


def least(minutes: float) -> int:
    """How often each kind must come in so many minutes."""
    return int(minutes * A_MINUTE)


def is_over(elapsed_s: float, minutes: float, kinds: Iterable[str], had: Mapping[str, int]) -> bool:
    """When the time is over and each kind has come often enough, and in any case after the overtime."""
    if elapsed_s < minutes * 60:
        return False
    return elapsed_s >= minutes * 60 * OVERTIME or all(had.get(kind, 0) >= least(minutes) for kind in kinds)


def too_few(minutes: float, kinds: Iterable[str], had: Counter[str]) -> list[str]:
    """What has to be said of kinds that did not come often enough."""
    return [f"{kind}: {had[kind]} times, not {least(minutes)}" for kind in kinds if had[kind] < least(minutes)]
