"""`next_actions`: what a checkout's state wants done, and by when it wants to be looked at again.

Pure, and the whole of the saga's drive: after any crash the driver asks again, and every action may be
repeated. An action is known by its name; an outcome whose action is no longer wanted is ignored.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from domain import ids, payment_leg
from domain.checkout_model import (
    Action,
    AskToReplace,
    BeginCart,
    CallGateway,
    EndCart,
    HoldStep,
    TakeStock,
)
from domain.checkout_state import Checkout, Wanted
from domain.payments import Retrieve, Unknown
from domain.stock_model import account_of

KEY_LIFE_MS = 23 * 3_600_000
ENDED = ("placed", "canceled", "refused")


def accounts(wanted: tuple[Wanted, ...]) -> dict[str, int]:
    return {account_of(line.sku): line.quantity for line in wanted}


def held_accounts(state: Checkout) -> dict[str, int]:
    """Where the hold has units or might have, with what is wanted there."""
    wanted = accounts(state.wanted)
    return {account_of(sku): 0 for sku in state.dropped} | wanted if state.dropped else wanted


def next_actions(state: Checkout) -> list[Action]:
    """Everything that can be done now, side by side; empty when the checkout waits or rests."""
    match state.phase:
        case "linking":
            assert state.cart_id is not None, "only a checkout of a cart links it"
            gone = f":{state.previous}" if state.previous is not None else ""
            name = _in_round("begin_cart" + gone, state)
            return [BeginCart(name, state.cart_id, state.id, state.owner, state.previous)]
        case "replacing":
            assert state.previous is not None, "only a former checkout is replaced"
            name = _in_round(f"replace:{state.previous}", state)
            return [AskToReplace(name, state.previous, state.id)]
        case "holding":
            pinned = state.express is not None  # an express checkout's hold is born pinned
            return [_take(state, held_accounts(state), state.expires_at_ms, pinned=pinned)]
        case "open":
            return []
        case "changing":
            return [_change(state)]
        case "trimming":
            return [_trim(state)]
        case "pinning":
            return [_numbered_step(state, "pin")]
        case "paying":
            leg = next(index for index in _attempt(state) if not state.legs[index].settled)
            return [_call(state, leg)]
        case "awaiting_buyer":
            return [_ask_gateway(state)]
        case "unwinding":
            return [_unwind(state)]
        case "placed":
            return _after_pivot(state)
        case "canceled" | "refused":
            return _after_end(state)
        case never:
            assert_never(never)


def once_more(action: Action) -> Action:
    """The action for when it may have been begun before: a copy of it may still be on its way."""
    return msgspec.structs.replace(action, resent=True) if isinstance(action, TakeStock) else action


def outlived(action: Action, now_ms: int) -> Unknown | None:
    """The outcome of an action that is too old to be begun: gateways forget idempotency keys after a day.

    What such a call has done, if it was sent before, is not known; so it is asked for, and a new key is made.
    """
    if isinstance(action, CallGateway) and action.keyed_at_ms and now_ms - action.keyed_at_ms > KEY_LIFE_MS:
        return Unknown("key_too_old")
    return None


def deadline_ms(state: Checkout) -> int | None:
    """When the checkout must be looked at again if nothing happens; None when nothing can be late."""
    if state.phase == "open":
        return state.expires_at_ms
    if state.phase == "awaiting_buyer":
        return state.action_deadline_ms
    return None


def resting(state: Checkout) -> bool:
    """Nothing is owed, wanted or awaited: the state may leave memory until somebody asks for it."""
    if state.phase == "placed" and "confirm" not in state.steps:
        return False  # what `next_actions` would say too, at a tenth of the price: this is asked of every order twice
    return may_rest(state) and not next_actions(state)


def may_rest(state: Checkout) -> bool:
    """Whether the state rests as soon as it wants nothing more."""
    return state.phase in ENDED and not state.asked


def _attempt(state: Checkout) -> range:
    return range(state.attempt_start, len(state.legs))


def _in_round(name: str, state: Checkout) -> str:
    """A start that is taken up again is another step for its cart, not a repeat of the first."""
    return f"{name}:{state.round}" if state.round else name


def _take(state: Checkout, wanted: dict[str, int], expires_at_ms: int, *, pinned: bool) -> TakeStock:
    name = f"take:{state.revision}"
    return TakeStock(name, ids.body(state.id), state.revision, wanted, expires_at_ms, pinned)


def _change(state: Checkout) -> Action:
    """More units first, under the new revision; fewer are given back only once the change is decided."""
    change = state.change
    assert change is not None, "a changing checkout has a change"
    if change.wanted is None:
        return _numbered_step(state, "extend", change.expires_at_ms)
    target = accounts(change.wanted)
    for account, units in held_accounts(state).items():
        target[account] = max(units, target.get(account, 0))
    return _take(state, target, change.expires_at_ms, pinned=False)


def _trim(state: Checkout) -> HoldStep:
    """To what is wanted, also where nothing is wanted any more."""
    change = state.change
    assert change is not None, "a trimming checkout has a change"
    target = dict.fromkeys(map(account_of, change.skus), 0) | held_accounts(state)
    name = f"trim:{state.revision}"
    return HoldStep(name, "trim", ids.body(state.id), target, revision=state.revision)


def _hold_step(state: Checkout, verb: str) -> HoldStep:
    return HoldStep(verb, verb, ids.body(state.id), held_accounts(state))


def _numbered_step(state: Checkout, verb: str, expires_at_ms: int = 0) -> HoldStep:
    name = f"{verb}:{state.revision}"
    return HoldStep(name, verb, ids.body(state.id), held_accounts(state), expires_at_ms, state.revision)


def _call(state: Checkout, index: int) -> CallGateway:
    leg = state.legs[index]
    request = payment_leg.request(leg, state.id, state.currency)
    assert request is not None, "a settled leg has nothing to send"
    doubt = "?" if leg.doubt else ""
    name = f"{leg.id}:{leg.intent}:{leg.tries}:{leg.resent}{doubt}"
    return CallGateway(name, index, leg.gateway, request, 0 if leg.doubt else leg.keyed_at_ms)


def _ask_gateway(state: Checkout) -> CallGateway:
    """Has the buyer acted? Asked now and then, and at once when the buyer says so (the name changes)."""
    index = next(i for i in _attempt(state) if state.legs[i].status == "requires_action")
    leg = state.legs[index]
    said = sum(entry.kind == "confirm" for entry in state.asked)
    return CallGateway(f"{leg.id}:buyer:{said}", index, leg.gateway, Retrieve(leg.id))


def _unwind(state: Checkout) -> Action:
    for index in reversed(_attempt(state)):
        if not state.legs[index].settled:
            return _call(state, index)
    assert state.undo is not None, "an unwinding has a reason"
    if state.undo.reason == "declined":
        return _numbered_step(state, "unpin", state.expires_at_ms)
    return _hold_step(state, "release")


def _after_pivot(state: Checkout) -> list[Action]:
    actions: list[Action] = [_call(state, i) for i in _attempt(state) if not state.legs[i].settled]
    order = state.order
    assert order is not None, "past the pivot there is an order"
    if "confirm" not in state.steps:
        actions.append(_hold_step(state, "confirm"))
    elif order.status == "canceled" and "give_back" not in state.steps:
        ticket = return_ticket(state)
        actions.append(HoldStep("give_back", "give_back", ticket, accounts(state.wanted)))
    if state.cart_id is not None and "end_cart" not in state.steps:
        actions.append(EndCart(_in_round("end_cart", state), state.cart_id, state.id, True))
    return actions


def return_ticket(state: Checkout) -> str:
    """The id under which a canceled order's units go back to stock."""
    return "r" + ids.body(state.id)


def finished_holds(state: Checkout) -> list[str]:
    """What a resting checkout leaves in stock to be forgotten; a hold that has ended is forgotten by itself."""
    return [return_ticket(state)] if "give_back" in state.steps else []


def _after_end(state: Checkout) -> list[Action]:
    """Nothing is held; the cart reopens."""
    if state.cart_id is None or "linked" not in state.steps or "end_cart" in state.steps:
        return []
    return [EndCart(_in_round("end_cart", state), state.cart_id, state.id, False)]
