"""Stock and products: what everybody may know, what operators put there, and all figures of a SKU.

Owns no number: each is asked of the SKU's owner. Promises that prices and counts come from operators only.
Mounted by `api/app.py`.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api import render
from api.auth import OPERATOR_REFUSALS, Operator
from api.context import AppContext, context_of
from api.dispatch import ask, intent_of, parse, replay_headers
from api.errors import Problem
from api.openapi import operation
from api.order_answers import actor_of
from api.schemas import stock as schemas
from api.schemas.common import Sku, SkuInPath
from api.schemas.outcomes import StockFigures
from domain import ids
from domain.checkout_model import CheckoutReply, Read
from domain.stock_model import Adjust, Inspect, Levels, Offer, ProductStored, PutProduct

MAX_SKUS = 100

router = APIRouter(default_response_class=Response)

Skus = Annotated[list[Sku], Query(alias="sku", min_length=1, max_length=MAX_SKUS, description="Repeat for each SKU.")]
# Everybody asks in a flash sale: a second's cache in front takes most of it.
_PUBLIC = {"Cache-Control": "public, max-age=1"}


@router.get(
    "/v1/stock/{sku:path}",
    tags=["Stock"],
    **operation(answers={200: schemas.StockLevel}, refusals=("not_found",)),
)
async def read_stock(request: Request, sku: SkuInPath) -> Response:
    """How many units of a SKU can be bought now."""
    offer = await _offer(context_of(request), sku)
    return render.answer({"sku": sku, "available": offer.available}, headers=_PUBLIC)


@router.get("/v1/stock", tags=["Stock"], **operation(answers={200: schemas.StockLevels}))
async def list_stock(request: Request, skus: Skus) -> Response:
    """How many units of up to 100 SKUs can be bought now, in the order asked; 0 of what does not exist."""
    asked = list(dict.fromkeys(skus))
    offers = await context_of(request).engine.quote(asked)
    data = [{"sku": sku, "available": offer.available} for sku, offer in zip(asked, offers, strict=True)]
    return render.answer({"data": data}, headers=_PUBLIC)


@router.put(
    "/v1/ops/products/{sku:path}",
    tags=["Operators"],
    **operation(
        answers={200: schemas.ProductFacts, 201: schemas.ProductFacts},
        refusals=OPERATOR_REFUSALS,
        body=schemas.PutProduct,
    ),
)
async def put_product(request: Request, caller: Operator, sku: SkuInPath) -> Response:
    """Create or replace what a SKU is: 201 when it is new. Checkouts under way keep their prices."""
    context = context_of(request)
    body = parse(request, schemas.PutProduct)
    intent = intent_of(request, caller)
    command = PutProduct(command_id=intent.command_id, sku=sku, product=body.to_product())
    stored: ProductStored = (await ask(context, command)).reply
    return render.answer(render.product(sku, stored.product), 201 if stored.created else 200)


@router.get(
    "/v1/ops/products/{sku:path}",
    tags=["Operators"],
    **operation(answers={200: schemas.ProductFacts}, refusals=(*OPERATOR_REFUSALS, "not_found")),
)
async def read_product(request: Request, caller: Operator, sku: SkuInPath) -> Response:
    """What a SKU is."""
    offer = await _offer(context_of(request), sku)
    assert offer.product is not None
    return render.answer(render.product(sku, offer.product))


@router.post(
    "/v1/ops/stock/{sku:path}/adjustments",
    tags=["Operators"],
    **operation(
        answers={200: StockFigures},
        refusals=(*OPERATOR_REFUSALS, "not_found", "below_reserved"),
        body=schemas.AdjustStock,
        key="required",
    ),
)
async def adjust_stock(request: Request, caller: Operator, sku: SkuInPath) -> Response:
    """Add units to what is on hand (or take some), or set the count; never below what is reserved."""
    context = context_of(request)
    intent = intent_of(request, caller, required=True)
    body = parse(request, schemas.AdjustStock)
    answer = await ask(
        context,
        Adjust(
            command_id=intent.command_id,
            fingerprint=intent.fingerprint,
            sku=sku,
            delta=body.delta,
            set_to=body.set_to,
            reason=body.reason,
            actor=actor_of(caller),
        ),
    )
    return render.answer(render.stock_figures(answer.reply), headers=render.PRIVATE | replay_headers(answer))


@router.get(
    "/v1/ops/stock/{sku:path}",
    tags=["Operators"],
    **operation(answers={200: schemas.StockAccount}, refusals=(*OPERATOR_REFUSALS, "not_found")),
)
async def read_stock_account(request: Request, caller: Operator, sku: SkuInPath) -> Response:
    """All figures of a SKU: `on_hand + sold = received`, and who holds what."""
    context = context_of(request)
    levels: Levels = (await ask(context, Inspect(command_id=b"", sku=sku))).reply
    owner, epoch = await context.engine.stock_owner(sku)
    checkout_ids = await asyncio.gather(*(_checkout_of(context, line.id) for line in levels.holds))
    holds = [render.hold(line, name) for line, name in zip(levels.holds, checkout_ids, strict=True)]
    return render.answer(render.stock_figures(levels) | {"owner": owner, "epoch": epoch, "holds": holds})


async def _offer(context: AppContext, sku: str) -> Offer:
    offer = (await context.engine.quote([sku]))[0]
    if offer.product is None:
        raise Problem("not_found", "There is no such SKU.")
    return offer


async def _checkout_of(context: AppContext, hold_id: str) -> str:
    """The checkout that holds. A hold's id is its checkout's storage key, which lacks the time in the id."""
    anytime = ids.make("chk", 0, hold_id)
    reply = (await context.engine.ask(Read(command_id=b"", checkout_id=anytime))).reply
    return reply.checkout.id if isinstance(reply, CheckoutReply) else anytime
