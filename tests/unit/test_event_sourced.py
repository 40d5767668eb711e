"""The writer's replies: none leaves before what it rests on is durable, and each command has exactly one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from actors.event_sourced import BATCH_COMMANDS
from domain.messages import BUSY, REJECTED
from persistence.journal import Flush
from tests.support.virtual_time import idle, virtual_time
from tests.unit.toy_shard import (
    NOT_FOUND,
    TOO_LITTLE,
    Add,
    Asked,
    Clock,
    Look,
    Owner,
    Peek,
    Remove,
    Ring,
    Total,
    ToyDatabase,
    Trip,
    Wait,
    answers,
    new_id,
    started,
)

pytestmark = pytest.mark.usefixtures("written_at_once")

# ── what a reply waits for ──────────────────────────────────────────────────────────────────────────────


@virtual_time
async def test_no_reply_leaves_before_its_batch_is_written() -> None:
    """Refusals, repeats and reads of the batch included: they may rest on an event of it."""
    database = ToyDatabase()
    owner = await started(database)
    gate = owner.wire.stop("append")
    command = Add(command_id=new_id(), name="a", n=3)
    asked = [
        owner.submit(command),
        owner.submit(command),
        owner.add("a", -9),
        owner.ask(Look, "a"),
        owner.ask(Look, "nowhere"),
    ]
    await gate.reached.wait()
    await idle()
    assert [one.replies for one in asked] == [[]] * 5
    gate.open()
    assert await answers(*asked) == [Total(3), Total(3), TOO_LITTLE, Total(3), NOT_FOUND]
    assert database.head == 1


@virtual_time
async def test_what_comes_while_a_batch_is_written_waits_for_the_next_flush() -> None:
    """One flush is under way at a time; a read that saw its events does not overtake it."""
    database = ToyDatabase()
    owner = await started(database)
    first, second = owner.wire.stop("append"), owner.wire.stop("append")
    one = owner.add("a")
    await first.reached.wait()
    seen, two = owner.ask(Look, "a"), owner.add("a")
    await idle()
    assert not second.reached.is_set()
    first.open()
    await second.reached.wait()
    await idle()
    assert (one.replies, seen.replies, two.replies) == ([Total(1)], [], [])
    second.open()
    assert await answers(seen, two) == [Total(1), Total(2)]


@virtual_time
async def test_while_postgres_is_slow_a_batch_does_not_grow_without_end() -> None:
    """What it cannot take stays in the queue, and everybody is answered in the end."""
    sizes = []

    class Sized(ToyDatabase):
        def append(self, epoch: int, flush: Flush) -> None:
            super().append(epoch, flush)
            sizes.append(flush.event_count)

    database = Sized()
    owner = await started(database)
    gate = owner.wire.stop("append")
    asked = [owner.add("a")]
    await gate.reached.wait()
    asked += [owner.add("a") for _ in range(3 * BATCH_COMMANDS)]
    await idle()
    gate.open()
    assert await answers(*asked) == [Total(n) for n in range(1, len(asked) + 1)]
    assert max(sizes) == BATCH_COMMANDS


@virtual_time
async def test_a_batch_without_events_is_answered_once_its_epoch_is_known_to_stand() -> None:
    owner = await started(ToyDatabase())
    await owner.add("a", 5).answer()
    gate = owner.wire.stop("owns", way="answer")
    looks = [owner.ask(Look, "a"), owner.add("a", -9)]
    await gate.reached.wait()
    await idle()
    assert [one.replies for one in looks] == [[], []]
    gate.open()
    assert await answers(*looks) == [Total(5), TOO_LITTLE]
    assert [call for call, _ in owner.wire.calls].count("owns") == 1


@virtual_time
async def test_an_outage_is_a_pause_for_whoever_only_reads() -> None:
    owner = await started(ToyDatabase())
    await owner.add("a").answer()
    owner.wire.fail("owns", ConnectionResetError(), times=3)
    assert await answers(owner.ask(Look, "a")) == [Total(1)]


@virtual_time
async def test_a_read_that_may_be_stale_is_answered_at_once() -> None:
    """Even while the database does not answer."""
    owner = await started(ToyDatabase())
    gate = owner.wire.stop("append")
    owner.add("a", 2)
    await gate.reached.wait()
    assert owner.ask(Peek, "a").replies == [Total(2)]


@virtual_time
async def test_a_repeat_gets_the_first_answer_and_writes_nothing() -> None:
    database = ToyDatabase()
    owner = await started(database)
    command = Add(command_id=new_id(), name="a")
    assert await answers(owner.submit(command)) == [Total(1)]
    await owner.add("a", 5).answer()
    assert await answers(owner.submit(command)) == [Total(1)]
    assert database.totals() == {"a": 6}


# ── replies that come later ─────────────────────────────────────────────────────────────────────────────


@virtual_time
async def test_a_reply_that_comes_later_is_put_off_once_and_given_once() -> None:
    """Being put off is a promise, so it is made when the question is durable."""
    owner = await started(ToyDatabase())
    await owner.add("a").answer()
    gate = owner.wire.stop("append")
    waits = owner.ask(Wait, "a")
    await gate.reached.wait()
    await idle()
    assert waits.put_off == 0
    gate.open()
    await idle()
    assert (waits.put_off, waits.replies) == (1, [])
    gate = owner.wire.stop("append")
    rings = owner.ask(Ring, "a")
    await gate.reached.wait()
    await idle()
    assert waits.replies == []
    gate.open()
    assert await answers(rings, waits) == [Total(1), Total(1)]
    assert waits.put_off == 1


@virtual_time
async def test_a_later_reply_may_come_in_the_batch_that_asks_for_it() -> None:
    owner = await started(ToyDatabase())
    waits = [owner.add("a"), owner.ask(Wait, "a"), owner.ask(Wait, "a"), owner.ask(Ring, "a")]
    assert await answers(*waits) == [Total(1)] * 4


@virtual_time
async def test_all_who_ask_under_one_id_are_told() -> None:
    owner = await started(ToyDatabase())
    await owner.add("a").answer()
    command = Wait(command_id=new_id(), name="a")
    waits = [owner.submit(command), owner.submit(command)]
    await idle()
    owner.ask(Ring, "a")
    assert await answers(*waits) == [Total(1), Total(1)]


# ── what a command cannot do to others ──────────────────────────────────────────────────────────────────


@virtual_time
async def test_a_bug_in_the_core_concerns_the_command_that_met_it() -> None:
    database = ToyDatabase()
    owner = await started(database)
    asked = [owner.add("a"), owner.ask(Trip, "a"), owner.add("a")]
    assert await answers(*asked) == [Total(1), REJECTED, Total(2)]
    assert not owner.left.is_set()
    assert database.totals() == {"a": 2}


@virtual_time
async def test_only_new_work_is_refused_as_busy() -> None:
    """Everybody let in is answered; what ends something is let in however full the queue is."""
    owner = await started(ToyDatabase(), max_queue=3)
    await owner.add("a").answer()
    gate = owner.wire.stop("append")
    owner.add("a")
    await gate.reached.wait()
    waiting = [owner.add("a") for _ in range(3)]
    assert owner.add("a").replies == [BUSY]
    assert owner.writer.queued == 3
    rings = owner.ask(Ring, "a")
    assert rings.replies == []
    gate.open()
    assert await answers(*waiting, rings) == [Total(3), Total(4), Total(5), Total(5)]
    assert await answers(owner.add("a")) == [Total(6)]


@virtual_time
async def test_a_flood_is_written_in_few_flushes() -> None:
    """What arrives while a flush is under way shares the next one."""
    database = ToyDatabase()
    owner = await started(database)
    gate = owner.wire.stop("append")
    asked = [owner.add("a")]
    await gate.reached.wait()
    asked += [owner.add("a") for _ in range(600)]
    await idle()
    gate.open()
    assert await answers(*asked) == [Total(n) for n in range(1, 602)]
    assert database.head == 2


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────


@virtual_time
async def test_a_clock_that_goes_back_takes_no_decision_back() -> None:
    """Neither under the same owner nor after a crash: events are in order of their times."""
    database, clock = ToyDatabase(), Clock(5_000)
    owner = await started(database, clock)
    await owner.add("a").answer()
    clock.now_ms = 2_000
    await owner.add("a").answer()
    await owner.crash()
    clock.now_ms = 1_000
    heir = await started(database, clock)
    assert heir.writer.recovered_at_ms == 5_000
    await heir.add("a").answer()
    clock.now_ms = 6_000
    await heir.add("a").answer()
    assert database.event_times_ms == [5_000, 5_000, 5_000, 5_000, 6_000]


# ── what a flush does to the database ───────────────────────────────────────────────────────────────────


@virtual_time
async def test_a_removed_entity_leaves_no_row_and_stays_away_after_a_crash() -> None:
    database = ToyDatabase()
    owner = await started(database)
    await asyncio.gather(owner.add("A").answer(), owner.add("B").answer())
    assert ("box", "A") in database.shards["toy-0"].entities
    await owner.ask(Remove, "A").answer()
    await owner.crash()
    assert ("box", "A") not in database.shards["toy-0"].entities
    heir = await started(database)
    assert dict(heir.writer.world) == database.full_replay
    assert await answers(heir.ask(Look, "A"), heir.ask(Look, "B")) == [NOT_FOUND, Total(1)]


@pytest.mark.parametrize(
    "ask",
    [lambda owner: owner.add("a"), lambda owner: owner.ask(Look, "a"), lambda owner: owner.ask(Wait, "a")],
    ids=["a write", "a read", "a question for later"],
)
@virtual_time
async def test_a_fenced_writer_answers_nobody_and_says_that_it_leaves(ask: Callable[[Owner], Asked]) -> None:
    database = ToyDatabase()
    owner = await started(database)
    await owner.add("a", 7).answer()
    heir = await started(database)
    before = database.full_replay.copy()
    asked = ask(owner)
    await owner.left.wait()
    await idle()
    assert (asked.replies, asked.put_off) == ([], 0)
    assert owner.writer.fenced
    assert database.full_replay == before
    assert await answers(heir.add("a")) == [Total(8)]
