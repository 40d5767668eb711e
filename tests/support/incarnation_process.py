"""The process of one incarnation: the cluster's own actor class on real Postgres, without Ray.

Owns one actor, constructed as Ray would construct it, and speaks through a pipe that it inherits: calls come in,
answers go out. Told so, it stops itself (SIGSTOP) at an instant of an append that no signal from outside could hit:
before its statement is sent, or when it is sent and its backend, stopped too, has not read it. Everything else,
leaving when fenced included, is the actor's. Started by `incarnation` only.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from multiprocessing.connection import Connection
from typing import Any

import psutil

from cluster import actor_classes
from domain import checkout_model as model
from domain.order import OrderRow
from persistence.journal import Flush, PostgresJournal

DECIDED, SENT = "decided", "sent"  # before the statement is sent, and before its answer is read


class Pipe:
    """To the test. What goes out as ("begin", action) has its outcome come in."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._begun: dict[int, asyncio.Future[Any]] = {}

    def send(self, *message: Any) -> None:
        self.connection.send(message)

    def begin(self, action: model.Action) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        number = len(self._begun)
        self._begun[number] = future
        self.send("begin", number, action)
        return future

    def ended(self, number: int, outcome: Any) -> None:
        self._begun[number].set_result(outcome)


class PipedPorts:
    """A coordinator's ports: what it begins is done by the test, for both of its incarnations."""

    def __init__(self, pipe: Pipe) -> None:
        self.start = pipe.begin

    def forget(self, hold_id: str, accounts: Sequence[str]) -> None:
        return


class StoppingJournal(PostgresJournal):
    """The real journal, that stops the process at a moment of its next append (with an order, if so told)."""

    moment = ""
    with_order = False

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


async def main(connection: Connection) -> None:
    """Construct the actor, say its epoch, and serve until the process ends."""
    pipe = Pipe(connection)
    kind, config = connection.recv()
    setattr(actor_classes, "PostgresJournal", StoppingJournal)  # noqa: B010 - it stands for another class
    setattr(actor_classes, "MailboxPorts", lambda *_: PipedPorts(pipe))  # noqa: B010
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
            what, *rest = connection.recv()
        except EOFError:
            ended.set()
            return
        match what:
            case "call":
                spawn(answer(*rest))
            case "end":
                pipe.ended(*rest)
            case "stop":
                StoppingJournal.moment, StoppingJournal.with_order = rest

    await actor.__init__(config)
    loop.add_reader(connection.fileno(), receive)  # nobody is answered before
    pipe.send("ready", actor.actor.writer.lease.epoch)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(Connection(int(sys.argv[1]))))
