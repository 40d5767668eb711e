"""Batches for imports: up to 1,000 products or stock counts in one request.

Owns the fates of single entries: one that is not valid is named and the others land. Promises that entries of
one SKU are carried out in their order, that a repeat changes nothing more (a keyed one not even after sales),
and that a dry run changes nothing at all. Mounted by `api/app.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import render
from api.auth import Operator
from api.context import AppContext, context_of
from api.dispatch import intent_of, parse, validated
from api.errors import Problem
from api.idempotency import Intent
from api.openapi import operation
from api.order_answers import actor_of
from api.schemas import batches as schemas
from cluster.engine_types import StillPending
from domain.messages import Refusal
from domain.stock_model import Adjust, Inspect, Levels, ProductStored, PutProduct

router = APIRouter(tags=["Operators"], default_response_class=Response)

Result = dict[str, Any]
Entry = TypeVar("Entry", schemas.BatchProduct, schemas.BatchStock)


class Batch:
    """What the entries of one request share."""

    def __init__(self, context: AppContext, intent: Intent, actor: str, reason: str, dry_run: bool) -> None:
        self._context = context
        self._intent = intent
        self._actor = actor
        self._reason = reason
        self._dry_run = dry_run

    async def put_product(self, index: int, entry: schemas.BatchProduct) -> str:
        """Create or replace the product, then set its count if one is given."""
        offer = (await self._context.engine.quote([entry.sku]))[0]
        product = entry.to_product()
        status = "created" if offer.product is None else "unchanged" if offer.product == product else "replaced"
        if status != "unchanged" and not self._dry_run:
            command = PutProduct(command_id=self._command_id(index, "product"), sku=entry.sku, product=product)
            stored: ProductStored = await self._told(command)
            status = "created" if stored.created else "replaced"
        if entry.on_hand is not None and not (self._dry_run and offer.product is None):
            counted = await self.set_stock(index, entry.sku, entry.on_hand)
            status = "replaced" if status == "unchanged" and counted == "set" else status
        return status

    async def set_stock(self, index: int, sku: str, units: int) -> str:
        """Set what is on hand."""
        levels: Levels = await self._told(Inspect(command_id=b"", sku=sku))
        if levels.on_hand == units:
            return "unchanged"
        if not self._dry_run:
            await self._told(
                Adjust(
                    command_id=self._command_id(index, "stock"),
                    fingerprint=self._intent.fingerprint,
                    sku=sku,
                    set_to=units,
                    reason=self._reason,
                    actor=self._actor,
                )
            )
        return "set"

    async def _told(self, command: PutProduct | Inspect | Adjust) -> Any:
        reply = (await self._context.engine.ask(command)).reply
        if isinstance(reply, Refusal):
            raise _Refused(reply.code, reply.detail)
        return reply

    def _command_id(self, index: int, part: str) -> bytes:
        return blake2b(f"{part} {index}".encode(), key=self._intent.command_id, digest_size=16).digest()


class _Refused(Exception):
    """An entry's end. Raised and caught within this module."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


@router.post(
    "/v1/ops/products/batch",
    **operation(
        answers={200: schemas.BatchResults},
        refusals=("unauthorized", "insufficient_scope"),
        body=schemas.ProductBatch,
        key="honoured",
    ),
)
async def put_products(request: Request, caller: Operator) -> Response:
    """Create or replace up to 1,000 products; one result an entry. A repeat reports `unchanged`."""
    context = context_of(request)
    intent = intent_of(request, caller, "POST /v1/ops/products/batch")
    body = parse(request, schemas.ProductBatch)
    batch = Batch(context, intent, actor_of(caller), "import of products", body.dry_run)
    return await _carry_out(body.products, schemas.BatchProduct, batch.put_product)


@router.post(
    "/v1/ops/stock/batch",
    **operation(
        answers={200: schemas.BatchResults},
        refusals=("unauthorized", "insufficient_scope"),
        body=schemas.StockBatch,
        key="honoured",
    ),
)
async def set_stock(request: Request, caller: Operator) -> Response:
    """Set what is on hand of up to 1,000 SKUs; one result an entry. A repeat reports `unchanged`."""
    context = context_of(request)
    intent = intent_of(request, caller, "POST /v1/ops/stock/batch")
    body = parse(request, schemas.StockBatch)
    batch = Batch(context, intent, actor_of(caller), body.reason, body.dry_run)

    async def set_one(index: int, entry: schemas.BatchStock) -> str:
        return await batch.set_stock(index, entry.sku, entry.set_to)

    return await _carry_out(body.items, schemas.BatchStock, set_one)


async def _carry_out(
    items: list[Any], model: type[Entry], carry_out: Callable[[int, Entry], Awaitable[str]]
) -> Response:
    results: list[Result] = [{} for _ in items]
    by_sku: dict[str, list[tuple[int, Entry]]] = {}
    for index, item in enumerate(items):
        try:
            entry = validated(item, model)
        except Problem as problem:
            finding = problem.errors[0]
            message = f"{finding['path']}: {finding['message']}"
            results[index] = {"index": index, "status": "error", "code": finding["code"], "message": message}
        else:
            by_sku.setdefault(entry.sku, []).append((index, entry))

    async def in_order(entries: list[tuple[int, Entry]]) -> None:
        for index, entry in entries:
            results[index] = await _fate(index, carry_out(index, entry))

    # Side by side: whatever goes to one owner travels in one call.
    await asyncio.gather(*map(in_order, by_sku.values()))
    return render.answer({"results": results})


async def _fate(index: int, work: Awaitable[str]) -> Result:
    try:
        return {"index": index, "status": await work}
    except _Refused as refused:
        return {"index": index, "status": "error", "code": refused.code, "message": refused.message}
    except StillPending:
        return {"index": index, "status": "error", "code": "request_in_progress", "message": "Ask again."}
