"""Finds card numbers in requests, so that they are refused before they are logged, stored or echoed.

Owns the rule. In text a person wrote: 13-19 digits that pass the Luhn check, spaces and dashes ignored, in
any script and however escaped. In identifiers that machines make (SKUs, tokens, keys, paths) one long number
in ten passes Luhn by chance: there it must also be a card scheme's, and stand on its own.
Promises about 3 µs for a body without long numbers. Never returns the number. Called by the request guard.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import accumulate
from typing import Any
from urllib.parse import parse_qsl

from api.errors import json_path

MIN_DIGITS, MAX_DIGITS = 13, 19

# Fields whose values are identifiers. Everything else counts as free text.
IDENTIFIER_FIELDS = frozenset(
    (
        "cart_id",
        "id",
        "saved_payment_method",
        "selected_shipping_option",
        "sku",
        "skus",
        "token",
        "tracking_number",
    )
)
IDENTIFIER_HEADERS = frozenset((b"idempotency-key", b"x-request-id", b"cart-token", b"gift-card"))

# Spaces and dashes of every script, and the invisible characters that look like nothing between two digits.
_GAP = r"[\s\-\u00ad\u2010-\u2015\u2212\u200b-\u200d\u2060\ufe58\ufeff]*"
_LONG_RUN = re.compile(rf"\d(?:{_GAP}\d){{{MIN_DIGITS - 1},}}")
_LONG_RUN_IN_BYTES = re.compile(rb"[0-9](?:[\s-]*[0-9]){%d}" % (MIN_DIGITS - 1))
_GROUP = re.compile(r"\d+")
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)

# Prefixes and lengths in use (ISO/IEC 7812 issuers).
_SCHEME = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|5[1-5]\d{14}|(?:222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12,15}"  # Discover
    r"|3(?:0[0-5]|095|[689]\d)\d{11,16}"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|(?:62|81)\d{14,17}"  # UnionPay
    r"|(?:50|5[6-9]|6\d)\d{11,17}"  # Maestro, RuPay, Elo, Verve
    r"|220[0-4]\d{12,15}"  # Mir
    r"|9792\d{12}"  # Troy
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def find_in_body(raw: bytes, value: Any) -> str | None:
    """The JSONPath of a card number in a body (`raw`, decoded as `value`), or None."""
    # Escapes and other scripts can hide digits from a look at the bytes; both are rare enough to be walked.
    plain = raw.isascii() and b"\\" not in raw
    if plain and _LONG_RUN_IN_BYTES.search(raw) is None:
        return None
    parts = _find(value, identifier=False)
    return None if parts is None else json_path(reversed(parts))


def find_in_headers(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """`header.NAME` of a header that is kept or echoed and holds a card number, or None."""
    for name, value in headers:
        if name in IDENTIFIER_HEADERS and holds_card_number(value.decode("latin-1"), identifier=True):
            return f"header.{name.decode().title()}"
    return None


def find_in_url(path: str, query: bytes) -> str | None:
    """`path` or `query` if the decoded path or the raw query string holds a card number, else None."""
    if holds_card_number(path, identifier=True):
        return "path"
    # The shortest number has 13 characters, and the parsing is only for queries that have them.
    if len(query) < MIN_DIGITS:
        return None
    for pair in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if any(holds_card_number(text, identifier=True) for text in pair):
            return "query"
    return None


def holds_card_number(text: str, *, identifier: bool = False, field: str = "") -> bool:
    """Whether the text holds a card number; `identifier`: a machine made it; `field`: whose value it is."""
    if len(text) < MIN_DIGITS:
        return False
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if _LONG_RUN.search(text) is None:
        return False
    text = _UUID.sub("|", text)
    for run in _LONG_RUN.finditer(text):
        before, after = text[: run.start()][-1:], text[run.end() :][:1]
        groups = [_ascii(group) for group in _GROUP.findall(run.group())]
        if identifier:
            # Digits next to a letter are part of a random id, not a number of their own.
            groups = groups[before.isalnum() : len(groups) - after.isalnum()]
            if _holds_scheme_number(groups) and not (field == "sku" and _is_barcode(groups)):
                return True
        elif not (field == "phone" and _is_international(before, groups)):
            number = "".join(groups)
            if (len(number) <= MAX_DIGITS and passes_luhn(number)) or _holds_scheme_number(groups):
                return True
    return False


def passes_luhn(number: str) -> bool:
    """Whether the last digit of an ASCII digit string is its Luhn check digit."""
    digits = [ord(character) - 48 for character in reversed(number)]
    return (sum(digits[::2]) + sum(_DOUBLED[digit] for digit in digits[1::2])) % 10 == 0


def _find(value: Any, *, identifier: bool, field: str = "") -> list[str | int] | None:
    """The keys and positions that lead to a card number, innermost first."""
    if isinstance(value, str):
        return [] if holds_card_number(value, identifier=identifier, field=field) else None
    if isinstance(value, dict):
        for key, member in value.items():
            if holds_card_number(key):
                return []  # its own name would echo it: the object is named
            parts = _find(member, identifier=key in IDENTIFIER_FIELDS, field="sku" if key == "skus" else key)
            if parts is not None:
                return [*parts, key]
    elif isinstance(value, list):
        for position, member in enumerate(value):
            parts = _find(member, identifier=identifier, field=field)
            if parts is not None:
                return [*parts, position]
    elif type(value) is int and holds_card_number(str(value)):
        return []
    return None


def _holds_scheme_number(groups: list[str]) -> bool:
    """Whether neighbouring groups are a scheme's number: "4111 1111 1111 1111 12" has one, and a month."""
    number = "".join(groups)
    edges = list(accumulate(map(len, groups), initial=0))
    # Running sums make a group's check one subtraction: a body of "4 4 4 4 …" must not cost seconds.
    digits = [ord(character) - 48 for character in number]
    odd = list(accumulate((d if i % 2 else _DOUBLED[d] for i, d in enumerate(digits)), initial=0))
    even = list(accumulate((_DOUBLED[d] if i % 2 else d for i, d in enumerate(digits)), initial=0))
    for first, start in enumerate(edges):
        for end in edges[first + 1 : first + MAX_DIGITS + 1]:
            if end - start > MAX_DIGITS:
                break
            sums = even if end % 2 else odd
            if (
                end - start >= MIN_DIGITS
                and (sums[end] - sums[start]) % 10 == 0
                and _SCHEME.fullmatch(number, start, end)
            ):
                return True
    return False


def _is_barcode(groups: list[str]) -> bool:
    """Whether an unbroken number is a GTIN-13 or GTIN-14, which shops use as SKUs: its check digit tells."""
    number = groups[0]
    if len(groups) > 1 or len(number) not in (13, 14):
        return False
    digits = [ord(character) - 48 for character in reversed(number)]
    return (sum(digits[::2]) + 3 * sum(digits[1::2])) % 10 == 0


def _is_international(before: str, groups: list[str]) -> bool:
    """Whether it is a telephone number: at most 15 digits, after a plus sign or with a leading zero."""
    return sum(map(len, groups)) <= 15 and (before == "+" or groups[0][0] == "0")


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(unicodedata.digit(digit)) for digit in digits)
