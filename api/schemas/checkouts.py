"""Bodies and answers of checkouts and express checkouts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from api.openapi_examples import ADDRESS, BUYER
from api.schemas.carts import CartLine, Message, Total
from api.schemas.common import (
    AddressFields,
    Amount,
    Body,
    BuyerFields,
    Currency,
    Identifier,
    LineItem,
    LineItems,
    NotNull,
    Resource,
    Token,
    rule,
)

MAX_PAYMENTS = 10

PaymentMethod = Literal["card", "paypal", "wallet"]


def _some_lines(lines: list[LineItem]) -> list[LineItem]:
    if not lines:
        raise rule("too_short", "Must have at least 1 entry.")
    return lines


def _one_remainder(payments: list[Payment]) -> list[Payment]:
    if sum(payment.amount is None for payment in payments) > 1:
        raise rule("payment_amount_mismatch", "Only one payment may leave its amount out and take the rest.")
    return payments


class CheckoutFields(Body):
    """What a buyer fills in, as a merge patch: what is left out stays, null takes back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"buyer": BUYER, "shipping_address": ADDRESS}]})

    buyer: BuyerFields | None = None
    shipping_address: AddressFields | None = None
    billing_address: AddressFields | None = None
    selected_shipping_option: Identifier | None = None
    line_items: Annotated[LineItems | None, AfterValidator(_some_lines), NotNull] = None


class StartCheckout(CheckoutFields):
    """A checkout of a cart or of lines; starting it reserves the stock."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"line_items": [{"sku": "ROSE-RED-12", "quantity": 2}]}]})

    cart_id: Identifier | None = None
    currency: Annotated[Currency | None, Field(description="With line_items; a cart has its own.")] = None
    on_shortage: Literal["reject", "accept_available"] = "reject"

    @model_validator(mode="after")
    def _one_source(self) -> StartCheckout:
        if (self.cart_id is None) == (self.line_items is None):
            raise rule("invalid", "Send either cart_id or line_items.")
        if self.cart_id is not None and self.currency is not None:
            raise rule("invalid", "Leave currency out: the cart has one.")
        return self


class _Method(BaseModel):
    """How one payment is paid, whatever else it holds."""

    model_config = ConfigDict(strict=True)

    method: PaymentMethod


class Payment(Body):
    """One payment; without `amount` it takes what the others leave."""

    method: PaymentMethod
    token: Token = Field(description="From the payment provider's own form.", examples=["pm_card_visa"])
    amount: Annotated[Amount, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _method_first(cls, value: Any) -> Any:
        """What else a payment takes depends on its method: where that is wrong, nothing more is found fault with."""
        if isinstance(value, dict):
            _Method.model_validate(value)
        return value


Payments = Annotated[list[Payment], Field(max_length=MAX_PAYMENTS), AfterValidator(_one_remainder)]


class CompleteCheckout(Body):
    """How the buyer pays. `expected_total` guards against a total that changed since it was shown."""

    payments: Payments = Field(examples=[[{"method": "card", "token": "pm_card_visa"}]])
    expected_total: Amount | None = None


class ExpressCheckout(StartCheckout):
    """Start and complete in one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "line_items": [{"sku": "ROSE-RED-12", "quantity": 1}],
                    "buyer": BUYER,
                    "shipping_address": ADDRESS,
                    "payments": [{"method": "card", "token": "pm_card_visa"}],
                }
            ]
        }
    )

    payments: Payments = Field(default_factory=list)
    expected_total: Amount | None = None


class Buyer(Resource):
    """Who buys."""

    email: str | None = None
    name: str | None = None
    phone: str | None = None


class Address(Resource):
    """A postal address; `region` is the country's own code where it has codes."""

    name: str | None = None
    line1: str | None = None
    line2: str | None = None
    city: str | None = None
    region: str | None = None
    postal_code: str | None = None
    country: str | None = None
    phone: str | None = None


class ShippingChoice(Resource):
    """One way to ship, in minor units of the checkout's currency."""

    id: str
    label: str
    amount: int
    min_days: int
    max_days: int


class Reservation(Resource):
    """The hold on the stock."""

    status: Literal["held", "pinned", "confirmed", "released", "expired"]
    expires_at: str | None = None


class PaymentState(Resource):
    """One payment, as far as it got."""

    id: str = Field(examples=["pay_01jd4x6p8rk2m5q7t9vbdfhkmn"])
    method: str
    status: Literal["pending", "authorized", "captured", "voided", "refunded", "declined", "requires_action", "unknown"]
    amount: int
    gateway: str
    error: str | None = None


class Checkout(Resource):
    """A checkout: frozen prices, reserved stock, and how far paying has got."""

    id: str = Field(examples=["chk_01jd4x6p8rk2m5q7t9vbdfhkmn"])
    version: int
    status: Literal[
        "incomplete",
        "ready_for_complete",
        "requires_escalation",
        "complete_in_progress",
        "completed",
        "canceled",
    ]
    cancel_reason: Literal["buyer", "expired", "payment", "fraud", "replaced"] | None = None
    cart_id: str | None = None
    currency: str
    line_items: list[CartLine]
    buyer: Buyer | None = None
    shipping_address: Address | None = None
    billing_address: Address | None = None
    shipping_options: list[ShippingChoice]
    selected_shipping_option: str | None = None
    coupons: list[str]
    totals: list[Total]
    messages: list[Message]
    reservation: Reservation
    payments: list[PaymentState]
    next_action: dict[str, Any] | None = None
    continue_url: str | None = None
    order_id: str | None = None
    created_at: str
    updated_at: str
    token: str | None = Field(None, description="Once: for a guest who started it without a token.")
