"""Shipping options: which ones a destination is offered, at what amount.

Owns the merchant's shipping table and its rules: the first zone that names a country serves it, else the
first zone with "*", else nobody does. Told the merchandise subtotal after discounts. Amounts are minor units.
Never converts a currency: an option without an amount in the buyer's is not offered. Called by pricing; the
edge builds the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec

ANY_COUNTRY = "*"


class ShippingOption(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One way to ship; `amount` and the threshold `free_above` are minor units by currency."""

    id: str
    label: str
    amount: dict[str, int]
    min_days: int
    max_days: int
    free_above: dict[str, int] = {}


class Zone(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Countries (ISO 3166-1 alpha-2, or "*") that share the same options."""

    countries: tuple[str, ...]
    options: tuple[ShippingOption, ...]


class ShippingTable(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """The merchant's zones in order of precedence; without any, everything ships everywhere for nothing."""

    zones: tuple[Zone, ...] = ()

    @cached_property
    def options_by_country(self) -> dict[str, tuple[ShippingOption, ...]]:
        """Options by country or "*", worked out once a table; not part of the encoded table."""
        options: dict[str, tuple[ShippingOption, ...]] = {}
        for zone in self.zones:
            for country in zone.countries:
                options.setdefault(country, zone.options)
        return options


class OfferedOption(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An option as one buyer sees it: `amount` in minor units of the buyer's currency."""

    id: str
    label: str
    amount: int
    min_days: int
    max_days: int


DEFAULT_OFFERS = (OfferedOption(id="standard", label="Standard", amount=0, min_days=3, max_days=5),)


def offers(
    table: ShippingTable, country: str, currency: str, subtotal_after_discount: int
) -> tuple[OfferedOption, ...]:
    """Return what may be chosen for a destination, in table order; () means it cannot be delivered there.

    An option costs 0 once `subtotal_after_discount` (minor units) reaches its `free_above` in that currency.
    """
    if not table.zones:
        return DEFAULT_OFFERS
    by_country = table.options_by_country
    options = by_country.get(country)
    if options is None:
        options = by_country.get(ANY_COUNTRY, ())
    offered = []
    for option in options:
        amount = option.amount.get(currency)
        if amount is None:
            continue
        threshold = option.free_above.get(currency)
        if threshold is not None and subtotal_after_discount >= threshold:
            amount = 0
        offered.append(OfferedOption(option.id, option.label, amount, option.min_days, option.max_days))
    return tuple(offered)


def cheapest(offered: Sequence[OfferedOption]) -> OfferedOption | None:
    """Return the option of the lowest amount, the first of several; None when nothing is offered."""
    return min(offered, key=lambda option: option.amount, default=None)
