"""The pure core of the cart actor: lines, and which checkout is live.

Owns what a buyer has put aside, and the one link to a live checkout. Promises at most 50 lines of 1–999 each,
that a write names the version it means if it wants to, and that a cart has one live checkout. Prices are
remembered as they were shown, never decided here. Nothing expires by a timer: whether a cart has been idle
too long is derived from its times, and while a checkout has it, it is not idle.

The customer's pointer to the open cart is another entity, maybe on another shard, so it is set by a command
of its own, once the cart is made: a crash in between leaves the customer the cart before it, and a refused
cart never takes that one away. A repeat of the request finishes the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    CartRefused,
    CartReply,
    CartReplyType,
    CartRestored,
    CartStatus,
    CartView,
    CheckoutsSet,
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
from domain.messages import Decision, FieldError, Key, Refusal, Replayed, World, remembered, too_many, with_answer

NOT_FOUND = Refusal("not_found", "There is no such cart, or the credentials do not open it.")
EXPIRED = Refusal("cart_expired", "The cart was idle for too long. Restore it to go on.")
CHECKED_OUT = Refusal("cart_checked_out", "The cart has become an order. Make a new one.")
STALE = Refusal("version_mismatch", "The cart has changed since that version. Read it again.")
NO_LINE = Refusal("not_found", "There is no such line in this cart.")
POINTERS_KEPT = 20  # of a customer's former carts: what a late repeat could name

_decode = msgspec.msgpack.Decoder(CartReplyType).decode
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
    return "expired" if now_ms > cart.idle_since_ms(now_ms) + policy.idle_ms else "open"


def view(policy: CartPolicy, cart: Cart, now_ms: int) -> CartView:
    return CartView(
        id=cart.id,
        version=cart.version,
        status=status_of(policy, cart, now_ms),
        currency=cart.currency,
        customer=cart.customer,
        lines=cart.lines,
        checkout_id=cart.checkout_id,
        expires_at_ms=cart.idle_since_ms(now_ms) + policy.idle_ms,
        created_at_ms=cart.created_at_ms,
        updated_at_ms=cart.updated_at_ms,
        owner=cart.owner,
    )


# ── decide ──────────────────────────────────────────────────────────────────────────────────────────────


def decide(policy: CartPolicy, world: World, command: CartCommand, now_ms: int) -> Decision:
    """What becomes of a command. Checks: existence and owner, seen id, version, status, what is asked."""
    if isinstance(command, ReadCustomer | SetOpenCart):
        return _decide_pointer(world.get("customer", command.owner), command)
    cart: Cart | None = world.get(KIND, ids.body(command.cart_id))
    if cart is None:
        if isinstance(command, CreateCart):
            return _create(policy, command, now_ms)
        return Decision(reply=NOT_FOUND)
    if command.owner and command.owner != cart.owner:
        return Decision(reply=NOT_FOUND)
    if cart.refused and not isinstance(command, CreateCart):
        return Decision(reply=NOT_FOUND)
    before = _answered_before(cart, command)
    if before is not None:
        return before
    refusal = too_many(cart.answers, command, now_ms)
    return Decision(reply=refusal) if refusal is not None else _decide_known(policy, cart, command, now_ms)


def _decide_pointer(customer: Customer | None, command: ReadCustomer | SetOpenCart) -> Decision:
    if isinstance(command, ReadCustomer):
        return Decision(reply=_pointer(customer))
    known = (customer.open_cart, *customer.before) if customer is not None else ()
    if ids.body(command.cart_id) in map(ids.body, known):
        return Decision(reply=_pointer(customer))
    event = OpenCartSet(command.owner, command.cart_id)
    return Decision([event], _pointer(_point(customer, event)))


def _pointer(customer: Customer | None) -> OpenCart:
    return OpenCart(customer.open_cart if customer is not None else None)


def _point(customer: Customer | None, event: OpenCartSet) -> Customer:
    known = (customer.open_cart, *customer.before) if customer is not None else ()
    return Customer(event.cart_id, known[:POINTERS_KEPT])


def _answered_before(cart: Cart, command: CartCommand) -> Decision | None:
    seen = remembered(cart.answers, command)
    if seen is None:
        return None
    if isinstance(seen, Refusal):
        return Decision(reply=seen)
    if isinstance(command, BeginCheckout | EndCheckout):
        return Decision(reply=_decode(seen.body))  # a coordinator takes a repeat for what it was
    return Decision(reply=Replayed(seen.body))


def _decide_known(policy: CartPolicy, cart: Cart, command: CartCommand, now_ms: int) -> Decision:
    match command:
        case CreateCart() if cart.refused:
            return _create(policy, command, now_ms)
        case CreateCart() | ReadCart():
            return Decision(reply=CartReply(200, view(policy, cart, now_ms)))
        case AddItem():
            refusal = _not_writable(policy, cart, command, now_ms)
            if refusal is not None:
                return _answer(cart, command, now_ms, refusal)
            return _add(policy, cart, command, now_ms)
        case SetQuantity():
            refusal = _not_writable(policy, cart, command, now_ms)
            if refusal is not None:
                return _answer(cart, command, now_ms, refusal)
            return _set(policy, cart, command, now_ms)
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
    return _keep(cart, command, now_ms, reply, events)


def _keep(
    cart: Cart, command: CartCommandBase, now_ms: int, reply: CartReplyType, events: Sequence[CartEvent] = ()
) -> Decision:
    kept = CartAnswered(ids.body(cart.id), command.command_id, command.fingerprint, now_ms, _encode(reply))
    return Decision([*events, kept], reply)


def _create(policy: CartPolicy, command: CreateCart, now_ms: int) -> Decision:
    key = ids.body(command.cart_id)
    refusal = _not_makeable(command)
    if refusal is not None:
        never = Cart(command.cart_id, command.owner, None, command.currency, (), now_ms, now_ms, refused=True)
        # Without a key nobody can ask for the refusal again.
        return _answer(never, command, now_ms, refusal, [CartRefused(key, never)] if command.fingerprint else ())
    unseen = tuple(
        CartLine(ids.derived("li", now_ms, key, line.sku), line.sku, line.quantity, "", 0) for line in command.lines
    )
    lines = _as_shown(unseen, command.shown)
    cart = Cart(command.cart_id, command.owner, command.customer, command.currency, lines, now_ms, now_ms)
    return _answer(cart, command, now_ms, CartReply(201, view(policy, cart, now_ms)), [CartCreated(key, cart)])


def _not_makeable(command: CreateCart) -> Refusal | None:
    if len(command.lines) > MAX_LINES:
        return _too_many_lines("$.line_items")
    for line in command.lines:
        if not 1 <= line.quantity <= MAX_QUANTITY:
            return _out_of_range(f"$.line_items[{line.place}].quantity", line.quantity)
    wanted = ((f"$.line_items[{line.place}].sku", line.sku) for line in command.lines)
    return _unavailable(wanted, command.shown, command.currency)


def _add(policy: CartPolicy, cart: Cart, command: AddItem, now_ms: int) -> Decision:
    unavailable = _unavailable([("$.sku", command.sku)], command.shown, cart.currency)
    if unavailable is not None:
        return _answer(cart, command, now_ms, unavailable)
    there = next((line for line in cart.lines if line.sku == command.sku), None)
    quantity = command.quantity + (there.quantity if there else 0)
    if command.quantity < 1 or quantity > MAX_QUANTITY:
        return _answer(cart, command, now_ms, _out_of_range("$.quantity", quantity))
    if there is not None:
        lines = tuple(_replace(line, quantity=quantity) if line is there else line for line in cart.lines)
    elif len(cart.lines) >= MAX_LINES:
        return _answer(cart, command, now_ms, _too_many_lines("$.sku"))
    else:
        line_id = ids.derived("li", now_ms, ids.body(cart.id), command.sku, cart.version)
        lines = (*cart.lines, CartLine(line_id, command.sku, quantity, "", 0))
    return _set_lines(policy, cart, command, now_ms, lines, command.shown)


def _too_many_lines(path: str) -> Refusal:
    text = f"A cart has at most {MAX_LINES} lines."
    return Refusal("too_many_lines", text, (FieldError(path, "too_many_lines", text),))


def _out_of_range(path: str, quantity: int) -> Refusal:
    text = f"A line has 1 to {MAX_QUANTITY} units; this would make {quantity}."
    return Refusal("quantity_out_of_range", text, (FieldError(path, "quantity_out_of_range", text),))


def _unavailable(wanted: Iterable[tuple[str, str]], shown: Sequence[Shown], currency: str) -> Refusal | None:
    """Names each of the wanted (path, SKU) of which stock shows nothing: no such item, or no such price."""
    known = {entry.sku for entry in shown}
    text = f"There is no such item, or it is not sold in {currency}."
    errors = [FieldError(path, "item_unavailable", text, {"sku": sku}) for path, sku in wanted if sku not in known]
    if not errors:
        return None
    return Refusal("item_unavailable", f"Some items are not sold in {currency}.", tuple(errors))


def _set(policy: CartPolicy, cart: Cart, command: SetQuantity, now_ms: int) -> Decision:
    if not any(line.id == command.line_id for line in cart.lines):
        return _answer(cart, command, now_ms, NO_LINE)
    if not 0 <= command.quantity <= MAX_QUANTITY:
        return _answer(cart, command, now_ms, _out_of_range("$.quantity", command.quantity))
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
    event = LinesSet(ids.body(cart.id), now_ms, _as_shown(lines, shown))
    changed = _evolve_cart(cart, event)
    return _answer(cart, command, now_ms, CartReply(200, view(policy, changed, now_ms)), [event])


def _as_shown(lines: tuple[CartLine, ...], shown: tuple[Shown, ...]) -> tuple[CartLine, ...]:
    """The lines with the facts of now; one that stock knows nothing of keeps what it was last shown with."""
    facts = {entry.sku: entry for entry in shown}
    return tuple(
        _replace(line, title=facts[line.sku].title, unit_price=facts[line.sku].unit_price)
        if line.sku in facts
        else line
        for line in lines
    )


def _restore(policy: CartPolicy, cart: Cart, command: RestoreCart, now_ms: int) -> Decision:
    status = status_of(policy, cart, now_ms)
    if status == "checked_out":
        return _answer(cart, command, now_ms, CHECKED_OUT)
    if status == "open":
        return _answer(cart, command, now_ms, CartReply(200, view(policy, cart, now_ms)))
    event = CartRestored(ids.body(cart.id), now_ms)
    changed = _evolve_cart(cart, event)
    return _answer(cart, command, now_ms, CartReply(200, view(policy, changed, now_ms)), [event])


# ── the link to a checkout ──────────────────────────────────────────────────────────────────────────────


def _begin(policy: CartPolicy, cart: Cart, command: BeginCheckout, now_ms: int) -> Decision:
    """The newest start gets the cart, and learns who has to give way; it asks again when that one is gone."""
    refusal = _not_writable(policy, cart, command, now_ms)
    if refusal is not None:
        # Kept, or a late copy of the question might be granted what its asker was refused.
        return _keep(cart, command, now_ms, refusal)
    checkouts = _without(cart, command.gone)
    if command.checkout_id not in checkouts:
        checkouts = (*checkouts, command.checkout_id)
    place = checkouts.index(command.checkout_id)
    previous = checkouts[place - 1] if place else None
    lines = tuple(Wanted(line.sku, line.quantity) for line in cart.lines)
    event = CheckoutsSet(ids.body(cart.id), now_ms, checkouts)
    return _answer(cart, command, now_ms, CartBegun(lines, cart.currency, previous), [event])


def _end(cart: Cart, command: EndCheckout, now_ms: int) -> Decision:
    """An order closes the cart, whoever has it; another end gives it back to whom it was taken from."""
    if cart.ordered or not (command.ordered or command.checkout_id in cart.checkouts):
        return Decision(reply=CartEnded())
    left = () if command.ordered else _without(cart, command.checkout_id)
    event = CheckoutsSet(ids.body(cart.id), now_ms, left, command.ordered)
    return _answer(cart, command, now_ms, CartEnded(), [event])


def _without(cart: Cart, checkout_id: str | None) -> tuple[str, ...]:
    return tuple(entry for entry in cart.checkouts if entry != checkout_id)


# ── evolve ──────────────────────────────────────────────────────────────────────────────────────────────


def touches(event: CartEvent) -> list[Key]:
    return [("customer", event.owner)] if isinstance(event, OpenCartSet) else [(KIND, event.cart)]


def evolve(key: Key, state: Cart | Customer | None, event: CartEvent) -> Cart | Customer:
    """The entity after the event. Applies, never judges."""
    if isinstance(event, OpenCartSet):
        assert not isinstance(state, Cart), "a pointer is not a cart"
        return _point(state, event)
    assert not isinstance(state, Customer), "a cart is not a pointer"
    return _evolve_cart(state, event)


def _evolve_cart(
    cart: Cart | None, event: CartCreated | CartRefused | LinesSet | CheckoutsSet | CartRestored | CartAnswered
) -> Cart:
    if isinstance(event, CartCreated | CartRefused):
        return event.state
    assert cart is not None, f"{type(event).__name__} concerns a cart that does not exist"
    match event:
        case LinesSet():
            return _replace(cart, lines=event.lines, version=cart.version + 1, updated_at_ms=event.at_ms)
        case CheckoutsSet():
            # Who has it is nothing that a buyer edits: only its end by an order is a new version.
            return _replace(
                cart,
                checkouts=event.checkouts,
                ordered=event.ordered,
                version=cart.version + event.ordered,
                updated_at_ms=event.at_ms,
            )
        case CartRestored():
            return _replace(cart, version=cart.version + 1, updated_at_ms=event.at_ms)
        case CartAnswered():
            answers = with_answer(cart.answers, event.command_id, event.fingerprint, event.at_ms, event.body)
            return _replace(cart, answers=answers)
        case never:
            assert_never(never)
