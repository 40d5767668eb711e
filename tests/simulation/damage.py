"""Damage to what is stored: a copy of the seed's database loses or changes something, and nobody may be fooled.

Owns the kinds of damage. Whoever recovers on it either says `Corrupt` or comes to the very states that were
there before (an older snapshot and the journal since will do), but for an entity at rest that is damaged itself; the
audit names it in any case.
"""

from __future__ import annotations

import contextlib
import copy
from random import Random
from typing import Any
from unittest.mock import patch

from actors.cores import CartCore, CheckoutCore, StockCore
from actors.event_sourced import EventSourced
from domain.cart_model import CartPolicy
from domain.checkout_model import Policy
from domain.messages import Key
from persistence.journal import Corrupt
from tests.simulation.audit import audit
from tests.simulation.chance import CHANCE
from tests.simulation.database import SimDatabase, at_once
from tests.support.memory_journal import EntityRow, MemoryJournal, Shard

CORES: dict[str, Any] = {"stock": StockCore(), "cart": CartCore(CartPolicy()), "checkout": CheckoutCore(Policy())}
KINDS = ("record flipped", "record lost", "tail torn off", "records swapped", "snapshot flipped", "snapshots flipped")


def fooled(database: SimDatabase, rng: Random, now_s: float) -> tuple[str, list[str]]:
    """One damage of the seed's choosing: its kind, and who was taken in by it."""
    damaged = _copied(database)
    name = rng.choice([name for name, shard in damaged.shards.items() if shard.journal])
    before, _ = _recovered(database, name)
    kind = rng.choice(KINDS)
    if not _damage(damaged.shards[name], kind, rng):
        return "nothing to damage", []
    found = []
    with contextlib.suppress(Corrupt):
        after, named = _recovered(damaged, name)
        wrong = [key for key, state in after.items() if key not in before or before[key] != state]
        # A damaged entity at rest is left out, named, and refused to whoever asks for it.
        if wrong or (len(after) < len(before) and not named):
            found.append(f"{name} recovered to other states after: {kind}")
    if audit(damaged, now_s)[0].consistent:
        found.append(f"the audit found nothing on {name} after: {kind}")
    return kind, found


def _copied(database: SimDatabase) -> SimDatabase:
    copied = SimDatabase()
    copied.shards = {name: copy.copy(shard) for name, shard in database.shards.items()}
    for shard in copied.shards.values():
        shard.journal, shard.entities = dict(shard.journal), dict(shard.entities)
    copied.taken_at_s, copied.tables, copied.book = database.taken_at_s, database.tables, database.book
    return copied


def _recovered(database: SimDatabase, name: str) -> tuple[dict[Key, Any], bool]:
    """What an actor would have in memory, of what is awake; and whether it has said that something is damaged."""
    said: list[str] = []
    core = CORES[name.partition("-")[0]]
    copied = _copied(database)  # recovery takes an epoch
    copied.taken_at_s = dict(database.taken_at_s)
    writer = EventSourced(name, core, MemoryJournal(copied), lambda: 0)
    with patch.object(CHANCE, "note", lambda kind, what: said.append(what)):
        at_once(writer.recover())
    return dict(writer.world), "entity damaged" in said


def _damage(shard: Shard, kind: str, rng: Random) -> bool:
    """Do it; False where there is nothing to do it to."""
    journal, entities = shard.journal, shard.entities
    seqs = sorted(journal)
    match kind:
        case "record flipped":
            seq = rng.choice(seqs)
            journal[seq] = journal[seq]._replace(events=_flipped(journal[seq].events, rng))
        case "record lost":
            del journal[rng.choice(seqs)]
        case "tail torn off":
            for seq in seqs[rng.randrange(len(seqs)) :]:
                del journal[seq]
        case "records swapped" if len(seqs) > 1:
            one, other = rng.sample(seqs, 2)
            journal[one], journal[other] = journal[other], journal[one]
        case "snapshot flipped" | "snapshots flipped" if entities:
            key = rng.choice(sorted(entities))
            entities[key] = _flipped_snapshot(entities[key], rng, both=kind == "snapshots flipped")
        case _:
            return False
    return True


def _flipped_snapshot(row: EntityRow, rng: Random, *, both: bool) -> EntityRow:
    row = row._replace(newer=row.newer._replace(state=_flipped(row.newer.state, rng)))
    if both and row.older is not None:
        row = row._replace(older=row.older._replace(state=_flipped(row.older.state, rng)))
    return row


def _flipped(content: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
