"""The receiving side of the mailboxes: batches of commands in, batches of replies out.

Owns what is owed to each client. Promises that a reply which does not come with its batch waits here until
the client has fetched and acknowledged it. Replies travel on their own: a batch never waits for its slowest
command. Whoever loses this office (the actor died) asks again; commands are idempotent.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec

DRAIN_MOST = 1_000  # replies in one answer
GONE_AFTER_S = 120.0  # a client that has not called for so long will not come back


class _Counter:
    """One delivered batch: how many of its commands are not yet answered or put off."""

    __slots__ = ("done", "left", "replies")

    def __init__(self, left: int) -> None:
        self.left = left
        self.replies: list[tuple[int, Any]] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def count(self, seq: int, reply: Any) -> None:
        self.replies.append((seq, reply))
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class _Ticket:
    """What the actor answers to: the batch while it waits for it, the client's box afterwards."""

    __slots__ = ("batch", "box", "seq")

    def __init__(self, seq: int, batch: _Counter, box: _Box) -> None:
        self.seq = seq
        self.batch: _Counter | None = batch
        self.box = box

    def reply(self, reply: Any) -> None:
        if self.batch is not None:
            self.batch.count(self.seq, reply)
            self.batch = None
        else:
            self.box.put(self.seq, reply)

    def later(self) -> None:
        if self.batch is not None:
            self.batch.count(self.seq, None)
            self.batch = None


class _Box:
    """Replies that one client has still to fetch, numbered so that it can acknowledge them."""

    def __init__(self) -> None:
        self.entries: deque[tuple[int, int, Any]] = deque()
        self.sent = 0
        self.seen_at_s = time.monotonic()
        self.arrived = asyncio.Event()

    def put(self, seq: int, reply: Any) -> None:
        self.sent += 1
        self.entries.append((self.sent, seq, reply))
        self.arrived.set()

    def acknowledge(self, number: int) -> None:
        while self.entries and self.entries[0][0] <= number:
            self.entries.popleft()
        if not self.entries:
            self.arrived.clear()


class PostOffice:
    """Two calls for all clients: `deliver` a batch, `drain` what came later."""

    def __init__(self, submit: Callable[[Any, Any], None], command_type: Any) -> None:
        # A client that sees another incarnation knows that nothing is owed to it here, and asks again.
        self.incarnation = secrets.token_hex(8)
        self._submit = submit
        self._boxes: dict[str, _Box] = {}
        self._decode = msgspec.msgpack.Decoder(list[tuple[int, command_type]]).decode
        self._encode = msgspec.msgpack.Encoder().encode

    async def deliver(self, client: str, blob: bytes) -> bytes:
        """Commands ``[(seq, command), …]`` in; ``(incarnation, [(seq, reply | None), …])`` out, None: "by drain"."""
        commands = self._decode(blob)
        box = self._box(client)
        batch = _Counter(len(commands))
        for seq, command in commands:
            self._submit(command, _Ticket(seq, batch, box))
        await batch.done
        return self._encode((self.incarnation, batch.replies))

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        """``(incarnation, [(number, seq, reply), …])``: what came later, at once or as soon as there is some.

        ``acknowledged`` counts only if the client means this incarnation; with another, it is told at once.
        """
        box = self._box(client)
        if incarnation == self.incarnation:
            box.acknowledge(acknowledged)
            if not box.entries:
                with suppress(TimeoutError):
                    await asyncio.wait_for(box.arrived.wait(), wait_s)
        return self._encode((self.incarnation, list(islice(box.entries, DRAIN_MOST))))

    def _box(self, client: str) -> _Box:
        now_s = time.monotonic()
        box = self._boxes.get(client)
        if box is None:
            for gone in [name for name, b in self._boxes.items() if now_s - b.seen_at_s > GONE_AFTER_S]:
                del self._boxes[gone]
            box = self._boxes[client] = _Box()
        box.seen_at_s = now_s
        return box
