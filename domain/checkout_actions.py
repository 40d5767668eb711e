"""`next_actions`: what a checkout's state wants done, and by when it wants to be looked at again.

Pure, and the whole of the saga's drive: after any crash the driver asks again, and every action may be
repeated. An action is known by its name; an outcome whose action is no longer wanted is ignored.
"""

from __future__ import annotations

from typing import assert_never

from domain import ids, payment_leg
from domain.checkout_model import (
    Action,
    AskToReplace,
    BeginCart,
    CallGateway,
    Checkout,
    EndCart,
    HoldStep,
    TakeStock,
    Wanted,
)
from domain.payments import Retrieve
from domain.stock import account_of


def accounts(wanted: tuple[Wanted, ...]) -> dict[str, int]:
    return {account_of(line.sku): line.quantity for line in wanted}


def next_actions(state: Checkout) -> list[Action]:
    """Everything that can be done now, side by side; empty when the checkout waits or rests."""
    hold_id = ids.body(state.id)
    match state.phase:
        case "linking":
            assert state.cart_id is not None, "only a checkout of a cart links it"
            return [BeginCart("begin_cart", state.cart_id, state.id, state.owner)]
        case "replacing":
            assert state.previous is not None, "only a former checkout is replaced"
            return [AskToReplace("replace", state.previous, state.id)]
        case "holding":
            return [_take(state, hold_id, accounts(state.wanted), pinned=state.express is not None)]
        case "open":
            return []
        case "changing":
            return [_change(state, hold_id)]
        case "trimming":
            name = f"trim:{state.revision}"
            return [HoldStep(name, "trim", hold_id, accounts(state.wanted), revision=state.revision)]
        case "pinning":
            return [_hold_step(state, "pin", f"pin:{state.attempt_start}:{len(state.legs)}")]
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


def deadline_ms(state: Checkout) -> int | None:
    """When the checkout must be looked at again if nothing happens; None when nothing can be late."""
    if state.phase == "open":
        return state.expires_at_ms
    if state.phase == "awaiting_buyer":
        return state.action_deadline_ms
    return None


def resting(state: Checkout) -> bool:
    """Nothing is owed, wanted or awaited: the state may leave memory until somebody asks for it."""
    return state.phase in ("placed", "canceled", "refused") and not state.asked and not next_actions(state)


def _attempt(state: Checkout) -> range:
    return range(state.attempt_start, len(state.legs))


def _take(state: Checkout, hold_id: str, wanted: dict[str, int], *, pinned: bool) -> TakeStock:
    name = f"take:{state.revision}:{state.shortages}"
    return TakeStock(name, hold_id, state.revision, wanted, state.expires_at_ms, pinned)


def _change(state: Checkout, hold_id: str) -> Action:
    """More units first, under the new revision; fewer are given back only once the change is decided."""
    change = state.change
    assert change is not None, "a changing checkout has a change"
    if change.wanted is None:
        return HoldStep(
            f"extend:{state.version}", "extend", hold_id, accounts(state.wanted), state.expires_at_ms
        )
    target = accounts(change.wanted)
    for account, units in accounts(state.wanted).items():
        target[account] = max(units, target.get(account, 0))
    return _take(state, hold_id, target, pinned=False)


def _hold_step(state: Checkout, verb: str, name: str = "") -> HoldStep:
    return HoldStep(
        name or verb, verb, ids.body(state.id), accounts(state.wanted), state.expires_at_ms, state.revision
    )


def _call(state: Checkout, index: int) -> CallGateway:
    leg = state.legs[index]
    request = payment_leg.request(leg, state.id, state.currency)
    assert request is not None, "a settled leg has nothing to send"
    doubt = "?" if leg.doubt else ""
    return CallGateway(f"{leg.id}:{leg.intent}:{leg.tries}:{leg.resent}{doubt}", index, leg.gateway, request)


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
        return _hold_step(state, "unpin", f"unpin:{state.declines}")
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
    elif "forget" not in state.steps:
        actions.append(_hold_step(state, "forget"))
    elif order.status == "canceled" and "forget_return" not in state.steps:
        actions.append(HoldStep("forget_return", "forget", return_ticket(state), accounts(state.wanted)))
    if state.cart_id is not None and "end_cart" not in state.steps:
        actions.append(EndCart("end_cart", state.cart_id, state.id, True, None))
    return actions


def return_ticket(state: Checkout) -> str:
    """The id under which a canceled order's units go back to stock."""
    return "r" + ids.body(state.id)


def _after_end(state: Checkout) -> list[Action]:
    actions: list[Action] = []
    if state.cart_id is not None and "linked" in state.steps and "end_cart" not in state.steps:
        actions.append(EndCart("end_cart", state.cart_id, state.id, False, state.previous))
    if state.hold and "forget" not in state.steps:
        actions.append(_hold_step(state, "forget"))
    return actions
