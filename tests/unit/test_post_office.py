"""The receiving side: each batch is answered as soon as it can be, and what comes later waits to be fetched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from actors.post_office import DRAIN_MOST, GONE_AFTER_S, PostOffice
from tests.support.virtual_time import idle, pass_time, virtual_time


class Desk:
    """An actor whose tickets the test answers itself."""

    def __init__(self) -> None:
        self.tickets: dict[str, Any] = {}
        self.office = PostOffice(self._submit, str)

    def _submit(self, command: str, ticket: Any) -> None:
        self.tickets[command] = ticket

    async def deliver(self, client: str, *commands: str) -> list[list[Any]]:
        """[seq, reply] of each, None for "later"."""
        blob = msgspec.msgpack.encode(list(enumerate(commands)))
        incarnation, replies = msgspec.msgpack.decode(await self.office.deliver(client, blob))
        assert incarnation == self.office.incarnation
        return sorted(replies)

    async def drain(
        self, client: str, acknowledged: int = 0, *, incarnation: str | None = None, wait_s: float = 10.0
    ) -> list[list[Any]]:
        """[number, seq, reply] of each."""
        meant = self.office.incarnation if incarnation is None else incarnation
        answering, replies = msgspec.msgpack.decode(await self.office.drain(client, meant, acknowledged, wait_s))
        assert answering == self.office.incarnation
        assert isinstance(replies, list)
        return replies

    async def put_off(self, client: str, commands: Sequence[str]) -> None:
        delivered = asyncio.create_task(self.deliver(client, *commands))
        await idle()
        for command in commands:
            self.tickets[command].later()
        assert await delivered == [[seq, None] for seq in range(len(commands))]


def now_s() -> float:
    return asyncio.get_running_loop().time()


@virtual_time
async def test_a_batch_is_answered_when_each_command_has_a_reply_or_is_put_off() -> None:
    """It never waits for the reply of its slowest command."""
    desk = Desk()
    delivered = asyncio.create_task(desk.deliver("c", "quick", "slow", "refused"))
    await idle()
    desk.tickets["quick"].reply("done")
    desk.tickets["refused"].reply("no")
    await idle()
    assert not delivered.done()
    desk.tickets["slow"].later()
    assert await delivered == [[0, "done"], [1, None], [2, "no"]]
    desk.tickets["slow"].reply("done at last")
    assert await desk.drain("c") == [[1, 1, "done at last"]]


@virtual_time
async def test_a_batch_waits_for_none_but_its_own() -> None:
    desk = Desk()
    first = asyncio.create_task(desk.deliver("c", "a"))
    second = asyncio.create_task(desk.deliver("c", "b"))
    await idle()
    desk.tickets["b"].reply("done")
    assert await second == [[0, "done"]]
    assert not first.done()
    desk.tickets["a"].reply("done too")
    assert await first == [[0, "done too"]]


@virtual_time
async def test_a_drain_is_answered_as_soon_as_there_is_something_else_when_its_time_is_over() -> None:
    desk = Desk()
    await desk.put_off("c", ["a", "b"])
    draining = asyncio.create_task(desk.drain("c"))
    await pass_time(3)
    assert not draining.done()
    desk.tickets["b"].reply("B")
    assert await draining == [[1, 1, "B"]]
    assert now_s() == pytest.approx(3, abs=0.01)
    assert await desk.drain("c", acknowledged=1, wait_s=5) == []
    assert now_s() == pytest.approx(8, abs=0.01)


@virtual_time
async def test_what_is_not_acknowledged_comes_again_and_what_is_does_not() -> None:
    desk = Desk()
    await desk.put_off("c", ["a", "b", "c"])
    for command in "ab":
        desk.tickets[command].reply(command)
    assert await desk.drain("c") == [[1, 0, "a"], [2, 1, "b"]]
    assert await desk.drain("c", acknowledged=1) == [[2, 1, "b"]]
    desk.tickets["c"].reply("c")
    assert await desk.drain("c", acknowledged=2) == [[3, 2, "c"]]
    assert await desk.drain("c", acknowledged=3, wait_s=1) == []


@virtual_time
async def test_a_client_that_means_another_incarnation_is_told_at_once_and_acknowledges_nothing() -> None:
    """What it counts belongs to a dead incarnation; waiting here would be for nothing."""
    desk = Desk()
    await desk.put_off("c", ["a"])
    assert await desk.drain("c", acknowledged=7, incarnation="dead") == []
    assert now_s() < 0.01
    desk.tickets["a"].reply("A")
    assert await desk.drain("c", acknowledged=7, incarnation="dead") == [[1, 0, "A"]]
    assert await desk.drain("c") == [[1, 0, "A"]]


@virtual_time
async def test_clients_fetch_their_own_replies_only() -> None:
    desk = Desk()
    await desk.put_off("c", ["a"])
    await desk.put_off("d", ["b"])
    desk.tickets["a"].reply("A")
    desk.tickets["b"].reply("B")
    assert await desk.drain("c") == [[1, 0, "A"]]
    assert await desk.drain("d") == [[1, 0, "B"]]


@virtual_time
async def test_one_answer_has_a_bounded_number_of_replies() -> None:
    desk = Desk()
    commands = [f"q{n}" for n in range(DRAIN_MOST + 5)]
    await desk.put_off("c", commands)
    for command in commands:
        desk.tickets[command].reply(command)
    drained = await desk.drain("c")
    assert [number for number, _, _ in drained] == list(range(1, DRAIN_MOST + 1))
    assert len(await desk.drain("c", acknowledged=DRAIN_MOST)) == 5


@virtual_time
async def test_replies_of_a_client_that_will_not_come_back_are_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out when somebody new comes; a client that calls now and then keeps what is owed to it."""
    desk, start_s = Desk(), now_s()
    monkeypatch.setattr(time, "monotonic", now_s)
    for client in ("gone", "still there"):
        await desk.put_off(client, [client])
        desk.tickets[client].reply("kept")
    await pass_time(GONE_AFTER_S - 1)
    await desk.put_off("new", ["x"])
    assert await desk.drain("still there") == [[1, 0, "kept"]]
    await pass_time(2)
    await desk.put_off("newer", ["y"])
    assert await desk.drain("still there") == [[1, 0, "kept"]]
    assert await desk.drain("gone", wait_s=1) == []
    assert now_s() - start_s > GONE_AFTER_S
