"""Changing an open checkout: take the increments, decide the change, then give back what is too much.

Owns the patch. Promises that it is made whole or not at all, and that the moment it is decided is one event:
before it nothing of the buyer's has changed, after it what is no longer wanted is given back forward. A patch
that wants nothing else than there is makes no new version, unless the reservation is due to be prolonged.
"""

from __future__ import annotations

from typing import Any

import msgspec

from domain import checkout_prices as prices
from domain import checkout_refusals as no
from domain import checkout_undo as undoing
from domain import checkout_views as views
from domain.catalog import Product
from domain.checkout_model import CheckoutReply, Patch
from domain.checkout_state import Change, Checkout, Fields
from domain.checkout_turn import Turn
from domain.messages import Decision, Refusal
from domain.pricing import Pricing
from domain.stock_model import Held, HoldState, Shortage, sku_of

_replace = msgspec.structs.replace


def patch(turn: Turn, command: Patch) -> Decision:
    state, fields = turn.state, command.fields
    refusal = no.not_open(state) or no.stale(state, command.expected_version)
    if refusal is None and fields.lines == ():
        refusal = no.NO_LINES
    if refusal is not None:
        return turn.reply(command, refusal)
    wanted = fields.lines if fields.lines != state.wanted else None
    until_ms = prices.expires_at_ms(turn.policy, state.cart_id, turn.now_ms)
    if wanted is None:
        reply = _known_without_stock(turn, fields, until_ms)
        if reply is not None:
            return turn.reply(command, reply)
    turn.owe("patch", command)
    turn.move("changing", change=Change(fields, wanted, until_ms), revision=state.revision + 1)
    return turn.decision()


def _known_without_stock(turn: Turn, fields: Fields, until_ms: int) -> CheckoutReply | Refusal | None:
    """The answer to a patch of other fields than lines that can be refused, or left undone, at once."""
    state = turn.state
    pricing = _price_with(turn, fields, state.products)
    if fields.selected_option and pricing.selection_lost:
        return no.no_such_option(pricing)
    # The edge leaves out what it finds as it is: sealed anew, the same words are other bytes.
    made = prices.priced(pricing) | _given(fields, pricing)
    unchanged = all(getattr(state, name) == value for name, value in made.items())
    # A buyer who saves the same again is there all the same, and must not lose the units.
    soon_over = 2 * (state.expires_at_ms - turn.now_ms) < until_ms - turn.now_ms
    return views.reply(state) if unchanged and not soon_over else None


def _price_with(turn: Turn, fields: Fields, products: dict[str, Product]) -> Pricing:
    """The checkout as it would be priced with these fields."""
    state = turn.state
    address = fields.shipping_address if "shipping_address" in fields.given else state.shipping_address
    chosen = fields.selected_option if "selected_shipping_option" in fields.given else state.chosen
    return prices.price_lines(state, turn.rules, fields.lines or state.wanted, products, address, chosen)


def _change_of(state: Checkout) -> Change:
    assert state.change is not None, "a changing checkout has a change"
    return state.change


def changed(turn: Turn, result: Held | HoldState | Shortage) -> None:
    """Stock has answered a change: make it, or give back what was taken for it."""
    change = _change_of(turn.state)
    if isinstance(result, Shortage):
        _give_up(turn, no.shortage(change.wanted or (), result))
    elif isinstance(result, Held):
        found = {sku_of(account): product for account, product in result.products.items()}
        _make(turn, turn.state.products | found)
    elif result.refused == "stale":
        return  # too late on its way: the action is still wanted and is sent again
    elif result.refused and change.wanted is not None:
        _give_up(turn, no.EXPIRED)  # other shards may have taken their part
    elif result.refused:
        undoing.undo(turn, "expired", no.EXPIRED)
    else:
        _make(turn, turn.state.products)


def _make(turn: Turn, products: dict[str, Product]) -> None:
    """The commit point of a change."""
    state, change = turn.state, _change_of(turn.state)
    fields = change.fields
    wanted = change.wanted or state.wanted
    refusal = no.unpriced(wanted, products, state.currency)
    if refusal is not None:
        _give_up(turn, refusal)
        return
    pricing = _price_with(turn, fields, products)
    if fields.selected_option is not None and pricing.selection_lost:
        _give_up(turn, no.no_such_option(pricing))
        return
    made = {
        "wanted": wanted,
        "products": {line.sku: products[line.sku] for line in wanted},
        "expires_at_ms": change.expires_at_ms,
        **prices.priced(pricing),
        **_given(fields, pricing),
    }
    if change.wanted is None:
        turn.set(**made)
        _over(turn)
    else:
        turn.set(messages=(), **made)
        _trim(turn, _replace(change, skus=_skus(state)))


def _given(fields: Fields, pricing: Pricing) -> dict[str, Any]:
    given: dict[str, Any] = {
        name: getattr(fields, name) for name in ("buyer", "shipping_address", "billing_address") if name in fields.given
    }
    if "selected_shipping_option" in fields.given:
        given["chosen"] = fields.selected_option
    elif pricing.selection_lost:  # what was chosen is not offered at the new address
        given["chosen"] = None
    return given


def _skus(state: Checkout) -> tuple[str, ...]:
    lines = (*state.wanted, *(_change_of(state).wanted or ()))
    return tuple(dict.fromkeys([line.sku for line in lines]))


def _give_up(turn: Turn, refusal: Refusal) -> None:
    """Nothing changes; what was taken for the change goes back."""
    state, change = turn.state, _change_of(turn.state)
    if change.wanted is None:
        turn.set(change=_replace(change, refusal=refusal))
        _over(turn)
    else:
        _trim(turn, _replace(change, refusal=refusal, skus=_skus(state)))


def _trim(turn: Turn, change: Change) -> None:
    """Give back what is too much, under a new revision: a late copy of the take must not take it again."""
    turn.move("trimming", change=change, revision=turn.state.revision + 1)


def trimmed(turn: Turn) -> None:
    """What is no longer wanted is back. A hold that is gone altogether is found out by the next step."""
    _over(turn)


def _over(turn: Turn) -> None:
    """Nothing of the change is left to do: the buyer is answered, and what came meanwhile is carried out."""
    refusal = _change_of(turn.state).refusal
    turn.move("open", change=None)
    if refusal == no.EXPIRED:
        undoing.undo(turn, "expired", no.EXPIRED)
        return
    turn.answer("patch", reply=refusal or CheckoutReply(200, views.view(turn.state)))
    undoing.end_if_asked(turn)
