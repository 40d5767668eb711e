"""Incarnations of one actor as processes of their own, two of them alive at once if the test wants it.

Owns their processes; none outlives `close`. They are forked from one process that has imported what they need: each
takes milliseconds, not the second that Ray takes to be imported. A `Shard` is what a buyer's mailbox talks to:
whoever bears the actor's name at that moment, as with Ray. Counts the replies of each incarnation.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import msgspec
import psutil

from actors.mailbox import Mailbox, Unreachable
from cluster.actor_classes import ActorConfig
from cluster.messages import REPLIES
from domain.cart_model import CartPolicy
from domain.checkout_model import Action, Policy
from tests.support.incarnation_process import Fit, fit_to_be_stopped, live
from tests.support.server import eventually

PATIENCE_S = 30.0
TEMPLATE = "tests.support.incarnation_template"
_forks = multiprocessing.get_context("forkserver")


def preload(*modules: str) -> None:
    """What incarnations have imported at birth, besides what all of them need. To be said before the first of them."""
    _forks.set_forkserver_preload([*modules, TEMPLATE])


preload()


class Incarnation:
    """One process. A mailbox's transport. ``name`` is what Postgres knows its connections by."""

    def __init__(self, kind: str, name: str, config: ActorConfig, fit: Fit) -> None:
        self.name = name
        self.epoch = 0
        self.replies = 0  # to commands
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = 0
        self._ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._connection, theirs = _forks.Pipe()
        self._process = _forks.Process(target=live, args=(theirs, fit), daemon=True)
        self._process.start()
        theirs.close()
        self._connection.send((kind, config.encoded()))
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self._receive)

    async def ready(self) -> None:
        self.epoch = await asyncio.wait_for(self._ready, PATIENCE_S)

    # ── its life ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode

    @property
    def standing(self) -> str:
        """For people: what the system says of its process, and how many calls it owes."""
        code = self.exit_code
        status = psutil.Process(self._process.pid).status() if code is None else f"ended with {code}"
        return f"pid {self._process.pid} {status}, epoch {self.epoch}, {len(self._calls)} calls open"

    def stop_in_append(self, moment: str, *, with_order: bool = False) -> None:
        """Tell it to stop itself in its next append."""
        self.send("stop", moment, with_order)

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    async def stopped(self) -> None:
        process = psutil.Process(self._process.pid)

        async def is_stopped() -> bool:
            return process.status() == psutil.STATUS_STOPPED

        await eventually(is_stopped, f"{self.name} stopped", PATIENCE_S)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """At this instant; what it has sent before still arrives."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        if self._process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended, and its exit code is not read yet
                os.kill(self._process.pid, number)

    async def left(self) -> int | None:
        """Its exit code, once it has left by itself."""
        await asyncio.to_thread(self._process.join, PATIENCE_S)
        return self._process.exitcode

    def close(self) -> None:
        self.kill()
        self._process.join()
        self._hang_up()

    # ── as a transport ──────────────────────────────────────────────────────────────────────────────────

    async def deliver(self, client: str, blob: bytes) -> bytes:
        return await self.call("deliver", client, blob)

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        return await self.call("drain", client, incarnation, acknowledged, wait_s)

    async def call(self, method: str, *arguments: Any) -> bytes:
        """Raises `Unreachable` when it is dead, or dies with it."""
        self._numbers += 1
        future = self._calls[self._numbers] = asyncio.get_running_loop().create_future()
        if not self.send("call", self._numbers, method, arguments):
            raise Unreachable(f"{self.name} is dead")
        answer: bytes = await future
        return answer

    # ── its pipe ────────────────────────────────────────────────────────────────────────────────────────

    def send(self, *message: Any) -> bool:
        """Whether there is somebody to hear it."""
        try:
            self._connection.send(message)
        except OSError:  # it has died, and its last words are not read yet; or they are
            return False
        return True

    def hear(self, what: str, *details: Any) -> None:
        """What its `Fit` has it say."""
        raise AssertionError(f"{self.name} says {what} {details}")

    def ended(self) -> None:
        """It is dead, and all that it had to say is heard."""

    def _receive(self) -> None:
        try:
            what, *rest = self._connection.recv()
        except (EOFError, OSError):  # OSError: it died in the midst of a word
            self._hang_up()
            self.ended()
            return
        match what:
            case "ready":
                self._ready.set_result(rest[0])
            case "answer":
                number, blob = rest
                _, entries = msgspec.msgpack.decode(blob)
                self.replies += sum(entry[-1] is not None for entry in entries)
                self._calls.pop(number).set_result(blob)
            case _:
                self.hear(what, *rest)

    def _hang_up(self) -> None:
        if self._connection.closed:
            return
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
        self._connection.close()
        for future in [*self._calls.values(), self._ready]:
            if not future.done():
                future.set_exception(Unreachable(f"{self.name} died"))
                future.exception()  # also when nobody waits for it


class _Doing(Incarnation):
    """One that can be stopped in an append, and whose actions the test performs."""

    def __init__(self, kind: str, name: str, config: ActorConfig, do: Callable[[Action], Any]) -> None:
        self._do = do
        super().__init__(kind, name, config, fit_to_be_stopped)

    def hear(self, what: str, *details: Any) -> None:
        assert what == "begin", what
        number, action = details
        self.send("end", number, self._do(action))


class Shard:
    """One shard, its incarnations and its buyers. ``do`` performs what a coordinator begins."""

    def __init__(self, kind: str, dsn: str, namespace: str, do: Callable[[Action], Any]) -> None:
        self.kind = kind
        self.id = f"{kind}-0"
        self.incarnations: list[Incarnation] = []
        self._dsn = dsn
        self._namespace = namespace
        self._do = do
        self._mailboxes: list[Mailbox] = []

    async def incarnate(self, name: str) -> Incarnation:
        """Another process for this shard. It bears the name from now on."""
        config = ActorConfig(
            shard=self.id, dsn=f"{self._dsn}?application_name={name}", namespace=self._namespace, run="test",
            policy=Policy(), cart_policy=CartPolicy(), gateway_timeout_s=5.0, sandbox_latency_ms="0", max_queue=1_000,
        )  # fmt: skip
        incarnation = _Doing(self.kind, name, config, self._do)
        self.incarnations.append(incarnation)
        await incarnation.ready()
        return incarnation

    def buyer(self) -> Mailbox:
        """A client of its own."""
        mailbox = Mailbox(self, REPLIES[self.kind])
        self._mailboxes.append(mailbox)
        return mailbox

    async def deliver(self, client: str, blob: bytes) -> bytes:
        return await self.incarnations[-1].deliver(client, blob)

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        return await self.incarnations[-1].drain(client, incarnation, acknowledged, wait_s)

    async def close(self) -> None:
        for mailbox in self._mailboxes:
            await mailbox.close()
        for incarnation in self.incarnations:
            incarnation.close()
