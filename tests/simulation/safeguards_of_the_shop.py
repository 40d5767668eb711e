"""The safeguards of stock, of the saga and of carts, each as a function that takes it out.

Owns nothing that lasts: what is taken out comes back when the stack unwinds. `tests.simulation.ablations` has
the table of them; the first line of each says what the safeguard promises while it is in.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import ExitStack
from typing import Any

import msgspec

from actors import checkout_coordinator, ports, stock_port
from domain import (
    cart,
    checkout,
    checkout_actions,
    checkout_payment,
    checkout_undo,
    ledger,
    order_saga,
    payment_leg,
)
from domain.checkout_model import Done, HoldStep
from domain.stock_model import HoldState
from tests.simulation.surgery import edit, replace

# ── stock ───────────────────────────────────────────────────────────────────────────────────────────────


def tombstones(stack: ExitStack) -> None:
    """What was released leaves a mark that stops a take which comes late."""
    edit(
        stack,
        ledger,
        "release",
        ("return [Released(hold_id, {}, now_ms)]", "return []"),
        (
            "return [Released(hold.id, hold.legs, now_ms)]",
            "return [Released(hold.id, hold.legs, now_ms), Dropped(hold.id)]",
        ),
    )
    edit(
        stack,
        ledger,
        "expire",
        (
            "return [Expired(hold.id, hold.legs, now_ms)]",
            "return [Expired(hold.id, hold.legs, now_ms), Dropped(hold.id)]",
        ),
    )


def stale_takes_refused(stack: ExitStack) -> None:
    """A take older than its tombstone could be is refused."""
    edit(stack, ledger, "take", ("abs(now_ms - issued_at_ms) > STALE_TAKE_MS", "False"))


def overtaken_steps_refused(stack: ExitStack) -> None:
    """A step on a hold that a newer step has overtaken on its way changes nothing."""
    replace(stack, ledger, "_overtaken", lambda hold, revision: False)


def all_or_nothing(stack: ExitStack) -> None:
    """A take is refused when any of its accounts has too few units."""
    edit(stack, ledger, "take", ("if accounts[key].available < units", "if accounts[key].available < 0"))


# ── the saga ────────────────────────────────────────────────────────────────────────────────────────────


def pin_before_money(stack: ExitStack) -> None:
    """No payment begins before every unit is held so that it cannot expire."""
    real = stock_port.StockPort.step

    def step(self: Any, action: HoldStep) -> Any:
        if action.verb != "pin":
            return real(self, action)
        done = asyncio.get_running_loop().create_future()
        done.set_result(HoldState("pinned"))
        return done

    replace(stack, stock_port.StockPort, "step", step)


def compensation(stack: ExitStack) -> None:
    """What was authorized is voided when the saga unwinds."""
    replace(stack, checkout_undo, "_undone", lambda leg: msgspec.structs.replace(leg, intent="none"))


def newest_first(stack: ExitStack) -> None:
    """The hold is released only after the payments are voided."""
    edit(
        stack,
        checkout_actions,
        "_unwind",
        ("for index in reversed(_attempt(state)):", "for index in ():"),
    )


def unknown_is_not_declined(stack: ExitStack) -> None:
    """Silence says nothing: the gateway is asked what it has."""
    error = payment_leg.PaymentError("processing_error", True)

    def declined(leg: Any) -> Any:
        return msgspec.structs.replace(leg, status="declined", intent="none", error=error)

    replace(stack, payment_leg, "_doubtful", declined)


def void_before_giving_up(stack: ExitStack) -> None:
    """A payment that is not there may still be on its way: it is voided before the buyer is told."""
    edit(stack, payment_leg, "_retrieved_authorization", ('intend(leg, "void")', '_settle(leg, "declined")'))


def key_is_the_same_at_a_repeat(stack: ExitStack) -> None:
    """A repeated request to the gateway has the idempotency key of the first."""
    repeats = itertools.count()
    real = payment_leg.request

    def request(leg: Any, checkout_id: str, currency: str) -> Any:
        sent: Any = real(leg, checkout_id, currency)
        if not hasattr(sent, "idempotency_key"):
            return sent
        return msgspec.structs.replace(sent, idempotency_key=f"{sent.idempotency_key}:{next(repeats)}")

    replace(stack, payment_leg, "request", request)


def outcomes_of_what_is_wanted(stack: ExitStack) -> None:
    """An outcome whose action is no longer wanted changes nothing."""
    edit(
        stack,
        checkout,
        "_stepped",
        ("if name not in next_steps(turn.state):", "if False:"),
    )


def all_money_before_the_order(stack: ExitStack) -> None:
    """The order exists only when every payment is authorized."""
    edit(
        stack,
        checkout_payment,
        "paid",
        ("and all(leg.settled for leg in views.current_legs(turn.state))", ""),
    )


def capture_after_cancel_is_refunded(stack: ExitStack) -> None:
    """What was captured while the order was canceled goes back."""
    meanwhile = 'placed.status == "canceled" and before.intent == "capture" and not leg.doubt'
    edit(stack, order_saga, "leg_answered", (meanwhile, "False"))


# ── carts ───────────────────────────────────────────────────────────────────────────────────────────────


def one_checkout_a_cart(stack: ExitStack) -> None:
    """Who takes a cart over learns whom it has to ask to give way."""
    edit(
        stack,
        cart,
        "_begin",
        ("CartBegun(lines, cart.currency, previous)", "CartBegun(lines, cart.currency, None)"),
    )


def carts_are_closed(stack: ExitStack) -> None:
    """The end of a checkout is told to its cart."""

    async def says_nothing(self: Any, action: Any) -> Any:
        return Done()

    replace(stack, ports.MailboxPorts, "_end_cart", says_nothing)


def carts_keep_their_refusals(stack: ExitStack) -> None:
    """A late copy of a question is not granted what its asker was refused."""
    edit(stack, cart, "_begin", ("return _keep(cart, command, now_ms, refusal)", "return Decision(reply=refusal)"))


def watchers_hear_the_end(stack: ExitStack) -> None:
    """A watch that is registered when its checkout has come to rest is answered all the same."""
    edit(stack, checkout_coordinator, "CheckoutCoordinator.watch", ("saga is None or ", "saga is not None and "))


def busy_is_no_outcome(stack: ExitStack) -> None:
    """Who is too busy, or could not carry a step out, has said nothing about it: it is asked again."""
    edit(stack, checkout_coordinator, "CheckoutCoordinator._ended", ("result.code in NOT_OUTCOMES", "False"))


def cancels_are_remembered(stack: ExitStack) -> None:
    """A cancel that comes at a bad time is carried out at the next good one."""
    replace(stack, checkout_undo, "end_if_asked", lambda turn: False)
