"""What is asked of a payment gateway, what it can answer, and the rows of the sandbox gateway's book.

Owns the vocabulary that the saga, the gateways and the sandbox's store share; it decides nothing.
Promises that every answer is one of six values, so that a caller can end its `match` with `assert_never`.
Amounts are integer minor units. No card number, name or address is ever a field here: `token` stands for
the buyer's method. Frozen, array-like and tagged: fit for journals and for the way between actors.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Authorize(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Reserve `amount_minor` on the buyer's method; nothing is taken yet."""

    payment_id: str
    checkout_id: str
    amount_minor: int
    currency: str
    token: str
    method: str
    idempotency_key: str


class Capture(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Take up to the authorized amount, once; the rest of the authorization is released."""

    payment_id: str
    amount_minor: int
    idempotency_key: str


class Void(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Give up a payment that is not captured, seen or unseen: a later authorize of it is declined."""

    payment_id: str
    idempotency_key: str


class Refund(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Give back part or all of what was captured."""

    payment_id: str
    amount_minor: int
    idempotency_key: str


class Retrieve(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Ask how a payment stands; how an unknown outcome is made known."""

    payment_id: str


GatewayRequest = Authorize | Capture | Void | Refund | Retrieve


class Accepted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Done as asked (a void: voided, or nothing to void). `reference` is the gateway's own id."""

    reference: str


class Declined(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Refused for good, nothing moved. `retryable`: a new attempt with the same method may succeed."""

    code: str
    retryable: bool
    message: str = ""


class ActionRequired(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """The buyer must act (3-D Secure, redirect) before the authorization is decided."""

    reference: str
    next_action: dict[str, Any]


class Unknown(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """No answer, a reset or a 5xx: it may or may not have happened. Never to be taken for declined."""

    reason: str


class NotNow(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Rate limit or conflict: surely nothing happened; the same request may be sent again."""

    retry_after_ms: int
    reason: str


PaymentState = Literal[
    "none", "processing", "requires_action", "authorized", "captured", "voided", "declined", "refunded"
]


class Retrieved(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """How a payment stands. `none`: never seen. `processing`: an authorize is under way.

    `refunded` means all of it; after a partial refund the state stays `captured` with `refunded_minor` > 0.
    """

    state: PaymentState
    reference: str = ""
    authorized_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    decline_code: str = ""
    retryable: bool = False
    next_action: dict[str, Any] | None = None


Outcome = Accepted | Declined | ActionRequired | Unknown | NotNow | Retrieved

EntryType = Literal["authorization", "capture", "void", "refund", "resolution", "fault"]
EntryStatus = Literal["succeeded", "declined", "requires_action"]


class BookEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of the sandbox gateway's book: the `n`-th fact about its payment, from 1, never changed.

    `resolution` (the buyer's step was taken) and `fault` (an error was served) are the book's own notes: a
    listing leaves them out, and shows an authorization with the status and code of its resolution.
    """

    payment_id: str
    n: int
    id: str
    type: EntryType
    status: EntryStatus
    code: str
    authorization_id: str | None
    checkout_id: str
    amount_minor: int
    currency: str
    token: str
    idempotency_key: str | None
    fingerprint: bytes
    """Digest of the whole request, to tell a repeated key from a reused one; empty without a key."""
    created_at_ms: int
    seq: int = 0
    """Place in the whole book, given by the store; 0 before it is stored."""
