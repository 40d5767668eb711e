"""Completing a checkout: pin, authorize each payment, and the pivot.

Owns what becomes of a completion until the order exists. Promises that money moves only after every hold is
pinned, that each payment's intent is journaled before it is sent, and that the order exists only when all of
its money is authorized. An unknown outcome is waited for, never guessed.
"""

from __future__ import annotations

from domain import checkout_refusals as no
from domain import checkout_undo as undoing
from domain import checkout_views as views
from domain import ids, order_saga, payment_leg
from domain.checkout_model import CheckoutReply, Complete, ConfirmPayment, LegOutcome
from domain.checkout_state import AskKind, Payments
from domain.checkout_turn import Turn
from domain.messages import Decision, Refusal
from domain.payment_leg import PaymentLeg
from domain.payments import Retrieved
from domain.stock_model import HoldState

COMPLETIONS: tuple[AskKind, ...] = ("start", "complete", "confirm")  # whoever may wait for the pivot


def complete(turn: Turn, command: Complete) -> Decision:
    state = turn.state
    if state.phase == "placed":
        return turn.reply(command, views.reply(state))
    refusal = no.not_open(state) or no.stale(state, command.expected_version) or cannot_complete(turn, command.payments)
    if refusal is not None:
        return turn.reply(command, refusal)
    turn.owe("complete", command)
    begin(turn, command.payments)
    return turn.decision()


def cannot_complete(turn: Turn, asked: Payments) -> Refusal | None:
    state = turn.state
    errors = views.missing(state)
    if errors:
        return no.not_ready(errors)
    if asked.expected_total is not None and asked.expected_total != state.total:
        return no.total_changed(state.total, asked.expected_total)
    for i, payment in enumerate(asked.payments):
        if payment.method not in turn.policy.gateways:
            return no.no_such_method(i)
    return no.amount_mismatch(asked, state.total)


def begin(turn: Turn, asked: Payments) -> None:
    """The legs are fixed before anything moves; their ids are the payments' for ever."""
    state = turn.state
    first = len(state.legs)
    rest = state.total - sum([payment.amount or 0 for payment in asked.payments])
    legs = [
        PaymentLeg(
            id=ids.derived("pay", turn.now_ms, turn.key, first + i),
            method=payment.method,
            gateway=turn.policy.gateways[payment.method],
            token=payment.token,
            amount=rest if payment.amount is None else payment.amount,
        )
        for i, payment in enumerate(asked.payments)
    ]
    revision = state.revision + 1
    turn.move("pinning", attempt_start=first, legs=(*state.legs, *legs), undo=None, revision=revision)


def pinned(turn: Turn, result: HoldState) -> None:
    """Every hold is pinned, or one has expired and no money moves. The move is the first payment's intent."""
    if result.refused:
        undoing.undo(turn, "expired", no.EXPIRED)
        return
    turn.set(hold="pinned")
    if undoing.end_if_asked(turn):
        return
    turn.move("paying")
    if not views.current_legs(turn.state):
        _place(turn)


def paid(turn: Turn, result: LegOutcome) -> None:
    """An answer about one leg of the attempt, before the pivot."""
    leg = payment_leg.after(turn.state.legs[result.leg], result.outcome)
    if leg is None:
        return  # nothing new: the question stands and is put again
    turn.set_leg(result.leg, leg)
    if not leg.settled:
        return
    if leg.status == "authorized":
        if not undoing.end_if_asked(turn) and all(leg.settled for leg in views.current_legs(turn.state)):
            _place(turn)
    elif leg.status == "requires_action":
        turn.move("awaiting_buyer", action_deadline_ms=turn.now_ms + turn.policy.buyer_action_ms)
        if not undoing.end_if_asked(turn):
            _tell_to_act(turn)
    else:
        _declined(turn, leg)


def _tell_to_act(turn: Turn) -> None:
    """The buyer must act: whoever waits is told so. The completion's answer is still owed to its key."""
    reply = CheckoutReply(202, views.view(turn.state))
    turn.inform("start", "complete", reply=reply)
    turn.answer("confirm", reply=reply)


def _declined(turn: Turn, leg: PaymentLeg) -> None:
    """Another attempt is welcome, until there were too many."""
    declines = turn.state.declines + 1
    turn.set(declines=declines)
    refusal = no.payment_failed(leg.error)
    if turn.owes("cancel"):
        undoing.undo(turn, "buyer", refusal)
    elif declines >= turn.policy.payment_attempts:
        undoing.undo(turn, "payment", refusal)
    else:
        undoing.undo(turn, "declined", refusal)


def _place(turn: Turn) -> None:
    """The pivot: the order, its first audit entry and its outbox rows ride in this very append."""
    if not turn.may_place:
        undoing.undo(turn, "payment", no.NOT_RECORDED)
        return
    order_saga.place(turn)
    turn.answer(*COMPLETIONS, reply=views.completed(turn.state), body=b"")


def confirm(turn: Turn, command: ConfirmPayment) -> Decision:
    """The buyer says that the step is taken: the gateway is asked at once."""
    state = turn.state
    leg = next((leg for leg in state.legs if leg.id == command.payment_id), None)
    if leg is None:
        return turn.reply(command, no.NO_SUCH_PAYMENT)
    if leg.status == "declined" and state.phase != "unwinding":
        return turn.reply(command, no.payment_failed(leg.error))
    if state.phase == "placed":
        return turn.reply(command, views.reply(state))
    under_way = state.phase == "paying" or leg.status == "requires_action"
    if under_way and leg in views.current_legs(state):
        turn.owe("confirm", command)
        return turn.decision()
    return turn.reply(command, no.not_open(state) or no.PAYMENT_NOT_PENDING)


def buyer_acted(turn: Turn, result: LegOutcome) -> None:
    """The gateway has told how a payment stands that waited for its buyer."""
    outcome = result.outcome
    if not isinstance(outcome, Retrieved) or payment_leg.after(turn.state.legs[result.leg], outcome) is None:
        turn.answer("confirm", reply=CheckoutReply(202, views.view(turn.state)))
        return
    turn.move("paying")
    paid(turn, result)
