"""What a shard holds in memory: how it is read back, changed, and written down.

Owns the world (every state in memory), which entities are due for a snapshot, and the encoding of both. Promises
that a flush carries states as of its own record, never of what gathers behind it, and that snapshots and journal
read back give the same world. Decides nothing, asks nobody but the journal at recovery. The writer of the shard
(`actors.event_sourced`) is its only user.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import Any

import msgspec

from actors.contracts import Core, Journal, Pending, World
from actors.entity_reader import read_entities
from actors.snapshots import SnapshotQueue
from domain.messages import Command, Decision, Key
from persistence.journal import Corrupt, Flush, Lease, Record, Snapshot

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
        self._decoders = {kind: msgspec.msgpack.Decoder(type_) for kind, type_ in core.state_types.items()}

    def absent(self, command: Command) -> list[Key]:
        """The entities that the command needs and that are not in memory."""
        return [key for key in self._core.may_sleep(command) if key not in self.world]

    # ── reading back ────────────────────────────────────────────────────────────────────────────────────

    async def recover(self, journal: Journal, lease: Lease) -> int:
        """Load what is awake, replay the journal, and return its last time in milliseconds (at least 1)."""
        self.world.clear()
        self._snapshots = SnapshotQueue()
        seqs: dict[Key, tuple[int, int]] = {}
        async for page in journal.awake(self._shard):
            self._load(page, seqs)
        records = await journal.records(self._shard, lease.tail, lease.head)
        decoded = [(record, self._decode_events(record.events)) for record in records]
        touched = {key for _, events in decoded for event in events for key in self._core.touches(event)}
        asleep, damaged = await read_entities(journal, self._shard, [key for key in touched if key not in seqs])
        self._load(asleep, seqs)
        for record, events in decoded:
            self._replay(record, events, seqs, damaged)
        unsound = self._core.unsound(self.world)
        if unsound:
            raise Corrupt(f"what is stored of {self._shard} does not add up: {unsound}")
        self.let_unchanged_rest([snapshot.key for snapshot in asleep], Pending())
        self.replayed_events = sum(len(events) for _, events in decoded)
        return max([1, *(record.at_ms for record in records[-1:])])

    def load_absent(self, snapshots: Iterable[Snapshot]) -> None:
        """Memory is newer than what was read: a command may have made an entity meanwhile."""
        self._load([snapshot for snapshot in snapshots if snapshot.key not in self.world], {})

    def _load(self, snapshots: Iterable[Snapshot], seqs: dict[Key, tuple[int, int]]) -> None:
        for snapshot in snapshots:
            self.world[snapshot.key] = self._decoders[snapshot.key[0]].decode(snapshot.state)
            self._snapshots.stored(snapshot.key)
            # What rests has one generation: the journal before it is not kept.
            seqs[snapshot.key] = (snapshot.seq if snapshot.resting else snapshot.older_seq, snapshot.seq)

    def _replay(
        self, record: Record, events: Sequence[Any], seqs: Mapping[Key, tuple[int, int]], damaged: Set[Key]
    ) -> None:
        """Apply a record to every entity whose snapshot is older than it; what is damaged stays out of memory, and
        is refused to whoever asks for it."""
        for event in events:
            for key in self._core.touches(event):
                if key in damaged:
                    continue
                older, newer = seqs.get(key, (0, 0))
                if record.seq > newer:
                    self._replay_one(key, record.seq, event)
                elif record.seq > older:
                    self._snapshots.older_lacks(key, record.seq)

    def _replay_one(self, key: Key, seq: int, event: Any) -> None:
        state = dict.get(self.world, key)
        if state is None and not self._core.begins(key, event):
            if self._core.may_end(key):
                return  # it ends further on, and its beginning has been cut away
            raise Corrupt(f"{key[0]} {key[1]} goes on in record {seq}, but neither a snapshot nor a record begins it")
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

    def flush_of(self, batch: Pending, gathering: Pending, lease: Lease, at_ms: int) -> Flush:
        """The record of a batch, with the snapshots that are due: those of what is finished, and the next few."""
        seq = lease.head + 1
        deleted = []
        for key, state in batch.changed.items():
            if state is not None:
                self._snapshots.dirty(key, seq)
            elif self._snapshots.forget(key):
                deleted.append(key)
        snapshots = [self._snapshot(key, seq, state, resting=True) for key, state in batch.finished.items()]
        for key in self._snapshots.due(len(batch.events), at_ms):
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
