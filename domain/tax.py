"""Tax rates: which one applies to a sale, and what it comes to.

Owns the merchant's tax table and its precedence: a rate's country must match; among those that match, the
longest postal prefix wins, then a rate for the region, then one for the tax category, then the earlier in the
table; where none matches, tax is 0. Promises exact integers, never floats. Never asks a law or a service: it
knows what the merchant configured. Called by pricing; the edge builds the table.
"""

from __future__ import annotations

import re
from functools import cached_property

import msgspec

from domain.money import half_up

_RATE = re.compile(r"0(\.[0-9]{1,8})?|1(\.0{1,8})?")


class TaxRate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of the table; `rate` is a decimal as in "0.19", None (or "") in a condition matches everything.

    `included`: prices contain the tax already. `shipping`: the rate applies to the shipping amount too.
    """

    country: str
    rate: str
    included: bool
    region: str | None = None
    postal_prefix: str | None = None
    category: str | None = None
    shipping: bool = False


class AppliedRate(msgspec.Struct, frozen=True):
    """A rate ready to calculate with: `numerator / denominator`, the latter a power of ten."""

    numerator: int
    denominator: int
    included: bool
    shipping: bool


NO_TAX = AppliedRate(numerator=0, denominator=1, included=False, shipping=False)


class TaxTable(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """The merchant's rates; among equally specific ones the earlier wins."""

    rates: tuple[TaxRate, ...] = ()

    @cached_property
    def applied(self) -> dict[tuple[str, str, str, str], AppliedRate]:
        """Rates by (country, postal prefix, region, category), "" for none; worked out once a table."""
        applied: dict[tuple[str, str, str, str], AppliedRate] = {}
        for rate in self.rates:
            key = (rate.country, _folded(rate.postal_prefix), _folded(rate.region), rate.category or "")
            applied.setdefault(key, AppliedRate(*parse_rate(rate.rate), rate.included, rate.shipping))
        return applied

    @cached_property
    def prefix_lengths(self) -> dict[str, tuple[int, ...]]:
        """Lengths of the postal prefixes in a country's rates, longest first, 0 for none."""
        lengths: dict[str, set[int]] = {}
        for country, prefix, _, _ in self.applied:
            lengths.setdefault(country, set()).add(len(prefix))
        return {country: tuple(sorted(found, reverse=True)) for country, found in lengths.items()}


def parse_rate(text: str) -> tuple[int, int]:
    """Return a decimal rate between 0 and 1 as (numerator, power of ten): "0.19" is (19, 100).

    ValueError, its text a sentence for the merchant: anything else, such as "19" for 19%.
    """
    if _RATE.fullmatch(text) is None:
        raise ValueError(f"The rate {text!r:.40} is not a decimal between 0 and 1 with at most 8 places: 19% is 0.19.")
    whole, _, places = text.partition(".")
    return int(whole + places), 10 ** len(places)


def rate_for(table: TaxTable, country: str, region: str | None, postal_code: str | None, category: str) -> AppliedRate:
    """Return the most specific rate for a tax category at a place, or NO_TAX.

    Region and postal code are compared without regard to case, spaces and dashes. ValueError: the table
    holds a rate that `parse_rate` refuses, which the edge lets nobody store.
    """
    lengths = table.prefix_lengths.get(country)
    if lengths is None:
        return NO_TAX
    applied = table.applied
    place, code = _folded(region), _folded(postal_code)
    for length in lengths:
        prefix = code[:length]
        rate = (
            applied.get((country, prefix, place, category))
            or applied.get((country, prefix, place, ""))
            or applied.get((country, prefix, "", category))
            or applied.get((country, prefix, "", ""))
        )
        if rate is not None:
            return rate
    return NO_TAX


def tax_on(rate: AppliedRate, amount: int) -> int:
    """Return the tax on (or, if included, in) an amount; both in minor units, rounded half-up once."""
    if rate.included:
        return half_up(amount * rate.numerator, rate.denominator + rate.numerator)
    return half_up(amount * rate.numerator, rate.denominator)


def _folded(text: str | None) -> str:
    return text.replace(" ", "").replace("-", "").upper() if text else ""
