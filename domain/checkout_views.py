"""How a checkout's state is shown: the resource, its messages, its order, and the order's immutable row.

Owns the mapping from the saga's inner phases to the statuses of the contract. Promises that what was answered
at the pivot can be shown again, byte for byte, whatever has happened since. Personal data stays sealed.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from domain import ids, order
from domain.checkout_model import CheckoutReply, CheckoutView, PaymentView
from domain.checkout_refusals import why_ended
from domain.checkout_state import Checkout, Message, Problem
from domain.messages import FieldError
from domain.order import OrderBody, OrderRow, OrderView
from domain.payment_leg import PaymentLeg

OPEN_PHASES = ("open", "changing", "trimming")
BUYER_FIELDS = ("email", "name")
_json = msgspec.json.Encoder()


def status_of(state: Checkout) -> str:
    match state.phase:
        case "linking" | "replacing" | "holding":
            return "complete_in_progress" if state.express is not None else "incomplete"
        case "open" | "changing" | "trimming":
            return "incomplete" if missing(state) else "ready_for_complete"
        case "pinning" | "paying":
            return "complete_in_progress"
        case "awaiting_buyer":
            return "requires_escalation"
        case "unwinding":
            declined = state.undo is not None and state.undo.reason == "declined"
            return "complete_in_progress" if declined or _money_out(state) else "canceled"
        case "placed":
            return "completed"
        case "canceled" | "refused":
            return "canceled"
        case never:
            assert_never(never)


def cancel_reason_of(state: Checkout, status: str) -> str | None:
    if state.undo is None or status != "canceled" or state.undo.reason == "refused":
        return None
    return state.undo.reason


def reservation_of(state: Checkout) -> str:
    if state.phase == "placed":
        return "confirmed" if "confirm" in state.steps else "pinned"
    return state.hold or "held"


def _money_out(state: Checkout) -> bool:
    return any(not leg.settled or leg.holds_money for leg in current_legs(state))


def current_legs(state: Checkout) -> tuple[PaymentLeg, ...]:
    """The payments of the attempt under way (or of the one that succeeded)."""
    return state.legs[state.attempt_start :]


def missing(state: Checkout) -> list[FieldError]:
    """What must be there before money may move, each with its path and remedy."""
    errors: list[FieldError] = []
    if state.buyer is None:
        errors += [FieldError(f"$.buyer.{name}", "missing", f"Give the buyer's {name}.") for name in BUYER_FIELDS]
    else:
        errors += _problems("$.buyer", state.buyer.problems)
    if state.shipping_address is None:
        errors.append(FieldError("$.shipping_address", "missing", "Give the address to ship to."))
        return errors
    errors += _problems("$.shipping_address", state.shipping_address.problems)
    if state.shipping_address.place is None:
        return errors
    if not state.deliverable:
        text = "There is no delivery to this country. Give another address."
        errors.append(FieldError("$.shipping_address.country", "address_undeliverable", text))
    elif state.selected is None:
        errors.append(FieldError("$.selected_shipping_option", "missing", "Choose one of shipping_options."))
    return errors


def _problems(path: str, problems: tuple[Problem, ...]) -> list[FieldError]:
    return [FieldError(f"{path}.{problem.field}", problem.code, problem.message) for problem in problems]


def messages_of(state: Checkout, cancel_reason: str | None) -> tuple[Message, ...]:
    """What happened to the lines, then what is still to be given, then why the last payment failed; or why it ended."""
    if cancel_reason is not None:
        return (*state.messages, why_ended(state))
    if state.phase not in OPEN_PHASES:
        return state.messages
    told = [Message("error", error.code, error.path, error.message, "recoverable") for error in missing(state)]
    failed = next((leg.error for leg in current_legs(state) if leg.status == "declined"), None)
    if failed is not None:
        text = failed.message or "The payment was declined. Try another payment method."
        told.append(Message("error", "payment_failed", "$.payments", text, "recoverable"))
    return (*state.messages, *told)


def view(state: Checkout, *, at_pivot: bool = False) -> CheckoutView:
    """The resource. ``at_pivot`` shows it as the first answer to a successful completion did, for ever."""
    legs = state.legs
    if at_pivot:
        legs = state.legs[: state.attempt_start] + tuple([_authorized(leg) for leg in current_legs(state)])
    placed = state.order
    status = status_of(state)
    cancel_reason = cancel_reason_of(state, status)
    waiting = status == "requires_escalation"
    return CheckoutView(
        id=state.id,
        version=state.placed_version if at_pivot else state.version,
        status=status,
        cancel_reason=cancel_reason,
        cart_id=state.cart_id,
        currency=state.currency,
        lines=state.lines,
        buyer=state.buyer.sealed if state.buyer else None,
        shipping_address=state.shipping_address.sealed if state.shipping_address else None,
        billing_address=state.billing_address.sealed if state.billing_address else None,
        offers=state.offers,
        selected=state.selected,
        totals=state.totals,
        messages=messages_of(state, cancel_reason),
        reservation="pinned" if at_pivot else reservation_of(state),
        reservation_expires_at_ms=state.expires_at_ms if state.phase in OPEN_PHASES else None,
        payments=tuple([_payment_view(leg) for leg in legs]),
        next_action=next((leg.next_action for leg in legs if leg.next_action), None) if waiting else None,
        order_id=placed.id if placed else None,
        created_at_ms=state.created_at_ms,
        updated_at_ms=placed.placed_at_ms if at_pivot and placed else state.updated_at_ms,
        owner=state.owner,
        root=state.root,
    )


def _payment_view(leg: PaymentLeg) -> PaymentView:
    error = leg.error.code if leg.error is not None else None
    return PaymentView(leg.id, leg.method, leg.status, leg.amount, leg.gateway, error)


def reply(state: Checkout) -> CheckoutReply:
    """How things stand now, with the order if there is one."""
    return CheckoutReply(200, view(state), order_view(state) if state.order else None)


def _authorized(leg: PaymentLeg) -> PaymentLeg:
    return msgspec.structs.replace(leg, status="authorized", error=None)


def order_view(state: Checkout, *, at_pivot: bool = False) -> OrderView:
    """The order; ``at_pivot`` as it was confirmed."""
    placed = state.order
    assert placed is not None, "an order is shown only after the pivot"
    legs = current_legs(state)
    address = state.shipping_address.sealed if state.shipping_address else None
    status, confirmed_at_ms = placed.status, placed.confirmed_at_ms
    if at_pivot:
        legs = tuple([_authorized(leg) for leg in legs])
        status = "pending" if placed.review else "confirmed"
        confirmed_at_ms = None if placed.review else placed.placed_at_ms
    return OrderView(
        id=placed.id,
        number=ids.order_number(placed.id),
        status=status,
        payment_status=order.payment_status(legs),
        checkout_id=state.id,
        customer=state.customer,
        currency=state.currency,
        buyer=state.buyer.sealed if state.buyer else None,
        shipping_address=address,
        ship_to=address if at_pivot else placed.ship_to or address,
        amendments=() if at_pivot else placed.amendments,
        lines=state.lines,
        totals=state.totals,
        payments=tuple([order.payment_line(leg) for leg in legs]),
        tracking=None if at_pivot else placed.tracking,
        created_at_ms=placed.placed_at_ms,
        confirmed_at_ms=confirmed_at_ms,
        owner=state.owner,
        root=state.root,
    )


def completed(state: Checkout) -> CheckoutReply:
    """The first answer to the completion that placed the order, whenever it is asked for again."""
    return CheckoutReply(200, view(state, at_pivot=True), order_view(state, at_pivot=True))


def order_row(state: Checkout) -> OrderRow:
    """The immutable row, from a state just past the pivot."""
    placed = state.order
    assert placed is not None, "rows are made at the pivot"
    assert state.buyer is not None, "nothing is completed without a buyer"
    body = OrderBody(
        state.id,
        state.root,
        state.customer,
        state.buyer.sealed,
        state.shipping_address.sealed if state.shipping_address else None,
        state.lines,
        state.totals,
        tuple([order.payment_line(leg) for leg in current_legs(state)]),
    )
    return OrderRow(
        placed.id,
        state.id,
        ids.order_number(placed.id),
        state.owner,
        state.buyer.email_hash,
        state.currency,
        state.total,
        placed.placed_at_ms,
        _json.encode(body),
    )
