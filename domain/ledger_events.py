"""What the ledger keeps and what happens to it: accounts, holds, events, and how an event changes either.

Owns the shapes (stored as arrays: a new field goes last and has a default) and `evolve`, which applies and
never judges. Whether something may happen is decided in `domain.ledger`, the only one to make these events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, assert_never

import msgspec

HoldStatus = Literal["held", "pinned", "confirmed", "released", "expired", "returned"]


class Account(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Units received, confirmed away, and held. All whole numbers of the account's unit."""

    received: int = 0
    confirmed: int = 0
    held: int = 0

    @property
    def on_hand(self) -> int:
        return self.received - self.confirmed

    @property
    def available(self) -> int:
        return self.received - self.confirmed - self.held


class Hold(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Units set aside for one checkout. ``legs`` maps account to units; a finished hold is a tombstone.

    ``revision`` is that of the newest step: an older one has been overtaken on its way and is refused.
    ``forgotten_at_ms``: since when nobody asks for it any more.
    """

    id: str
    status: HoldStatus
    revision: int
    legs: dict[str, int]
    expires_at_ms: int
    forgotten_at_ms: int = 0

    @property
    def live(self) -> bool:
        return self.status in ("held", "pinned")


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Base of the ledger's events; ``hold_id`` names the hold it concerns."""

    hold_id: str


class Taken(Event, frozen=True):
    """``added`` units were held under ``revision`` (on top of what the hold had)."""

    revision: int
    added: dict[str, int]
    expires_at_ms: int
    pinned: bool


class Trimmed(Event, frozen=True):
    """The surplus ``removed`` was given back; the hold is now at ``revision``."""

    revision: int
    removed: dict[str, int]


class Pinned(Event, frozen=True):
    revision: int = 0


class Unpinned(Event, frozen=True):
    expires_at_ms: int
    revision: int = 0


class Extended(Event, frozen=True):
    expires_at_ms: int
    revision: int = 0


class Ended(Event, frozen=True):
    """Base of a hold's ends. Nobody will ask for it again: from ``at_ms`` on it is a tombstone, which stays as long
    as a message may be on its way."""

    legs: dict[str, int]
    at_ms: int


class Confirmed(Ended, frozen=True):
    pass


class Released(Ended, frozen=True):
    pass


class Expired(Ended, frozen=True):
    pass


class Returned(Event, frozen=True):
    """Confirmed units came back to stock (an order was canceled); ``hold_id`` names the return itself."""

    legs: dict[str, int]


class Forgotten(Event, frozen=True):
    """Nobody will ask for what was returned again."""

    at_ms: int


class Dropped(Event, frozen=True):
    """The tombstone's time is over: nothing remembers the hold any more."""


LedgerEvent = (
    Taken | Trimmed | Pinned | Unpinned | Extended | Confirmed | Released | Expired | Returned | Forgotten | Dropped
)


def moves(event: LedgerEvent) -> tuple[Mapping[str, int], int, int]:
    """The accounts whose figures the event moves, with its units; and how often these are added to what is confirmed
    and to what is held."""
    match event:
        case Taken():
            return event.added, 0, 1
        case Trimmed():
            return event.removed, 0, -1
        case Released() | Expired():
            return event.legs, 0, -1
        case Confirmed():
            return event.legs, 1, -1
        case Returned():
            return event.legs, -1, 0
        case Pinned() | Unpinned() | Extended() | Forgotten() | Dropped():
            return {}, 0, 0
        case never:
            assert_never(never)


def accounts_of(event: LedgerEvent) -> Mapping[str, int]:
    """The accounts whose figures the event moves, with its units."""
    return moves(event)[0]


def evolve_account(key: str, account: Account, event: LedgerEvent) -> Account:
    """The account after the event."""
    legs, confirmed, held = moves(event)
    units = legs.get(key, 0)
    return Account(account.received, account.confirmed + confirmed * units, account.held + held * units)


def evolve_hold(hold: Hold | None, event: LedgerEvent) -> Hold | None:
    """The hold after the event; None once it is dropped."""
    match event:
        case Taken():
            if hold is None:
                return Hold(event.hold_id, _held(event.pinned), event.revision, event.added, event.expires_at_ms)
            legs = dict(hold.legs)
            for key, units in event.added.items():
                legs[key] = legs.get(key, 0) + units
            status = _held(event.pinned or hold.status == "pinned")
            return Hold(event.hold_id, status, event.revision, legs, event.expires_at_ms)
        case Released():
            return _finished(hold, event, "released")
        case Expired():
            return _finished(hold, event, "expired")
        case Confirmed():
            return _finished(hold, event, "confirmed")
        case Returned():
            return Hold(event.hold_id, "returned", 0, event.legs, 0)
        case Dropped():
            return None
        case Trimmed() | Pinned() | Unpinned() | Extended() | Forgotten():
            assert hold is not None, f"{event!r} concerns a hold that does not exist"
            return _changed(hold, event)
        case never:
            assert_never(never)


def _held(pinned: bool) -> HoldStatus:
    return "pinned" if pinned else "held"


def _finished(hold: Hold | None, event: Confirmed | Released | Expired, status: HoldStatus) -> Hold:
    revision = hold.revision if hold is not None else 0
    return Hold(event.hold_id, status, revision, event.legs, 0, event.at_ms)


def _changed(hold: Hold, event: Trimmed | Pinned | Unpinned | Extended | Forgotten) -> Hold:
    replace = msgspec.structs.replace
    match event:
        case Trimmed():
            left = {key: units - event.removed.get(key, 0) for key, units in hold.legs.items()}
            return replace(hold, revision=event.revision, legs={k: u for k, u in left.items() if u})
        case Pinned():
            return replace(hold, status="pinned", revision=max(hold.revision, event.revision))
        case Unpinned():
            revision = max(hold.revision, event.revision)
            return replace(hold, status="held", expires_at_ms=event.expires_at_ms, revision=revision)
        case Extended():
            revision = max(hold.revision, event.revision)
            return replace(hold, expires_at_ms=event.expires_at_ms, revision=revision)
        case Forgotten():
            return replace(hold, forgotten_at_ms=event.at_ms)
        case never:
            assert_never(never)
