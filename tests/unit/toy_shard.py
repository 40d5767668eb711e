"""A small shard around the event-sourced actor: boxes that hold a number, their owners, and a database that looks on.

The core has one command for each thing a writer must cope with. The database replays every record as it comes,
and checks each snapshot against that: a snapshot is the state as of the very record it rides with.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from actors.contracts import Journal
from actors.event_sourced import EventSourced
from domain.messages import Command, Decision, Key, Refusal
from domain.order import OrderRow
from persistence.journal import Flush, snapshot_crc
from tests.support.memory_journal import Database, EntityRow, Generation, MemoryJournal, Wire

SHARD = "toy-0"
TOO_LITTLE = Refusal("too_little")
NOT_FOUND = Refusal("not_found")


class Box(msgspec.Struct, frozen=True, array_like=True):
    """``seen``: command id → its answer. ``waiting``: whose answers come when the box is rung."""

    total: int = 0
    at_ms: int = 0
    resting: bool = False
    given_up: int = 0
    seen: dict[bytes, int] = {}
    waiting: tuple[bytes, ...] = ()


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────


class _Event(msgspec.Struct, frozen=True, array_like=True):
    name: str
    at_ms: int


class Opened(_Event, frozen=True, tag=True):
    pass


class Added(_Event, frozen=True, tag=True):
    n: int
    command_id: bytes
    resting: bool


class Moved(_Event, frozen=True, tag=True):
    target: str
    n: int


class Waited(_Event, frozen=True, tag=True):
    command_id: bytes


class Rung(_Event, frozen=True, tag=True):
    pass


class GivenUp(_Event, frozen=True, tag=True):
    pass


class Removed(_Event, frozen=True, tag=True):
    pass


# ── commands and replies ────────────────────────────────────────────────────────────────────────────────


class Toy(Command, frozen=True, kw_only=True):
    name: str
    rows: tuple[Any, ...] = ()


class Add(Toy, frozen=True, kw_only=True, tag=True):
    """Makes the box if need be. Refused when the total would go below zero."""

    n: int = 1
    rest: bool = False


class Place(Add, frozen=True, kw_only=True, tag=True):
    """An Add whose rows may be refused: then `GiveUp` happens instead."""


class GiveUp(Toy, frozen=True, kw_only=True, tag=True):
    pass


class Move(Toy, frozen=True, kw_only=True, tag=True):
    """Between two boxes; refused where one of them is not there."""

    target: str
    n: int = 1


class Look(Toy, frozen=True, kw_only=True, tag=True):
    """A read like any command."""


class Peek(Toy, frozen=True, kw_only=True, tag=True):
    """A read that may be stale."""


class Wait(Toy, frozen=True, kw_only=True, tag=True):
    """Answered by the next `Ring`."""


class Ring(Toy, frozen=True, kw_only=True, tag=True):
    """Let in however full the queue is."""


class Remove(Toy, frozen=True, kw_only=True, tag=True):
    pass


class Trip(Toy, frozen=True, kw_only=True, tag=True):
    """The core stumbles over it."""


class Total(msgspec.Struct, frozen=True, array_like=True):
    total: int
    given_up: int = 0


class ToyCore:
    """Boxes. Those whose last Add said so rest; those named in capitals never do, and only they may be removed."""

    kind = "toy"
    sleeps = True
    sums = None
    event_type = Opened | Added | Moved | Waited | Rung | GivenUp | Removed
    state_types: Mapping[str, Any] = {"box": Box}

    def decide(self, world: Any, command: Any, now_ms: int) -> Decision:
        box: Box | None = world.get("box", command.name)
        match command:
            case Add():
                return _add(box, command, now_ms)
            case Trip():
                raise ZeroDivisionError("a bug in a core")
            case _ if box is None:
                return Decision(reply=NOT_FOUND)
            case GiveUp():
                return Decision([GivenUp(command.name, now_ms)], Total(box.total, box.given_up + 1))
            case Look() | Peek():
                return Decision(reply=Total(box.total, box.given_up))
            case Move():
                if world.get("box", command.target) is None:
                    return Decision(reply=NOT_FOUND)
                return Decision([Moved(command.name, now_ms, command.target, command.n)], Total(box.total - command.n))
            case Wait():
                return Decision([Waited(command.name, now_ms, command.command_id)])
            case Ring():
                answers = [(command_id, Total(box.total)) for command_id in box.waiting]
                return Decision([Rung(command.name, now_ms)], Total(box.total), answers, command.rows)
            case Remove() if command.name.isupper():
                return Decision([Removed(command.name, now_ms)], Total(box.total))
            case _:
                return Decision(reply=NOT_FOUND)

    def touches(self, event: Any) -> list[Key]:
        names = (event.name, event.target) if isinstance(event, Moved) else (event.name,)
        return [("box", name) for name in names]

    def evolve(self, key: Key, state: Box | None, event: Any) -> Box | None:
        if isinstance(event, Opened):
            return Box(at_ms=event.at_ms)
        assert state is not None, f"{event} came to a box that is not there"
        match event:
            case Added():
                seen = state.seen | {event.command_id: state.total + event.n}
                return _at(state, event, total=state.total + event.n, resting=event.resting, seen=seen)
            case Moved():
                sign = -1 if key[1] == event.name else 1
                return _at(state, event, total=state.total + sign * event.n)
            case Waited():
                return _at(state, event, waiting=(*state.waiting, event.command_id))
            case Rung():
                return _at(state, event, waiting=())
            case GivenUp():
                return _at(state, event, given_up=state.given_up + 1)
            case _:
                return None

    def begins(self, key: Key, event: Any) -> bool:
        return isinstance(event, Opened)

    def may_end(self, key: Key) -> bool:
        return True

    def unsound(self, world: Any) -> str:
        return ""

    def resting(self, key: Key, state: Box) -> bool:
        return state.resting and not state.waiting and key[1].islower()

    def finished(self, key: Key, state: Box) -> bool:
        """Some of what rests: both ways of writing it are met."""
        return self.resting(key, state) and state.total % 2 == 0

    def may_sleep(self, command: Any) -> Sequence[Key]:
        names = (command.name, command.target) if isinstance(command, Move) else (command.name,)
        return [("box", name) for name in names if name.islower()]

    def admits_when_full(self, command: Any) -> bool:
        return isinstance(command, Ring)

    def may_be_stale(self, command: Any) -> bool:
        return isinstance(command, Peek)

    def instead_of(self, command: Any) -> Command | None:
        return GiveUp(command_id=command.command_id, name=command.name) if isinstance(command, Place) else None


def _add(box: Box | None, command: Add, now_ms: int) -> Decision:
    if box is not None and command.command_id in box.seen:
        return Decision(reply=Total(box.seen[command.command_id]))
    total = (box.total if box is not None else 0) + command.n
    if total < 0:
        return Decision(reply=TOO_LITTLE)
    events: list[Any] = [] if box is not None else [Opened(command.name, now_ms)]
    events.append(Added(command.name, now_ms, command.n, command.command_id, command.rest))
    return Decision(events, Total(total), rows=command.rows)


def _at(state: Box, event: Any, **changes: Any) -> Box:
    return msgspec.structs.replace(state, at_ms=event.at_ms, **changes)


def order(order_id: str, checkout_id: str, total: int = 5) -> OrderRow:
    """A row that may ride with an Add, a Place or a Ring."""
    return OrderRow(order_id, checkout_id, "1", "g:owner", "hash", "USD", total, 1_000, b"{}")


POISON = order("ord_bad", "chk_bad", total=-1)  # which no database takes


# ── around it ───────────────────────────────────────────────────────────────────────────────────────────


class ToyDatabase(Database):
    """One shard. ``full_replay`` is what all records ever written, cut ones included, lead to."""

    def __init__(self) -> None:
        super().__init__(SHARD)
        self.full_replay: dict[Key, Box] = {}
        self.event_times_ms: list[int] = []
        self._core = ToyCore()
        self._decode = msgspec.msgpack.Decoder(list[ToyCore.event_type]).decode

    def append(self, epoch: int, flush: Flush) -> None:
        super().append(epoch, flush)
        for event in self._decode(flush.events):
            self.event_times_ms.append(event.at_ms)
            for key in self._core.touches(event):
                state = self._core.evolve(key, self.full_replay.pop(key, None), event)
                if state is not None:
                    self.full_replay[key] = state
        for snapshot in flush.snapshots:
            stored = msgspec.msgpack.decode(snapshot.state, type=Box)
            assert stored == self.full_replay[snapshot.key], f"{snapshot.key} is not what it was at {flush.seq}"

    def put_away(self, name: str, box: Box) -> None:
        """A box at rest whose records have been cut from the journal long ago."""
        key, state = ("box", name), msgspec.msgpack.encode(box)
        self.shards[SHARD].entities[key] = EntityRow(Generation(0, state, snapshot_crc(key, 0, state)), None, True)
        self.full_replay[key] = box

    def damage(self, name: str, *, both: bool = True) -> None:
        """Flip a bit of the box's newer generation, or of both."""
        row = self.shards[SHARD].entities["box", name]
        older = _flipped(row.older) if both and row.older is not None else row.older
        self.shards[SHARD].entities["box", name] = row._replace(newer=_flipped(row.newer), older=older)

    def sound_twice(self) -> list[str]:
        """The boxes of which two undamaged generations are stored."""
        return [
            key[1]
            for key, row in self.shards[SHARD].entities.items()
            if row.older is not None and all(_sound(key, generation) for generation in (row.newer, row.older))
        ]

    @property
    def head(self) -> int:
        return self.shards[SHARD].head

    def totals(self) -> dict[str, int]:
        return {name: box.total for (_, name), box in self.full_replay.items()}


def _sound(key: Key, generation: Generation) -> bool:
    return snapshot_crc(key, generation.seq, generation.state) == generation.crc


def _flipped(generation: Generation) -> Generation:
    return generation._replace(state=bytes([generation.state[0] ^ 1]) + generation.state[1:])


_ids = itertools.count(1)


def new_id() -> bytes:
    return next(_ids).to_bytes(16, "big")


class Asked:
    """The ticket of one command, and what came of it."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.put_off = 0
        self._answered = asyncio.Event()

    def reply(self, reply: Any) -> None:
        self.replies.append(reply)
        self._answered.set()

    def later(self) -> None:
        self.put_off += 1

    async def answer(self) -> Any:
        await self._answered.wait()
        return self.replies[0]


class Clock:
    """Milliseconds of a day that a test moves."""

    def __init__(self, now_ms: int = 1_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Incarnation:
    """The shard's actor in one process. ``left`` is set when it was fenced, or broke; ``ended`` when it is gone."""

    def __init__(self, journal: Journal, clock: Clock | None = None, *, max_queue: int = 20_000) -> None:
        self.left = asyncio.Event()
        self.ended = False
        self.writer = EventSourced(
            SHARD, ToyCore(), journal, clock or Clock(), on_fenced=self.left.set, max_queue=max_queue
        )
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> Self:
        """Take the shard over and run. `Fenced` if somebody else did meanwhile."""
        await self.writer.recover()
        self._running = asyncio.create_task(self.writer.run())
        return self

    async def crash(self) -> None:
        """The process is gone: what it has sent may have arrived, nothing else will."""
        self.ended = True
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def submit(self, command: Toy) -> Asked:
        asked = Asked()
        self.writer.submit(command, asked)
        return asked

    def add(self, name: str, n: int = 1, **more: Any) -> Asked:
        return self.submit(Add(command_id=new_id(), name=name, n=n, **more))

    def ask(self, kind: type[Toy], name: str, **more: Any) -> Asked:
        return self.submit(kind(command_id=new_id(), name=name, **more))


class Owner(Incarnation):
    """An incarnation on a database in memory that others may use too. ``wire``: the way there."""

    def __init__(self, database: Database, clock: Clock | None = None, *, max_queue: int = 20_000) -> None:
        self.wire = Wire()
        super().__init__(MemoryJournal(database, self.wire), clock, max_queue=max_queue)


async def started(database: Database, clock: Clock | None = None, *, max_queue: int = 20_000) -> Owner:
    return await Owner(database, clock, max_queue=max_queue).start()


async def answers(*asked: Asked) -> list[Any]:
    """What each was told, once."""
    replies = [await one.answer() for one in asked]
    assert all(len(one.replies) == 1 for one in asked), "told twice"
    return replies
