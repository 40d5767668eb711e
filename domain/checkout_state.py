"""The state of a checkout: its parts, its phases, and the shop's settings and tables that it is decided by.

Personal data appears only sealed (bytes), as keyed hashes, or as what rules need (country, region, postal
code). Everything is immutable and stored as arrays: a new field goes last and has a default.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from domain.catalog import Product
from domain.messages import Answer, Refusal
from domain.order import Order
from domain.payment_leg import PaymentLeg
from domain.pricing import Place, PricedLine, Total
from domain.shipping import OfferedOption, ShippingTable
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


class Rules(msgspec.Struct, frozen=True, array_like=True, gc=False):
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
UndoReason = Literal["declined", "refused", "buyer", "expired", "payment", "replaced"]
AskKind = Literal["start", "patch", "complete", "cancel", "confirm", "replace", "cancel_order"]


class Problem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A field that is ``missing`` or ``invalid`` (found at the edge, where the text can be read)."""

    field: str
    code: str
    message: str


class Buyer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    sealed: bytes
    email_hash: str
    problems: tuple[Problem, ...] = ()


class Address(msgspec.Struct, frozen=True, array_like=True, gc=False):
    sealed: bytes
    country: str
    region: str | None
    postal_code: str | None
    problems: tuple[Problem, ...] = ()

    @property
    def place(self) -> Place | None:
        """Where it is; None while not even the country is known."""
        return Place(self.country, self.region, self.postal_code) if self.country else None


class Wanted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line as asked for; repeated SKUs are merged at the edge."""

    sku: str
    quantity: int


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    type: str
    code: str
    path: str
    content: str
    severity: str


class Payment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One payment as asked for; ``amount`` None takes the rest."""

    method: str
    token: str
    amount: int | None = None


class Payments(msgspec.Struct, frozen=True, array_like=True, gc=False):
    payments: tuple[Payment, ...]
    expected_total: int | None = None


class Fields(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a buyer may fill in. A field not in ``given`` is left as it is; given and None, it is cleared."""

    given: tuple[str, ...] = ()
    buyer: Buyer | None = None
    shipping_address: Address | None = None
    billing_address: Address | None = None
    selected_option: str | None = None
    lines: tuple[Wanted, ...] | None = None


class Asked(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A command whose answer is still owed."""

    kind: AskKind
    command_id: bytes
    fingerprint: bytes


class Undo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why the saga unwinds, and the refusal owed to whoever started what is undone."""

    reason: UndoReason
    refusal: Refusal | None = None


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A patch under way: what it will make of the checkout once stock agrees; ``refusal`` once it cannot.

    ``expires_at_ms`` is the reservation's time if the change is made. ``skus``: everything held before or
    taken for the change, so that what is no longer wanted is given back wherever it is.
    """

    fields: Fields
    wanted: tuple[Wanted, ...] | None
    expires_at_ms: int
    refusal: Refusal | None = None
    skus: tuple[str, ...] = ()


class Checkout(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The saga's state. ``wanted`` are the lines asked for; ``lines`` the priced ones, once stock is held.

    ``version`` rises with everything a reader can see. ``revision`` numbers the steps on the hold. ``legs``
    are all payments ever tried, those of the present attempt from ``attempt_start`` on. ``round`` counts how
    often the same start was taken up again after it was told to come back. ``dropped`` are SKUs of which there
    was nothing: the hold's later steps go to their shards too, for a late copy of the first may have taken some.
    """

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
    round: int = 0
    dropped: tuple[str, ...] = ()
