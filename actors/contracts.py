"""What the event-sourced actor is told and works with: its core, its journal, whoever asks, and one batch.

Owns no behaviour. The journal of production is `persistence.journal.PostgresJournal`; a test may bring another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from domain.messages import Command, Decision, Key
from persistence.journal import Flush, Lease, Record, Snapshot

# (the record of the older generation, of the newer) of every entity that is stored
Stored = Mapping[Key, tuple[int, int]]


class Sums(Protocol):
    """Adds events up that the stored generations lack, and applies the sums to the entities, once each."""

    def add(self, seq: int, event: Any) -> Sequence[Key]:
        """The entities that the event concerns and that are to be evolved all the same."""
        ...

    def apply(self, world: dict[Key, Any]) -> Iterable[tuple[Key, int, int]]:
        """Each entity that lacks something, with the first record that its older and its newer generation lack."""
        ...


class Core(Protocol):
    """A pure core: what the actor needs to know of it. States and events are msgspec types.

    ``sleeps``: some of its states may leave memory while they rest.
    ``sums``: what a recovery may add up instead of applying it event by event; None: nothing.
    ``begins``: the event can be an entity's first. ``may_end``: such an entity may be gone, and the journal still
    tell of it. ``unsound``: what the states read back cannot be, "" if they may; a damage that no checksum shows.
    ``resting``: nothing is awaited of the state, so it may leave memory. ``finished``: it rests, and will hardly be
    asked for again, so it is stored with the flush that changed it. What may sleep never ends (`evolve` gives None
    only for what is always in memory): its row might be read again before the flush that deletes it.
    """

    @property
    def kind(self) -> str: ...
    @property
    def sleeps(self) -> bool: ...
    @property
    def sums(self) -> Callable[[Stored], Sums] | None: ...
    @property
    def event_type(self) -> Any: ...
    @property
    def state_types(self) -> Mapping[str, Any]: ...

    def decide(self, world: Any, command: Any, now_ms: int) -> Decision: ...
    def touches(self, event: Any) -> list[Key]: ...
    def evolve(self, key: Key, state: Any, event: Any) -> Any: ...
    def begins(self, key: Key, event: Any) -> bool: ...
    def may_end(self, key: Key) -> bool: ...
    def unsound(self, world: World) -> str: ...
    def resting(self, key: Key, state: Any) -> bool: ...
    def finished(self, key: Key, state: Any) -> bool: ...
    def may_sleep(self, command: Any) -> Sequence[Key]: ...
    def admits_when_full(self, command: Any) -> bool: ...
    def may_be_stale(self, command: Any) -> bool: ...
    def instead_of(self, command: Any) -> Command | None: ...


class Journal(Protocol):
    """What `persistence.journal.PostgresJournal` does; the simulation has another."""

    async def take(self, shard: str, held: int | None = None) -> Lease: ...
    async def owns(self, shard: str, epoch: int) -> bool: ...
    async def append(self, epoch: int, flush: Flush) -> None: ...
    async def was_written(self, flush: Flush) -> bool: ...
    def awake(self, shard: str) -> Any: ...
    async def entities(self, shard: str, keys: Sequence[Key]) -> list[Snapshot]: ...
    async def records(self, shard: str, tail: int, head: int) -> list[Record]: ...


class Ticket(Protocol):
    """Whoever asked. ``later`` is said once if the reply does not come with its batch."""

    def reply(self, reply: Any) -> None: ...
    def later(self) -> None: ...


class Pending:
    """What one flush will write, and who is to be told when it has."""

    def __init__(self) -> None:
        self.commands: list[tuple[Command, Ticket]] = []
        self.events: list[msgspec.Raw] = []
        self.rows: list[Any] = []
        self.replies: list[tuple[Ticket, Any]] = []
        self.deferred: list[tuple[bytes, Ticket]] = []  # whose replies come later, by their commands' ids
        self.answered: list[tuple[bytes, Ticket]] = []  # who waited for a reply that comes with this batch
        self.changed: dict[Key, Any] = {}
        self.finished: dict[Key, bytes] = {}  # those of the changed that will hardly change again, written down

    def __bool__(self) -> bool:
        return bool(self.commands)


class World(dict[Key, Any]):
    """All states in memory, as a core sees them."""

    def get(self, kind: Any, identifier: Any = None) -> Any:
        return dict.get(self, (kind, identifier))
