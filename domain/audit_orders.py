"""What an audit looks for in an order's rows: that they are whole, add up, and agree with the saga's state.

Owns the rules about ``orders``, ``order_state`` and ``order_event``. Pure: the rows come in as read. The rows
ride in the same append as the events they tell of, so at any instant they agree exactly; no time is allowed.
Called by `persistence.audit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from domain import checkout_views as views
from domain import order
from domain.audit import Violation
from domain.checkout_state import Checkout
from domain.order import OrderBody, StateBody
from domain.pricing import Total

_read_body = msgspec.json.Decoder(OrderBody).decode
_read_state = msgspec.json.Decoder(StateBody).decode
_COLUMNS = ("order_id", "checkout_id", "number", "owner", "email_hash", "currency", "total", "placed_at_ms")
_BODY = ("checkout_id", "root", "customer", "buyer", "shipping_address", "line_items", "totals")


class OrderRows(NamedTuple):
    """One order as the tables have it. `intact`: the checksum fits the body; `entries`: n of its trail."""

    order_id: str
    checkout_id: str
    number: str
    owner: str
    email_hash: str
    currency: str
    total: int
    placed_at_ms: int
    body: str
    intact: bool
    version: int | None
    status: str | None
    payment_status: str | None
    state: str | None
    entries: Sequence[int]


def missing(state: Checkout) -> Violation:
    """The finding on a placed checkout without rows."""
    placed = state.order
    assert placed is not None, "only a placed checkout has an order"
    return Violation("order_missing", placed.id, f"{state.id} placed it, but there is no such order.")


def row_violations(rows: OrderRows, state: Checkout | None) -> Iterator[Violation]:
    """Everything about one order's rows; `state` is its checkout, None if that could not be rebuilt."""
    yield from _confirmed_part(rows, state)
    yield from _present_part(rows, state)
    yield from _trail(rows, state)


# ── what was confirmed ──────────────────────────────────────────────────────────────────────────────────


def _confirmed_part(rows: OrderRows, state: Checkout | None) -> Iterator[Violation]:
    try:
        body = _read_body(rows.body)
    except msgspec.DecodeError as error:
        yield Violation("order_altered", rows.order_id, f"What was confirmed cannot be read: {error}.")
        return
    changed = [] if rows.intact else ["checksum"]
    if state is not None:
        changed += _differences(rows, body, state)
    elif body.checkout_id != rows.checkout_id:
        changed.append("checkout_id")
    if changed:
        yield Violation("order_altered", rows.order_id, f"It is not what was confirmed: {', '.join(changed)}.")
    problem = _sum_problem(rows, body)
    if problem:
        yield Violation("order_totals_wrong", rows.order_id, problem)


def _differences(rows: OrderRows, body: OrderBody, state: Checkout) -> list[str]:
    """The names of the columns and fields that are not as the saga confirmed them."""
    expected = views.order_row(state)
    confirmed = _read_body(expected.body)
    names = [name for name in _COLUMNS if getattr(rows, name) != getattr(expected, name)]
    names += [name for name in _BODY if getattr(body, name) != getattr(confirmed, name)]
    if [(p.id, p.amount) for p in body.payments] != [(p.id, p.amount) for p in confirmed.payments]:
        names.append("payments")
    return list(dict.fromkeys(names))


def _sum_problem(rows: OrderRows, body: OrderBody) -> str:
    """What does not add up in the order, or nothing."""
    for line in body.line_items:
        if line.amount != line.unit_price * line.quantity:
            return f"{line.quantity} × {line.unit_price} of {line.sku} is not {line.amount}."
    subtotal = sum(line.amount for line in body.line_items)
    if _amount(body.totals, "subtotal") != subtotal:
        return f"The lines add up to {subtotal}, not to the subtotal."
    parts = sum(total.amount for total in body.totals if total.type != "total" and not total.included)
    if {parts, _amount(body.totals, "total")} != {rows.total}:
        return f"The totals add up to {parts}, the order's total is {rows.total}."
    paid = sum(payment.amount for payment in body.payments)
    return f"The payments add up to {paid}, the total is {rows.total}." if paid != rows.total else ""


def _amount(totals: Sequence[Total], kind: str) -> int | None:
    return next((total.amount for total in totals if total.type == kind), None)


# ── how it stands ───────────────────────────────────────────────────────────────────────────────────────


def _present_part(rows: OrderRows, state: Checkout | None) -> Iterator[Violation]:
    if rows.state is None:
        yield Violation("order_state_missing", rows.order_id, "There is no row that tells how the order stands.")
        return
    try:
        body = _read_state(rows.state)
    except msgspec.DecodeError as error:
        yield Violation("order_state_altered", rows.order_id, f"How the order stands cannot be read: {error}.")
        return
    if state is None or state.order is None:
        return
    legs = views.current_legs(state)
    placed = state.order
    expected = {
        "version": (rows.version, placed.events),
        "status": (rows.status, placed.status),
        "payment_status": (rows.payment_status, order.payment_status(legs)),
        "payments": (
            [(line.id, line.status, line.amount) for line in body.payments],
            [(leg.id, leg.status, leg.amount) for leg in legs],
        ),
        "tracking": (body.tracking, placed.tracking),
        "amendments": (body.amendments, placed.amendments),
        "ship_to": (body.ship_to, placed.ship_to),
    }
    for name, (found, wanted) in expected.items():
        if found != wanted:
            text = f"Its {name} is not what the saga has: {_short(found)}, not {_short(wanted)}."
            yield Violation("order_state_altered", rows.order_id, text)


def _short(value: object) -> str:
    """Plain words and numbers as they are; anything else may hold sealed data and is not shown."""
    return str(value) if isinstance(value, str | int | None) else "one value"


def _trail(rows: OrderRows, state: Checkout | None) -> Iterator[Violation]:
    """The audit trail has the entries 1 to as many as were told, each once."""
    count = state.order.events if state is not None and state.order is not None else rows.version
    last = count if count is not None else max(rows.entries, default=1)
    for n in sorted(set(range(1, last + 1)) - set(rows.entries)):
        yield Violation("order_event_missing", rows.order_id, f"Entry {n} of {last} of its audit trail is missing.")
    for n in sorted(set(rows.entries) - set(range(1, last + 1))):
        text = f"Entry {n} is in its audit trail, but only {last} were told."
        yield Violation("order_event_unexpected", rows.order_id, text)
