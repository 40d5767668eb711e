"""Which entities are to be written with the next flush, so that replay stays short without ever a pause.

Owns, per entity, the first journal record that its newer and its older stored generation lack. Promises that
the journal is only cut below what every older generation needs, and that a replay stays below 100,000 events.
What has changed is left alone for `WAIT_EVENTS` events or `WAIT_MS`, whichever end first: most of what is busy
will have ended by then, and is written once or never. Then all that wait are written, within three rounds of
`ROUND_EVENTS`; and so once more for the older generation. Pure bookkeeping; `actors.shard_memory` asks it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from operator import itemgetter

from domain.messages import Key
from persistence.journal import Snapshot

WAIT_EVENTS, WAIT_MS = 25_000, 5_000
ROUND_EVENTS = 10_000
LOOK_EVENTS = 5_000  # between two looks at how far the journal may be cut
AT_LEAST = 4  # entities a flush
# More at once would be a pause: what is left undone is made up for by the next flushes. An event of a basket touches
# two entities that are not touched again before they are written, twice each: less for an event would never catch up.
AT_MOST, EVENT_MOST = 2_000, 4

# (first record the older generation lacks, the newer (0: none), events and time when it began to wait)
Lacks = tuple[int, int, int, int]


class SnapshotQueue:
    """Changed entities in the order they wait: first the `_young`, left alone, then the `_due`."""

    def __init__(self) -> None:
        self._young: dict[Key, Lacks] = {}
        self._due: dict[Key, Lacks] = {}
        self._stored: set[Key] = set()
        self._at_rest: list[Key] = []
        self._events = 0
        self._at_ms = 0
        self._pace = 0  # entities of this round
        self._left = 0  # of which so many are still to be written
        self._owed = 0  # should have been written by now
        self._next_look = 0
        self._tail = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._young or key in self._due

    def __len__(self) -> int:
        return len(self._young) + len(self._due)

    def stored(self, key: Key) -> None:
        """The entity has a row."""
        self._stored.add(key)

    def has_row(self, key: Key) -> bool:
        return key in self._stored

    def dirty(self, key: Key, seq: int) -> None:
        """Record ``seq`` changed the entity."""
        queue = self._due if key in self._due else self._young
        lacks = queue.get(key)
        if lacks is None:
            self._wait(key, seq, seq)
        elif not lacks[1]:
            queue[key] = (lacks[0], seq, *lacks[2:])

    def recovered(self, key: Key, older: int, newer: int) -> None:
        """Found at recovery: the first record that the older generation lacks, and the newer (0: none).

        It has waited before. Thousands that came of age with one flush would be a pause, too.
        """
        known = self._due.get(key)
        if known is not None:
            older, newer = min(older, known[0]), min(newer, known[1]) or newer or known[1]
        self._due[key] = (older, newer, self._events, self._at_ms)

    def _wait(self, key: Key, older: int, newer: int) -> None:
        self._young[key] = (older, newer, self._events, self._at_ms)

    def forget(self, key: Key) -> bool:
        """The entity is no more; whether it has a row to delete."""
        self._take(key)
        if key in self._stored:
            self._stored.remove(key)
            return True
        return False

    def _take(self, key: Key) -> Lacks | None:
        return self._young.pop(key, None) or self._due.pop(key, None)

    def at_rest(self, key: Key) -> None:
        """The entity has left memory; when it is loaded again, it is said again that it has a row."""
        self._stored.discard(key)

    def due(self, events: int, at_ms: int) -> list[Key]:
        """The next entities to write, with a flush of so many events."""
        self._events += events
        self._at_ms = at_ms
        # Baskets of many lines, or a recovery, can leave more behind than that would ever catch up with.
        behind = len(self._due) + len(self._young)
        most = max(AT_MOST, EVENT_MOST * events, -(-behind * events // (3 * ROUND_EVENTS)))
        self._let_ripen(most)
        if self._left <= 0:
            self._left = self._pace = len(self._due)
        # By the round's size, not by what is left of it: else the last of a burst would wait almost for ever.
        share = max(AT_LEAST, -(-self._pace * events // ROUND_EVENTS))
        self._left -= share
        self._owed = min(self._owed + share, len(self._due))
        share = min(self._owed, most)
        self._owed -= share
        return list(islice(self._due, share))

    def _let_ripen(self, most: int) -> None:
        ripe = []
        for key, (_, _, events, at_ms) in islice(self._young.items(), most):
            if self._events - events < WAIT_EVENTS and self._at_ms - at_ms < WAIT_MS:
                break
            ripe.append(key)
        for key in ripe:
            self._due[key] = self._young.pop(key)

    def written(self, snapshots: Iterable[Snapshot]) -> None:
        """The flush with these snapshots is durable: what was the newer generation is now the older."""
        for snapshot in snapshots:
            lacks = self._take(snapshot.key)
            if lacks is None:
                continue
            self._stored.add(snapshot.key)
            # Events of the batch that gathers meanwhile are noted when that batch is built.
            if snapshot.resting:
                self._at_rest.append(snapshot.key)
            elif lacks[1]:
                self._wait(snapshot.key, lacks[1], 0)

    def stored_at_rest(self) -> list[Key]:
        """Entities stored for good since this was last asked."""
        keys, self._at_rest = self._at_rest, []
        return keys

    def tail(self, seq: int) -> int:
        """The first record still needed; looked for now and then, 0 in between."""
        if self._events < self._next_look:
            return 0
        self._next_look = self._events + LOOK_EVENTS
        needed = min(map(itemgetter(0), chain(self._young.values(), self._due.values())), default=seq)
        if needed <= self._tail:
            return 0
        self._tail = needed
        return needed
