"""Appends of unknown outcome, and two owners of one shard: written once, answered once, by one of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from persistence.journal import Fenced, Flush
from tests.support.memory_journal import Wire
from tests.support.virtual_time import idle, virtual_time
from tests.unit.toy_shard import SHARD, Look, Ring, Total, ToyDatabase, Wait, answers, started

LOST = ConnectionResetError("the connection was lost")


def lost_request(wire: Wire) -> None:
    wire.fail("append", LOST)


def lost_answer(wire: Wire) -> None:
    wire.fail("append", LOST, way="answer")


def lost_request_then_answer(wire: Wire) -> None:
    lost_request(wire)
    lost_answer(wire)


def lost_answer_and_an_outage(wire: Wire) -> None:
    lost_answer(wire)
    wire.fail("take", TimeoutError(), times=2)
    wire.fail("take", LOST, way="answer")
    wire.fail("was_written", LOST)


def lost_request_and_an_outage(wire: Wire) -> None:
    lost_request(wire)
    wire.fail("take", TimeoutError(), times=2)


@pytest.mark.parametrize(
    "trouble",
    [lost_request, lost_answer, lost_request_then_answer, lost_request_and_an_outage],
    ids=lambda f: f.__name__,
)
@virtual_time
async def test_an_append_of_unknown_outcome_is_written_once_and_answered_once(trouble: Callable[[Wire], None]) -> None:
    database = ToyDatabase()
    owner = await started(database)
    await owner.add("a", 10).answer()
    trouble(owner.wire)
    asked = [owner.add("a"), owner.ask(Wait, "a"), owner.ask(Look, "a")]
    assert await answers(asked[0], asked[2]) == [Total(11), Total(11)]
    assert (database.head, database.totals()) == (2, {"a": 11})
    assert await answers(owner.ask(Ring, "a"), asked[1]) == [Total(11), Total(11)]
    assert not owner.left.is_set()
    heir = await started(database)
    assert dict(heir.writer.world) == database.full_replay


@virtual_time
async def test_a_lost_answer_to_the_question_who_owns_the_shard_ends_the_owner() -> None:
    """Its own epoch may have been taken by itself or by somebody else: it cannot tell, so it leaves."""
    database = ToyDatabase()
    owner = await started(database)
    lost_answer_and_an_outage(owner.wire)
    asked = owner.add("a")
    await owner.left.wait()
    assert asked.replies == []
    heir = await started(database)
    assert await answers(heir.ask(Look, "a")) == [Total(1)]


@virtual_time
async def test_a_statement_that_arrives_late_writes_nothing() -> None:
    """The outcome is looked at under a new epoch: what is still on its way is stopped before."""
    database = ToyDatabase()
    owner = await started(database)
    lost_request(owner.wire)
    late: list[str] = []

    async def the_first_statement_arrives() -> None:
        flush: Flush = next(subject for call, subject in owner.wire.calls if call == "append")
        with pytest.raises(Fenced):
            database.append(1, flush)
        late.append("stopped")

    await idle()
    owner.wire.plan("append", the_first_statement_arrives)
    assert await answers(owner.add("a")) == [Total(1)]
    assert late == ["stopped"]
    assert (database.head, database.totals()) == (1, {"a": 1})


@virtual_time
async def test_an_owner_that_was_overtaken_while_it_looked_leaves() -> None:
    """Of two owners that fence each other in turns neither would ever get anything done: the older one goes, alone."""
    database = ToyDatabase()
    owner = await started(database)
    lost_request(owner.wire)
    gate = owner.wire.stop("take")
    asked = owner.add("a")
    await gate.reached.wait()
    heir = await started(database)
    gate.open()
    await owner.left.wait()
    await idle()
    assert (asked.replies, database.head) == ([], 0)
    assert await answers(heir.add("a", 5)) == [Total(5)]
    assert not heir.left.is_set()


@virtual_time
async def test_an_owner_whose_heir_has_written_does_not_take_that_for_its_own() -> None:
    """The head is where its own record would be, but it is somebody else's."""
    database = ToyDatabase()
    owner = await started(database)
    lost_request(owner.wire)
    gate = owner.wire.stop("take")
    asked = owner.add("a", 3)
    await gate.reached.wait()
    heir = await started(database)
    assert await answers(heir.add("a", 4)) == [Total(4)]
    gate.open()
    await owner.left.wait()
    await idle()
    assert asked.replies == []
    assert database.totals() == {"a": 4}


@virtual_time
async def test_a_paused_owner_that_goes_on_under_its_heir_tells_nobody_and_changes_nothing() -> None:
    """Its append was on its way when the heir took over; nothing gathered behind it is told either."""
    database = ToyDatabase()
    owner = await started(database)
    gate = owner.wire.stop("append")
    asked = [owner.add("a")]
    await gate.reached.wait()
    asked += [owner.add("b"), owner.ask(Wait, "a"), owner.ask(Look, "a")]
    await idle()
    heir = await started(database)
    assert await answers(heir.add("c")) == [Total(1)]
    gate.open()
    await owner.left.wait()
    await idle()
    assert [(one.replies, one.put_off) for one in asked] == [([], 0)] * 4
    assert database.totals() == {"c": 1}
    assert database.shards[SHARD].head == 1


@virtual_time
async def test_what_a_writer_had_not_written_when_it_died_was_never_said() -> None:
    """Its heir knows nothing of it, so a repeat is new; what was written is known, so a repeat is one."""
    database = ToyDatabase()
    owner = await started(database)
    gate = owner.wire.stop("append", way="answer")
    written = owner.add("a", 2)
    await gate.reached.wait()
    unwritten = owner.add("b", 3)
    await idle()
    await owner.crash()
    assert (written.replies, unwritten.replies) == ([], [])
    heir = await started(database)
    assert await answers(heir.ask(Look, "a")) == [Total(2)]
    assert database.totals() == {"a": 2}
