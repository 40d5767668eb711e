"""Which cart is the caller's, and what stock says of the SKUs in it.

Owns the look before a write: a cart's owner and currency, and the facts its lines are shown with. Never
judges them: the cart does, so that its refusals are kept like all its answers. Called by the routes of carts
and checkouts.
"""

from __future__ import annotations

from collections.abc import Iterable

from api.auth import Caller
from api.context import AppContext
from api.dispatch import Party, ask_as_owner, not_found, require_id, root_of
from domain.cart_model import CartReply, CartView, ReadCart, Shown


async def read_cart(context: AppContext, caller: Caller, cart_id: str) -> CartView:
    """The cart, if it is the caller's. Problem: 404."""
    require_id("cart", cart_id)
    answer = await ask_as_owner(context, caller, ReadCart(command_id=b"", cart_id=cart_id))
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


async def shown_now(context: AppContext, skus: Iterable[str], currency: str) -> tuple[Shown, ...]:
    """What a buyer is shown of each SKU; those that are not sold in the currency are left out."""
    asked = list(dict.fromkeys(skus))
    offers = await context.engine.quote(asked) if asked else ()
    return tuple(
        Shown(sku, offer.product.title, offer.product.prices[currency])
        for sku, offer in zip(asked, offers, strict=True)
        if offer.product is not None and currency in offer.product.prices
    )
