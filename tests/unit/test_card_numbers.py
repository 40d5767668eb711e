"""Card numbers: found however they are written, and hardly ever found where there are none."""

from __future__ import annotations

import json
import random
import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.card_numbers import (
    MAX_DIGITS,
    MIN_DIGITS,
    find_in_body,
    find_in_headers,
    find_in_url,
    holds_card_number,
    passes_luhn,
)

CARD = "4111111111111111"
SCHEME_NUMBERS = [
    CARD,  # Visa
    "4222222222222",
    "4000000000000000006",
    "5555555555554444",  # Mastercard
    "2223003122003222",
    "378282246310005",  # American Express
    "6011111111111117",  # Discover
    "30569309025904",  # Diners Club
    "3056930009020004",
    "36227206271667",
    "3566002020360505",  # JCB
    "6200000000000005",  # UnionPay
    "6205500000000000004",
    "6759649826438453",  # Maestro
    "6304000000000000",
    "2200000000000004",  # Mir
]


def with_check_digit(digits: str) -> str:
    """The digits and the one that makes them pass Luhn."""
    return next(number for last in "0123456789" if passes_luhn(number := digits + last))


def bodies_with(value: object) -> list[bytes]:
    """The value in a body, escaped in JSON's different ways."""
    body = {"a": [1, {"b": value}]}
    plain = json.dumps(body, ensure_ascii=False).encode()
    return [
        plain,
        json.dumps(body).encode(),
        json.dumps({**body, "name": "Zoë"}, ensure_ascii=False).encode(),
    ]


luhn_valid = st.integers(MIN_DIGITS - 1, MAX_DIGITS - 1).flatmap(
    lambda size: st.text("0123456789", min_size=size, max_size=size).map(with_check_digit)
)


@given(number=luhn_valid, gaps=st.lists(st.sampled_from(["", "", " ", "-", " - ", "\u00a0", "–", "\u200b"])))
def test_text_with_a_luhn_valid_number_is_refused(number: str, gaps: list[str]) -> None:
    """13 to 19 digits that pass Luhn, whatever spaces and dashes stand between them."""
    padded = (gaps + [""] * MAX_DIGITS)[: len(number) - 1]
    written = "".join(digit + gap for digit, gap in zip(number, [*padded, ""], strict=True))
    assert holds_card_number(f"my card: {written}.")
    for raw in bodies_with(written):
        assert find_in_body(raw, json.loads(raw)) == "$.a[1].b"


@given(number=luhn_valid)
def test_a_number_is_refused_in_other_scripts_and_escapes(number: str) -> None:
    """Full-width and Arabic digits are digits; an escaped digit is one, too."""
    for zero in (0xFF10, 0x0660, 0x1D7CE):
        written = "".join(chr(zero + int(digit)) for digit in number)
        for raw in bodies_with(written):
            assert find_in_body(raw, json.loads(raw)) == "$.a[1].b"
    escaped = "".join(f"\\u003{digit}" for digit in number)
    assert find_in_body(f'{{"n":"{escaped}"}}'.encode(), {"n": number}) == "$.n"


@given(number=luhn_valid.filter(lambda number: number[0] != "0"))
def test_a_number_is_refused_as_a_json_number(number: str) -> None:
    """Without quotes it is a card number all the same."""
    raw = f'{{"n":{number}}}'.encode()
    assert find_in_body(raw, json.loads(raw)) == "$.n"


@given(number=luhn_valid, position=st.integers(0, 17), change=st.integers(1, 9))
def test_a_mistyped_number_is_let_through(number: str, position: int, change: int) -> None:
    """One wrong digit fails Luhn: the rule is no ban on long numbers."""
    position %= len(number)
    digit = (int(number[position]) + change) % 10
    wrong = number[:position] + str(digit) + number[position + 1 :]
    assert not passes_luhn(wrong)
    assert not holds_card_number(wrong)


@given(digits=st.text("0123456789 -", max_size=12 + 10).filter(lambda text: sum(map(str.isdigit, text)) < 13))
def test_fewer_than_13_digits_are_no_card_number(digits: str) -> None:
    """Telephone numbers, postal codes, dates."""
    assert not holds_card_number(digits)


@pytest.mark.parametrize("number", SCHEME_NUMBERS)
@pytest.mark.parametrize("written", ["{}", "order {}", "{} 12 27 123", "5 {}", "{}/12", "pm_{}", "({})"])
def test_scheme_numbers_are_refused_in_identifiers_too(number: str, written: str) -> None:
    """Alone or among other numbers, split in the usual groups or not."""
    groups = " ".join(number[start : start + 4] for start in range(0, len(number), 4))
    for shape in (number, groups):
        assert holds_card_number(written.format(shape), identifier=True)
        assert holds_card_number(written.format(shape))


@pytest.mark.parametrize(
    "text",
    [
        "1732273812345678",  # microseconds since 1970
        "checkout-1732273812345",
        "9611020987654312345672",  # a parcel's number
        "00000000-0000-0000-0000-000000000000",
        "41111111-1111-4008-8111-111111111111",
        "cart_01jd4x6p8rk2m5q7t9vbdfhkmn",
        "e4111111111111111",
        "4111111111111111e",
    ],
)
def test_identifiers_of_machines_are_let_through(text: str) -> None:
    """Times, parcels, UUIDs and digits inside a random word are no card numbers."""
    assert not holds_card_number(text, identifier=True)


def test_random_keys_are_let_through() -> None:
    """Of many random UUIDs, as clients make their keys from, not one is taken for a card number."""
    random_source = random.Random(7)
    for _ in range(20_000):
        uuid = UUID(int=random_source.getrandbits(128), version=4)
        assert not holds_card_number(str(uuid), identifier=True)
        assert not holds_card_number(uuid.hex, identifier=True)


@pytest.mark.parametrize(
    ("field", "value", "refused"),
    [
        ("sku", "4006381333023", False),  # a barcode, too, by its own check digit
        ("title", "4006381333023", True),
        ("sku", "4222222222222", True),
        ("sku", CARD, True),
        ("skus", [CARD], True),
        ("phone", "+49 1512 345678 7", False),
        ("phone", "0049 1512 34567 0", False),
        ("phone", CARD, True),
        ("phone", f"+{CARD}", True),
        ("token", "pm_card_visa", False),
        ("tracking_number", "123456789012347", False),
        ("name", "123456789012347", True),
        ("quantity", 4111111111111111, True),
        ("amount", 10**12, False),
        ("flag", True, False),
        ("nothing", None, False),
    ],
)
def test_a_field_decides_what_counts(field: str, value: object, refused: bool) -> None:
    """Barcodes as SKUs, telephone numbers with a plus sign, parcels: each where it belongs, not elsewhere."""
    raw = json.dumps({"line": {field: value}}).encode()
    found = find_in_body(raw, json.loads(raw))
    assert (found is not None) is refused


def test_the_table_above_is_about_numbers_that_pass_luhn() -> None:
    """Else being let through would prove nothing."""
    for digits in ("4006381333023", "4915123456787", "00491512345670", "123456789012347"):
        assert passes_luhn(digits), digits


def test_a_key_that_is_a_card_number_names_its_object() -> None:
    """Naming the key would echo it."""
    raw = json.dumps({"a": {CARD: 1}}).encode()
    assert find_in_body(raw, json.loads(raw)) == "$.a"


@pytest.mark.parametrize(
    ("path", "query", "place"),
    [
        (f"/v1/stock/{CARD}", b"", "path"),
        ("/v1/stock", f"sku={CARD}".encode(), "query"),
        ("/v1/stock", b"a=1&sku=4111-1111+1111%201111", "query"),
        ("/v1/stock", f"{CARD}=1".encode(), "query"),
        ("/v1/stock", b"sku=%34%31%31%31%31%31%31%31%31%31%31%31%31%31%31%31", "query"),
        ("/v1/stock", b"a=41111111&b=11111111", None),
        ("/v1/orders/ord_01jd4x6p8rk2m5q7t9vbdfhkmn", b"limit=20", None),
    ],
)
def test_urls_are_looked_at_after_decoding(path: str, query: bytes, place: str | None) -> None:
    """Neighbouring parameters do not make up a number."""
    assert find_in_url(path, query) == place


def test_headers_that_are_kept_or_echoed_are_looked_at() -> None:
    """Others never leave the request."""
    assert find_in_headers([(b"idempotency-key", CARD.encode())]) == "header.Idempotency-Key"
    assert find_in_headers([(b"user-agent", CARD.encode()), (b"idempotency-key", b"a" * 40)]) is None


@pytest.mark.parametrize("text", ["4 " * 60_000, "4" * 120_000, "4\n-" * 40_000, "4x" * 60_000, "- " * 60_000])
def test_no_body_takes_long_to_look_at(text: str) -> None:
    """The work grows with the length only: a hostile body of the largest size stays below a second."""
    started = time.process_time()
    holds_card_number(text)
    holds_card_number(text, identifier=True)
    assert time.process_time() - started < 1.5
