"""Snapshots and journal: whatever was cut, damaged or crashed, what is recovered is what a full replay gives."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.messages import Key
from tests.support.virtual_time import idle, pass_time, virtual_time
from tests.unit.toy_shard import (
    SHARD,
    Add,
    Asked,
    Box,
    Look,
    Move,
    Owner,
    Remove,
    Ring,
    Total,
    ToyCore,
    ToyDatabase,
    Wait,
    answers,
    new_id,
    started,
)

pytestmark = pytest.mark.usefixtures("written_at_once")

CORE = ToyCore()
NAMES = "abcdEF"


def all_boxes(owner: Owner, database: ToyDatabase) -> dict[Key, Box]:
    """What the owner has in memory, and what its database has of those that rest."""
    boxes: dict[Key, Box] = dict(owner.writer.world)
    for key, box in database.full_replay.items():
        if key not in boxes and CORE.resting(key, box):
            (stored,) = database.entities(SHARD, [key])
            boxes[key] = msgspec.msgpack.decode(stored.state, type=Box)
    return boxes


async def recovered(database: ToyDatabase) -> Owner:
    """A new owner, checked against the full replay."""
    owner = await started(database)
    assert all_boxes(owner, database) == database.full_replay
    return owner


NAME = st.sampled_from(NAMES)
COMMAND: st.SearchStrategy[Any] = st.one_of(
    st.builds(lambda name, n, rest: (Add, name, {"n": n, "rest": rest}), NAME, st.integers(-3, 5), st.booleans()),
    st.builds(lambda name, target: (Move, name, {"target": target}), NAME, NAME),
    st.sampled_from([Wait, Ring, Remove, Look]).flatmap(lambda kind: st.tuples(st.just(kind), NAME, st.just({}))),
)
TROUBLE = st.sampled_from(["", "", "", "lost request", "lost answer", "refused", "crash before", "crash after"])
HISTORY = st.lists(st.tuples(st.lists(COMMAND, max_size=6), TROUBLE), max_size=15)


@settings(deadline=None, max_examples=150)
@given(HISTORY)
@virtual_time
async def test_after_any_crash_the_world_is_what_a_full_replay_gives(
    history: list[tuple[list[tuple[Any, str, dict[str, Any]]], str]],
) -> None:
    """Random commands in random batches; owners that crash before and after their append, or lose its answer."""
    database = ToyDatabase()
    owner = await started(database)
    for batch, trouble in history:
        way = "answer" if trouble in ("lost answer", "crash after") else "request"
        if trouble.startswith("lost"):
            owner.wire.fail("append", ConnectionResetError(), way=way)
        elif trouble == "refused":
            owner.wire.fail("append", ValueError("refused"))
        elif trouble:
            owner.wire.stop("append", way=way)
        for kind, name, more in batch:
            if more.get("target") != name:
                owner.ask(kind, name, **more)
        await pass_time(1)  # long enough for a lost answer to be looked into
        if trouble.startswith("crash"):
            await owner.crash()
            owner = await recovered(database)
    await owner.crash()
    heir = await started(database)
    assert all_boxes(heir, database) == database.full_replay


@pytest.mark.parametrize("seed", range(4))
@virtual_time
async def test_a_cut_journal_brings_every_entity_back_from_either_generation(seed: int) -> None:
    """Hundreds of flushes with crashes, also right after each cut; then the newer generation of some is damaged."""
    chance = random.Random(seed)
    database = ToyDatabase()
    shard = database.shards[SHARD]
    owner = await recovered(database)
    tails = [shard.tail]
    while len(tails) < 4 and shard.head < 2_000:
        names = [f"{chance.choice(NAMES)}{chance.randrange(8)}" for _ in range(chance.randrange(1, 8))]
        await answers(*(owner.add(name, chance.randrange(5)) for name in names))
        if shard.tail != tails[-1] or chance.random() < 0.01:
            await owner.crash()
            for name in database.sound_twice():
                if chance.random() < 0.5:
                    database.damage(name, both=False)
            owner = await recovered(database)
        if shard.tail != tails[-1]:
            tails.append(shard.tail)
            assert min(shard.journal) == shard.tail
    assert len(tails) == 4, "the journal is not cut often enough"


@virtual_time
async def test_a_resting_entity_that_was_changed_is_brought_up_to_date_from_its_row() -> None:
    """Its change is in the journal only, for others were before it in the queue of what is stored."""
    database = ToyDatabase()
    database.put_away("a", Box(5, resting=True))
    owner = await started(database)
    await owner.ask(Look, "nobody").answer()
    gate = owner.wire.stop("append")
    asked = [owner.add(name) for name in "ABCDEFGH"]
    await gate.reached.wait()
    asked += [owner.add(name) for name in "ABCDEFGH"] + [owner.add("a")]
    await idle()
    gate.open()
    await answers(*asked)
    await owner.crash()
    (stored,) = database.entities(SHARD, [("box", "a")])
    assert stored.resting, "the row is as it was"
    heir = await recovered(database)
    assert await answers(heir.ask(Look, "a")) == [Total(6)]


@virtual_time
async def test_a_snapshot_knows_nothing_of_the_batch_that_gathers_behind_it() -> None:
    """A parked command is decided in the very moment in which a flush is put together: it belongs to the next one."""
    database = ToyDatabase()
    database.put_away("asleep", Box(5, resting=True))
    owner = await started(database)
    await answers(owner.add("a"), owner.add("b"))
    for other in ("a", "b"):
        read = owner.wire.stop("entities")
        moved = owner.ask(Move, "asleep", target="a")
        await read.reached.wait()
        lost = owner.wire.stop("append", way="answer")
        # The writer takes this one first and makes its flush; before that starts, the loader has decided the other.
        added = owner.add(other)
        read.open()
        await lost.reached.wait()
        await owner.crash()
        assert (moved.replies, added.replies) == ([], [])
        owner = await recovered(database)
        await idle()


@virtual_time
async def test_an_entity_that_begins_again_is_not_mixed_with_the_one_that_ended() -> None:
    database = ToyDatabase()
    owner = await recovered(database)
    waits: list[Asked] = []
    for n in range(1, 4):
        await answers(owner.add("A", n))
        waits.append(owner.ask(Wait, "A"))
        await idle()
        await owner.crash()
        owner = await recovered(database)
        assert await answers(owner.ask(Remove, "A")) == [Total(n)]
    await owner.crash()
    owner = await recovered(database)
    assert dict(owner.writer.world) == {}


@virtual_time
async def test_an_answer_is_kept_by_the_append_that_has_its_effect() -> None:
    """After a crash at any point a repeat is either new or known, never half of each."""
    database = ToyDatabase()
    command = Add(command_id=new_id(), name="a", n=2)
    for way in ("request", "answer", "answer"):
        owner = await recovered(database)
        gate = owner.wire.stop("append", way=way)
        asked = owner.submit(command)
        if way == "request" or not database.head:
            await gate.reached.wait()
        else:
            assert await answers(asked) == [Total(2)]
        await owner.crash()
    assert database.totals() == {"a": 2}
