"""Which rate applies at a place, and what it comes to."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.tax import NO_TAX, AppliedRate, TaxRate, TaxTable, parse_rate, rate_for, tax_on

# Every rate's value is different, so that a row of the cases below names the rate that won.
TABLE = TaxTable(
    rates=(
        TaxRate("US", "0.01", included=False),
        TaxRate("US", "0.02", included=False, category="food"),
        TaxRate("US", "0.03", included=False, region="CA", shipping=True),
        TaxRate("US", "0.04", included=False, region="CA", category="food"),
        TaxRate("US", "0.05", included=False, postal_prefix="94"),
        TaxRate("US", "0.06", included=False, postal_prefix="941"),
        TaxRate("US", "0.07", included=False, postal_prefix="94", region="CA", category="food"),
        TaxRate("US", "0.08", included=False),
        TaxRate("US", "0", included=False, region="OR"),
        TaxRate("GB", "0.20", included=True, postal_prefix="sw1a"),
        TaxRate("GB", "0.09", included=True, postal_prefix="BT", region="Northern Ireland"),
        TaxRate("JP", "0.10", included=True, postal_prefix="100-0"),
    )
)


@pytest.mark.parametrize(
    ("country", "region", "postal_code", "category", "expected"),
    [
        pytest.param("US", None, None, "standard", "0.01", id="country; the earlier of two equals"),
        pytest.param("US", "TX", "75001", "standard", "0.01", id="other region and code"),
        pytest.param("US", "TX", None, "food", "0.02", id="category"),
        pytest.param("US", "CA", None, "standard", "0.03", id="region"),
        pytest.param("US", "ca", None, "standard", "0.03", id="region in another case"),
        pytest.param("US", "CA", None, "food", "0.04", id="region and category"),
        pytest.param("US", None, "94000", "standard", "0.05", id="prefix without a region"),
        pytest.param("US", "CA", "94000", "standard", "0.05", id="prefix beats region"),
        pytest.param("US", "CA", "94110", "standard", "0.06", id="longer prefix"),
        pytest.param("US", "CA", "94110", "food", "0.06", id="longer prefix beats region and category"),
        pytest.param("US", "CA", "94000", "food", "0.07", id="prefix, region and category"),
        pytest.param("US", None, "94000", "food", "0.05", id="region asked for but not given"),
        pytest.param("US", None, "9", "standard", "0.01", id="code shorter than any prefix"),
        pytest.param("US", "OR", None, "standard", "0", id="a rate of 0 is an answer"),
        pytest.param("US", "OR", None, "food", "0", id="region beats category"),
        pytest.param("GB", None, "SW1A 1AA", "standard", "0.20", id="space and case in the code"),
        pytest.param("GB", "NORTHERN IRELAND", "bt1 5gs", "standard", "0.09", id="space and case everywhere"),
        pytest.param("JP", None, "1000001", "standard", "0.10", id="dash in the prefix"),
    ],
)
def test_the_most_specific_rate_wins(
    country: str, region: str | None, postal_code: str | None, category: str, expected: str
) -> None:
    """Longest postal prefix, then region, then category, then table order."""
    rate = rate_for(TABLE, country, region, postal_code, category)
    assert rate is not NO_TAX
    assert Fraction(rate.numerator, rate.denominator) == Fraction(expected)


@pytest.mark.parametrize(
    ("table", "country", "postal_code"),
    [
        pytest.param(TaxTable(), "US", None, id="unconfigured"),
        pytest.param(TABLE, "DE", "94110", id="country without rates"),
        pytest.param(TABLE, "GB", "EC1A 1BB", id="no rate for that code"),
        pytest.param(TABLE, "GB", None, id="code asked for but not given"),
    ],
)
def test_without_a_matching_rate_there_is_no_tax(table: TaxTable, country: str, postal_code: str | None) -> None:
    """Unconfigured means 0."""
    rate = rate_for(table, country, None, postal_code, "standard")
    assert rate == NO_TAX
    assert tax_on(rate, 10**6) == 0


def test_a_rate_keeps_what_the_table_says_of_it() -> None:
    """Whether prices include it and whether shipping is taxed come with the rate that won."""
    assert rate_for(TABLE, "US", "CA", None, "standard") == AppliedRate(3, 100, included=False, shipping=True)
    assert rate_for(TABLE, "GB", None, "SW1A", "any") == AppliedRate(20, 100, included=True, shipping=False)


def test_empty_conditions_match_everything() -> None:
    """An empty text in a condition is no condition."""
    table = TaxTable((TaxRate("DE", "0.19", True, region="", postal_prefix="", category=""),))
    assert rate_for(table, "DE", "BE", "10115", "food").numerator == 19


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (0, 1)),
        ("1", (1, 1)),
        ("0.19", (19, 100)),
        ("0.190", (190, 1000)),
        ("0.08875", (8875, 100_000)),
        ("1.00", (100, 100)),
        ("0.00000001", (1, 10**8)),
    ],
)
def test_parse_rate_is_exact(text: str, expected: tuple[int, int]) -> None:
    """A decimal becomes an integer over a power of ten; no float comes near it."""
    assert parse_rate(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "19", "1.01", "2", "-0.19", "+0.1", "0,19", ".19", "0.", "19%", "0.19 ", "0.1\n", "00.1"),
        *("1e-2", "nan", "0.000000001", "0.1_0", "0.\u0661"),
    ],
)
def test_parse_rate_refuses_what_is_not_a_decimal_up_to_1(text: str) -> None:
    """The refusal is a sentence that names the rate and shows how to write 19%."""
    with pytest.raises(ValueError, match=r"^The rate '.*' is not a decimal .* 0\.19\.$"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("rate", "included", "amount", "expected"),
    [
        pytest.param("0.08875", False, 3109, 276, id="275.92"),
        pytest.param("0.10", False, 105, 11, id="10.5 goes up"),
        pytest.param("0.10", False, 104, 10, id="10.4"),
        pytest.param("0.19", True, 11_900, 1900, id="100 net, 19 tax"),
        pytest.param("0.19", True, 999, 160, id="159.50 of 999"),
        pytest.param("0.19", True, 490, 78, id="78.23 of 490"),
        pytest.param("1", True, 5, 3, id="2.5 goes up"),
        pytest.param("1", False, 5, 5, id="as much again"),
        pytest.param("0", True, 999, 0, id="no tax inside"),
    ],
)
def test_tax_is_rounded_half_up(rate: str, included: bool, amount: int, expected: int) -> None:
    """Tax to be added is a part of the amount; tax included is the part above the net price."""
    assert tax_on(AppliedRate(*parse_rate(rate), included, shipping=False), amount) == expected


@given(
    amount=st.integers(min_value=0, max_value=10**15),
    numerator=st.integers(min_value=0, max_value=10**5),
    included=st.booleans(),
)
def test_tax_is_within_half_a_unit_of_the_exact_one(amount: int, numerator: int, included: bool) -> None:
    """Against exact fractions: never off by more than rounding, never more than the amount."""
    rate = Fraction(numerator, 10**5)
    exact = amount - amount / (1 + rate) if included else amount * rate
    tax = tax_on(AppliedRate(numerator, 10**5, included, shipping=False), amount)
    assert -Fraction(1, 2) < tax - exact <= Fraction(1, 2)
    assert 0 <= tax <= amount


def test_a_table_survives_encoding_before_and_after_use() -> None:
    """What is stored is the rates alone: the lookup worked out from them does not leak into the bytes."""
    table = TaxTable(TABLE.rates)
    fresh = msgspec.msgpack.encode(table)
    rate_for(table, "US", None, None, "standard")
    assert msgspec.msgpack.encode(table) == fresh
    assert msgspec.msgpack.decode(fresh, type=TaxTable) == TABLE
