"""Currencies of ISO 4217: which there are, how many decimals each has, how an amount is written.

Owns the numbers of decimals: Babel's come from CLDR, which leaves out decimals that are no longer used in
shops, and an amount in minor units must not depend on that. Amounts are integers of minor units. Never
converts. Anyone above the domain may call it.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from babel import Locale
from babel.core import get_global
from babel.numbers import format_currency

# Legal tender somewhere today: neither history (DEM) nor funds, metals and tests (CHE, XAU, XTS).
CURRENCIES: frozenset[str] = frozenset(
    code
    for tenders in get_global("territory_currencies").values()
    for code, _, until, is_tender in tenders
    if until is None and is_tender
)

# ISO 4217, table A.1; all others have 2.
_DIGITS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW"), 0),
    **dict.fromkeys(("PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}


def is_currency(code: str) -> bool:
    """Whether it is the code of a currency in use, in capitals."""
    return code in CURRENCIES


def digits(code: str) -> int:
    """How many decimals the currency has: 2 for USD, 0 for JPY, 3 for KWD."""
    return _DIGITS.get(code, 2)


def format_minor(amount: int, code: str, locale: str = "en_US") -> str:
    """An amount of minor units as people write it there: 1999 USD is "$19.99" in en_US."""
    value = Decimal(amount).scaleb(-digits(code))
    return format_currency(value, code, _pattern(digits(code), locale), locale=locale, currency_digits=False)


@lru_cache(256)
def _pattern(decimals: int, locale: str) -> str:
    pattern = Locale.parse(locale).currency_formats["standard"].pattern
    return pattern.replace(".00", "." + "0" * decimals if decimals else "")
