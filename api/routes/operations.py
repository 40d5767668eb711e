"""The shop's tables, its orders from the operators' side, and the audit.

Owns no rule. Promises that every change of an order names its operator in the audit trail. Mounted by
`api/app.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api import order_answers as answers
from api import render
from api.auth import OPERATOR_REFUSALS, Operator
from api.context import context_of
from api.dispatch import intent_of, parse, require_id
from api.openapi import operation
from api.personal import seal_text
from api.schemas import orders as schemas
from api.schemas.common import Cursor, Limit, NoFields
from api.schemas.operations import Audit
from api.schemas.tables import PutShipping, PutTax
from domain.checkout_model import DeliverOrder, PutRules, ReviewOrder, ShipOrder
from domain.order import OrderView

router = APIRouter(tags=["Operators"], default_response_class=Response)

Status = Annotated[
    Literal["pending", "confirmed", "shipped", "delivered", "canceled"] | None,
    Query(description="Only orders that stand so."),
]
_ORDER = (*OPERATOR_REFUSALS, "not_found", "invalid_order_status")


@router.put("/v1/ops/shipping", **operation(answers={200: PutShipping}, refusals=OPERATOR_REFUSALS, body=PutShipping))
async def put_shipping(request: Request, caller: Operator) -> Response:
    """Replace the shipping table. Without one, everything ships everywhere for nothing."""
    body = parse(request, PutShipping)
    intent = intent_of(request, caller)
    await context_of(request).engine.put_rules(PutRules(command_id=intent.command_id, shipping=body.to_table()))
    return render.answer(body.model_dump())


@router.put("/v1/ops/tax", **operation(answers={200: PutTax}, refusals=OPERATOR_REFUSALS, body=PutTax))
async def put_tax(request: Request, caller: Operator) -> Response:
    """Replace the tax table. Without one, tax is 0."""
    body = parse(request, PutTax)
    intent = intent_of(request, caller)
    await context_of(request).engine.put_rules(PutRules(command_id=intent.command_id, tax=body.to_table()))
    return render.answer(body.model_dump())


@router.get("/v1/ops/orders", **operation(answers={200: schemas.OrderPage}, refusals=OPERATOR_REFUSALS))
async def list_orders(
    request: Request, caller: Operator, limit: Limit = 20, cursor: Cursor = None, status: Status = None
) -> Response:
    """The shop's orders, newest first."""
    context = context_of(request)

    async def fetch(before: str | None, count: int) -> list[OrderView]:
        return await context.orders.page(before, count, status)

    return await answers.page(context, fetch, cursor, limit)


@router.post(
    "/v1/ops/orders/{order_id}/ship",
    **operation(
        answers={200: schemas.Order},
        refusals=(*_ORDER, "request_in_progress"),
        body=schemas.ShipOrder,
        key="honoured",
    ),
)
async def ship_order(request: Request, caller: Operator, order_id: str) -> Response:
    """The parcel is on its way. Its payment must be captured: within seconds of confirmation it is."""
    intent = intent_of(request, caller)
    body = parse(request, schemas.ShipOrder)
    return await answers.change(
        request,
        ShipOrder(
            command_id=intent.command_id,
            fingerprint=intent.fingerprint,
            checkout_id=require_id("ord", order_id),
            carrier=body.carrier,
            tracking_number=body.tracking_number,
            actor=answers.actor_of(caller),
        ),
    )


@router.post(
    "/v1/ops/orders/{order_id}/deliver",
    **operation(answers={200: schemas.Order}, refusals=_ORDER, body=NoFields, key="honoured"),
)
async def deliver_order(request: Request, caller: Operator, order_id: str) -> Response:
    """The parcel has arrived."""
    intent = intent_of(request, caller)
    parse(request, NoFields)
    return await answers.change(
        request,
        DeliverOrder(
            command_id=intent.command_id,
            fingerprint=intent.fingerprint,
            checkout_id=require_id("ord", order_id),
            actor=answers.actor_of(caller),
        ),
    )


@router.post(
    "/v1/ops/orders/{order_id}/review",
    **operation(
        answers={200: schemas.Order, 202: schemas.Order},
        refusals=_ORDER,
        body=schemas.ReviewOrder,
        key="honoured",
        waits=True,
    ),
)
async def review_order(request: Request, caller: Operator, order_id: str) -> Response:
    """Decide on a pending order: approved it is confirmed and captured, denied it is canceled."""
    context = context_of(request)
    intent = intent_of(request, caller)
    body = parse(request, schemas.ReviewOrder)
    view = await answers.find(context, caller, order_id)
    return await answers.change(
        request,
        ReviewOrder(
            command_id=intent.command_id,
            fingerprint=intent.fingerprint,
            checkout_id=order_id,
            approve=body.decision == "approve",
            reason=seal_text(await context.key_ring.key(view.owner), body.reason),
            actor=answers.actor_of(caller),
        ),
    )


@router.get("/v1/ops/audit", **operation(answers={200: Audit}, refusals=OPERATOR_REFUSALS))
async def audit(request: Request, caller: Operator) -> Response:
    """Check the invariants on the live system, against the database and the gateway's own book."""
    return render.answer(await context_of(request).engine.audit())
