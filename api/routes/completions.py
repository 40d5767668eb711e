"""From a checkout to an order: complete, confirm, and start and complete in one.

Owns the HTTP side of payment. Promises that a 200 with an order is told only when the engine says so, that
what takes longer than the caller waits is a 202 and never a failure, and that one key never pays twice.
Money is the engine's. Mounted by `api/app.py`.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import checkout_answers as answers
from api import checkout_forms as forms
from api.auth import Caller, identify
from api.context import context_of
from api.direct_route import DirectRoute
from api.dispatch import (
    accepted,
    expected_version,
    intent_of,
    maker_of,
    parse,
    require_id,
    wait_s,
)
from api.openapi import operation
from api.routes.checkouts import CART_REFUSALS, carry_out, start_command
from api.schemas import checkouts as schemas
from api.schemas.common import NoFields
from api.schemas.orders import Completion
from cluster.engine_types import Answer
from domain.checkout_model import Complete, ConfirmPayment, Read
from domain.messages import Refusal

router = APIRouter(tags=["Checkouts"], default_response_class=Response, route_class=DirectRoute)

_REFUSALS = (
    "payment_failed",
    "not_found",
    "checkout_not_ready",
    "checkout_canceled",
    "completion_in_progress",
    "reservation_expired",
    "total_changed",
    "fraud_denied",
    "payment_amount_mismatch",
)
_ANSWERS: dict[int, Any] = {200: Completion, 202: Completion}


@router.post(
    "/v1/express-checkouts",
    **operation(
        answers=_ANSWERS,
        refusals=(*_REFUSALS, *CART_REFUSALS, "out_of_stock", "item_unavailable"),
        body=schemas.ExpressCheckout,
        key="required",
        auth="new_buyer",
        waits=True,
    ),
)
async def express_checkout(request: Request) -> Response:
    """Start and complete in one. A shortage or missing fields leave nothing reserved; 402 and 202 keep it."""
    context, caller = context_of(request), maker_of(request, await identify(request), "chk")
    intent = intent_of(request, caller, required=True)
    body = parse(request, schemas.ExpressCheckout)
    command, party = await start_command(context, caller, intent, body, forms.payments(context, body))

    async def again(seconds: float) -> Answer:
        return await context.engine.ask(command, seconds)

    async def look() -> Answer:
        read_it = Read(command_id=b"", checkout_id=command.checkout_id, owner=party.owner)
        return await context.engine.ask(read_it)

    answer = await answers.result_or_interim(again, look, wait_s(request, context.settings.wait_s))
    # Only where a checkout stays is there something for the token to open.
    failed = isinstance(answer.reply, Refusal) and answer.reply.code == "payment_failed"
    return await answers.completion(context, accepted(answer, party.told if failed else None), party.told)


@router.post(
    "/v1/checkouts/{checkout_id}/complete",
    **operation(
        answers=_ANSWERS,
        refusals=(*_REFUSALS, "request_in_progress"),
        body=schemas.CompleteCheckout,
        key="required",
        auth="buyer",
        versioned=True,
        waits=True,
    ),
)
async def complete_checkout(request: Request, checkout_id: str) -> Response:
    """Pay, and place the order. A completed checkout answers its order again, whatever the key."""
    caller = await identify(request)
    intent = intent_of(request, caller, required=True)
    payments = forms.payments(context_of(request), parse(request, schemas.CompleteCheckout))
    command = Complete(
        command_id=intent.command_id,
        fingerprint=intent.fingerprint,
        checkout_id=require_id("chk", checkout_id),
        payments=payments,
        expected_version=expected_version(request),
    )
    return await _finish(request, caller, command)


@router.post(
    "/v1/checkouts/{checkout_id}/payments/{payment_id}/confirm",
    **operation(
        answers=_ANSWERS,
        refusals=(*_REFUSALS, "payment_not_pending", "request_in_progress"),
        body=NoFields,
        key="honoured",
        auth="buyer",
        waits=True,
    ),
)
async def confirm_payment(request: Request, checkout_id: str, payment_id: str) -> Response:
    """Go on after the buyer's 3-D Secure step or redirect. Answers as completing does."""
    caller = await identify(request)
    intent = intent_of(request, caller)
    parse(request, NoFields)
    command = ConfirmPayment(
        command_id=intent.command_id,
        fingerprint=intent.fingerprint,
        checkout_id=require_id("chk", checkout_id),
        payment_id=payment_id,
    )
    return await _finish(request, caller, command)


async def _finish(request: Request, caller: Caller, command: Complete | ConfirmPayment) -> Response:
    context = context_of(request)
    seconds = wait_s(request, context.settings.wait_s)
    return await answers.completion(context, await carry_out(context, caller, command, seconds), {})
