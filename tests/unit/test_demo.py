"""The demo shop's goods, and their way into a shop: over HTTP, once, never over an operator's changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
import pytest_asyncio

import demo
from api.schemas.batches import BatchProduct
from api.schemas.tables import PutShipping, PutTax
from demo.loader import DemoRefusedError, load_demo
from operator_client import BatchResult, StockAccount
from tests.support.shop import ADDRESS, DETAILS, Shop, open_shop

FOUND = {
    # As the two sources have them: what is not made up must not drift.
    "bouquet_roses": ("Bouquet of Red Roses", "USD", 3500),
    "bouquet_tulips": ("Spring Tulips", "USD", 3000),
    "bouquet_sunflowers": ("Sunflower Bundle", "USD", 2500),
    "orchid_white": ("White Orchid", "USD", 4500),
    "gardenias": ("Gardenias", "USD", 2000),
    "pot_ceramic": ("Ceramic Pot", "USD", 1500),
    "85123A": ("White Hanging Heart T-Light Holder", "GBP", 295),
    "22423": ("Regency Cakestand 3 Tier", "GBP", 1275),
    "47566": ("Party Bunting", "GBP", 465),
}


class ApplicationClient:
    """`operator_client.OperatorClient` without a network between. `fails_at`: a path it cannot reach."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.fails_at: str | None = None
        self.paths: list[str] = []

    async def put_products(self, products: Sequence[dict[str, Any]], *, dry_run: bool = False) -> list[BatchResult]:
        body = {"products": list(products), "dry_run": dry_run}
        answer = await self.call("POST", "/v1/ops/products/batch", body)
        return msgspec.json.decode(answer, type=dict[str, list[BatchResult]])["results"]

    async def stock(self, sku: str) -> StockAccount:
        return msgspec.json.decode(await self.call("GET", f"/v1/ops/stock/{sku}"), type=StockAccount)

    async def call(
        self, method: str, path: str, body: object = None, *, headers: dict[str, str] | None = None
    ) -> bytes:
        self.paths.append(path)
        if self.fails_at is not None and path.startswith(self.fails_at):
            raise ConnectionError(path)
        answer = await self._shop.call(method, path, body, self._shop.operator() | (headers or {}))
        assert answer.status_code in (200, 201), answer.text
        return answer.content


@pytest_asyncio.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop() as opened:
        yield opened


@pytest.fixture
def client(shop: Shop) -> ApplicationClient:
    return ApplicationClient(shop)


def test_thirty_products_have_what_a_shelf_needs() -> None:
    """Four currencies, a picture, a title that fits a card, and a stock of their own."""
    products = demo.products()
    assert len({product["sku"] for product in products}) == len(products) == 30
    assert {product["sku"] for product in products} == set(demo.stock_levels())
    for product in products:
        assert set(product["prices"]) == {"USD", "GBP", "EUR", "JPY"}
        assert all(amount > 0 for amount in product["prices"].values())
        assert product["title"] == product["title"].strip() != ""
        assert product["title"] != product["title"].upper()
        assert product["description"].endswith(".")


@pytest.mark.parametrize("sku", FOUND)
def test_what_was_found_is_kept_as_found(sku: str) -> None:
    """The titles and prices of the sources; what is made up is named in NOTICE.md."""
    product = next(product for product in demo.products() if product["sku"] == sku)
    title, currency, amount_minor = FOUND[sku]
    assert (product["title"], product["prices"][currency]) == (title, amount_minor)


def test_the_tables_are_what_the_api_takes() -> None:
    """Checked by the schemas of the endpoints they are sent to."""
    shipping = PutShipping.model_validate(demo.shipping_table()).to_table()
    amounts = [[option.amount["USD"] for option in zone.options] for zone in shipping.zones]
    assert amounts == [[500, 1500], [500, 2500]]
    rates = PutTax.model_validate(demo.tax_table()).to_table().rates
    # A buyer in Illinois, who stands in every example, pays what the price says.
    assert not [rate for rate in rates if rate.country == "US" and rate.region in (None, "IL")]
    for product in demo.products():
        fields = {name: product[name] for name in product if name not in ("description", "picture")}
        BatchProduct.model_validate(fields)


async def test_a_fresh_shop_gets_everything(shop: Shop, client: ApplicationClient) -> None:
    """Products, stock, shipping and tax, through the operator's endpoints."""
    assert await load_demo(client) == 30
    for sku, units in demo.stock_levels().items():
        assert (await shop.figures(sku))["available"] == units
    bought = await shop.buy("85123A", shipping_address={**ADDRESS, "region": "CA", "postal_code": "90001"})
    totals = {entry["type"]: entry["amount"] for entry in bought.json()["order"]["totals"]}
    assert totals == {"subtotal": 375, "fulfillment": 500, "tax": 27, "total": 902}


async def test_a_restart_leaves_the_shop_to_its_operator(shop: Shop, client: ApplicationClient) -> None:
    """What was sold, re-priced, recounted and configured stays so; nothing is written at all."""
    await load_demo(client)
    await shop.buy("22423", 2)
    await shop.put("/v1/ops/products/22457", {"title": "Slate", "prices": {"USD": 1}})
    await shop.put("/v1/ops/shipping", {"zones": []})
    recount = {"set": 7, "reason": "recount"}
    await shop.post("/v1/ops/stock/85123A/adjustments", recount, shop.operator())
    client.paths.clear()

    assert await load_demo(client) == 0
    assert not [path for path in client.paths if path.endswith(("adjustments", "shipping", "tax"))]
    assert await shop.figures("22423") == {"on_hand": 1, "reserved": 0, "available": 1, "sold": 2}
    assert (await shop.figures("85123A"))["on_hand"] == 7
    slate = (await shop.post("/v1/carts", {"line_items": [{"sku": "22457", "quantity": 1}]})).json()
    assert slate["line_items"][0]["unit_price"] == 1
    checkout = await shop.post("/v1/checkouts", {"line_items": [{"sku": "22457", "quantity": 1}], **DETAILS})
    assert [option["amount"] for option in checkout.json()["shipping_options"]] == [0]


async def test_units_that_were_taken_out_do_not_come_back(shop: Shop, client: ApplicationClient) -> None:
    """An operator empties the shelf of what never sold: the account looks new, and is not."""
    await load_demo(client)
    emptied = {"set": 0, "reason": "damaged"}
    await shop.post("/v1/ops/stock/21731/adjustments", emptied, shop.operator())
    await load_demo(client)
    assert (await shop.figures("21731"))["on_hand"] == 0


@pytest.mark.parametrize(
    "where", ["/v1/ops/tax", "/v1/ops/products/batch", "/v1/ops/stock/85123A/adj", "/v1/ops/stock/84879/adj"]
)
async def test_a_load_cut_short_is_made_up_for(shop: Shop, client: ApplicationClient, where: str) -> None:
    """Whatever call does not get through, the next start completes the shop."""
    client.fails_at = where
    with pytest.raises(ConnectionError):
        await load_demo(client)
    client.fails_at = None
    await load_demo(client)
    for sku, units in demo.stock_levels().items():
        assert (await shop.figures(sku))["on_hand"] == units
    checkout = await shop.post("/v1/checkouts", {"line_items": [{"sku": "85123A", "quantity": 1}], **DETAILS})
    assert [option["amount"] for option in checkout.json()["shipping_options"]] == [500, 1500]


async def test_a_refused_product_is_named(client: ApplicationClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's goods ship with the program: a refusal is a fault of theirs, and says where."""
    products = demo.products()
    products[3]["title"] = ""
    monkeypatch.setattr(demo.catalogue, "products", lambda: products)
    with pytest.raises(DemoRefusedError, match=r"orchid_white: \$\.title"):
        await load_demo(client)
