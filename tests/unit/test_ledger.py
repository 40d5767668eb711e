"""The ledger's steps, one by one: a table of what each does to a hold in each state, and the cases behind it."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from domain import ledger
from domain.ledger import (
    STALE_TAKE_MS,
    TOMBSTONE_MS,
    Account,
    Confirmed,
    Dropped,
    Expired,
    Extended,
    Forgotten,
    Hold,
    Pinned,
    Refused,
    Released,
    Returned,
    Short,
    Step,
    Taken,
    Trimmed,
    Unpinned,
)

NOW_MS = 1_000_000
SOON_MS = NOW_MS + 60_000
LEGS = {"sku:a": 2}

HELD = Hold("h", "held", 3, LEGS, SOON_MS)
PINNED = Hold("h", "pinned", 3, LEGS, SOON_MS)
FINISHED = {status: Hold("h", status, 3, LEGS, 0) for status in ("confirmed", "released", "expired", "returned")}
STATES: dict[str, Hold | None] = {"none": None, "held": HELD, "pinned": PINNED, **FINISHED}


def refused(status: str, reason: str = "finished") -> Refused:
    return Refused(reason, status)  # type: ignore[arg-type]


UNKNOWN = Refused("unknown")
OVER = (refused("released"), refused("expired"), refused("returned"))
FORGET = Forgotten("h", NOW_MS)

# (what the step answers in each of the states above, in their order)
TABLE = {
    "pin": (
        lambda hold: ledger.pin(hold, 4),
        (UNKNOWN, [Pinned("h", 4)], [Pinned("h", 4)], [], *OVER),
    ),
    "unpin": (
        lambda hold: ledger.unpin(hold, SOON_MS, 4),
        (UNKNOWN, [], [Unpinned("h", SOON_MS, 4)], *(refused(status) for status in FINISHED)),
    ),
    "extend": (
        lambda hold: ledger.extend(hold, SOON_MS + 1, 4),
        (UNKNOWN, [Extended("h", SOON_MS + 1, 4)], [], *(refused(status) for status in FINISHED)),
    ),
    "confirm": (
        lambda hold: ledger.confirm(hold, NOW_MS),
        ([], refused("held"), [Confirmed("h", LEGS, NOW_MS)], [], *OVER),
    ),
    "release": (
        lambda hold: ledger.release(hold, "h", NOW_MS),
        (
            [Released("h", {}, NOW_MS)],
            [Released("h", LEGS, NOW_MS)],
            [Released("h", LEGS, NOW_MS)],
            refused("confirmed"),
            [],
            [],
            refused("returned"),
        ),
    ),
    "trim": (
        lambda hold: ledger.trim(hold, 4, {"sku:a": 1}),
        (
            UNKNOWN,
            [Trimmed("h", 4, {"sku:a": 1})],
            [Trimmed("h", 4, {"sku:a": 1})],
            *(refused(status) for status in FINISHED),
        ),
    ),
    "expire": (
        lambda hold: ledger.expire(hold, SOON_MS),
        ([], [Expired("h", LEGS, SOON_MS)], [], [], [], [], []),
    ),
    "forget": (
        lambda hold: ledger.forget(hold, NOW_MS),
        ([], refused("held"), refused("pinned"), [FORGET], [FORGET], [FORGET], [FORGET]),
    ),
    "drop": (lambda hold: ledger.drop(hold, NOW_MS), ([], [], [], [], [], [], [])),
}  # fmt: skip
CASES = [
    pytest.param(step, hold, expected, id=f"{name}-{state}")
    for name, (step, answers) in TABLE.items()
    for (state, hold), expected in zip(STATES.items(), answers, strict=True)
]


@pytest.mark.parametrize(("step", "hold", "expected"), CASES)
def test_every_step_in_every_state_answers_as_the_table_says(step, hold, expected):
    """A step is done, was done already, or is refused by name; nothing is left to chance."""
    assert step(hold) == expected


def take(accounts: dict[str, Account], hold: Hold | None, wanted: dict[str, int], **changes: int | bool) -> Step:
    options = {"revision": 3, "pinned": False, "issued_at_ms": NOW_MS, "expires_at_ms": SOON_MS} | changes
    return ledger.take(accounts, hold, "h", wanted=wanted, now_ms=NOW_MS, **options)  # type: ignore[arg-type]


class TakeCase(NamedTuple):
    behaviour: str
    hold: Hold | None
    wanted: dict[str, int]
    changes: dict[str, int | bool]
    expected: Step


TAKES = [
    TakeCase("takes what is there", None, {"a": 5}, {}, [Taken("h", 3, {"a": 5}, SOON_MS, False)]),
    TakeCase("is born pinned on request", None, {"a": 1}, {"pinned": True}, [Taken("h", 3, {"a": 1}, SOON_MS, True)]),
    TakeCase("takes all or nothing", None, {"a": 1, "b": 1}, {}, Refused("short", "unknown", [Short("b", 1, 0)])),
    TakeCase(
        "names every short account",
        None,
        {"a": 6, "b": 2},
        {},
        Refused("short", "unknown", [Short("a", 6, 5), Short("b", 2, 0)]),
    ),
    TakeCase("answers a repeat alike", Hold("h", "held", 3, {"a": 5}, SOON_MS), {"a": 5}, {}, []),
    TakeCase(
        "takes only the increment",
        Hold("h", "held", 3, {"a": 2}, SOON_MS),
        {"a": 4},
        {"revision": 4},
        [Taken("h", 4, {"a": 2}, SOON_MS, False)],
    ),
    TakeCase(
        "gives back what an older revision had beyond it",
        Hold("h", "held", 3, {"a": 2, "b": 1}, SOON_MS),
        {"a": 1},
        {"revision": 4},
        [Taken("h", 4, {}, SOON_MS, False), Trimmed("h", 4, {"a": 1, "b": 1})],
    ),
    TakeCase(
        "counts its own units as available",
        Hold("h", "held", 3, {"a": 2}, SOON_MS),
        {"a": 9},
        {"revision": 4},
        Refused("short", "held", [Short("a", 9, 7)]),
    ),
    TakeCase("refuses an older revision", HELD, {"a": 1}, {"revision": 2}, Refused("stale", "held")),
    TakeCase("refuses a finished hold", FINISHED["expired"], {"a": 1}, {}, Refused("finished", "expired")),
    TakeCase(
        "refuses to make a hold from an old message",
        None,
        {"a": 1},
        {"issued_at_ms": NOW_MS - STALE_TAKE_MS - 1},
        Refused("stale"),
    ),
    TakeCase(
        "refuses to make a hold from a message dated so far ahead that it would outlive its tombstone",
        None,
        {"a": 1},
        {"issued_at_ms": NOW_MS + STALE_TAKE_MS + 1},
        Refused("stale"),
    ),
    TakeCase(
        "lets an old message repeat a live hold",
        Hold("h", "held", 3, {"a": 1}, SOON_MS),
        {"a": 1},
        {"issued_at_ms": NOW_MS - STALE_TAKE_MS - 1},
        [],
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", TAKES, ids=lambda case: case.behaviour)
def test_take(case: TakeCase):
    """Five units of `a` and none of `b` are available beyond what the hold itself has."""
    accounts = {"a": Account(received=9, confirmed=2, held=2), "b": Account()}
    assert take(accounts, case.hold, case.wanted, **case.changes) == case.expected


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (lambda: ledger.unpin(PINNED, SOON_MS, 2), refused("pinned", "stale")),
        (lambda: ledger.pin(HELD, 2), refused("held", "stale")),
        (lambda: ledger.extend(HELD, NOW_MS, 2), refused("held", "stale")),
        (lambda: ledger.trim(HELD, 2, {}), refused("held", "stale")),
        (lambda: ledger.unpin(PINNED, SOON_MS), [Unpinned("h", SOON_MS, 0)]),
    ],
    ids=["unpin", "pin", "extend", "trim", "a step without a number"],
)
def test_a_late_duplicate_of_an_older_step_changes_nothing(step, expected):
    """An unpin that arrives after the next attempt's pin would let a hold expire while its money moves."""
    assert step() == expected


def test_a_pin_of_a_pinned_hold_outdates_the_unpin_that_is_still_on_its_way():
    """The attempt after an express checkout's declined one pins what was never unpinned."""
    repinned = ledger.evolve_hold(PINNED, Pinned("h", 5))
    assert ledger.unpin(repinned, SOON_MS, 4) == refused("pinned", "stale")


def test_a_hold_without_units_goes_without_a_trace_when_its_time_is_over():
    """It is what a change of lines left behind; the same SKU may come back at once."""
    assert ledger.expire(Hold("h", "held", 3, {}, NOW_MS), NOW_MS) == [Dropped("h")]


@pytest.mark.parametrize(
    ("ticket", "units", "issued_at_ms", "expected"),
    [
        (None, 2, NOW_MS, [Returned("r", {"a": 2})]),
        (Hold("r", "returned", 0, {"a": 2}, 0), 2, NOW_MS, []),
        (None, 3, NOW_MS, Refused("short", "unknown", [Short("a", 3, 2)])),
        (Hold("r", "released", 0, {}, 0), 2, NOW_MS, refused("released")),
        (None, 2, NOW_MS - STALE_TAKE_MS - 1, Refused("stale")),
        (None, 2, NOW_MS + STALE_TAKE_MS + 1, Refused("stale")),
    ],
    ids=["first", "repeat", "more than was sold", "a ticket that is something else", "too old", "dated too far ahead"],
)
def test_sold_units_come_back_once(ticket, units, issued_at_ms, expected):
    """A canceled order's units return under a ticket of their own, never more than were sold."""
    accounts = {"a": Account(received=9, confirmed=2), "b": Account(received=1)}
    step = ledger.give_back(ticket, "r", accounts, {"a": units}, issued_at_ms=issued_at_ms, now_ms=NOW_MS)
    assert step == expected


def test_a_tombstone_stays_as_long_as_a_take_could_still_come():
    """It outlives the longest message, then it goes, and no earlier."""
    tombstone = Hold("h", "released", 3, {}, 0, forgotten_at_ms=NOW_MS)
    assert TOMBSTONE_MS > STALE_TAKE_MS
    assert ledger.drop(tombstone, NOW_MS + TOMBSTONE_MS - 1) == []
    assert ledger.drop(tombstone, NOW_MS + TOMBSTONE_MS) == [Dropped("h")]


def test_an_extension_to_the_same_time_writes_nothing():
    assert ledger.extend(HELD, SOON_MS, 3) == []


SUMS = [
    ("all sold", Account(5, 5, 0), [], ""),
    ("held", Account(5, 1, 2), [Hold("h", "held", 1, {"a": 2}, 9)], ""),
    ("of what has ended nothing is held", Account(5, 3, 0), [Hold("h", "confirmed", 1, {"a": 2}, 0)], ""),
    ("more held than there is", Account(2, 1, 2), [Hold("h", "held", 1, {"a": 2}, 9)], "a cannot have"),
    ("less than nothing sold", Account(2, -1, 0), [], "a cannot have"),
    ("held by nobody", Account(5, 0, 2), [], "of a 2 units are reserved"),
    ("a hold that does not count", Account(5), [Hold("h", "pinned", 1, {"a": 2}, 0)], "of a 0 units are reserved"),
    ("a hold on nothing", Account(5), [Hold("h", "held", 1, {"b": 2}, 9)], "there are holds on b"),
]


@pytest.mark.parametrize(("figures", "holds", "says"), [r[1:] for r in SUMS], ids=[r[0] for r in SUMS])
def test_figures_that_cannot_be_are_named(figures: Account, holds: list[Hold], says: str) -> None:
    found = ledger.unsound({"a": figures}, holds)
    assert found.startswith(says) if says else found == ""
