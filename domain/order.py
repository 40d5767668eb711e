"""An order: what was confirmed and never changes, and what is told about it afterwards.

Owns the order's status (pending → confirmed → shipped → delivered, or canceled), its amendments, and the rows
that tell people and programs about it. Promises that nothing confirmed is ever changed: an amendment stands
beside it. The saga that placed the order is its one writer.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from domain.messages import Refusal
from domain.payment_leg import PaymentLeg
from domain.pricing import PricedLine, Total

OrderStatus = Literal["pending", "confirmed", "shipped", "delivered", "canceled"]
PaymentStatus = Literal["authorized", "paid", "refunded", "voided"]


class Tracking(msgspec.Struct, frozen=True, array_like=True, gc=False):
    carrier: str
    tracking_number: str


class Amendment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A change that stands beside what was confirmed; ``sealed`` is the address it tells."""

    at_ms: int
    type: str
    sealed: bytes


class Order(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of the saga's state that begins with the pivot.

    ``events`` counts its audit trail's entries. ``review``: it was placed pending, for an operator to see.
    """

    id: str
    placed_at_ms: int
    status: OrderStatus
    confirmed_at_ms: int | None
    events: int = 1
    tracking: Tracking | None = None
    amendments: tuple[Amendment, ...] = ()
    ship_to: bytes | None = None
    cancel_reason: str = ""
    review: bool = False


class PaymentLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    id: str
    method: str
    status: str
    amount: int
    gateway: str
    error: str | None = None


class OrderView(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The resource as API.md shows it; personal data sealed under ``owner``'s key."""

    id: str
    number: str
    status: str
    payment_status: str
    checkout_id: str
    customer: bytes | None
    currency: str
    buyer: bytes | None
    shipping_address: bytes | None
    ship_to: bytes | None
    amendments: tuple[Amendment, ...]
    lines: tuple[PricedLine, ...]
    totals: tuple[Total, ...]
    payments: tuple[PaymentLine, ...]
    tracking: Tracking | None
    created_at_ms: int
    confirmed_at_ms: int | None
    owner: str
    root: str


# ── rows that ride with the events ──────────────────────────────────────────────────────────────────────


class OrderRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of ``orders``, immutable. ``body`` is the JSON of `OrderBody`."""

    order_id: str
    checkout_id: str
    number: str
    owner: str
    email_hash: str
    currency: str
    total: int
    placed_at_ms: int
    body: bytes


class OrderStateRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The one row of ``order_state``: what is true of the order now. ``body`` is the JSON of `StateBody`."""

    order_id: str
    version: int
    status: str
    payment_status: str
    updated_at_ms: int
    body: bytes


class OrderEventRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of the audit trail, appended; ``detail`` is JSON without personal data."""

    order_id: str
    n: int
    at_ms: int
    actor: str
    type: str
    detail: bytes


class OutboxRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    order_id: str
    n: int
    destination: str
    payload: bytes


class OrderBody(msgspec.Struct, frozen=True):
    checkout_id: str
    root: str
    customer: bytes | None
    buyer: bytes | None
    shipping_address: bytes | None
    line_items: tuple[PricedLine, ...]
    totals: tuple[Total, ...]
    payments: tuple[PaymentLine, ...]


class StateBody(msgspec.Struct, frozen=True):
    payments: tuple[PaymentLine, ...]
    tracking: Tracking | None
    amendments: tuple[Amendment, ...]
    ship_to: bytes | None
    confirmed_at_ms: int | None
    cancel_reason: str


# ── rules ───────────────────────────────────────────────────────────────────────────────────────────────


def payment_status(legs: tuple[PaymentLeg, ...]) -> PaymentStatus:
    """What the payments of an order amount to, the legs being those of its successful attempt."""
    statuses = {leg.status for leg in legs}
    if "authorized" in statuses:
        return "authorized"
    if "captured" in statuses:
        return "paid"
    if "refunded" in statuses:
        return "refunded"
    return "voided" if statuses else "paid"  # nothing to pay is paid


def cannot_cancel(order: Order) -> Refusal | None:
    if order.status in ("shipped", "delivered"):
        return Refusal("already_shipped", "The order has been shipped and can no longer be canceled.")
    return None


def cannot_ship(order: Order) -> Refusal | None:
    if order.status == "confirmed":
        return None
    return _not_in(order, "confirmed", "shipped")


def cannot_deliver(order: Order) -> Refusal | None:
    if order.status == "shipped":
        return None
    return _not_in(order, "shipped", "delivered")


def cannot_review(order: Order) -> Refusal | None:
    if order.status == "pending":
        return None
    return _not_in(order, "pending", "reviewed")


def cannot_amend(order: Order) -> Refusal | None:
    if order.status in ("pending", "confirmed"):
        return None
    code = "already_shipped" if order.status in ("shipped", "delivered") else "order_canceled"
    return Refusal(code, f"The order is {order.status}; its address can no longer be changed.")


def _not_in(order: Order, needed: str, done: str) -> Refusal:
    return Refusal(
        "invalid_order_status",
        f"Only a {needed} order can be {done}; this one is {order.status}.",
        extra={"order_status": order.status},
    )


def payment_line(leg: PaymentLeg) -> PaymentLine:
    return PaymentLine(leg.id, leg.method, leg.status, leg.amount, leg.gateway, leg.error.code if leg.error else None)


_json = msgspec.json.Encoder()


def state_row(order: Order, legs: tuple[PaymentLeg, ...], at_ms: int) -> OrderStateRow:
    body = StateBody(
        tuple(payment_line(leg) for leg in legs),
        order.tracking,
        order.amendments,
        order.ship_to,
        order.confirmed_at_ms,
        order.cancel_reason,
    )
    return OrderStateRow(order.id, order.events, order.status, payment_status(legs), at_ms, _json.encode(body))


def event_row(order: Order, at_ms: int, actor: str, kind: str, detail: dict[str, Any]) -> OrderEventRow:
    return OrderEventRow(order.id, order.events, at_ms, actor, kind, _json.encode(detail))
