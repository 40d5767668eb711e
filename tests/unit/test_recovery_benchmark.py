"""The recovery benchmark's verdict and figures."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.recovery.__main__ import missed, recovery_figures, skus_of
from benchmarks.recovery.shard import Recovery


def result(p99_ms: int = 2_000, ratio: float = 0.95, pause_ms: float = 20.0) -> dict[str, Any]:
    """One that meets every target, just."""
    return {
        "recovery_ms": {"p99": p99_ms},
        "others": {"ratio": ratio},
        "pauses": {"longest_ms": {"cpu_ms": pause_ms}},
    }


def test_targets_are_met_at_their_limit() -> None:
    assert missed(result()) == []


@pytest.mark.parametrize(
    ("figure", "target"),
    [
        ({"p99_ms": 2_001}, "recovery p99 within 2000 ms"),
        ({"ratio": 0.949}, "throughput of the others at least 0.95 of normal"),
        ({"pause_ms": 20.1}, "no pause beyond 20 ms"),
    ],
)
def test_a_missed_target_is_named(figure: dict[str, Any], target: str) -> None:
    assert missed(result(**figure)) == [target]


def test_figures_are_milliseconds_of_all_kills() -> None:
    """A hundred kills of 11 ms to 110 ms, 10 of which passed before the shard was taken."""
    figures = recovery_figures([Recovery(0.01, n / 1000, 0.01 + n / 1000, 1_000 + n) for n in range(1, 101)])
    assert figures["kills"] == 100
    assert figures["recovery_ms"] == {"p50": 60, "p99": 109, "longest": 110}
    assert figures["until_the_shard_is_taken_ms"] == {"p50": 10, "p99": 10, "longest": 10}
    assert figures["from_there_to_the_answer_ms"] == {"p50": 50, "p99": 99, "longest": 100}
    assert figures["events_replayed"] == {"least": 1_001, "most": 1_100}


def test_skus_are_the_shards_own() -> None:
    """Whatever is dealt out to two shards, each gets as many as were asked for, and none of the other's."""
    dealt = {
        name: skus_of(name, 50, lambda account: f"stock-{int(account[-1]) % 2}") for name in ("stock-0", "stock-1")
    }
    assert all(len(set(skus)) == 50 for skus in dealt.values())
    assert not set(dealt["stock-0"]) & set(dealt["stock-1"])
