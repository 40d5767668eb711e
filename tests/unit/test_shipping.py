"""Which options a destination is offered, and at what amount."""

from __future__ import annotations

import msgspec
import pytest

from domain.shipping import OfferedOption, ShippingOption, ShippingTable, Zone, cheapest, offers

STANDARD = ShippingOption("standard", "Standard", {"USD": 500, "EUR": 450}, 3, 5, {"USD": 10_000})
EXPRESS = ShippingOption("express", "Express", {"USD": 1500}, 1, 2)
ABROAD = ShippingOption("abroad", "International", {"USD": 2500}, 7, 14)

TABLE = ShippingTable(
    zones=(
        Zone(countries=("US", "CA"), options=(STANDARD, EXPRESS)),
        Zone(countries=("CA",), options=(ABROAD,)),
        Zone(countries=("KP",), options=()),
        Zone(countries=("*",), options=(ABROAD,)),
        Zone(countries=("*", "FR"), options=(EXPRESS,)),
    )
)


@pytest.mark.parametrize(
    ("country", "currency", "subtotal", "expected"),
    [
        pytest.param("US", "USD", 0, [("standard", 500), ("express", 1500)], id="named country"),
        pytest.param("CA", "USD", 0, [("standard", 500), ("express", 1500)], id="first naming zone wins"),
        pytest.param("US", "EUR", 0, [("standard", 450)], id="no amount in that currency, not offered"),
        pytest.param("US", "JPY", 0, [], id="nothing in that currency"),
        pytest.param("DE", "USD", 0, [("abroad", 2500)], id="first zone of the others"),
        pytest.param("FR", "USD", 0, [("express", 1500)], id="named beats an earlier *"),
        pytest.param("KP", "USD", 0, [], id="named without options: undeliverable, no fall back to *"),
        pytest.param("US", "USD", 9_999, [("standard", 500), ("express", 1500)], id="below the threshold"),
        pytest.param("US", "USD", 10_000, [("standard", 0), ("express", 1500)], id="at the threshold"),
        pytest.param("US", "EUR", 99_999, [("standard", 450)], id="no threshold in that currency"),
    ],
)
def test_offers_follow_zone_currency_and_threshold(
    country: str, currency: str, subtotal: int, expected: list[tuple[str, int]]
) -> None:
    """Zone order decides the options, currency whether one is offered, the subtotal whether it is free."""
    offered = offers(TABLE, country, currency, subtotal)
    assert [(option.id, option.amount) for option in offered] == expected


def test_an_offer_carries_label_and_days_of_its_option() -> None:
    """The buyer sees what the merchant configured."""
    assert offers(TABLE, "DE", "USD", 0) == (OfferedOption("abroad", "International", 2500, 7, 14),)


@pytest.mark.parametrize(("country", "currency"), [("US", "USD"), ("NZ", "KWD")])
def test_an_unconfigured_table_ships_everywhere_for_nothing(country: str, currency: str) -> None:
    """One option `standard`, amount 0, whatever the country and the currency."""
    assert offers(ShippingTable(), country, currency, 0) == (OfferedOption("standard", "Standard", 0, 3, 5),)


def test_a_country_no_zone_serves_is_undeliverable() -> None:
    """Without a zone for all others, a country nobody names is offered nothing."""
    assert offers(ShippingTable((Zone(("US",), (STANDARD,)),)), "DE", "EUR", 0) == ()


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [([], None), ([5], "0"), ([7, 5, 6], "1"), ([5, 3, 3], "1"), ([0, 0, 0], "0")],
)
def test_cheapest_is_the_first_of_the_lowest(amounts: list[int], expected: str | None) -> None:
    """Ties go to the merchant's order; nothing offered, nothing chosen."""
    option = cheapest([OfferedOption(str(n), "", amount, 1, 2) for n, amount in enumerate(amounts)])
    assert (option.id if option else None) == expected


def test_a_table_survives_encoding_before_and_after_use() -> None:
    """What is stored is the zones alone: the lookup worked out from them does not leak into the bytes."""
    table = ShippingTable(TABLE.zones)
    fresh = msgspec.msgpack.encode(table)
    offers(table, "US", "USD", 0)
    assert msgspec.msgpack.encode(table) == fresh
    assert msgspec.msgpack.decode(fresh, type=ShippingTable) == TABLE
