"""The demo shop's tables as the API takes them, read from the CSV files beside this module.

Owns the columns of those files. Amounts are minor units by currency. Raises KeyError or ValueError only for a
file that was damaged: they ship with the package. Called by the loader and by the pages' routes.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from itertools import groupby
from typing import Any

CURRENCIES = ("USD", "GBP", "EUR", "JPY")

Document = dict[str, Any]


def products() -> list[Document]:
    """What the shop's page shows, in its order: `sku`, `title`, `description`, `category`, `picture`,
    `weight_g`, `tax_category`, `prices`.
    """
    return [
        {
            "sku": row["sku"],
            "title": row["title"],
            "description": row["description"],
            "category": row["category"],
            "picture": row["picture"],
            "weight_g": int(row["weight_g"]),
            "tax_category": row["tax_category"],
            "prices": _amounts(row),
        }
        for row in _rows("products")
    ]


def stock_levels() -> dict[str, int]:
    """Units on hand when the shop opens, by SKU."""
    return {row["sku"]: int(row["quantity"]) for row in _rows("stock")}


def shipping_table() -> Document:
    """The body of `PUT /v1/ops/shipping`: a flat standard and express rate for the US and for elsewhere."""
    zones = groupby(_rows("shipping"), key=lambda row: row["countries"])
    return {
        "zones": [
            {"countries": countries.split(), "options": [_option(row) for row in rows]} for countries, rows in zones
        ]
    }


def tax_table() -> Document:
    """The body of `PUT /v1/ops/tax`."""
    return {"rates": [_rate(row) for row in _rows("tax")]}


def _option(row: dict[str, str]) -> Document:
    return {
        "id": row["id"],
        "label": row["label"],
        "amount": _amounts(row),
        "min_days": int(row["min_days"]),
        "max_days": int(row["max_days"]),
    }


def _rate(row: dict[str, str]) -> Document:
    rate: Document = {
        "country": row["country"],
        "rate": row["rate"],
        "included": row["included"] == "yes",
        "shipping": row["shipping"] == "yes",
    }
    return rate | {"region": row["region"]} if row["region"] else rate


def _amounts(row: dict[str, str]) -> dict[str, int]:
    return {currency: int(row[f"{currency.lower()}_minor"]) for currency in CURRENCIES}


def _rows(name: str) -> list[dict[str, str]]:
    text = files("demo").joinpath("data", f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
