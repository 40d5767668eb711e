"""The checkout saga, top to bottom: start, change, complete, undo; the order's own life is in `order_saga`.

Owns the decision what becomes of each command in each phase. Promises: money moves only after every hold is
pinned; the order exists only when all money is authorized; what goes wrong before the pivot is undone newest
first, what goes wrong after it is retried forward; an unknown outcome is waited for, never guessed.
Is told of outcomes by `Stepped`; never does anything itself (see `checkout_actions.next_actions`).

    phase           Patch   Complete   Cancel      Replace    Due
    open            yes     yes        yes         yes        expires
    changing        busy    busy       remembered  yes        –
    pinning/paying  busy    busy       remembered  refused    –
    awaiting_buyer  busy    busy       yes         refused    expires
    unwinding       busy    busy       remembered  joins      –
    placed          no      same order no          refused    –
    canceled        no      no         same        yes        –
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from domain import checkout_views as views
from domain import fraud, ids, order_saga, payment_leg
from domain.catalog import Line, Product
from domain.checkout_actions import next_actions
from domain.checkout_model import (
    KIND,
    Accepted,
    Address,
    AmendAddress,
    AnyCommand,
    Cancel,
    CancelOrder,
    CartBegun,
    Change,
    Checkout,
    CheckoutCommand,
    CheckoutEvent,
    CheckoutReply,
    Complete,
    ConfirmPayment,
    DeliverOrder,
    Done,
    Due,
    Fields,
    GaveWay,
    LegOutcome,
    Message,
    Patch,
    Payments,
    Phase,
    Policy,
    PutRules,
    Read,
    ReadRules,
    Replace,
    ReviewOrder,
    Rules,
    RulesPut,
    RulesReply,
    ShipOrder,
    Start,
    Stepped,
    StepResult,
    Undo,
    UndoReason,
    Wanted,
)
from domain.checkout_turn import Turn
from domain.checkout_turn import evolve as evolve_checkout
from domain.messages import Decision, FieldError, Key, Refusal, Replayed, World, remembered
from domain.payment_leg import PaymentLeg
from domain.payments import Retrieved
from domain.pricing import Pricing, price
from domain.stock import Held, HoldState, Shortage, account_of, sku_of

RULES: Key = ("rules", "shop")
MAX_SHORTAGES = 3

NOT_FOUND = Refusal("not_found", "There is no such checkout, or the credentials do not open it.")
IN_PROGRESS = Refusal(
    "completion_in_progress", "A completion of this checkout is under way. Ask again shortly."
)
BEING_CHANGED = Refusal(
    "request_in_progress", "Another change of this checkout is under way. Ask again shortly."
)
COMPLETED = Refusal("checkout_completed", "The checkout is completed; its order can be canceled instead.")
CANCELED = Refusal("checkout_canceled", "The checkout was canceled. Start a new one.")
EXPIRED = Refusal("reservation_expired", "The reservation has expired. Start a new checkout.")
STALE = Refusal("version_mismatch", "The checkout has changed since that version. Read it again.")


def decide(policy: Policy, world: World, command: AnyCommand, now_ms: int) -> Decision:
    """What becomes of a command. Checks: seen id, existence and owner, status, shape, amounts."""
    rules: Rules = world.get(*RULES) or Rules()
    if isinstance(command, PutRules):
        changed = Rules(command.shipping or rules.shipping, command.tax or rules.tax)
        return Decision([RulesPut(changed)] if changed != rules else [], RulesReply(changed))
    if isinstance(command, ReadRules):
        return Decision(reply=RulesReply(rules))
    state: Checkout | None = world.get(KIND, ids.body(command.checkout_id))
    if state is None:
        return (
            _start(policy, rules, command, now_ms)
            if isinstance(command, Start)
            else Decision(reply=NOT_FOUND)
        )
    turn = Turn(state, policy, rules, now_ms)
    if isinstance(command, Stepped):
        _stepped(turn, command.action, command.result)
        return turn.decision(Accepted())
    if isinstance(command, Due):
        _due(turn)
        return turn.decision(Accepted())
    answered = _answered_before(state, command)
    if answered is not None:
        return answered
    if not _opens(state, command):
        return Decision(reply=NOT_FOUND)
    return _decide_known(turn, command)


def _answered_before(state: Checkout, command: CheckoutCommand) -> Decision | None:
    """The first answer again; for one still owed, one more asker waits for it."""
    for entry in state.asked:
        if entry.command_id == command.command_id:
            if entry.fingerprint != command.fingerprint:
                return Decision(
                    reply=Refusal("idempotency_key_reused", "This key was used with another request.")
                )
            return Decision(reply=None)
    seen = remembered(state.answers, command)
    if isinstance(seen, Refusal):
        return Decision(reply=seen)
    if seen is not None:
        return Decision(reply=Replayed(seen.body) if seen.body else views.completed(state))
    return None


def _opens(state: Checkout, command: CheckoutCommand) -> bool:
    """Whether the credentials open the checkout: its owner's, or none (an operator, or the system)."""
    if isinstance(command, Start):
        return command.owner == state.owner
    return state.phase != "refused" and (not command.owner or command.owner == state.owner)


def _decide_known(turn: Turn, command: AnyCommand) -> Decision:
    match command:
        case Start():  # its answer's time is over, but the checkout is still here
            return Decision(reply=CheckoutReply(200, views.view(turn.state)))
        case Read():
            return Decision(reply=_reply_now(turn.state))
        case Patch():
            return _patch(turn, command)
        case Complete():
            return _complete(turn, command)
        case Cancel():
            return _cancel(turn, command)
        case Replace():
            return _replace_by(turn, command)
        case ConfirmPayment():
            return _confirm_payment(turn, command)
        case CancelOrder() | ShipOrder() | DeliverOrder() | ReviewOrder() | AmendAddress():
            return order_saga.decide(turn, command)
        case Stepped() | Due() | PutRules() | ReadRules():
            raise AssertionError("decided before")
        case never:
            assert_never(never)


def _reply_now(state: Checkout) -> CheckoutReply:
    return CheckoutReply(200, views.view(state), views.order_view(state) if state.order else None)


# ── start ───────────────────────────────────────────────────────────────────────────────────────────────


def _start(policy: Policy, rules: Rules, command: Start, now_ms: int) -> Decision:
    fields = command.fields
    state = Checkout(
        id=command.checkout_id,
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
        expires_at_ms=_expiry(policy, command.cart_id, now_ms),
        chosen=fields.selected_option,
        buyer=fields.buyer,
        shipping_address=fields.shipping_address,
        billing_address=fields.billing_address,
    )
    turn = Turn(state, policy, rules, now_ms, is_new=True)
    turn.owe("start", command)
    if command.express is not None:
        early = [error for error in views.missing(state) if error.path != "$.selected_shipping_option"]
        if early:
            turn.move("refused")
            turn.answer("start", _not_ready(early))
    return turn.decision()


def _expiry(policy: Policy, cart_id: str | None, now_ms: int) -> int:
    ttl_ms = policy.hold_ttl_ms if cart_id is None else min(policy.hold_ttl_ms, policy.cart_idle_ms)
    return now_ms + ttl_ms


def _not_ready(errors: list[FieldError]) -> Refusal:
    return Refusal("checkout_not_ready", "The checkout is not ready to be completed.", tuple(errors))


def _cart_begun(turn: Turn, result: CartBegun) -> None:
    turn.done("linked")
    if not result.lines:
        _refuse(
            turn,
            Refusal(
                "cart_empty", "The cart has no lines.", (FieldError("$.cart_id", "missing", "Add items."),)
            ),
        )
        return
    following: Phase = "replacing" if result.previous is not None else "holding"
    turn.move(following, wanted=result.lines, currency=result.currency, previous=result.previous)


def _gave_way(turn: Turn, result: GaveWay) -> None:
    if result.refused:
        # The cart stays with the checkout that is paying: `previous` is what the cart goes back to.
        _refuse(turn, msgspec.structs.replace(IN_PROGRESS, extra={"checkout_id": turn.state.previous}))
    else:
        turn.move("holding", previous=None)


def _held(turn: Turn, result: Held) -> None:
    state = turn.state
    products = {sku_of(account): product for account, product in result.products.items()}
    unpriced = [
        FieldError(
            f"$.line_items[{i}].sku", "item_unavailable", f"Not sold in {state.currency}.", {"sku": line.sku}
        )
        for i, line in enumerate(state.wanted)
        if state.currency not in products[line.sku].prices
    ]
    if unpriced:
        turn.move(state.phase, hold="pinned" if state.express is not None else "held")
        text = f"Some items are not sold in {state.currency}."
        _undo(turn, "refused", Refusal("item_unavailable", text, tuple(unpriced)))
        return
    pricing = _price(turn, state.wanted, products, state.chosen)
    hold = "pinned" if state.express is not None else "held"
    turn.move(
        "open",
        hold=hold,
        products=products,
        lines=pricing.lines,
        totals=pricing.totals,
        total=pricing.total,
        offers=pricing.offers,
        selected=pricing.selected,
        deliverable=pricing.deliverable,
    )
    refusal: Refusal | None = None
    if state.chosen is not None and pricing.selection_lost:
        refusal = _no_such_option(pricing)
    elif state.express is not None:
        refusal = _cannot_complete(turn, state.express)
    else:
        turn.answer("start", CheckoutReply(201, views.view(turn.state)))
    if refusal is not None:
        _undo(turn, "refused", refusal)
    elif state.express is not None:
        _begin_payment(turn, state.express)


def _price(
    turn: Turn, wanted: tuple[Wanted, ...], products: dict[str, Product], chosen: str | None
) -> Pricing:
    state = turn.state
    place = state.shipping_address.place if state.shipping_address is not None else None
    key = ids.body(state.id)
    lines = [
        (
            Line(ids.derived("li", state.created_at_ms, key, line.sku), line.sku, line.quantity),
            products[line.sku],
        )
        for line in wanted
    ]
    return price(lines, state.currency, turn.rules.shipping, turn.rules.tax, place, chosen)


def price_at(turn: Turn, address: Address) -> int:
    """The total of a placed order if it were shipped to another address by the same option."""
    state = msgspec.structs.replace(turn.state, shipping_address=address)
    probe = Turn(state, turn.policy, turn.rules, turn.now_ms)
    return _price(probe, state.wanted, state.products, state.selected).total


def _no_such_option(pricing: Pricing) -> Refusal:
    offered = ", ".join(offer.id for offer in pricing.offers) or "none"
    error = FieldError("$.selected_shipping_option", "invalid", f"Choose one of those offered: {offered}.")
    return Refusal("validation_failed", "The shipping option is not offered for this checkout.", (error,))


def _short(turn: Turn, result: Shortage) -> None:
    state = turn.state
    short = {sku_of(line.account): line for line in result.lines}
    refusal = shortage_refusal(state.wanted, result)
    cut = tuple(
        Wanted(line.sku, min(line.quantity, short[line.sku].available)) if line.sku in short else line
        for line in state.wanted
    )
    cut = tuple(line for line in cut if line.quantity > 0)
    if state.on_shortage == "accept_available" and cut and state.shortages < MAX_SHORTAGES:
        messages = tuple(
            _cut_message(line.sku, short[line.sku].available) for line in state.wanted if line.sku in short
        )
        turn.move(
            "holding",
            wanted=cut,
            shortages=state.shortages + 1,
            revision=state.revision + 1,
            messages=state.messages + messages,
        )
    elif result.held_elsewhere or state.shortages:
        turn.move("holding", hold="held")
        _undo(turn, "refused", refusal)
    else:
        _refuse(turn, refusal)


def shortage_refusal(wanted: tuple[Wanted, ...], shortage: Shortage) -> Refusal:
    """Every short line; ``item_unavailable`` when some SKU does not exist at all."""
    index = {account_of(line.sku): i for i, line in enumerate(wanted)}
    unknown = [line for line in shortage.lines if not line.known]
    errors = tuple(
        FieldError(
            f"$.line_items[{index.get(line.account, 0)}]" + (".quantity" if line.known else ".sku"),
            "out_of_stock" if line.known else "item_unavailable",
            f"Only {line.available} available." if line.known else "There is no such item.",
            {"sku": sku_of(line.account), "requested": line.requested, "available": line.available},
        )
        for line in shortage.lines
    )
    if unknown:
        return Refusal("item_unavailable", "Some items do not exist.", errors)
    return Refusal("out_of_stock", "There is not enough stock for this order.", errors)


def _cut_message(sku: str, available: int) -> Message:
    code, text = ("quantity_reduced", f"Only {available} of {sku} were available.")
    if available <= 0:
        code, text = ("out_of_stock", f"{sku} is out of stock and was left out.")
    return Message("warning", code, "$.line_items", text, "requires_buyer_review")


def _refuse(turn: Turn, refusal: Refusal) -> None:
    """It never became a checkout: nothing is held, only the answer stays."""
    turn.move("refused", undo=Undo("refused"))
    turn.answer("start", refusal)


# ── change ──────────────────────────────────────────────────────────────────────────────────────────────


def _patch(turn: Turn, command: Patch) -> Decision:
    state, fields = turn.state, command.fields
    refusal = _not_open(state) or _stale(state, command.expected_version)
    if refusal is not None:
        return Decision(reply=refusal)
    if fields.lines is None:
        pricing = _price_with(turn, fields)
        if fields.selected_option is not None and pricing.selection_lost:
            return Decision(reply=_no_such_option(pricing))
    wanted = fields.lines if fields.lines is not None and fields.lines != state.wanted else None
    turn.owe("patch", command)
    turn.move(
        "changing",
        change=Change(fields, wanted),
        revision=state.revision + 1,
        expires_at_ms=_expiry(turn.policy, state.cart_id, turn.now_ms),
    )
    return turn.decision()


def _not_open(state: Checkout) -> Refusal | None:
    match state.phase:
        case "open":
            return None
        case "linking" | "replacing" | "holding" | "changing" | "trimming":
            return BEING_CHANGED
        case "pinning" | "paying" | "awaiting_buyer":
            return IN_PROGRESS
        case "unwinding":
            return (
                IN_PROGRESS if state.undo is not None and state.undo.reason == "declined" else _ended(state)
            )
        case "placed":
            return COMPLETED
        case "canceled" | "refused":
            return _ended(state)
        case never:
            assert_never(never)


def _ended(state: Checkout) -> Refusal:
    return EXPIRED if state.undo is not None and state.undo.reason == "expired" else CANCELED


def _stale(state: Checkout, expected_version: int | None) -> Refusal | None:
    return STALE if expected_version is not None and expected_version != state.version else None


def _price_with(turn: Turn, fields: Fields) -> Pricing:
    """The checkout as it would be priced with these fields; lines and products as they are."""
    state = turn.state
    address = fields.shipping_address if "shipping_address" in fields.given else state.shipping_address
    chosen = fields.selected_option if "selected_shipping_option" in fields.given else state.chosen
    wanted = fields.lines if fields.lines is not None else state.wanted
    probe = Turn(
        msgspec.structs.replace(state, shipping_address=address), turn.policy, turn.rules, turn.now_ms
    )
    return _price(probe, wanted, state.products, chosen)


def _changed(turn: Turn, result: Held | HoldState | Shortage) -> None:
    """Stock has answered a change: make it, or give back what was taken for it."""
    change = turn.state.change
    assert change is not None, "a changing checkout has a change"
    if isinstance(result, Shortage):
        _give_up_change(turn, shortage_refusal(change.wanted or (), result))
    elif isinstance(result, HoldState):
        if result.refused == "stale":
            return  # too late on its way: the action is still wanted and is sent again
        if result.refused:
            _undo(turn, "expired", EXPIRED)
        else:
            _make_change(turn, {})
    else:
        _make_change(turn, {sku_of(account): product for account, product in result.products.items()})


def _give_up_change(turn: Turn, refusal: Refusal) -> None:
    change = turn.state.change
    assert change is not None, "a changing checkout has a change"
    turn.move("trimming", change=msgspec.structs.replace(change, refusal=refusal))


def _make_change(turn: Turn, products: dict[str, Product]) -> None:
    """The commit point of a change; the surplus goes back forward."""
    state, change = turn.state, turn.state.change
    assert change is not None, "a changing checkout has a change"
    fields = change.fields
    known = state.products | products
    if change.wanted is not None:
        unpriced = [line.sku for line in change.wanted if state.currency not in known[line.sku].prices]
        if unpriced:
            error = FieldError(
                "$.line_items", "item_unavailable", f"Not sold in {state.currency}: {unpriced[0]}."
            )
            return _give_up_change(
                turn, Refusal("item_unavailable", "Some items are not sold here.", (error,))
            )
    turn.move("changing", products=known)
    pricing = _price_with(turn, fields)
    if fields.selected_option is not None and pricing.selection_lost:
        turn.move("changing", products=state.products)
        return _give_up_change(turn, _no_such_option(pricing))
    given: dict[str, Any] = {
        name: getattr(fields, name)
        for name in ("buyer", "shipping_address", "billing_address")
        if name in fields.given
    }
    if "selected_shipping_option" in fields.given:
        given["chosen"] = fields.selected_option
    elif pricing.selection_lost:
        given["chosen"] = None
    turn.move(
        "open" if change.wanted is None else "trimming",
        change=None,
        wanted=change.wanted or state.wanted,
        lines=pricing.lines,
        totals=pricing.totals,
        total=pricing.total,
        offers=pricing.offers,
        selected=pricing.selected,
        deliverable=pricing.deliverable,
        messages=() if change.wanted is not None else state.messages,
        **given,
    )
    if change.wanted is None:
        _change_over(turn)


def _change_over(turn: Turn) -> None:
    """Nothing of the change is left to do: the buyer is answered, and a cancel that came meanwhile is done."""
    refusal = turn.state.change.refusal if turn.state.change is not None else None
    turn.move("open", change=None)
    turn.answer("patch", refusal or CheckoutReply(200, views.view(turn.state)))
    if turn.owes("replace"):
        _undo(turn, "replaced")
    elif turn.owes("cancel"):
        _undo(turn, "buyer")


# ── complete ────────────────────────────────────────────────────────────────────────────────────────────


def _complete(turn: Turn, command: Complete) -> Decision:
    state = turn.state
    if state.phase == "placed":
        reply = _reply_now(state)
        turn.remember(command, reply)
        return turn.decision(reply)
    refusal = (
        _not_open(state)
        or _stale(state, command.expected_version)
        or _cannot_complete(turn, command.payments)
    )
    if refusal is not None:
        if refusal not in (IN_PROGRESS, BEING_CHANGED, STALE):
            turn.remember(command, refusal)
        return turn.decision(refusal)
    turn.owe("complete", command)
    # The legs are fixed before anything moves; their ids are the payments' for ever.
    turn.move(
        "pinning",
        attempt_start=len(state.legs),
        legs=state.legs + _new_legs(turn, command.payments),
        undo=None,
    )
    return turn.decision()


def _cannot_complete(turn: Turn, asked: Payments) -> Refusal | None:
    state = turn.state
    errors = views.missing(state)
    if errors:
        return _not_ready(errors)
    if asked.expected_total is not None and asked.expected_total != state.total:
        return Refusal(
            "total_changed",
            f"The total is {state.total}, not {asked.expected_total}. Show it to the buyer and ask again.",
            extra={"current_total": state.total},
        )
    for i, payment in enumerate(asked.payments):
        if payment.method not in turn.policy.gateways:
            error = FieldError(f"$.payments[{i}].method", "invalid", "This shop does not take this method.")
            return Refusal("validation_failed", "A payment method is not available.", (error,))
    return _amounts_refusal(asked, state.total)


def _amounts_refusal(asked: Payments, total: int) -> Refusal | None:
    given = sum(payment.amount for payment in asked.payments if payment.amount is not None)
    open_ended = [i for i, payment in enumerate(asked.payments) if payment.amount is None]
    problem = ""
    if len(open_ended) > 1:
        problem = "At most one payment may leave its amount out."
    elif open_ended and given >= total:
        problem = f"Nothing is left for the payment without an amount; the total is {total}."
    elif not open_ended and given != total:
        problem = f"The payments amount to {given}, the total is {total}."
    if not problem:
        return None
    error = FieldError("$.payments", "payment_amount_mismatch", problem)
    return Refusal("payment_amount_mismatch", problem, (error,), {"current_total": total})


def _new_legs(turn: Turn, asked: Payments) -> tuple[PaymentLeg, ...]:
    state = turn.state
    rest = state.total - sum(payment.amount or 0 for payment in asked.payments)
    return tuple(
        PaymentLeg(
            id=ids.derived("pay", turn.now_ms, turn.key, len(state.legs) + i),
            method=payment.method,
            gateway=turn.policy.gateways[payment.method],
            token=payment.token,
            amount=rest if payment.amount is None else payment.amount,
        )
        for i, payment in enumerate(asked.payments)
    )


def _begin_payment(turn: Turn, asked: Payments) -> None:
    """An express checkout: its hold was born pinned, so payment begins at once."""
    turn.move("pinning", attempt_start=len(turn.state.legs), legs=turn.state.legs + _new_legs(turn, asked))
    _pinned(turn)


def _pinned(turn: Turn) -> None:
    """Every hold is pinned: screen, then let the first payment go out (its intent is journaled by this move)."""
    state = turn.state
    verdict = fraud.screen(state.total, turn.policy.review_above_minor)
    if verdict == "deny":
        turn.move("pinning", hold="pinned")
        _undo(turn, "fraud", Refusal("fraud_denied", "The order was declined."))
    elif views.current_legs(state):
        turn.move("paying", hold="pinned")
    else:
        turn.move("paying", hold="pinned")
        _place(turn)


def _paid(turn: Turn, result: LegOutcome) -> None:
    """An answer about one leg of the attempt, before the pivot."""
    state = turn.state
    leg = payment_leg.after(state.legs[result.leg], result.outcome)
    if leg is None:
        return  # nothing new: the question stands and is put again
    turn.legs(result.leg, (leg, *state.legs[result.leg + 1 :]))
    if not leg.settled:
        return
    if leg.status == "declined":
        _declined(turn, leg)
    elif leg.status == "requires_action":
        turn.move("awaiting_buyer", action_deadline_ms=turn.now_ms + turn.policy.buyer_action_ms)
        if not _cancel_if_asked(turn):
            _answer_for_now(turn)
    elif _cancel_if_asked(turn):
        return
    elif all(other.settled for other in views.current_legs(turn.state)):
        _place(turn)


def _answer_for_now(turn: Turn) -> None:
    """The buyer must act: whoever waits for the completion is told so; the same key asks again later."""
    reply = CheckoutReply(202, views.view(turn.state))
    for kind in ("start", "complete", "confirm"):
        turn.answer(kind, reply, final=False)


def _cancel_if_asked(turn: Turn) -> bool:
    if not turn.owes("cancel"):
        return False
    _undo(turn, "buyer", CANCELED)
    return True


def _declined(turn: Turn, leg: PaymentLeg) -> None:
    error = leg.error or payment_leg.PaymentError("card_declined", True)
    declines = turn.state.declines + 1
    turn.move(turn.state.phase, declines=declines)
    refusal = Refusal(
        "payment_failed",
        error.message or "The payment was declined. Try another payment method.",
        (
            FieldError(
                "$.payments",
                error.code,
                error.message or "The payment was declined.",
                {"retryable": error.retryable},
            ),
        ),
    )
    if turn.owes("cancel"):
        _undo(turn, "buyer", refusal)
    elif declines >= turn.policy.payment_attempts:
        _undo(turn, "payment", refusal)
    else:
        _undo(turn, "declined", refusal)


def _place(turn: Turn) -> None:
    """The pivot: the order, its first audit entry and its outbox rows ride in this very append."""
    order_saga.place(turn)
    reply = views.completed(turn.state)
    for kind in ("start", "complete", "confirm"):
        turn.answer(kind, reply, body=b"")
    turn.answer("cancel", COMPLETED)


def _confirm_payment(turn: Turn, command: ConfirmPayment) -> Decision:
    state = turn.state
    if not any(leg.id == command.payment_id for leg in state.legs):
        return Decision(reply=Refusal("not_found", "There is no such payment on this checkout."))
    if state.phase == "placed":
        return Decision(reply=_reply_now(state))
    if state.phase != "awaiting_buyer":
        return Decision(
            reply=_not_open(state) or Refusal("payment_not_pending", "This payment awaits no action.")
        )
    turn.owe("confirm", command)
    return turn.decision()


def _buyer_acted(turn: Turn, result: LegOutcome) -> None:
    """The gateway has told how a payment stands that waited for its buyer."""
    outcome = result.outcome
    still_waiting = isinstance(outcome, Retrieved) and outcome.state in ("requires_action", "processing")
    if still_waiting or payment_leg.after(turn.state.legs[result.leg], outcome) is None:
        turn.answer("confirm", CheckoutReply(202, views.view(turn.state)), final=False)
        return
    turn.move("paying")
    _paid(turn, result)


# ── undo ────────────────────────────────────────────────────────────────────────────────────────────────


def _cancel(turn: Turn, command: Cancel) -> Decision:
    state = turn.state
    if state.phase == "canceled":
        return Decision(reply=CheckoutReply(200, views.view(state)))
    if state.phase == "placed":
        return Decision(reply=COMPLETED)
    refusal = _stale(state, command.expected_version)
    if refusal is not None:
        return Decision(reply=refusal)
    turn.owe("cancel", command)
    if state.phase in ("open", "awaiting_buyer"):
        _undo(turn, "buyer", CANCELED)
    return turn.decision()


def _replace_by(turn: Turn, command: Replace) -> Decision:
    match turn.state.phase:
        case "canceled" | "refused":
            return Decision(reply=GaveWay())
        case "pinning" | "paying" | "awaiting_buyer" | "placed":
            return Decision(reply=GaveWay("completion_in_progress"))
        case "unwinding" if turn.state.undo is not None and turn.state.undo.reason == "declined":
            return Decision(reply=GaveWay("completion_in_progress"))
        case "linking" | "replacing" | "holding" | "changing" | "trimming" | "unwinding":
            turn.owe("replace", command)
            return turn.decision()
        case "open":
            turn.owe("replace", command)
            _undo(turn, "replaced", CANCELED)
            return turn.decision()
        case never:
            assert_never(never)


def _due(turn: Turn) -> None:
    """The deadline has passed. While money is pending nothing expires."""
    state = turn.state
    late = (state.phase == "open" and state.expires_at_ms <= turn.now_ms) or (
        state.phase == "awaiting_buyer" and state.action_deadline_ms <= turn.now_ms
    )
    if late:
        _undo(turn, "expired", EXPIRED)


def _undo(turn: Turn, reason: UndoReason, refusal: Refusal | None = None) -> None:
    """Begin to unwind: every authorized payment is to be voided (journaled here, before it is done)."""
    state = turn.state
    first = state.attempt_start
    legs = tuple(
        payment_leg.intend(leg, "void") if leg.holds_money
        # A leg that was never sent needs nothing but to be closed.
        else msgspec.structs.replace(leg, intent="none", status="voided") if leg.status == "pending"
        else leg
        for leg in state.legs[first:]
    )  # fmt: skip
    if legs != state.legs[first:]:
        turn.legs(first, legs)
    turn.move("unwinding", undo=Undo(reason, refusal), change=None)


def _unwound(turn: Turn, result: StepResult) -> None:
    undo = turn.state.undo
    assert undo is not None, "an unwinding has a reason"
    if isinstance(result, LegOutcome):
        leg = payment_leg.after(turn.state.legs[result.leg], result.outcome)
        if leg is not None:
            turn.legs(result.leg, (leg, *turn.state.legs[result.leg + 1 :]))
    elif isinstance(result, HoldState) and undo.reason == "declined":
        _declined_and_unpinned(turn, result, undo)
    elif isinstance(result, HoldState):
        _ended_empty(turn, result, undo)


def _declined_and_unpinned(turn: Turn, result: HoldState, undo: Undo) -> None:
    """Cart, address and hold stay; another attempt or method is welcome."""
    if result.refused:
        _undo(turn, "expired", undo.refusal)
        return
    turn.move(
        "open",
        hold="held",
        express=None,
        undo=None,
        expires_at_ms=_expiry(turn.policy, turn.state.cart_id, turn.now_ms),
    )
    refusal = undo.refusal or CANCELED
    extra = refusal.extra | {"checkout_id": turn.state.id}
    for kind in ("start", "complete", "confirm"):
        turn.answer(kind, msgspec.structs.replace(refusal, extra=extra))
    if turn.owes("cancel"):
        _undo(turn, "buyer")


def _ended_empty(turn: Turn, result: HoldState, undo: Undo) -> None:
    """Nothing is held any more: the checkout is over, and everybody who waits is told."""
    hold = "expired" if undo.reason == "expired" else "released"
    turn.move("refused" if undo.reason == "refused" else "canceled", hold=hold)
    refusal = undo.refusal or CANCELED
    if undo.reason != "refused":
        refusal = msgspec.structs.replace(refusal, extra=refusal.extra | {"checkout_id": turn.state.id})
    for kind in ("start", "patch", "complete", "confirm"):
        turn.answer(kind, refusal)
    turn.answer("cancel", CheckoutReply(200, views.view(turn.state)))
    turn.answer("replace", GaveWay(), final=False)


# ── outcomes ────────────────────────────────────────────────────────────────────────────────────────────


def _stepped(turn: Turn, name: str, result: StepResult) -> None:
    """Feed an outcome to its phase; one that is no longer wanted (a repeat, a late one) changes nothing."""
    if not any(action.name == name for action in next_actions(turn.state)):
        return
    phase = turn.state.phase
    match result:
        case CartBegun() if phase == "linking":
            _cart_begun(turn, result)
        case Refusal() if phase in ("linking", "replacing", "holding"):
            _refuse(turn, result)
        case GaveWay() if phase == "replacing":
            _gave_way(turn, result)
        case Held() if phase == "holding":
            _held(turn, result)
        case Shortage() if phase == "holding":
            _short(turn, result)
        case HoldState() if phase == "holding":
            if result.refused != "stale":
                _undo(turn, "expired", EXPIRED)
        case Held() | HoldState() | Shortage() if phase == "changing":
            _changed(turn, result)
        case HoldState() if phase == "trimming":
            _change_over(turn)
        case HoldState() if phase == "pinning":
            _pinned(turn) if not result.refused else _undo(turn, "expired", EXPIRED)
        case LegOutcome() if phase == "paying":
            _paid(turn, result)
        case LegOutcome() if phase == "awaiting_buyer":
            _buyer_acted(turn, result)
        case LegOutcome() | HoldState() if phase == "unwinding":
            _unwound(turn, result)
        case LegOutcome() if phase == "placed":
            order_saga.leg_answered(turn, result)
        case HoldState() | Done() if phase in ("placed", "canceled", "refused"):
            order_saga.step_done(turn, name, result)
        case _:
            raise AssertionError(f"{type(result).__name__} cannot be the outcome of {name} in {phase}")


# ── evolve ──────────────────────────────────────────────────────────────────────────────────────────────


def touches(event: CheckoutEvent) -> list[Key]:
    return [RULES] if isinstance(event, RulesPut) else [(KIND, event.checkout)]


def evolve(key: Key, state: Checkout | Rules | None, event: CheckoutEvent) -> Checkout | Rules:
    """The entity after the event. Applies, never judges."""
    if isinstance(event, RulesPut):
        return event.rules
    assert not isinstance(state, Rules)
    return evolve_checkout(state, event)
