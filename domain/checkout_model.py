"""What the outside says to the checkout saga and hears from it: commands, actions, results and replies.

The shapes of its state and of its events are part of the vocabulary and can be had from here too. Everything
is immutable and stored as arrays: a new field goes last and has a default.
"""

from __future__ import annotations

from typing import Any

import msgspec

from domain.checkout_events import (
    Answered,
    AnsweredForNow,
    AskedFor,
    Changes,
    CheckoutEvent,
    Moved,
    OrderChanged,
    OrderPlaced,
    RulesPut,
    Started,
    StepDone,
)
from domain.checkout_state import (
    KIND,
    Address,
    Asked,
    AskKind,
    Buyer,
    Change,
    Checkout,
    Fields,
    Message,
    Payment,
    Payments,
    Phase,
    Policy,
    Problem,
    Rules,
    Undo,
    UndoReason,
    Wanted,
)
from domain.messages import Command, Refusal, Replayed
from domain.order import OrderView
from domain.payments import GatewayRequest, Outcome
from domain.pricing import PricedLine, Total
from domain.shipping import OfferedOption, ShippingTable
from domain.stock_model import Held, HoldState, Shortage
from domain.tax import TaxTable

__all__ = [
    "KIND",
    "NEW_WORK",
    "Abandon",
    "Accepted",
    "Action",
    "Address",
    "AmendAddress",
    "Answered",
    "AnsweredForNow",
    "AnyCommand",
    "AskKind",
    "AskToReplace",
    "Asked",
    "AskedFor",
    "BeginCart",
    "Buyer",
    "CallGateway",
    "Cancel",
    "CancelOrder",
    "CartBegun",
    "Change",
    "Changes",
    "Checkout",
    "CheckoutCommand",
    "CheckoutEvent",
    "CheckoutReply",
    "CheckoutView",
    "Complete",
    "ConfirmPayment",
    "DeliverOrder",
    "Done",
    "Due",
    "EndCart",
    "Fields",
    "GaveWay",
    "HoldStep",
    "LegOutcome",
    "Message",
    "Moved",
    "OrderChanged",
    "OrderPlaced",
    "OrderReply",
    "Patch",
    "Payment",
    "PaymentView",
    "Payments",
    "Phase",
    "Policy",
    "Problem",
    "PutRules",
    "Read",
    "ReadRules",
    "Replace",
    "Reply",
    "ReviewOrder",
    "Rules",
    "RulesPut",
    "RulesReply",
    "ShipOrder",
    "Start",
    "Started",
    "StepDone",
    "StepResult",
    "Stepped",
    "TakeStock",
    "Undo",
    "UndoReason",
    "Wanted",
]

# ── commands ────────────────────────────────────────────────────────────────────────────────────────────


class CheckoutCommand(Command, frozen=True, kw_only=True):
    """Base: ``checkout_id`` routes it; ``owner`` must be the checkout's (empty: the system, an operator)."""

    checkout_id: str
    owner: str = ""


class Start(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    root: str
    customer: bytes | None
    cart_id: str | None
    wanted: tuple[Wanted, ...]
    currency: str
    fields: Fields
    on_shortage: str = "reject"
    express: Payments | None = None


class Patch(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    fields: Fields
    expected_version: int | None = None


class Complete(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    payments: Payments
    expected_version: int | None = None


class Cancel(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    """Reply: the canceled checkout, at once or when a pending payment's outcome is known."""

    expected_version: int | None = None


class Replace(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    """Another checkout of the same cart asks this one to give way. Reply: `GaveWay`."""

    successor: str


class ConfirmPayment(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    payment_id: str


class Read(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    pass


class Stepped(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    """Outcomes of actions, from the actor's own driver: the action's name and a `StepResult`, in their order."""

    outcomes: tuple[tuple[str, Any], ...]


class Abandon(Stepped, frozen=True, kw_only=True, tag=True):
    """As `Stepped`, once the database has refused the order's rows: before the pivot the saga unwinds."""


class Due(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    """The actor's own timer: the checkout's deadline has passed."""


class CancelOrder(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    reason: str
    actor: str


class ShipOrder(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    carrier: str
    tracking_number: str
    actor: str


class DeliverOrder(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    actor: str


class ReviewOrder(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    approve: bool
    reason: str
    actor: str


class AmendAddress(CheckoutCommand, frozen=True, kw_only=True, tag=True):
    address: Address


class PutRules(Command, frozen=True, kw_only=True, tag=True):
    """Replace a table of the shop's; None leaves it. Reply: `RulesReply`."""

    shipping: ShippingTable | None = None
    tax: TaxTable | None = None


class ReadRules(Command, frozen=True, kw_only=True, tag=True):
    pass


AnyCommand = (
    Start | Patch | Complete | Cancel | Replace | ConfirmPayment | Read | Stepped | Abandon | Due
    | CancelOrder | ShipOrder | DeliverOrder | ReviewOrder | AmendAddress | PutRules | ReadRules
)  # fmt: skip

NEW_WORK = (Start, Patch, Complete, Read, ReadRules, PutRules)  # what an overloaded coordinator may refuse


# ── actions: what the saga wants done next; the driver does them beside the writer ──────────────────────


class Action(msgspec.Struct, frozen=True):
    """``name`` identifies it among the actions of one checkout: its outcome comes back under that name."""

    name: str


class BeginCart(Action, frozen=True):
    """Get the cart; ``gone`` is the checkout that has given way since the cart was asked first."""

    cart_id: str
    checkout_id: str
    owner: str
    gone: str | None = None


class EndCart(Action, frozen=True):
    """The cart's checkout ended: ``ordered`` closes the cart, otherwise it reopens."""

    cart_id: str
    checkout_id: str
    ordered: bool


class AskToReplace(Action, frozen=True):
    previous: str
    successor: str


class TakeStock(Action, frozen=True):
    """``resent``: it may have been begun before, by an incarnation that did not live to see its outcome."""

    hold_id: str
    revision: int
    wanted: dict[str, int]
    expires_at_ms: int
    pinned: bool
    resent: bool = False


class HoldStep(Action, frozen=True):
    """``verb``: pin, unpin, extend, confirm, release, trim, give_back. ``legs``: account → units.

    ``revision`` goes with pin, unpin, extend and trim: stock refuses one that a newer has overtaken.
    """

    verb: str
    hold_id: str
    legs: dict[str, int]
    expires_at_ms: int = 0
    revision: int = 0


class CallGateway(Action, frozen=True):
    """``keyed_at_ms``: since when its idempotency key exists; 0 where it has none."""

    leg: int
    gateway: str
    request: GatewayRequest
    keyed_at_ms: int = 0


# ── results of actions ──────────────────────────────────────────────────────────────────────────────────


class CartBegun(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    lines: tuple[Wanted, ...]
    currency: str
    previous: str | None


class GaveWay(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """``refused`` is empty when the former checkout is gone, else why it stays."""

    refused: str = ""


class LegOutcome(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    leg: int
    outcome: Outcome


class Done(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    pass


StepResult = CartBegun | GaveWay | LegOutcome | Done | Held | Shortage | HoldState | Refusal


# ── replies ─────────────────────────────────────────────────────────────────────────────────────────────


class PaymentView(msgspec.Struct, frozen=True, array_like=True, gc=False):
    id: str
    method: str
    status: str
    amount: int
    gateway: str
    error: str | None = None


class CheckoutView(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The resource as API.md shows it, personal data sealed (opened at the edge with ``owner``'s key)."""

    id: str
    version: int
    status: str
    cancel_reason: str | None
    cart_id: str | None
    currency: str
    lines: tuple[PricedLine, ...]
    buyer: bytes | None
    shipping_address: bytes | None
    billing_address: bytes | None
    offers: tuple[OfferedOption, ...]
    selected: str | None
    totals: tuple[Total, ...]
    messages: tuple[Message, ...]
    reservation: str
    reservation_expires_at_ms: int | None
    payments: tuple[PaymentView, ...]
    next_action: dict[str, Any] | None
    order_id: str | None
    created_at_ms: int
    updated_at_ms: int
    owner: str
    root: str


class CheckoutReply(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """``status`` is 200, 201 or 202. A 202 is not final: the same key takes the same work up again."""

    status: int
    checkout: CheckoutView
    order: OrderView | None = None


class OrderReply(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    order: OrderView
    owner: str
    root: str


class RulesReply(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    rules: Rules


class Accepted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """The actor's own commands need no answer."""


Reply = CheckoutReply | OrderReply | RulesReply | GaveWay | Refusal | Replayed | Accepted
