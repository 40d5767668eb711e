"""What an audit looks for in money: the gateway's own book against the payments of our checkouts.

Owns the rules that tell whether a payment as the saga knows it and the same payment as the gateway wrote it
down can both be true at one instant. An intent is durable before its request leaves, an outcome after the
gateway has written it: so a settled payment agrees exactly, and one under way lags in known ways only. Reads
the book by itself rather than through the gateway's own rules, which it checks. Pure; called by
`persistence.audit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from domain import checkout_views as views
from domain.audit import Violation
from domain.checkout_state import Checkout
from domain.payment_leg import PaymentLeg


class Fact(NamedTuple):
    """One row of the book; amounts in minor units."""

    payment_id: str
    n: int
    type: str
    status: str
    amount_minor: int
    currency: str
    checkout_id: str


class Book(NamedTuple):
    """What the facts about one payment add up to; `state` in the words of a gateway's retrieve."""

    state: str = "none"
    authorized: int = 0
    captures: int = 0
    captured: int = 0
    refunded: int = 0
    voided: bool = False
    currency: str = ""
    checkout_id: str = ""
    missing: tuple[int, ...] = ()


# How the gateway may have a payment that is settled with us.
_SETTLED: Final = {
    "pending": frozenset({"none"}),
    "unknown": frozenset({"none", "declined"}),
    "requires_action": frozenset({"requires_action", "authorized", "declined"}),
    "authorized": frozenset({"authorized"}),
    "captured": frozenset({"captured"}),
    "refunded": frozenset({"refunded"}),
    "voided": frozenset({"voided", "declined", "none"}),
    "declined": frozenset({"declined", "voided", "none", "refunded"}),
}
# And how one that we have just asked something of: as before, or as asked.
_UNDER_WAY: Final = {
    "authorize": frozenset({"none", "declined", "requires_action", "authorized"}),
    "capture": frozenset({"authorized", "captured"}),
    "void": frozenset({"none", "declined", "requires_action", "authorized", "voided"}),
    "refund": frozenset({"captured", "refunded"}),
}


def add_up(facts: Sequence[Fact]) -> Book:
    """The book on one payment. The facts come in the order of their `n`."""
    authorized = captures = captured = refunded = 0
    waiting = declined = voided = False
    for fact in facts:
        match fact.type, fact.status:
            case "authorization" | "resolution", "succeeded":
                authorized, waiting = fact.amount_minor, False
            case "authorization", "requires_action":
                waiting = True
            case "resolution", "declined":
                waiting, declined = False, True
            case "authorization", "declined":
                declined = True
            case "capture", "succeeded":
                captures += 1
                captured += fact.amount_minor
            case "void", "succeeded":
                voided = True
            case "refund", "succeeded":
                refunded += fact.amount_minor
            case _:
                pass  # what was refused moved nothing
    numbers = {fact.n for fact in facts}
    return Book(
        _state(authorized, captured, refunded, voided=voided, waiting=waiting, declined=declined),
        authorized,
        captures,
        captured,
        refunded,
        voided,
        next((fact.currency for fact in facts if fact.currency), ""),
        next((fact.checkout_id for fact in facts if fact.checkout_id), ""),
        tuple(sorted(set(range(1, max(numbers, default=0) + 1)) - numbers)),
    )


def _state(authorized: int, captured: int, refunded: int, *, voided: bool, waiting: bool, declined: bool) -> str:
    if captured:
        return "captured" if refunded < captured else "refunded"
    if voided:
        return "voided"
    if authorized:
        return "authorized"
    if waiting:
        return "requires_action"
    return "declined" if declined else "none"


def book_violations(payment_id: str, book: Book) -> Iterator[Violation]:
    """What cannot stand in any gateway's book, whatever we know of the payment."""
    sums = f"authorized {book.authorized}, captured {book.captured}, refunded {book.refunded} {book.currency}"
    if book.captures > 1:
        yield Violation("captured_twice", payment_id, f"There are {book.captures} captures: {sums}.")
    elif book.captured > book.authorized:
        yield Violation("captured_too_much", payment_id, f"More was captured than authorized: {sums}.")
    if book.refunded > book.captured:
        yield Violation("refunded_too_much", payment_id, f"More was refunded than captured: {sums}.")
    if book.voided and book.captured:
        yield Violation("captured_though_voided", payment_id, f"It was voided and captured: {sums}.")
    if book.missing:
        gaps = ", ".join(map(str, book.missing))
        yield Violation("book_entry_missing", payment_id, f"The gateway's book lacks its entries {gaps}.")


def leg_violations(state: Checkout, leg: PaymentLeg, book: Book) -> Iterator[Violation]:
    """One payment of a checkout against the gateway's book."""
    possible = _SETTLED[leg.status] if leg.settled else _UNDER_WAY[leg.intent]
    if leg.intent == "void" and state.order is not None and state.order.status == "canceled":
        # A capture asked for before the order was canceled may have arrived first: the void finds it, and refunds.
        possible |= {"captured"}
    if book.state not in possible:
        text = f"It is {_said(leg)} for {state.id}, but {book.state} in the gateway's book."
        yield Violation(_code(leg, book), leg.id, text)
    if book.state in ("authorized", "captured", "refunded"):
        wrong = {book.authorized, book.captured or leg.amount, book.refunded or leg.amount} - {leg.amount}
        if wrong and book.captures <= 1:
            text = f"It is of {leg.amount} {state.currency}, in the gateway's book of {max(wrong)}."
            yield Violation("payment_amount_mismatch", leg.id, text)
        if book.currency != state.currency:
            text = f"It is in {state.currency}, in the gateway's book in {book.currency}."
            yield Violation("payment_currency_mismatch", leg.id, text)
        if book.checkout_id != state.id:
            text = f"It is of {state.id}, in the gateway's book of {book.checkout_id}."
            yield Violation("payment_checkout_mismatch", leg.id, text)


def _said(leg: PaymentLeg) -> str:
    return leg.status if leg.settled else f"{leg.status} ({leg.intent} under way)"


def _code(leg: PaymentLeg, book: Book) -> str:
    match book.state:
        case "authorized" | "requires_action" if leg.status in ("voided", "declined"):
            return "authorization_open"
        case "captured" if leg.status == "refunded":
            return "refund_missing"
        case "captured":
            return "capture_unexpected"
        case "authorized" if leg.status in ("captured", "refunded"):
            return "capture_missing"
        case "none" | "declined" | "voided" if leg.status == "authorized":
            return "authorization_missing"
        case "none" | "declined" | "voided" if leg.status in ("captured", "refunded"):
            return "capture_missing"
        case _:
            return "payment_mismatch"


def settlement_violations(state: Checkout, *, late: bool, confirmed_late: bool) -> Iterator[Violation]:
    """Money that should have moved by now. `late` is about the checkout, `confirmed_late` about its order."""
    legs = views.current_legs(state)
    placed = state.order
    if placed is not None and placed.status in ("confirmed", "shipped", "delivered") and confirmed_late:
        for leg in legs:
            if leg.status != "captured":
                text = f"{placed.id} is {placed.status}, but this payment is {_said(leg)}."
                yield Violation("order_not_captured", leg.id, text)
    ended = state.phase in ("canceled", "refused") or (placed is not None and placed.status == "canceled")
    if ended and late:
        for leg in state.legs:
            if leg.status in ("authorized", "captured", "requires_action", "unknown"):
                text = f"{state.id} has ended without an order in force, but this payment is {_said(leg)}."
                yield Violation("money_not_returned", leg.id, text)
