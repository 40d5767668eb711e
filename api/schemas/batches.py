"""Bodies and answers of batches: many products or stock counts in one request, each with its own fate."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from api.schemas.common import MAX_UNITS, Body, FilledText, Resource, Sku
from api.schemas.stock import PutProduct

MAX_BATCH = 1_000


def _items(model: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "type": "array",
            "maxItems": MAX_BATCH,
            "items": {"$ref": f"#/components/schemas/{model}"},
            "description": "An entry that is not valid is refused in its result; the others are carried out.",
        }
    )


class BatchProduct(PutProduct):
    """A product and its SKU; `on_hand` sets the count, too."""

    sku: Sku
    on_hand: Annotated[int, Field(ge=0, le=MAX_UNITS)] | None = None


class BatchStock(Body):
    """A SKU's count."""

    sku: Sku
    set_to: Annotated[int, Field(ge=0, le=MAX_UNITS, alias="set")]


class ProductBatch(Body):
    """Products to create or replace, in order; `dry_run` changes nothing and says what would happen."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"products": [{"sku": "ROSE-RED-12", "title": "A dozen red roses", "prices": {"USD": 1999}}]}]
        }
    )

    products: Annotated[list[Any], Field(max_length=MAX_BATCH), _items("BatchProduct")]
    dry_run: bool = False


class StockBatch(Body):
    """Counts to set, in order; `dry_run` changes nothing and says what would happen."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [{"sku": "ROSE-RED-12", "set": 100}], "reason": "recount"}]}
    )

    items: Annotated[list[Any], Field(max_length=MAX_BATCH), _items("BatchStock")]
    reason: FilledText
    dry_run: bool = False


class BatchResult(Resource):
    """The fate of one entry; `index` is its place in the request."""

    index: int
    status: Literal["created", "replaced", "set", "unchanged", "error"]
    code: str | None = None
    message: str | None = None


class BatchResults(Resource):
    """One result an entry, in order."""

    results: list[BatchResult]
