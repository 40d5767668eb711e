"""The event-sourced actor: decide → evolve → append → reply, one command after another.

Owns one shard's states in memory. Promises that no reply leaves before the events it rests on are durable,
refusals and repeats included; that one flush is under way at a time while the next gathers; that what it
wrote after somebody took the shard over is nothing. Never awaits anything remote between reading a state and
applying an event to it. Called by the stock, cart and checkout actors around their pure cores.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from actors.contracts import Core, Journal, Pending, Ticket, World
from actors.entity_reader import read_entities
from actors.patience import RETRY_S, patiently
from actors.shard_memory import ShardMemory
from domain.messages import BUSY, REJECTED, Command, Decision, Key
from persistence.journal import AppendRejected, AppendUnknown, Corrupt, Fenced, Flush, Lease
from persistence.outages import OUTAGES

log = structlog.get_logger()

BATCH_COMMANDS = 1_000  # a flush: while Postgres is slow a batch would grow, and the next flush be slower still
TURN_COMMANDS = 250  # decided between two looks at the event loop: then the first flush is on its way


class EventSourced:
    """The writer of one shard. ``on_commit`` is told the durable states that a flush changed."""

    def __init__(
        self,
        shard: str,
        core: Core,
        journal: Journal,
        clock_ms: Callable[[], int],
        *,
        on_commit: Callable[[Mapping[Key, Any]], None] = lambda changed: None,
        on_fenced: Callable[[], None] = lambda: None,
        max_queue: int = 20_000,
    ) -> None:
        self.shard = shard
        self.lease = Lease(0, 0, 1)
        self.last_ms = 0
        self.recovered_at_ms = 0
        self.fenced = False
        self._core = core
        self._memory = ShardMemory(shard, core)
        self._journal = journal
        self._clock_ms = clock_ms
        self._on_commit = on_commit
        self._on_fenced = on_fenced
        self._max_queue = max_queue
        self._queue: deque[tuple[Command, Ticket]] = deque()
        self._gathering = Pending()
        self._waiters: dict[bytes, list[Ticket]] = {}
        self._parked: list[tuple[Command, Ticket]] = []
        self._being_read = 0  # of the parked
        self._reading: asyncio.Task[None] | None = None  # a reference: the loop keeps none
        self._broken: BaseException | None = None  # why reading ended; the writer ends with it
        self._redoing = False  # the world is being rebuilt: nobody may decide on it
        self._wake = asyncio.Event()

    @property
    def world(self) -> World:
        """All states in memory. Only the writer changes it."""
        return self._memory.world

    @property
    def replayed_events(self) -> int:
        """What the last recovery had to apply."""
        return self._memory.replayed_events

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def queued(self) -> int:
        """Commands taken in and not yet decided durably."""
        return len(self._queue) + len(self._gathering.commands) + len(self._parked)

    @property
    def now_ms(self) -> int:
        """Never behind what was journaled: a clock that jumps back does not take decisions back."""
        return max(self.last_ms, self._clock_ms())

    def submit(self, command: Command, ticket: Ticket) -> None:
        """Take a command in, or refuse it as busy when the queue is full and it is new work."""
        if self.queued >= self._max_queue and not self._core.admits_when_full(command):
            ticket.reply(BUSY)
            return
        if self._core.may_be_stale(command) and self.last_ms and not self._redoing:
            # A read that may be stale rests on nothing: it is answered from memory, now.
            ticket.reply(self._core.decide(self.world, command, self.now_ms).reply)
            return
        self._queue.append((command, ticket))
        self._wake.set()

    # ── recovery ────────────────────────────────────────────────────────────────────────────────────────

    async def recover(self) -> None:
        """Take a new epoch, load the snapshots, replay the journal. Whoever owned the shard is fenced.

        Who recovers once more, because rows were refused, takes the shard from itself only.
        """
        self.lease = await self._journal.take(self.shard, self.lease.epoch or None)
        try:
            journaled_ms = await self._memory.recover(self._journal, self.lease)
        except Corrupt as error:
            # An heir that writes and cuts the journal meanwhile makes it look damaged to whoever still reads.
            if await self._journal.owns(self.shard, self.lease.epoch):
                raise
            raise Fenced(f"{self.shard} was taken over during recovery") from error
        self.last_ms = max(self.last_ms, journaled_ms)
        self.recovered_at_ms = self.now_ms
        self._on_commit(dict(self.world))

    # ── the writer ──────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Handle commands until fenced or cancelled. One task; nothing else touches the world."""
        flight: asyncio.Task[None] | None = None
        try:
            while not self.fenced:
                self._wake.clear()
                if self._broken is not None:
                    raise self._broken
                self._decide_queued()
                if flight is not None and flight.done():
                    flight.result()
                    flight = None
                if flight is None and self._gathering:
                    batch, self._gathering = self._gathering, Pending()
                    flight = asyncio.create_task(self._commit(batch))
                    flight.add_done_callback(lambda _: self._wake.set())
                if self._queue and self._room and not self._redoing:
                    await asyncio.sleep(0)  # let arrivals and replies in between two turns
                else:
                    await self._wake.wait()
        except Fenced:
            self.fenced = True
        except Exception:
            # Memory may be ahead of what is written: leave, and the next incarnation reads what is true.
            log.exception("writer broken", shard=self.shard)
            self.fenced = True
        finally:
            if flight is not None:
                flight.cancel()
        if self.fenced:
            log.warning("fenced", shard=self.shard, epoch=self.lease.epoch)
            self._on_fenced()

    @property
    def _room(self) -> int:
        """Commands that the gathering batch can still take; the end of the flush under way makes room."""
        return max(0, BATCH_COMMANDS - len(self._gathering.commands) - self._being_read)

    def _decide_queued(self) -> None:
        if self._redoing:
            return
        for _ in range(min(len(self._queue), TURN_COMMANDS, self._room)):
            command, ticket = self._queue.popleft()
            if self._memory.absent(command):
                self._parked.append((command, ticket))
            else:
                self._handle(command, ticket)
        self._read_parked()

    def _handle(self, command: Command, ticket: Ticket) -> None:
        """One command: decide, evolve at once, note what to write and whom to tell. No await in here."""
        now_ms = self.now_ms
        batch = self._gathering
        try:
            decision = self._core.decide(self.world, command, now_ms)
        except Exception:
            # A bug in a core concerns the command that met it: nothing is evolved, everybody else goes on.
            log.exception("decision failed", shard=self.shard, command=type(command).__name__)
            decision = Decision(reply=REJECTED)
        batch.commands.append((command, ticket))
        if decision.events:
            self.last_ms = now_ms
            batch.rows += decision.rows
            self._memory.evolve(decision, batch)
        if decision.reply is None:
            self._waiters.setdefault(command.command_id, []).append(ticket)
            batch.deferred.append((command.command_id, ticket))
        else:
            batch.replies.append((ticket, decision.reply))
        for command_id, reply in decision.answers:
            for waiter in self._waiters.pop(command_id, ()):
                batch.answered.append((command_id, waiter))
                batch.replies.append((waiter, reply))

    # ── durability ──────────────────────────────────────────────────────────────────────────────────────

    async def _commit(self, batch: Pending) -> None:
        """Make a batch durable, then tell everybody. Survives a lost answer and a database restart."""
        if batch.events:
            if not await self._append(batch):
                return
        else:
            await self._check_epoch()
        self._tell(batch)

    async def _append(self, batch: Pending) -> bool:
        """Whether the batch was written as it is; if not, its commands were decided anew and answered."""
        try:
            await self._write(await self._flush_of(batch))
        except AppendRejected as error:
            log.error("append rejected", shard=self.shard, seq=self.lease.head + 1, error=str(error))
            self._redoing = True
            await self._redo_one_by_one(batch)
            self._redoing = False
            return False
        return True

    async def _write(self, flush: Flush) -> None:
        """Append until it is known to be written. Raises `AppendRejected` or `Fenced`."""
        while True:
            try:
                await self._journal.append(self.lease.epoch, flush)
                break
            except AppendUnknown as error:
                log.warning("append of unknown outcome", shard=self.shard, seq=flush.seq, error=str(error))
                if await self._was_written(flush):
                    break
                await asyncio.sleep(RETRY_S)
        self.lease = self.lease._replace(head=flush.seq, tail=max(self.lease.tail, flush.tail))
        self._memory.written(flush)

    async def _flush_of(self, batch: Pending) -> Flush:
        return await self._memory.flush_of(batch, self._gathering, self.lease, self.last_ms)

    async def _was_written(self, flush: Flush) -> bool:
        """After a lost answer: a new epoch stops the late statement, then the head tells what happened.

        An owner that has an heir finds that its epoch is not the newest, and leaves the shard to the heir; so does
        one whose new epoch got lost on the way to it.
        """
        lease = await patiently(self.shard, lambda: self._journal.take(self.shard, self.lease.epoch))
        if lease.head == flush.old_head:
            self.lease = lease
            return False
        if lease.head == flush.seq and await patiently(self.shard, lambda: self._journal.was_written(flush)):
            self.lease = lease._replace(head=flush.old_head)
            return True
        raise Fenced(f"{self.shard} was written by somebody else up to {lease.head}")

    async def _check_epoch(self) -> None:
        if not await patiently(self.shard, lambda: self._journal.owns(self.shard, self.lease.epoch)):
            raise Fenced(self.shard)

    async def _redo_one_by_one(self, batch: Pending) -> None:
        """The database refuses something in this batch. Forget everything undecided, and find out what.

        Nobody has been told anything yet, so deciding again is safe; a command that is refused alone is
        answered with an error, or replaced by what its core says should happen instead.
        """
        again = batch.commands + self._gathering.commands + list(self._queue)
        self._queue.clear()
        self._take_back(self._gathering)
        self._take_back(batch)
        self._gathering = Pending()
        await self._recover_patiently()
        while again:
            command, ticket = again.pop(0)
            snapshots, damaged = await read_entities(self._journal, self.shard, self._memory.absent(command))
            if damaged:
                ticket.reply(REJECTED)
                continue
            self._memory.load_absent(snapshots)
            self._handle(command, ticket)
            single, self._gathering = self._gathering, Pending()
            try:
                if single.events:
                    await self._write(await self._flush_of(single))
                else:
                    await self._check_epoch()
                self._tell(single)
            except AppendRejected:
                log.error("command rejected by the database", shard=self.shard, command=type(command).__name__)
                self._take_back(single)
                instead = self._core.instead_of(command)
                if instead is not None:
                    again.insert(0, (instead, ticket))
                else:
                    ticket.reply(REJECTED)
                await self._recover_patiently()

    def _take_back(self, batch: Pending) -> None:
        """A batch was decided for nothing: whoever it would have answered waits as before."""
        for command_id, ticket in batch.answered:
            self._waiters.setdefault(command_id, []).append(ticket)
        for command_id, ticket in batch.deferred:
            self._waiters[command_id].remove(ticket)

    async def _recover_patiently(self) -> None:
        while True:
            try:
                await self.recover()
                return
            except OUTAGES as error:
                log.warning("database unreachable", shard=self.shard, error=str(error))
                await asyncio.sleep(RETRY_S)

    def _tell(self, batch: Pending) -> None:
        # First what is durable, then the replies: a ticket must not find the state before its command.
        if batch.changed:
            self._on_commit(batch.changed)
        for _, ticket in batch.deferred:
            ticket.later()
        for ticket, reply in batch.replies:
            ticket.reply(reply)
        self._memory.let_stored_rest(self._gathering)

    # ── what has left memory ────────────────────────────────────────────────────────────────────────────

    def _read_parked(self) -> None:
        """Read for as many parked commands as there is room for. One reader at a time: of two, the slower would
        bring back what the other's command has changed."""
        if self._parked and self._room and (self._reading is None or self._reading.done()):
            parked = self._parked[: self._room]
            self._being_read = len(parked)
            self._reading = asyncio.create_task(self._handle_parked(parked))
            self._reading.add_done_callback(self._read)

    async def _handle_parked(self, parked: Sequence[tuple[Command, Ticket]]) -> None:
        keys = list({key: None for command, _ in parked for key in self._memory.absent(command)})
        epoch = self.lease.epoch
        snapshots, damaged = await read_entities(self._journal, self.shard, keys)
        del self._parked[: len(parked)]
        self._being_read = 0
        if self._redoing or self.lease.epoch != epoch:
            # The world is, or was, rebuilt meanwhile: what was read may be older than it.
            self._queue.extendleft(reversed(parked))
        else:
            self._memory.load_absent(snapshots)
            self._handle_with(set(keys), damaged, parked)
            self._memory.let_unchanged_rest([snapshot.key for snapshot in snapshots], self._gathering)

    def _handle_with(self, read: set[Key], damaged: set[Key], parked: Iterable[tuple[Command, Ticket]]) -> None:
        again = []
        for command, ticket in parked:
            absent = self._memory.absent(command)
            if not damaged.isdisjoint(absent):
                ticket.reply(REJECTED)
            elif read.issuperset(absent):
                self._handle(command, ticket)
            else:
                # It was in memory when the reading began and has gone to rest since: to be read after all.
                again.append((command, ticket))
        self._queue.extendleft(reversed(again))

    def _read(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._broken = task.exception()
            self._wake.set()
