"""What tests ask of a payment gateway, and what they expect of it: one payment of ten dollars, unless said."""

from __future__ import annotations

from domain.payments import Accepted, Authorize, Capture, Declined, Refund, Retrieve, Retrieved, Void
from gateways.sandbox import Sandbox


def authorize(
    token: str = "pm_card_visa", key: str = "a", payment_id: str = "pay_1", amount_minor: int = 1000
) -> Authorize:
    return Authorize(payment_id, "chk_1", amount_minor, "USD", token, "card", key)


def capture(amount_minor: int = 1000, key: str = "c", payment_id: str = "pay_1") -> Capture:
    return Capture(payment_id, amount_minor, key)


def void(key: str = "v", payment_id: str = "pay_1") -> Void:
    return Void(payment_id, key)


def refund(amount_minor: int, key: str = "r") -> Refund:
    return Refund("pay_1", amount_minor, key)


async def retrieve(sandbox: Sandbox, payment_id: str = "pay_1") -> Retrieved:
    outcome = await sandbox.call(Retrieve(payment_id))
    assert isinstance(outcome, Retrieved)
    return outcome


async def listing(sandbox: Sandbox, payment_id: str = "pay_1") -> list[tuple[str, str]]:
    """The payment's entries as (type, status)."""
    return [(e.type, e.status) for e in await sandbox.entries() if e.payment_id == payment_id]


def ok(kind: str, n: int) -> Accepted:
    return Accepted(f"{kind}_1_{n}")


def no(code: str) -> Declined:
    return Declined(code, retryable=False)
