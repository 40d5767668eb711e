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

LegStatus = Literal["pending", "authorized", "captured", "voided", "refunded", "declined", "requires_action", "unknown"]
Intent = Literal["none", "authorize", "capture", "void", "refund"]


RESENDS = 1  # how often an authorization without an answer is sent again before it is given up

_replace = msgspec.structs.replace


class PaymentError(msgspec.Struct, frozen=True, array_like=True, gc=False):
    code: str
    retryable: bool
    message: str = ""


class PaymentLeg(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``amount`` in minor units. ``doubt``: what the last call did is not known, so ask before anything else.

    ``refused``: a capture, void or refund was refused; if the gateway's books agree, it is so for good.
    ``keyed_at_ms``: when the present idempotency key came to be.
    """

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
    refused: bool = False
    keyed_at_ms: int = 0

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
    return _replace(leg, intent=intent, doubt=False, tries=0, refused=False)


def keyed(before: tuple[PaymentLeg, ...], legs: tuple[PaymentLeg, ...], now_ms: int) -> tuple[PaymentLeg, ...]:
    """``legs`` with the time noted at which those got their idempotency keys that have new ones."""
    return tuple(
        [
            leg if i < len(before) and _same_key(leg, before[i]) else _replace(leg, keyed_at_ms=now_ms)
            for i, leg in enumerate(legs)
        ]
    )


def _same_key(leg: PaymentLeg, before: PaymentLeg) -> bool:
    return leg is before or (leg.intent == before.intent and leg.tries == before.tries)


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
            return None if leg.doubt or leg.settled else _doubtful(leg)
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
    return _replace(leg, status=status, doubt=True)


def _settle(leg: PaymentLeg, status: LegStatus, reference: str = "") -> PaymentLeg:
    return _replace(
        leg, status=status, intent="none", doubt=False, reference=reference or leg.reference, next_action=None
    )


def _accepted(leg: PaymentLeg, reference: str) -> PaymentLeg:
    match leg.intent:
        case "authorize":
            return _authorized(leg, reference)
        case "capture":
            return _settle(leg, "captured")
        case "void":
            # A void that clears up after silence ends a payment that never was.
            return _settle(leg, "declined" if leg.status == "unknown" else "voided")
        case "refund":
            return _settle(leg, "refunded")
        case "none":
            return leg
        case never:
            assert_never(never)


def _authorized(leg: PaymentLeg, reference: str) -> PaymentLeg:
    return _replace(_settle(leg, "authorized", reference), error=None)


def _declined(leg: PaymentLeg, error: PaymentError) -> PaymentLeg:
    match leg.intent:
        case "authorize" | "none":
            return _replace(_settle(leg, "declined"), error=error)
        case "capture" | "void" | "refund":
            # It may have been done already, by a request whose answer was lost: the gateway's books tell.
            return _replace(leg, doubt=True, refused=True, error=leg.error or error)
        case never:
            assert_never(never)


def _needs_buyer(leg: PaymentLeg, reference: str, next_action: dict[str, Any]) -> PaymentLeg:
    return _replace(
        leg,
        status="requires_action",
        intent="none",
        doubt=False,
        reference=reference,
        next_action=next_action,
    )


def _again(leg: PaymentLeg) -> PaymentLeg:
    """What was in doubt definitely did not happen: send it again under a new key."""
    return _replace(leg, doubt=False, tries=leg.tries + 1)


def _retrieved(leg: PaymentLeg, found: payments.Retrieved) -> PaymentLeg | None:
    if found.state == "processing":
        return None
    match leg.intent:
        case "authorize" | "none":
            return _retrieved_authorization(leg, found)
        case "capture":
            return _retrieved_capture(leg, found)
        case "void":
            return _retrieved_void(leg, found)
        case "refund":
            return _retrieved_refund(leg, found)
        case never:
            assert_never(never)


def _retrieved_authorization(leg: PaymentLeg, found: payments.Retrieved) -> PaymentLeg | None:
    match found.state:
        case "authorized" | "captured":
            return _authorized(leg, found.reference)
        case "requires_action" | "none" if leg.status == "requires_action":
            return None  # the buyer has not acted
        case "requires_action":
            return _needs_buyer(leg, found.reference, found.next_action or {})
        case "declined" | "voided" | "refunded":
            error = PaymentError(found.decline_code or "card_declined", found.retryable)
            return _replace(_settle(leg, "declined"), error=error)
        case "none" if leg.resent < RESENDS:
            # Under the same key it can happen once at most, whether or not the first is still on its way.
            return _replace(leg, doubt=False, resent=leg.resent + 1)
        case "none":
            # Nothing is there now, but the request may still be on its way: void first, so that it
            # finds a tombstone when it comes; only then tell the buyer that nothing happened.
            text = "The payment service gave no answer; nothing was charged."
            return _replace(intend(leg, "void"), error=PaymentError("processing_error", True, text))
        case "processing":
            return None
        case never:
            assert_never(never)


def _retrieved_capture(leg: PaymentLeg, found: payments.Retrieved) -> PaymentLeg:
    match found.state:
        case "captured":
            return _replace(_settle(leg, "captured"), error=None)
        case "refunded":
            return _settle(leg, "refunded")
        case "voided" | "declined" | "none":
            error = leg.error or PaymentError("authorization_lapsed", False)
            return _replace(_settle(leg, "voided"), error=error)
        case _:
            return _settle(leg, "authorized") if leg.refused else _again(leg)


def _retrieved_void(leg: PaymentLeg, found: payments.Retrieved) -> PaymentLeg:
    match found.state:
        case "voided" | "declined":
            return _accepted(leg, "")
        case "captured":
            # Too late to void: a capture got in before. The money goes back all the same.
            return _replace(intend(leg, "refund"), status="captured")
        case "refunded":
            return _settle(leg, "refunded")
        case _ if not leg.refused:
            return _again(leg)
        case "none":
            return _accepted(leg, "")
        case _:
            # The gateway will not let go of it. Nothing will be captured, so it lapses by itself.
            return _settle(leg, "authorized" if found.state == "authorized" else "voided")


def _retrieved_refund(leg: PaymentLeg, found: payments.Retrieved) -> PaymentLeg:
    match found.state:
        case "refunded":
            return _settle(leg, "refunded")
        case "captured" if found.refunded_minor >= leg.amount:
            return _settle(leg, "refunded")
        case "captured":
            # Refused for good is a matter for people: it stays captured, and the audit names it.
            return _settle(leg, "captured") if leg.refused else _again(leg)
        case "authorized" | "requires_action":
            return _replace(intend(leg, "void"), status="authorized")
        case _:
            return _settle(leg, "voided")
