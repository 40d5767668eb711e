"""What becomes of single acts of operators: an adjustment of stock, a step taken for a buyer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.schemas.common import Resource


class StockFigures(Resource):
    """A SKU's figures after an adjustment."""

    sku: str
    on_hand: int
    reserved: int
    available: int
    sold: int
    received: int


class ResolvedPayment(Resource):
    """How a payment stands at the sandbox after its buyer's step."""

    payment_id: str = Field(examples=["pay_01jd4x6p8rk2m5q7t9vbdfhkmn"])
    status: Literal["none", "processing", "requires_action", "authorized", "captured", "voided", "declined", "refunded"]
