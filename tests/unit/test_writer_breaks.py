"""A writer that meets an error nobody foresaw leaves its shard: a live actor that never answers is worse than none."""

from __future__ import annotations

import pytest

from persistence.journal import Corrupt
from tests.support.virtual_time import idle, virtual_time
from tests.unit.toy_shard import SHARD, Owner, ToyCore, ToyDatabase, started


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


@virtual_time
async def test_what_goes_on_must_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its snapshot is lost and the journal before that is cut: nothing is made up from the rest."""
    monkeypatch.setattr(ToyCore, "may_end", lambda self, key: False)
    database = ToyDatabase()
    owner = await started(database)
    await owner.add("A").answer()
    await owner.add("A").answer()
    await owner.crash()
    shard = database.shards[SHARD]
    del shard.journal[1]
    shard.entities.clear()
    shard.tail = 2
    with pytest.raises(Corrupt, match="box A goes on in record 2, but neither a snapshot nor a record begins it"):
        await Owner(database).start()


@virtual_time
async def test_what_is_read_back_must_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    database = ToyDatabase()
    owner = await started(database)
    await owner.add("A").answer()
    await owner.crash()
    monkeypatch.setattr(ToyCore, "unsound", lambda self, world: f"{len(world)} box is too many")
    with pytest.raises(Corrupt, match="what is stored of toy-0 does not add up: 1 box is too many"):
        await Owner(database).start()
