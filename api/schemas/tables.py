"""Bodies of the shop's tables: shipping options and tax rates."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from api.addresses import canonical_region
from api.schemas.common import Body, Country, FilledText, Prices, Text, country_code, rule
from domain.shipping import ANY_COUNTRY, ShippingOption, ShippingTable, Zone
from domain.tax import TaxRate, TaxTable, parse_rate

MAX_DAYS = 365


def _rate(text: str) -> str:
    try:
        parse_rate(text)
    except ValueError:
        message = "Must be a decimal from 0 to 1 with at most 8 places, as a string: 19% is 0.19."
        raise rule("invalid", message) from None
    return text


def _country_or_any(code: str) -> str:
    return code if code == ANY_COUNTRY else country_code(code)


CountryOrAny = Annotated[
    str,
    AfterValidator(_country_or_any),
    Field(description="ISO 3166-1 alpha-2, or `*`.", examples=["US", "*"]),
]


def _distinct(options: list[Option]) -> list[Option]:
    if len({option.id for option in options}) < len(options):
        raise rule("invalid", "Two options of a zone must not share an id.")
    return options


class Option(Body):
    """One way to ship; amounts are minor units by currency."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", examples=["express"])]
    label: FilledText = Field(examples=["Express"])
    amount: Annotated[Prices, Field(min_length=1)]
    min_days: Annotated[int, Field(ge=0, le=MAX_DAYS)]
    max_days: Annotated[int, Field(ge=0, le=MAX_DAYS)]
    free_above: Prices = Field(default_factory=dict)

    @model_validator(mode="after")
    def _days_in_order(self) -> Option:
        if self.min_days > self.max_days:
            raise rule("invalid", "min_days must not exceed max_days.")
        return self


class ShippingZone(Body):
    """Countries with the same options; `*` stands for those no other zone names."""

    countries: Annotated[list[CountryOrAny], Field(min_length=1, max_length=300)]
    options: Annotated[list[Option], Field(min_length=1, max_length=100), AfterValidator(_distinct)]


class PutShipping(Body):
    """The whole table; the first zone that names a country serves it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "zones": [
                        {
                            "countries": ["US"],
                            "options": [
                                {
                                    "id": "standard",
                                    "label": "Standard",
                                    "amount": {"USD": 500},
                                    "min_days": 3,
                                    "max_days": 5,
                                    "free_above": {"USD": 10000},
                                }
                            ],
                        }
                    ]
                }
            ]
        }
    )

    zones: Annotated[list[ShippingZone], Field(max_length=300)]

    def to_table(self) -> ShippingTable:
        """The same for the engine."""
        return ShippingTable(tuple(map(_zone, self.zones)))


class Rate(Body):
    """One tax rate; what is left out matches everything. The most specific rate applies."""

    country: Country
    region: Text | None = Field(None, description="Code or name.", examples=["IL"])
    postal_prefix: Annotated[FilledText, Field(max_length=20)] | None = None
    category: Annotated[FilledText, Field(max_length=64)] | None = None
    rate: Annotated[str, AfterValidator(_rate), Field(examples=["0.19"])]
    included: bool = Field(description="Prices contain the tax already.")
    shipping: bool = Field(False, description="The rate applies to shipping, too.")

    def to_rate(self) -> TaxRate:
        """The same for the engine, the region spelled as in checked addresses."""
        region = self.region and (canonical_region(self.country, self.region) or self.region)
        return TaxRate(
            self.country,
            self.rate,
            self.included,
            region or None,
            self.postal_prefix,
            self.category,
            self.shipping,
        )


class PutTax(Body):
    """The whole table."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"rates": [{"country": "DE", "rate": "0.19", "included": True}]}]}
    )

    rates: Annotated[list[Rate], Field(max_length=10_000)]

    def to_table(self) -> TaxTable:
        """The same for the engine."""
        return TaxTable(tuple(rate.to_rate() for rate in self.rates))


def _zone(zone: ShippingZone) -> Zone:
    options = (
        ShippingOption(option.id, option.label, option.amount, option.min_days, option.max_days, option.free_above)
        for option in zone.options
    )
    return Zone(tuple(zone.countries), tuple(options))
