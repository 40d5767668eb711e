"""The shapes of the checkout saga: its commands, events, states, actions and replies.

Personal data appears only sealed (bytes), as keyed hashes, or as what rules need (country, region, postal
code). Everything is immutable and stored as arrays: a new field goes last and has a default.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from domain.catalog import Product
from domain.messages import Answer, Command, Refusal, Replayed
from domain.order import Order, OrderView
from domain.payment_leg import PaymentLeg
from domain.payments import GatewayRequest, Outcome
from domain.pricing import Place, PricedLine, Total
from domain.shipping import OfferedOption, ShippingTable
from domain.stock import Held, HoldState, Shortage
from domain.tax import TaxTable

KIND = "checkout"


class Policy(msgspec.Struct, frozen=True):
    """The shop's settings that the saga decides by; times in milliseconds, amounts in minor units."""

    hold_ttl_ms: int = 900_000
    cart_idle_ms: int = 1_800_000
    payment_attempts: int = 5
    buyer_action_ms: int = 3_600_000
    review_above_minor: int | None = None
    gateways: dict[str, str] = msgspec.field(
        default_factory=lambda: dict.fromkeys(("card", "paypal", "wallet"), "sandbox")
    )
    outbox_destinations: tuple[str, ...] = ()


class Rules(msgspec.Struct, frozen=True, array_like=True):
    """The operator's tables. Every checkout shard has them, so pricing needs no other actor."""

    shipping: ShippingTable = ShippingTable()
    tax: TaxTable = TaxTable()


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────

Phase = Literal[
    "linking",  # the cart is told that this is its checkout, and gives its lines
    "replacing",  # the cart's former checkout gives way
    "holding",  # stock is taken
    "open",  # the buyer types
    "changing",  # a patch is taking stock or moving the expiry
    "trimming",  # the patch is decided; what it no longer needs goes back
    "pinning",  # before money moves
    "paying",  # legs are authorized, one after another
    "awaiting_buyer",  # 3-D Secure or a redirect
    "unwinding",  # newest first: void, then unpin or release
    "placed",  # past the pivot: confirm, capture, close the cart, forget
    "canceled",  # nothing is held; the cart reopens
    "refused",  # it never became a checkout; only the answer is kept
]
CancelReason = Literal["buyer", "expired", "payment", "fraud", "replaced"]
UndoReason = Literal["declined", "refused", "buyer", "expired", "payment", "fraud", "replaced"]
AskKind = Literal["start", "patch", "complete", "cancel", "confirm", "replace", "cancel_order"]


class Problem(msgspec.Struct, frozen=True, array_like=True):
    """A field that is ``missing`` or ``invalid`` (found at the edge, where the text can be read)."""

    field: str
    code: str
    message: str


class Buyer(msgspec.Struct, frozen=True, array_like=True):
    sealed: bytes
    email_hash: str
    problems: tuple[Problem, ...] = ()


class Address(msgspec.Struct, frozen=True, array_like=True):
    sealed: bytes
    country: str
    region: str | None
    postal_code: str | None
    problems: tuple[Problem, ...] = ()

    @property
    def place(self) -> Place:
        return Place(self.country, self.region, self.postal_code)


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """One line as asked for; repeated SKUs are merged at the edge."""

    sku: str
    quantity: int


class Message(msgspec.Struct, frozen=True, array_like=True):
    type: str
    code: str
    path: str
    content: str
    severity: str


class Payment(msgspec.Struct, frozen=True, array_like=True):
    """One payment as asked for; ``amount`` None takes the rest."""

    method: str
    token: str
    amount: int | None = None


class Payments(msgspec.Struct, frozen=True, array_like=True):
    payments: tuple[Payment, ...]
    expected_total: int | None = None


class Fields(msgspec.Struct, frozen=True, array_like=True):
    """What a buyer may fill in. A field not in ``given`` is left as it is; given and None, it is cleared."""

    given: tuple[str, ...] = ()
    buyer: Buyer | None = None
    shipping_address: Address | None = None
    billing_address: Address | None = None
    selected_option: str | None = None
    lines: tuple[Wanted, ...] | None = None


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """A command whose answer is still owed."""

    kind: AskKind
    command_id: bytes
    fingerprint: bytes


class Undo(msgspec.Struct, frozen=True, array_like=True):
    """Why the saga unwinds, and the refusal owed to whoever started what is undone."""

    reason: UndoReason
    refusal: Refusal | None = None


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A patch under way: what it will make of the checkout once stock agrees; ``refusal`` once it cannot."""

    fields: Fields
    wanted: tuple[Wanted, ...] | None
    refusal: Refusal | None = None


class Checkout(msgspec.Struct, frozen=True, array_like=True):
    """The saga's state. ``wanted`` are the lines asked for; ``lines`` the priced ones, once stock is held."""

    id: str
    owner: str
    root: str
    customer: bytes | None
    cart_id: str | None
    currency: str
    phase: Phase
    created_at_ms: int
    updated_at_ms: int
    wanted: tuple[Wanted, ...]
    on_shortage: str
    express: Payments | None
    expires_at_ms: int
    version: int = 1
    previous: str | None = None
    revision: int = 1
    hold: str = ""
    shortages: int = 0
    products: dict[str, Product] = {}
    lines: tuple[PricedLine, ...] = ()
    totals: tuple[Total, ...] = ()
    total: int = 0
    offers: tuple[OfferedOption, ...] = ()
    selected: str | None = None
    chosen: str | None = None
    deliverable: bool = True
    buyer: Buyer | None = None
    shipping_address: Address | None = None
    billing_address: Address | None = None
    messages: tuple[Message, ...] = ()
    legs: tuple[PaymentLeg, ...] = ()
    attempt_start: int = 0
    declines: int = 0
    action_deadline_ms: int = 0
    undo: Undo | None = None
    change: Change | None = None
    asked: tuple[Asked, ...] = ()
    answers: dict[bytes, Answer] = {}
    steps: tuple[str, ...] = ()
    order: Order | None = None
    placed_version: int = 0


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────


class CheckoutCommand(Command, frozen=True, kw_only=True):
    """Base: ``checkout_id`` routes it, ``owner`` must be the checkout's (empty: the system or an operator)."""

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
    """The outcome of an action, from the actor's own driver."""

    action: str
    result: Any


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
    """Replace a table of the shop's; None leaves it. Reply: `Rules`."""

    shipping: ShippingTable | None = None
    tax: TaxTable | None = None


class ReadRules(Command, frozen=True, kw_only=True, tag=True):
    pass


AnyCommand = (
    Start | Patch | Complete | Cancel | Replace | ConfirmPayment | Read | Stepped | Due
    | CancelOrder | ShipOrder | DeliverOrder | ReviewOrder | AmendAddress | PutRules | ReadRules
)  # fmt: skip

NEW_WORK = (Start, Patch, Complete, Read, ReadRules, PutRules)  # what an overloaded coordinator may refuse


# ── actions: what the saga wants done next; the driver does them beside the writer ──────────────────────


class Action(msgspec.Struct, frozen=True):
    """``name`` identifies it among the actions of one checkout: its outcome comes back under that name."""

    name: str


class BeginCart(Action, frozen=True):
    cart_id: str
    checkout_id: str
    owner: str


class EndCart(Action, frozen=True):
    """The cart's checkout ended: ``ordered`` closes the cart, otherwise it reopens."""

    cart_id: str
    checkout_id: str
    ordered: bool
    previous: str | None


class AskToReplace(Action, frozen=True):
    previous: str
    successor: str


class TakeStock(Action, frozen=True):
    hold_id: str
    revision: int
    wanted: dict[str, int]
    expires_at_ms: int
    pinned: bool


class HoldStep(Action, frozen=True):
    """``verb``: pin, unpin, extend, confirm, release, trim, give_back, forget. ``legs``: SKU → units."""

    verb: str
    hold_id: str
    legs: dict[str, int]
    expires_at_ms: int = 0
    revision: int = 0


class CallGateway(Action, frozen=True):
    leg: int
    gateway: str
    request: GatewayRequest


# ── results of actions ──────────────────────────────────────────────────────────────────────────────────


class CartBegun(msgspec.Struct, frozen=True, array_like=True, tag=True):
    lines: tuple[Wanted, ...]
    currency: str
    previous: str | None


class GaveWay(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """``refused`` is empty when the former checkout is gone, else why it stays."""

    refused: str = ""


class LegOutcome(msgspec.Struct, frozen=True, array_like=True, tag=True):
    leg: int
    outcome: Outcome


class Done(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


StepResult = CartBegun | GaveWay | LegOutcome | Done | Held | Shortage | HoldState | Refusal


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────


class Event(msgspec.Struct, frozen=True, array_like=True, tag=True):
    checkout: str  # the storage key (an id's body)


class Started(Event, frozen=True):
    state: Checkout


class Moved(Event, frozen=True):
    """The saga goes to ``phase``; ``changes`` are the other fields that change with it."""

    at_ms: int
    phase: Phase
    changes: Changes


class LegsChanged(Event, frozen=True):
    """Legs from index ``first`` on are now ``legs``."""

    at_ms: int
    first: int
    legs: tuple[PaymentLeg, ...]


class OrderPlaced(Event, frozen=True):
    """The pivot."""

    at_ms: int
    order: Order
    legs: tuple[PaymentLeg, ...]


class OrderChanged(Event, frozen=True):
    at_ms: int
    order: Order


class AskedFor(Event, frozen=True):
    asked: Asked


class Answered(Event, frozen=True):
    """The final answer to a command. An empty body stands for "completed", rebuilt from the pivot's facts."""

    command_id: bytes
    fingerprint: bytes
    at_ms: int
    body: bytes


class AnsweredForNow(Event, frozen=True):
    """A reply that is not final was given: nothing is owed any more, and nothing is remembered."""

    command_id: bytes


class StepDone(Event, frozen=True):
    """A step that is retried forward is done."""

    step: str


class RulesPut(msgspec.Struct, frozen=True, array_like=True, tag=True):
    rules: Rules


class Changes(msgspec.Struct, frozen=True, omit_defaults=True):
    """Fields of the state that an event sets; UNSET ones stay."""

    hold: str | msgspec.UnsetType = msgspec.UNSET
    wanted: tuple[Wanted, ...] | msgspec.UnsetType = msgspec.UNSET
    currency: str | msgspec.UnsetType = msgspec.UNSET
    previous: str | None | msgspec.UnsetType = msgspec.UNSET
    revision: int | msgspec.UnsetType = msgspec.UNSET
    expires_at_ms: int | msgspec.UnsetType = msgspec.UNSET
    shortages: int | msgspec.UnsetType = msgspec.UNSET
    products: dict[str, Product] | msgspec.UnsetType = msgspec.UNSET
    lines: tuple[PricedLine, ...] | msgspec.UnsetType = msgspec.UNSET
    totals: tuple[Total, ...] | msgspec.UnsetType = msgspec.UNSET
    total: int | msgspec.UnsetType = msgspec.UNSET
    offers: tuple[OfferedOption, ...] | msgspec.UnsetType = msgspec.UNSET
    selected: str | None | msgspec.UnsetType = msgspec.UNSET
    chosen: str | None | msgspec.UnsetType = msgspec.UNSET
    deliverable: bool | msgspec.UnsetType = msgspec.UNSET
    buyer: Buyer | None | msgspec.UnsetType = msgspec.UNSET
    shipping_address: Address | None | msgspec.UnsetType = msgspec.UNSET
    billing_address: Address | None | msgspec.UnsetType = msgspec.UNSET
    messages: tuple[Message, ...] | msgspec.UnsetType = msgspec.UNSET
    legs: tuple[PaymentLeg, ...] | msgspec.UnsetType = msgspec.UNSET
    attempt_start: int | msgspec.UnsetType = msgspec.UNSET
    declines: int | msgspec.UnsetType = msgspec.UNSET
    action_deadline_ms: int | msgspec.UnsetType = msgspec.UNSET
    undo: Undo | None | msgspec.UnsetType = msgspec.UNSET
    change: Change | None | msgspec.UnsetType = msgspec.UNSET
    steps: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


CheckoutEvent = (
    Started
    | Moved
    | LegsChanged
    | OrderPlaced
    | OrderChanged
    | AskedFor
    | Answered
    | AnsweredForNow
    | StepDone
    | RulesPut
)


# ── replies ─────────────────────────────────────────────────────────────────────────────────────────────


class PaymentView(msgspec.Struct, frozen=True, array_like=True):
    id: str
    method: str
    status: str
    amount: int
    gateway: str
    error: str | None = None


class CheckoutView(msgspec.Struct, frozen=True, array_like=True):
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


class CheckoutReply(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """``status`` is 200, 201 or 202. A 202 is not final: the same key takes the same work up again."""

    status: int
    checkout: CheckoutView
    order: OrderView | None = None


class OrderReply(msgspec.Struct, frozen=True, array_like=True, tag=True):
    order: OrderView
    owner: str
    root: str


class RulesReply(msgspec.Struct, frozen=True, array_like=True, tag=True):
    rules: Rules


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The actor's own commands need no answer."""


Reply = CheckoutReply | OrderReply | RulesReply | GaveWay | Refusal | Replayed | Accepted
