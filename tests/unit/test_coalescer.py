"""Group commit: one flush at a time, the next gathers."""

from __future__ import annotations

import asyncio

import pytest

from persistence.coalescer import Coalescer


class Gate:
    """A flush that records its batches and waits for permission to return."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def flush(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.entered.set()
        await self.open.wait()
        return [item * 10 for item in items]


async def test_what_comes_during_a_flush_makes_up_the_next_batch() -> None:
    """The first goes at once, the others together, each with its own result."""
    gate = Gate()
    coalescer = Coalescer(gate.flush, max_batch=100)
    first = coalescer.submit(1)
    await gate.entered.wait()
    rest = [coalescer.submit(item) for item in (2, 3, 4)]
    assert gate.batches == [[1]]
    gate.open.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30, 40]
    assert gate.batches == [[1], [2, 3, 4]]


async def test_a_batch_has_at_most_so_many_items() -> None:
    """More wait for the flush after, in the order they came."""
    gate = Gate()
    gate.open.set()
    coalescer = Coalescer(gate.flush, max_batch=2)
    assert await asyncio.gather(*map(coalescer.submit, range(5))) == [0, 10, 20, 30, 40]
    assert gate.batches == [[0, 1], [2, 3], [4]]


async def test_an_error_fails_its_batch_and_no_other() -> None:
    """Whoever submits later is served."""

    async def flush(items: list[int]) -> list[int]:
        if 1 in items:
            raise ConnectionError("lost")
        return items

    coalescer = Coalescer(flush, max_batch=100)
    failed = [coalescer.submit(1), coalescer.submit(2)]
    for future in failed:
        with pytest.raises(ConnectionError, match="lost"):
            await future
    assert await coalescer.submit(3) == 3


async def test_a_caller_that_gives_up_takes_nobody_along() -> None:
    """Its item is flushed all the same, and its neighbours get their results."""
    gate = Gate()
    coalescer = Coalescer(gate.flush, max_batch=100)
    given_up, kept = coalescer.submit(1), coalescer.submit(2)
    await gate.entered.wait()
    given_up.cancel()
    gate.open.set()
    assert await kept == 20
    assert gate.batches == [[1, 2]]


async def test_a_flush_that_loses_results_is_a_bug_that_shows() -> None:
    """Nobody gets a neighbour's result."""

    async def flush(items: list[int]) -> list[int]:
        return items[1:]

    coalescer = Coalescer(flush, max_batch=100)
    with pytest.raises(RuntimeError, match="2 items returned 1"):
        await asyncio.gather(coalescer.submit(1), coalescer.submit(2))
