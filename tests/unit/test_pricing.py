"""What a basket costs: hand-worked baskets in three currencies, and what holds for every basket."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalog import Line, Product, Quote, sku_problem
from domain.pricing import Discount, Place, Pricing, Total, price
from domain.shipping import ShippingOption, ShippingTable, Zone
from domain.tax import TaxRate, TaxTable, rate_for, tax_on

Basket = list[tuple[Line, Product]]

CURRENCIES = ("USD", "EUR", "JPY")
SHIPPING = ShippingTable(
    zones=(
        Zone(
            countries=("US", "DE", "JP", "CH"),
            options=(
                ShippingOption("express", "Express", {"USD": 1500, "EUR": 1290}, 1, 2),
                ShippingOption("post", "Post", {"USD": 500, "EUR": 490, "JPY": 800}, 3, 5, {"EUR": 5_000}),
                ShippingOption("pickup", "Pick-up", {"USD": 500}, 3, 5),
            ),
        ),
    )
)
TAX = TaxTable(
    rates=(
        TaxRate("US", "0.08875", included=False, region="NY", shipping=True),
        TaxRate("US", "0.05", included=False, region="MA"),
        TaxRate("DE", "0.19", included=True, shipping=True),
        TaxRate("DE", "0.07", included=True, category="books"),
        TaxRate("JP", "0.10", included=True),
        TaxRate("JP", "0.08", included=True, category="food"),
        TaxRate("CH", "0.081", included=False, shipping=True),
        TaxRate("CH", "0.026", included=True, category="books"),
    )
)


def basket(*rows: tuple[int, int] | tuple[int, int, str]) -> Basket:
    """Build lines from (unit price, quantity[, tax category]), priced the same in every currency."""
    lines = []
    for n, (unit_price, quantity, *category) in enumerate(rows):
        prices = dict.fromkeys(CURRENCIES, unit_price)
        product = Product(f"Thing {n}", prices, tax_category=category[0] if category else "standard")
        lines.append((Line(f"li_{n}", f"SKU {n}", quantity), product))
    return lines


def entries(pricing: Pricing) -> list[tuple[str, int] | tuple[str, int, str]]:
    """Return the totals as (type, amount), those included marked as such."""
    return [(t.type, t.amount, "included") if t.included else (t.type, t.amount) for t in pricing.totals]


HAND_WORKED = [
    pytest.param(
        basket((1999, 2), (500, 1)), "USD", Place("US", "NY", "10001"), (1000,),
        # 1000 over 3998 : 500 is 889 : 111. Tax: 3109 -> 275.92, 389 -> 34.52, shipping 500 -> 44.375.
        [("subtotal", 4498), ("discount", -1000), ("fulfillment", 500), ("tax", 355), ("total", 4353)],
        [(889, 276), (111, 35)],
        id="USD, tax added on lines and shipping, discount spread",
    ),
    pytest.param(
        basket((1010, 1), (1010, 1)), "USD", Place("US", "MA"), (),
        # 50.5 a line goes up to 51 twice; 5% of 2020 would be 101. Shipping is not taxed there.
        [("subtotal", 2020), ("fulfillment", 500), ("tax", 102), ("total", 2622)],
        [(0, 51), (0, 51)],
        id="USD, half-up per line and not on the sum",
    ),
    pytest.param(
        basket((999, 1), (999, 1), (999, 1)), "EUR", Place("DE"), (),
        # 999 holds 159.50 of tax, shipping 490 holds 78.23.
        [("subtotal", 2997), ("fulfillment", 490), ("tax", 558, "included"), ("total", 3487)],
        [(0, 160), (0, 160), (0, 160)],
        id="EUR, 19% included in lines and shipping",
    ),
    pytest.param(
        basket((2380, 2), (1070, 1, "books")), "EUR", Place("DE"), (),
        # 4760 holds 760 at 19%, 1070 holds 70 at 7%; from 50.00 on the post is free.
        [("subtotal", 5830), ("tax", 830, "included"), ("total", 5830)],
        [(0, 760), (0, 70)],
        id="EUR, two rates, free shipping",
    ),
    pytest.param(
        basket((2380, 2), (1070, 1, "books")), "EUR", Place("DE"), (600, 231),
        # 831 over 4760 : 1070 is 678.48 : 152.52. 4082 holds 651.75, 917 holds 59.99, shipping 78.23.
        [
            ("subtotal", 5830), ("discount", -831), ("fulfillment", 490),
            ("tax", 790, "included"), ("total", 5489),
        ],
        [(678, 652), (153, 60)],
        id="EUR, discounts count before the threshold of free shipping",
    ),
    pytest.param(
        basket((1080, 1, "food"), (1100, 1)), "JPY", Place("JP"), (),
        [("subtotal", 2180), ("fulfillment", 800), ("tax", 180, "included"), ("total", 2980)],
        [(0, 80), (0, 100)],
        id="JPY, no decimals, two rates included, shipping untaxed",
    ),
    pytest.param(
        basket((100, 1), (100, 1), (100, 1)), "JPY", Place("JP"), (100,),
        # 34 : 33 : 33; 66 holds 6, 67 holds 6.09.
        [
            ("subtotal", 300), ("discount", -100), ("fulfillment", 800),
            ("tax", 18, "included"), ("total", 1000),
        ],
        [(34, 6), (33, 6), (33, 6)],
        id="JPY, a tie goes to the first line",
    ),
    pytest.param(
        basket((1000, 1), (1026, 1, "books")), "EUR", Place("CH"), (),
        # 81 on 1000, 39.69 on shipping 490, to be added; 26 in 1026.
        [("subtotal", 2026), ("fulfillment", 490), ("tax", 121), ("tax", 26, "included"), ("total", 2637)],
        [(0, 81), (0, 26)],
        id="EUR, tax added and tax included side by side",
    ),
    pytest.param(
        basket((1999, 2)), "USD", None, (),
        [("subtotal", 3998), ("total", 3998)],
        [(0, 0)],
        id="without a place neither fulfillment nor tax",
    ),
    pytest.param(
        basket((300, 1), (0, 5)), "USD", None, (200, 500),
        [("subtotal", 300), ("discount", -300), ("total", 0)],
        [(300, 0), (0, 0)],
        id="discounts stop at the subtotal",
    ),
    pytest.param(
        basket(), "USD", Place("US", "NY"), (100,),
        [("subtotal", 0), ("total", 0)],
        [],
        id="nothing in the basket, nothing to ship",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "currency", "place", "discounts", "totals", "of_lines"), HAND_WORKED)
def test_hand_worked_baskets(
    lines: Basket,
    currency: str,
    place: Place | None,
    discounts: tuple[int, ...],
    totals: list[tuple[str, int]],
    of_lines: list[tuple[int, int]],
) -> None:
    """Totals come in their order and to the minor unit, and each line tells its discount and tax."""
    offs = [Discount(f"CODE{n}", amount) for n, amount in enumerate(discounts)]
    pricing = price(lines, currency, SHIPPING, TAX, place, discounts=offs)
    assert entries(pricing) == totals
    assert [(line.discount, line.tax) for line in pricing.lines] == of_lines
    assert pricing.total == pricing.totals[-1].amount


def test_a_priced_line_repeats_what_it_prices() -> None:
    """Id, SKU, title, quantity and the unit price of the currency asked for."""
    product = Product("Lamp", {"USD": 1999, "EUR": 1899}, tax_category="books")
    line = price([(Line("li_1", "LAMP", 3), product)], "EUR", SHIPPING, TAX, Place("DE")).lines[0]
    assert (line.id, line.sku, line.title, line.quantity) == ("li_1", "LAMP", "Lamp", 3)
    assert (line.unit_price, line.amount, line.tax_included) == (1899, 5697, True)


@pytest.mark.parametrize(
    ("place", "currency", "chosen", "selected", "lost"),
    [
        pytest.param(Place("US"), "USD", None, "post", False, id="cheapest, the first of two"),
        pytest.param(Place("US"), "USD", "express", "express", False, id="the buyer's choice"),
        pytest.param(Place("US"), "USD", "pickup", "pickup", False, id="the buyer's choice among equals"),
        pytest.param(Place("JP"), "JPY", "express", "post", True, id="choice not offered here"),
        pytest.param(Place("US"), "USD", "drone", "post", True, id="choice offered nowhere"),
        pytest.param(Place("AQ"), "USD", None, None, False, id="undeliverable"),
        pytest.param(Place("AQ"), "USD", "post", None, True, id="undeliverable, with a choice"),
        pytest.param(None, "USD", "express", None, False, id="no place yet: nothing lost"),
    ],
)
def test_the_selected_option_is_the_choice_or_else_the_cheapest(
    place: Place | None, currency: str, chosen: str | None, selected: str | None, lost: bool
) -> None:
    """A choice that is no longer offered falls back to the cheapest, and the answer says so."""
    pricing = price(basket((1000, 1)), currency, SHIPPING, TAX, place, chosen)
    assert (pricing.selected, pricing.selection_lost) == (selected, lost)


@pytest.mark.parametrize(
    ("place", "deliverable", "offered"),
    [(None, True, 0), (Place("US"), True, 3), (Place("AQ"), False, 0)],
)
def test_undeliverable_is_said_only_of_a_known_place(place: Place | None, deliverable: bool, offered: int) -> None:
    """Before there is an address nothing speaks against delivery."""
    pricing = price(basket((1000, 1)), "USD", SHIPPING, TAX, place)
    assert (pricing.deliverable, len(pricing.offers)) == (deliverable, offered)


def test_an_unconfigured_shop_adds_nothing() -> None:
    """Default tables: one free option everywhere, no tax."""
    pricing = price(basket((1000, 2)), "USD", ShippingTable(), TaxTable(), Place("NZ"))
    assert pricing.totals == (Total("subtotal", 2000), Total("total", 2000))
    assert (pricing.selected, pricing.deliverable) == ("standard", True)


def test_a_negative_discount_is_an_error() -> None:
    """It would raise the price; another discount must not hide it."""
    with pytest.raises(ValueError, match="negative"):
        price(basket((1000, 1)), "USD", SHIPPING, TAX, discounts=(Discount("UP", -1), Discount("DOWN", 100)))


def test_a_product_without_a_price_in_the_currency_is_an_error() -> None:
    """It is never sold at a guess; the caller turns such a line away before."""
    with pytest.raises(KeyError, match="KWD"):
        price(basket((1000, 1)), "KWD", SHIPPING, TAX)


ROWS = st.tuples(st.integers(0, 10**7), st.integers(1, 999), st.sampled_from(["standard", "books", "food"]))
BASKETS = st.lists(ROWS, max_size=8).map(lambda rows: basket(*rows))
PLACES = st.sampled_from(
    [None, Place("US", "NY", "10001"), Place("US", "MA"), Place("DE"), Place("JP"), Place("CH"), Place("AQ")]
)
DISCOUNTS = st.lists(st.builds(Discount, st.just("CODE"), st.integers(0, 10**10)), max_size=3)
CASES = st.tuples(BASKETS, st.sampled_from(CURRENCIES), PLACES, DISCOUNTS)
Case = tuple[Basket, str, Place | None, list[Discount]]


def priced(case: Case) -> Pricing:
    """Price a generated basket by the tables above."""
    lines, currency, place, discounts = case
    return price(lines, currency, SHIPPING, TAX, place, discounts=discounts)


@given(case=CASES)
def test_the_totals_add_up(case: Case) -> None:
    """The total is the sum of the entries before it that are not included in others."""
    pricing = priced(case)
    *parts, total = pricing.totals
    assert total.amount == pricing.total == sum(part.amount for part in parts if not part.included)
    assert parts[0].amount == sum(line.amount for line in pricing.lines)
    assert all(line.amount == line.unit_price * line.quantity for line in pricing.lines)


@given(case=CASES)
def test_the_totals_come_in_their_order_and_never_at_zero(case: Case) -> None:
    """Subtotal and total are always there, the others when not 0; added tax stands before included."""
    totals = priced(case).totals
    order = ["subtotal", "discount", "fulfillment", "tax", "total"]
    ranks = [(order.index(total.type), total.included) for total in totals]
    assert ranks == sorted(set(ranks))
    assert (totals[0].type, totals[-1].type) == ("subtotal", "total")
    assert all(total.amount != 0 for total in totals[1:-1])


@given(case=CASES)
def test_only_the_discount_is_negative(case: Case) -> None:
    """Neither a line nor a total goes below zero, however large the discounts."""
    pricing = priced(case)
    assert all((total.amount < 0) == (total.type == "discount") for total in pricing.totals)
    for line in pricing.lines:
        assert 0 <= line.discount <= line.amount
        assert 0 <= line.tax <= line.amount - line.discount


@given(case=CASES)
def test_the_discount_is_spread_over_the_lines_exactly(case: Case) -> None:
    """What the lines give up is what the discounts ask for, as far as there is merchandise."""
    pricing = priced(case)
    _, _, _, discounts = case
    wanted = min(sum(discount.amount for discount in discounts), pricing.totals[0].amount)
    assert sum(line.discount for line in pricing.lines) == wanted
    assert [total.amount for total in pricing.totals if total.type == "discount"] == [-wanted] * bool(wanted)


@given(case=CASES)
def test_tax_is_that_of_the_lines_and_of_shipping(case: Case) -> None:
    """Each line is taxed alone at its category's rate, shipping at the standard one; the rest is a sum."""
    lines, _, place, _ = case
    pricing = priced(case)
    expected = {False: 0, True: 0}
    if place is not None:
        for line, (_, product) in zip(pricing.lines, lines, strict=True):
            rate = rate_for(TAX, place.country, place.region, place.postal_code, product.tax_category)
            assert line.tax == tax_on(rate, line.amount - line.discount)
            expected[rate.included] += line.tax
        rate = rate_for(TAX, place.country, place.region, place.postal_code, "standard")
        shipping = sum(total.amount for total in pricing.totals if total.type == "fulfillment")
        expected[rate.included] += tax_on(rate, shipping) if rate.shipping else 0
    found = {total.included: total.amount for total in pricing.totals if total.type == "tax"}
    assert {False: 0, True: 0} | found == expected


@given(case=CASES, data=st.data())
def test_the_order_of_the_lines_does_not_matter(case: Case, data: st.DataObject) -> None:
    """Without a discount all totals stay; with one, ties may move a unit between lines, and so the tax."""
    lines, currency, place, discounts = case
    shuffled = data.draw(st.permutations(lines))
    before, after = priced(case), priced((shuffled, currency, place, discounts))
    kept = {"subtotal", "discount", "fulfillment"} if discounts else {total.type for total in before.totals}
    assert [t for t in before.totals if t.type in kept] == [t for t in after.totals if t.type in kept]
    assert (before.selected, before.offers) == (after.selected, after.offers)


@given(case=CASES)
def test_a_pricing_survives_encoding(case: Case) -> None:
    """What is journaled at the freeze is read back as it was."""
    pricing = priced(case)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(pricing), type=Pricing) == pricing


@pytest.mark.parametrize("quote", [Quote("A", Product("Thing", {"USD": 1}, purchase_limit=2), 7), Quote("A", None, 0)])
def test_a_quote_survives_encoding(quote: Quote) -> None:
    """A known product and an unknown SKU are read back as they were."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(quote), type=Quote) == quote


@pytest.mark.parametrize(
    "sku", ["A", "a", "15056BL", "SKU 1", "a/b?c#d", "茶碗-01", "Größe M", "قهوة", "🌷", "x" * 64, "é" * 64]
)
def test_a_sku_may_be_of_any_script(sku: str) -> None:
    """1 to 64 visible characters, spaces inside."""
    assert sku_problem(sku) is None


@pytest.mark.parametrize(
    ("sku", "problem"),
    [
        ("", "empty"),
        (" ", "space"),
        (" A", "space"),
        ("A ", "space"),
        ("x" * 65, "at most 64 characters"),
        ("A\nB", "visible"),
        ("A\tB", "visible"),
        ("A\x00", "visible"),
        ("A\x7f", "visible"),
        ("A\u00a0B", "visible"),
        ("A\u200bB", "visible"),
        ("A\u202eB", "visible"),
        ("A\ud800", "visible"),
        (".", "path"),
        ("..", "path"),
    ],
)
def test_a_sku_that_cannot_be_seen_or_typed_is_refused(sku: str, problem: str) -> None:
    """Control and invisible characters, other spaces, spaces at the ends, what no path can name, too long, empty."""
    assert problem in (sku_problem(sku) or "")
