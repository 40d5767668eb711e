"""Entities that rest leave memory; a command that needs one is parked until it is loaded, and nobody else waits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.event_sourced import BATCH_COMMANDS
from domain.messages import BUSY, REJECTED
from tests.support.memory_journal import Wire
from tests.support.virtual_time import idle, pass_time, virtual_time
from tests.unit.toy_shard import (
    NOT_FOUND,
    POISON,
    Asked,
    Box,
    Look,
    Move,
    Ring,
    Total,
    ToyDatabase,
    Wait,
    answers,
    started,
)

pytestmark = pytest.mark.usefixtures("written_at_once")

RESTING = Box(5, resting=True)


def asleep(*names: str) -> ToyDatabase:
    database = ToyDatabase()
    for name in names:
        database.put_away(name, RESTING)
    return database


@virtual_time
async def test_what_rests_is_not_loaded_by_recovery_but_by_the_command_that_needs_it() -> None:
    owner = await started(asleep("a"))
    assert dict(owner.writer.world) == {}
    assert await answers(owner.ask(Look, "a")) == [Total(5)]
    assert dict(owner.writer.world) == {}, "what was only looked at rests as before"
    assert await answers(owner.ask(Look, "b")) == [NOT_FOUND]


@virtual_time
async def test_an_entity_leaves_memory_once_its_last_state_is_stored() -> None:
    """Not before, and not while somebody still waits for a reply about it."""
    database = asleep("a")
    owner = await started(database)
    gate = owner.wire.stop("append")
    asked = owner.add("a", 1, rest=True)
    await gate.reached.wait()
    await idle()
    assert dict(owner.writer.world) == database.full_replay | {("box", "a"): owner.writer.world.get("box", "a")}
    gate.open()
    assert await answers(asked) == [Total(6)]
    await idle()
    assert dict(owner.writer.world) == {}
    waits = owner.ask(Wait, "a")
    await idle()
    assert ("box", "a") in owner.writer.world
    assert await answers(owner.ask(Ring, "a"), waits) == [Total(6), Total(6)]


@virtual_time
async def test_an_entity_that_changes_again_while_it_is_stored_stays_in_memory() -> None:
    """What is in its row by now is older than what is decided already."""
    database = asleep("a")
    owner = await started(database)
    first, second = owner.wire.stop("append"), owner.wire.stop("append")
    asked = [owner.add("a", 1, rest=True)]
    await first.reached.wait()
    asked.append(owner.add("a", 1, rest=True))
    await idle()
    first.open()
    await second.reached.wait()
    asked.append(owner.add("a", 1, rest=True))
    await idle()
    second.open()
    assert await answers(*asked) == [Total(6), Total(7), Total(8)]
    assert database.totals() == {"a": 8}


@virtual_time
async def test_a_parked_command_holds_up_nobody_whose_entities_are_awake() -> None:
    owner = await started(asleep("a"))
    await owner.add("b").answer()
    gate = owner.wire.stop("entities")
    parked = [owner.ask(Look, "a"), owner.add("a"), owner.add("a")]
    await gate.reached.wait()
    assert await answers(owner.add("b"), owner.ask(Look, "b")) == [Total(2), Total(2)]
    assert [one.replies for one in parked] == [[]] * 3
    gate.open()
    assert await answers(*parked) == [Total(5), Total(6), Total(7)]


@virtual_time
async def test_commands_parked_during_one_reading_share_the_next() -> None:
    """One loader at a time: of two the slower would bring back what the other's command has changed."""
    owner = await started(asleep("a", "b", "c"))
    gate = owner.wire.stop("entities")
    asked = [owner.add("a")]
    await gate.reached.wait()
    asked += [owner.add("a"), owner.add("b"), owner.add("c"), owner.add("b")]
    await idle()
    gate.open()
    assert await answers(*asked) == [Total(6), Total(7), Total(6), Total(6), Total(7)]
    assert [len(keys) for call, keys in owner.wire.calls if call == "entities" and keys] == [1, 2]


@virtual_time
async def test_parked_commands_count_for_the_bound_of_the_queue() -> None:
    """A slow database must not make room for more work than the queue may hold."""
    owner = await started(asleep("a", "b"), max_queue=4)
    gate = owner.wire.stop("entities")
    asked = [owner.add("a")]
    await gate.reached.wait()
    parked = [owner.add("b") for _ in range(3)]
    await idle()
    assert owner.writer.queued == 4
    assert owner.add("b").replies == [BUSY]
    rings = owner.ask(Ring, "b")
    assert rings.replies == []
    gate.open()
    assert await answers(*asked, *parked, rings) == [Total(n) for n in (6, 6, 7, 8, 8)]


@virtual_time
async def test_a_parked_command_is_not_decided_without_what_went_to_rest_while_it_was_parked() -> None:
    """It needs two entities: one is being read, the other was awake when the reading began."""
    database = asleep("asleep", "awake")
    owner = await started(database)
    written = owner.wire.stop("append")
    first = owner.add("awake", 1, rest=True)
    await written.reached.wait()
    read = owner.wire.stop("entities")
    moved = owner.ask(Move, "asleep", target="awake", n=2)
    await read.reached.wait()
    written.open()
    assert await answers(first) == [Total(6)]
    await idle()
    assert ("box", "awake") not in owner.writer.world
    read.open()
    assert await answers(moved) == [Total(3)]
    assert database.totals() == {"asleep": 3, "awake": 8}


@virtual_time
async def test_a_damaged_entity_concerns_only_the_commands_that_need_it() -> None:
    database = asleep("sound", "damaged")
    database.damage("damaged")
    owner = await started(database)
    await owner.add("awake").answer()
    gate = owner.wire.stop("entities")
    asked = [owner.ask(Look, "nobody")]
    await gate.reached.wait()
    asked += [
        owner.add("sound"),
        owner.add("damaged"),
        owner.ask(Move, "sound", target="damaged"),
        owner.ask(Move, "damaged", target="awake"),
        owner.ask(Move, "sound", target="awake"),
        owner.ask(Look, "damaged"),
    ]
    await idle()
    gate.open()
    assert await answers(*asked) == [NOT_FOUND, Total(6), REJECTED, REJECTED, REJECTED, Total(5), REJECTED]
    assert not owner.left.is_set()
    assert database.totals() == {"sound": 5, "damaged": 5, "awake": 2}


@virtual_time
async def test_a_damaged_entity_at_rest_does_not_keep_its_shard_from_recovering() -> None:
    """Even where the journal still tells of it: it is left out, and refused to whoever asks."""
    database = ToyDatabase()
    owner = await started(database)
    await answers(owner.add("damaged", 5, rest=True), owner.add("sound", 5, rest=True))
    await idle()
    await owner.crash()
    database.damage("damaged")
    heir = await started(database)
    assert await answers(heir.add("sound"), heir.add("damaged")) == [Total(6), REJECTED]


@virtual_time
async def test_what_rests_and_is_up_to_date_is_neither_kept_by_a_recovery_nor_written_again() -> None:
    """The kept journal tells of it, but its row lacks nothing: else each recovery would write all of the last hours."""
    database = ToyDatabase()
    owner = await started(database)
    await answers(*(owner.add(name, n, rest=True) for n, name in enumerate("abc", 1)), owner.add("X"))
    await owner.add("X").answer()
    await idle()
    assert dict(owner.writer.world).keys() == {("box", "X")}
    await owner.crash()
    heir = await started(database)
    assert heir.writer.replayed_events > 0
    assert dict(heir.writer.world).keys() == {("box", "X")}
    for _ in range(5):
        await heir.add("X").answer()
    flushes = [flush for call, flush in heir.wire.calls if call == "append"]
    assert {snapshot.key for flush in flushes for snapshot in flush.snapshots} == {("box", "X")}
    assert await answers(*(heir.ask(Look, name) for name in "abc")) == [Total(1), Total(2), Total(3)]


@virtual_time
async def test_an_outage_while_an_entity_is_read_is_a_pause() -> None:
    owner = await started(asleep("a"))
    owner.wire.fail("entities", ConnectionResetError(), times=3)
    assert await answers(owner.add("a")) == [Total(6)]


@virtual_time
async def test_what_was_read_before_the_world_was_rebuilt_is_read_again() -> None:
    """The reading was slow: meanwhile a refused batch was decided anew, and with it the entity changed and rested."""
    database = asleep("a")
    owner = await started(database)
    written = owner.wire.stop("append")
    refused = owner.add("b", rows=(POISON,))
    await written.reached.wait()
    read = owner.wire.stop("entities", way="answer")
    slow = owner.add("a")
    await read.reached.wait()
    written.open()
    quick = owner.add("a", 1, rest=True)  # queued when the batch is refused, so decided with it
    assert await answers(refused, quick) == [REJECTED, Total(6)]
    await idle()
    read.open()
    assert await answers(slow) == [Total(7)]
    assert database.totals() == {"a": 7}


@virtual_time
async def test_what_was_read_before_the_world_is_rebuilt_is_read_again() -> None:
    """And nothing is read meanwhile: the command that is decided anew may change the entity and let it rest."""
    database = asleep("a", "k")
    owner = await started(database)
    written = owner.wire.stop("append")
    refused = owner.add("b", rows=(POISON,))
    await written.reached.wait()
    reading = owner.wire.stop("entities", way="answer")
    one = owner.add("a")
    await reading.reached.wait()
    two = owner.add("k")  # waits for the reading under way
    await idle()
    owner.wire.plan("records", idle)  # the first time, to find the command that is refused
    rebuilding = owner.wire.stop("records")
    written.open()
    quick = owner.add("k", 1, rest=True)  # queued when the batch is refused, so decided with it
    await rebuilding.reached.wait()
    reading.open()
    await idle()
    rebuilding.open()
    assert await answers(refused, quick) == [REJECTED, Total(6)]
    assert await answers(one, two) == [Total(6), Total(7)]
    assert database.totals() == {"a": 6, "k": 7}


@virtual_time
async def test_no_more_is_read_than_the_next_flush_has_room_for() -> None:
    """While Postgres is slow, thousands that wait for their entities would make up one flush, and a slower one."""
    names = [f"box{n}" for n in range(2 * BATCH_COMMANDS + 10)]
    owner = await started(asleep(*names))
    written = owner.wire.stop("append")
    awake = owner.add("awake")
    await written.reached.wait()
    asked = [owner.add(name) for name in names]
    await idle()
    written.open()
    assert await answers(awake, *asked) == [Total(1), *[Total(6)] * len(names)]
    assert max(flush.event_count for call, flush in owner.wire.calls if call == "append") <= BATCH_COMMANDS


# ── any order of events ─────────────────────────────────────────────────────────────────────────────────

NAMES = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NAMES, st.booleans()),
        st.tuples(st.just("move"), NAMES, NAMES),
        st.tuples(st.just("pause"), st.integers(1, 8), st.none()),
    ),
    max_size=25,
)
DELAYS = st.lists(st.integers(0, 6), max_size=30)


def slow(wire: Wire, delays: Sequence[int]) -> None:
    """Each flush and each reading takes its time, on the way there and on the way back."""

    def pause(delay_ms: int) -> None:
        for call in ("append", "entities"):
            wire.plan(call, lambda: pass_time(delay_ms / 1_000), way="request" if delay_ms % 2 else "answer")

    for delay_ms in delays:
        pause(delay_ms)


@settings(deadline=None, max_examples=150)
@given(STEPS, DELAYS, st.booleans())
@virtual_time
async def test_nothing_acknowledged_is_lost_however_entities_come_and_go(
    steps: list[tuple[str, str | int, object]], delays: list[int], refused: bool
) -> None:
    """Entities fall asleep and are loaded at any moment, the world is rebuilt in between: sums are what was told."""
    database = asleep("a", "b", "c")
    owner = await started(database)
    slow(owner.wire, delays)
    if refused:
        owner.wire.fail("append", ValueError("refused"))
    asked: list[tuple[str, str, Asked]] = []
    for step, name, more in steps:
        match step:
            case "add":
                asked.append((str(name), str(name), owner.add(str(name), 1, rest=more)))
            case "move" if name != more:
                asked.append((str(name), str(more), owner.ask(Move, str(name), target=more)))
            case "pause":
                assert isinstance(name, int)
                await pass_time(name / 1_000)
    replies = await answers(*(one for _, _, one in asked))
    expected = dict.fromkeys("abc", 5)
    for (source, target, _), reply in zip(asked, replies, strict=True):
        if reply == REJECTED:
            continue
        assert isinstance(reply, Total), "an entity that is there was not found"
        expected[target] += 1
        expected[source] -= source != target
    assert database.totals() == expected
    await owner.crash()
    heir = await started(database)
    assert await answers(*(heir.ask(Look, name) for name in "abc")) == [Total(expected[name]) for name in "abc"]


@pytest.mark.parametrize("rest", [True, False])
@virtual_time
async def test_a_crash_with_a_resting_entity_in_the_journal_brings_it_back_as_it_was(rest: bool) -> None:
    """Its row is newer than the records that tell of it, or older: both are found."""
    database = asleep("a")
    owner = await started(database)
    await owner.add("a", 1, rest=True).answer()
    await owner.add("a", 1, rest=rest).answer()
    await owner.crash()
    heir = await started(database)
    assert await answers(heir.ask(Look, "a"), heir.add("a")) == [Total(7), Total(8)]
