"""What a sale is told, and what it is about: the configuration, and the stage it is played on.

Plain frozen values, picklable, since client processes get their share of them. Used by every module of
the flash sale; made by the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Journey = Literal["one-shot", "full"]
Basket = tuple[tuple[str, int], ...]
"""What one buyer wants: (SKU, quantity) pairs, each SKU once."""

DEFAULT_BUYERS = 10_000
DEFAULT_UNITS = 100
MAX_LINES = 50


class SaleFailedError(Exception):
    """The sale could not be held; the message says why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class SaleConfig:
    """One flash sale against the server at `url`, whose operator `token` is.

    `buyers`: how many come; None: 10,000, or with `baskets` one for each basket of the file.
    `units`: in all, spread evenly over the SKUs; None: 100. With `baskets`: of each SKU; None: twice what
    all baskets together want. `latency_ms`: put on the sandbox gateway first, where it stays; None:
    left as it is. `patience_s`: how long a buyer asks again after a lost connection, a 202 or a 503.
    `settle_s`: how long captures may take to follow the last order before the books are judged.
    `show_progress`: None shows it when standard error is a terminal.
    """

    url: str
    token: str
    buyers: int | None = None
    units: int | None = None
    skus: int = 1
    concurrency: int = 256
    journey: Journey = "one-shot"
    latency_ms: str | None = None
    baskets: Path | None = None
    client_processes: int = 1
    seed: int = 1
    patience_s: float = 60.0
    settle_s: float = 30.0
    show_progress: bool | None = None


@dataclass(frozen=True, slots=True)
class Product:
    """What is on sale: `units` of it, at `price` minor units of the shop's currency."""

    sku: str
    title: str
    price: int
    units: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Who wants what of what there is. `made_up` says in sentences what is not real about it."""

    run: str
    products: list[Product]
    baskets: list[Basket]
    made_up: list[str] = field(default_factory=list)

    @property
    def units(self) -> int:
        return sum(product.units for product in self.products)


@dataclass(frozen=True, slots=True)
class Stage:
    """What the shop told before the sale: its currency, a shipping option it offers, its version."""

    currency: str
    shipping_option: str | None
    server: dict[str, str]
