"""Which column of a file means what, and the function that judges a row of it.

Owns the mapping of the file's column names to ours. Told the header and the options, it gives a judge:
fields of a row → (SKU, item of a batch endpoint), or `InvalidFieldError` with the reason. Raises
`ImportFailedError` for a header that cannot serve. Reads no file, asks no server. Called by `imports.rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imports import fields
from imports.fields import InvalidFieldError, PriceUnit

PRODUCT_COLUMNS = ("sku", "title", "price", "price_minor", "currency", "weight_g", "tax_category")
STOCK_COLUMNS = ("sku", "quantity")
_COLUMNS = {"products": PRODUCT_COLUMNS, "stock": STOCK_COLUMNS}


class ImportFailedError(Exception):
    """The import could not run; the message says why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """`mapping` names the file's column for each of ours; `currency` stands where a row has none."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    price_unit: PriceUnit = "minor"
    currency: str | None = None
    atomic: bool = False
    allow_zero_price: bool = False
    encoding: str | None = None


def parse_mapping(text: str) -> dict[str, str]:
    """`"sku=id,price=unit_price"` → `{"sku": "id", "price": "unit_price"}`, or `ImportFailedError`."""
    known = dict.fromkeys(PRODUCT_COLUMNS + STOCK_COLUMNS)
    mapping: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals or not ours or not theirs:
            raise ImportFailedError(f"--map: {pair!r} is not of the form column=column_of_the_file")
        if ours not in known:
            raise ImportFailedError(f"--map: there is no column {ours!r}; there are {', '.join(known)}")
        if ours in mapping:
            raise ImportFailedError(f"--map: {ours!r} is given twice")
        mapping[ours] = theirs
    return mapping


Judge = Callable[[list[str]], tuple[str, dict[str, Any]]]


def judge_of(header: list[str], kind: str, options: ImportOptions) -> tuple[int, Judge]:
    """Where the SKU stands, and the function from a row's fields to (SKU, item), or `InvalidFieldError`."""
    places = _places(header, _COLUMNS[kind], options.mapping)
    if kind == "products":
        return _product_judge(places, header, options)
    _demand(places, header, ("sku", "quantity"))
    sku_at, quantity_at = places["sku"], places["quantity"]

    def stock(cells: list[str]) -> tuple[str, dict[str, Any]]:
        sku = fields.sku(cells[sku_at].strip())
        return sku, {"sku": sku, "set": fields.quantity(cells[quantity_at].strip())}

    return sku_at, stock


def _product_judge(places: dict[str, int], header: list[str], options: ImportOptions) -> tuple[int, Judge]:
    _demand(places, header, ("sku", "title"))
    price_at, unit = _price_column(places, header, options)
    if "currency" not in places and options.currency is None:
        raise ImportFailedError("no currency: the file has no such column; say it with --currency")
    sku_at, title_at, currency_at = places["sku"], places["title"], places.get("currency")
    extras = [(name, places[name]) for name in ("weight_g", "tax_category") if name in places]
    default, free = options.currency or "", options.allow_zero_price

    def product(cells: list[str]) -> tuple[str, dict[str, Any]]:
        sku = fields.sku(cells[sku_at].strip())
        currency = (cells[currency_at].strip() if currency_at is not None else "") or default
        if not currency:
            raise InvalidFieldError("currency is missing")
        amount = fields.price_to_minor(cells[price_at].strip(), currency, unit)
        if amount == 0 and not free:
            raise InvalidFieldError("price is 0; --allow-zero-price takes it")
        item: dict[str, Any] = {
            "sku": sku,
            "title": fields.title(cells[title_at]),
            "prices": {currency: amount},
        }
        for name, at in extras:
            if value := cells[at].strip():
                item[name] = fields.weight_g(value) if name == "weight_g" else value
        return sku, item

    return sku_at, product


def _places(header: list[str], ours: tuple[str, ...], mapping: Mapping[str, str]) -> dict[str, int]:
    missing = [theirs for theirs in mapping.values() if theirs not in header]
    if missing:
        raise ImportFailedError(_missing(missing, header))
    strange = [name for name in mapping if name not in ours]
    if strange:
        raise ImportFailedError(f"--map: {', '.join(strange)} has no place here; there are {', '.join(ours)}")
    doubled = sorted({name for name in header if name and header.count(name) > 1})
    named = {name: mapping.get(name, name) for name in ours}
    if ambiguous := [theirs for theirs in named.values() if theirs in doubled]:
        raise ImportFailedError(f"the file has more than one column {ambiguous[0]!r}")
    return {name: header.index(theirs) for name, theirs in named.items() if theirs in header}


def _price_column(places: dict[str, int], header: list[str], options: ImportOptions) -> tuple[int, PriceUnit]:
    mapped = [name for name in ("price_minor", "price") if name in options.mapping]
    if len(mapped) == 2:
        raise ImportFailedError("--map: give price or price_minor, not both")
    found = mapped or [name for name in ("price_minor", "price") if name in places]
    if not found:
        raise ImportFailedError(_missing(["price_minor"], header))
    if found[0] == "price_minor" and options.price_unit == "major":
        raise ImportFailedError("price_minor is in minor units; for --price-unit major, map the column as price=…")
    return places[found[0]], options.price_unit


def _demand(places: dict[str, int], header: list[str], names: tuple[str, ...]) -> None:
    if missing := [name for name in names if name not in places]:
        raise ImportFailedError(_missing(missing, header))


def _missing(columns: list[str], header: list[str]) -> str:
    found = ", ".join(header)
    separators = [name for mark, name in ((";", "semicolons"), ("\t", "tabs")) if mark in found]
    hint = f" Its fields seem to be separated by {separators[0]}; commas are needed." if separators else ""
    return (
        f"the file has no column {', '.join(columns)}; it has: {found}.{hint} "
        "Name other columns with --map, e.g. --map sku=id"
    )
