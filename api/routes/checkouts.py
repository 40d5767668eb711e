"""Checkouts: start, change, read, listen, cancel. How they are paid is in `routes/completions.py`.

Owns the HTTP side of the saga before payment. Promises that a change is merged with the version it was read
from, or not made. Prices and stock are the engine's. Mounted by `api/app.py`.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from api import checkout_answers as answers
from api import checkout_forms as forms
from api import render, sse
from api.auth import Caller, identify
from api.cart_access import party_of_cart
from api.context import AppContext, context_of
from api.direct_route import DirectRoute
from api.dispatch import (
    Party,
    accepted,
    ask_as_owner,
    expected_version,
    intent_of,
    maker_of,
    new_id,
    parse,
    party_of,
    require_id,
    sealed_customer,
    wait_s,
)
from api.http_edge import HEAD_ONLY
from api.idempotency import Intent
from api.openapi import operation
from api.schemas import checkouts as schemas
from api.schemas.common import NoFields
from cluster.engine_types import Answer
from domain.checkout_model import (
    Cancel,
    CheckoutReply,
    CheckoutView,
    Complete,
    ConfirmPayment,
    Patch,
    Payments,
    Read,
    Start,
)

PATCH_ATTEMPTS = 3

router = APIRouter(tags=["Checkouts"], default_response_class=Response, route_class=DirectRoute)

_STOCK = ("out_of_stock", "item_unavailable")
CART_REFUSALS = ("not_found", "cart_empty", "cart_expired", "cart_checked_out")
_ENDED = ("checkout_canceled", "checkout_completed", "reservation_expired", "completion_in_progress")


@router.post(
    "/v1/checkouts",
    **operation(
        answers={201: schemas.Checkout},
        refusals=(*_STOCK, *CART_REFUSALS, "completion_in_progress"),
        body=schemas.StartCheckout,
        key="required",
        auth="new_buyer",
    ),
)
async def start_checkout(request: Request) -> Response:
    """Start a checkout of a cart or of lines: prices are frozen and the stock is reserved."""
    context, caller = context_of(request), maker_of(request, await identify(request), "chk")
    intent = intent_of(request, caller, required=True)
    body = parse(request, schemas.StartCheckout)
    command, party = await start_command(context, caller, intent, body)
    answer = accepted(await context.engine.ask(command))
    location = {"Location": f"/v1/checkouts/{answer.reply.checkout.id}"}
    return await answers.resource(context, answer, party.told, location)


async def start_command(
    context: AppContext,
    caller: Caller,
    intent: Intent,
    body: schemas.StartCheckout,
    express: Payments | None = None,
) -> tuple[Start, Party]:
    """The command that starts a checkout, and whose it will be. Problem: 404, a cart that does not open."""
    checkout_id = new_id(context, "chk", intent)
    if body.cart_id is None:
        party = party_of(context, caller, checkout_id)
    else:
        party = await party_of_cart(context, caller, require_id("cart", body.cart_id))
    return (
        Start(
            command_id=intent.command_id,
            fingerprint=intent.fingerprint,
            checkout_id=checkout_id,
            owner=party.owner,
            root=party.root,
            customer=await sealed_customer(context, caller, party),
            cart_id=body.cart_id,
            wanted=forms.wanted(body.line_items),
            currency=body.currency or context.settings.currency,
            fields=await forms.new_fields(context, party.owner, body),
            on_shortage=body.on_shortage,
            express=express,
        ),
        party,
    )


@router.get(
    "/v1/checkouts/{checkout_id}",
    **operation(answers={200: schemas.Checkout}, refusals=("not_found",), auth="buyer", versioned=True),
)
async def read_checkout(request: Request, checkout_id: str) -> Response:
    """A checkout as it stands."""
    context, caller = context_of(request), await identify(request)
    reply = await read(context, caller, checkout_id)
    return await answers.resource(context, Answer(CheckoutReply(200, reply.checkout)))


async def read(context: AppContext, caller: Caller, checkout_id: str) -> CheckoutReply:
    """The checkout, if it is the caller's. Problem: 404."""
    require_id("chk", checkout_id)
    answer = await ask_as_owner(context, caller, Read(command_id=b"", checkout_id=checkout_id))
    reply: CheckoutReply = answer.reply
    return reply


@router.get(
    "/v1/checkouts/{checkout_id}/events",
    **operation(answers={200: None}, refusals=("not_found",), auth="buyer"),
)
async def listen_to_checkout(request: Request, checkout_id: str) -> Response:
    """Server-sent events: `event: checkout` with the resource, now and at each change, until it ends."""
    context, caller = context_of(request), await identify(request)
    await read(context, caller, checkout_id)
    if request.scope.get(HEAD_ONLY):
        return Response(media_type=sse.MEDIA_TYPE, headers=sse.HEADERS)

    async def rendered(view: CheckoutView) -> bytes:
        return render.encode(await answers.document(context, view))

    views = context.engine.watch(checkout_id)
    stream = sse.checkout_events(views, rendered, context.settings.heartbeat_s)
    return StreamingResponse(stream, media_type=sse.MEDIA_TYPE, headers=sse.HEADERS)


@router.patch(
    "/v1/checkouts/{checkout_id}",
    **operation(
        answers={200: schemas.Checkout},
        refusals=(*_STOCK, *_ENDED, "not_found", "request_in_progress"),
        body=schemas.CheckoutFields,
        auth="buyer",
        versioned=True,
    ),
)
async def change_checkout(request: Request, checkout_id: str) -> Response:
    """Change it by a JSON merge patch: it is priced again, and changed lines change what is reserved."""
    context, caller = context_of(request), await identify(request)
    body = parse(request, schemas.CheckoutFields)
    demanded = expected_version(request)
    intent = intent_of(request, caller)
    for attempt in range(PATCH_ATTEMPTS):
        view = (await read(context, caller, checkout_id)).checkout
        # What is merged with must be what the engine changes: a version that moved meanwhile is read again.
        merged_with = view.version if forms.has_personal_data(body) else None
        command = Patch(
            command_id=intent.command_id,
            fingerprint=intent.fingerprint,
            checkout_id=checkout_id,
            owner=view.owner,
            fields=await forms.patched_fields(context, view, body),
            expected_version=demanded if demanded is not None else merged_with,
        )
        answer = await context.engine.ask(command)
        moved = getattr(answer.reply, "code", "") == "version_mismatch"
        if not (moved and demanded is None and attempt + 1 < PATCH_ATTEMPTS):
            break
    return await answers.resource(context, accepted(answer, {"checkout_id": checkout_id}))


@router.post(
    "/v1/checkouts/{checkout_id}/cancel",
    **operation(
        answers={200: schemas.Checkout, 202: schemas.Checkout},
        refusals=("not_found", "checkout_completed"),
        body=NoFields,
        key="honoured",
        auth="buyer",
        versioned=True,
        waits=True,
    ),
)
async def cancel_checkout(request: Request, checkout_id: str) -> Response:
    """Cancel: what is reserved is released, payments are voided; while paying, once the outcome is known."""
    context, caller = context_of(request), await identify(request)
    parse(request, NoFields)
    intent = intent_of(request, caller)
    command = Cancel(
        command_id=intent.command_id,
        fingerprint=intent.fingerprint,
        checkout_id=require_id("chk", checkout_id),
        expected_version=expected_version(request),
    )
    seconds = wait_s(request, context.settings.cancel_wait_s)
    return await answers.resource(context, await carry_out(context, caller, command, seconds))


async def carry_out(
    context: AppContext, caller: Caller, command: Cancel | Complete | ConfirmPayment, seconds: float
) -> Answer:
    """What came of the command within so many seconds, else a 202 with the checkout as it stands. Problem: its no."""

    async def again(seconds: float) -> Answer:
        return await ask_as_owner(context, caller, command, seconds, {"checkout_id": command.checkout_id})

    async def look() -> Answer:
        return Answer(await read(context, caller, command.checkout_id))

    return await answers.result_or_interim(again, look, seconds)
