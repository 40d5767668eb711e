"""How a checkout gets into each of its phases, for tests of what happens there."""

from __future__ import annotations

from typing import Any

from domain import checkout_model as model
from tests.unit.checkout_world import READY, Shop, wanted


def open_checkout(shop: Shop, **more: Any) -> str:
    """A checkout that is ready to be completed; its id."""
    start = shop.start(fields=READY, **more)
    assert shop.run(start).status == 201
    return start.checkout_id


def lines_patch(shop: Shop, checkout_id: str, **lines: int) -> model.Patch:
    fields = model.Fields(("line_items",), lines=wanted(lines))
    patch: model.Patch = shop.command(model.Patch, checkout_id, fields=fields)
    return patch


def linking(shop: Shop) -> str:
    start = shop.start(cart_id=shop.make_cart({"tea": 1}), fields=READY)
    shop.ask(start)
    return start.checkout_id


def replacing(shop: Shop) -> str:
    cart_id = shop.make_cart({"tea": 1})
    shop.run(shop.start(cart_id=cart_id))
    start = shop.start(cart_id=cart_id, fields=READY)
    shop.ask(start)
    shop.step(start.checkout_id)
    return start.checkout_id


def holding(shop: Shop) -> str:
    start = shop.start(fields=READY)
    shop.ask(start)
    return start.checkout_id


def changing(shop: Shop) -> str:
    checkout_id = open_checkout(shop)
    shop.ask(lines_patch(shop, checkout_id, tea=2))
    return checkout_id


def trimming(shop: Shop) -> str:
    checkout_id = changing(shop)
    shop.step(checkout_id)
    return checkout_id


def pinning(shop: Shop, token: str = "ok") -> str:
    checkout_id = open_checkout(shop)
    shop.ask(shop.complete(checkout_id, token))
    return checkout_id


def paying(shop: Shop, token: str = "ok") -> str:
    checkout_id = pinning(shop, token)
    shop.step(checkout_id)
    return checkout_id


def awaiting_buyer(shop: Shop) -> str:
    checkout_id = pinning(shop, "3ds")
    shop.settle()
    return checkout_id


def declined(shop: Shop) -> str:
    checkout_id = paying(shop, "bad")
    shop.step(checkout_id)
    return checkout_id


def unwinding(shop: Shop) -> str:
    checkout_id = open_checkout(shop)
    shop.ask(shop.command(model.Cancel, checkout_id))
    return checkout_id


def placed(shop: Shop) -> str:
    checkout_id = pinning(shop)
    shop.settle()
    return checkout_id


def canceled(shop: Shop) -> str:
    checkout_id = unwinding(shop)
    shop.settle()
    return checkout_id


def refused(shop: Shop) -> str:
    start = shop.start(lines={"tea": 99})
    shop.run(start)
    return start.checkout_id


REACHED = (
    linking, replacing, holding, open_checkout, changing, trimming, pinning, paying, awaiting_buyer, declined,
    unwinding, placed, canceled, refused,
)  # fmt: skip
