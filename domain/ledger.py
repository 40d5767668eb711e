"""The ledger: one mechanism for everything scarce.

Owns accounts (units of a SKU, later redemptions of a coupon, cents of a gift card, a customer's purchases)
and holds on them. Promises that no account goes below zero and that every step may be repeated: a hold is
named by its id, and each step answers a repeat as it answered the first time. Is told of time, never asks.
Two phases, as in TigerBeetle: take (hold) → confirm | release | expire; a *pinned* hold cannot expire, for
money may be moving. Only the core of the actor that owns the accounts calls it.

Per account: ``on_hand + confirmed == received`` and ``available = on_hand - held >= 0``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, assert_never

from domain.ledger_events import (
    Account,
    Confirmed,
    Dropped,
    Expired,
    Extended,
    Forgotten,
    Hold,
    HoldStatus,
    LedgerEvent,
    Pinned,
    Released,
    Returned,
    Taken,
    Trimmed,
    Unpinned,
    accounts_of,
    evolve_account,
    evolve_hold,
    moves,
)

__all__ = [
    "STALE_TAKE_MS",
    "TOMBSTONE_MS",
    "Account",
    "Confirmed",
    "Dropped",
    "Expired",
    "Extended",
    "Forgotten",
    "Hold",
    "HoldStatus",
    "LedgerEvent",
    "Pinned",
    "Refused",
    "Released",
    "Returned",
    "Short",
    "Step",
    "Taken",
    "Trimmed",
    "Unpinned",
    "accounts_of",
    "confirm",
    "drop",
    "evolve_account",
    "evolve_hold",
    "expire",
    "extend",
    "forget",
    "give_back",
    "moves",
    "pin",
    "release",
    "take",
    "trim",
    "unpin",
    "unsound",
]

# A take that was sent longer ago than this may have been overtaken by its own saga's end: it is refused, so
# that a late duplicate cannot resurrect a hold that nobody would ever release. The same goes for returns. One that
# is dated as far ahead would pass for longer than its tombstone lasts.
STALE_TAKE_MS = 60_000
TOMBSTONE_MS = 2 * STALE_TAKE_MS


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
    """Hold ``wanted`` of each account, all or nothing. What an older revision had beyond that is given back."""
    if hold is not None:
        if not hold.live:
            return Refused("finished", hold.status)
        if revision < hold.revision:
            return Refused("stale", hold.status)
    elif abs(now_ms - issued_at_ms) > STALE_TAKE_MS:
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
    taken = Taken(hold_id, revision, added, expires_at_ms, pinned)
    removed = _beyond(hold, wanted) if hold is not None and revision > hold.revision else {}
    return [taken, Trimmed(hold_id, revision, removed)] if removed else [taken]


def trim(hold: Hold | None, revision: int, target: Mapping[str, int]) -> Step:
    """Give back what the hold has beyond ``target``; repeats and overtaken trims change nothing."""
    if hold is None:
        return Refused("unknown")
    if not hold.live:
        return Refused("finished", hold.status)
    if revision < hold.revision:
        return Refused("stale", hold.status)
    removed = _beyond(hold, target)
    if not removed and revision == hold.revision:
        return []
    return [Trimmed(hold.id, revision, removed)]


def _beyond(hold: Hold, target: Mapping[str, int]) -> dict[str, int]:
    return {key: units - target.get(key, 0) for key, units in hold.legs.items() if units > target.get(key, 0)}


def _overtaken(hold: Hold, revision: int) -> bool:
    """A newer step has been taken already. Revision 0 stands for a step that is not numbered."""
    return 0 < revision < hold.revision


def pin(hold: Hold | None, revision: int = 0) -> Step:
    """From here on the hold cannot expire: money may move."""
    if hold is None:
        return Refused("unknown")
    match hold.status:
        case "held" if _overtaken(hold, revision):
            return Refused("stale", hold.status)
        case "held":
            return [Pinned(hold.id, revision)]
        case "pinned" if revision > hold.revision:
            # Pinned from birth, or by a pin whose unpin has not come yet: that unpin is overtaken now.
            return [Pinned(hold.id, revision)]
        case "pinned" | "confirmed":
            return []
        case "released" | "expired" | "returned":
            return Refused("finished", hold.status)
        case never:
            assert_never(never)


def unpin(hold: Hold | None, expires_at_ms: int, revision: int = 0) -> Step:
    """No money is out any more: the hold may expire again.

    One that was overtaken by the next attempt's pin is refused: that attempt's money may be moving.
    """
    if hold is None:
        return Refused("unknown")
    match hold.status:
        case "pinned" if _overtaken(hold, revision):
            return Refused("stale", hold.status)
        case "pinned":
            return [Unpinned(hold.id, expires_at_ms, revision)]
        case "held":
            return []
        case "confirmed" | "released" | "expired" | "returned":
            return Refused("finished", hold.status)
        case never:
            assert_never(never)


def extend(hold: Hold | None, expires_at_ms: int, revision: int = 0) -> Step:
    """Move the expiry; of a pinned hold nothing need be said."""
    if hold is None:
        return Refused("unknown")
    match hold.status:
        case "held" if _overtaken(hold, revision):
            return Refused("stale", hold.status)
        case "held" if expires_at_ms == hold.expires_at_ms and revision <= hold.revision:
            return []
        case "held":
            return [Extended(hold.id, expires_at_ms, revision)]
        case "pinned":
            return []
        case "confirmed" | "released" | "expired" | "returned":
            return Refused("finished", hold.status)
        case never:
            assert_never(never)


def confirm(hold: Hold | None, now_ms: int) -> Step:
    """The units are sold. Only a pinned hold can be confirmed: that is what pinning promises.

    A pinned hold ends by its coordinator's word alone. So one that the coordinator confirms and that is not there
    was confirmed before, and its tombstone's time has passed.
    """
    if hold is None:
        return []
    match hold.status:
        case "pinned":
            return [Confirmed(hold.id, hold.legs, now_ms)]
        case "confirmed":
            return []
        case "held" | "released" | "expired" | "returned":
            return Refused("finished", hold.status)
        case never:
            assert_never(never)


def release(hold: Hold | None, hold_id: str, now_ms: int) -> Step:
    """Give everything back. A release that arrives before its take leaves a tombstone that stops the take."""
    if hold is None:
        return [Released(hold_id, {}, now_ms)]
    match hold.status:
        case "held" | "pinned":
            return [Released(hold.id, hold.legs, now_ms)]
        case "released" | "expired":
            return []
        case "confirmed" | "returned":
            return Refused("finished", hold.status)
        case never:
            assert_never(never)


def expire(hold: Hold | None, now_ms: int) -> Step:
    """What the sweep does to a hold whose time is over. Pinned holds have no time.

    To whoever asks later, an expired hold and one that is not there are the same. One without units is what
    a change of lines left behind: it just goes, so that the same SKU may come back.
    """
    if hold is None or hold.status != "held" or hold.expires_at_ms > now_ms:
        return []
    if not hold.legs:
        return [Dropped(hold.id)]
    return [Expired(hold.id, hold.legs, now_ms)]


def give_back(
    ticket: Hold | None,
    ticket_id: str,
    accounts: Mapping[str, Account],
    legs: Mapping[str, int],
    *,
    issued_at_ms: int,
    now_ms: int,
) -> Step:
    """Return confirmed units to stock under a ticket of their own, once."""
    if ticket is not None:
        return [] if ticket.status == "returned" else Refused("finished", ticket.status)
    if abs(now_ms - issued_at_ms) > STALE_TAKE_MS:
        return Refused("stale")
    short = [
        Short(key, units, accounts[key].confirmed) for key, units in legs.items() if accounts[key].confirmed < units
    ]
    if short:
        return Refused("short", "unknown", short)
    return [Returned(ticket_id, dict(legs))]


def forget(hold: Hold | None, now_ms: int) -> Step:
    """The saga is over and will not ask for what was returned again; every other end is forgotten by itself."""
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


def unsound(accounts: Mapping[str, Account], holds: Iterable[Hold]) -> str:
    """What the figures cannot be, as a sentence about the first account; empty if they add up."""
    held: dict[str, int] = {}
    for hold in holds:
        if hold.live:
            for key, units in hold.legs.items():
                held[key] = held.get(key, 0) + units
    for key, account in accounts.items():
        if not (0 <= account.held <= account.on_hand and account.confirmed >= 0):
            return f"{key} cannot have {account}"
        if account.held != held.pop(key, 0):
            return f"of {key} {account.held} units are reserved, but its live holds add up to another number"
    return f"there are holds on {next(iter(held))}, but no such account" if held else ""
