"""Batches for imports: up to 1,000 products or stock counts in one request.

Owns the fates of single entries: one that is not valid is named and the others land. Promises that entries of
one SKU are carried out in their order, that under a key each is carried out once and answered alike, and that
a dry run changes nothing at all. Mounted by `api/app.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import render
from api.auth import OPERATOR_REFUSALS, Caller, Operator
from api.context import AppContext, context_of
from api.dispatch import REPLAYED, ask, intent_of, parse, validated
from api.errors import Problem
from api.idempotency import Intent
from api.openapi import operation
from api.order_answers import actor_of
from api.schemas import batches as schemas
from cluster.engine_types import StillPending
from domain.catalog import Product
from domain.messages import Refusal
from domain.stock_model import Adjust, Claim, Inspect, Levels, ProductStored, PutProduct

router = APIRouter(tags=["Operators"], default_response_class=Response)

Result = dict[str, Any]
Entry = TypeVar("Entry", schemas.BatchProduct, schemas.BatchStock)


class Batch:
    """What the entries of one request share. `is_repeat`: every answer so far is a kept one."""

    def __init__(
        self, context: AppContext, intent: Intent, actor: str, reason: str, *, dry_run: bool, is_repeat: bool
    ) -> None:
        self._context = context
        self._intent = intent
        self._actor = actor
        self._reason = reason
        self._dry_run = dry_run
        self.is_repeat = is_repeat

    async def put_product(self, index: int, entry: schemas.BatchProduct) -> str:
        """Create or replace the product, then set its count if one is given."""
        stored = await self._store(index, entry.sku, entry.to_product())
        status = "created" if stored.created else "replaced" if stored.changed else "unchanged"
        if entry.on_hand is not None and not (self._dry_run and stored.created):
            counted = await self._count(index, entry.sku, entry.on_hand)
            status = "replaced" if status == "unchanged" and counted == "set" else status
        return status

    async def set_stock(self, index: int, entry: schemas.BatchStock) -> str:
        """Set what is on hand."""
        return await self._count(index, entry.sku, entry.set_to)

    async def _store(self, index: int, sku: str, product: Product) -> ProductStored:
        if self._dry_run:
            known = (await self._context.engine.quote([sku]))[0].product
            return ProductStored(sku, product, known is None, known != product)
        stored: ProductStored = await self._told(
            PutProduct(
                command_id=self._command_id(index, "product"),
                fingerprint=self._intent.fingerprint,
                sku=sku,
                product=product,
            )
        )
        return stored

    async def _count(self, index: int, sku: str, units: int) -> str:
        levels: Levels
        if self._dry_run:
            levels = await self._told(Inspect(command_id=b"", sku=sku))
            return "unchanged" if levels.on_hand == units else "set"
        levels = await self._told(
            Adjust(
                command_id=self._command_id(index, "stock"),
                fingerprint=self._intent.fingerprint,
                sku=sku,
                set_to=units,
                reason=self._reason,
                actor=self._actor,
            )
        )
        return "set" if levels.moved else "unchanged"

    async def _told(self, command: PutProduct | Inspect | Adjust) -> Any:
        try:
            answer = await self._context.engine.ask(command)
        except StillPending:
            self.is_repeat = False
            raise _Refused("request_in_progress", "Ask again.") from None
        self.is_repeat = self.is_repeat and answer.replayed
        if isinstance(answer.reply, Refusal):
            raise _Refused(answer.reply.code, answer.reply.detail)
        return answer.reply

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
        refusals=OPERATOR_REFUSALS,
        body=schemas.ProductBatch,
        key="honoured",
    ),
)
async def put_products(request: Request, caller: Operator) -> Response:
    """Create or replace up to 1,000 products; one result an entry. Sent anew, they are `unchanged`."""
    body = parse(request, schemas.ProductBatch)
    batch = await _begin(request, caller, "import of products", body.dry_run)
    return await _carry_out(batch, body.products, schemas.BatchProduct, batch.put_product)


@router.post(
    "/v1/ops/stock/batch",
    **operation(
        answers={200: schemas.BatchResults},
        refusals=OPERATOR_REFUSALS,
        body=schemas.StockBatch,
        key="honoured",
    ),
)
async def set_stock(request: Request, caller: Operator) -> Response:
    """Set what is on hand of up to 1,000 SKUs; one result an entry. Sent anew, they are `unchanged`."""
    body = parse(request, schemas.StockBatch)
    batch = await _begin(request, caller, body.reason, body.dry_run)
    return await _carry_out(batch, body.items, schemas.BatchStock, batch.set_stock)


async def _begin(request: Request, caller: Caller, reason: str, dry_run: bool) -> Batch:
    """Take the request's key, if it has one; a dry run has nothing to keep. Problem: it is another batch's."""
    context = context_of(request)
    intent = intent_of(request, caller)
    is_repeat = False
    if intent.keyed and not dry_run:
        claim = Claim(command_id=intent.command_id, fingerprint=intent.fingerprint, owner=caller.owners[0])
        is_repeat = (await ask(context, claim)).replayed
    return Batch(context, intent, actor_of(caller), reason, dry_run=dry_run, is_repeat=is_repeat)


async def _carry_out(
    batch: Batch, items: list[Any], model: type[Entry], carry_out: Callable[[int, Entry], Awaitable[str]]
) -> Response:
    results: list[Result] = [{} for _ in items]
    by_sku: dict[str, list[tuple[int, Entry]]] = {}
    for index, item in enumerate(items):
        try:
            entry = validated(item, model)
        except Problem as problem:
            finding = problem.errors[0]
            results[index] = _error(index, finding["code"], f"{finding['path']}: {finding['message']}")
        else:
            by_sku.setdefault(entry.sku, []).append((index, entry))

    async def in_order(entries: list[tuple[int, Entry]]) -> None:
        for index, entry in entries:
            try:
                results[index] = {"index": index, "status": await carry_out(index, entry)}
            except _Refused as refused:
                results[index] = _error(index, refused.code, refused.message)

    # Side by side: whatever goes to one owner travels in one call.
    await asyncio.gather(*map(in_order, by_sku.values()))
    return render.answer({"results": results}, headers=render.PRIVATE | (REPLAYED if batch.is_repeat else {}))


def _error(index: int, code: str, message: str) -> Result:
    return {"index": index, "status": "error", "code": code, "message": message}
