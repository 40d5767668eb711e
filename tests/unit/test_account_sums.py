"""What a recovery adds up is what it would have applied event by event, snapshots of any age beneath it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.cores import StockCore
from actors.event_sourced import EventSourced
from actors.shard_memory import ShardMemory
from domain import stock
from domain.catalog import Product
from domain.messages import Command
from persistence.journal import Corrupt
from tests.support.memory_journal import Database, MemoryJournal, Wire
from tests.support.virtual_time import virtual_time
from tests.unit.toy_shard import Asked, Clock, new_id

pytestmark = pytest.mark.usefixtures("written_at_once")

SHARD = "stock-0"
SKUS = ("tea", "mug", "cup", "pot")
HOLDS = ("h1", "h2", "h3")


class OneByOne(StockCore):
    """Without the sums."""

    sums: Any = None


hold = st.sampled_from(HOLDS)
legs = st.dictionaries(st.sampled_from(SKUS).map(stock.account_of), st.integers(1, 2), min_size=1)
make = {"command_id": st.builds(new_id)}
COMMAND: st.SearchStrategy[Command] = st.one_of(
    st.builds(stock.Take, **make, hold_id=hold, revision=st.integers(1, 3), wanted=legs,
              expires_at_ms=st.just(60_000), issued_at_ms=st.just(1_000), pinned=st.booleans()),
    st.builds(stock.Trim, **make, hold_id=hold, revision=st.integers(1, 3), target=legs),
    st.builds(stock.Confirm, **make, hold_id=hold),
    st.builds(stock.Release, **make, hold_id=hold),
    st.builds(stock.GiveBack, **make, hold_id=st.just("r1"), legs=legs, issued_at_ms=st.just(1_000)),
    st.builds(stock.Adjust, **make, fingerprint=st.just(b"f"), sku=st.sampled_from(SKUS), delta=st.integers(-1, 3),
              reason=st.just("count")),
    st.builds(stock.PutProduct, **make, sku=st.sampled_from(SKUS),
              product=st.builds(Product, st.sampled_from(["Tea", "Mug"]), st.just({"USD": 5}))),
)  # fmt: skip


async def written(batches: list[list[Command]]) -> tuple[Database, EventSourced]:
    """A shard that has been through all that, a flush for each batch, and the writer as it was at the end."""
    database = Database(SHARD)
    writer = EventSourced(SHARD, StockCore(), MemoryJournal(database, Wire()), Clock())
    await writer.recover()
    running = asyncio.create_task(writer.run())
    for batch in batches:
        asked = []
        for command in batch:
            asked.append(Asked())
            writer.submit(command, asked[-1])
        for one in asked:
            await one.answer()
    running.cancel()
    return database, writer


async def read_back(database: Database, core: StockCore) -> ShardMemory:
    memory = ShardMemory(SHARD, core)
    journal = MemoryJournal(database, Wire())
    await memory.recover(journal, await journal.take(SHARD))
    return memory


@settings(max_examples=150)
@given(batches=st.lists(st.lists(COMMAND, min_size=1, max_size=4), min_size=1, max_size=25))
@virtual_time
async def test_added_up_or_one_by_one_is_the_same(batches: list[list[Command]]) -> None:
    """The same states as before the end, and the same snapshots awaited of them."""
    database, writer = await written(batches)
    added, applied = await read_back(database, StockCore()), await read_back(database, OneByOne())
    assert added.world == applied.world == writer.world
    assert added._snapshots._due == applied._snapshots._due


@virtual_time
async def test_an_account_whose_row_is_lost_is_not_begun_by_a_sum() -> None:
    """Its product and its units are in no record any more: nobody may make up an account of what was sold since."""
    put = stock.PutProduct(command_id=new_id(), sku="tea", product=Product("Tea", {"USD": 5}))
    received = stock.Adjust(command_id=new_id(), sku="tea", delta=10, reason="count")
    moves: list[list[Command]] = [
        [stock.Take(command_id=new_id(), hold_id=f"h{n}", revision=1, wanted={stock.account_of("tea"): 1},
                    expires_at_ms=60_000, issued_at_ms=1_000, pinned=True)]
        for n in range(5)
    ]  # fmt: skip
    database, _ = await written([[put], [received], *moves])
    shard = database.shards[SHARD]
    shard.tail = 3
    del shard.journal[1], shard.journal[2]  # cut away long ago
    del shard.entities["account", stock.account_of("tea")]
    with pytest.raises(Corrupt, match="goes on in record"):
        await read_back(database, StockCore())
