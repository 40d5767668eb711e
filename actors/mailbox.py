"""The sending side: many asks become one call.

Owns the commands of one client that one actor has not answered. Promises: a command goes at once when nothing
is under way and gathers while something is (no timer); an actor that dies is a pause, not an error, for what
is unanswered is sent again to its next incarnation (commands are idempotent by id). Knows nothing of Ray: a
`Transport` carries the bytes.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import Any, Protocol

import msgspec
import structlog

from actors.promise import Promise

log = structlog.get_logger()

MAX_BATCH = 250
DRAIN_WAIT_S = 10.0
# Often while a recovery takes (seconds), then now and then: an outage may last.
BACKOFF_S = (0.02, *[0.05] * 60, 0.4)


class Unreachable(Exception):
    """The actor did not take the call, or died with it: it may have executed."""


class Transport(Protocol):
    """Carries bytes to one actor. Raises `Unreachable`; a lost answer is an `Unreachable` after success."""

    async def deliver(self, client: str, blob: bytes) -> bytes: ...
    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes: ...


class Mailbox:
    """Asks of one client to one actor. Use on one event loop."""

    def __init__(self, transport: Transport, reply_type: Any, *, in_flight: int = 3) -> None:
        self.client = secrets.token_hex(8)
        self._transport = transport
        self._in_flight = in_flight
        self._senders = 0
        self._seq = 0
        self._open: dict[int, tuple[Any, asyncio.Future[Any] | Promise]] = {}
        self._gathered: list[int] = []
        self._later: dict[int, str] = {}  # command → the incarnation that owes its reply
        self._drainer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple[str, list[tuple[int, reply_type | None]]]).decode
        self._decode_drained = msgspec.msgpack.Decoder(tuple[str, list[tuple[int, int, reply_type]]]).decode

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, command: Any) -> asyncio.Future[Any]:
        """The reply, whenever it comes. Whoever gives up (cancels it, or says the reply themselves) takes nothing
        back of what was sent, but it is not sent again."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._post(command, future)
        return future

    def ask_lightly(self, command: Any) -> Promise:
        """As `ask`, for whoever does not await the reply but wants to be called back."""
        answer = Promise()
        self._post(command, answer)
        return answer

    def _post(self, command: Any, future: asyncio.Future[Any] | Promise) -> None:
        self._seq += 1
        self._open[self._seq] = (command, future)
        self._gathered.append(self._seq)
        if self._senders < self._in_flight:
            self._senders += 1
            # Started in the next turn of the loop: everything asked in this one goes along.
            self._spawn(self._send())

    async def close(self) -> None:
        for task in [*self._tasks, *([self._drainer] if self._drainer else [])]:
            task.cancel()
        for _, future in self._open.values():
            future.cancel()
        self._open.clear()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self) -> None:
        attempt = 0
        try:
            while self._gathered:
                batch, self._gathered = self._gathered[:MAX_BATCH], self._gathered[MAX_BATCH:]
                entries = [(seq, self._open[seq][0]) for seq in batch if seq in self._open]
                if not entries:
                    continue
                try:
                    answer = await self._transport.deliver(self.client, self._encode(entries))
                    owing, replies = self._decode(answer)
                except Unreachable as error:
                    # It may have executed; sending it again is safe, for every command has its id.
                    self._gathered = self._to_repeat([seq for seq, _ in entries]) + self._gathered
                    attempt = await self._back_off(attempt, error)
                    continue
                except Exception as error:
                    # A command or reply that cannot be written down: whoever asked is told, nobody else stuck.
                    log.exception("batch lost", client=self.client)
                    self._fail([seq for seq, _ in entries], error)
                    continue
                attempt = 0
                for seq, reply in replies:
                    if reply is not None:
                        self._resolve(seq, reply)
                    elif seq in self._open:  # else the drain was quicker
                        self._later[seq] = owing
                if self._later and self._drainer is None:
                    self._drainer = asyncio.create_task(self._drain())
        finally:
            self._senders -= 1

    def _still_asked(self, seqs: list[int]) -> list[int]:
        """Those that somebody waits for. What the asker has given up is not sent (again)."""
        asked = []
        for seq in seqs:
            if seq in self._open:
                if self._open[seq][1].done():
                    del self._open[seq]
                else:
                    asked.append(seq)
        return asked

    def _to_repeat(self, seqs: list[int]) -> list[int]:
        """Those still unanswered. A command that has to know that a copy may be about is told so."""
        unanswered = self._still_asked(seqs)
        for seq in unanswered:
            command, future = self._open[seq]
            if hasattr(command, "resent"):
                self._open[seq] = (msgspec.structs.replace(command, resent=True), future)
        return unanswered

    def _fail(self, seqs: list[int], error: Exception) -> None:
        for seq in seqs:
            entry = self._open.pop(seq, None)
            if entry is not None and not entry[1].done():
                entry[1].set_exception(error)

    def _resolve(self, seq: int, reply: Any) -> None:
        self._later.pop(seq, None)
        entry = self._open.pop(seq, None)
        if entry is not None and not entry[1].done():
            entry[1].set_result(reply)

    async def _drain(self) -> None:
        """One outstanding long poll while anything is owed."""
        acknowledged = attempt = 0
        incarnation = ""
        try:
            while self._later or acknowledged:
                wait_s = DRAIN_WAIT_S if self._later else 0.0
                try:
                    blob = await self._transport.drain(self.client, incarnation, acknowledged, wait_s)
                    answering, drained = self._decode_drained(blob)
                except Unreachable as error:
                    attempt = await self._back_off(attempt, error)
                    continue
                except Exception as error:
                    log.exception("replies lost", client=self.client)
                    self._fail(list(self._later), error)
                    self._later.clear()
                    return
                attempt = 0
                if answering != incarnation:
                    incarnation, acknowledged = answering, 0
                # Who owed us these is gone, and with it what it had to say: ask again.
                self._ask_again([seq for seq, owing in self._later.items() if owing != answering])
                for number, seq, reply in drained:
                    acknowledged = number
                    self._resolve(seq, reply)
                if not drained and not self._later:
                    return
        finally:
            self._drainer = None

    def _ask_again(self, lost: list[int]) -> None:
        for seq in lost:
            del self._later[seq]
        self._gathered += self._to_repeat(lost)
        if lost and self._senders < self._in_flight:
            self._senders += 1
            self._spawn(self._send())

    async def _back_off(self, attempt: int, error: Unreachable) -> int:
        if attempt == 0:
            log.info("actor unreachable, asking again", client=self.client, error=str(error)[:200])
        await asyncio.sleep(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)] * random.uniform(0.5, 1.5))
        return attempt + 1
