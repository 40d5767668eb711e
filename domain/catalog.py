"""What is sold: a product's facts, a line that asks for it, and the answer of the stock that owns it.

Owns these shapes and the limits on them. They are stored in journals as arrays, so a new field goes last and
has a default. Amounts are minor units by ISO 4217 code, weights are grams. Never checks on construction: the
edge does that, by the rules written here. Anyone may call it.
"""

from __future__ import annotations

import msgspec

MAX_LINES = 50
MAX_QUANTITY = 999
MAX_SKU_CHARACTERS = 64


class Product(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A product's facts; `prices` is a unit's price by currency, `purchase_limit` units per customer."""

    title: str
    prices: dict[str, int]
    weight_g: int = 0
    tax_category: str = "standard"
    category: str | None = None
    purchase_limit: int | None = None


class Line(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """So many units of one SKU; `id` is the line's own and outlives changes of quantity."""

    id: str
    sku: str
    quantity: int


class Quote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the owner of a SKU knows of it; for an unknown SKU `product` is None and `available` 0."""

    sku: str
    product: Product | None
    available: int


def sku_problem(sku: str) -> str | None:
    """Return a sentence on what is wrong with a SKU, or None if nothing is.

    A SKU is 1-64 visible characters of any script, with plain spaces inside but not at its ends. "." and ".."
    are none: clients and proxies take them out of a path (RFC 3986, section 5.2.4), percent-encoded or not.
    """
    if not sku:
        return "A SKU must not be empty."
    if len(sku) > MAX_SKU_CHARACTERS:
        return f"A SKU has at most {MAX_SKU_CHARACTERS} characters; this one has {len(sku)}."
    if not sku.isprintable():
        return "A SKU has visible characters and plain spaces only."
    if sku[0] == " " or sku[-1] == " ":
        return "A SKU must not begin or end with a space."
    if sku in (".", ".."):
        return "A SKU must not be . or .., which no path can name."
    return None
