"""Rows that the database refuses: the command they come from is refused, everybody else of its batch is answered."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from actors.snapshots import WAIT_MS
from domain.messages import REJECTED
from domain.order import OrderStateRow
from tests.support.virtual_time import idle, virtual_time
from tests.unit.toy_shard import (
    POISON,
    SHARD,
    TOO_LITTLE,
    Add,
    Asked,
    Box,
    Clock,
    Look,
    Owner,
    Peek,
    Place,
    Remove,
    Ring,
    Total,
    Toy,
    ToyDatabase,
    Wait,
    answers,
    new_id,
    order,
    started,
)


async def in_one_batch(owner: Owner, *commands: Toy) -> list[Asked]:
    """Submit while a flush is under way, so that all of them share the next one."""
    gate = owner.wire.stop("append")
    owner.add("gate")
    await gate.reached.wait()
    asked = [owner.submit(command) for command in commands]
    await idle()
    gate.open()
    return asked


def add(name: str, n: int = 1, *rows: Any) -> Add:
    return Add(command_id=new_id(), name=name, n=n, rows=rows)


def place(name: str, *rows: Any) -> Place:
    return Place(command_id=new_id(), name=name, rows=rows)


@virtual_time
async def test_only_the_poisoned_command_of_a_batch_is_refused() -> None:
    """Nothing of it is kept; its neighbours, before it and behind it, are answered as if it had never been."""
    database = ToyDatabase()
    owner = await started(database)
    good = order("ord_1", "chk_1")
    asked = await in_one_batch(owner, add("a", 2), add("a", 3, POISON), add("a", 4, good), add("b", -1), add("b"))
    assert await answers(*asked) == [Total(2), REJECTED, Total(6), TOO_LITTLE, Total(1)]
    assert database.totals() == {"gate": 1, "a": 6, "b": 1}
    assert list(database.tables.orders) == ["ord_1"]
    assert dict(owner.writer.world) == database.full_replay


@virtual_time
async def test_of_two_orders_of_one_checkout_only_the_first_is_written() -> None:
    """The constraint that keeps a checkout from being ordered twice, also within one statement."""
    database = ToyDatabase()
    owner = await started(database)
    twice = [add("a", 1, order("ord_1", "chk_1")), add("a", 1, order("ord_2", "chk_1"))]
    asked = await in_one_batch(owner, *twice)
    assert await answers(*asked) == [Total(1), REJECTED]
    assert await answers(owner.submit(add("a", 1, order("ord_3", "chk_1")))) == [REJECTED]
    assert await answers(owner.submit(add("a", 1, OrderStateRow("ord_9", 1, "confirmed", "paid", 1, b"{}")))) == [
        REJECTED
    ]
    assert list(database.tables.orders) == ["ord_1"]
    assert database.totals()["a"] == 1


@virtual_time
async def test_whoever_waits_for_a_later_reply_waits_on_and_is_told_once() -> None:
    """Its question is decided anew with the rest of the batch; being put off is said once."""
    owner = await started(ToyDatabase())
    await owner.add("a").answer()
    wait = Wait(command_id=new_id(), name="a")
    asked = await in_one_batch(owner, wait, add("a", 1, POISON), add("a"))
    assert await answers(*asked[1:]) == [REJECTED, Total(2)]
    await idle()
    assert (asked[0].replies, asked[0].put_off) == ([], 1)
    assert await answers(owner.ask(Ring, "a"), asked[0]) == [Total(2), Total(2)]


@virtual_time
async def test_a_later_reply_taken_back_with_its_batch_is_given_when_that_is_written() -> None:
    """The batch that answers an older question is refused: the asker is told by its second try, once."""
    owner = await started(ToyDatabase())
    await owner.add("a").answer()
    waits = owner.ask(Wait, "a")
    await idle()
    asked = await in_one_batch(owner, Ring(command_id=new_id(), name="a"), add("a", 1, POISON))
    assert await answers(*asked, waits) == [Total(1), REJECTED, Total(1)]


@virtual_time
async def test_whom_a_poisoned_command_would_have_answered_waits_as_before() -> None:
    owner = await started(ToyDatabase())
    await owner.add("a").answer()
    waits = owner.ask(Wait, "a")
    await idle()
    asked = await in_one_batch(owner, Ring(command_id=new_id(), name="a", rows=(POISON,)), add("a"))
    assert await answers(*asked) == [REJECTED, Total(2)]
    await idle()
    assert (waits.replies, waits.put_off) == ([], 1)
    assert await answers(owner.ask(Ring, "a"), waits) == [Total(2), Total(2)]


@virtual_time
async def test_what_should_happen_instead_happens_and_answers_the_asker() -> None:
    database = ToyDatabase()
    owner = await started(database)
    await owner.add("a", 7).answer()
    asked = await in_one_batch(owner, add("a"), place("a", POISON), add("a"))
    assert await answers(*asked) == [Total(8), Total(8, given_up=1), Total(9)]
    assert database.full_replay["box", "a"].given_up == 1
    assert database.tables.orders == {}


@virtual_time
async def test_what_came_behind_the_refused_batch_is_decided_on_the_new_world() -> None:
    """While it is rebuilt nobody is answered from it, readers of what may be stale included."""
    database = ToyDatabase()
    owner = await started(database)
    await owner.add("a", 5).answer()
    refused = owner.wire.stop("append")
    poisoned = owner.add("a", 100, rows=(POISON,))
    await refused.reached.wait()
    behind = [owner.ask(Look, "a"), owner.add("a", -50)]
    await idle()
    assert owner.ask(Peek, "a").replies == [Total(55)]
    rebuilding = owner.wire.stop("records")
    refused.open()
    await rebuilding.reached.wait()
    during = [owner.add("a"), owner.ask(Peek, "a")]
    await idle()
    assert [one.replies for one in (poisoned, *behind, *during)] == [[]] * 5
    rebuilding.open()
    assert await answers(poisoned, *behind, *during) == [REJECTED, Total(5), TOO_LITTLE, Total(6), Total(6)]
    assert database.totals() == {"a": 6}


@pytest.mark.parametrize("call", ["take", "awake", "records", "append"])
@virtual_time
async def test_an_outage_while_a_batch_is_decided_anew_is_a_pause(call: str) -> None:
    database = ToyDatabase()
    owner = await started(database)
    asked = await in_one_batch(owner, add("a", 2), add("a", 3, POISON), add("a", 4))
    rejected = owner.wire.stop("append", way="request")
    await rejected.reached.wait()
    owner.wire.fail(call, ConnectionResetError(), times=2)
    rejected.open()
    assert await answers(*asked) == [Total(2), REJECTED, Total(6)]
    assert database.totals() == {"gate": 1, "a": 6}
    assert not owner.left.is_set()


@virtual_time
async def test_resting_entities_are_loaded_for_the_second_try_and_a_damaged_one_is_refused() -> None:
    """The world is rebuilt from what is awake; what sleeps is looked for before its command is decided."""
    database = ToyDatabase()
    owner = await started(database)
    database.put_away("sound", Box(5, resting=True))
    database.put_away("damaged", Box(5, resting=True))
    asked = await in_one_batch(owner, add("sound"), add("damaged"), add("sound", 1, POISON))
    rejected = owner.wire.stop("append")
    await rejected.reached.wait()
    database.damage("damaged")
    rejected.open()
    assert await answers(*asked) == [Total(6), REJECTED, REJECTED]
    assert not owner.left.is_set()


@virtual_time
async def test_a_command_that_the_database_can_never_take_stops_nobody() -> None:
    """Every flush that has it along is refused as often as it is asked for."""
    database = ToyDatabase()
    owner = await started(database)
    for n in range(1, 4):
        owner.wire.fail("append", asyncpg.DataError("not a number"), times=2)
        asked = [owner.ask(Add, "a", n=1)]
        assert await answers(*asked) == [REJECTED]
        assert await answers(owner.add("b")) == [Total(n)]
    assert database.totals() == {"b": 3}


@virtual_time
async def test_who_finds_out_what_was_refused_takes_nothing_from_its_heir() -> None:
    """Overtaken before it reads the shard anew, it leaves: it would go on with sagas that its heir has ended."""
    database = ToyDatabase()
    owner = await started(database)
    gate = owner.wire.stop("take")
    asked = owner.submit(add("a", 1, POISON))
    await gate.reached.wait()
    heir = await started(database)
    gate.open()
    await owner.left.wait()
    assert asked.replies == []
    assert await answers(heir.add("a", 5)) == [Total(5)]
    assert not heir.left.is_set()


@virtual_time
async def test_what_ended_and_began_again_in_one_batch_has_the_row_it_had() -> None:
    """Its heir writes over the row. Taken for new, it would be refused, and with it everything, by every heir."""
    database, clock = ToyDatabase(), Clock()
    owner = await started(database, clock)
    await owner.add("A").answer()
    clock.now_ms += WAIT_MS
    await answers(owner.add("b"))
    await answers(owner.add("b"))
    assert ("box", "A") in database.shards[SHARD].entities
    await answers(*await in_one_batch(owner, Remove(command_id=new_id(), name="A"), add("A", 3)))
    await owner.crash()
    heir = await started(database, clock)
    assert await answers(heir.add("A")) == [Total(4)]
    assert await answers(heir.add("A")) == [Total(5)]
    assert dict(heir.writer.world) == database.full_replay
