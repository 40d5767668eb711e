"""The three pure cores as the event-sourced actor sees them: types, and which commands need what care."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.account_sums import AccountSums
from domain import cart, cart_model, checkout, checkout_actions, checkout_model, ids, ledger, stock
from domain.messages import Command, Decision, Key

# What happens to a hold only once it was taken.
_GOES_ON = (ledger.Trimmed, ledger.Pinned, ledger.Unpinned, ledger.Extended, ledger.Forgotten, ledger.Dropped)


class StockCore:
    """Accounts and holds; all of them awake."""

    kind = stock.KIND
    sleeps = False
    sums = AccountSums
    event_type = stock.StockEvent
    state_types: Mapping[str, Any] = {"account": stock.Stock, "hold": ledger.Hold}
    command_type = stock.StockCommand
    reply_type = stock.StockReply

    decide = staticmethod(stock.decide)
    touches = staticmethod(stock.touches)
    evolve = staticmethod(stock.evolve)

    def begins(self, key: Key, event: Any) -> bool:
        if key[0] == "hold":
            return not isinstance(event, _GOES_ON)
        # An account is kept for the answers alone, too.
        return isinstance(event, stock.Answered) or (isinstance(event, stock.ProductPut) and event.is_new)

    def may_end(self, key: Key) -> bool:
        return key[0] == "hold"

    def unsound(self, world: Mapping[Key, Any]) -> str:
        accounts, holds = {}, []
        for (kind, name), state in world.items():
            if kind == "account":
                accounts[name] = state.figures
            else:
                holds.append(state)
        return ledger.unsound(accounts, holds)

    def resting(self, key: Key, state: Any) -> bool:
        return False

    def finished(self, key: Key, state: Any) -> bool:
        return False

    def may_sleep(self, command: Any) -> Sequence[Key]:
        return ()

    def admits_when_full(self, command: Any) -> bool:
        return isinstance(command, stock.ALWAYS_ADMITTED)

    def may_be_stale(self, command: Any) -> bool:
        return isinstance(command, stock.STALE_READS)

    def instead_of(self, command: Any) -> Command | None:
        return None


class CartCore:
    """Carts and the customers' pointers to them; idle ones rest."""

    kind = cart_model.KIND
    sleeps = True
    sums = None
    event_type = cart_model.CartEvent
    state_types: Mapping[str, Any] = {"cart": cart_model.Cart, "customer": cart_model.Customer}
    command_type = cart_model.CartCommand
    reply_type = cart_model.CartReplyType

    touches = staticmethod(cart.touches)
    evolve = staticmethod(cart.evolve)

    def begins(self, key: Key, event: Any) -> bool:
        return isinstance(event, (cart_model.CartCreated, cart_model.CartRefused, cart_model.OpenCartSet))

    def may_end(self, key: Key) -> bool:
        return False

    def unsound(self, world: Mapping[Key, Any]) -> str:
        return ""

    def __init__(self, policy: cart_model.CartPolicy) -> None:
        self._policy = policy

    def decide(self, world: Any, command: Any, now_ms: int) -> Decision:
        return cart.decide(self._policy, world, command, now_ms)

    def resting(self, key: Key, state: Any) -> bool:
        # A cart has no timer of its own: what is read of it later is derived from its times.
        return True

    def finished(self, key: Key, state: Any) -> bool:
        return False  # its buyer may well change it again in a moment

    def may_sleep(self, command: Any) -> Sequence[Key]:
        return (cart.entity_of(command),)

    def admits_when_full(self, command: Any) -> bool:
        return isinstance(command, (cart_model.BeginCheckout, cart_model.EndCheckout))

    def may_be_stale(self, command: Any) -> bool:
        return False

    def instead_of(self, command: Any) -> Command | None:
        return None


class CheckoutCore:
    """Checkouts with their orders, and the shop's rules; finished ones rest."""

    kind = checkout_model.KIND
    sleeps = True
    sums = None
    event_type = checkout_model.CheckoutEvent
    state_types: Mapping[str, Any] = {"checkout": checkout_model.Checkout, "rules": checkout_model.Rules}
    command_type = checkout_model.AnyCommand
    reply_type = checkout_model.Reply

    touches = staticmethod(checkout.touches)
    evolve = staticmethod(checkout.evolve)

    def begins(self, key: Key, event: Any) -> bool:
        return isinstance(event, (checkout_model.Started, checkout_model.RulesPut))

    def may_end(self, key: Key) -> bool:
        return False

    def unsound(self, world: Mapping[Key, Any]) -> str:
        return ""

    def __init__(self, policy: checkout_model.Policy) -> None:
        self._policy = policy

    def decide(self, world: Any, command: Any, now_ms: int) -> Decision:
        return checkout.decide(self._policy, world, command, now_ms)

    def resting(self, key: Key, state: Any) -> bool:
        return isinstance(state, checkout_model.Checkout) and checkout_actions.resting(state)

    finished = resting

    def may_sleep(self, command: Any) -> Sequence[Key]:
        if isinstance(command, checkout_model.CheckoutCommand):
            return ((checkout_model.KIND, ids.body(command.checkout_id)),)
        return ()

    def admits_when_full(self, command: Any) -> bool:
        return not isinstance(command, checkout_model.NEW_WORK)

    def may_be_stale(self, command: Any) -> bool:
        return False

    def instead_of(self, command: Any) -> Command | None:
        """An outcome that led to rows the database refuses: the saga unwinds instead."""
        if isinstance(command, checkout_model.Stepped) and not isinstance(command, checkout_model.Abandon):
            return checkout_model.Abandon(command_id=b"", checkout_id=command.checkout_id, outcomes=command.outcomes)
        return None


Core = StockCore | CartCore | CheckoutCore
