"""Currencies: the codes in use, ISO's decimals, and amounts as people write them."""

from __future__ import annotations

import pytest

from api.currencies import CURRENCIES, digits, format_minor, is_currency


@pytest.mark.parametrize(
    ("code", "decimals"),
    [
        ("USD", 2),
        ("EUR", 2),
        ("JPY", 0),
        ("KRW", 0),
        ("KWD", 3),
        ("IQD", 3),
        ("LBP", 2),
        ("RSD", 2),
        ("ISK", 0),
    ],
)
def test_decimals_are_those_of_iso_4217(code: str, decimals: int) -> None:
    """Also where shops have stopped using them."""
    assert is_currency(code)
    assert digits(code) == decimals


@pytest.mark.parametrize("code", ["usd", "DEM", "XAU", "XTS", "XXX", "CHE", "US", "USDD", ""])
def test_what_nobody_pays_with_is_no_currency(code: str) -> None:
    """Lower case, history, metals, test codes."""
    assert not is_currency(code)


@pytest.mark.parametrize(
    ("amount", "code", "locale", "text"),
    [
        (1999, "USD", "en_US", "$19.99"),
        (5, "USD", "en_US", "$0.05"),
        (-1500, "USD", "en_US", "-$15.00"),
        (123456789, "EUR", "de_DE", "1.234.567,89\u00a0€"),
        (500, "JPY", "ja_JP", "￥500"),
        (1234, "KWD", "en_US", "KWD1.234"),
        (1000, "IQD", "en_US", "IQD1.000"),
    ],
)
def test_amounts_are_written_as_in_the_locale(amount: int, code: str, locale: str, text: str) -> None:
    """With all decimals of the currency, and not one more."""
    assert format_minor(amount, code, locale) == text


def test_every_currency_can_be_written() -> None:
    """In a locale that puts it before and one that puts it after."""
    for code in CURRENCIES:
        for locale in ("en_US", "de_DE"):
            assert "1" in format_minor(1, code, locale)
