"""The event-sourced actor: decide → evolve → append → reply, one command after another.

Owns one shard's states in memory. Promises that no reply leaves before the events it rests on are durable,
refusals and repeats included; that one flush is under way at a time while the next gathers; that what it
wrote after somebody took the shard over is nothing. Never awaits anything remote between reading a state and
applying an event to it. Called by the stock, cart and checkout actors around their pure cores.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import msgspec
import structlog

from actors.contracts import Core, Journal, Pending, Ticket, World
from actors.snapshots import SnapshotQueue
from domain.messages import Command, Decision, Key, Refusal
from persistence.journal import OUTAGES, AppendRejected, AppendUnknown, Corrupt, Fenced, Flush, Lease, Record, Snapshot

log = structlog.get_logger()

BUSY = Refusal("busy", "The service has more work than it can take on now. Ask again shortly.")
REJECTED = Refusal("internal_error", "This could not be carried out; nothing was changed.")
RETRY_S = 0.2
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
        self.world = World()
        self.lease = Lease(0, 0, 1)
        self.last_ms = 0
        self.recovered_at_ms = 0
        self.fenced = False
        self.replayed_events = 0
        self._core = core
        self._journal = journal
        self._clock_ms = clock_ms
        self._on_commit = on_commit
        self._on_fenced = on_fenced
        self._max_queue = max_queue
        self._queue: deque[tuple[Command, Ticket]] = deque()
        self._gathering = Pending()
        self._waiters: dict[bytes, list[Ticket]] = {}
        self._sleepers: dict[Key, list[tuple[Command, Ticket]]] = {}
        self._loading: asyncio.Task[None] | None = None  # a reference: the loop keeps none
        self._broken: BaseException | None = None  # why loading ended; the writer ends with it
        self._redoing = False  # the world is being rebuilt: nobody may decide on it
        self._wake = asyncio.Event()
        self._snapshots = SnapshotQueue()
        self._encode_events = msgspec.msgpack.Encoder().encode
        self._decode_events = msgspec.msgpack.Decoder(list[core.event_type]).decode  # type: ignore[name-defined]
        self._encode_state = msgspec.msgpack.Encoder().encode
        self._decoders = {kind: msgspec.msgpack.Decoder(type_) for kind, type_ in core.state_types.items()}

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def queued(self) -> int:
        parked = sum(map(len, self._sleepers.values())) if self._sleepers else 0
        return len(self._queue) + len(self._gathering.commands) + parked

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
        """Take a new epoch, load the snapshots, replay the journal. Whoever owned the shard is fenced."""
        self.lease = await self._journal.take(self.shard)
        self.world.clear()
        self._snapshots = SnapshotQueue()
        seqs: dict[Key, tuple[int, int]] = {}
        async for page in self._journal.awake(self.shard):
            self._load(page, seqs)
        records = await self._journal.records(self.shard, self.lease.tail, self.lease.head)
        decoded = [(record, self._decode_events(record.events)) for record in records]
        touched = {key for _, events in decoded for event in events for key in self._core.touches(event)}
        asleep = [key for key in touched if key not in seqs]
        self._load(await self._journal.entities(self.shard, asleep), seqs)
        for record, events in decoded:
            self._replay(record, events, seqs)
        self.replayed_events = sum(len(events) for _, events in decoded)
        self.last_ms = max([self.last_ms, 1, *(record.at_ms for record in records[-1:])])
        self.recovered_at_ms = self.now_ms
        self._on_commit(dict(self.world))

    def _load(self, snapshots: Iterable[Snapshot], seqs: dict[Key, tuple[int, int]]) -> None:
        for snapshot in snapshots:
            self.world[snapshot.key] = self._decoders[snapshot.key[0]].decode(snapshot.state)
            self._snapshots.stored(snapshot.key)
            seqs[snapshot.key] = (snapshot.older_seq, snapshot.seq)

    def _replay(self, record: Record, events: Sequence[Any], seqs: Mapping[Key, tuple[int, int]]) -> None:
        """Apply a record to every entity whose snapshot is older than it."""
        for event in events:
            for key in self._core.touches(event):
                older, newer = seqs.get(key, (0, 0))
                if record.seq > newer:
                    self._replay_one(key, record.seq, event)
                elif record.seq > older:
                    self._snapshots.older_lacks(key, record.seq)

    def _replay_one(self, key: Key, seq: int, event: Any) -> None:
        state = dict.get(self.world, key)
        if state is None and not self._core.begins(event):
            return  # of an entity that ends further on, and whose beginning has been cut away
        state = self._core.evolve(key, state, event)
        self._put(key, state)
        if state is None:
            self._snapshots.forget(key)  # nothing of it is waited for: the journal may be cut
        else:
            self._snapshots.dirty(key, seq)

    def _put(self, key: Key, state: Any) -> None:
        if state is None:
            self.world.pop(key, None)
        else:
            self.world[key] = state

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
                if self._queue and not self._redoing:
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

    def _decide_queued(self) -> None:
        if self._redoing:
            return
        for _ in range(min(len(self._queue), TURN_COMMANDS)):
            command, ticket = self._queue.popleft()
            asleep = [key for key in self._core.may_sleep(command) if key not in self.world]
            if asleep:
                self._wait_for_entities(asleep, command, ticket)
            else:
                self._handle(command, ticket)

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
            batch.events += decision.events
            batch.rows += decision.rows
            self._evolve(decision, batch)
        if decision.reply is None:
            self._waiters.setdefault(command.command_id, []).append(ticket)
            batch.deferred.append((command.command_id, ticket))
        else:
            batch.replies.append((ticket, decision.reply))
        for command_id, reply in decision.answers:
            for waiter in self._waiters.pop(command_id, ()):
                batch.answered.append((command_id, waiter))
                batch.replies.append((waiter, reply))

    def _evolve(self, decision: Decision, batch: Pending) -> None:
        if decision.after is not None:
            for key, state in decision.after.items():
                self._put(key, state)
                batch.changed[key] = state
            return
        for event in decision.events:
            for key in self._core.touches(event):
                state = self._core.evolve(key, dict.get(self.world, key), event)
                self._put(key, state)
                batch.changed[key] = state

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
            await self._write(self._flush_of(batch))
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
        self._snapshots.written(flush.snapshots)

    def _flush_of(self, batch: Pending) -> Flush:
        """The record of a batch. Its snapshots are states as of this very record, for they ride with it."""
        seq = self.lease.head + 1
        deleted = []
        for key, state in batch.changed.items():
            if state is not None:
                self._snapshots.dirty(key, seq)
            elif self._snapshots.forget(key):
                deleted.append(key)
        snapshots = [
            Snapshot(key, seq, self._encode_state(state), self._core.resting(key, state))
            for key, state in self._snapshots.due(len(batch.events), self._committed_or(batch))
        ]
        return Flush(
            self.shard,
            self.lease.head,
            self._snapshots.tail(seq),
            self.last_ms,
            len(batch.events),
            self._encode_events(batch.events),
            snapshots,
            deleted,
            batch.rows,
        )

    def _committed_or(self, batch: Pending) -> Callable[[Key], Any]:
        """A state as of this batch: what gathers behind it is not part of its record."""
        gathering = self._gathering.changed

        def state_of(key: Key) -> Any:
            if key in batch.changed:
                return batch.changed[key]
            # Changed only by the batch that still gathers: it will be written with that one.
            return None if key in gathering else dict.get(self.world, key)

        return state_of

    async def _was_written(self, flush: Flush) -> bool:
        """After a lost answer: a new epoch stops the late statement, then the head tells what happened."""
        while True:
            try:
                lease = await self._journal.take(self.shard)
                if lease.epoch != self.lease.epoch + 1:
                    raise Fenced(f"{self.shard} had a newer owner than epoch {self.lease.epoch}")
                if lease.head == flush.old_head:
                    self.lease = lease
                    return False
                if lease.head == flush.seq and await self._journal.was_written(flush):
                    self.lease = lease._replace(head=flush.old_head)
                    return True
                raise Fenced(f"{self.shard} was written by somebody else up to {lease.head}")
            except Fenced:
                raise
            except Exception as error:  # the database is away: callers see a pause, not an error
                log.warning("database unreachable", shard=self.shard, error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _check_epoch(self) -> None:
        while True:
            try:
                if not await self._journal.owns(self.shard, self.lease.epoch):
                    raise Fenced(self.shard)
                return
            except Fenced:
                raise
            except Exception as error:
                log.warning("database unreachable", shard=self.shard, error=str(error))
                await asyncio.sleep(RETRY_S)

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
            asleep = [key for key in self._core.may_sleep(command) if key not in self.world]
            snapshots, damaged = await self._read_entities(asleep)
            if damaged:
                ticket.reply(REJECTED)
                continue
            self._load_absent(snapshots)
            self._handle(command, ticket)
            single, self._gathering = self._gathering, Pending()
            try:
                if single.events:
                    await self._write(self._flush_of(single))
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
        if batch.changed:
            self._let_rest(batch.changed)

    # ── passivation ─────────────────────────────────────────────────────────────────────────────────────

    def _let_rest(self, changed: Mapping[Key, Any]) -> None:
        """Entities whose last state is stored and that nobody waits for leave memory."""
        for key in self._snapshots.stored_at_rest():
            if key not in self._gathering.changed and key not in self._snapshots:
                self._rest(key)

    def _wait_for_entities(self, keys: Sequence[Key], command: Command, ticket: Ticket) -> None:
        """Park the command until its entities are loaded; it comes back to the front of the queue."""
        first = keys[0]
        parked = self._sleepers.setdefault(first, [])
        parked.append((command, ticket))
        if self._loading is None or self._loading.done():
            # One loader at a time: of two, the slower would bring back what the other's command has changed.
            self._loading = asyncio.create_task(self._wake_sleepers())
            self._loading.add_done_callback(self._loaded)

    async def _wake_sleepers(self) -> None:
        while self._sleepers:
            wanted, self._sleepers = self._sleepers, {}
            parked = [entry for entries in wanted.values() for entry in entries]
            keys = {key for command, _ in parked for key in self._core.may_sleep(command) if key not in self.world}
            epoch = self.lease.epoch
            snapshots, damaged = await self._read_entities(list(keys))
            if self._redoing or self.lease.epoch != epoch:
                # The world is, or was, rebuilt meanwhile: what was read may be older than it.
                self._queue.extendleft(reversed(parked))
            else:
                self._load_absent(snapshots)
                self._handle_parked(parked, keys, damaged)
                self._let_sleep(keys)
            self._wake.set()

    def _handle_parked(self, parked: Iterable[tuple[Command, Ticket]], read: Set[Key], damaged: set[Key]) -> None:
        again = []
        for command, ticket in parked:
            needed = self._core.may_sleep(command)
            if damaged.intersection(needed):
                ticket.reply(REJECTED)
            elif all(key in self.world or key in read for key in needed):
                self._handle(command, ticket)
            else:
                # It was in memory when the reading began and has gone to rest since: to be read after all.
                again.append((command, ticket))
        self._queue.extendleft(reversed(again))

    def _let_sleep(self, keys: Iterable[Key]) -> None:
        """What was loaded and not changed rests as before."""
        for key in keys:
            state = dict.get(self.world, key)
            idle = key not in self._gathering.changed and key not in self._snapshots
            if state is not None and idle and self._core.resting(key, state):
                self._rest(key)

    def _rest(self, key: Key) -> None:
        self.world.pop(key, None)
        self._snapshots.at_rest(key)

    def _loaded(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()
            self._wake.set()

    async def _read_entities(self, keys: Sequence[Key]) -> tuple[list[Snapshot], set[Key]]:
        """The entities that are stored, and the keys of those that are damaged, which concern nobody else."""
        try:
            return await self._read_patiently(keys), set()
        except Corrupt:
            found, damaged = list[Snapshot](), set[Key]()
            for key in keys:
                try:
                    found += await self._read_patiently([key])
                except Corrupt as error:
                    log.error("entity damaged", shard=self.shard, error=str(error))
                    damaged.add(key)
            return found, damaged

    async def _read_patiently(self, keys: Sequence[Key]) -> list[Snapshot]:
        while keys:
            try:
                return await self._journal.entities(self.shard, keys)
            except OUTAGES as error:
                log.warning("database unreachable", shard=self.shard, error=str(error))
                await asyncio.sleep(RETRY_S)
        return []

    def _load_absent(self, snapshots: Iterable[Snapshot]) -> None:
        """Memory is newer than what was read: another command may have made an entity meanwhile."""
        self._load([snapshot for snapshot in snapshots if snapshot.key not in self.world], {})
