"""One payment of a checkout: what is intended with it, and what its gateway has said so far.

Owns the rule that matters most where money is concerned: an outcome is accepted, declined or unknown, and
*unknown is never taken for declined*. A doubtful leg is resolved by retrieving what the gateway has, never
by sending something else. An idempotency key is (payment, intent, try); the try rises only after a definite
outcome. Pure: `request` says what to send, `after` what an answer means.
"""

from __future__ import annotations

from typing import Any, Literal, assert_never

import msgspec

from domain import payments
from domain.payments import GatewayRequest, Outcome

LegStatus = Literal[
    "pending", "authorized", "captured", "voided", "refunded", "declined", "requires_action", "unknown"
]
Intent = Literal["none", "authorize", "capture", "void", "refund"]


RESENDS = 1  # how often an authorization without an answer is sent again before it is given up


class PaymentError(msgspec.Struct, frozen=True, array_like=True):
    code: str
    retryable: bool
    message: str = ""


class PaymentLeg(msgspec.Struct, frozen=True, array_like=True):
    """``amount`` in minor units. ``doubt``: the last call's outcome is unknown, so ask before anything else."""

    id: str
    method: str
    gateway: str
    token: str
    amount: int
    status: LegStatus = "pending"
    intent: Intent = "authorize"
    doubt: bool = False
    tries: int = 0
    resent: int = 0
    reference: str = ""
    error: PaymentError | None = None
    next_action: dict[str, Any] | None = None

    @property
    def settled(self) -> bool:
        """Nothing is under way and nothing is to be done."""
        return self.intent == "none"

    @property
    def holds_money(self) -> bool:
        """The gateway has, or may have, something of the buyer's that an unwinding must give back."""
        return self.status in ("authorized", "requires_action", "unknown")


def intend(leg: PaymentLeg, intent: Intent) -> PaymentLeg:
    """The leg with a new thing to do; the try counter starts anew because the intent is part of the key."""
    return msgspec.structs.replace(leg, intent=intent, doubt=False, tries=0)


def request(leg: PaymentLeg, checkout_id: str, currency: str) -> GatewayRequest | None:
    """The next thing to send to the leg's gateway; None when the leg is settled."""
    if leg.doubt:
        return payments.Retrieve(leg.id)
    key = f"{leg.id}:{leg.intent}:{leg.tries}"
    match leg.intent:
        case "none":
            return None
        case "authorize":
            return payments.Authorize(
                payment_id=leg.id,
                checkout_id=checkout_id,
                amount_minor=leg.amount,
                currency=currency,
                token=leg.token,
                method=leg.method,
                idempotency_key=key,
            )
        case "capture":
            return payments.Capture(payment_id=leg.id, amount_minor=leg.amount, idempotency_key=key)
        case "void":
            return payments.Void(payment_id=leg.id, idempotency_key=key)
        case "refund":
            return payments.Refund(payment_id=leg.id, amount_minor=leg.amount, idempotency_key=key)
        case never:
            assert_never(never)


def after(leg: PaymentLeg, outcome: Outcome) -> PaymentLeg | None:
    """The leg after an answer; None when the answer changes nothing and the question must be put again."""
    match outcome:
        case payments.NotNow():
            return None
        case payments.Unknown():
            return None if leg.doubt else _doubtful(leg)
        case payments.Accepted():
            return _accepted(leg, outcome.reference)
        case payments.Declined():
            return _declined(leg, PaymentError(outcome.code, outcome.retryable, outcome.message))
        case payments.ActionRequired():
            return _needs_buyer(leg, outcome.reference, outcome.next_action)
        case payments.Retrieved():
            return _retrieved(leg, outcome)
        case never:
            assert_never(never)


def _doubtful(leg: PaymentLeg) -> PaymentLeg:
    # Only an authorization's outcome is the buyer's business; doubt about a capture keeps "authorized".
    status: LegStatus = "unknown" if leg.intent == "authorize" else leg.status
    return msgspec.structs.replace(leg, status=status, doubt=True)


def _settle(leg: PaymentLeg, status: LegStatus, reference: str = "") -> PaymentLeg:
    return msgspec.structs.replace(
        leg, status=status, intent="none", doubt=False, reference=reference or leg.reference, next_action=None
    )


def _accepted(leg: PaymentLeg, reference: str) -> PaymentLeg:
    match leg.intent:
        case "authorize":
            return msgspec.structs.replace(_settle(leg, "authorized", reference), error=None)
        case "capture":
            return _settle(leg, "captured")
        case "void":
            # A void that clears up after an error ends a payment that never was.
            return _settle(leg, "declined" if leg.error is not None else "voided")
        case "refund":
            return _settle(leg, "refunded")
        case "none":
            return leg
        case never:
            assert_never(never)


def _declined(leg: PaymentLeg, error: PaymentError) -> PaymentLeg:
    status: LegStatus = "declined" if leg.intent in ("authorize", "none") else leg.status
    return msgspec.structs.replace(_settle(leg, status), error=error)


def _needs_buyer(leg: PaymentLeg, reference: str, next_action: dict[str, Any]) -> PaymentLeg:
    return msgspec.structs.replace(
        leg,
        status="requires_action",
        intent="none",
        doubt=False,
        reference=reference,
        next_action=next_action,
    )


def _again(leg: PaymentLeg) -> PaymentLeg:
    """What was in doubt definitely did not happen: send it again under a new key."""
    return msgspec.structs.replace(leg, doubt=False, tries=leg.tries + 1)


def _retrieved(leg: PaymentLeg, found: payments.Retrieved) -> PaymentLeg | None:
    if found.state == "processing":
        return None
    match leg.intent:
        case "authorize" | "none":
            return _retrieved_authorization(leg, found)
        case "capture":
            if found.state == "captured" or found.captured_minor >= leg.amount:
                return _settle(leg, "captured")
            if found.state in ("voided", "declined", "none"):
                return _declined(leg, PaymentError("authorization_lapsed", False))
            return _again(leg)
        case "void":
            return _accepted(leg, "") if found.state in ("voided", "declined") else _again(leg)
        case "refund":
            return _settle(leg, "refunded") if found.refunded_minor >= leg.amount else _again(leg)
        case never:
            assert_never(never)


def _retrieved_authorization(leg: PaymentLeg, found: payments.Retrieved) -> PaymentLeg | None:
    match found.state:
        case "authorized" | "captured" | "refunded":
            return msgspec.structs.replace(_settle(leg, "authorized", found.reference), error=None)
        case "requires_action":
            if leg.status == "requires_action":
                return None
            return _needs_buyer(leg, found.reference, found.next_action or {})
        case "declined" | "voided":
            return _declined(leg, PaymentError(found.decline_code or "card_declined", found.retryable))
        case "none" if leg.resent < RESENDS:
            # Under the same key it can happen once at most, whether or not the first is still on its way.
            return msgspec.structs.replace(leg, doubt=False, resent=leg.resent + 1)
        case "none":
            # Nothing is there now, but the request may still be on its way: void first, so that it
            # finds a tombstone when it comes; only then tell the buyer that nothing happened.
            error = PaymentError(
                "processing_error", True, "The payment service gave no answer; nothing was charged."
            )
            return msgspec.structs.replace(leg, intent="void", doubt=False, tries=0, error=error)
        case "processing":
            return None
        case never:
            assert_never(never)
