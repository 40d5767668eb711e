"""The fields of a row, each read exactly or refused with a reason: SKU, title, price, quantity, weight.

Pure text to value. Amounts go through decimals and the currency's own digits; floats never appear.
Raises `InvalidFieldError`, whose text is the reason that people see. Called by `imports.columns`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from babel.numbers import get_currency_precision, is_currency

from domain.catalog import sku_problem

PriceUnit = Literal["minor", "major"]

_WHOLE = re.compile(r"[0-9]{1,12}")
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NEGATIVE = re.compile(r"-[0-9]+(\.[0-9]+)?")


class InvalidFieldError(Exception):
    """Why a field, and with it its row, is bad."""


def sku(text: str) -> str:
    if problem := sku_problem(text):
        raise InvalidFieldError(problem.removesuffix("."))
    return text


def title(text: str) -> str:
    """The title with every run of white space, line breaks included, as one space."""
    words = " ".join(text.split())
    if not words:
        raise InvalidFieldError("title is missing")
    if _CONTROL.search(words):
        raise InvalidFieldError("title has control characters")
    return words


def weight_g(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise InvalidFieldError(f"weight_g {text!r} is not a whole number of grams")
    return int(text)


def quantity(text: str) -> int:
    if not text:
        raise InvalidFieldError("quantity is missing")
    if _NEGATIVE.fullmatch(text):
        raise InvalidFieldError(f"quantity {text} is negative: a return, not stock")
    if not _WHOLE.fullmatch(text):
        raise InvalidFieldError(f"quantity {text!r} is not a whole number")
    return int(text)


@lru_cache(maxsize=256)
def currency_digits(currency: str) -> int:
    """Decimals of an ISO 4217 currency: USD 2, JPY 0, KWD 3. `InvalidFieldError` for an unknown one."""
    if not is_currency(currency):
        raise InvalidFieldError(f"{currency!r} is no ISO 4217 currency")
    return int(get_currency_precision(currency))


def price_to_minor(text: str, currency: str, unit: PriceUnit) -> int:
    """The price in minor units, exactly; `InvalidFieldError` for what is no price or finer than one."""
    digits = currency_digits(currency)
    if not text:
        raise InvalidFieldError("price is missing")
    if _NEGATIVE.fullmatch(text):
        raise InvalidFieldError(f"price {text} is negative")
    if unit == "minor":
        if not _WHOLE.fullmatch(text):
            hint = "; is it --price-unit major?" if _DECIMAL.fullmatch(text) else ""
            raise InvalidFieldError(f"price {text!r} is not a whole number of minor units{hint}")
        return int(text)
    if not _DECIMAL.fullmatch(text):
        raise InvalidFieldError(f"price {text!r} is not a plain decimal number")
    amount = Decimal(text).scaleb(digits)
    if amount != amount.to_integral_value():
        raise InvalidFieldError(f"price {text} is finer than {currency}'s smallest unit ({digits} decimals)")
    return int(amount)
