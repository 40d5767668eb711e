"""The safeguards of the journal, its writer and the mailboxes, each as a function that takes it out.

Owns nothing that lasts: what is taken out comes back when the stack unwinds. `tests.simulation.ablations` has
the table of them; the first line of each says what the safeguard promises while it is in.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from actors import cores, event_sourced, mailbox, snapshots, timers
from domain import cart, checkout, messages, stock
from tests.simulation.database import SimDatabase
from tests.simulation.surgery import edit, replace
from tests.support.memory_journal import Database

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
    replace(stack, timers.Deadlines, "give_grace", lambda self, since_ms: None)


def overtaken_recovery_is_fenced(stack: ExitStack) -> None:
    """Who is overtaken while it reads does not speak of corruption."""
    owned = "if await self._journal.owns(self.shard, self.lease.epoch):"
    edit(stack, event_sourced, "EventSourced.recover", (owned, "if True:"))


def taken_from_itself_only(stack: ExitStack) -> None:
    """An owner that needs another epoch does not take the shard from its heir."""
    edit(stack, event_sourced, "EventSourced.recover", ("self.lease.epoch or None", "None"))
    edit(stack, event_sourced, "EventSourced._was_written", ("take(self.shard, self.lease.epoch)", "take(self.shard)"))


def stored_entities_are_known(stack: ExitStack) -> None:
    """What is read back from a row is known to have one: it is written over, not inserted once more."""
    replace(stack, snapshots.SnapshotQueue, "stored", lambda self, key: None)


def time_never_goes_back(stack: ExitStack) -> None:
    """A clock that is set back does not take journaled times back."""
    replace(stack, event_sourced.EventSourced, "now_ms", property(lambda self: self._clock_ms()))


def refused_rows_unwind_the_saga(stack: ExitStack) -> None:
    """An outcome that leads to rows which the database refuses is replaced by one that unwinds."""
    replace(stack, cores.CheckoutCore, "instead_of", lambda self, command: None)
