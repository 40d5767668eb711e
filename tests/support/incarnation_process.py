"""The process of one incarnation: the cluster's own actor class on real Postgres, without Ray.

Owns one actor, constructed as Ray would construct it, and speaks through a pipe: calls come in, answers go out. What
else stands in it for the real thing is put there by the `Fit` that it is started with. Everything else, leaving when
fenced included, is the actor's. Started by `incarnation` only.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import psutil

from cluster import actor_classes
from domain.order import OrderRow
from persistence.journal import Flush, PostgresJournal

DECIDED, SENT = "decided", "sent"  # before the statement is sent, and before its answer is read
GO = ("go",)


class Pipe:
    """To the test. ``hears``: what is done with each kind of message that comes in."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.hears: dict[str, Callable[..., None]] = {"end": self._ended}
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._numbers = 0

    def send(self, *message: Any) -> None:
        self.connection.send(message)

    def ask(self, what: str, *details: Any) -> asyncio.Future[Any]:
        """What the test says came of it, whenever it does."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._numbers += 1
        self._asked[self._numbers] = future
        self.send(what, self._numbers, *details)
        return future

    def tell(self, *message: Any) -> None:
        """Nothing goes on in this process before the test says so; what else it says meanwhile is heard later."""
        self.send(*message)
        while (heard := self.connection.recv()) != GO:
            asyncio.get_running_loop().call_soon(self.hear, *heard)

    def hear(self, what: str, *details: Any) -> None:
        self.hears[what](*details)

    def _ended(self, number: int, outcome: Any) -> None:
        self._asked.pop(number).set_result(outcome)


Fit = Callable[[Pipe], None]


async def _live(connection: Connection, fit: Fit) -> None:
    """Construct the actor, say its epoch, and serve until the process ends."""
    pipe = Pipe(connection)
    fit(pipe)
    kind, config = connection.recv()
    actor = actor_classes.CLASSES[kind].__new__(actor_classes.CLASSES[kind])
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    calls: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        task = loop.create_task(work)
        calls.add(task)
        task.add_done_callback(calls.discard)

    async def answer(number: int, method: str, arguments: tuple[Any, ...]) -> None:
        pipe.send("answer", number, await getattr(actor, method)(*arguments))

    def receive() -> None:
        try:
            heard = connection.recv()
        except EOFError:
            ended.set()
            return
        pipe.hear(*heard)

    pipe.hears["call"] = lambda *call: spawn(answer(*call))
    await actor.__init__(config)
    loop.add_reader(connection.fileno(), receive)  # nobody is answered before
    pipe.send("ready", actor.actor.writer.lease.epoch if kind != "sandbox" else 0)
    await ended.wait()


def live(connection: Connection, fit: Fit) -> None:
    """All that the process does."""
    asyncio.run(_live(connection, fit))


# ── one that stops itself ───────────────────────────────────────────────────────────────────────────────


def fit_to_be_stopped(pipe: Pipe) -> None:
    """Told so, it stops itself (SIGSTOP) at an instant of an append that no signal from outside could hit: before
    its statement is sent, or when it is sent and its backend, stopped too, has not read it."""
    setattr(actor_classes, "PostgresJournal", StoppingJournal)  # noqa: B010 - it stands for another class
    setattr(actor_classes, "MailboxPorts", lambda *_: PipedPorts(pipe))  # noqa: B010
    pipe.hears["stop"] = StoppingJournal.stop_at


class PipedPorts:
    """A coordinator's ports: what it begins is done by the test, for both of its incarnations."""

    def __init__(self, pipe: Pipe) -> None:
        self.start = partial(pipe.ask, "begin")

    def forget(self, hold_id: str, accounts: Sequence[str]) -> None:
        return


class StoppingJournal(PostgresJournal):
    """The real journal, that stops the process at a moment of its next append (with an order, if so told)."""

    moment = ""
    with_order = False

    @classmethod
    def stop_at(cls, moment: str, with_order: bool) -> None:
        cls.moment, cls.with_order = moment, with_order

    async def append(self, epoch: int, flush: Flush) -> None:
        cls = type(self)
        moment, is_meant = cls.moment, not cls.with_order or any(isinstance(row, OrderRow) for row in flush.rows)
        if not moment or not is_meant:
            return await super().append(epoch, flush)
        cls.moment = ""
        if moment == DECIDED:
            os.kill(os.getpid(), signal.SIGSTOP)
            return await super().append(epoch, flush)
        # Postgres does not read it yet. And on an idle connection with its statement prepared, the first step ends
        # with the bytes in the socket.
        await self._stop_backend()
        sending = asyncio.create_task(super().append(epoch, flush))
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGSTOP)
        return await sending

    async def _stop_backend(self) -> None:
        async with self._pool.acquire() as connection:
            backend = psutil.Process(connection.get_server_pid())
        backend.suspend()
        while backend.status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110 - it does not say so
            await asyncio.sleep(0.001)
