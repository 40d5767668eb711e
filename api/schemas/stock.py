"""Bodies and answers of products and stock."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from api.schemas.common import MAX_UNITS, Body, FilledText, Prices, Resource, rule
from api.schemas.outcomes import StockFigures
from domain.catalog import Product


class PutProduct(Body):
    """What a SKU is; replaces what it was."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "A dozen red roses", "prices": {"USD": 1999}, "weight_g": 600}]}
    )

    title: FilledText
    prices: Annotated[Prices, Field(min_length=1)]
    weight_g: Annotated[int, Field(ge=0, le=MAX_UNITS)] = 0
    tax_category: Annotated[FilledText, Field(max_length=64)] = "standard"
    category: Annotated[FilledText, Field(max_length=64)] | None = None
    purchase_limit: Annotated[int, Field(ge=1, le=MAX_UNITS, description="Units per customer.")] | None = None

    def to_product(self) -> Product:
        """The same for the engine."""
        return Product(self.title, self.prices, self.weight_g, self.tax_category, self.category, self.purchase_limit)


class AdjustStock(Body):
    """Units added to what is on hand, or what is on hand set to a count; one of the two."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"delta": 100, "reason": "delivery"}, {"set": 42, "reason": "recount"}]}
    )

    delta: Annotated[int, Field(ge=-MAX_UNITS, le=MAX_UNITS)] | None = None
    set_to: Annotated[int, Field(ge=0, le=MAX_UNITS)] | None = Field(None, alias="set")
    reason: FilledText

    @model_validator(mode="after")
    def _one_of_two(self) -> AdjustStock:
        if (self.delta is None) == (self.set_to is None):
            raise rule("invalid", "Send either delta or set.")
        return self


class ProductFacts(Resource):
    """A product as it was stored."""

    sku: str
    title: str
    prices: dict[str, int]
    weight_g: int
    tax_category: str
    category: str | None = None
    purchase_limit: int | None = None


class StockLevel(Resource):
    """What everybody may know of a SKU's stock."""

    sku: str
    available: int


class StockLevels(Resource):
    """The levels of several SKUs, in the order asked for."""

    data: list[StockLevel]


class Hold(Resource):
    """Units that a checkout holds."""

    id: str
    checkout_id: str
    quantity: int
    pinned: bool
    expires_at: str | None = None


class StockAccount(StockFigures):
    """All figures of a SKU: `on_hand + sold = received`, `available = on_hand - reserved`."""

    owner: str
    epoch: int
    holds: list[Hold] = Field(description="The first 100.")
