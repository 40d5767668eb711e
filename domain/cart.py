"""The pure core of the cart actor: lines, and which checkout is live.

Owns what a buyer has put aside, and the one link to a live checkout. Promises at most 50 lines of 1–999 each,
that a write names the version it means if it wants to, and that a cart has one live checkout. Prices are
remembered as they were shown, never decided here. Nothing expires by a timer: whether a cart has been idle too
long is derived from its times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import msgspec

from domain import ids
from domain.cart_model import (
    KIND,
    AddItem,
    BeginCheckout,
    Cart,
    CartAnswered,
    CartCommand,
    CartCommandBase,
    CartCreated,
    CartEnded,
    CartEvent,
    CartLine,
    CartPolicy,
    CartReply,
    CartReplyType,
    CartRestored,
    CartStatus,
    CartView,
    CheckoutLinked,
    CreateCart,
    Customer,
    EndCheckout,
    LinesSet,
    OpenCart,
    OpenCartSet,
    ReadCart,
    ReadCustomer,
    RestoreCart,
    SetOpenCart,
    SetQuantity,
    Shown,
)
from domain.catalog import MAX_LINES, MAX_QUANTITY
from domain.checkout_model import CartBegun, Wanted
from domain.messages import Decision, FieldError, Key, Refusal, Replayed, World, remembered, with_answer

NOT_FOUND = Refusal("not_found", "There is no such cart, or the credentials do not open it.")
EXPIRED = Refusal("cart_expired", "The cart was idle for too long. Restore it to go on.")
CHECKED_OUT = Refusal("cart_checked_out", "The cart has become an order. Make a new one.")
STALE = Refusal("version_mismatch", "The cart has changed since that version. Read it again.")
NO_LINE = Refusal("not_found", "There is no such line in this cart.")

_encode = msgspec.msgpack.Encoder().encode
_replace = msgspec.structs.replace


def route(command: CartCommandBase) -> str:
    """The key whose slot takes the command: a cart's, or a customer's."""
    return entity_of(command)[1]


def entity_of(command: CartCommandBase) -> Key:
    if isinstance(command, SetOpenCart | ReadCustomer):
        return ("customer", command.owner)
    return ("cart", ids.body(command.cart_id))


def status_of(policy: CartPolicy, cart: Cart, now_ms: int) -> CartStatus:
    if cart.ordered:
        return "checked_out"
    return "expired" if now_ms > cart.updated_at_ms + policy.idle_ms else "open"


def view(policy: CartPolicy, cart: Cart, now_ms: int) -> CartView:
    return CartView(
        id=cart.id,
        version=cart.version,
        status=status_of(policy, cart, now_ms),
        currency=cart.currency,
        customer=cart.customer,
        lines=cart.lines,
        checkout_id=cart.checkout_id,
        expires_at_ms=cart.updated_at_ms + policy.idle_ms,
        created_at_ms=cart.created_at_ms,
        updated_at_ms=cart.updated_at_ms,
        owner=cart.owner,
    )


# ── decide ──────────────────────────────────────────────────────────────────────────────────────────────


def decide(policy: CartPolicy, world: World, command: CartCommand, now_ms: int) -> Decision:
    """What becomes of a command. Checks: seen id, existence and owner, status, version, amounts."""
    if isinstance(command, ReadCustomer):
        customer: Customer | None = world.get("customer", command.owner)
        return Decision(reply=OpenCart(customer.open_cart if customer else None))
    if isinstance(command, SetOpenCart):
        pointed: Customer | None = world.get("customer", command.owner)
        moved = pointed is None or pointed.open_cart != command.cart_id
        return Decision(
            [OpenCartSet(command.owner, command.cart_id)] if moved else [], OpenCart(command.cart_id)
        )
    cart: Cart | None = world.get(KIND, ids.body(command.cart_id))
    if cart is None:
        return (
            _create(policy, command, now_ms) if isinstance(command, CreateCart) else Decision(reply=NOT_FOUND)
        )
    seen = remembered(cart.answers, command)
    if seen is not None:
        return Decision(reply=seen if isinstance(seen, Refusal) else Replayed(seen.body))
    if command.owner and command.owner != cart.owner:
        return Decision(reply=NOT_FOUND)
    return _decide_known(policy, cart, command, now_ms)


def _decide_known(policy: CartPolicy, cart: Cart, command: CartCommand, now_ms: int) -> Decision:
    match command:
        case CreateCart() | ReadCart():
            return Decision(reply=CartReply(200, view(policy, cart, now_ms)))
        case AddItem():
            refusal = _not_writable(policy, cart, command, now_ms)
            return _answer(cart, command, now_ms, refusal) if refusal else _add(policy, cart, command, now_ms)
        case SetQuantity():
            refusal = _not_writable(policy, cart, command, now_ms)
            return _answer(cart, command, now_ms, refusal) if refusal else _set(policy, cart, command, now_ms)
        case RestoreCart():
            return _restore(policy, cart, command, now_ms)
        case BeginCheckout():
            return _begin(policy, cart, command, now_ms)
        case EndCheckout():
            return _end(cart, command, now_ms)
        case SetOpenCart() | ReadCustomer():
            raise AssertionError("decided before")
        case never:
            assert_never(never)


def _not_writable(policy: CartPolicy, cart: Cart, command: CartCommandBase, now_ms: int) -> Refusal | None:
    if command.expected_version is not None and command.expected_version != cart.version:
        return STALE
    match status_of(policy, cart, now_ms):
        case "open":
            return None
        case "expired":
            return EXPIRED
        case "checked_out":
            return CHECKED_OUT
        case never:
            assert_never(never)


def _answer(
    cart: Cart, command: CartCommandBase, now_ms: int, reply: CartReplyType, events: Sequence[CartEvent] = ()
) -> Decision:
    """Reply, and remember the reply where somebody may ask again: after a change, or under a key."""
    if reply is STALE or not (events or command.fingerprint):
        return Decision(events, reply)
    kept = CartAnswered(ids.body(cart.id), command.command_id, command.fingerprint, now_ms, _encode(reply))
    return Decision([*events, kept], reply)


def _create(policy: CartPolicy, command: CreateCart, now_ms: int) -> Decision:
    shown = {entry.sku: entry for entry in command.shown}
    key = ids.body(command.cart_id)
    lines = tuple(
        CartLine(
            ids.derived("li", now_ms, key, line.sku),
            line.sku,
            line.quantity,
            shown[line.sku].title,
            shown[line.sku].unit_price,
        )
        for line in command.lines
    )
    cart = Cart(command.cart_id, command.owner, command.customer, command.currency, lines, now_ms, now_ms)
    return _answer(
        cart, command, now_ms, CartReply(201, view(policy, cart, now_ms)), [CartCreated(key, cart)]
    )


def _add(policy: CartPolicy, cart: Cart, command: AddItem, now_ms: int) -> Decision:
    there = next((line for line in cart.lines if line.sku == command.sku), None)
    quantity = command.quantity + (there.quantity if there else 0)
    if quantity > MAX_QUANTITY:
        return _answer(cart, command, now_ms, _too_many_units(quantity))
    if there is not None:
        lines = tuple(_replace(line, quantity=quantity) if line is there else line for line in cart.lines)
    elif len(cart.lines) >= MAX_LINES:
        error = FieldError("$.sku", "too_many_lines", f"A cart has at most {MAX_LINES} lines.")
        return _answer(cart, command, now_ms, Refusal("too_many_lines", error.message, (error,)))
    else:
        line_id = ids.derived("li", now_ms, ids.body(cart.id), command.sku, cart.version)
        lines = (*cart.lines, CartLine(line_id, command.sku, quantity, "", 0))
    return _set_lines(policy, cart, command, now_ms, lines, command.shown)


def _too_many_units(quantity: int) -> Refusal:
    text = f"A line has at most {MAX_QUANTITY} units; this would make {quantity}."
    return Refusal("quantity_out_of_range", text, (FieldError("$.quantity", "quantity_out_of_range", text),))


def _set(policy: CartPolicy, cart: Cart, command: SetQuantity, now_ms: int) -> Decision:
    if not any(line.id == command.line_id for line in cart.lines):
        return Decision(reply=NO_LINE)
    lines = tuple(
        _replace(line, quantity=command.quantity) if line.id == command.line_id else line
        for line in cart.lines
        if line.id != command.line_id or command.quantity
    )
    return _set_lines(policy, cart, command, now_ms, lines, command.shown)


def _set_lines(
    policy: CartPolicy,
    cart: Cart,
    command: CartCommandBase,
    now_ms: int,
    lines: tuple[CartLine, ...],
    shown: tuple[Shown, ...],
) -> Decision:
    facts = {entry.sku: entry for entry in shown}
    lines = tuple(
        _replace(line, title=facts[line.sku].title, unit_price=facts[line.sku].unit_price)
        if line.sku in facts
        else line
        for line in lines
    )
    event = LinesSet(ids.body(cart.id), now_ms, lines)
    changed = _evolve_cart(cart, event)
    return _answer(cart, command, now_ms, CartReply(200, view(policy, changed, now_ms)), [event])


def _restore(policy: CartPolicy, cart: Cart, command: RestoreCart, now_ms: int) -> Decision:
    status = status_of(policy, cart, now_ms)
    if status == "checked_out":
        return _answer(cart, command, now_ms, CHECKED_OUT)
    if status == "open":
        return Decision(reply=CartReply(200, view(policy, cart, now_ms)))
    event = CartRestored(ids.body(cart.id), now_ms)
    changed = _evolve_cart(cart, event)
    return _answer(cart, command, now_ms, CartReply(200, view(policy, changed, now_ms)), [event])


# ── the link to a checkout ──────────────────────────────────────────────────────────────────────────────


def _begin(policy: CartPolicy, cart: Cart, command: BeginCheckout, now_ms: int) -> Decision:
    refusal = _not_writable(policy, cart, command, now_ms)
    if refusal is not None:
        return Decision(reply=refusal)
    previous = cart.checkout_id if cart.checkout_id != command.checkout_id else None
    reply = CartBegun(tuple(Wanted(line.sku, line.quantity) for line in cart.lines), cart.currency, previous)
    event = CheckoutLinked(ids.body(cart.id), now_ms, command.checkout_id)
    return _answer(cart, command, now_ms, reply, [event])


def _end(cart: Cart, command: EndCheckout, now_ms: int) -> Decision:
    """An order closes the cart whichever checkout is linked; another end unlinks only its own."""
    if command.ordered:
        events = (
            [CheckoutLinked(ids.body(cart.id), now_ms, command.checkout_id, True)] if not cart.ordered else []
        )
        return Decision(events, CartEnded())
    if cart.checkout_id != command.checkout_id or cart.ordered:
        return Decision(reply=CartEnded())
    return Decision([CheckoutLinked(ids.body(cart.id), now_ms, command.previous)], CartEnded())


# ── evolve ──────────────────────────────────────────────────────────────────────────────────────────────


def touches(event: CartEvent) -> list[Key]:
    return [("customer", event.owner)] if isinstance(event, OpenCartSet) else [(KIND, event.cart)]


def evolve(key: Key, state: Cart | Customer | None, event: CartEvent) -> Cart | Customer:
    """The entity after the event. Applies, never judges."""
    if isinstance(event, OpenCartSet):
        return Customer(event.cart_id)
    assert not isinstance(state, Customer)
    return _evolve_cart(state, event)


def _evolve_cart(
    cart: Cart | None, event: CartCreated | LinesSet | CheckoutLinked | CartRestored | CartAnswered
) -> Cart:
    if isinstance(event, CartCreated):
        return event.state
    assert cart is not None, f"{type(event).__name__} concerns a cart that does not exist"
    match event:
        case LinesSet():
            return _replace(cart, lines=event.lines, version=cart.version + 1, updated_at_ms=event.at_ms)
        case CheckoutLinked():
            return _replace(
                cart,
                checkout_id=event.checkout_id,
                ordered=event.ordered,
                version=cart.version + 1,
                updated_at_ms=event.at_ms,
            )
        case CartRestored():
            return _replace(cart, version=cart.version + 1, updated_at_ms=event.at_ms)
        case CartAnswered():
            answers = with_answer(cart.answers, event.command_id, event.fingerprint, event.at_ms, event.body)
            return _replace(cart, answers=answers)
        case never:
            assert_never(never)
