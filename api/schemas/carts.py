"""Bodies and answers of carts."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from api.schemas.common import Body, Currency, LineItem, LineItems, QuantityOrNone, Resource

__all__ = ["Cart", "CartLine", "ChangeItem", "CreateCart", "LineItem", "Message", "Total"]


class CreateCart(Body):
    """A new cart, empty or with lines."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"line_items": [{"sku": "ROSE-RED-12", "quantity": 2}]}]})

    currency: Currency | None = None
    line_items: LineItems = Field(default_factory=list)


class ChangeItem(Body):
    """A line's new quantity; 0 removes it."""

    quantity: QuantityOrNone


class Total(Resource):
    """One entry of the totals, in minor units. An included tax is part of the prices, not of the sum."""

    type: Literal["subtotal", "discount", "fulfillment", "tax", "total"]
    amount: int
    included: bool | None = None


class Message(Resource):
    """What the buyer must fix or should know."""

    type: Literal["error", "warning", "info"]
    code: str = Field(examples=["out_of_stock"])
    path: str = Field(description="JSONPath into the resource.", examples=["$.line_items[0]"])
    content: str
    severity: Literal["recoverable", "requires_buyer_input", "requires_buyer_review", "unrecoverable"]


class CartLine(Resource):
    """A line with its price."""

    id: str = Field(examples=["li_01jd4x6p8rk2m5q7t9vbdfhkmn"])
    sku: str
    title: str
    quantity: int
    unit_price: int
    amount: int


class Cart(Resource):
    """A cart, priced now. `token` is there once: in the answer to a guest who created it without one."""

    id: str = Field(examples=["cart_01jd4x6p8rk2m5q7t9vbdfhkmn"])
    version: int
    status: Literal["open", "checked_out", "expired"]
    currency: str
    customer_id: str | None = None
    line_items: list[CartLine]
    coupons: list[str]
    totals: list[Total]
    messages: list[Message]
    expires_at: str
    created_at: str
    updated_at: str
    token: str | None = None
