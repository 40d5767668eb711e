"""A writer that meets an error nobody foresaw leaves its shard: a live actor that never answers is worse than none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from actors.cores import StockCore
from actors.event_sourced import EventSourced
from domain.catalog import Product
from domain.stock_model import PutProduct
from persistence.journal import Flush, Lease


class BrokenJournal:
    """An empty journal whose appends fail in a way that no contract names."""

    async def take(self, shard: str) -> Lease:
        return Lease(1, 0, 1)

    async def owns(self, shard: str, epoch: int) -> bool:
        return True

    async def append(self, epoch: int, flush: Flush) -> None:
        raise RuntimeError("out of the blue")

    async def was_written(self, flush: Flush) -> bool:
        return False

    async def awake(self, shard: str) -> AsyncIterator[Any]:
        no_pages: tuple[Any, ...] = ()
        for page in no_pages:
            yield page

    async def entities(self, shard: str, keys: Sequence[Any]) -> list[Any]:
        return []

    async def records(self, shard: str, tail: int, head: int) -> list[Any]:
        return []


class Silent:
    """A ticket that must not be answered."""

    def reply(self, reply: Any) -> None:
        pytest.fail(f"answered {reply} without having written it")

    def later(self) -> None:
        pytest.fail("promised an answer")


async def test_an_unforeseen_error_ends_the_writer_and_nobody_is_answered() -> None:
    left = asyncio.Event()
    writer = EventSourced("stock-0", StockCore(), BrokenJournal(), lambda: 1, on_fenced=left.set)
    await writer.recover()
    product = Product(title="T", prices={"USD": 1})
    writer.submit(PutProduct(command_id=b"x" * 16, sku="A", product=product), Silent())
    await asyncio.wait_for(writer.run(), 5)
    assert left.is_set()
