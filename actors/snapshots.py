"""Which entities are to be written with the next flush, so that replay stays short without ever a pause.

Owns, per entity, the first journal record that its newer and its older stored generation lack. Promises that
the journal is only cut below what every older generation needs, and that a full round through all changed
entities takes `ROUND_EVENTS` events: a change waits at most two rounds for the newer generation and two more for
the older, so that a replay stays below 100,000 events. Pure bookkeeping; `actors.shard_memory` asks it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from domain.messages import Key
from persistence.journal import Snapshot

ROUND_EVENTS = 25_000
AT_LEAST = 4  # entities a flush


class SnapshotQueue:
    """Changed entities in the order they wait: key → (first record the older generation lacks, the newer)."""

    def __init__(self) -> None:
        self._waiting: dict[Key, tuple[int, int]] = {}
        self._stored: set[Key] = set()
        self._at_rest: list[Key] = []
        self._pace = 0  # entities of this round
        self._left = 0  # of which so many are still to be written
        self._until_look = 0
        self._tail = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def stored(self, key: Key) -> None:
        """The entity has a row."""
        self._stored.add(key)

    def has_row(self, key: Key) -> bool:
        return key in self._stored

    def dirty(self, key: Key, seq: int) -> None:
        """Record ``seq`` changed the entity."""
        lacks = self._waiting.get(key)
        if lacks is None:
            self._waiting[key] = (seq, seq)
        elif not lacks[1]:
            self._waiting[key] = (lacks[0], seq)

    def older_lacks(self, key: Key, seq: int) -> None:
        """Found at recovery: the newer generation has record ``seq``, the older has not."""
        self._waiting.setdefault(key, (seq, 0))

    def forget(self, key: Key) -> bool:
        """The entity is no more; whether it has a row to delete."""
        self._waiting.pop(key, None)
        if key in self._stored:
            self._stored.remove(key)
            return True
        return False

    def at_rest(self, key: Key) -> None:
        """The entity has left memory; when it is loaded again, it is said again that it has a row."""
        self._stored.discard(key)

    def due(self, events: int) -> list[Key]:
        """The next entities to write, with a flush of so many events."""
        if self._left <= 0:
            self._left = self._pace = len(self._waiting)
        # By the round's size, not by what is left of it: else the last of a burst would wait almost for ever.
        share = max(AT_LEAST, -(-self._pace * events // ROUND_EVENTS))
        self._left -= share
        return list(islice(self._waiting, share))

    def written(self, snapshots: Iterable[Snapshot]) -> None:
        """The flush with these snapshots is durable: what was the newer generation is now the older."""
        for snapshot in snapshots:
            lacks = self._waiting.pop(snapshot.key, None)
            if lacks is None:
                continue
            self._stored.add(snapshot.key)
            # Events of the batch that gathers meanwhile are noted when that batch is built.
            if snapshot.resting:
                self._at_rest.append(snapshot.key)
            elif lacks[1]:
                self._waiting[snapshot.key] = (lacks[1], 0)
            self._until_look -= 1

    def stored_at_rest(self) -> list[Key]:
        """Entities stored for good since this was last asked."""
        keys, self._at_rest = self._at_rest, []
        return keys

    def tail(self, seq: int) -> int:
        """The first record still needed; looked for once a round, 0 in between."""
        if self._until_look > 0:
            return 0
        self._until_look = max(len(self._waiting), 1_000)
        needed = min((lacks[0] for lacks in self._waiting.values()), default=seq)
        if needed <= self._tail:
            return 0
        self._tail = needed
        return needed
