"""Orders: read, list, look up, audit trail, cancel, redirect the parcel.

Owns the buyer's side of an order's life. Reads come from Postgres, where the pivot put the order; changes
go to the saga that placed it. Promises that another's order does not exist, and that a failed look-up tells
nothing. Mounted by `api/app.py`.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import order_answers as answers
from api.auth import AnyCaller, Customer
from api.context import context_of
from api.dispatch import intent_of, parse
from api.errors import Problem
from api.openapi import operation
from api.personal import SHIPPING_ADDRESS, Opened, seal_address, seal_text
from api.rate_limits import LookupLimits
from api.schemas import orders as schemas
from api.schemas.common import AddressFields, Cursor, Limit, given, merge_patch
from domain.checkout_model import Address, AmendAddress, CancelOrder
from domain.order import OrderView

router = APIRouter(tags=["Orders"], default_response_class=Response)


@router.get("/v1/orders/{order_id}", **operation(answers={200: schemas.Order}, refusals=("not_found", "unauthorized")))
async def read_order(request: Request, caller: AnyCaller, order_id: str) -> Response:
    """An order: what was confirmed, and how it stands."""
    context = context_of(request)
    return await answers.one(context, await answers.find(context, caller, order_id))


@router.get("/v1/me/orders", **operation(answers={200: schemas.OrderPage}, refusals=("unauthorized",)))
async def list_my_orders(request: Request, caller: Customer, limit: Limit = 20, cursor: Cursor = None) -> Response:
    """The customer's orders, newest first."""
    context = context_of(request)

    async def fetch(before: str | None, count: int) -> list[OrderView]:
        return await context.orders.of_owner(caller.owners[0], before, count)

    return await answers.page(context, fetch, cursor, limit)


@router.post(
    "/v1/orders/lookup",
    **operation(answers={200: schemas.Order}, refusals=("not_found", "rate_limited"), body=schemas.LookUpOrder),
)
async def look_up_order(request: Request) -> Response:
    """An order by its number and the e-mail address it was placed with, for guests who lost their token."""
    context = context_of(request)
    body = parse(request, schemas.LookUpOrder)
    limits: LookupLimits = request.app.state.lookup_limits
    await limits.count(body.number, request.client.host if request.client else "")
    # Both are looked for at once: neither the answer nor its time tells which of them was wrong.
    email_hash = context.master_key.email_hash(body.email)
    view = await context.orders.by_number(body.number, email_hash)
    if view is None:
        raise Problem("not_found", "There is no order with this number and e-mail address.")
    return await answers.one(context, view)


@router.get(
    "/v1/orders/{order_id}/events",
    **operation(answers={200: schemas.OrderEventPage}, refusals=("not_found", "unauthorized")),
)
async def list_order_events(
    request: Request, caller: AnyCaller, order_id: str, limit: Limit = 20, cursor: Cursor = None
) -> Response:
    """The order's audit trail, oldest first. Who of the shop did something, and why, is for operators only."""
    context = context_of(request)
    view = await answers.find(context, caller, order_id)
    return await answers.trail(context, caller, view, cursor, limit)


@router.post(
    "/v1/orders/{order_id}/cancel",
    **operation(
        answers={200: schemas.Order, 202: schemas.Order},
        refusals=("not_found", "unauthorized", "already_shipped"),
        body=schemas.CancelOrder,
        key="required",
        waits=True,
    ),
)
async def cancel_order(request: Request, caller: AnyCaller, order_id: str) -> Response:
    """Cancel before shipping: the units go back to stock, the money back to the buyer."""
    context = context_of(request)
    intent = intent_of(request, caller, required=True)
    body = parse(request, schemas.CancelOrder)
    view = await answers.find(context, caller, order_id)
    return await answers.change(
        request,
        CancelOrder(
            command_id=intent.command_id,
            fingerprint=intent.fingerprint,
            checkout_id=order_id,
            owner=view.owner,
            reason=seal_text(await context.key_ring.key(view.owner), body.reason or ""),
            actor=answers.actor_of(caller),
        ),
    )


@router.patch(
    "/v1/orders/{order_id}/shipping-address",
    **operation(
        answers={200: schemas.Order},
        refusals=(
            "not_found",
            "unauthorized",
            "already_shipped",
            "order_canceled",
            "country_changed",
            "total_changed",
        ),
        body=AddressFields,
    ),
)
async def change_shipping_address(request: Request, caller: AnyCaller, order_id: str) -> Response:
    """Redirect the parcel before it is shipped, within its country and at its price (JSON merge patch)."""
    context = context_of(request)
    body = parse(request, AddressFields)
    intent = intent_of(request, caller)
    view = await answers.find(context, caller, order_id)
    key = await context.key_ring.key(view.owner)
    present = Opened(key).fields(SHIPPING_ADDRESS, view.ship_to)
    merged = merge_patch(present, given(body))
    if merged == present:
        return await answers.one(context, view)
    address = _complete_address(seal_address(key, SHIPPING_ADDRESS, merged))
    return await answers.change(
        request,
        AmendAddress(
            command_id=intent.command_id,
            fingerprint=intent.fingerprint,
            checkout_id=order_id,
            owner=view.owner,
            address=address,
        ),
    )


def _complete_address(address: Address | None) -> Address:
    if address is None:
        raise Problem("validation_failed", "The order needs an address.")
    if address.problems:
        errors = [
            {"path": f"$.{problem.field}", "code": problem.code, "message": problem.message}
            for problem in address.problems
        ]
        raise Problem("validation_failed", f"{errors[0]['path']}: {errors[0]['message']}", errors=errors)
    return address
