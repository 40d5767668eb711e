"""Carts: make, read, fill, change, restore; and the customer's own on any device.

Owns the HTTP side of carts. A write looks first, for the cart's currency and for what stock says of its
SKUs, then tells the cart's owner. Promises that prices come from stock, never from a buyer, and that nothing
found by looking refuses a write: the owner decides, after it has looked for the key's kept answer. Mounted by
`api/app.py`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api import render
from api.addresses import check_address
from api.auth import Caller, Customer, identify
from api.cart_access import read_cart, shown_now
from api.cart_pricing import as_written, priced_now
from api.context import AppContext, context_of
from api.dispatch import (
    ask,
    ask_as_owner,
    expected_version,
    intent_of,
    maker_of,
    new_id,
    parse,
    party_of,
    replay_headers,
    require_id,
    sealed_customer,
)
from api.errors import Problem, field_problem
from api.openapi import operation
from api.schemas import carts as schemas
from api.schemas.common import Country, LineItem, NoFields, Text
from cluster.engine_types import Answer
from domain.cart_model import (
    AddItem,
    CartReply,
    CartView,
    CreateCart,
    NewLine,
    OpenCart,
    ReadCart,
    ReadCustomer,
    RestoreCart,
    SetOpenCart,
    SetQuantity,
)
from domain.messages import Refusal
from domain.pricing import Place

router = APIRouter(tags=["Carts"], default_response_class=Response)

_WRITE = ("not_found", "cart_expired", "cart_checked_out")


@router.post(
    "/v1/carts",
    **operation(
        answers={201: schemas.Cart},
        refusals=("item_unavailable", "too_many_lines", "quantity_out_of_range"),
        body=schemas.CreateCart,
        key="honoured",
        auth="new_buyer",
    ),
)
async def create_cart(request: Request) -> Response:
    """Make a cart, empty or with lines. A guest's answer holds the secret `token` that opens it."""
    context, caller = context_of(request), maker_of(request, await identify(request), "cart")
    intent = intent_of(request, caller)
    body = parse(request, schemas.CreateCart)
    currency = body.currency or context.settings.currency
    asked = [item["sku"] for item in (request.state.json or {}).get("line_items", ())]
    cart_id = new_id(context, "cart", intent)
    party = party_of(context, caller, cart_id)
    customer = await sealed_customer(context, caller, party)
    answer = await ask(
        context,
        CreateCart(
            command_id=intent.command_id,
            fingerprint=intent.fingerprint,
            cart_id=cart_id,
            owner=party.owner,
            customer=customer,
            currency=currency,
            lines=tuple(NewLine(line.sku, line.quantity, asked.index(line.sku)) for line in body.line_items),
            shown=await shown_now(context, asked, currency),
        ),
    )
    if customer is not None:
        # A repeat, too: a crash may have come between the cart and the customer's pointer to it.
        await ask(context, SetOpenCart(command_id=b"", cart_id=answer.reply.cart.id, owner=party.owner))
    location = {"Location": f"/v1/carts/{answer.reply.cart.id}"}
    return await _written(context, answer, party.told, location)


@router.get(
    "/v1/carts/{cart_id}",
    **operation(answers={200: schemas.Cart}, refusals=("not_found",), auth="buyer", versioned=True),
)
async def get_cart(
    request: Request,
    cart_id: str,
    country: Annotated[Country | None, Query(description="Adds estimated shipping and tax.")] = None,
    region: Annotated[Text | None, Query()] = None,
    postal_code: Annotated[Text | None, Query()] = None,
) -> Response:
    """A cart at the prices of now, and what is not as the buyer left it."""
    context, caller = context_of(request), await identify(request)
    view = await read_cart(context, caller, cart_id)
    place = None
    if country is None and (region or postal_code):
        raise field_problem("query.country", "missing", "A region or a postal code needs its country.")
    if country is not None:
        checked = check_address({"country": country, "region": region, "postal_code": postal_code})
        place = Place(checked.country, checked.region, checked.postal_code)
    return render.answer(await priced_now(context, view, place), 200, render.with_version(view.version))


@router.post(
    "/v1/carts/{cart_id}/items",
    **operation(
        answers={200: schemas.Cart},
        refusals=(*_WRITE, "item_unavailable", "too_many_lines", "quantity_out_of_range"),
        body=LineItem,
        key="honoured",
        auth="buyer",
        versioned=True,
    ),
)
async def add_item(request: Request, cart_id: str) -> Response:
    """Put units of a SKU into the cart, on top of those that are there."""
    context, caller = context_of(request), await identify(request)
    intent = intent_of(request, caller)
    body = parse(request, LineItem)
    command = AddItem(
        command_id=intent.command_id,
        fingerprint=intent.fingerprint,
        cart_id=require_id("cart", cart_id),
        expected_version=expected_version(request),
        sku=body.sku,
        quantity=body.quantity,
    )
    return await _change_lines(context, caller, command, body.sku)


@router.patch(
    "/v1/carts/{cart_id}/items/{line_id}",
    **operation(
        answers={200: schemas.Cart},
        refusals=(*_WRITE, "quantity_out_of_range"),
        body=schemas.ChangeItem,
        auth="buyer",
        versioned=True,
    ),
)
async def change_item(request: Request, cart_id: str, line_id: str) -> Response:
    """Set a line's quantity; 0 removes it."""
    caller = await identify(request)
    body = parse(request, schemas.ChangeItem)
    return await _set_quantity(request, caller, cart_id, line_id, body.quantity)


@router.delete(
    "/v1/carts/{cart_id}/items/{line_id}",
    **operation(answers={200: schemas.Cart}, refusals=_WRITE, auth="buyer", versioned=True),
)
async def remove_item(request: Request, cart_id: str, line_id: str) -> Response:
    """Take a line out."""
    return await _set_quantity(request, await identify(request), cart_id, line_id, 0)


@router.post(
    "/v1/carts/{cart_id}/restore",
    **operation(
        answers={200: schemas.Cart},
        refusals=("not_found", "cart_checked_out"),
        body=NoFields,
        key="honoured",
        auth="buyer",
    ),
)
async def restore_cart(request: Request, cart_id: str) -> Response:
    """Open an expired cart again, with its lines."""
    context, caller = context_of(request), await identify(request)
    intent = intent_of(request, caller)
    parse(request, NoFields)
    command = RestoreCart(
        command_id=intent.command_id, fingerprint=intent.fingerprint, cart_id=require_id("cart", cart_id)
    )
    return await _written(context, await ask_as_owner(context, caller, command))


@router.get("/v1/me/cart", **operation(answers={200: schemas.Cart}, refusals=("not_found", "unauthorized")))
async def get_my_cart(request: Request, caller: Customer) -> Response:
    """The customer's cart, on any device; one that has expired is shown as such, to be restored."""
    context = context_of(request)
    owner = caller.owners[0]
    pointer: OpenCart = (await ask(context, ReadCustomer(command_id=b"", owner=owner))).reply
    if pointer.cart_id is not None:
        read = ReadCart(command_id=b"", cart_id=pointer.cart_id, owner=owner)
        reply: CartReply | Refusal = (await context.engine.ask(read)).reply
        if isinstance(reply, CartReply) and reply.cart.status != "checked_out":
            document = await priced_now(context, reply.cart, None)
            return render.answer(document, 200, render.with_version(reply.cart.version))
    raise Problem("not_found", "There is no open cart.")


async def _set_quantity(request: Request, caller: Caller, cart_id: str, line_id: str, quantity: int) -> Response:
    intent = intent_of(request, caller)
    command = SetQuantity(
        command_id=intent.command_id,
        fingerprint=intent.fingerprint,
        cart_id=require_id("cart", cart_id),
        expected_version=expected_version(request),
        line_id=line_id,
        quantity=quantity,
    )
    return await _change_lines(context_of(request), caller, command)


async def _change_lines(
    context: AppContext, caller: Caller, command: AddItem | SetQuantity, *added_skus: str
) -> Response:
    """Tell the cart's owner, with what stock says just now of its lines and of what is added."""
    view = await read_cart(context, caller, command.cart_id)
    facts = await shown_now(context, (*added_skus, *(line.sku for line in view.lines)), view.currency)
    return await _written(context, await ask(context, msgspec.structs.replace(command, owner=view.owner, shown=facts)))


async def _written(
    context: AppContext,
    answer: Answer,
    told: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    reply: CartReply = answer.reply
    view: CartView = reply.cart
    document = await as_written(context, view) | (told or {})
    more = replay_headers(answer) | (headers or {})
    return render.answer(document, reply.status, render.with_version(view.version, more))
