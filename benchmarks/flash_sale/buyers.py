"""The buyers: what each wants, who each is, and the bytes each sends.

Pure but for reading the files of real baskets. Promises that the same configuration and seed make the
same sale, and that nobody shares an e-mail address, so that a buyer with two orders can be found.
Every SKU of a run begins with `SALE-<run>-`: no run touches what the shop sells otherwise.
Called by the run and the journeys.
"""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.flash_sale.config import (
    DEFAULT_BUYERS,
    DEFAULT_UNITS,
    Basket,
    Plan,
    Product,
    SaleConfig,
    SaleFailedError,
)
from imports.columns import ImportFailedError, ImportOptions
from imports.rows import Row, open_rows

_NAMES = (
    "Ada Okafor",
    "Zoë Müller",
    "Li Xiaolong",
    "Jean-Luc Dubois",
    "María Núñez",
    "Tom O’Brien",
    "山田 花子",
)
_TOWNS = (
    ("New York", "NY", "10012"),
    ("San Francisco", "CA", "94103"),
    ("Springfield", "IL", "62704"),
    ("Austin", "TX", "78701"),
    ("Seattle", "WA", "98101"),
    ("Boston", "MA", "02108"),
    ("Denver", "CO", "80202"),
    ("Miami", "FL", "33130"),
)
_PAYMENTS = b'[{"method":"card","token":"pm_card_visa"}]'


def make_plan(config: SaleConfig, run: str) -> Plan:
    """The products of the sale and each buyer's basket. Raises `SaleFailedError` for impossible figures."""
    for name, value, least in (
        ("buyers", config.buyers, 1),
        ("units", config.units, 0),
        ("skus", config.skus, 1),
        ("concurrency", config.concurrency, 1),
        ("client processes", config.client_processes, 1),
    ):
        if value is not None and value < least:
            raise SaleFailedError(f"{name} must be at least {least}, not {value}")
    return _replay(config, config.baskets, run) if config.baskets else _lottery(config, run)


def _lottery(config: SaleConfig, run: str) -> Plan:
    """Each buyer wants one unit of one SKU, drawn at random when there are several."""
    units = DEFAULT_UNITS if config.units is None else config.units
    share, rest = divmod(units, config.skus)
    products = [
        Product(f"SALE-{run}-{n + 1:03d}", f"Flash sale item {n + 1}", 1999 + 10 * n, share + (n < rest))
        for n in range(config.skus)
    ]
    choices: list[Basket] = [((product.sku, 1),) for product in products]
    draw = random.Random(config.seed)
    buyers = DEFAULT_BUYERS if config.buyers is None else config.buyers
    return Plan(run, products, [draw.choice(choices) for _ in range(buyers)], ["products, prices and buyers"])


def _replay(config: SaleConfig, path: Path, run: str) -> Plan:
    """Each buyer wants one of the file's baskets; prices are real where an invoice file lies beside it."""
    prefix = f"SALE-{run}-"
    baskets: list[Basket] = []
    for skus in read_baskets(path):
        baskets.append(tuple((prefix + sku, count) for sku, count in Counter(skus).items()))
        if len(baskets) == config.buyers:
            break
    if not baskets:
        raise SaleFailedError(f"{path} has no baskets: one a line is expected, its SKUs separated by commas")
    demand: Counter[str] = Counter()
    for basket in baskets:
        demand.update(dict(basket))
    catalogue = _catalogue(path.with_name("invoice_lines.csv"))
    products, unpriced = [], 0
    for sku, wanted in demand.items():
        title, price = catalogue.get(sku.removeprefix(prefix), ("", 0))
        unpriced += not price
        units = 2 * wanted if config.units is None else config.units
        products.append(Product(sku, title or f"Item {sku}", price or 250, units))
    made_up = ["stock and buyers"]
    if catalogue:
        made_up.append("the currency: the file's pounds are taken as the shop's own")
    if unpriced:
        made_up.append(f"the price of {unpriced:,} of {len(products):,} SKUs: 250 minor units")
    return Plan(run, products, baskets, made_up)


def read_baskets(path: Path) -> Iterator[list[str]]:
    """The SKUs of each line of a file, which may be gzipped; a repeated SKU stands as often as there."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if skus := [sku for part in line.split(",") if (sku := part.strip())]:
                yield skus


def _catalogue(path: Path) -> dict[str, tuple[str, int]]:
    """(title, price in minor units) of each SKU of an invoice file; empty when there is none to be read."""
    options = ImportOptions(mapping={"price": "unit_price_gbp"}, price_unit="major", currency="GBP")
    if not path.is_file():
        return {}
    try:
        with open_rows(path, "products", options) as rows:
            return {row.sku: (row.item["title"], row.item["prices"]["GBP"]) for row in rows if isinstance(row, Row)}
    except ImportFailedError as error:
        raise SaleFailedError(f"the prices beside the baskets cannot be read: {error}") from error


def email_of(run: str, number: int) -> str:
    """The e-mail address of buyer `number`, theirs alone."""
    return f"buyer-{number}@{run}.example.com"


def key_of(run: str, number: int, step: str) -> str:
    """The idempotency key of one buyer's step; the same for every attempt at it."""
    return f"sale-{run}-{number:07d}-{step}"


class Letters:
    """The request bodies of a run, encoded ahead: only what is a buyer's own is filled in when sent."""

    def __init__(self, run: str, shipping_option: str | None) -> None:
        self._run = run
        self._lines: dict[Basket, bytes] = {}
        self._names = [_json(name) for name in _NAMES]
        self._towns = [
            _json({"city": city, "region": region, "postal_code": code, "country": "US"})[1:]
            for city, region, code in _TOWNS
        ]
        self._option = _json(shipping_option)

    def one_shot(self, number: int, basket: Basket) -> bytes:
        """`POST /v1/express-checkouts`"""
        return b'{"line_items":%b,%b,"payments":%b}' % (
            self._line_items(basket),
            self._buyer_and_address(number),
            _PAYMENTS,
        )

    def cart(self, basket: Basket) -> bytes:
        """`POST /v1/carts`"""
        return b'{"line_items":%b}' % self._line_items(basket)

    def start(self, cart_id: str) -> bytes:
        """`POST /v1/checkouts`"""
        return b'{"cart_id":%b}' % _json(cart_id)

    def details(self, number: int) -> bytes:
        """`PATCH /v1/checkouts/{id}`"""
        return b'{%b,"selected_shipping_option":%b}' % (self._buyer_and_address(number), self._option)

    def complete(self) -> bytes:
        """`POST /v1/checkouts/{id}/complete`"""
        return b'{"payments":%b}' % _PAYMENTS

    def _line_items(self, basket: Basket) -> bytes:
        encoded = self._lines.get(basket)
        if encoded is None:
            encoded = _json([{"sku": sku, "quantity": quantity} for sku, quantity in basket])
            self._lines[basket] = encoded
        return encoded

    def _buyer_and_address(self, number: int) -> bytes:
        name = self._names[number % len(self._names)]
        return b'"buyer":{"email":"%b","name":%b},"shipping_address":{"name":%b,"line1":"%d Market Street",%b' % (
            email_of(self._run, number).encode(),
            name,
            name,
            1 + number % 9973,
            self._towns[number % len(self._towns)],
        )


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
