"""What a shard holds in memory: how it is read back, changed, and written down.

Owns the world (every state in memory), which entities are due for a snapshot, and the encoding of both. Promises
that a flush carries states as of its own record, never of what gathers behind it, and that snapshots and journal
read back give the same world. Decides nothing, asks nobody but the journal at recovery. The writer of the shard
(`actors.event_sourced`) is its only user.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from actors.contracts import Core, Journal, Pending, Stored, World
from actors.entity_reader import read_entities
from actors.snapshots import SnapshotQueue
from domain.messages import Command, Decision, Key
from persistence.journal import Corrupt, Flush, Lease, Record, Snapshot

SLICE = 500  # snapshots written down between two looks at the event loop: about a millisecond

_encode = msgspec.msgpack.Encoder().encode


class ShardMemory:
    """The states of one shard; ``replayed_events`` is how many the last recovery had to apply."""

    def __init__(self, shard: str, core: Core) -> None:
        self.world = World()
        self.replayed_events = 0
        self._shard = shard
        self._core = core
        self._snapshots = SnapshotQueue()
        self._decode_events = msgspec.msgpack.Decoder(list[core.event_type]).decode  # type: ignore[name-defined]
        self._decoders = {kind: msgspec.msgpack.Decoder(type_).decode for kind, type_ in core.state_types.items()}

    def absent(self, command: Command) -> list[Key]:
        """The entities that the command needs and that are not in memory."""
        return [key for key in self._core.may_sleep(command) if key not in self.world]

    # ── reading back ────────────────────────────────────────────────────────────────────────────────────

    async def recover(self, journal: Journal, lease: Lease) -> int:
        """Load what is awake, replay the journal, and return its last time in milliseconds (at least 1)."""
        self.world.clear()
        self._snapshots = SnapshotQueue()
        seqs: dict[Key, tuple[int, int]] = {}
        pages = journal.awake(self._shard)
        async for page in pages:
            try:
                self._load(page, seqs)
            except Exception:
                await pages.aclose()  # with the page that it reads ahead
                raise
        records = await journal.records(self._shard, lease.tail, lease.head)
        touched = self._by_entity(records, seqs)
        unknown = [key for key in touched if key not in seqs] if self._core.sleeps else []
        asleep, damaged = await read_entities(journal, self._shard, unknown)
        self._load(asleep, seqs)
        for key, events in touched.items():
            if key not in damaged:
                self._replay(key, events, *seqs.get(key, (0, 0)))
        unsound = self._core.unsound(self.world)
        if unsound:
            raise Corrupt(f"what is stored of {self._shard} does not add up: {unsound}")
        self.let_unchanged_rest([snapshot.key for snapshot in asleep], Pending())
        return max([1, *(record.at_ms for record in records[-1:])])

    def load_absent(self, snapshots: Iterable[Snapshot]) -> None:
        """Memory is newer than what was read: a command may have made an entity meanwhile."""
        self._load([snapshot for snapshot in snapshots if snapshot.key not in self.world], {})

    def _load(self, snapshots: Iterable[Snapshot], seqs: dict[Key, tuple[int, int]]) -> None:
        for key, seq, state, resting, older_seq, _ in snapshots:
            self.world[key] = self._decoders[key[0]](state)
            self._snapshots.stored(key)
            # What rests has one generation: the journal before it is not kept.
            seqs[key] = (seq if resting else older_seq, seq)

    def _by_entity(self, records: Iterable[Record], seqs: Stored) -> dict[Key, list[tuple[int, Any]]]:
        """The events that each entity has still to go through, in order, with their records' numbers.

        No entity depends on another, so that each is looked up once and not with every event. What can be added up
        is, at once.
        """
        touched: dict[Key, list[tuple[int, Any]]] = defaultdict(list)
        sums = self._core.sums(seqs) if self._core.sums is not None else None
        self.replayed_events = 0
        for record in records:
            events = self._decode_events(record.events)
            self.replayed_events += len(events)
            for event in events:
                entry = (record.seq, event)
                for key in sums.add(*entry) if sums is not None else self._core.touches(event):
                    touched[key].append(entry)
        for lacking in sums.apply(self.world) if sums is not None else ():
            self._snapshots.recovered(*lacking)
        return touched

    def _replay(self, key: Key, events: Sequence[tuple[int, Any]], older: int, newer: int) -> None:
        """Apply to an entity what its newer generation lacks, and note from where on either lacks something."""
        state = dict.get(self.world, key)
        lacks_older = lacks_newer = 0
        for seq, event in events:
            if seq > newer:
                if state is None and not self._begun_by(key, seq, event):
                    continue
                state = self._core.evolve(key, state, event)
                if state is None:
                    # Nothing of it is waited for. If it has a row all the same, it began again in the same flush.
                    lacks_older = lacks_newer = 0
                    continue
                lacks_newer = lacks_newer or seq
            if seq > older:
                lacks_older = lacks_older or seq
        self._put(key, state)
        if lacks_older:
            self._snapshots.recovered(key, lacks_older, lacks_newer)

    def _begun_by(self, key: Key, seq: int, event: Any) -> bool:
        if self._core.begins(key, event):
            return True
        if self._core.may_end(key):
            return False  # it ends further on, and its beginning has been cut away
        raise Corrupt(f"{key[0]} {key[1]} goes on in record {seq}, but neither a snapshot nor a record begins it")

    def _put(self, key: Key, state: Any) -> None:
        if state is None:
            self.world.pop(key, None)
        else:
            self.world[key] = state

    # ── changing ────────────────────────────────────────────────────────────────────────────────────────

    def evolve(self, decision: Decision, batch: Pending) -> None:
        """Apply a decision's events at once, and note in the batch what they lead to.

        Events, and states that will hardly change again, are written down while they are at hand: at the flush,
        thousands of states later, the processor would have to fetch them anew.
        """
        batch.events += [msgspec.Raw(_encode(event)) for event in decision.events]
        if decision.after is not None:
            for key, state in decision.after.items():
                self._note(key, state, batch)
            return
        for event in decision.events:
            for key in self._core.touches(event):
                self._note(key, self._core.evolve(key, dict.get(self.world, key), event), batch)

    def _note(self, key: Key, state: Any, batch: Pending) -> None:
        self._put(key, state)
        batch.changed[key] = state
        if state is not None and self._core.finished(key, state):
            batch.finished[key] = _encode(state)
        else:
            batch.finished.pop(key, None)

    # ── writing down ────────────────────────────────────────────────────────────────────────────────────

    async def flush_of(self, batch: Pending, gathering: Pending, lease: Lease, at_ms: int) -> Flush:
        """The record of a batch, with the snapshots that are due: those of what is finished, and the next few.

        Others may go on between two slices: what they change is left to the flush that has the change.
        """
        seq = lease.head + 1
        deleted = []
        for key, state in batch.changed.items():
            if state is not None:
                self._snapshots.dirty(key, seq)
            elif self._snapshots.forget(key):
                deleted.append(key)
        snapshots = [self._snapshot(key, seq, state, resting=True) for key, state in batch.finished.items()]
        for n, key in enumerate(self._snapshots.due(len(batch.events), at_ms), 1):
            if n % SLICE == 0:
                await asyncio.sleep(0)
            state = self._as_of(key, batch, gathering)
            if state is not None and key not in batch.finished:
                snapshots.append(self._snapshot(key, seq, _encode(state), self._core.resting(key, state)))
        return Flush(
            self._shard,
            lease.head,
            self._snapshots.tail(seq),
            at_ms,
            len(batch.events),
            _encode(batch.events),
            snapshots,
            deleted,
            batch.rows,
        )

    def _snapshot(self, key: Key, seq: int, state: bytes, resting: bool) -> Snapshot:
        return Snapshot(key, seq, state, resting, new=not self._snapshots.has_row(key))

    def _as_of(self, key: Key, batch: Pending, gathering: Pending) -> Any:
        if key in batch.changed:
            return batch.changed[key]
        # Changed only by the batch that still gathers: it will be written with that one.
        return None if key in gathering.changed else dict.get(self.world, key)

    def written(self, flush: Flush) -> None:
        """The flush is durable."""
        self._snapshots.written(flush.snapshots)

    # ── rest ────────────────────────────────────────────────────────────────────────────────────────────

    def let_stored_rest(self, gathering: Pending) -> None:
        """Entities whose last state is stored, and that nothing has changed since, leave memory."""
        for key in self._snapshots.stored_at_rest():
            if key not in gathering.changed and key not in self._snapshots:
                self._rest(key)

    def let_unchanged_rest(self, keys: Collection[Key], gathering: Pending) -> None:
        """What was loaded and not changed rests as before."""
        for key in keys:
            state = dict.get(self.world, key)
            idle = key not in gathering.changed and key not in self._snapshots
            if state is not None and idle and self._core.resting(key, state):
                self._rest(key)

    def _rest(self, key: Key) -> None:
        self.world.pop(key, None)
        self._snapshots.at_rest(key)
