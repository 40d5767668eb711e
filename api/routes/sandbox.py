"""The sandbox gateway's controls and its book, where it is in use.

Owns nothing. Mounted by `api/app.py` in development; elsewhere these paths do not exist.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import render
from api.auth import OPERATOR_REFUSALS, Operator
from api.context import context_of
from api.dispatch import number_cursor, parse
from api.errors import Problem
from api.openapi import operation
from api.schemas import operations as schemas
from api.schemas.common import Cursor, Limit
from api.schemas.outcomes import ResolvedPayment
from cluster.engine_types import ReadBook, ResolvePayment, SetSandbox
from domain.payments import BookEntry, Declined, Retrieved
from gateways.sandbox import SandboxSettings

router = APIRouter(tags=["Sandbox"], default_response_class=Response)


@router.put(
    "/v1/ops/sandbox",
    **operation(answers={200: schemas.SandboxState}, refusals=OPERATOR_REFUSALS, body=schemas.SetSandbox),
)
async def set_sandbox(request: Request, caller: Operator) -> Response:
    """Change how the sandbox gateway behaves from now on: its mode, its latency, or both."""
    body = parse(request, schemas.SetSandbox)
    state: SandboxSettings = await context_of(request).engine.sandbox(SetSandbox(body.mode, body.latency_ms))
    return render.answer({"mode": state.mode, "latency_ms": state.latency_ms})


@router.post(
    "/v1/ops/sandbox/payments/{payment_id}/resolve",
    **operation(
        answers={200: ResolvedPayment},
        refusals=(*OPERATOR_REFUSALS, "not_found", "payment_not_pending"),
        body=schemas.ResolvePayment,
    ),
)
async def resolve_payment(request: Request, caller: Operator, payment_id: str) -> Response:
    """Stand for the buyer's 3-D Secure or redirect step."""
    body = parse(request, schemas.ResolvePayment)
    outcome = await context_of(request).engine.sandbox(ResolvePayment(payment_id, body.outcome))
    match outcome:
        case Retrieved():
            return render.answer({"payment_id": payment_id, "status": outcome.state})
        case Declined(code="not_found"):
            raise Problem("not_found", "The sandbox knows no such payment.")
        case Declined():
            raise Problem("payment_not_pending", "This payment awaits no step of its buyer.")
        case _:
            raise Problem("busy", "The sandbox cannot say; ask again.")


@router.get("/v1/ops/sandbox/ledger", **operation(answers={200: schemas.LedgerPage}, refusals=OPERATOR_REFUSALS))
async def read_ledger(request: Request, caller: Operator, limit: Limit = 20, cursor: Cursor = None) -> Response:
    """The gateway's own book, oldest first."""
    book = ReadBook(number_cursor(cursor, most_digits=18), limit + 1)
    entries: list[BookEntry] = await context_of(request).engine.sandbox(book)
    shown = entries[:limit]
    next_cursor = str(shown[-1].seq) if len(entries) > limit else None
    data = [render.ledger_entry(entry) for entry in shown]
    return render.answer({"data": data, "next_cursor": next_cursor})
