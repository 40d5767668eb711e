"""A coordinator on a bench: its ports note what it begins, and its clock, shop and database outlive it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from actors.checkout_coordinator import CheckoutCoordinator, CoordinatorCommand, Watch
from domain import checkout_model as model
from domain.messages import Replayed
from tests.support.memory_journal import Database, MemoryJournal, Wire
from tests.support.virtual_time import idle, until
from tests.unit.checkout_world import CARD, OWNER, Shop
from tests.unit.toy_shard import Asked, answers

SHARD = "checkout-0"
TTL_S = 10
POLICY = model.Policy(hold_ttl_ms=TTL_S * 1_000)


def now_s() -> float:
    return asyncio.get_running_loop().time()


class Desk:
    """The ports of one coordinator. ``shop`` does at once what is begun; without one the test says what came of it."""

    def __init__(self, shop: Shop | None = None) -> None:
        self.shop = shop
        self.begun: list[tuple[float, Any]] = []
        self.forgotten: list[str] = []
        self._open: list[tuple[str, asyncio.Future[Any]]] = []

    def start(self, action: model.Action) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.begun.append((now_s(), action))
        self._open.append((action.name, future))
        if self.shop is not None:
            self.answer(action.name, outcome(self.shop, action))
        return future

    def forget(self, hold_id: str, accounts: Sequence[str]) -> None:
        self.forgotten.append(hold_id)

    def answer(self, name: str, result: Any) -> None:
        """The oldest action of that name ends so."""
        entry = next(entry for entry in self._open if entry[0] == name)
        self._open.remove(entry)
        if isinstance(result, Exception):
            entry[1].set_exception(result)
        else:
            entry[1].set_result(result)

    async def has_begun(self, actions: int) -> None:
        await until(lambda: len(self.begun) >= actions)

    @property
    def names(self) -> list[str]:
        return [action.name for _, action in self.begun]

    def times_s(self, name: str) -> list[float]:
        return [at_s for at_s, action in self.begun if action.name == name]


def outcome(shop: Shop, action: model.Action) -> Any:
    result = shop.do(action)
    return result.outcome if isinstance(result, model.LegOutcome) else result


def final(reply: Any) -> Any:
    return msgspec.msgpack.decode(reply.body, type=model.Reply) if isinstance(reply, Replayed) else reply


class Bench:
    """One incarnation of a coordinator, on a shop and a database that outlive it."""

    def __init__(self, shop: Shop, database: Database, *, at_once: bool = False) -> None:
        self.shop = shop
        self.desk = Desk(shop if at_once else None)
        self.wire = Wire()
        self.left = asyncio.Event()
        self.clock_broken = False
        journal = MemoryJournal(database, self.wire)
        self.actor = CheckoutCoordinator(SHARD, journal, self.clock_ms, self.desk, shop.policy, on_fenced=self.left.set)

    def clock_ms(self) -> int:
        if self.clock_broken:
            raise OSError("no clock")
        return self.shop.now_ms + int(now_s() * 1_000)

    def submit(self, command: CoordinatorCommand) -> Asked:
        asked = Asked()
        self.actor.submit(command, asked)
        return asked

    def watch(self, checkout_id: str, known_version: int) -> Asked:
        return self.submit(Watch(command_id=b"", checkout_id=checkout_id, owner=OWNER, known_version=known_version))

    def read(self, checkout_id: str) -> Asked:
        return self.submit(model.Read(command_id=b"", checkout_id=checkout_id, owner=OWNER))

    async def order(self, cart_id: str | None = None) -> tuple[str, list[model.Action]]:
        """A checkout past its pivot, and what has been begun since and has no outcome yet."""
        start = self.shop.start(cart_id=cart_id, express=CARD)
        self.submit(start)
        steps = 2 if cart_id is None else 3
        for begun in range(1, steps + 1):
            await self.desk.has_begun(begun)
            _, action = self.desk.begun[-1]
            self.desk.answer(action.name, outcome(self.shop, action))
        await self.desk.has_begun(steps + 2)
        await idle()
        return start.checkout_id, [action for _, action in self.desk.begun[steps:]]

    async def open(self) -> model.CheckoutView:
        """A checkout that waits for its buyer."""
        asked = self.submit(self.shop.start())
        await idle()
        self.desk.answer("take:1", outcome(self.shop, self.desk.begun[-1][1]))
        (reply,) = await answers(asked)
        assert reply.status == 201
        view: model.CheckoutView = reply.checkout
        return view


async def opened(shop: Shop | None = None, database: Database | None = None, *, at_once: bool = False) -> Bench:
    bench = Bench(shop or Shop(POLICY, tea=50), database or Database(SHARD), at_once=at_once)
    await bench.actor.start()
    return bench
