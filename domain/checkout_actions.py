"""`next_steps`: what a checkout's state wants done, and by when it wants to be looked at again.

Pure, and the whole of the saga's drive: after any crash the driver asks again, and every action may be
repeated. An action is known by its name; an outcome whose action is no longer wanted is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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


Maker = Callable[[Checkout, str], Action]


def next_steps(state: Checkout) -> dict[str, Maker]:
    """Everything that can be done now, side by side: by name, with what makes it an action once it is begun.

    Empty when the checkout waits or rests. (Asked far more often than anything is begun.)
    """
    match state.phase:
        case "linking":
            gone = f":{state.previous}" if state.previous is not None else ""
            return {_in_round("begin_cart" + gone, state): _begin_cart}
        case "replacing":
            return {_in_round(f"replace:{state.previous}", state): _ask_to_replace}
        case "holding":
            return {f"take:{state.revision}": _take}
        case "open":
            return {}
        case "changing":
            return _change(state)
        case "trimming":
            return {f"trim:{state.revision}": _trim}
        case "pinning":
            return {f"pin:{state.revision}": _on_hold}
        case "paying":
            return _call(state, next(index for index in _attempt(state) if not state.legs[index].settled))
        case "awaiting_buyer":
            return _ask_gateway(state)
        case "unwinding":
            return _unwind(state)
        case "placed":
            return _after_pivot(state)
        case "canceled" | "refused":
            return _after_end(state)
        case never:
            assert_never(never)


def next_actions(state: Checkout) -> list[Action]:
    """`next_steps`, made."""
    return [make(state, name) for name, make in next_steps(state).items()]


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
    return may_rest(state) and not next_steps(state)


def may_rest(state: Checkout) -> bool:
    """Whether the state rests as soon as it wants nothing more."""
    return state.phase in ENDED and not state.asked


def _attempt(state: Checkout) -> range:
    return range(state.attempt_start, len(state.legs))


def _in_round(name: str, state: Checkout) -> str:
    """A start that is taken up again is another step for its cart, not a repeat of the first."""
    return f"{name}:{state.round}" if state.round else name


# ── which ───────────────────────────────────────────────────────────────────────────────────────────────


def _change(state: Checkout) -> dict[str, Maker]:
    """More units first, under the new revision; fewer are given back only once the change is decided."""
    change = state.change
    assert change is not None, "a changing checkout has a change"
    if change.wanted is None:
        return {f"extend:{state.revision}": partial(_on_hold, expires_at_ms=change.expires_at_ms)}
    return {f"take:{state.revision}": _take_more}


def _call(state: Checkout, index: int) -> dict[str, Maker]:
    leg = state.legs[index]
    doubt = "?" if leg.doubt else ""
    return {f"{leg.id}:{leg.intent}:{leg.tries}:{leg.resent}{doubt}": partial(_send, index=index)}


def _ask_gateway(state: Checkout) -> dict[str, Maker]:
    """Has the buyer acted? Asked now and then, and at once when the buyer says so (the name changes)."""
    index = next(i for i in _attempt(state) if state.legs[i].status == "requires_action")
    said = sum(entry.kind == "confirm" for entry in state.asked)
    return {f"{state.legs[index].id}:buyer:{said}": partial(_retrieve, index=index)}


def _unwind(state: Checkout) -> dict[str, Maker]:
    for index in reversed(_attempt(state)):
        if not state.legs[index].settled:
            return _call(state, index)
    assert state.undo is not None, "an unwinding has a reason"
    if state.undo.reason == "declined":
        return {f"unpin:{state.revision}": partial(_on_hold, expires_at_ms=state.expires_at_ms)}
    return {"release": _on_hold}


def _after_pivot(state: Checkout) -> dict[str, Maker]:
    steps: dict[str, Maker] = {}
    for index in _attempt(state):
        if not state.legs[index].settled:
            steps |= _call(state, index)
    order = state.order
    assert order is not None, "past the pivot there is an order"
    if "confirm" not in state.steps:
        steps["confirm"] = _on_hold
    elif order.status == "canceled" and "give_back" not in state.steps:
        steps["give_back"] = _give_back
    if state.cart_id is not None and "end_cart" not in state.steps:
        steps[_in_round("end_cart", state)] = _end_cart
    return steps


def _after_end(state: Checkout) -> dict[str, Maker]:
    """Nothing is held; the cart reopens."""
    if state.cart_id is None or "linked" not in state.steps or "end_cart" in state.steps:
        return {}
    return {_in_round("end_cart", state): _end_cart}


# ── how ─────────────────────────────────────────────────────────────────────────────────────────────────


def _begin_cart(state: Checkout, name: str) -> BeginCart:
    assert state.cart_id is not None, "only a checkout of a cart links it"
    return BeginCart(name, state.cart_id, state.id, state.owner, state.previous)


def _ask_to_replace(state: Checkout, name: str) -> AskToReplace:
    assert state.previous is not None, "only a former checkout is replaced"
    return AskToReplace(name, state.previous, state.id)


def _end_cart(state: Checkout, name: str) -> EndCart:
    assert state.cart_id is not None, "only a checkout of a cart ends it"
    return EndCart(name, state.cart_id, state.id, state.phase == "placed")


def _take(state: Checkout, name: str) -> TakeStock:
    """An express checkout's hold is born pinned."""
    pinned = state.express is not None
    return TakeStock(name, ids.body(state.id), state.revision, held_accounts(state), state.expires_at_ms, pinned)


def _take_more(state: Checkout, name: str) -> TakeStock:
    """For a change: where less is wanted than is held, what is held."""
    change = state.change
    assert change is not None, "a changing checkout has a change"
    assert change.wanted is not None, "it changes the lines"
    target = accounts(change.wanted)
    for account, units in held_accounts(state).items():
        target[account] = max(units, target.get(account, 0))
    return TakeStock(name, ids.body(state.id), state.revision, target, change.expires_at_ms, False)


def _trim(state: Checkout, name: str) -> HoldStep:
    """To what is wanted, also where nothing is wanted any more."""
    change = state.change
    assert change is not None, "a trimming checkout has a change"
    target = dict.fromkeys(map(account_of, change.skus), 0) | held_accounts(state)
    return HoldStep(name, "trim", ids.body(state.id), target, revision=state.revision)


def _on_hold(state: Checkout, name: str, expires_at_ms: int = 0) -> HoldStep:
    """The step that the name says, on all of the hold."""
    verb = name.partition(":")[0]
    return HoldStep(name, verb, ids.body(state.id), held_accounts(state), expires_at_ms, state.revision)


def _give_back(state: Checkout, name: str) -> HoldStep:
    return HoldStep(name, name, return_ticket(state), accounts(state.wanted))


def _send(state: Checkout, name: str, index: int) -> CallGateway:
    leg = state.legs[index]
    request = payment_leg.request(leg, state.id, state.currency)
    assert request is not None, "a settled leg has nothing to send"
    return CallGateway(name, index, leg.gateway, request, 0 if leg.doubt else leg.keyed_at_ms)


def _retrieve(state: Checkout, name: str, index: int) -> CallGateway:
    leg = state.legs[index]
    return CallGateway(name, index, leg.gateway, Retrieve(leg.id))


def return_ticket(state: Checkout) -> str:
    """The id under which a canceled order's units go back to stock."""
    return "r" + ids.body(state.id)


def finished_holds(state: Checkout) -> list[str]:
    """What a resting checkout leaves in stock to be forgotten; a hold that has ended is forgotten by itself."""
    return [return_ticket(state)] if "give_back" in state.steps else []
