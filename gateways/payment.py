"""The payment port: what every payment gateway must do for the saga, and the deadline put around each call.

Owns the Protocol only; Stripe, PayPal and the sandbox implement it. A gateway is told a request and answers
with an `Outcome`. It promises that what can go wrong at a gateway (declines, silence, resets, rate limits) is
a value; an exception out of `call` is a bug. It never retries by itself: only the caller knows which repeat
is safe. Called by the checkout coordinator, never inside a database transaction.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from domain.payments import GatewayRequest, Outcome, Unknown


class PaymentGateway(Protocol):
    """Answers, by request:

    - Authorize: Accepted, Declined, ActionRequired, Unknown or NotNow.
    - Capture, Void, Refund: Accepted, Declined, Unknown or NotNow.
    - Retrieve: Retrieved, Unknown or NotNow.

    The same idempotency key with the same request gets the first outcome again and has no second effect; with
    another request, `Declined("idempotency_key_reused")`. Cancelling a call does not undo what it has sent.
    """

    @property
    def name(self) -> str:
        """Stored with a payment to find its gateway again, so it never changes: `sandbox`, `stripe`, …"""
        ...

    async def call(self, request: GatewayRequest) -> Outcome: ...


class _Deadline:
    def __init__(self, gateway: PaymentGateway, timeout_s: float) -> None:
        self._gateway = gateway
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        return self._gateway.name

    async def call(self, request: GatewayRequest) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._gateway.call(request)
        except TimeoutError:
            # The request is out: silence says nothing about whether it took effect.
            return Unknown(reason="no_answer")


def with_deadline(gateway: PaymentGateway, timeout_s: float) -> PaymentGateway:
    """The same gateway, whose silence for `timeout_s` seconds becomes `Unknown("no_answer")`."""
    return _Deadline(gateway, timeout_s)
