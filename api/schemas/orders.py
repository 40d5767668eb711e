"""Bodies and answers of orders, the buyer's and the operators'."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field

from api.schemas.carts import CartLine, Total
from api.schemas.checkouts import Address, Buyer, Checkout, PaymentState
from api.schemas.common import Body, Email, FilledText, Resource, Text


def _order_number(typed: str) -> str:
    """As orders have it, `XXXX-XXXX-XXXX`, however it was typed; what cannot be one is found nowhere."""
    text = re.sub(r"[\s-]", "", typed).upper()
    return "-".join((text[:4], text[4:8], text[8:])) if len(text) == 12 else text


OrderNumber: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        pattern=r"^\s*[\x21-\x7e][\s\x21-\x7e]*$",
        description="In any case, with or without dashes and spaces.",
        examples=["7K2M-Q9TV-BDFH"],
    ),
    AfterValidator(_order_number),
]


class LookUpOrder(Body):
    """What a guest without a token knows of an order."""

    number: OrderNumber
    email: Email


class CancelOrder(Body):
    """Why the buyer cancels, if they say so."""

    reason: Text | None = None


class ShipOrder(Body):
    """Who carries the parcel, and its number there."""

    carrier: FilledText = Field(examples=["DHL"])
    tracking_number: FilledText = Field(examples=["JD014600006281230701"])


class ReviewOrder(Body):
    """An operator's decision on a pending order."""

    decision: Literal["approve", "deny"]
    reason: FilledText


class Tracking(Resource):
    """Where the parcel is."""

    carrier: str
    tracking_number: str


class Amendment(Resource):
    """A change that stands beside what was confirmed."""

    at: str
    type: str
    shipping_address: Address | None = None


class Order(Resource):
    """An order. What was confirmed never changes; status, payments, tracking, amendments stand beside it."""

    id: str = Field(examples=["ord_01jd4x6p8rk2m5q7t9vbdfhkmn"])
    number: str = Field(examples=["7K2M-Q9TV-BDFH"])
    status: Literal["pending", "confirmed", "shipped", "delivered", "canceled"]
    payment_status: Literal["authorized", "paid", "refunded", "voided"]
    checkout_id: str
    customer_id: str | None = None
    currency: str
    buyer: Buyer | None = None
    shipping_address: Address | None = None
    ship_to: Address | None = Field(None, description="Where it goes now, after amendments.")
    amendments: list[Amendment]
    line_items: list[CartLine]
    totals: list[Total]
    payments: list[PaymentState]
    tracking: Tracking | None = None
    created_at: str
    confirmed_at: str | None = None


class Completion(Resource):
    """The answer to a completion: with an order it is durable; without one (202) ask again."""

    checkout: Checkout
    order: Order | None = None
    token: str | None = None


class OrderEvent(Resource):
    """One entry of an order's audit trail."""

    at: str
    actor: str
    type: str
    detail: dict[str, Any]


class OrderPage(Resource):
    """A page of orders, newest first."""

    data: list[Order]
    next_cursor: str | None = None


class OrderEventPage(Resource):
    """An order's audit trail, oldest first."""

    data: list[OrderEvent]
    next_cursor: str | None = None
