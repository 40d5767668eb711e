"""Past the pivot: placing the order, what is retried forward, and the order's own life.

Owns the decisions from the moment the order exists: confirm and capture until they succeed; ship, deliver,
review, amend, cancel. Promises that a canceled order gives back its units and its money, each exactly once.
Called by `checkout.decide` and by the completion.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from domain import checkout_views as views
from domain import fraud, ids, order, payment_leg
from domain.checkout_events import OrderPlaced
from domain.checkout_model import (
    AmendAddress,
    CancelOrder,
    DeliverOrder,
    Done,
    LegOutcome,
    OrderReply,
    ReviewOrder,
    ShipOrder,
)
from domain.checkout_prices import total_to
from domain.checkout_turn import Turn
from domain.messages import Decision, Refusal
from domain.order import Amendment, Order, Tracking
from domain.payment_leg import PaymentLeg
from domain.stock_model import HoldState

OrderCommand = CancelOrder | ShipOrder | DeliverOrder | ReviewOrder | AmendAddress
NO_ORDER = Refusal("not_found", "There is no such order, or the credentials do not open it.")
BEING_CAPTURED = Refusal("request_in_progress", "The payment is still being captured. Ask again shortly.")
OTHER_COUNTRY = Refusal("country_changed", "The new address must be in the country that the order was priced for.")
OTHER_PRICE = Refusal("total_changed", "This address would change the price of the order.")

_replace = msgspec.structs.replace


def place(turn: Turn) -> None:
    """The pivot. The order's id is fixed by its checkout; capture's intent is journaled with it."""
    state = turn.state
    review = fraud.screen(state.total, turn.policy.review_above_minor) == "review"
    placed = Order(
        id=ids.make("ord", turn.now_ms, turn.key),
        placed_at_ms=turn.now_ms,
        status="pending" if review else "confirmed",
        confirmed_at_ms=None if review else turn.now_ms,
        review=review,
    )
    legs = views.current_legs(state)
    if not review:
        legs = payment_leg.keyed(legs, tuple([payment_leg.intend(leg, "capture") for leg in legs]), turn.now_ms)
    turn.apply(OrderPlaced(turn.key, turn.now_ms, placed, legs))
    turn.rows.append(views.order_row(turn.state))
    detail = {"total": state.total, "currency": state.currency, "checkout_id": state.id}
    turn.tell(placed.status, "buyer", detail)


def decide(turn: Turn, command: OrderCommand) -> Decision:
    """A command to the order. Refusals change nothing."""
    placed = turn.state.order
    if placed is None:
        return turn.reply(command, NO_ORDER)
    match command:
        case CancelOrder():
            return _cancel(turn, placed, command)
        case ShipOrder():
            refusal = order.cannot_ship(placed) or _unpaid(turn)
            tracking = Tracking(command.carrier, command.tracking_number)
            changed = _replace(placed, status="shipped", tracking=tracking)
            detail = {"carrier": command.carrier, "tracking_number": command.tracking_number}
            return _change(turn, command, refusal, changed, "shipped", detail)
        case DeliverOrder():
            changed = _replace(placed, status="delivered")
            return _change(turn, command, order.cannot_deliver(placed), changed, "delivered", {})
        case ReviewOrder():
            return _review(turn, placed, command)
        case AmendAddress():
            return _amend(turn, placed, command)
        case never:
            assert_never(never)


def _unpaid(turn: Turn) -> Refusal | None:
    """What is shipped must be paid: a capture still under way is waited for by asking again."""
    if any(leg.status != "captured" for leg in views.current_legs(turn.state)):
        return BEING_CAPTURED
    return None


def _reply(turn: Turn) -> OrderReply:
    return OrderReply(views.order_view(turn.state), turn.state.owner, turn.state.root)


def _change(
    turn: Turn,
    command: OrderCommand,
    refusal: Refusal | None,
    changed: Order,
    kind: str,
    detail: dict[str, Any],
) -> Decision:
    if refusal is not None:
        return turn.reply(command, refusal)
    turn.order(changed, kind, getattr(command, "actor", "") or "buyer", detail)
    return turn.reply(command, _reply(turn))


def _review(turn: Turn, placed: Order, command: ReviewOrder) -> Decision:
    refusal = order.cannot_review(placed)
    if refusal is not None:
        return turn.reply(command, refusal)
    detail: dict[str, Any] = {
        "decision": "approve" if command.approve else "deny",
        "reason": command.reason,
    }
    if not command.approve:
        turn.owe("cancel_order", command)
        _cancel_now(turn, placed, "fraud", command.actor, detail)
        return turn.decision()
    changed = _replace(placed, status="confirmed", confirmed_at_ms=turn.now_ms)
    first = turn.state.attempt_start
    captures = [payment_leg.intend(leg, "capture") for leg in turn.state.legs[first:]]
    turn.set(legs=(*turn.state.legs[:first], *captures))
    return _change(turn, command, None, changed, "confirmed", detail)


def _amend(turn: Turn, placed: Order, command: AmendAddress) -> Decision:
    state, address = turn.state, command.address
    refusal = order.cannot_amend(placed)
    confirmed = state.shipping_address
    if refusal is None and confirmed is not None and confirmed.country != address.country:
        refusal = OTHER_COUNTRY
    # The tables may have changed since; what counts is whether the address makes a difference.
    elif refusal is None and total_to(state, turn.rules, address) != total_to(state, turn.rules, confirmed):
        refusal = OTHER_PRICE
    amendment = Amendment(turn.now_ms, "shipping_address", address.sealed)
    changed = _replace(placed, amendments=(*placed.amendments, amendment), ship_to=address.sealed)
    return _change(turn, command, refusal, changed, "address_changed", {"country": address.country})


# ── cancel ──────────────────────────────────────────────────────────────────────────────────────────────


def _cancel(turn: Turn, placed: Order, command: CancelOrder) -> Decision:
    refusal = order.cannot_cancel(placed)
    if refusal is not None:
        return turn.reply(command, refusal)
    if placed.status == "canceled" and _given_back(turn):
        return turn.reply(command, _reply(turn))
    turn.owe("cancel_order", command)
    if placed.status != "canceled":
        reason = command.reason or "buyer"
        _cancel_now(turn, placed, reason, command.actor, {"reason": command.reason})
    return turn.decision()


def _cancel_now(turn: Turn, placed: Order, reason: str, actor: str, detail: dict[str, Any]) -> None:
    """The order is canceled; its money and units follow, retried forward."""
    first = turn.state.attempt_start
    legs = tuple([_undone(leg) if leg.settled else leg for leg in turn.state.legs[first:]])
    if legs != turn.state.legs[first:]:
        turn.set(legs=turn.state.legs[:first] + legs)
    turn.order(_replace(placed, status="canceled", cancel_reason=reason), "canceled", actor, detail)


def _undone(leg: PaymentLeg) -> PaymentLeg:
    """How a leg of a canceled order gives its money back."""
    if leg.status == "captured":
        return payment_leg.intend(leg, "refund")
    if leg.status == "authorized":
        return payment_leg.intend(leg, "void")
    return leg


def _given_back(turn: Turn) -> bool:
    return "give_back" in turn.state.steps and all(leg.settled for leg in views.current_legs(turn.state))


def _answer_if_given_back(turn: Turn) -> None:
    """A cancel is answered once the money and the units are back."""
    if turn.owes("cancel_order") and _given_back(turn):
        turn.answer("cancel_order", reply=_reply(turn))


# ── outcomes ────────────────────────────────────────────────────────────────────────────────────────────


def leg_answered(turn: Turn, result: LegOutcome) -> None:
    """A capture, refund or void has been answered."""
    before = turn.state.legs[result.leg]
    leg = payment_leg.after(before, result.outcome)
    placed = turn.state.order
    assert placed is not None, "past the pivot there is an order"
    if leg is None:
        return
    told = leg
    if placed.status == "canceled" and before.intent == "capture" and not leg.doubt:
        # It was canceled meanwhile: what was captured is refunded, what was not shall not be.
        leg = _undone(leg)
    turn.set_leg(result.leg, leg)
    detail: dict[str, Any] = {"payment_id": leg.id, "amount": leg.amount}
    if told.status != before.status:
        turn.order(placed, f"payment_{told.status}", "system", detail)
    elif told.settled and told.refused and before.intent != "capture":
        turn.order(placed, f"{before.intent}_refused", "system", detail | _code(told))
    if placed.status != "canceled" and told.settled and told.status in ("authorized", "voided"):
        # The capture was refused for good: nobody gets goods that nobody pays for.
        assert turn.state.order is not None, "an order stays an order"
        _cancel_now(turn, turn.state.order, "payment", "system", detail | _code(told))
    _answer_if_given_back(turn)


def _code(leg: PaymentLeg) -> dict[str, str]:
    return {"code": leg.error.code if leg.error is not None else ""}


def step_done(turn: Turn, name: str, result: HoldState | Done) -> None:
    """A step that is retried forward has been answered; one that was refused is tried again."""
    step = name.partition(":")[0]
    if isinstance(result, HoldState) and result.refused:
        return
    turn.done(step)
    _answer_if_given_back(turn)
