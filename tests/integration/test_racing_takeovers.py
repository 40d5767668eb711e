"""Owners that race for one shard of a real Postgres: one writes, and whoever is newest is never kept waiting."""

from __future__ import annotations

import pytest

from tests.chaos.takeovers import HEIR_WAITS_MOST_S, race


@pytest.mark.parametrize("seed", [1, 2])
async def test_of_many_owners_that_take_a_shard_over_one_writes_and_the_newest_serves(database: str, seed: int) -> None:
    """Neither a gap nor two records for one number, nothing of an older epoch, no reply without its record.

    `python -m tests.chaos.takeovers --count 10000` is the long form.
    """
    figures = await race(database, 250, seed=seed)
    assert figures.violations == []
    assert max(figures.waits_ms) < HEIR_WAITS_MOST_S * 1000
    # What makes it a race has been met: else it would show nothing.
    for what in ("appends fenced", "statements that arrived late", "died with an append under way", "records cut"):
        assert figures.counts[what] >= 5, what
