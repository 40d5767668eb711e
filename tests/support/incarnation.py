"""Incarnations of one actor as processes of their own, two of them alive at once if the test wants it.

Owns their processes; none outlives `close`. A `Shard` is what a buyer's mailbox talks to: whoever bears the
actor's name at that moment, as with Ray. Counts the replies of each incarnation.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import psutil

from actors.mailbox import Mailbox, Unreachable
from cluster.actor_classes import ActorConfig
from cluster.messages import REPLIES
from domain.cart_model import CartPolicy
from domain.checkout_model import Action, Policy
from tests.support.server import ROOT, eventually

PATIENCE_S = 30.0


class Incarnation:
    """One process. A mailbox's transport. ``name`` is what Postgres knows its connections by."""

    def __init__(self, kind: str, name: str, config: ActorConfig, do: Callable[[Action], Any]) -> None:
        self.name = name
        self.epoch = 0
        self.replies = 0  # to commands
        self._do = do
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = 0
        self._ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.incarnation_process", str(theirs.fileno())],
            pass_fds=[theirs.fileno()], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        theirs.close()
        self._connection = Connection(ours.detach())
        self._connection.send((kind, config.encoded()))
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self._receive)

    async def ready(self) -> None:
        self.epoch = await asyncio.wait_for(self._ready, PATIENCE_S)

    # ── its life ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def stop_in_append(self, moment: str, *, with_order: bool = False) -> None:
        """Tell it to stop itself in its next append."""
        self._connection.send(("stop", moment, with_order))

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    async def stopped(self) -> None:
        process = psutil.Process(self._process.pid)

        async def is_stopped() -> bool:
            return process.status() == psutil.STATUS_STOPPED

        await eventually(is_stopped, f"{self.name} stopped", PATIENCE_S)

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def left(self) -> int:
        """Its exit code, once it has left by itself."""
        return await asyncio.to_thread(self._process.wait, PATIENCE_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._hang_up()

    # ── as a transport ──────────────────────────────────────────────────────────────────────────────────

    async def deliver(self, client: str, blob: bytes) -> bytes:
        return await self._call("deliver", client, blob)

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        return await self._call("drain", client, incarnation, acknowledged, wait_s)

    async def _call(self, method: str, *arguments: Any) -> bytes:
        if self._connection.closed:
            raise Unreachable(f"{self.name} is dead")
        self._numbers += 1
        future = self._calls[self._numbers] = asyncio.get_running_loop().create_future()
        self._connection.send(("call", self._numbers, method, arguments))
        answer: bytes = await future
        return answer

    def _receive(self) -> None:
        try:
            what, *rest = self._connection.recv()
        except (EOFError, ConnectionError):
            self._hang_up()
            return
        match what:
            case "ready":
                self._ready.set_result(rest[0])
            case "answer":
                number, blob = rest
                _, entries = msgspec.msgpack.decode(blob)
                self.replies += sum(entry[-1] is not None for entry in entries)
                self._calls.pop(number).set_result(blob)
            case "begin":
                number, action = rest
                self._connection.send(("end", number, self._do(action)))

    def _hang_up(self) -> None:
        if self._connection.closed:
            return
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
        self._connection.close()
        for future in [*self._calls.values(), self._ready]:
            if not future.done():
                future.set_exception(Unreachable(f"{self.name} died"))


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
        incarnation = Incarnation(self.kind, name, config, self._do)
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
