"""A promise calls back when the reply comes; who is called back harms nobody who waits behind."""

from __future__ import annotations

import asyncio
import weakref
from functools import partial
from typing import Any

import msgspec

from actors.mailbox import Mailbox
from actors.promise import Promise


class Parrot:
    """A transport to an actor that answers each command with itself."""

    async def deliver(self, client: str, blob: bytes) -> bytes:
        return msgspec.msgpack.encode(("me", msgspec.msgpack.decode(blob)))

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        raise AssertionError("nothing comes later")


def _fail(promise: Promise) -> None:
    raise ZeroDivisionError(promise.result())


async def test_the_callback_runs_when_the_reply_comes() -> None:
    said: list[Any] = []
    promise = Promise()
    promise.add_done_callback(lambda done: said.append(done.result()))
    assert not promise.done()
    promise.set_result("yes")
    assert promise.done()
    assert said == ["yes"]


async def test_a_callback_that_comes_late_is_called_all_the_same_and_not_at_once() -> None:
    """Whoever begins something must not be called back in the middle of it."""
    said: list[Any] = []
    promise = Promise()
    promise.set_exception(KeyError("gone"))
    promise.add_done_callback(lambda done: said.append(done.exception()))
    assert said == []
    await asyncio.sleep(0)
    assert [str(error) for error in said] == ["'gone'"]


async def test_a_callback_that_fails_concerns_its_own_reply_alone() -> None:
    """The replies behind it in the batch, and the commands that wait to be sent, belong to others."""
    mailbox = Mailbox(Parrot(), str)
    broken, behind = mailbox.ask_lightly("a"), mailbox.ask("b")
    broken.add_done_callback(_fail)
    assert await asyncio.wait_for(behind, 5) == "b"
    assert await asyncio.wait_for(mailbox.ask("c"), 5) == "c"
    await mailbox.close()


async def test_a_closed_mailbox_calls_nobody_back() -> None:
    said: list[Any] = []
    mailbox = Mailbox(Parrot(), str)
    promise = mailbox.ask_lightly("a")
    promise.add_done_callback(said.append)
    await mailbox.close()
    await asyncio.sleep(0)
    assert (promise.done(), said) == (True, [])


async def test_who_holds_a_promise_does_not_hold_what_its_callback_works_on() -> None:
    """A gateway's answers are thousands a second: what they belonged to must not stay in memory behind them."""

    class Saga:
        def ended(self, promise: Promise) -> None:
            return

    saga, promise = Saga(), Promise()
    gone = weakref.ref(saga)
    promise.seen_by(partial(Saga.ended, saga)).add_done_callback(saga.ended)
    promise.set_result("yes")
    del saga
    assert gone() is None
