"""What an audit looks for in stock: figures and holds, added up and compared with what the orders say.

Owns the rules about accounts and holds, and the form of a finding. Pure: it is told rebuilt states while
they pass by, keeps totals and what is unfinished, and names what cannot be. Promises that what a healthy
engine may show at any one instant is no finding. Called by `persistence.audit`; the rules about orders and
money stand beside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
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
            text = (
                f"The hold has expired, and is {late_ms // 1000} s beyond the time in which it is released."
            )
            yield Violation("hold_overdue", hold.id, text)

    def checkout(self, state: Checkout, *, late: bool) -> Iterator[Violation]:
        """Take a checkout in. `late`: nothing has happened to it for longer than the bound."""
        key = ids.body(state.id)
        parts = self._parts.pop(key, [])
        returned = self._parts.pop(return_ticket(state), [])
        confirmed = state.phase == "placed" and "confirm" in state.steps
        if (confirmed or state.phase in _ENDED) and late and any(part.live for part in parts):
            yield Violation("hold_orphaned", key, f"{state.id} has ended ({state.phase}), its hold has not.")
        if state.phase not in _MONEY_IS_MOVING or confirmed:
            sold = accounts(state.wanted) if confirmed else {}
        else:
            sold = {
                account: units
                for part in parts
                if part.status == "confirmed"
                for account, units in part.legs.items()
            }
            pinned = {
                account for part in parts if part.status in ("pinned", "confirmed") for account in part.legs
            }
            unheld = [sku_of(account) for account in accounts(state.wanted) if account not in pinned]
            if unheld:
                text = f"{state.id} is {state.phase}, but nothing is pinned for it of {', '.join(unheld)}."
                yield Violation("hold_missing", key, text)
        if "give_back" not in state.steps:
            back = {account for part in returned if part.status == "returned" for account in part.legs}
            self._sold.update({account: units for account, units in sold.items() if account not in back})

    def leftovers(self) -> Iterator[Violation]:
        """Once every checkout has passed: holds that none of them has."""
        for hold_id, parts in self._parts.items():
            if any(part.live for part in parts):
                yield Violation("hold_orphaned", hold_id, "No checkout has this hold.")

    def totals(self, *, orders_known: bool) -> Iterator[Violation]:
        """Every account's figures; against the orders only if every checkout could be read."""
        for account, figures in self._figures.items():
            sku = sku_of(account)
            if not (0 <= figures.held <= figures.on_hand and figures.confirmed >= 0):
                text = f"received {figures.received}, sold {figures.confirmed}, reserved {figures.held}"
                yield Violation("account_out_of_bounds", sku, f"The figures cannot be: {text}.")
            if figures.held != self._held[account]:
                text = (
                    f"{figures.held} units are reserved, but the live holds add up to {self._held[account]}."
                )
                yield Violation("held_mismatch", sku, text)
            if orders_known and figures.confirmed != self._sold[account]:
                text = (
                    f"{figures.confirmed} units are sold, but orders not canceled have {self._sold[account]}."
                )
                yield Violation("sold_mismatch", sku, text)
        sold = self._sold if orders_known else Counter()
        for account in sorted((+self._held).keys() | (+sold).keys() - self._figures.keys()):
            if account not in self._figures:
                yield Violation(
                    "account_missing", sku_of(account), "Holds or orders name it, but it has no stock."
                )
