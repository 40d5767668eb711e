"""The shapes of the cart core: its states, commands, replies and events.

Everything is immutable and stored as arrays: a new field goes last and has a default. Amounts are minor units
of the cart's currency; times are milliseconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from domain.checkout_model import CartBegun
from domain.messages import Answer, Command, Refusal, Replayed

KIND = "cart"

CartStatus = Literal["open", "checked_out", "expired"]


class CartPolicy(msgspec.Struct, frozen=True):
    idle_ms: int = 1_800_000


class CartLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``title`` and ``unit_price`` are what the buyer was last shown; a checkout prices anew."""

    id: str
    sku: str
    quantity: int
    title: str
    unit_price: int


class Shown(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What stock says of a SKU just now, for the lines that hold it."""

    sku: str
    title: str
    unit_price: int


class NewLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``place``: where the request named the SKU first, counted from 0; a refusal points there."""

    sku: str
    quantity: int
    place: int = 0


class Cart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``ordered``: it became an order. ``checkouts`` began with it and have not ended, oldest first.

    The last of them has the cart; the others are giving way to it, or have refused to and will have it back.
    ``refused``: it was never made, and is there only to keep that answer.
    """

    id: str
    owner: str
    customer: bytes | None
    currency: str
    lines: tuple[CartLine, ...]
    created_at_ms: int
    updated_at_ms: int
    version: int = 1
    ordered: bool = False
    checkouts: tuple[str, ...] = ()
    answers: dict[bytes, Answer] = {}
    refused: bool = False

    @property
    def checkout_id(self) -> str | None:
        """The live checkout, if there is one."""
        return self.checkouts[-1] if self.checkouts else None

    def idle_since_ms(self, now_ms: int) -> int:
        """Not at all while a checkout has it, which ends by itself, but never while money is pending."""
        return now_ms if self.checkouts else self.updated_at_ms


class Customer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A customer's pointer to the cart open on every device; ``before``: the former ones, newest first."""

    open_cart: str
    before: tuple[str, ...] = ()


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────


class CartCommandBase(Command, frozen=True, kw_only=True):
    """``owner`` must be the cart's; an empty one is the system's."""

    cart_id: str = ""
    owner: str = ""
    expected_version: int | None = None


class CreateCart(CartCommandBase, frozen=True, kw_only=True, tag=True):
    """Reply: `CartReply` 201. Repeated SKUs are merged at the edge; a line of which nothing is ``shown`` is
    refused as ``item_unavailable``."""

    customer: bytes | None
    currency: str
    lines: tuple[NewLine, ...]
    shown: tuple[Shown, ...]


class ReadCart(CartCommandBase, frozen=True, kw_only=True, tag=True):
    """Reply: `CartReply` 200."""


class AddItem(CartCommandBase, frozen=True, kw_only=True, tag=True):
    """Adds to the line of that SKU. ``shown`` tells the present facts of all lines and of what is added; of
    what is missing there nothing is added: ``item_unavailable``."""

    sku: str
    quantity: int
    shown: tuple[Shown, ...] = ()


class SetQuantity(CartCommandBase, frozen=True, kw_only=True, tag=True):
    """0 removes the line."""

    line_id: str
    quantity: int
    shown: tuple[Shown, ...] = ()


class RestoreCart(CartCommandBase, frozen=True, kw_only=True, tag=True):
    """Reopen an expired cart; of an open one nothing changes."""


class BeginCheckout(CartCommandBase, frozen=True, kw_only=True, tag=True):
    """From a coordinator: this is the cart's checkout now, and ``gone``, which it displaced, has ended.

    Reply: `CartBegun`, naming the checkout that has to give way next.
    """

    checkout_id: str
    gone: str | None = None


class EndCheckout(CartCommandBase, frozen=True, kw_only=True, tag=True):
    """From a coordinator: the checkout ended. Reply: `CartEnded`."""

    checkout_id: str
    ordered: bool


class SetOpenCart(CartCommandBase, frozen=True, kw_only=True, tag=True):
    """Point the customer ``owner`` to a cart that has been made.

    Reply: `OpenCart`. A cart that was left for a newer one does not come back by a late repeat.
    """


class ReadCustomer(CartCommandBase, frozen=True, kw_only=True, tag=True):
    """Reply: `OpenCart`."""


CartCommand = (
    CreateCart
    | ReadCart
    | AddItem
    | SetQuantity
    | RestoreCart
    | BeginCheckout
    | EndCheckout
    | SetOpenCart
    | ReadCustomer
)

# ── replies ─────────────────────────────────────────────────────────────────────────────────────────────


class CartView(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The cart as its actor knows it; the edge adds totals and opens ``customer``."""

    id: str
    version: int
    status: CartStatus
    currency: str
    customer: bytes | None
    lines: tuple[CartLine, ...]
    checkout_id: str | None
    expires_at_ms: int
    created_at_ms: int
    updated_at_ms: int
    owner: str


class CartReply(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    status: int
    cart: CartView


class CartEnded(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    pass


class OpenCart(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """``cart_id`` is None where the customer never had a cart."""

    cart_id: str | None


CartReplyType = CartReply | CartBegun | CartEnded | OpenCart | Refusal | Replayed

# ── events ──────────────────────────────────────────────────────────────────────────────────────────────


class CartEventBase(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    cart: str  # the storage key


class CartCreated(CartEventBase, frozen=True):
    state: Cart


class CartRefused(CartEventBase, frozen=True):
    """A cart was not made; ``state`` keeps the answer to that."""

    state: Cart


class LinesSet(CartEventBase, frozen=True):
    at_ms: int
    lines: tuple[CartLine, ...]


class CheckoutsSet(CartEventBase, frozen=True):
    """Which checkouts the cart has now."""

    at_ms: int
    checkouts: tuple[str, ...]
    ordered: bool = False


class CartRestored(CartEventBase, frozen=True):
    at_ms: int


class CartAnswered(CartEventBase, frozen=True):
    command_id: bytes
    fingerprint: bytes
    at_ms: int
    body: bytes


class OpenCartSet(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    owner: str
    cart_id: str


CartEvent = CartCreated | CartRefused | LinesSet | CheckoutsSet | CartRestored | CartAnswered | OpenCartSet
