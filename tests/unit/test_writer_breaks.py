"""A writer that meets an error nobody foresaw leaves its shard: a live actor that never answers is worse than none."""

from __future__ import annotations

import pytest

from persistence.journal import Corrupt
from tests.support.virtual_time import idle, virtual_time
from tests.unit.toy_shard import SHARD, Owner, ToyDatabase, started


@pytest.mark.parametrize("way", ["request", "answer"])
@virtual_time
async def test_an_unforeseen_error_of_an_append_ends_the_writer_and_nobody_is_answered(way: str) -> None:
    owner = await started(ToyDatabase())
    owner.wire.fail("append", RuntimeError("out of the blue"), way=way)
    asked = [owner.add("a"), owner.add("b")]
    await owner.left.wait()
    asked.append(owner.add("c"))
    await idle()
    assert [(one.replies, one.put_off) for one in asked] == [([], 0)] * 3


@virtual_time
async def test_an_unforeseen_error_of_a_load_ends_the_writer() -> None:
    """Its commands would be parked for ever, and the loader's death noticed by nobody."""
    owner = await started(ToyDatabase())
    owner.wire.fail("entities", RuntimeError("out of the blue"))
    asked = owner.add("a")
    await owner.left.wait()
    assert asked.replies == []


@pytest.mark.parametrize("damage", ["flipped bit", "moved", "missing", "cut short"])
@virtual_time
async def test_a_damaged_journal_is_named_and_nothing_of_it_is_served(damage: str) -> None:
    database = ToyDatabase()
    owner = await started(database)
    for _ in range(3):
        await owner.add("a").answer()
    await owner.crash()
    shard = database.shards[SHARD]
    match damage:
        case "flipped bit":
            events = shard.journal[2].events
            shard.journal[2] = shard.journal[2]._replace(events=events[:-1] + bytes([events[-1] ^ 1]))
        case "moved":
            shard.journal[1], shard.journal[2] = shard.journal[2], shard.journal[1]
        case "missing":
            del shard.journal[2]
        case "cut short":
            del shard.journal[3]
    with pytest.raises(Corrupt, match=SHARD):
        await Owner(database).start()
