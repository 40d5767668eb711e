"""The safeguards, each with a way to take it out: only here, only in tests, and only for the time of a context.

Owns the list, and the weather that brings out soonest what a safeguard is for. An ablation replaces a function,
or a phrase in its source; a phrase that is not there any more fails at once, for then nobody knows what would be
tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tests.simulation import safeguards_of_the_engine as engine
from tests.simulation import safeguards_of_the_shop as shop

Change = Callable[[ExitStack], None]

ABLATIONS: dict[str, Change] = {
    change.__name__: change
    for change in (
        engine.fence,
        engine.one_flush_at_a_time,
        engine.reply_after_append,
        engine.refusals_wait_too,
        engine.epoch_asked_without_events,
        engine.intent_before_effect,
        engine.unknown_append_is_looked_up,
        engine.journal_kept_for_snapshots,
        engine.deduplication,
        engine.keys_mean_bodies,
        engine.lost_calls_are_repeated,
        engine.owed_replies_are_asked_again,
        engine.resent_takes_say_so,
        engine.grace_after_recovery,
        engine.overtaken_recovery_is_fenced,
        engine.taken_from_itself_only,
        engine.stored_entities_are_known,
        engine.time_never_goes_back,
        engine.refused_rows_unwind_the_saga,
        shop.tombstones,
        shop.stale_takes_refused,
        shop.overtaken_steps_refused,
        shop.all_or_nothing,
        shop.pin_before_money,
        shop.compensation,
        shop.newest_first,
        shop.unknown_is_not_declined,
        shop.void_before_giving_up,
        shop.key_is_the_same_at_a_repeat,
        shop.outcomes_of_what_is_wanted,
        shop.all_money_before_the_order,
        shop.capture_after_cancel_is_refunded,
        shop.one_checkout_a_cart,
        shop.carts_are_closed,
        shop.carts_keep_their_refusals,
        shop.watchers_hear_the_end,
        shop.busy_is_no_outcome,
        shop.cancels_are_remembered,
    )
}


# Where chance takes long to bring about what a safeguard is for: the faults that do.
WEATHER: dict[str, frozenset[str]] = {
    "epoch_asked_without_events": frozenset({"zombie_per_s", "split_per_s", "slow"}),
    "owed_replies_are_asked_again": frozenset({"crash_per_s", "crash_at_step"}),
    "resent_takes_say_so": frozenset({"late_request", "drop_answer"}),
    "tombstones": frozenset({"late_request", "slow"}),
    "stale_takes_refused": frozenset({"late_request"}),
    "overtaken_steps_refused": frozenset({"late_request"}),
    "carts_keep_their_refusals": frozenset({"late_request", "slow"}),
    "overtaken_recovery_is_fenced": frozenset({"split_per_s", "zombie_per_s", "db_slow"}),
    "taken_from_itself_only": frozenset({"db_refuses_order", "db_fails_after", "split_per_s"}),
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
