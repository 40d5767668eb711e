"""The cart's core: lines and their limits, versions, idleness, and the customer's pointer."""

from __future__ import annotations

import msgspec
import pytest

from domain import cart, ids
from domain.cart_model import (
    AddItem,
    BeginCheckout,
    CartEnded,
    CreateCart,
    EndCheckout,
    NewLine,
    OpenCart,
    ReadCart,
    ReadCustomer,
    RestoreCart,
    SetOpenCart,
    SetQuantity,
    Shown,
)
from domain.catalog import MAX_LINES, MAX_QUANTITY
from domain.messages import KEY_REUSED
from tests.unit.basket import CART, OWNER, TEA, Basket, quantities, replayed, writes

# ── lines ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cart_is_made_with_lines_as_they_were_shown():
    basket = Basket(("tea", 2), ("mug", 1))
    view = basket.read()
    assert [(line.sku, line.quantity, line.title, line.unit_price) for line in view.lines] == [
        ("tea", 2, "Tea", 500),
        ("mug", 1, "Mug", 500),
    ]
    assert (view.version, view.status, view.expires_at_ms) == (1, "open", basket.now_ms + 1000)
    assert all(ids.is_id("li", line.id) for line in view.lines)


def test_adding_a_sku_adds_to_its_line_and_shows_the_price_of_now():
    """The line keeps its id; another SKU gets a line at the end; each write is a new version."""
    basket = Basket(("tea", 2))
    before = basket.line("tea").id
    reply = basket.add("tea", 3)
    assert (reply.status, quantities(reply), reply.cart.version) == (200, {"tea": 5}, 2)
    assert (reply.cart.lines[0].id, reply.cart.lines[0].unit_price) == (before, 600)
    assert quantities(basket.add("mug")) == {"tea": 5, "mug": 1}


def test_facts_of_other_lines_are_refreshed_and_unknown_ones_stay():
    """What stock knows nothing of any more keeps what the buyer was last shown."""
    basket = Basket(("tea", 2), ("mug", 1))
    reply = basket.ask(AddItem, sku="hat", quantity=1, shown=(Shown("tea", "Tea!", 9), Shown("hat", "Hat", 7)))
    assert [(line.title, line.unit_price) for line in reply.cart.lines] == [("Tea!", 9), ("Mug", 500), ("Hat", 7)]


@pytest.mark.parametrize(("quantity", "expected"), [(7, {"tea": 7, "mug": 1}), (0, {"mug": 1})])
def test_setting_a_quantity_replaces_it_and_zero_removes_the_line(quantity, expected):
    basket = Basket(("tea", 2), ("mug", 1))
    reply = basket.ask(SetQuantity, line_id=basket.line("tea").id, quantity=quantity, shown=())
    assert quantities(reply) == expected


def test_a_line_that_is_not_there_is_not_found():
    basket = Basket(("tea", 2))
    assert basket.ask(SetQuantity, line_id="li_x", quantity=1, shown=()).code == "not_found"


LIMITS = [
    ("add", {"sku": "tea", "quantity": MAX_QUANTITY - 1}, "quantity_out_of_range"),
    ("add", {"sku": "mug", "quantity": 0}, "quantity_out_of_range"),
    ("add", {"sku": "mug", "quantity": MAX_QUANTITY + 1}, "quantity_out_of_range"),
    ("set", {"quantity": MAX_QUANTITY + 1}, "quantity_out_of_range"),
    ("set", {"quantity": -1}, "quantity_out_of_range"),
]


@pytest.mark.parametrize(("verb", "fields", "code"), LIMITS)
def test_a_line_has_one_to_999_units(verb, fields, code):
    """Counted over what is there already; the refusal changes nothing."""
    basket = Basket(("tea", 2))
    if verb == "add":
        reply = basket.add(**fields)
    else:
        reply = basket.ask(SetQuantity, line_id=basket.line("tea").id, shown=(), **fields)
    assert (reply.code, reply.errors[0].path) == (code, "$.quantity")
    assert quantities(basket.ask(ReadCart)) == {"tea": 2}


def test_a_line_of_999_units_is_fine():
    assert quantities(Basket(("tea", 2)).add("tea", MAX_QUANTITY - 2)) == {"tea": MAX_QUANTITY}


def test_a_cart_has_at_most_50_lines():
    """Also when it is made; more of what is there already can still be added."""
    many = [(f"sku{n}", 1) for n in range(MAX_LINES)]
    basket = Basket(*many)
    assert basket.add("another").code == "too_many_lines"
    assert quantities(basket.add("sku7"))["sku7"] == 2
    new = tuple(NewLine(f"sku{n}", 1) for n in range(MAX_LINES + 1))
    fields = {"customer": None, "currency": "USD", "shown": ()}
    assert Basket(create=False).ask(CreateCart, lines=new, **fields).code == "too_many_lines"
    refused = Basket(create=False).ask(CreateCart, lines=(NewLine("tea", 0),), **fields)
    assert refused.errors[0].path == "$.line_items[0].quantity"


# ── who, when, which ────────────────────────────────────────────────────────────────────────────────────


def test_a_stranger_finds_no_cart_and_the_system_finds_every_cart():
    basket = Basket(("tea", 2))
    assert basket.ask(ReadCart, owner="c:other").code == "not_found"
    assert basket.ask(ReadCart, owner="").status == 200
    assert basket.ask(ReadCart, cart_id="cart_01hf7yat00bbbbbbbbbbbbbbbb").code == "not_found"


@pytest.mark.parametrize("index", [0, 1])
def test_a_write_may_name_the_version_it_means(index):
    """A stale one is refused, and the refusal is not kept: with the right version the same key gets on."""
    basket = Basket(("tea", 2))
    write = writes(basket)[index]
    assert basket.send(msgspec.structs.replace(write, expected_version=9)).code == "version_mismatch"
    assert basket.send(msgspec.structs.replace(write, expected_version=1)).status == 200


@pytest.mark.parametrize("index", [0, 1])
def test_a_cart_that_was_idle_too_long_can_be_read_and_restored_but_not_written(index):
    """Expiry is derived from its times; restoring starts them anew, and each write does."""
    basket = Basket(("tea", 2))
    basket.now_ms += 1000
    basket.add("tea")
    basket.now_ms += 1000
    assert basket.read().status == "open"
    basket.now_ms += 1
    assert basket.read().status == "expired"
    assert basket.send(writes(basket)[index]).code == "cart_expired"
    restored = basket.ask(RestoreCart).cart
    assert (restored.status, restored.expires_at_ms) == ("open", basket.now_ms + 1000)
    assert basket.send(writes(basket)[index]).status == 200


def test_restoring_an_open_cart_changes_nothing():
    basket = Basket(("tea", 2))
    before = basket.read()
    assert basket.ask(RestoreCart).cart == before == basket.read()


@pytest.mark.parametrize("index", [0, 1])
def test_a_cart_that_became_an_order_is_closed(index):
    """It can be read, not written, not restored, not checked out again."""
    basket = Basket(("tea", 2))
    basket.ask(BeginCheckout, checkout_id="chk_1")
    assert basket.ask(EndCheckout, checkout_id="chk_1", ordered=True) == CartEnded()
    assert (basket.read().status, basket.read().version) == ("checked_out", 2)
    for command in (writes(basket)[index], basket.command(RestoreCart)):
        assert basket.send(command).code == "cart_checked_out"
    assert basket.ask(BeginCheckout, checkout_id="chk_2").code == "cart_checked_out"
    basket.now_ms += 5000
    assert basket.read().status == "checked_out"


def test_every_answer_to_a_key_is_given_again():
    """A success is not repeated, also when the item is no longer sold; a refusal stays; another body is refused."""
    basket = Basket(("tea", 2))
    add = basket.command(AddItem, sku="tea", quantity=1, shown=TEA)
    first = basket.send(add)
    basket.add("mug")
    for again in (add, msgspec.structs.replace(add, shown=())):
        assert replayed(basket.send(again)) == first
    assert quantities(basket.ask(ReadCart)) == {"tea": 3, "mug": 1}
    assert basket.send(msgspec.structs.replace(add, fingerprint=b"g")) == KEY_REUSED
    missing = basket.command(SetQuantity, line_id="li_x", quantity=1, shown=())
    assert replayed(basket.send(missing) and basket.send(missing)).code == "not_found"


def test_a_keyless_write_that_its_sender_repeats_is_done_once():
    basket = Basket(("tea", 2))
    add = basket.command(AddItem, fingerprint=b"", sku="tea", quantity=1, shown=TEA)
    assert basket.send(add) == replayed(basket.send(add))


def test_making_a_cart_again_makes_no_other():
    """The same key: the first answer; long after: the cart as it is."""
    basket = Basket(create=False)
    create = basket.command(CreateCart, customer=None, currency="USD", lines=(), shown=())
    first = basket.send(create)
    assert (first.status, replayed(basket.send(create))) == (201, first)
    again = basket.send(msgspec.structs.replace(create, command_id=b"x" * 16))
    assert (again.status, again.cart) == (200, first.cart)


def test_what_is_not_sold_gets_into_no_cart():
    """Each such line is named where the request has it; nothing else is changed."""
    new = (NewLine("hat", 1, 0), NewLine("tea", 1, 2), NewLine("cup", 1, 4))
    refusal = Basket(create=False).ask(CreateCart, customer=None, currency="EUR", lines=new, shown=TEA)
    assert (refusal.code, refusal.detail) == ("item_unavailable", "Some items are not sold in EUR.")
    assert [(error.path, error.extra) for error in refusal.errors] == [
        ("$.line_items[0].sku", {"sku": "hat"}),
        ("$.line_items[4].sku", {"sku": "cup"}),
    ]
    basket = Basket(("tea", 2))
    refusal = basket.ask(AddItem, sku="hat", quantity=1, shown=TEA)
    assert (refusal.code, refusal.errors[0].path) == ("item_unavailable", "$.sku")
    assert quantities(basket.ask(ReadCart)) == {"tea": 2}


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ((NewLine("tea", 1),), "item_unavailable"),
        ((NewLine("tea", 0),), "quantity_out_of_range"),
        (tuple(NewLine(f"sku{n}", 1) for n in range(MAX_LINES + 1)), "too_many_lines"),
    ],
)
def test_a_cart_that_was_refused_keeps_the_answer_and_is_no_cart(lines, code):
    """The key's answer stands when the item is sold after all; without a key nothing is kept."""
    basket = Basket(create=False)
    create = basket.command(CreateCart, customer=b"sealed", currency="USD", lines=lines, shown=())
    assert basket.send(msgspec.structs.replace(create, fingerprint=b"")).code == code
    assert basket.world == {}
    refusal = basket.send(create)
    assert refusal.code == code
    assert replayed(basket.send(msgspec.structs.replace(create, shown=TEA))) == refusal
    assert basket.send(msgspec.structs.replace(create, fingerprint=b"g")) == KEY_REUSED
    for command in (
        basket.command(ReadCart),
        basket.command(AddItem, sku="tea", quantity=1, shown=TEA),
        basket.command(BeginCheckout, checkout_id="chk_1", owner=""),
    ):
        assert basket.send(command) == cart.NOT_FOUND
    made = basket.ask(CreateCart, customer=None, currency="USD", lines=(NewLine("tea", 1),), shown=TEA)
    assert (made.status, quantities(made)) == (201, {"tea": 1})


# ── the customer's pointer ──────────────────────────────────────────────────────────────────────────────


def test_the_customers_pointer_leads_to_the_newest_cart():
    basket = Basket(create=False)
    assert basket.ask(ReadCustomer) == OpenCart(None)
    carts = [f"cart_01hf7yat0{n}aaaaaaaaaaaaaaa{n}" for n in range(3)]
    for cart_id in carts:
        basket.ask(SetOpenCart, cart_id=cart_id)
    assert basket.ask(ReadCustomer) == OpenCart(carts[2])
    assert basket.ask(ReadCustomer, owner="c:other") == OpenCart(None)


def test_a_late_repeat_does_not_bring_a_former_cart_back():
    """Its id has another time in it, but the same body."""
    basket = Basket(create=False)
    for cart_id in (CART, "cart_01hf7yat00bbbbbbbbbbbbbbbb"):
        basket.ask(SetOpenCart, cart_id=cart_id)
    late = CART.replace("01hf7yat00", "01hf7yzzzz")
    assert basket.ask(SetOpenCart, cart_id=late) == OpenCart("cart_01hf7yat00bbbbbbbbbbbbbbbb")


def test_a_command_goes_to_its_cart_or_to_its_customer():
    basket = Basket(("tea", 1))
    assert cart.route(basket.command(ReadCart)) == ids.body(CART)
    assert cart.route(basket.command(ReadCustomer)) == OWNER
    assert cart.entity_of(basket.command(SetOpenCart)) == ("customer", OWNER)
