"""Bodies and answers of what operators watch and steer: the sandbox gateway, its ledger, the audit."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from api.schemas.common import Body, Resource, rule

MAX_LATENCY_MS = 600_000

_LATENCY = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


def _latency(value: Any) -> Any:
    if type(value) is int and value >= 0:
        value = str(value)
    match = _LATENCY.fullmatch(value) if isinstance(value, str) else None
    if match is None or not int(match[1]) <= int(match[2] or match[1]) <= MAX_LATENCY_MS:
        raise rule("invalid", "Must be milliseconds, one number or LOW-HIGH, such as 1000-3000.")
    return value


class SetSandbox(Body):
    """How the sandbox gateway behaves from now on; what is left out stays."""

    mode: Literal["up", "down", "error"] | None = None
    latency_ms: Annotated[str, BeforeValidator(_latency), Field(examples=["1000-3000"])] | None = None


class ResolvePayment(Body):
    """What the buyer did in the 3-D Secure or redirect step."""

    outcome: Literal["succeed", "fail"]


class SandboxState(Resource):
    """How the sandbox gateway behaves."""

    mode: Literal["up", "down", "error"]
    latency_ms: str


class LedgerEntry(Resource):
    """One fact in the gateway's own book."""

    id: str
    type: Literal["authorization", "capture", "void", "refund"]
    status: Literal["succeeded", "declined", "requires_action"]
    authorization_id: str | None = None
    payment_id: str
    checkout_id: str
    amount: int
    currency: str
    idempotency_key: str | None = None
    token: str
    created_at: str


class LedgerPage(Resource):
    """A page of the book, oldest first."""

    data: list[LedgerEntry]
    next_cursor: str | None = None


class Checked(Resource):
    """How much the audit looked at."""

    accounts: int
    payments: int
    orders: int
    journal_records: int


class Violation(Resource):
    """One thing that must not be."""

    code: str
    subject: str
    detail: str


class Audit(Resource):
    """What the audit found."""

    consistent: bool
    checked: Checked
    violations: list[Violation]
