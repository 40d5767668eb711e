"""A placed order in all its shapes: the saga's state, its payment, the rows that were written with it."""

from __future__ import annotations

from typing import Any

import msgspec

from domain import checkout_views as views
from domain import ids
from domain.audit_orders import OrderRows
from domain.checkout_state import Buyer, Checkout, Wanted
from domain.order import Order, payment_status, state_row
from domain.payment_leg import PaymentLeg
from domain.pricing import PricedLine, Total

NOW_MS = 1_800_000_000_000
BODY = "0123456789abcdef"
CHECKOUT = ids.make("chk", NOW_MS, BODY)
ORDER = ids.make("ord", NOW_MS, BODY)
PAYMENT = "pay_1"
TOTAL = 2500
replace = msgspec.structs.replace


def leg(status: str = "captured", intent: str = "none", **changes: Any) -> PaymentLeg:
    return PaymentLeg(PAYMENT, "card", "sandbox", "tok", TOTAL, status, intent, **changes)  # type: ignore[arg-type]


def placed(**changes: Any) -> Checkout:
    """A checkout just past everything: sold, captured, closed."""
    state = Checkout(
        id=CHECKOUT,
        owner="g:guest",
        root=BODY,
        customer=None,
        cart_id=None,
        currency="USD",
        phase="placed",
        created_at_ms=NOW_MS,
        updated_at_ms=NOW_MS,
        wanted=(Wanted("A", 2),),
        on_shortage="reject",
        express=None,
        expires_at_ms=NOW_MS,
        lines=(PricedLine("li_1", "A", "The A", 2, 1000, 2000),),
        totals=(Total("subtotal", 2000), Total("fulfillment", 500), Total("total", 2500)),
        total=TOTAL,
        buyer=Buyer(b"sealed", "hash"),
        legs=(leg(),),
        steps=("confirm", "forget"),
        order=Order(ORDER, NOW_MS, "confirmed", NOW_MS),
    )
    return replace(state, **changes)


def rows_of(of: Checkout, **changes: Any) -> OrderRows:
    """The rows that were written with this state."""
    assert of.order is not None
    row = views.order_row(of)
    legs = views.current_legs(of)
    confirmed = msgspec.structs.asdict(row) | {"body": row.body.decode()}
    rows = OrderRows(
        **confirmed,
        intact=True,
        version=of.order.events,
        status=of.order.status,
        payment_status=payment_status(legs),
        state=state_row(of.order, legs, NOW_MS).body.decode(),
        entries=range(1, of.order.events + 1),
    )
    return rows._replace(**changes)
