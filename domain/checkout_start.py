"""The saga's beginning: the cart is told, a former checkout gives way, stock is taken and prices are frozen.

Owns what becomes of a start until the checkout is open (or, an express one, until its payment begins). What
fails here never became a checkout: nothing is held and only the answer is kept.
"""

from __future__ import annotations

import msgspec

from domain import checkout_payment as payment
from domain import checkout_prices as prices
from domain import checkout_refusals as no
from domain import checkout_undo as undoing
from domain import checkout_views as views
from domain.checkout_actions import next_steps
from domain.checkout_model import CartBegun, CheckoutReply, GaveWay, Start
from domain.checkout_state import Checkout, Message, Phase, Policy, Rules, Undo, Wanted
from domain.checkout_turn import Turn
from domain.messages import Decision
from domain.stock_model import Held, HoldState, Shortage, sku_of

MAX_SHORTAGES = 3  # how often what there is may be less than what there was a moment ago


def start(policy: Policy, rules: Rules, command: Start, now_ms: int, former: Checkout | None = None) -> Decision:
    """A new checkout; or the ``former`` one of the same start, which was told to come back, once more."""
    fields = command.fields
    state = Checkout(
        id=former.id if former is not None else command.checkout_id,
        owner=command.owner,
        root=command.root,
        customer=command.customer,
        cart_id=command.cart_id,
        currency=command.currency,
        phase="linking" if command.cart_id is not None else "holding",
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
        wanted=command.wanted,
        on_shortage=command.on_shortage,
        express=command.express,
        expires_at_ms=prices.expires_at_ms(policy, command.cart_id, now_ms),
        chosen=fields.selected_option,
        buyer=fields.buyer,
        shipping_address=fields.shipping_address,
        billing_address=fields.billing_address,
        round=former.round + 1 if former is not None else 0,
    )
    turn = Turn(state, policy, rules, now_ms, is_new=True)
    turn.owe("start", command)
    if command.express is not None:
        # What no pricing can mend is found before stock is taken.
        early = [error for error in views.missing(state) if error.path != "$.selected_shipping_option"]
        if early:
            undoing.refuse(turn, no.not_ready(early))
    return turn.decision()


def again(turn: Turn, command: Start) -> Decision:
    """The same start, whose answer is not kept: it was told to come back, or its day is over."""
    state = turn.state
    if state.phase != "refused":
        return turn.decision(CheckoutReply(200, views.view(state)))
    if next_steps(state):
        return turn.decision(no.BEING_CHANGED)
    return start(turn.policy, turn.rules, command, turn.now_ms, former=state)


def cart_begun(turn: Turn, result: CartBegun) -> None:
    """The cart is ours, unless another checkout has to give way first."""
    turn.done("linked")
    if not result.lines:
        undoing.refuse(turn, no.CART_EMPTY)
        return
    following: Phase = "replacing" if result.previous is not None else "holding"
    turn.move(following, wanted=result.lines, currency=result.currency, previous=result.previous)
    undoing.refuse_if_asked(turn)


def gave_way(turn: Turn, result: GaveWay) -> None:
    if not result.refused:
        turn.move("linking")  # it may have been waiting for another: the cart knows who is next
        return
    # The cart goes back to the checkout that is paying. The refusal is not final: once that payment has
    # failed, the same start may be taken up again.
    turn.move("refused", undo=Undo("refused"))
    extra = {"checkout_id": turn.state.previous}
    turn.answer("start", reply=msgspec.structs.replace(no.IN_PROGRESS, extra=extra))


def held(turn: Turn, result: Held) -> None:
    """The units are ours: freeze their prices."""
    state = turn.state
    products = {sku_of(account): product for account, product in result.products.items()}
    hold = "pinned" if state.express is not None else "held"
    refusal = no.unpriced(state.wanted, products, state.currency)
    if refusal is not None:
        turn.set(hold=hold)
        undoing.undo(turn, "refused", refusal)
        return
    pricing = prices.price_lines(state, turn.rules, state.wanted, products, state.shipping_address, state.chosen)
    products = {line.sku: products[line.sku] for line in state.wanted}
    turn.move("open", hold=hold, products=products, **prices.priced(pricing))
    if state.chosen is not None and pricing.selection_lost:
        undoing.undo(turn, "refused", no.no_such_option(pricing))
    elif undoing.end_if_asked(turn):
        return
    elif state.express is not None:
        _pay_at_once(turn)
    else:
        turn.answer("start", reply=CheckoutReply(201, views.view(turn.state)))


def _pay_at_once(turn: Turn) -> None:
    """An express checkout: its hold was born pinned, so payment begins in the same turn."""
    asked = turn.state.express
    assert asked is not None, "only an express checkout pays at once"
    refusal = payment.cannot_complete(turn, asked)
    if refusal is not None:
        undoing.undo(turn, "refused", refusal)
        return
    payment.begin(turn, asked)
    payment.pinned(turn, HoldState("pinned"))


def short(turn: Turn, result: Shortage) -> None:
    """Not enough: take what there is, if the buyer wants that, else nothing."""
    state = turn.state
    refusal = no.shortage(state.wanted, result)
    left = _cut(state.wanted, result)
    takes_less = state.on_shortage == "accept_available" and refusal.code == "out_of_stock"
    if takes_less and left and state.shortages < MAX_SHORTAGES:
        turn.move(
            "holding",
            wanted=left,
            shortages=state.shortages + 1,
            revision=state.revision + 1,
            messages=_told(state, left, result),
            dropped=state.dropped + tuple(_missing_from(left, state.wanted)),
        )
    elif result.held_elsewhere or state.shortages:
        turn.set(hold="held")
        undoing.undo(turn, "refused", refusal)
    else:
        undoing.refuse(turn, refusal)


def _told(state: Checkout, left: tuple[Wanted, ...], found: Shortage) -> tuple[Message, ...]:
    """What was cut or left out by now; what was told of a line before points to where the line is now."""
    places = {line.sku: place for place, line in enumerate(left)}
    short = {sku_of(line.account): line.available for line in found.lines}
    sku_at = {no.quantity_path(place): line.sku for place, line in enumerate(state.wanted)}
    told = []
    for message in state.messages:
        sku = sku_at.get(message.path)
        if sku is None:
            told.append(message)
        elif sku not in short:
            told.append(msgspec.structs.replace(message, path=no.quantity_path(places[sku])))
    return (*told, *(no.quantity_cut(sku, available, places.get(sku)) for sku, available in short.items()))


def _missing_from(left: tuple[Wanted, ...], wanted: tuple[Wanted, ...]) -> list[str]:
    kept = {line.sku for line in left}
    return [line.sku for line in wanted if line.sku not in kept]


def _cut(wanted: tuple[Wanted, ...], found: Shortage) -> tuple[Wanted, ...]:
    available = {sku_of(line.account): line.available for line in found.lines}
    cut = (Wanted(line.sku, min(line.quantity, available.get(line.sku, line.quantity))) for line in wanted)
    return tuple(line for line in cut if line.quantity > 0)
