"""The ledger: one mechanism for everything scarce.

Owns accounts (units of a SKU, later redemptions of a coupon, cents of a gift card, a customer's purchases)
and holds on them. Promises that no account goes below zero and that every step may be repeated: a hold is
named by its id, and each step answers a repeat as it answered the first time. Is told of time, never asks.
Two phases, as in TigerBeetle: take (hold) → confirm | release | expire; a *pinned* hold cannot expire, for
money may be moving. Only the core of the actor that owns the accounts calls it.

Per account: ``on_hand + confirmed == received`` and ``available = on_hand - held >= 0``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, assert_never

import msgspec

HoldStatus = Literal["held", "pinned", "confirmed", "released", "expired", "returned"]

# A take that was sent longer ago than this may have been overtaken by its own saga's end: it is refused, so
# that a late duplicate cannot resurrect a hold that nobody would ever release.
STALE_TAKE_MS = 60_000
TOMBSTONE_MS = 2 * STALE_TAKE_MS


class Account(msgspec.Struct, frozen=True, array_like=True):
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


class Hold(msgspec.Struct, frozen=True, array_like=True):
    """Units set aside for one checkout. ``legs`` maps account to units; a finished hold is a tombstone."""

    id: str
    status: HoldStatus
    revision: int
    legs: dict[str, int]
    expires_at_ms: int
    forgotten_at_ms: int = 0

    @property
    def live(self) -> bool:
        return self.status in ("held", "pinned")


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────


class Event(msgspec.Struct, frozen=True, array_like=True, tag=True):
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
    pass


class Unpinned(Event, frozen=True):
    expires_at_ms: int


class Extended(Event, frozen=True):
    expires_at_ms: int


class Confirmed(Event, frozen=True):
    legs: dict[str, int]


class Released(Event, frozen=True):
    legs: dict[str, int]


class Expired(Event, frozen=True):
    legs: dict[str, int]


class Returned(Event, frozen=True):
    """Confirmed units came back to stock (an order was canceled); ``hold_id`` names the return itself."""

    legs: dict[str, int]


class Forgotten(Event, frozen=True):
    at_ms: int


class Dropped(Event, frozen=True):
    """The tombstone's time is over: nothing remembers the hold any more."""


LedgerEvent = (
    Taken
    | Trimmed
    | Pinned
    | Unpinned
    | Extended
    | Confirmed
    | Released
    | Expired
    | Returned
    | Forgotten
    | Dropped
)


# ── decisions ───────────────────────────────────────────────────────────────────────────────────────────


class Short(NamedTuple):
    """One account that has not enough: how many were asked for in all, how many there are for this hold."""

    account: str
    requested: int
    available: int


class Refused(NamedTuple):
    """Why a step is not possible. ``status`` is the hold's, or "unknown" when there is none."""

    reason: Literal["short", "finished", "stale", "unknown"]
    status: str = "unknown"
    short: Sequence[Short] = ()


Step = list[LedgerEvent] | Refused


def take(
    accounts: Mapping[str, Account],
    hold: Hold | None,
    hold_id: str,
    revision: int,
    wanted: Mapping[str, int],
    *,
    expires_at_ms: int,
    pinned: bool,
    issued_at_ms: int,
    now_ms: int,
) -> Step:
    """Hold at least ``wanted`` of each account, all or nothing. Surplus from an older revision stays (see `trim`)."""
    if hold is not None:
        if not hold.live:
            return Refused("finished", hold.status)
        if revision < hold.revision:
            return Refused("stale", hold.status)
    elif now_ms - issued_at_ms > STALE_TAKE_MS:
        return Refused("stale")
    has = hold.legs if hold is not None else {}
    added = {key: units - has.get(key, 0) for key, units in wanted.items() if units > has.get(key, 0)}
    short = [
        Short(key, wanted[key], accounts[key].available + has.get(key, 0))
        for key, units in added.items()
        if accounts[key].available < units
    ]
    if short:
        return Refused("short", hold.status if hold else "unknown", short)
    if hold is not None and not added and revision == hold.revision:
        return []
    # From here on nothing can fail: every account has what is taken from it.
    return [Taken(hold_id, revision, added, expires_at_ms, pinned)]


def trim(hold: Hold | None, revision: int, target: Mapping[str, int]) -> Step:
    """Give back what the hold has beyond ``target``; repeats and overtaken trims change nothing."""
    if hold is None:
        return Refused("unknown")
    if not hold.live:
        return Refused("finished", hold.status)
    if revision < hold.revision:
        return Refused("stale", hold.status)
    removed = {
        key: units - target.get(key, 0) for key, units in hold.legs.items() if units > target.get(key, 0)
    }
    if not removed and revision == hold.revision:
        return []
    return [Trimmed(hold.id, revision, removed)]


def pin(hold: Hold | None) -> Step:
    """From here on the hold cannot expire: money may move."""
    if hold is None:
        return Refused("unknown")
    match hold.status:
        case "held":
            return [Pinned(hold.id)]
        case "pinned" | "confirmed":
            return []
        case "released" | "expired" | "returned":
            return Refused("finished", hold.status)
        case never:
            assert_never(never)


def unpin(hold: Hold | None, expires_at_ms: int) -> Step:
    """No money is out any more: the hold may expire again."""
    if hold is None:
        return Refused("unknown")
    match hold.status:
        case "pinned":
            return [Unpinned(hold.id, expires_at_ms)]
        case "held":
            return []
        case "confirmed" | "released" | "expired" | "returned":
            return Refused("finished", hold.status)
        case never:
            assert_never(never)


def extend(hold: Hold | None, expires_at_ms: int) -> Step:
    """Move the expiry; of a pinned hold nothing need be said."""
    if hold is None:
        return Refused("unknown")
    match hold.status:
        case "held":
            return [Extended(hold.id, expires_at_ms)] if expires_at_ms != hold.expires_at_ms else []
        case "pinned":
            return []
        case "confirmed" | "released" | "expired" | "returned":
            return Refused("finished", hold.status)
        case never:
            assert_never(never)


def confirm(hold: Hold | None) -> Step:
    """The units are sold. Only a pinned hold can be confirmed: that is what pinning promises."""
    if hold is None:
        return Refused("unknown")
    match hold.status:
        case "pinned":
            return [Confirmed(hold.id, hold.legs)]
        case "confirmed":
            return []
        case "held" | "released" | "expired" | "returned":
            return Refused("finished", hold.status)
        case never:
            assert_never(never)


def release(hold: Hold | None, hold_id: str) -> Step:
    """Give everything back. A release that arrives before its take leaves a tombstone that stops the take."""
    if hold is None:
        return [Released(hold_id, {})]
    match hold.status:
        case "held" | "pinned":
            return [Released(hold.id, hold.legs)]
        case "released" | "expired":
            return []
        case "confirmed" | "returned":
            return Refused("finished", hold.status)
        case never:
            assert_never(never)


def expire(hold: Hold | None, now_ms: int) -> Step:
    """What the sweep does to a hold whose time is over. Pinned holds have no time."""
    if hold is None or hold.status != "held" or hold.expires_at_ms > now_ms:
        return []
    return [Expired(hold.id, hold.legs)]


def give_back(
    ticket: Hold | None, ticket_id: str, accounts: Mapping[str, Account], legs: Mapping[str, int]
) -> Step:
    """Return confirmed units to stock under a ticket of their own, once."""
    if ticket is not None:
        return [] if ticket.status == "returned" else Refused("finished", ticket.status)
    if any(accounts[key].confirmed < units for key, units in legs.items()):
        return Refused("short", "unknown", [Short(k, u, accounts[k].confirmed) for k, u in legs.items()])
    return [Returned(ticket_id, dict(legs))]


def forget(hold: Hold | None, now_ms: int) -> Step:
    """The saga is over and will not ask again. A live hold is never forgotten."""
    if hold is None or hold.forgotten_at_ms:
        return []
    if hold.live:
        return Refused("finished", hold.status)
    return [Forgotten(hold.id, now_ms)]


def drop(hold: Hold | None, now_ms: int) -> Step:
    """Let go of a tombstone that has outlived every message that could still be under way."""
    if hold is None or not hold.forgotten_at_ms or now_ms - hold.forgotten_at_ms < TOMBSTONE_MS:
        return []
    return [Dropped(hold.id)]


# ── evolution ───────────────────────────────────────────────────────────────────────────────────────────


def accounts_of(event: LedgerEvent) -> Mapping[str, int]:
    """The accounts whose figures the event moves, with its units."""
    match event:
        case Taken():
            return event.added
        case Trimmed():
            return event.removed
        case Confirmed() | Released() | Expired() | Returned():
            return event.legs
        case Pinned() | Unpinned() | Extended() | Forgotten() | Dropped():
            return {}
        case never:
            assert_never(never)


def evolve_account(key: str, account: Account, event: LedgerEvent) -> Account:
    """The account after the event."""
    match event:
        case Taken():
            return Account(account.received, account.confirmed, account.held + event.added[key])
        case Trimmed():
            return Account(account.received, account.confirmed, account.held - event.removed[key])
        case Confirmed():
            units = event.legs[key]
            return Account(account.received, account.confirmed + units, account.held - units)
        case Released() | Expired():
            return Account(account.received, account.confirmed, account.held - event.legs[key])
        case Returned():
            return Account(account.received, account.confirmed - event.legs[key], account.held)
        case Pinned() | Unpinned() | Extended() | Forgotten() | Dropped():
            return account
        case never:
            assert_never(never)


def evolve_hold(hold: Hold | None, event: LedgerEvent) -> Hold | None:
    """The hold after the event; None once it is dropped."""
    match event:
        case Taken():
            legs = dict(hold.legs) if hold is not None else {}
            for key, units in event.added.items():
                legs[key] = legs.get(key, 0) + units
            pinned = event.pinned or (hold is not None and hold.status == "pinned")
            return Hold(
                event.hold_id, "pinned" if pinned else "held", event.revision, legs, event.expires_at_ms
            )
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


def _finished(hold: Hold | None, event: Confirmed | Released | Expired, status: HoldStatus) -> Hold:
    revision = hold.revision if hold is not None else 0
    return Hold(event.hold_id, status, revision, event.legs, 0)


def _changed(hold: Hold, event: Trimmed | Pinned | Unpinned | Extended | Forgotten) -> Hold:
    replace = msgspec.structs.replace
    match event:
        case Trimmed():
            left = {key: units - event.removed.get(key, 0) for key, units in hold.legs.items()}
            return replace(hold, revision=event.revision, legs={k: u for k, u in left.items() if u})
        case Pinned():
            return replace(hold, status="pinned")
        case Unpinned():
            return replace(hold, status="held", expires_at_ms=event.expires_at_ms)
        case Extended():
            return replace(hold, expires_at_ms=event.expires_at_ms)
        case Forgotten():
            return replace(hold, forgotten_at_ms=event.at_ms)
        case never:
            assert_never(never)
