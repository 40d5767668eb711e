"""Past the pivot: placing the order, what is retried forward, and the order's own life.

Owns the decisions from the moment the order exists: confirm and capture until they succeed; ship, deliver,
review, amend, cancel. Promises that a canceled order gives back its units and its money, each exactly once.
Called by `checkout.decide` only.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from domain import checkout_views as views
from domain import fraud, ids, order, payment_leg
from domain.checkout_model import (
    AmendAddress,
    CancelOrder,
    DeliverOrder,
    Done,
    LegOutcome,
    OrderPlaced,
    OrderReply,
    ReviewOrder,
    ShipOrder,
)
from domain.checkout_turn import Turn
from domain.messages import Decision, Refusal
from domain.order import Amendment, Order, Tracking
from domain.payment_leg import PaymentLeg
from domain.stock import HoldState

OrderCommand = CancelOrder | ShipOrder | DeliverOrder | ReviewOrder | AmendAddress
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
    )
    legs = views.current_legs(state)
    if not review:
        legs = tuple(payment_leg.intend(leg, "capture") for leg in legs)
    turn.apply(OrderPlaced(turn.key, turn.now_ms, placed, legs))
    turn.rows.append(views.order_row(turn.state))
    turn.tell(
        placed.status, "buyer", {"total": state.total, "currency": state.currency, "checkout_id": state.id}
    )


def decide(turn: Turn, command: OrderCommand) -> Decision:
    """A command to the order. Refusals change nothing."""
    placed = turn.state.order
    if placed is None:
        return Decision(
            reply=Refusal("not_found", "There is no such order, or the credentials do not open it.")
        )
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
        return Refusal("request_in_progress", "The payment is still being captured. Ask again shortly.")
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
        return Decision(reply=refusal)
    turn.order(changed, kind, getattr(command, "actor", "") or "buyer", detail)
    reply = _reply(turn)
    turn.remember(command, reply)
    return turn.decision(reply)


def _review(turn: Turn, placed: Order, command: ReviewOrder) -> Decision:
    refusal = order.cannot_review(placed)
    if refusal is not None:
        return Decision(reply=refusal)
    detail: dict[str, Any] = {
        "decision": "approve" if command.approve else "deny",
        "reason": command.reason,
    }
    if not command.approve:
        turn.owe("cancel_order", command)
        _cancel_now(turn, "fraud", command.actor, detail)
        return _answered_or_owed(turn)
    changed = _replace(placed, status="confirmed", confirmed_at_ms=turn.now_ms)
    first = turn.state.attempt_start
    turn.legs(first, tuple(payment_leg.intend(leg, "capture") for leg in turn.state.legs[first:]))
    return _change(turn, command, None, changed, "confirmed", detail)


def _amend(turn: Turn, placed: Order, command: AmendAddress) -> Decision:
    refusal = order.cannot_amend(placed)
    confirmed = turn.state.shipping_address
    if refusal is None and confirmed is not None and confirmed.country != command.address.country:
        refusal = Refusal(
            "country_changed", "The new address must be in the country the order was priced for."
        )
    if refusal is None and confirmed is not None and _price_moves(turn, command):
        refusal = Refusal("total_changed", "This address would change the price of the order.")
    amendment = Amendment(turn.now_ms, "shipping_address", command.address.sealed)
    changed = _replace(placed, amendments=(*placed.amendments, amendment), ship_to=command.address.sealed)
    return _change(turn, command, refusal, changed, "address_changed", {"country": command.address.country})


def _price_moves(turn: Turn, command: AmendAddress) -> bool:
    from domain.checkout import price_at  # the saga prices; importing it above would be a circle

    return price_at(turn, command.address) != turn.state.total


# ── cancel ──────────────────────────────────────────────────────────────────────────────────────────────


def _cancel(turn: Turn, placed: Order, command: CancelOrder) -> Decision:
    if placed.status == "canceled":
        reply = _reply(turn)
        turn.remember(command, reply)
        return turn.decision(reply)
    refusal = order.cannot_cancel(placed)
    if refusal is not None:
        turn.remember(command, refusal)
        return turn.decision(refusal)
    turn.owe("cancel_order", command)
    _cancel_now(turn, command.reason or "buyer", command.actor, {"reason": command.reason})
    return _answered_or_owed(turn)


def _cancel_now(turn: Turn, reason: str, actor: str, detail: dict[str, Any]) -> None:
    """The order is canceled; its money and units follow, retried forward."""
    placed = turn.state.order
    assert placed is not None, "only an order is canceled"
    first = turn.state.attempt_start
    legs = tuple(_undone(leg) for leg in turn.state.legs[first:])
    if legs != turn.state.legs[first:]:
        turn.legs(first, legs)
    turn.order(_replace(placed, status="canceled", cancel_reason=reason), "canceled", actor, detail)


def _undone(leg: PaymentLeg) -> PaymentLeg:
    """How a leg of a canceled order gives its money back. A capture under way must end before anything else."""
    if leg.status == "captured":
        return payment_leg.intend(leg, "refund")
    if leg.status == "authorized" and leg.settled:
        return payment_leg.intend(leg, "void")
    return leg


def _answered_or_owed(turn: Turn) -> Decision:
    _answer_if_undone(turn)
    return turn.decision()


def _answer_if_undone(turn: Turn) -> None:
    """A cancel is answered once the money and the units are back."""
    if "give_back" in turn.state.steps and all(leg.settled for leg in views.current_legs(turn.state)):
        turn.answer("cancel_order", _reply(turn))


# ── outcomes ────────────────────────────────────────────────────────────────────────────────────────────


def leg_answered(turn: Turn, result: LegOutcome) -> None:
    """A capture, refund or void has been answered."""
    before = turn.state.legs[result.leg]
    leg = payment_leg.after(before, result.outcome)
    placed = turn.state.order
    assert placed is not None, "past the pivot there is an order"
    if leg is None:
        return
    turn.legs(result.leg, (leg, *turn.state.legs[result.leg + 1 :]))
    if not leg.settled:
        return
    detail: dict[str, Any] = {"payment_id": leg.id, "amount": leg.amount}
    if leg.status != before.status:
        turn.order(placed, f"payment_{leg.status}", "system", detail)
    if before.intent == "capture" and leg.status == "authorized":
        # Refused for good: nobody gets goods that nobody pays for.
        if placed.status != "canceled":
            _cancel_now(turn, "payment", "system", detail | {"code": leg.error.code if leg.error else ""})
            return
    if placed.status == "canceled":
        undone = _undone(leg)
        if undone != leg and not (before.intent == "void" and leg.error is not None):
            turn.legs(result.leg, (undone, *turn.state.legs[result.leg + 1 :]))
    _answer_if_undone(turn)


def step_done(turn: Turn, name: str, result: HoldState | Done) -> None:
    """A step that is retried forward has been answered; one that was refused is tried again."""
    if isinstance(result, HoldState) and result.refused and not name.startswith("forget"):
        return
    turn.done(name)
    _answer_if_undone(turn)
