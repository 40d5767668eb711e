"""The shapes of the stock core: its state, commands, replies and events.

Everything is immutable and stored as arrays: a new field goes last and has a default. Quantities are whole
units of an account, times are milliseconds.
"""

from __future__ import annotations

import msgspec

from domain.catalog import Product
from domain.ledger_events import Account, LedgerEvent
from domain.messages import Answer, Command, Refusal, Replayed

KIND = "stock"


def account_of(sku: str) -> str:
    """The ledger account of a SKU. Other scarce things have other prefixes."""
    return "sku:" + sku


def sku_of(account: str) -> str:
    return account[4:]


class Stock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One account with its facts and the answers it gave to keyed commands."""

    figures: Account = Account()
    product: Product | None = None
    answers: dict[bytes, Answer] = {}


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────


class PutProduct(Command, frozen=True, kw_only=True, tag=True):
    """Create or replace what a SKU is. Reply: `ProductStored`; kept for repeats under a key."""

    sku: str
    product: Product


class Adjust(Command, frozen=True, kw_only=True, tag=True):
    """Add ``delta`` to, or ``set`` to, the units on hand.

    Reply: `Levels`, or refusal ``below_reserved`` or ``not_found``; kept for repeats under a key.
    """

    sku: str
    delta: int | None = None
    set_to: int | None = None
    reason: str = ""
    actor: str = ""


class Claim(Command, frozen=True, kw_only=True, tag=True):
    """Take the caller ``owner``'s key for a request about many SKUs, whose answers are kept SKU by SKU.

    Reply: `Claimed`, again for the same body; refusal ``idempotency_key_reused`` for another.
    """

    owner: str


class Quote(Command, frozen=True, kw_only=True, tag=True):
    """Facts and availability of accounts, without holding. May be stale. Reply: `Quotes`."""

    accounts: tuple[str, ...]


class Inspect(Command, frozen=True, kw_only=True, tag=True):
    """All figures of a SKU. Reply: `Levels`, or refusal ``not_found``."""

    sku: str


class Take(Command, frozen=True, kw_only=True, tag=True):
    """Hold ``wanted`` units of each account, all or nothing. Reply: `Held`, `Shortage`, or why not.

    ``resent``: an earlier copy may have been sent, and may still be on its way.
    """

    hold_id: str
    revision: int
    wanted: dict[str, int]
    expires_at_ms: int
    issued_at_ms: int
    pinned: bool = False
    resent: bool = False


class Trim(Command, frozen=True, kw_only=True, tag=True):
    """Give back what the hold has beyond ``target``. Reply: `HoldState`."""

    hold_id: str
    revision: int
    target: dict[str, int]


class Pin(Command, frozen=True, kw_only=True, tag=True):
    """Stop the hold from expiring. ``revision`` as in `Unpin`. Reply: `HoldState`."""

    hold_id: str
    revision: int = 0


class Unpin(Command, frozen=True, kw_only=True, tag=True):
    """Let the hold expire again. ``revision`` numbers the saga's steps on the hold, so that a late duplicate
    of an older one is refused as stale; 0 is not numbered. Reply: `HoldState`."""

    hold_id: str
    expires_at_ms: int
    revision: int = 0


class Extend(Command, frozen=True, kw_only=True, tag=True):
    """Move the expiry. ``revision`` as in `Unpin`. Reply: `HoldState`."""

    hold_id: str
    expires_at_ms: int
    revision: int = 0


class Confirm(Command, frozen=True, kw_only=True, tag=True):
    """The pinned units are sold. Reply: `HoldState`."""

    hold_id: str


class Release(Command, frozen=True, kw_only=True, tag=True):
    """Give all units back. Reply: `HoldState`."""

    hold_id: str


class GiveBack(Command, frozen=True, kw_only=True, tag=True):
    """Return sold units under the ticket ``hold_id``, once. Reply: `HoldState`.

    ``issued_at_ms``: one that was sent too long ago is refused as stale; None is taken for just now.
    """

    hold_id: str
    legs: dict[str, int]
    issued_at_ms: int | None = None


class Forget(Command, frozen=True, kw_only=True, tag=True):
    """The sagas behind these returns have ended. Reply: `HoldState`."""

    hold_ids: tuple[str, ...]


class Sweep(Command, frozen=True, kw_only=True, tag=True):
    """The actor's own timer: expire and drop what is due among these holds. Reply: `HoldState`."""

    hold_ids: tuple[str, ...]


StockCommand = (
    PutProduct
    | Adjust
    | Claim
    | Quote
    | Inspect
    | Take
    | Trim
    | Pin
    | Unpin
    | Extend
    | Confirm
    | Release
    | GiveBack
    | Forget
    | Sweep
)

# Never refused as busy: each of them frees something or finishes what was promised.
ALWAYS_ADMITTED = (Confirm, Release, Unpin, Pin, GiveBack, Forget, Sweep, Trim, Extend)


# ── replies ─────────────────────────────────────────────────────────────────────────────────────────────


class ProductStored(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """``changed`` is False where the product was just that already."""

    sku: str
    product: Product
    created: bool
    changed: bool = True


class Claimed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    pass


class Offer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A quote for one account; ``product`` is None where there is no such SKU."""

    account: str
    product: Product | None
    available: int


class Quotes(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    offers: tuple[Offer, ...]


class HoldLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    id: str
    quantity: int
    pinned: bool
    expires_at_ms: int


class Levels(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """All figures of one SKU; ``holds`` are filled in by `Inspect` (first 100).

    ``moved``: what `Adjust` added to what was on hand.
    """

    sku: str
    on_hand: int
    reserved: int
    available: int
    sold: int
    received: int
    holds: tuple[HoldLine, ...] = ()
    moved: int = 0


class Held(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """The units are set aside. ``products``: account → facts of everything the take named."""

    products: dict[str, Product]


class ShortLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``known`` is False where there is no such SKU."""

    account: str
    requested: int
    available: int
    known: bool


class Shortage(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Nothing was held here by this take. Every account that is short, in the order asked.

    ``held_elsewhere``: units may be held all the same, so the hold must be released: the take went to several
    shards and others of them did hold their part, or it was sent before and that copy may still be on its way.
    """

    lines: tuple[ShortLine, ...]
    held_elsewhere: bool = False


class HoldState(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Where the hold stands after the step; ``refused`` says why the step was not possible.

    ``now_ms``: the shard's time, of a step that was refused as stale.
    """

    status: str
    refused: str = ""
    now_ms: int = 0


StockReply = ProductStored | Claimed | Quotes | Levels | Held | Shortage | HoldState | Refusal | Replayed


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────


class ProductPut(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """``is_new``: there was no such SKU before."""

    sku: str
    product: Product
    is_new: bool = True


class Received(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Units came in (or, negative, were written off)."""

    sku: str
    units: int
    reason: str
    actor: str


class Answered(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """The final answer to a command, kept for its repeats."""

    account: str
    command_id: bytes
    fingerprint: bytes
    at_ms: int
    body: bytes


StockEvent = LedgerEvent | ProductPut | Received | Answered

STALE_READS = (Quote,)  # their answers may rest on what is not durable yet
