"""What an audit looks for in stock: figures and holds, added up and compared with what the orders say.

Owns the rules about accounts and holds, and the form of a finding. Pure: it is told rebuilt states while
they pass by, keeps totals and what is unfinished, and names what cannot be. Promises that what a healthy
engine may show at any one instant is no finding. Called by `persistence.audit`; the rules about orders and
money stand beside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from domain import ids
from domain.checkout_actions import accounts, return_ticket
from domain.checkout_state import Checkout
from domain.ledger_events import Account, Hold
from domain.stock_model import sku_of

EXPIRY_GRACE_MS: Final = 60_000  # after a recovery, stock may come back so much late

# From pinning until the units are sold, a hold that can neither expire nor be lost stands behind the money.
_MONEY_IS_MOVING: Final = frozenset({"paying", "awaiting_buyer", "placed"})
_ENDED: Final = frozenset({"canceled", "refused"})
_NOT_SOLD: Final = ("held", "pinned", "released", "expired")


class Violation(NamedTuple):
    """A finding: a stable code, whom it concerns (an id, a SKU, shard:seq), and a sentence for people."""

    code: str
    subject: str
    detail: str


class StockTally:
    """All stock of the shop: told every account and hold, then every checkout, then asked for the rest."""

    def __init__(self) -> None:
        self._figures: dict[str, Account] = {}
        self._held: Counter[str] = Counter()
        self._sold: Counter[str] = Counter()
        # What sagas still have to do with: live holds, and finished ones that are not forgotten yet. A hold
        # has one part on every shard that owns some of its accounts.
        self._parts: dict[str, list[Hold]] = {}

    def account(self, account: str, figures: Account) -> None:
        self._figures[account] = figures

    def hold(self, hold: Hold, now_ms: int, recovered_at_ms: int, bound_ms: int) -> Iterator[Violation]:
        """Take a hold in; `recovered_at_ms` is when its shard was last taken over."""
        if not hold.forgotten_at_ms:
            self._parts.setdefault(hold.id, []).append(hold)
        if hold.live:
            self._held.update(hold.legs)
        late_ms = now_ms - max(hold.expires_at_ms, recovered_at_ms) - EXPIRY_GRACE_MS
        if hold.status == "held" and late_ms > bound_ms:
            text = f"It has expired and should have been released {late_ms // 1000} s ago."
            yield Violation("hold_overdue", hold.id, text)

    def checkout(self, state: Checkout, *, late: bool) -> Iterator[Violation]:
        """Take a checkout in. `late`: nothing has happened to it for longer than the bound."""
        key = ids.body(state.id)
        parts = self._parts.pop(key, [])
        returned = self._parts.pop(return_ticket(state), [])
        sold = _sold(state, parts)
        back = _accounts_of(returned, "returned")
        if "give_back" not in state.steps:
            self._sold.update({account: units for account, units in sold.items() if account not in back})
        if state.phase in _MONEY_IS_MOVING and "confirm" not in state.steps:
            behind = _accounts_of(parts, "pinned", "confirmed") | sold.keys()
            unheld = [sku_of(account) for account in accounts(state.wanted) if account not in behind]
            if unheld:
                text = f"{state.id} is {state.phase}, but nothing is pinned for it of {', '.join(unheld)}."
                yield Violation("hold_missing", key, text)
        if late:
            held = any(part.live and part.legs for part in parts)
            yield from _unfinished(state, held, sold.keys() >= accounts(state.wanted).keys())

    def leftovers(self) -> Iterator[Violation]:
        """Once every checkout has passed: holds that none of them has."""
        for hold_id, parts in self._parts.items():
            if any(part.live and part.legs for part in parts):
                yield Violation("hold_orphaned", hold_id, "No checkout has this hold.")

    def totals(self, *, orders_known: bool) -> Iterator[Violation]:
        """Every account's figures; against the orders only if every checkout could be read."""
        for account, figures in self._figures.items():
            sku, held, sold = sku_of(account), self._held[account], self._sold[account]
            if not (0 <= figures.held <= figures.on_hand and figures.confirmed >= 0):
                text = f"received {figures.received}, sold {figures.confirmed}, reserved {figures.held}"
                yield Violation("account_out_of_bounds", sku, f"The figures cannot be: {text}.")
            if figures.held != held:
                text = f"{figures.held} units are reserved, but the live holds add up to {held}."
                yield Violation("held_mismatch", sku, text)
            if orders_known and figures.confirmed != sold:
                text = f"{figures.confirmed} units are sold, but the orders in force add up to {sold}."
                yield Violation("sold_mismatch", sku, text)
        named = self._held.keys() | (self._sold.keys() if orders_known else set())
        for account in sorted(named - self._figures.keys()):
            text = "Holds or orders name it, but stock has no such account."
            yield Violation("account_missing", sku_of(account), text)


def _accounts_of(parts: Iterable[Hold], *statuses: str) -> set[str]:
    """The accounts of which the hold has units in one of these statuses."""
    return {account for part in parts if part.status in statuses for account in part.legs}


def _sold(state: Checkout, parts: Iterable[Hold]) -> Mapping[str, int]:
    """What stock has sold for a checkout, also where its coordinator does not know it yet: of an order's hold there
    is nothing left only if it was confirmed."""
    if state.phase != "placed":
        return {}
    unsold: set[str] = set()
    if "confirm" not in state.steps:
        unsold = _accounts_of(parts, *_NOT_SOLD)
    return {account: units for account, units in accounts(state.wanted).items() if account not in unsold}


def _unfinished(state: Checkout, held: bool, sold: bool) -> Iterator[Violation]:
    """What should have happened to the units of a checkout by now. `held`: its hold lives; `sold`: stock knows."""
    if held and (sold or state.phase in _ENDED):
        text = f"{state.id} has ended ({state.phase}), its hold has not."
        yield Violation("hold_orphaned", ids.body(state.id), text)
    if state.order is None:
        return
    if not sold:
        yield Violation("units_not_confirmed", state.order.id, f"It is {state.order.status}, but not sold.")
    if state.order.status == "canceled" and "give_back" not in state.steps:
        text = "It is canceled, but its units are not back in stock."
        yield Violation("units_not_returned", state.order.id, text)
