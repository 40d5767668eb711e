"""Which cart is the caller's, and what stock says of the SKUs in it.

Owns the look before a write: a cart's owner and currency, and the facts its lines are shown with. Promises
that only what is sold in the cart's currency gets into it. Called by the routes of carts and checkouts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from api.auth import Caller
from api.context import AppContext
from api.dispatch import Party, ask_as_owner, not_found, require_id, root_of
from api.errors import Problem
from domain.cart_model import CartReply, CartView, ReadCart, Shown
from domain.stock_model import Offer


async def read_cart(context: AppContext, caller: Caller, cart_id: str) -> CartView:
    """The cart, if it is the caller's. Problem: 404."""
    require_id("cart", cart_id)
    answer = await ask_as_owner(context, caller, lambda owner: ReadCart(command_id=b"", cart_id=cart_id, owner=owner))
    reply: CartReply = answer.reply
    return reply.cart


async def party_of_cart(context: AppContext, caller: Caller, cart_id: str) -> Party:
    """Whose a checkout of this cart will be: whose the cart is. Problem: 404.

    A caller who can be one party only is believed here; the saga asks the cart before anything else.
    """
    if not caller.owners:
        raise not_found()
    owner = caller.owners[0]
    if len(caller.owners) > 1:
        owner = (await read_cart(context, caller, cart_id)).owner
    if caller.guest_token is not None and owner == caller.guest_owner:
        return Party(owner, root_of(caller.guest_token), None)
    return Party(owner, "", None)


def shown(offers: Iterable[Offer], skus: Sequence[str], currency: str) -> tuple[Shown, ...]:
    """What a buyer is shown of each SKU; those without a price in the currency are left out."""
    return tuple(
        Shown(sku, offer.product.title, offer.product.prices[currency])
        for sku, offer in zip(skus, offers, strict=True)
        if offer.product is not None and currency in offer.product.prices
    )


async def sellable(
    context: AppContext, skus: Sequence[str], currency: str, path_of: Callable[[str], str]
) -> tuple[Shown, ...]:
    """What a buyer is shown of these SKUs. Problem: 422 `item_unavailable`, naming each that is not sold."""
    facts = shown(await context.engine.quote(skus), skus, currency) if skus else ()
    known = {entry.sku for entry in facts}
    errors = [
        {
            "path": path_of(sku),
            "code": "item_unavailable",
            "message": f"There is no such item, or it is not sold in {currency}.",
            "sku": sku,
        }
        for sku in skus
        if sku not in known
    ]
    if errors:
        raise Problem("item_unavailable", f"Some items are not sold in {currency}.", errors=errors)
    return facts
