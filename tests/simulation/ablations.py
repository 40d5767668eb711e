"""The safeguards, each with a way to take it out: only here, only in tests, and only for the time of a context.

Owns the list. An ablation replaces a function, or a phrase in its source; a phrase that is not there any more
fails at once, for then nobody knows what would be tested.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from actors import checkout_coordinator, event_sourced, mailbox, ports, snapshots, stock_actor, stock_port
from domain import (
    cart,
    checkout,
    checkout_actions,
    checkout_payment,
    checkout_undo,
    ledger,
    messages,
    order_saga,
    payment_leg,
    stock,
)
from domain.checkout_model import Done, HoldStep
from domain.stock_model import HoldState
from tests.simulation.database import SimDatabase
from tests.simulation.surgery import edit, replace
from tests.support.memory_journal import Database

Change = Callable[[ExitStack], None]


# ── the journal and its writer ──────────────────────────────────────────────────────────────────────────


def fence(stack: ExitStack) -> None:
    """The append is conditional on the newest epoch."""
    real = Database.append

    def append(self: SimDatabase, epoch: int, flush: Any) -> None:
        shard = self.shards[flush.shard]
        real(self, shard.epoch, flush._replace(old_head=shard.head) if flush.old_head != shard.head else flush)

    replace(stack, Database, "append", append)


def one_flush_at_a_time(stack: ExitStack) -> None:
    """A flush is begun only when the one before it is done."""
    edit(stack, event_sourced, "EventSourced.run", ("if flight is None and self._gathering", "if self._gathering"))


def reply_after_append(stack: ExitStack) -> None:
    """No reply leaves before its batch is durable."""
    edit(
        stack,
        event_sourced,
        "EventSourced._handle",
        ("batch.replies.append((ticket, decision.reply))", "ticket.reply(decision.reply)"),
    )


def refusals_wait_too(stack: ExitStack) -> None:
    """A reply without events of its own rests on those of others, and waits like any."""
    edit(
        stack,
        event_sourced,
        "EventSourced._handle",
        (
            "batch.replies.append((ticket, decision.reply))",
            "batch.replies.append((ticket, decision.reply)) if decision.events else ticket.reply(decision.reply)",
        ),
    )


def epoch_asked_without_events(stack: ExitStack) -> None:
    """A batch without events asks whether its epoch still stands."""

    async def never_asks(self: Any) -> None:
        return

    replace(stack, event_sourced.EventSourced, "_check_epoch", never_asks)


def intent_before_effect(stack: ExitStack) -> None:
    """An action begins only when the state that wants it is durable."""
    edit(
        stack,
        event_sourced,
        "EventSourced._handle",
        (
            "self._memory.evolve(decision, batch)",
            "(self._memory.evolve(decision, batch), self._on_commit(batch.changed))",
        ),
    )


def unknown_append_is_looked_up(stack: ExitStack) -> None:
    """After a lost answer of the database the head tells whether it was written."""

    async def takes_it_for_written(self: Any, flush: Any) -> bool:
        return True

    replace(stack, event_sourced.EventSourced, "_was_written", takes_it_for_written)


def journal_kept_for_snapshots(stack: ExitStack) -> None:
    """The journal is cut only below what every snapshot still needs."""
    replace(stack, snapshots.SnapshotQueue, "tail", lambda self, seq: seq)


def deduplication(stack: ExitStack) -> None:
    """A repeated command gets its first answer and no second effect."""
    for module in (stock, cart, checkout):
        replace(stack, module, "remembered", lambda answers, command: None)


def keys_mean_bodies(stack: ExitStack) -> None:
    """A key that comes with another body is refused."""
    edit(stack, messages, "remembered", ("if answer.fingerprint != command.fingerprint:", "if False:"))
    for module in (stock, cart, checkout):
        replace(stack, module, "remembered", messages.remembered)


def lost_calls_are_repeated(stack: ExitStack) -> None:
    """What was sent to somebody who died is sent to the heir."""
    edit(
        stack,
        mailbox,
        "Mailbox._send",
        ("self._to_repeat([seq for seq, _ in entries]) + self._gathered", "self._gathered"),
    )


def owed_replies_are_asked_again(stack: ExitStack) -> None:
    """What an incarnation owed when it died is asked of the next."""
    replace(stack, mailbox.Mailbox, "_ask_again", lambda self, lost: None)


def resent_takes_say_so(stack: ExitStack) -> None:
    """A take that is short says whether an earlier copy may be about, which must be released."""
    edit(stack, mailbox, "Mailbox._to_repeat", ("resent=True", "resent=False"))


def grace_after_recovery(stack: ExitStack) -> None:
    """Reservations found at recovery do not expire at once."""
    replace(stack, stock_actor.Deadlines, "put_off", lambda self, until_ms: None)


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
    edit(stack, ledger, "take", ("now_ms - issued_at_ms > STALE_TAKE_MS", "False"))


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
        ("if name not in [action.name for action in next_actions(turn.state)]:", "if False:"),
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


# ── found by the simulation first ───────────────────────────────────────────────────────────────────────


def overtaken_recovery_is_fenced(stack: ExitStack) -> None:
    """Who is overtaken while it reads does not speak of corruption."""
    owned = "if await self._journal.owns(self.shard, self.lease.epoch):"
    edit(stack, event_sourced, "EventSourced.recover", (owned, "if True:"))


def watchers_hear_the_end(stack: ExitStack) -> None:
    """A watch that is registered when its checkout has come to rest is answered all the same."""
    edit(stack, checkout_coordinator, "CheckoutCoordinator.watch", ("saga is None or ", "saga is not None and "))


ABLATIONS: dict[str, Change] = {
    change.__name__: change
    for change in (
        fence,
        one_flush_at_a_time,
        reply_after_append,
        refusals_wait_too,
        epoch_asked_without_events,
        intent_before_effect,
        unknown_append_is_looked_up,
        journal_kept_for_snapshots,
        deduplication,
        keys_mean_bodies,
        lost_calls_are_repeated,
        owed_replies_are_asked_again,
        resent_takes_say_so,
        grace_after_recovery,
        tombstones,
        stale_takes_refused,
        overtaken_steps_refused,
        all_or_nothing,
        pin_before_money,
        compensation,
        newest_first,
        unknown_is_not_declined,
        void_before_giving_up,
        key_is_the_same_at_a_repeat,
        outcomes_of_what_is_wanted,
        all_money_before_the_order,
        capture_after_cancel_is_refunded,
        one_checkout_a_cart,
        carts_are_closed,
        carts_keep_their_refusals,
        overtaken_recovery_is_fenced,
        watchers_hear_the_end,
    )
}


# Where chance takes long to bring about what a safeguard is for: the faults that do.
WEATHER: dict[str, frozenset[str]] = {
    "epoch_asked_without_events": frozenset({"zombie_per_s", "split_per_s", "slow"}),
    "owed_replies_are_asked_again": frozenset({"crash_per_s", "crash_at_step"}),
    "resent_takes_say_so": frozenset({"late_request", "drop_answer"}),
    "tombstones": frozenset({"late_request", "slow"}),
    "stale_takes_refused": frozenset({"late_request"}),
    "overtaken_steps_refused": frozenset({"late_request", "slow"}),
    "carts_keep_their_refusals": frozenset({"late_request"}),
    "overtaken_recovery_is_fenced": frozenset({"split_per_s", "zombie_per_s", "db_slow"}),
    "watchers_hear_the_end": frozenset({"slow", "db_slow"}),
    "capture_after_cancel_is_refunded": frozenset({"crash_at_step", "drop_answer"}),
    "void_before_giving_up": frozenset({"split_per_s", "pause_per_s"}),
}


@contextmanager
def without(name: str) -> Iterator[None]:
    """A context in which this safeguard is out."""
    with ExitStack() as stack:
        ABLATIONS[name](stack)
        yield
