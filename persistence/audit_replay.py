"""One shard as the database has it, rebuilt for an audit: every entity's snapshot and the journal since.

Owns the check that journal and snapshots are whole and mean the same: records without gaps from tail to
head, checksums, and an older generation that the journal leads to the newer one. Promises to name what is
damaged and to go on with the rest; an entity that damage may concern is marked as uncertain. Reads in pages,
in the audit's own transaction; applies the real cores, and decides nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from domain import cart, checkout, stock
from domain.audit import Violation
from domain.cart_model import Cart, CartEvent, Customer
from domain.checkout_events import CheckoutEvent
from domain.checkout_state import Checkout, Rules
from domain.ledger_events import Hold
from domain.messages import Key
from domain.stock_model import Stock, StockEvent
from persistence.journal import record_crc, snapshot_crc
from persistence.sql import sql

PAGE: Final = 200  # entities between two looks at the event loop
RECORDS: Final = 5  # journal records likewise: one may have thousands of events

# What the cores raise on an event that does not belong to the state it meets.
_CANNOT_APPLY: Final = (AssertionError, AttributeError, KeyError, TypeError)


class Core(NamedTuple):
    """What replay needs to know of a kind of actor."""

    event_type: Any
    state_types: Mapping[str, Any]
    touches: Callable[[Any], list[Key]]
    evolve: Callable[[Key, Any, Any], Any]


CORES: Final[Mapping[str, Core]] = {
    "stock": Core(StockEvent, {"account": Stock, "hold": Hold}, stock.touches, stock.evolve),
    "checkout": Core(CheckoutEvent, {"checkout": Checkout, "rules": Rules}, checkout.touches, checkout.evolve),
    "cart": Core(CartEvent, {"cart": Cart, "customer": Customer}, cart.touches, cart.evolve),
}


class Shard(NamedTuple):
    id: str
    kind: str
    head: int
    tail: int
    taken_at_ms: int


class Rebuilt(NamedTuple):
    """An entity at the journal's head. `certain` is False when damage may have hidden some of its events;
    `state` is None when there is nothing to rebuild it from."""

    key: Key
    state: Any
    certain: bool


class ShardReplay:
    """`read` the journal, then iterate over `entities`; both report what they find."""

    def __init__(
        self, connection: asyncpg.pool.PoolConnectionProxy, shard: Shard, report: Callable[[Violation], None]
    ) -> None:
        self.shard = shard
        self.records = 0
        self.last_seq = shard.head  # the newest record there is, or should be
        self.damaged_seq = 0  # the newest record that is missing or unreadable; 0: none
        self.unread: list[Key] = []  # entities whose snapshots are damaged
        self.in_journal: list[Key] = []  # entities that the journal alone knows
        self._connection = connection
        self._report = report
        self._core = CORES[shard.kind]
        self._events: dict[Key, list[tuple[int, Any]]] = defaultdict(list)
        self._decode_events = msgspec.msgpack.Decoder(list[self._core.event_type]).decode  # type: ignore[name-defined]
        self._decoders = {kind: msgspec.msgpack.Decoder(t).decode for kind, t in self._core.state_types.items()}

    # ── the journal ─────────────────────────────────────────────────────────────────────────────────────

    async def read(self) -> None:
        """Verify every record that is kept, and sort its events by the entities they concern."""
        expected, at_ms = self.shard.tail, 0
        kept = (sql("audit_journal"), self.shard.id, self.shard.tail)
        async for row in self._connection.cursor(*kept, prefetch=RECORDS):
            self._missing(expected, min(row["seq"], self.shard.head + 1))
            expected = row["seq"] + 1
            self.last_seq = max(self.last_seq, row["seq"])
            self.records += 1
            if row["seq"] > self.shard.head:
                self._named(row["seq"], "journal_record_unexpected", f"The shard's head is {self.shard.head}.")
            elif row["at_ms"] < at_ms:
                self._named(row["seq"], "journal_record_damaged", "Its time is before that of the record before it.")
            at_ms = max(at_ms, row["at_ms"])
            self._sort(row)
        self._missing(expected, self.shard.head + 1)

    def _missing(self, first: int, end: int) -> None:
        if first < end:
            self.damaged_seq = end - 1
            text = "It is missing." if end - first == 1 else f"It and all up to {end - 1} are missing."
            self._named(first, "journal_record_missing", text)

    def _named(self, seq: int, code: str, text: str) -> None:
        self._report(Violation(code, f"{self.shard.id}:{seq}", text))

    def _sort(self, row: asyncpg.Record) -> None:
        problem = ""
        events: Sequence[Any] = ()
        if record_crc(self.shard.id, row["seq"], row["at_ms"], row["events"]) != row["crc"]:
            problem = "Its checksum does not fit."
        else:
            try:
                events = self._decode_events(row["events"])
            except msgspec.MsgspecError as error:
                problem = f"It cannot be read: {error}."
        if not problem and len(events) != row["count"]:
            problem = f"It has {len(events)} events and says {row['count']}."
        if problem:
            self.damaged_seq = row["seq"]
            self._named(row["seq"], "journal_record_damaged", problem)
            return
        for event in events:
            for key in self._core.touches(event):
                self._events[key].append((row["seq"], event))

    # ── the entities ────────────────────────────────────────────────────────────────────────────────────

    async def entities(self) -> AsyncIterator[list[Rebuilt]]:
        """Every entity of the shard, in pages: those with a snapshot, then those the journal alone knows."""
        page: list[Rebuilt] = []
        async for row in self._connection.cursor(sql("audit_entities"), self.shard.id, prefetch=PAGE):
            page.append(self._rebuild(row, self._events.pop((row["kind"], row["id"]), [])))
            if len(page) == PAGE:
                yield page
                page = []
        for n, (key, events) in enumerate(self._events.items()):
            if n % PAGE == 0:
                await asyncio.sleep(0)  # nothing is awaited in this loop: let others have the event loop
            state = self._born_in_journal(key, events)
            if state is not None:
                self.in_journal.append(key)
                page.append(Rebuilt(key, state, not self.damaged_seq))
            if len(page) >= PAGE:
                yield page
                page = []
        yield page

    def _rebuild(self, row: asyncpg.Record, events: Sequence[tuple[int, Any]]) -> Rebuilt:
        key = (row["kind"], row["id"])
        newer = self._read_state(key, row["seq"], row["state"], row["crc"])
        older = None
        if row["prev_seq"] is not None:
            older = self._read_state(key, row["prev_seq"], row["prev_state"], row["prev_crc"])
        if row["seq"] > self.last_seq:
            text = f"It is of record {row['seq']}, the last one is {self.last_seq}."
            self._report(Violation("snapshot_damaged", _name(key), text))
        if newer is None and (older is None or not self._leads(row)):
            self.unread.append(key)
            return Rebuilt(key, None, False)
        if newer is None:
            newer = self._apply(key, older, events, row["prev_seq"], row["seq"])
        elif self._leads(row):
            self._compare(key, self._apply(key, older, events, row["prev_seq"] or 0, row["seq"]), newer, row)
        state = self._apply(key, newer, events, row["seq"], self.shard.head)
        return Rebuilt(key, state, row["seq"] >= self.damaged_seq)

    def _read_state(self, key: Key, seq: int, state: bytes, crc: int) -> Any:
        """The state of one generation; None, and named, if it is damaged."""
        if snapshot_crc(key, seq, state) != crc:
            self._report(Violation("snapshot_damaged", _name(key), f"The checksum of record {seq}'s does not fit."))
            return None
        try:
            return self._decoders[key[0]](state)
        except (msgspec.MsgspecError, KeyError) as error:
            self._report(Violation("snapshot_damaged", _name(key), f"Record {seq}'s cannot be read: {error}."))
            return None

    def _leads(self, row: asyncpg.Record) -> bool:
        """Whether the journal still has all that happened between the two generations.

        It is kept for what is awake; of what rests, only the newer generation is of use.
        """
        since = row["prev_seq"] or 0
        kept = not row["resting"] or since + 1 >= self.shard.tail
        return kept and not since < self.damaged_seq <= row["seq"]

    def _compare(self, key: Key, replayed: Any, stored: Any, row: asyncpg.Record) -> None:
        if replayed != stored:
            older = f"snapshot of record {row['prev_seq']}" if row["prev_seq"] else "beginning"
            text = f"From its {older} the journal leads to another state than that of record {row['seq']}."
            self._report(Violation("snapshot_disagrees", _name(key), text))

    def _born_in_journal(self, key: Key, events: Sequence[tuple[int, Any]]) -> Any:
        """An entity without a snapshot: it is new, or no more and its beginning is cut away."""
        state = self._apply(key, None, events, 0, self.shard.head)
        # What ended and was begun again is what it was begun as.
        ends = [i for i, (_, event) in enumerate(events) if self._ends(key, event)]
        life = events[ends[-1] + 1 :] if ends else events
        if life and not self._begins(key, life[0][1]) and not self.damaged_seq:
            text = "The journal goes on with it, but neither a snapshot nor a record begins it."
            self._report(Violation("snapshot_missing", _name(key), text))
        return state

    def _begins(self, key: Key, event: Any) -> bool:
        """Whether the event can be applied to nothing."""
        try:
            return self._core.evolve(key, None, event) is not None
        except _CANNOT_APPLY:
            return False

    def _ends(self, key: Key, event: Any) -> bool:
        """Whether the event lets go of the entity."""
        try:
            return self._core.evolve(key, None, event) is None
        except _CANNOT_APPLY:
            return False

    def _apply(self, key: Key, state: Any, events: Iterable[tuple[int, Any]], after_seq: int, up_to_seq: int) -> Any:
        """The state after the events of the records in (after_seq, up_to_seq]."""
        for seq, event in events:
            if not after_seq < seq <= up_to_seq:
                continue
            try:
                state = self._core.evolve(key, state, event)
            except _CANNOT_APPLY as error:
                if state is None:
                    continue  # the rest of an earlier life, whose beginning is cut away
                if not self.damaged_seq:
                    self._named(seq, "journal_unreplayable", f"It cannot be applied to {_name(key)}: {error}.")
                return state
        return state


def _name(key: Key) -> str:
    return f"{key[0]}/{key[1]}"
