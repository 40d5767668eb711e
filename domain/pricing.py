"""What a basket costs: the one calculation behind carts, estimates, checkouts and orders.

Owns the order of the rules (subtotal, discounts, fulfillment, tax, total) and the shape of the answer.
Promises that the totals add up to the minor unit and that no amount is negative but the discount's. Told
everything it needs: products with their prices, the merchant's tables, where the goods go. Never decides what
a coupon is worth. Called by the cart, the checkout and the edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from domain.catalog import Line, Product
from domain.money import spread
from domain.shipping import OfferedOption, ShippingTable, cheapest, offers
from domain.tax import NO_TAX, AppliedRate, TaxTable, rate_for, tax_on

TotalType = Literal["subtotal", "discount", "fulfillment", "tax", "total"]
# Tax on shipping is that of this tax category, whatever is in the parcel.
SHIPPING_TAX_CATEGORY = "standard"


class Place(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where the goods go, as far as prices depend on it; `country` is ISO 3166-1 alpha-2."""

    country: str
    region: str | None = None
    postal_code: str | None = None


class Discount(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """So much off the whole order: `amount` in minor units, not negative; `code` names the coupon."""

    code: str
    amount: int


class PricedLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A line with its price, in minor units.

    `amount` is `unit_price * quantity`; `discount`, not negative, is the line's share of the discounts, not
    yet taken off it; `tax` is the tax on (or, if `tax_included`, in) `amount - discount`.
    """

    id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    amount: int
    discount: int = 0
    tax: int = 0
    tax_included: bool = False


class Total(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of the totals in minor units; an `included` one is part of other entries, not of the sum."""

    type: TotalType
    amount: int
    included: bool = False


class Pricing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A priced basket.

    `totals` stand in the order subtotal, discount, fulfillment, tax (to be added before included), total; the
    first and last are always there, the others when not 0. `selected` is the id of one of `offers`, or None.
    `deliverable` is False only when the place is known and nothing ships there. `selection_lost`: the place
    is known and the option chosen is not offered there, so that `selected` is another, or None.
    """

    lines: tuple[PricedLine, ...]
    totals: tuple[Total, ...]
    offers: tuple[OfferedOption, ...]
    selected: str | None
    deliverable: bool
    total: int
    selection_lost: bool = False


def price(
    lines: Sequence[tuple[Line, Product]],
    currency: str,
    shipping: ShippingTable,
    tax: TaxTable,
    place: Place | None = None,
    chosen_option: str | None = None,
    discounts: Sequence[Discount] = (),
) -> Pricing:
    """Price lines in a currency; without a place, or without lines, there is neither fulfillment nor tax.

    Discounts add up, stop at the subtotal and are spread over the lines by largest remainder, ties by line
    order. `chosen_option` is the buyer's own choice; without one, or if it is not offered, the cheapest is
    selected. KeyError: a product has no price in the currency; the caller turns such lines away first.
    ValueError: a negative discount.
    """
    amounts = [product.prices[currency] * line.quantity for line, product in lines]
    subtotal = sum(amounts)
    discount = _discount(discounts, subtotal)
    shares = spread(discount, amounts)

    offered: tuple[OfferedOption, ...] = ()
    selected: OfferedOption | None = None
    ships_to = place if lines else None
    if ships_to is not None:
        offered = offers(shipping, ships_to.country, currency, subtotal - discount)
        selected = _select(offered, chosen_option)
    selected_id = selected.id if selected is not None else None
    fulfillment = selected.amount if selected is not None else 0

    priced = _tax_lines(lines, currency, amounts, shares, tax, ships_to)
    on_shipping, in_shipping = _shipping_tax(fulfillment, tax, ships_to)
    to_add = sum([line.tax for line in priced if not line.tax_included]) + on_shipping
    included = sum([line.tax for line in priced if line.tax_included]) + in_shipping
    total = subtotal - discount + fulfillment + to_add
    return Pricing(
        lines=tuple(priced),
        totals=_totals(subtotal, discount, fulfillment, to_add, included, total),
        offers=offered,
        selected=selected_id,
        deliverable=ships_to is None or bool(offered),
        total=total,
        selection_lost=ships_to is not None and chosen_option is not None and selected_id != chosen_option,
    )


def _discount(discounts: Sequence[Discount], subtotal: int) -> int:
    if any(discount.amount < 0 for discount in discounts):
        raise ValueError("a discount must not be negative")
    return min(sum(discount.amount for discount in discounts), subtotal)


def _select(offered: Sequence[OfferedOption], chosen_option: str | None) -> OfferedOption | None:
    for option in offered:
        if option.id == chosen_option:
            return option
    return cheapest(offered)


def _rate_at(table: TaxTable, place: Place, category: str) -> AppliedRate:
    return rate_for(table, place.country, place.region, place.postal_code, category)


def _tax_lines(
    lines: Sequence[tuple[Line, Product]],
    currency: str,
    amounts: Sequence[int],
    shares: Sequence[int],
    table: TaxTable,
    place: Place | None,
) -> list[PricedLine]:
    rates: dict[str, AppliedRate] = {}
    priced = []
    for (line, product), amount, discount in zip(lines, amounts, shares, strict=True):
        category = product.tax_category
        rate = rates.get(category)
        if rate is None:
            rate = rates[category] = NO_TAX if place is None else _rate_at(table, place, category)
        priced.append(
            PricedLine(
                id=line.id,
                sku=line.sku,
                title=product.title,
                quantity=line.quantity,
                unit_price=product.prices[currency],
                amount=amount,
                discount=discount,
                tax=tax_on(rate, amount - discount),
                tax_included=rate.included,
            )
        )
    return priced


def _shipping_tax(fulfillment: int, table: TaxTable, place: Place | None) -> tuple[int, int]:
    """Return the tax to be added to the shipping amount and the tax included in it; one of them is 0."""
    if place is None or fulfillment == 0:
        return 0, 0
    rate = _rate_at(table, place, SHIPPING_TAX_CATEGORY)
    if not rate.shipping:
        return 0, 0
    tax = tax_on(rate, fulfillment)
    return (0, tax) if rate.included else (tax, 0)


def _totals(
    subtotal: int, discount: int, fulfillment: int, to_add: int, included: int, total: int
) -> tuple[Total, ...]:
    totals = [Total("subtotal", subtotal)]
    if discount:
        totals.append(Total("discount", -discount))
    if fulfillment:
        totals.append(Total("fulfillment", fulfillment))
    if to_add:
        totals.append(Total("tax", to_add))
    if included:
        totals.append(Total("tax", included, included=True))
    totals.append(Total("total", total))
    return tuple(totals)
