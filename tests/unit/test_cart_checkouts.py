"""Which checkouts have a cart: who gets it, who gets it back, and what becomes of it meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from domain.cart_model import BeginCheckout, CartEnded, CartReply, EndCheckout, RestoreCart
from domain.checkout_model import CartBegun, Wanted
from domain.messages import Refusal
from tests.unit.basket import Basket, writes


def begin(basket: Basket, checkout_id: str, gone: str | None = None) -> Any:
    return basket.ask(BeginCheckout, checkout_id=checkout_id, gone=gone, fingerprint=b"")


def end(basket: Basket, checkout_id: str, ordered: bool = False) -> Any:
    return basket.ask(EndCheckout, checkout_id=checkout_id, ordered=ordered, owner="", fingerprint=b"")


def test_the_newest_start_gets_the_cart_and_learns_whom_it_displaces():
    """One after another, each gone one is followed by the next; asking again gives the same answer."""
    basket = Basket(("tea", 2))
    lines = (Wanted("tea", 2),)
    assert begin(basket, "chk_1") == CartBegun(lines, "USD", None)
    assert begin(basket, "chk_2") == CartBegun(lines, "USD", "chk_1")
    assert begin(basket, "chk_3") == begin(basket, "chk_3") == CartBegun(lines, "USD", "chk_2")
    assert begin(basket, "chk_3", gone="chk_2") == CartBegun(lines, "USD", "chk_1")
    assert begin(basket, "chk_3", gone="chk_1") == CartBegun(lines, "USD", None)
    assert (basket.read().checkout_id, basket.read().version) == ("chk_3", 1)


@pytest.mark.parametrize("index", [0, 1])
def test_a_cart_that_a_checkout_has_is_not_idle(index):
    """However long that lasts, while money is pending: it can be read, written, and asked for by another start."""
    basket = Basket(("tea", 2))
    begin(basket, "chk_1")
    basket.now_ms += 5000
    assert (basket.read().status, basket.read().expires_at_ms) == ("open", basket.now_ms + 1000)
    assert basket.send(writes(basket)[index]).status == 200
    basket.now_ms += 5000
    second = begin(basket, "chk_2")
    assert isinstance(second, CartBegun)
    assert second.previous == "chk_1"
    for checkout_id in ("chk_2", "chk_1"):
        basket.now_ms += 5000
        assert basket.read().status == "open"
        end(basket, checkout_id)
    basket.now_ms += 1001
    assert basket.read().status == "expired"


def test_an_end_gives_the_cart_back_to_whom_it_was_taken_from():
    """The idle time begins anew; the end of one that does not have the cart, or of a stranger, changes little."""
    basket = Basket(("tea", 2))
    for checkout_id in ("chk_1", "chk_2", "chk_3"):
        begin(basket, checkout_id)
    basket.now_ms += 500
    for ended, left in (("chk_2", "chk_3"), ("chk_9", "chk_3"), ("chk_3", "chk_1"), ("chk_1", None), ("chk_1", None)):
        assert end(basket, ended) == CartEnded()
        assert basket.read().checkout_id == left
    assert basket.read().expires_at_ms == basket.now_ms + 1000


def test_an_order_closes_the_cart_whoever_has_it():
    basket = Basket(("tea", 2))
    begin(basket, "chk_1")
    begin(basket, "chk_2")
    end(basket, "chk_1", ordered=True)
    end(basket, "chk_2")
    assert (basket.read().status, basket.read().checkout_id) == ("checked_out", None)


def test_a_late_copy_of_a_begin_changes_nothing_and_is_answered_as_it_was():
    """A coordinator takes the answer for what it was, so it comes decoded."""
    basket = Basket(("tea", 2))
    command = basket.command(BeginCheckout, checkout_id="chk_1", fingerprint=b"")
    first = basket.send(command)
    end(basket, "chk_1")
    assert basket.send(command) == first
    assert basket.read().checkout_id is None


def test_a_late_copy_of_a_refused_begin_is_refused_too():
    """The cart has come back meanwhile, but its asker has given up: nobody would ever give the cart back."""
    basket = Basket(("tea", 2))
    command = basket.command(BeginCheckout, checkout_id="chk_1", fingerprint=b"")
    basket.now_ms += 1001
    first = basket.send(command)
    assert isinstance(first, Refusal)
    assert isinstance(basket.ask(RestoreCart), CartReply)
    assert basket.send(command) == first
    assert basket.read().checkout_id is None


def test_an_expired_cart_cannot_be_checked_out():
    basket = Basket(("tea", 2))
    basket.now_ms += 1001
    refusal = begin(basket, "chk_1")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "cart_expired"
    assert isinstance(basket.ask(RestoreCart), CartReply)
    assert isinstance(begin(basket, "chk_1"), CartBegun)
