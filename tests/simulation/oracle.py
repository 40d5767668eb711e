"""The judge at the journal: what is durable, added up by itself at every record.

Owns a second, simpler account of stock, and of how far each cart and checkout has come, from the events alone.
Finds at the very record what can never be: units sold or held that are not there, and whatever was told to
somebody before it was durable. Applies none of the code that it judges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec

from domain import cart_model, ids, ledger_events, stock_model
from domain import checkout_events as events
from domain import checkout_model as model
from domain.cart_model import CartEvent
from domain.stock_model import StockEvent
from gateways.sandbox_book import MemoryBook
from persistence.journal import Flush
from tests.simulation import chance
from tests.simulation.database import at_once
from tests.simulation.processes import EPOCH_MS

_read_stock = msgspec.msgpack.Decoder(list[StockEvent]).decode
_read_checkout = msgspec.msgpack.Decoder(list[events.CheckoutEvent]).decode
_read_cart = msgspec.msgpack.Decoder(list[CartEvent]).decode

Legs = dict[str, int]
GRACE_S = chance.GRACE_MS / 1000
CLOCK_S = 0.9  # a clock may be set by so much without anybody noticing


class Oracle:
    """Told of every flush that was written; ``violate(code, detail)`` is told of what cannot be."""

    def __init__(
        self,
        book: MemoryBook,
        now_s: Callable[[], float],
        note: Callable[..., None],
        violate: Callable[[str, str], None],
    ) -> None:
        self.received: dict[str, int] = defaultdict(int)
        self.sold: dict[str, int] = defaultdict(int)
        self.held: dict[str, int] = defaultdict(int)
        self.holds: dict[tuple[str, str], Legs] = {}  # the live ones, by shard and id
        self.levels: dict[str, list[tuple[float, int]]] = defaultdict(list)  # when so many were available
        self.adjusted: set[bytes] = set()
        self.carts: dict[str, int] = {}  # key → version
        self.checkouts: dict[str, int] = {}
        self.never_was: set[str] = set()  # checkouts that were refused
        self._open_until_ms: dict[str, int] = {}  # of checkouts that wait for their buyer
        self._until_ms: dict[str, int] = {}
        self._recovered_s: dict[str, float] = {}
        self._touched_s: dict[tuple[str, str], float] = {}  # when something was last done to a hold
        self._book = book
        self._now_s = now_s
        self._note = note
        self._violate = violate

    def recovered(self, shard: str) -> None:
        self._recovered_s[shard] = self._now_s()

    def appended(self, flush: Flush) -> None:
        match flush.shard.partition("-")[0]:
            case "stock":
                for event in _read_stock(flush.events):
                    self._stock(flush.shard, event)
            case "checkout":
                for moved in _read_checkout(flush.events):
                    self._checkout(moved)
            case _:
                for filled in _read_cart(flush.events):
                    self._cart(filled)

    # ── stock ───────────────────────────────────────────────────────────────────────────────────────────

    def _stock(self, shard: str, event: Any) -> None:
        self._note("stock", type(event).__name__)
        if isinstance(event, ledger_events.Event):
            if isinstance(event, ledger_events.Expired):
                self._check_grace(shard, event.hold_id)
                self._check_told(event.hold_id)
            self._touched_s[shard, event.hold_id] = self._now_s()
        match event:
            case stock_model.Received():
                account = stock_model.account_of(event.sku)
                self.received[account] += event.units
                self._look(account)
            case stock_model.Answered():
                self.adjusted.add(event.command_id)
            case ledger_events.Taken():
                legs = self.holds.setdefault((shard, event.hold_id), {})
                for account, units in event.added.items():
                    legs[account] = legs.get(account, 0) + units
                    self._move(account, held=units)
            case ledger_events.Trimmed():
                legs = self._live(shard, event)
                for account, units in event.removed.items():
                    legs[account] = legs.get(account, 0) - units
                    self._move(account, held=-units)
            case ledger_events.Confirmed():
                self._end(shard, event)
                for account, units in event.legs.items():
                    self._move(account, held=-units, sold=units)
            case ledger_events.Released() | ledger_events.Expired() if event.legs:
                self._end(shard, event)
                for account, units in event.legs.items():
                    self._move(account, held=-units)
            case ledger_events.Released():
                self.holds.pop((shard, event.hold_id), None)
            case ledger_events.Returned():
                for account, units in event.legs.items():
                    self._move(account, sold=-units)
            case ledger_events.Dropped():
                self.holds.pop((shard, event.hold_id), None)
            case _:
                pass

    def _check_grace(self, shard: str, hold_id: str) -> None:
        """A hold that was there before the last recovery, and untouched since, has its grace."""
        recovered_s = self._recovered_s.get(shard, 0.0)
        early_s = recovered_s + GRACE_S - self._now_s()
        if self._touched_s.get((shard, hold_id), recovered_s) < recovered_s and early_s > CLOCK_S:
            self._violate("expired_early", f"{hold_id} on {shard}, {early_s:.3f} s within the grace after recovery")

    def _check_told(self, hold_id: str) -> None:
        """Nothing expires before the time that its buyer was told."""
        until_ms = self._open_until_ms.get(hold_id, 0)
        early_s = (until_ms - EPOCH_MS) / 1000 - self._now_s()
        if early_s > 2 * CLOCK_S:
            self._violate("expired_before_told", f"{hold_id}, {early_s:.3f} s before the time it was told")

    def _live(self, shard: str, event: Any) -> Legs:
        legs = self.holds.get((shard, event.hold_id))
        if legs is None:
            self._violate("hold_not_live", f"{type(event).__name__} of {event.hold_id} on {shard}")
        return legs if legs is not None else {}

    def _end(self, shard: str, event: Any) -> None:
        legs = {account: units for account, units in self._live(shard, event).items() if units}
        if legs != {account: units for account, units in event.legs.items() if units}:
            self._violate("hold_units", f"{event} ends a hold of {legs} on {shard}")
        self.holds.pop((shard, event.hold_id), None)

    def _move(self, account: str, *, held: int = 0, sold: int = 0) -> None:
        self.held[account] += held
        self.sold[account] += sold
        self._look(account)

    def _look(self, account: str) -> None:
        available = self.available(account)
        self.levels[account].append((self._now_s(), available))
        if available < 0 or self.sold[account] < 0 or self.held[account] < 0:
            self._violate("oversold", f"{account}: {available} available, {self.sold[account]} sold")

    def available(self, account: str) -> int:
        return self.received[account] - self.sold[account] - self.held[account]

    def was_short(self, account: str, wanted: int, since_s: float) -> bool:
        """Whether at any instant since then fewer units were available, durably."""
        before = wanted
        for at_s, available in self.levels[account]:
            if at_s >= since_s and min(before, available) < wanted:
                return True
            before = available
        return before < wanted

    # ── carts and checkouts ─────────────────────────────────────────────────────────────────────────────

    def _checkout(self, event: Any) -> None:
        self._note_expiry(event)
        match event:
            case events.Started():
                self.checkouts[event.checkout] = event.state.version
                self.never_was.discard(event.checkout)
                self._note("phase", event.state.phase)
            case events.Moved():
                self.checkouts[event.checkout] += 1
                undo = event.changes.undo
                if undo and undo.reason == "refused":
                    self.never_was.add(event.checkout)
                self._note("phase", event.phase)
                if undo:
                    self._note("undo", undo.reason)
            case events.OrderPlaced():
                self.checkouts[event.checkout] += 1
                self._check_money(event)
                self._note("phase", "placed", event.order.status)
            case events.OrderChanged():
                self.checkouts[event.checkout] += 1
                self._note("order", event.order.status)
            case events.StepDone():
                self.checkouts[event.checkout] += event.step == "confirm"
            case _:
                pass

    def _note_expiry(self, event: Any) -> None:
        match event:
            case events.Started():
                self._until_ms[event.checkout] = event.state.expires_at_ms
            case events.Moved():
                if event.changes.expires_at_ms is not msgspec.UNSET:
                    self._until_ms[event.checkout] = event.changes.expires_at_ms
                if event.phase == "open":
                    self._open_until_ms[event.checkout] = self._until_ms[event.checkout]
                elif event.phase not in ("changing", "trimming"):
                    self._open_until_ms.pop(event.checkout, None)
            case _:
                pass

    def _check_money(self, event: events.OrderPlaced) -> None:
        """At the pivot, all of the order's money is authorized in the gateway's own book."""
        for leg in event.legs:
            facts = at_once(self._book.recall([leg.id], []))
            authorized = [
                fact.amount_minor
                for fact in facts
                if fact.type in ("authorization", "resolution") and fact.status == "succeeded"
            ]
            if authorized != [leg.amount] or any(fact.type == "void" for fact in facts):
                self._violate("placed_unpaid", f"{event.order.id}: {leg.id} has {[fact.type for fact in facts]}")

    def _cart(self, event: Any) -> None:
        match event:
            case cart_model.CartCreated():
                self.carts[event.cart] = event.state.version
            case cart_model.LinesSet() | cart_model.CartRestored():
                self.carts[event.cart] += 1
            case cart_model.CheckoutsSet():
                self.carts[event.cart] += event.ordered
            case _:
                pass

    def version_of(self, command: Any) -> int:
        """Of the cart or checkout that the command is about, as far as it is durable."""
        match command:
            case model.CheckoutCommand():
                return self.checkouts.get(ids.body(command.checkout_id), 0)
            case cart_model.CartCommandBase():
                return self.carts.get(ids.body(command.cart_id), 0)
            case _:
                return 0

    def exists(self, command: Any) -> bool:
        """Whether what the command is about can be found by its owner."""
        gone = isinstance(command, model.CheckoutCommand) and ids.body(command.checkout_id) in self.never_was
        return self.version_of(command) > 0 and not gone
