"""Carts as resources: as they were left by a write, or priced now.

Owns the totals and messages of carts. Promises that the answer to a write is made of what its reply holds
alone, so that a repeat is answered alike; and that a read shows the prices of now, and says what is not as it
was. Nothing here is binding: a checkout freezes prices. Called by the routes of carts.
"""

from __future__ import annotations

from collections.abc import Mapping

from api import render
from api.context import AppContext
from api.personal import Opened
from domain.cart_model import CartLine, CartView
from domain.catalog import Line, Product
from domain.checkout_model import Message, ReadRules, Rules, RulesReply
from domain.pricing import Place, PricedLine, Pricing, Total, price
from domain.stock_model import Offer


async def as_written(context: AppContext, view: CartView) -> render.Document:
    """The cart with the prices that its last write was shown."""
    lines = [_line(line, line.title, line.unit_price) for line in view.lines]
    subtotal = sum(line.amount for line in lines)
    totals = (Total("subtotal", subtotal), Total("total", subtotal))
    return _document(view, await _opened_for(context, view), lines, totals, ())


async def priced_now(context: AppContext, view: CartView, place: Place | None) -> render.Document:
    """The cart at the prices of now; a place adds what shipping and tax would be there."""
    skus = [line.sku for line in view.lines]
    offers = await context.engine.quote(skus) if skus else []
    found = dict(zip(skus, offers, strict=True))
    products = {
        sku: offer.product
        for sku, offer in found.items()
        if offer.product is not None and view.currency in offer.product.prices
    }
    pricing = await _price(context, view, products, place)
    priced = {line.id: line for line in pricing.lines}
    lines = [priced.get(line.id) or _line(line, line.title, 0) for line in view.lines]
    messages = _messages(view, found, priced)
    if not pricing.deliverable:
        text = "There is no delivery to this country."
        messages.append(Message("error", "address_undeliverable", "$", text, "recoverable"))
    return _document(view, await _opened_for(context, view), lines, pricing.totals, messages)


async def _price(context: AppContext, view: CartView, products: Mapping[str, Product], place: Place | None) -> Pricing:
    rules = Rules()
    if place is not None:
        reply: RulesReply = (await context.engine.ask(ReadRules(command_id=b""))).reply
        rules = reply.rules
    sold = [(Line(line.id, line.sku, line.quantity), products[line.sku]) for line in view.lines if line.sku in products]
    return price(sold, view.currency, rules.shipping, rules.tax, place)


def _messages(view: CartView, offers: Mapping[str, Offer], priced: Mapping[str, PricedLine]) -> list[Message]:
    """What is no longer as the buyer left it."""
    messages = []
    for i, line in enumerate(view.lines):
        path, now = f"$.line_items[{i}]", priced.get(line.id)
        if now is None:
            text = f"This item is no longer sold in {view.currency}. Remove it."
            messages.append(Message("error", "item_unavailable", path, text, "recoverable"))
            continue
        available = max(0, offers[line.sku].available)
        if available < line.quantity:
            text = f"Only {available} available."
            messages.append(Message("warning", "out_of_stock", f"{path}.quantity", text, "requires_buyer_review"))
        if line.title and now.unit_price != line.unit_price:
            text = "The price has changed since the item was put here."
            messages.append(Message("info", "price_changed", f"{path}.unit_price", text, "requires_buyer_review"))
    return messages


def _line(line: CartLine, title: str, unit_price: int) -> PricedLine:
    return PricedLine(line.id, line.sku, title, line.quantity, unit_price, unit_price * line.quantity)


async def _opened_for(context: AppContext, view: CartView) -> Opened:
    if view.customer is None:
        return Opened(None)
    return Opened((await context.key_ring.known_keys((view.owner,))).get(view.owner))


def _document(
    view: CartView,
    opened: Opened,
    lines: list[PricedLine],
    totals: tuple[Total, ...],
    messages: list[Message] | tuple[Message, ...],
) -> render.Document:
    return {
        "id": view.id,
        "version": view.version,
        "status": view.status,
        "currency": view.currency,
        "customer_id": opened.customer_id(view.customer),
        "line_items": render.line_items(lines),
        "coupons": [],
        "totals": render.totals(totals),
        "messages": render.messages(messages),
        "expires_at": render.rfc3339(view.expires_at_ms),
        "created_at": render.rfc3339(view.created_at_ms),
        "updated_at": render.rfc3339(view.updated_at_ms),
    }
