"""Buyers who buy one unit after another until they are told to stop, so that whatever happens meets a sale under way.

Owns the keys that were asked with and what was answered to each; asks the engine harness.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from tests.support.engine_harness import Engine, until

SKU: Final = "A"
AT_ONCE: Final = 8

Answers = dict[str, Any]
"""By key."""


class UnendingSale:
    """`answers` are the final ones so far. Every order has a key of its own."""

    def __init__(self, e: Engine, name: str) -> None:
        self.answers: Answers = {}
        self._engine = e
        self._keys = (f"{name}-{n}" for n in itertools.count())
        self._closing = False
        self._buyers = [asyncio.create_task(self._buy()) for _ in range(AT_ONCE)]

    async def _buy(self) -> None:
        while not self._closing:
            key = next(self._keys)
            self.answers[key] = await buy(self._engine, key)

    async def answered(self, more: int) -> Answers:
        """The answers so far, once there are so many more."""
        enough = len(self.answers) + more
        await until(lambda: len(self.answers) >= enough or any(buyer.done() for buyer in self._buyers))
        return dict(self.answers)

    async def close(self) -> Answers:
        """The answers of all, when everybody has theirs."""
        self._closing = True
        await asyncio.gather(*self._buyers)
        return self.answers

    async def leave(self) -> None:
        """Nobody waits any longer."""
        for buyer in self._buyers:
            buyer.cancel()
        await asyncio.gather(*self._buyers, return_exceptions=True)


async def buy(e: Engine, key: str) -> Any:
    return await e.express({SKU: 1}, key=key)


async def bought_again(e: Engine, answers: Answers) -> Answers:
    """What everybody is told who asks once more with the same key."""
    return dict(zip(answers, await asyncio.gather(*(buy(e, key) for key in answers)), strict=True))


@asynccontextmanager
async def unending_sale(e: Engine, name: str = "buyer") -> AsyncIterator[UnendingSale]:
    sale = UnendingSale(e, name)
    try:
        yield sale
    finally:
        await sale.leave()


def order_ids(answers: Answers) -> set[str]:
    """Of buyers each of whom has an order."""
    assert {answer.status for answer in answers.values()} <= {200}
    return {answer.order.id for answer in answers.values()}
