"""The flash sale's buyers: what they want, what they send, and how they end, whatever the server does."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.flash_sale.buyers import Letters, email_of, key_of, make_plan, read_baskets
from benchmarks.flash_sale.config import SaleConfig, SaleFailedError
from benchmarks.flash_sale.journeys import Buyers
from benchmarks.flash_sale.measure import Recorder
from operator_client import pause_s
from tests.unit.fake_shop import FakeShop

ONE = (("A", 1),)


def config(**options: object) -> SaleConfig:
    return SaleConfig("http://shop", "token", **options)  # type: ignore[arg-type]


@given(units=st.integers(0, 500), skus=st.integers(1, 60), buyers=st.integers(1, 200), seed=st.integers())
def test_a_lottery_spreads_exactly_its_units_evenly(units: int, skus: int, buyers: int, seed: int) -> None:
    """Units are a total; no SKU has two more than another; the same seed makes the same sale."""
    asked = config(units=units, skus=skus, buyers=buyers, seed=seed)
    plan = make_plan(asked, "run")
    shares = [product.units for product in plan.products]
    assert sum(shares) == units
    assert max(shares) - min(shares) <= 1
    assert len(plan.baskets) == buyers
    assert {sku for basket in plan.baskets for sku, _ in basket} <= {product.sku for product in plan.products}
    assert make_plan(asked, "run") == plan


@pytest.mark.parametrize("options", [{"buyers": 0}, {"units": -1}, {"skus": 0}, {"concurrency": 0}])
def test_impossible_figures_are_refused_with_their_name(options: dict[str, int]) -> None:
    """A sale that cannot be held says which figure is wrong."""
    with pytest.raises(SaleFailedError, match=next(iter(options))):
        make_plan(config(**options), "run")


def write_baskets(folder: Path) -> Path:
    path = folder / "baskets.csv.gz"
    path.write_bytes(gzip.compress(b"A,B,A\n\nC\nA, BANK CHARGES\n"))
    return path


def test_baskets_merge_repeated_skus_and_are_stocked_generously(tmp_path: Path) -> None:
    """A repeated SKU is a quantity, blank lines are nobody's, and stock is twice the demand."""
    plan = make_plan(config(baskets=write_baskets(tmp_path)), "r1")
    assert plan.baskets == [
        (("SALE-r1-A", 2), ("SALE-r1-B", 1)),
        (("SALE-r1-C", 1),),
        (("SALE-r1-A", 1), ("SALE-r1-BANK CHARGES", 1)),
    ]
    assert {product.sku: product.units for product in plan.products} == {
        "SALE-r1-A": 6,
        "SALE-r1-B": 2,
        "SALE-r1-C": 2,
        "SALE-r1-BANK CHARGES": 2,
    }
    assert "the price of 4 of 4 SKUs: 250 minor units" in plan.made_up


def test_baskets_take_real_prices_from_the_invoices_beside_them(tmp_path: Path) -> None:
    """The last priced line of a SKU counts; a SKU without one gets a price that is said to be made up."""
    (tmp_path / "invoice_lines.csv").write_text(
        "sku,title,unit_price_gbp\nA,LANTERN,2.55\nA,LANTERN,3.39\nA,LANTERN,0\nB,BOX,1\n", encoding="utf-8"
    )
    plan = make_plan(config(baskets=write_baskets(tmp_path), units=7, buyers=1), "r1")
    assert [(each.sku, each.title, each.price, each.units) for each in plan.products] == [
        ("SALE-r1-A", "LANTERN", 339, 7),
        ("SALE-r1-B", "BOX", 100, 7),
    ]
    assert not any("the price of" in sentence for sentence in plan.made_up)


def test_a_file_without_baskets_is_no_sale(tmp_path: Path) -> None:
    """An empty file is named instead of becoming a sale of nothing."""
    path = tmp_path / "none.csv"
    path.write_text("\n\n")
    assert list(read_baskets(path)) == []
    with pytest.raises(SaleFailedError, match="no baskets"):
        make_plan(config(baskets=path), "run")


@given(number=st.integers(1, 10**7), sku=st.text(min_size=1, max_size=64))
def test_every_body_is_json_with_the_buyer_in_it(number: int, sku: str) -> None:
    """Bodies put together from bytes are what encoding them whole would give, for any SKU."""
    letters = Letters("r1", "slow")
    basket = ((sku, 3), ("B", 1))
    express = json.loads(letters.one_shot(number, basket))
    assert express["line_items"] == [{"sku": sku, "quantity": 3}, {"sku": "B", "quantity": 1}]
    assert express["buyer"]["email"] == email_of("r1", number)
    assert express["payments"] == [{"method": "card", "token": "pm_card_visa"}]
    details = json.loads(letters.details(number))
    assert details.pop("selected_shipping_option") == "slow"
    assert details == {name: express[name] for name in ("buyer", "shipping_address")}
    assert set(express["shipping_address"]) == {"name", "line1", "city", "region", "postal_code", "country"}


def test_nobody_shares_an_address_or_a_key() -> None:
    """Guests' keys have no caller to tell them apart, so they are unique and at least 16 characters long."""
    keys = Counter(key_of("r1", number, step) for number in range(1, 500) for step in ("cart", "start"))
    assert max(keys.values()) == 1
    assert min(map(len, keys)) >= 16
    assert len({email_of("r1", number) for number in range(1, 500)}) == 499


async def sell_one(
    shop: FakeShop, *, journey: str = "one-shot", patience_s: float = 20.0, basket: object = ONE
) -> Recorder:
    shop.products["A"] = {"sku": "A", "title": "A", "prices": {"USD": 5}}
    shop.on_hand["A"] = 1
    recorder = Recorder(time.monotonic())
    async with shop.serve() as url:
        letters = Letters("r1", "slow")
        async with Buyers(url, letters, recorder, run="run-1", connections=2, patience_s=patience_s) as buyers:
            await buyers.buy(journey, 1, basket)  # type: ignore[arg-type]
    return recorder


@pytest.mark.parametrize("journey", ["one-shot", "full"])
@pytest.mark.parametrize(
    ("moods", "retries"),
    [
        ([], {}),
        (["busy", "busy"], {"busy": 2}),
        (["pending"], {"pending": 1}),
        (["drop"], {"connection_lost": 1}),
        (["drop", "busy", "pending"], {"connection_lost": 1, "busy": 1, "pending": 1}),
    ],
)
async def test_a_buyer_asks_again_with_the_same_key(journey: str, moods: list[str], retries: dict[str, int]) -> None:
    """Whatever gets in between, one buyer gets one order under one key a step."""
    shop = FakeShop(moods=moods)
    recorder = await sell_one(shop, journey=journey)
    assert [buyer for buyer, _ in recorder.orders] == [1]
    assert recorder.retries == retries
    assert len(shop.orders) == 1
    assert shop.orders[0]["id"] == recorder.orders[0][1]
    tried_again = [key for key, count in shop.keys.items() if key and count > 1]
    assert bool(tried_again) == bool(moods)


@pytest.mark.parametrize(("mood", "code"), [("busy", "busy"), ("pending", "pending"), ("drop", "connection_lost")])
async def test_patience_ends(mood: str, code: str) -> None:
    """A buyer who gets no final answer is a failure with the reason, and not sold to."""
    recorder = await sell_one(FakeShop(moods=[mood] * 10_000), patience_s=0.05)
    assert recorder.failures == {code: [1]}
    assert recorder.counts() == (0, 0, 1)


async def test_a_500_is_a_failure_and_not_asked_again() -> None:
    """A broken server is not worn down by repetition; it is counted."""
    shop = FakeShop(moods=["crash"])
    recorder = await sell_one(shop)
    assert recorder.failures == {"http_500": [1]}
    assert shop.keys == {key_of("run-1", 1, "express"): 1}


@pytest.mark.parametrize("journey", ["one-shot", "full"])
@pytest.mark.parametrize(
    ("basket", "code"),
    [
        ((("A", 2),), "out_of_stock"),
        (tuple((f"S{n}", 1) for n in range(51)), "too_many_lines"),
    ],
)
async def test_a_clear_no_is_a_refusal_by_its_code(journey: str, basket: object, code: str) -> None:
    """A 4xx with a code ends the journey at once, under that code."""
    recorder = await sell_one(FakeShop(), journey=journey, basket=basket)
    assert recorder.refusals == {code: [1]}
    assert recorder.counts() == (0, 1, 0)


async def test_the_full_journey_takes_its_steps_in_order() -> None:
    """Cart, checkout, details with address and option, payment: each measured on its own."""
    shop = FakeShop()
    recorder = await sell_one(shop, journey="full")
    assert list(recorder.endpoints) == [
        "POST /v1/carts",
        "POST /v1/checkouts",
        "PATCH /v1/checkouts/{id}",
        "POST /v1/checkouts/{id}/complete",
    ]
    checkout = next(iter(shop.checkouts.values()))
    assert checkout["selected_shipping_option"] == "slow"
    assert checkout["buyer"]["email"] == email_of("r1", 1)


@pytest.mark.parametrize(
    ("attempt", "retry_after", "low", "high"),
    [
        (0, "3", 3.0, 3.0),
        (9, "0", 0.0, 0.0),
        (0, None, 0.05, 0.1),
        (2, None, 0.2, 0.4),
        (50, None, 1.0, 2.0),
        (0, "Wed, 21 Oct 2026 07:28:00 GMT", 0.05, 0.1),
        (0, "-4", 0.0, 0.0),
    ],
)
def test_the_pause_before_asking_again(attempt: int, retry_after: str | None, low: float, high: float) -> None:
    """The server's word counts; without one the pause doubles to 2 s, spread by jitter."""
    assert low <= pause_s(attempt, retry_after) <= high
