"""The saga's refusals: each business "no" by its name, and which of them are final.

Owns the texts and codes, and the two questions that come before most commands: is the checkout open, and is
it the version that the caller saw. Decides nothing about what happens next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import msgspec

from domain.catalog import Product
from domain.checkout_model import CheckoutReply, GaveWay, Reply
from domain.checkout_state import Checkout, Message, Payments, Wanted
from domain.messages import FieldError, Refusal
from domain.payment_leg import PaymentError
from domain.pricing import Pricing
from domain.stock_model import Shortage, account_of, sku_of

NOT_FOUND = Refusal("not_found", "There is no such checkout, or the credentials do not open it.")
NO_SUCH_PAYMENT = Refusal("not_found", "There is no such payment on this checkout.")
PAYMENT_NOT_PENDING = Refusal("payment_not_pending", "This payment awaits no action.")
IN_PROGRESS = Refusal("completion_in_progress", "A completion of this checkout is under way. Ask again shortly.")
BEING_CHANGED = Refusal("request_in_progress", "Another change of this checkout is under way. Ask again shortly.")
COMPLETED = Refusal("checkout_completed", "The checkout is completed; its order can be canceled instead.")
CANCELED = Refusal("checkout_canceled", "The checkout was canceled. Start a new one.")
EXPIRED = Refusal("reservation_expired", "The reservation has expired. Start a new checkout.")
STALE = Refusal("version_mismatch", "The checkout has changed since that version. Read it again.")
NOT_RECORDED = Refusal("internal_error", "The order could not be recorded. Nothing was charged.")
CART_EMPTY = Refusal(
    "cart_empty", "The cart has no lines.", (FieldError("$.cart_id", "missing", "Add items to the cart."),)
)
NO_LINES = Refusal(
    "validation_failed",
    "A checkout needs at least one line.",
    (FieldError("$.line_items", "missing", "Give at least one line, or cancel the checkout."),),
)

# Whoever gets one of these may ask again with the same key, and the question is judged anew.
_NOT_FINAL = frozenset({IN_PROGRESS.code, BEING_CHANGED.code, STALE.code})


def is_final(reply: Reply) -> bool:
    """Whether this is the one answer to its command, to be given again whenever the command is repeated."""
    if isinstance(reply, Refusal):
        return reply.code not in _NOT_FINAL
    if isinstance(reply, CheckoutReply):
        return reply.status != 202
    return not isinstance(reply, GaveWay)  # a successor asks until it may go on


def not_open(state: Checkout) -> Refusal | None:
    """Why the checkout can neither be changed nor completed now."""
    match state.phase:
        case "open":
            return None
        case "linking" | "replacing" | "holding" | "changing" | "trimming":
            return BEING_CHANGED
        case "pinning" | "paying" | "awaiting_buyer":
            return IN_PROGRESS
        case "unwinding":
            retried = state.undo is not None and state.undo.reason == "declined"
            return IN_PROGRESS if retried else ended(state)
        case "placed":
            return COMPLETED
        case "canceled" | "refused":
            return ended(state)
        case never:
            assert_never(never)


def ended(state: Checkout) -> Refusal:
    return EXPIRED if state.undo is not None and state.undo.reason == "expired" else CANCELED


def stale(state: Checkout, expected_version: int | None) -> Refusal | None:
    return STALE if expected_version is not None and expected_version != state.version else None


def not_ready(errors: list[FieldError]) -> Refusal:
    return Refusal("checkout_not_ready", "The checkout is not ready to be completed.", tuple(errors))


def no_such_option(pricing: Pricing) -> Refusal:
    offered = ", ".join(offer.id for offer in pricing.offers) or "none"
    error = FieldError("$.selected_shipping_option", "invalid", f"Choose one of those offered: {offered}.")
    return Refusal("validation_failed", "The shipping option is not offered for this checkout.", (error,))


def total_changed(total: int, expected: int) -> Refusal:
    text = f"The total is {total}, not {expected}. Show it to the buyer and ask again."
    return Refusal("total_changed", text, extra={"current_total": total})


def payment_failed(error: PaymentError | None) -> Refusal:
    error = error or PaymentError("card_declined", True)
    text = error.message or "The payment was declined. Try another payment method."
    entry = FieldError("$.payments", error.code, text, {"retryable": error.retryable})
    return Refusal("payment_failed", text, (entry,))


def why_ended(state: Checkout) -> Message:
    """What a reader is told of a checkout that is over without an order."""
    assert state.undo is not None, "what is over was undone"
    cause = state.undo.refusal or CANCELED
    kind, code, path = "error", "checkout_canceled", "$"
    match state.undo.reason:
        case "buyer":
            kind, text = "info", "The checkout was canceled as its buyer wanted."
        case "replaced":
            kind, text = "info", "Another checkout of the same cart took the place of this one."
        case "expired":
            code, text = EXPIRED.code, EXPIRED.detail
        case "payment" if cause.code == "payment_failed":
            code, path = cause.code, "$.payments"
            text = "Too many payments failed here, so the checkout was canceled. Start a new one."
        case _:
            code, text = cause.code, cause.detail
    return Message(kind, code, path, text, "unrecoverable")


def with_end(refusal: Refusal, state: Checkout) -> Refusal:
    """The answer to whoever waits for a checkout that is over: a failed payment cannot be tried again here."""
    if refusal.code != "payment_failed":
        return refusal
    text = why_ended(state).content
    failed = [msgspec.structs.replace(error, extra=error.extra | {"retryable": False}) for error in refusal.errors]
    ended = FieldError("$", CANCELED.code, text)
    return msgspec.structs.replace(refusal, detail=f"{refusal.detail} {text}", errors=(*failed, ended))


def no_such_method(index: int) -> Refusal:
    error = FieldError(f"$.payments[{index}].method", "invalid", "This shop does not take this method.")
    return Refusal("validation_failed", "A payment method is not available.", (error,))


def amount_mismatch(asked: Payments, total: int) -> Refusal | None:
    """The amounts must add up to the total, to the minor unit; one payment may take what is left."""
    amounts = [payment.amount for payment in asked.payments]
    given = sum([amount for amount in amounts if amount is not None])
    open_ended = amounts.count(None)
    problem = ""
    if any(amount is not None and amount <= 0 for amount in amounts):
        problem = "A payment must be of at least one minor unit."
    elif open_ended > 1:
        problem = "At most one payment may leave its amount out."
    elif open_ended and given >= total:
        problem = f"Nothing is left for the payment without an amount; the total is {total}."
    elif not open_ended and given != total:
        problem = f"The payments amount to {given}, the total is {total}."
    if not problem:
        return None
    error = FieldError("$.payments", "payment_amount_mismatch", problem)
    return Refusal("payment_amount_mismatch", problem, (error,), {"current_total": total})


def unpriced(wanted: tuple[Wanted, ...], products: Mapping[str, Product], currency: str) -> Refusal | None:
    """Some lines have no price in the checkout's currency."""
    text = f"Not sold in {currency}."
    errors = [
        FieldError(f"$.line_items[{i}].sku", "item_unavailable", text, {"sku": line.sku})
        for i, line in enumerate(wanted)
        if currency not in products[line.sku].prices
    ]
    if not errors:
        return None
    return Refusal("item_unavailable", f"Some items are not sold in {currency}.", tuple(errors))


def shortage(wanted: tuple[Wanted, ...], found: Shortage) -> Refusal:
    """Every short line; ``item_unavailable`` when some SKU does not exist at all."""
    index = {account_of(line.sku): i for i, line in enumerate(wanted)}
    errors = tuple(
        FieldError(
            f"$.line_items[{index.get(line.account, 0)}]" + (".quantity" if line.known else ".sku"),
            "out_of_stock" if line.known else "item_unavailable",
            f"Only {line.available} available." if line.known else "There is no such item.",
            {"sku": sku_of(line.account), "requested": line.requested, "available": line.available},
        )
        for line in found.lines
    )
    if not all(line.known for line in found.lines):
        return Refusal("item_unavailable", "Some items do not exist.", errors)
    return Refusal("out_of_stock", "There is not enough stock for this order.", errors)


def quantity_cut(sku: str, available: int, place: int | None) -> Message:
    """What a buyer who takes what there is should know; ``place``: where the line is now, None if it is left out."""
    code, text = "quantity_reduced", f"Only {available} of {sku} were available."
    if place is None:
        code, text = "out_of_stock", f"{sku} is out of stock and was left out."
    path = "$.line_items" if place is None else quantity_path(place)
    return Message("warning", code, path, text, "requires_buyer_review")


def quantity_path(place: int) -> str:
    """The quantity of the line at ``place``, counted from 0."""
    return f"$.line_items[{place}].quantity"
