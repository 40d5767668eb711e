"""What the bodies of all resources are made of: strict types, lines, buyers, addresses, merge patches.

Owns the limits on a caller's input. Promises that what passes is bounded, of the exact type (no "1" or 1.0
for 1), free of control characters, and in Unicode's composed form. Messages say what to do and never repeat
the input. Never looks anything up. Used by the routes through the models of the other modules here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.addresses import COUNTRIES
from api.currencies import is_currency
from api.errors import RULE_PREFIX
from domain.catalog import MAX_LINES, MAX_QUANTITY, MAX_SKU_CHARACTERS, sku_problem

MAX_AMOUNT_MINOR = 10**12
MAX_UNITS = 10**9
MAX_TEXT_CHARACTERS = 200

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LABEL = r"[^\W_](?:[^\W_]|-(?!\.)){0,62}"
_EMAIL = re.compile(rf"[^\s@\"(),:;<>\[\]\\\x00-\x1f\x7f]{{1,64}}@(?:{_LABEL}\.)+[^\W_](?:[^\W_]|-){{0,61}}[^\W_]")
_PHONE = re.compile(r"\+?[0-9(][0-9 ().\-/]{1,30}(?: ?(?:x|ext\.?) ?[0-9]{1,6})?", re.IGNORECASE)


def rule(code: str, message: str) -> PydanticCustomError:
    """A finding of ours, for a validator to raise; `code` and `message` appear in the answer as they are."""
    return PydanticCustomError(RULE_PREFIX + code, message)


class Body(BaseModel):
    """A request body: unknown fields are refused, and values are taken as they are or not at all."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Resource(BaseModel):
    """A shape of an answer, for the API's description; answers are not validated at run time."""


class NoFields(Body):
    """A body without any field; it may be left out."""


def _clean(text: str) -> str:
    if _CONTROL.search(text):
        raise rule("invalid", "Must not contain line breaks or other control characters.")
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text.strip())


def _filled(text: str) -> str:
    if not text:
        raise rule("too_short", "Must not be empty.")
    return text


def _sku(text: str) -> str:
    problem = sku_problem(text)
    if problem is not None:
        raise rule("invalid", problem)
    return text


def _quantity(lowest: int) -> AfterValidator:
    def check(quantity: int) -> int:
        if not lowest <= quantity <= MAX_QUANTITY:
            raise rule("quantity_out_of_range", f"Must be from {lowest} to {MAX_QUANTITY}.")
        return quantity

    return AfterValidator(check)


def _currency(code: str) -> str:
    if not is_currency(code):
        raise rule("invalid", "Must be the ISO 4217 code of a currency in use, in capitals, such as USD.")
    return code


def country_code(code: str) -> str:
    """The code of a country in capitals; for validators."""
    if code.upper() not in COUNTRIES:
        raise rule("invalid", "Must be an ISO 3166-1 alpha-2 code, such as US.")
    return code.upper()


def _email(text: str) -> str:
    local, _, _ = text.partition("@")
    if _EMAIL.fullmatch(text) is None or local.startswith(".") or local.endswith(".") or ".." in local:
        raise rule("invalid", "Must be an e-mail address, such as name@example.com.")
    return text


def _phone(text: str) -> str:
    if text and _PHONE.fullmatch(text) is None:
        raise rule("invalid", "Must be a telephone number, such as +1 217 555 0100.")
    return text


def _not_null(value: Any) -> Any:
    if value is None:
        raise rule("invalid_type", "Must not be null; leave it out to keep what is there.")
    return value


Text: TypeAlias = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS), AfterValidator(_clean)]
FilledText: TypeAlias = Annotated[Text, AfterValidator(_filled)]
Token: TypeAlias = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]
Identifier: TypeAlias = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
Sku: TypeAlias = Annotated[
    str,
    Field(description="1-64 visible characters, inner spaces allowed, case-sensitive.", examples=["ROSE-RED-12"]),
    AfterValidator(_sku),
    Field(json_schema_extra={"minLength": 1, "maxLength": MAX_SKU_CHARACTERS}),
]
Quantity: TypeAlias = Annotated[
    int, _quantity(1), Field(json_schema_extra={"minimum": 1, "maximum": MAX_QUANTITY}, examples=[2])
]
QuantityOrNone: TypeAlias = Annotated[
    int, _quantity(0), Field(json_schema_extra={"minimum": 0, "maximum": MAX_QUANTITY}, examples=[3])
]
Amount: TypeAlias = Annotated[
    int, Field(ge=0, le=MAX_AMOUNT_MINOR, description="Minor units of the currency.", examples=[1999])
]
Currency: TypeAlias = Annotated[
    str,
    AfterValidator(_currency),
    Field(description="ISO 4217.", examples=["USD"], json_schema_extra={"pattern": "^[A-Z]{3}$"}),
]
Prices: TypeAlias = Annotated[
    dict[Currency, Amount],
    Field(description="Minor units by currency.", examples=[{"USD": 1999, "EUR": 1899}], max_length=200),
]
Country: TypeAlias = Annotated[
    str,
    AfterValidator(country_code),
    Field(description="ISO 3166-1 alpha-2.", examples=["US"], json_schema_extra={"pattern": "^[A-Za-z]{2}$"}),
]
Email: TypeAlias = Annotated[
    str, Field(max_length=254, examples=["ada@example.com"]), AfterValidator(_clean), AfterValidator(_email)
]
Phone: TypeAlias = Annotated[Text, AfterValidator(_phone), Field(examples=["+1 217 555 0100"])]
NotNull = BeforeValidator(_not_null)

SkuInPath: TypeAlias = Annotated[Sku, Path(description="Percent-encoded.")]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=100, description="How many entries at most.")]
Cursor: TypeAlias = Annotated[
    str | None, Query(min_length=1, max_length=200, description="`next_cursor` of the page before.")
]


class LineItem(Body):
    """So many units of one SKU."""

    sku: Sku
    quantity: Quantity


def _merge(lines: list[LineItem]) -> list[LineItem]:
    quantities: dict[str, int] = {}
    for line in lines:
        quantities[line.sku] = quantities.get(line.sku, 0) + line.quantity
    if len(quantities) > MAX_LINES:
        raise rule("too_many_lines", f"At most {MAX_LINES} different SKUs fit in one cart or checkout.")
    if max(quantities.values(), default=0) > MAX_QUANTITY:
        raise rule("quantity_out_of_range", f"Lines of one SKU must add up to at most {MAX_QUANTITY}.")
    if len(quantities) == len(lines):
        return lines
    return [LineItem(sku=sku, quantity=quantity) for sku, quantity in quantities.items()]


LineItems: TypeAlias = Annotated[
    list[LineItem],
    AfterValidator(_merge),
    Field(description="Repeated SKUs merge into one line.", examples=[[{"sku": "ROSE-RED-12", "quantity": 2}]]),
]


class BuyerFields(Body):
    """Who buys. What completing takes may be sent bit by bit; null takes a field back."""

    email: Email | None = None
    name: Text | None = None
    phone: Phone | None = None


class AddressFields(Body):
    """A postal address, in any script. What its country demands may be sent bit by bit; null takes back."""

    name: Text | None = Field(None, examples=["Ada Lovelace"])
    line1: Text | None = Field(None, examples=["1 Main St"])
    line2: Text | None = None
    city: Text | None = Field(None, examples=["Springfield"])
    region: Text | None = Field(None, description="Code or name of a state or province.", examples=["IL"])
    postal_code: Annotated[Text, Field(max_length=20)] | None = Field(None, examples=["62701"])
    country: Country | None = None
    phone: Phone | None = None


def given(body: BaseModel) -> dict[str, Any]:
    """The fields that were sent, null ones included: the patch, in the terms of RFC 7396."""
    return body.model_dump(exclude_unset=True, by_alias=True)


def merge_patch(target: Mapping[str, Any] | None, patch: Mapping[str, Any]) -> dict[str, Any]:
    """`target` with `patch` applied as RFC 7396 has it: null removes, objects merge, all else replaces."""
    merged = dict(target or {})
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            inner = merged.get(name)
            merged[name] = merge_patch(inner if isinstance(inner, Mapping) else None, value)
        else:
            merged[name] = value
    return merged
