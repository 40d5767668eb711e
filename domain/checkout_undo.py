"""The saga's way back: cancel, give way, expire, and the unwinding that all of them end in.

Owns the compensation. Promises that it runs newest first (void or refund each payment, then unpin or release
the hold), that nobody is told of an end before nothing is held and no money is out, and that a cancel or a
replacement that comes at a bad time is remembered and carried out at the next good one.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from domain import checkout_prices as prices
from domain import checkout_refusals as no
from domain import checkout_views as views
from domain import payment_leg
from domain.checkout_model import Cancel, CheckoutReply, GaveWay, LegOutcome, Replace
from domain.checkout_state import Undo, UndoReason
from domain.checkout_turn import Turn
from domain.messages import Decision, Refusal
from domain.payment_leg import PaymentLeg
from domain.stock_model import HoldState

IN_COMPLETION = GaveWay("completion_in_progress")


def cancel(turn: Turn, command: Cancel) -> Decision:
    """At once while no money can be on its way, else remembered until its outcome is known."""
    match turn.state.phase:
        case "canceled" | "refused":
            return turn.reply(command, CheckoutReply(200, views.view(turn.state)))
        case "placed":
            return turn.reply(command, no.COMPLETED)
    refusal = no.stale(turn.state, command.expected_version)
    if refusal is not None:
        return turn.reply(command, refusal)
    turn.owe("cancel", command)
    _carry_out(turn)
    return turn.decision()


def replace_by(turn: Turn, command: Replace) -> Decision:
    """Another checkout of the same cart wants this one's place; it gets it unless money may be out."""
    match turn.state.phase:
        case "canceled" | "refused":
            return turn.decision(GaveWay())
        case "pinning" | "paying" | "awaiting_buyer" | "placed":
            return turn.decision(IN_COMPLETION)
        case "unwinding" if turn.state.undo is not None and turn.state.undo.reason == "declined":
            return turn.decision(IN_COMPLETION)
        case "linking" | "replacing" | "holding" | "open" | "changing" | "trimming" | "unwinding":
            turn.owe("replace", command)
            _carry_out(turn)
            return turn.decision()
        case never:
            assert_never(never)


def _carry_out(turn: Turn) -> None:
    """Do what has just been asked for, if this is a good time."""
    match turn.state.phase:
        case "replacing":
            refuse_if_asked(turn)  # at once: it must not wait for what may be waiting for it
        case "open" | "awaiting_buyer":
            end_if_asked(turn)


def refuse_if_asked(turn: Turn) -> None:
    """As `end_if_asked`, while nothing is held yet."""
    if turn.owes("replace") or turn.owes("cancel"):
        refuse(turn, no.CANCELED)


def end_if_asked(turn: Turn) -> bool:
    """At a good time: carry out the cancel or the replacement that came at a bad one."""
    if turn.owes("replace"):
        undo(turn, "replaced", no.CANCELED)
    elif turn.owes("cancel"):
        undo(turn, "buyer", no.CANCELED)
    else:
        return False
    return True


def due(turn: Turn) -> None:
    """The deadline has passed. While money is pending nothing expires."""
    state = turn.state
    late = (state.phase == "open" and state.expires_at_ms <= turn.now_ms) or (
        state.phase == "awaiting_buyer" and state.action_deadline_ms <= turn.now_ms
    )
    if late:
        undo(turn, "expired", no.EXPIRED)


def refuse(turn: Turn, refusal: Refusal) -> None:
    """It never became a checkout: nothing is held, only the answer stays."""
    turn.move("refused", undo=Undo("refused"))
    turn.answer("start", reply=refusal)
    turn.answer("cancel", reply=no.NOT_FOUND)
    turn.answer("replace", reply=GaveWay())


def undo(turn: Turn, reason: UndoReason, refusal: Refusal) -> None:
    """Begin to unwind: every payment that may be out is to be voided (journaled here, before it is done).

    ``refusal`` is for whoever waits for what is undone.
    """
    state = turn.state
    first = state.attempt_start
    legs = tuple([_undone(leg) for leg in state.legs[first:]])
    changes: dict[str, Any] = {"undo": Undo(reason, refusal), "change": None}
    if legs != state.legs[first:]:
        changes["legs"] = state.legs[:first] + legs
    if reason == "declined":  # the buyer gets the whole time for another attempt
        changes["expires_at_ms"] = prices.expires_at_ms(turn.policy, state.cart_id, turn.now_ms)
        changes["revision"] = state.revision + 1
    turn.move("unwinding", **changes)


def _undone(leg: PaymentLeg) -> PaymentLeg:
    if leg.holds_money:
        return payment_leg.intend(leg, "void")
    if leg.status == "pending":  # never sent: legs go out one after another
        return msgspec.structs.replace(leg, intent="none", status="voided")
    return leg


def unwound(turn: Turn, result: LegOutcome | HoldState) -> None:
    """One step of the unwinding has been answered."""
    undoing = turn.state.undo
    assert undoing is not None, "an unwinding has a reason"
    refusal = undoing.refusal or no.CANCELED
    match result:
        case LegOutcome():
            leg = payment_leg.after(turn.state.legs[result.leg], result.outcome)
            if leg is not None:
                turn.set_leg(result.leg, leg)
        case HoldState() if undoing.reason != "declined":
            _ended(turn, undoing.reason, refusal)
        case HoldState() if result.refused:
            undo(turn, "expired", refusal)
        case HoldState():
            _open_again(turn, refusal)
        case never:
            assert_never(never)


def _open_again(turn: Turn, refusal: Refusal) -> None:
    """The attempt failed; cart, address and hold stay, and another attempt or method is welcome."""
    turn.move("open", hold="held", undo=None)
    turn.answer("start", "complete", "confirm", reply=_with_id(turn, refusal))
    end_if_asked(turn)


def _ended(turn: Turn, reason: UndoReason, refusal: Refusal) -> None:
    """Nothing is held any more: the checkout is over, and everybody who waits is told."""
    if reason == "refused":
        turn.move("refused", hold="released")
        turn.answer("start", reply=refusal)
        turn.answer("cancel", reply=no.NOT_FOUND)
    else:
        turn.move("canceled", hold="expired" if reason == "expired" else "released")
        told = _with_id(turn, no.with_end(refusal, turn.state))
        turn.answer("start", "patch", "complete", "confirm", reply=told)
        turn.answer("cancel", reply=CheckoutReply(200, views.view(turn.state)))
    turn.answer("replace", reply=GaveWay())


def _with_id(turn: Turn, refusal: Refusal) -> Refusal:
    return msgspec.structs.replace(refusal, extra=refusal.extra | {"checkout_id": turn.state.id})
