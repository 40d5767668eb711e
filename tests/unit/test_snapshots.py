"""How many events a replay may have: whatever changes how often, no more than the design allows."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.snapshots import AT_MOST, WAIT_MS, SnapshotQueue
from domain.messages import Key
from persistence.journal import Snapshot

MOST_REPLAYED = 100_000
FLUSH_EVENTS = 500


def worst_replay(bursts: list[tuple[int, int]]) -> int:
    """The most events that the journal ever keeps. A burst: so many flushes, over so many entities."""
    queue, worst, seq, tail = SnapshotQueue(), 0, 0, 1
    needed: dict[Key, tuple[int, int]] = {}  # what each generation lacks, worked out beside the queue
    for flushes, entities in bursts:
        for n in range(flushes):
            seq += 1
            for event in range(FLUSH_EVENTS):
                key = ("box", str((n * FLUSH_EVENTS + event) % entities))
                queue.dirty(key, seq)
                older, newer = needed.get(key, (seq, 0))
                needed[key] = (older, newer or seq)
            due = queue.due(FLUSH_EVENTS, at_ms=0)
            tail = max(tail, queue.tail(seq))
            queue.written([Snapshot(key, seq, b"") for key in due])
            for key in due:
                older, newer = needed.pop(key)
                if newer:
                    needed[key] = (newer, 0)
            assert tail <= min((older for older, _ in needed.values()), default=seq + 1)
            worst = max(worst, (seq + 1 - tail) * FLUSH_EVENTS)
    return worst


@pytest.mark.parametrize(
    "bursts",
    [
        [(20, 10_000), (600, 1)],
        [(20, 10_000), (600, 500)],
        [(1, 1), (600, 1)],
        [(400, 20_000)],
        [(10, 5_000), (100, 1), (10, 5_000), (400, 1)],
    ],
    ids=["a sale of one after a large import", "of some", "one entity", "many", "twice"],
)
def test_a_replay_is_bounded_whatever_is_busy(bursts: list[tuple[int, int]]) -> None:
    assert worst_replay(bursts) <= MOST_REPLAYED


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 8_000)), min_size=1, max_size=5))
def test_a_replay_is_bounded_whatever_comes(bursts: list[tuple[int, int]]) -> None:
    assert worst_replay([*bursts, (250, 1)]) <= MOST_REPLAYED


def longest_replay(batches: Iterable[Iterable[Key]], events: int) -> int:
    """So many events each touch these entities in a flush, flush after flush."""
    queue, worst, tail = SnapshotQueue(), 0, 1
    for seq, touched in enumerate(batches, 1):
        for key in touched:
            queue.dirty(key, seq)
        due = queue.due(events, at_ms=0)
        tail = max(tail, queue.tail(seq))
        queue.written([Snapshot(key, seq, b"") for key in due])
        worst = max(worst, (seq + 1 - tail) * events)
    return worst


def test_a_replay_is_bounded_when_large_batches_touch_ever_new_entities() -> None:
    """Two entities an event, as baskets and their holds are, each to be written twice."""
    batches = ([("box", f"{batch}:{n}") for n in range(5_000)] for batch in range(150))
    assert longest_replay(batches, events=2_500) <= MOST_REPLAYED


def test_a_replay_is_bounded_when_wide_baskets_touch_very_many_entities() -> None:
    """Baskets of thirty lines on 300,000 SKUs: each flush of 10,000 events touches all of them."""
    everything = [("box", str(n)) for n in range(300_000)]
    assert longest_replay([everything] * 16, events=10_000) <= MOST_REPLAYED


def test_no_flush_is_a_pause_and_what_one_leaves_undone_the_next_ones_do() -> None:
    """A hundred thousand wait after a recovery. A round's worth of events comes in large flushes, then next to none."""
    queue, written = SnapshotQueue(), 0
    for n in range(100_000):
        queue.recovered(("box", str(n)), 1, 0)
    for seq, events in enumerate([FLUSH_EVENTS] * 20 + [1] * 30, 2):
        due = queue.due(events, at_ms=0)
        assert len(due) <= AT_MOST
        queue.written([Snapshot(key, seq, b"") for key in due])
        written += len(due)
    assert written == 100_000


def test_what_was_found_at_recovery_has_waited_before() -> None:
    """It is written with the first flushes, and its older generation's record is kept until then."""
    queue = SnapshotQueue()
    queue.recovered(("box", "A"), 5, 7)
    assert queue.due(1, at_ms=1_000) == [("box", "A")]
    assert queue.tail(9) == 5
    queue.written([Snapshot(("box", "A"), 9, b"")])
    assert ("box", "A") in queue, "the older generation lacks what the newer one had lacked"


def test_what_ends_soon_is_never_written() -> None:
    """Holds and checkouts of buyers who are served, beside one entity that stays."""
    queue = SnapshotQueue()
    written = []
    for seq in range(1, 200):
        queue.dirty(("shelf", "A"), seq)
        queue.dirty(("hold", str(seq)), seq)
        queue.forget(("hold", str(seq - 40)))
        due = queue.due(FLUSH_EVENTS, at_ms=seq)
        queue.written([Snapshot(key, seq, b"") for key in due])
        written += due
    assert set(written) == {("shelf", "A")}


def test_where_little_happens_a_change_is_written_soon() -> None:
    queue = SnapshotQueue()
    queue.dirty(("shelf", "A"), 1)
    assert queue.due(1, at_ms=1_000) == []
    assert queue.due(1, at_ms=1_000 + WAIT_MS) == [("shelf", "A")]
