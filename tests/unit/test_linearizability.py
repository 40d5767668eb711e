"""The checker of histories, and the model of stock it is used with: what must be accepted, and what must not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.linearizability import FOREVER, UNANSWERED, Operation, check
from tests.support.shelf import Confirm, Hold, Pin, Read, Receive, Release, Shelf, apply

LAST = Shelf(received=1)
FULL, TAKEN, SOLD = (1, 0, 1, 0), (1, 1, 0, 0), (0, 0, 0, 1)  # what a read of one unit may say


def op(call: Any, result: Any, invoked: int, returned: int = FOREVER) -> Operation:
    return Operation("", call, result, invoked, returned)


GOOD = {
    "one after another": [
        op(Hold("a", 1), "held", 0, 1), op(Hold("b", 1), ("short", 0), 2, 3), op(Read(), TAKEN, 4, 5),
    ],
    "at once, either may have been first": [op(Hold("a", 1), ("short", 0), 0, 9), op(Hold("b", 1), "held", 1, 8)],
    "a read that overlaps a hold may see it": [op(Hold("a", 1), "held", 0, 9), op(Read(), TAKEN, 1, 2)],
    "or may not": [op(Hold("a", 1), "held", 0, 9), op(Read(), FULL, 1, 2)],
    "unanswered, it happened": [op(Hold("a", 1), UNANSWERED, 0), op(Hold("b", 1), ("short", 0), 1, 2)],
    "unanswered, it did not": [op(Hold("a", 1), UNANSWERED, 0), op(Hold("b", 1), "held", 1, 2)],
    "unanswered, it happened late": [
        op(Hold("a", 1), UNANSWERED, 0), op(Read(), FULL, 1, 2), op(Read(), TAKEN, 3, 4),
    ],
    "sold": [
        op(Hold("a", 1), "held", 0, 1), op(Pin("a"), ("pinned", ""), 2, 3), op(Confirm("a"), ("confirmed", ""), 4, 5),
        op(Release("a"), ("confirmed", "finished"), 6, 7), op(Read(), SOLD, 8, 9),
    ],
    "given back, and held by another": [
        op(Hold("a", 1), "held", 0, 1), op(Release("a"), ("released", ""), 2, 9), op(Hold("b", 1), "held", 3, 4),
    ],
    "a delivery comes in time": [
        op(Hold("a", 2), "held", 0, 9), op(Receive(1), (2, 0, 2, 0), 1, 2), op(Read(), (2, 2, 0, 0), 10, 11),
    ],
}  # fmt: skip

BAD = {
    "the last unit held twice": [op(Hold("a", 1), "held", 0, 9), op(Hold("b", 1), "held", 1, 8)],
    "the last unit sold twice": [
        op(Hold("a", 1), "held", 0, 1), op(Pin("a"), ("pinned", ""), 2, 3), op(Confirm("a"), ("confirmed", ""), 4, 5),
        op(Hold("b", 1), "held", 6, 7),
    ],
    "an acknowledged hold is lost": [op(Hold("a", 1), "held", 0, 1), op(Read(), FULL, 2, 3)],
    "an acknowledged sale is lost": [
        op(Hold("a", 1), "held", 0, 1), op(Pin("a"), ("pinned", ""), 2, 3), op(Confirm("a"), ("confirmed", ""), 4, 5),
        op(Read(), TAKEN, 6, 7),
    ],
    "an acknowledged delivery is lost": [op(Receive(1), (2, 0, 2, 0), 0, 1), op(Read(), FULL, 2, 3)],
    "refused though there was a unit all the time": [op(Hold("a", 1), ("short", 0), 0, 1), op(Read(), FULL, 2, 3)],
    "refused with a wrong figure": [op(Hold("a", 2), ("short", 0), 0, 1)],
    "a stale read": [
        op(Hold("a", 1), "held", 0, 1), op(Release("a"), ("released", ""), 2, 3), op(Read(), TAKEN, 4, 5),
    ],
    "a read from the future": [op(Read(), TAKEN, 0, 1), op(Hold("a", 1), "held", 2, 3)],
    "two reads in the wrong order": [
        op(Hold("a", 1), "held", 0, 9), op(Read(), TAKEN, 1, 2), op(Read(), FULL, 3, 4),
    ],
    "unanswered, it happened and was undone": [
        op(Hold("a", 1), UNANSWERED, 0), op(Read(), TAKEN, 1, 2), op(Read(), FULL, 3, 4),
    ],
    "unanswered, it happened twice": [op(Receive(1), UNANSWERED, 0), op(Read(), (3, 0, 3, 0), 1, 2)],
    "half of a sale": [
        op(Hold("a", 1), "held", 0, 1), op(Pin("a"), ("pinned", ""), 2, 3), op(Confirm("a"), ("confirmed", ""), 4, 9),
        op(Read(), (1, 0, 1, 1), 5, 6),
    ],
    "released and sold": [
        op(Hold("a", 1), "held", 0, 1), op(Pin("a"), ("pinned", ""), 2, 3),
        op(Release("a"), ("released", ""), 4, 9), op(Confirm("a"), ("confirmed", ""), 5, 8),
    ],
}  # fmt: skip


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD.keys())
def test_what_a_shop_might_have_answered_is_accepted(history: list[Operation]) -> None:
    """And explained by an order that leaves nothing out but what was not answered."""
    verdict = check(history, LAST, apply)
    assert verdict.kind == "linearizable"
    assert {one for one in history if one.result is not UNANSWERED} <= set(verdict.order)


@pytest.mark.parametrize("history", BAD.values(), ids=BAD.keys())
def test_a_doctored_history_is_rejected(history: list[Operation]) -> None:
    """And what does not fit is named."""
    verdict = check(history, LAST, apply)
    assert verdict.kind == "violated"
    assert verdict.stuck
    assert str(verdict.stuck[0].call) in str(verdict)


@pytest.mark.parametrize("history", BAD.values(), ids=BAD.keys())
def test_a_violation_is_found_among_much_that_is_well(history: list[Operation]) -> None:
    """A hundred operations of others before and after do not hide it."""
    before = [op(Read(), FULL, 2 * n, 2 * n + 1) for n in range(50)]
    shifted = [one._replace(invoked=one.invoked + 100, returned=min(one.returned + 100, FOREVER)) for one in history]
    after = [op(Pin(f"other {n}"), ("unknown", "unknown"), 200 + 2 * n, 201 + 2 * n) for n in range(50)]
    assert check(before + shifted + after, LAST, apply).kind == "violated"


def test_what_cannot_be_decided_in_the_bound_is_not_called_good() -> None:
    """Twenty calls without an answer leave too many ways to look at."""
    silent = [op(Hold(str(n), 1), UNANSWERED, n) for n in range(20)]
    history = [*silent, op(Read(), (20, 21, -1, 0), 100, 101)]
    assert check(history, Shelf(received=20), apply, most_states=1_000).kind == "undecided"


@pytest.mark.parametrize(
    ("operation", "fault"),
    [(op(Read(), FULL, 2, 1), "before it begins"), (op(Read(), UNANSWERED, 1, 2), "without an answer")],
)
def test_an_operation_that_cannot_have_been_is_no_history(operation: Operation, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        check([operation], LAST, apply)


# ── against all orders ──────────────────────────────────────────────────────────────────────────────────

calls = st.one_of(
    st.builds(Hold, st.sampled_from("ab"), st.integers(1, 2)),
    st.builds(Pin, st.sampled_from("ab")),
    st.builds(Confirm, st.sampled_from("ab")),
    st.builds(Release, st.sampled_from("ab")),
    st.just(Read()),
    st.just(Receive(1)),
)


def by_all_orders(history: Sequence[Operation]) -> bool:
    """The definition: some order of the answered and some of the others keeps real time and fits the model."""
    known = [one for one in history if one.result is not UNANSWERED]
    silent = [one for one in history if one.result is UNANSWERED]
    chosen = itertools.chain.from_iterable(itertools.combinations(silent, n) for n in range(len(silent) + 1))
    return any(_fits(order) for some in chosen for order in itertools.permutations([*known, *some]))


def _fits(order: Sequence[Operation]) -> bool:
    if any(later.returned < earlier.invoked for earlier, later in itertools.combinations(order, 2)):
        return False
    shelf = LAST
    for one in order:
        shelf, result = apply(shelf, one.call)
        if one.result is not UNANSWERED and one.result != result:
            return False
    return True


def overlapping(made: Sequence[Any], chance: random.Random) -> list[Operation]:
    """A history that one order explains: each call takes effect at its place, and lasts a while around it."""
    shelf, history = LAST, []
    for n, call in enumerate(made):
        shelf, result = apply(shelf, call)
        at = 100 * n + 50
        begun, ended = at - chance.randrange(1, 250), at + chance.randrange(1, 250)
        silent = chance.random() < 0.2
        history.append(op(call, UNANSWERED if silent else result, begun, FOREVER if silent else ended))
    return history


@given(st.lists(calls, max_size=30), st.randoms(use_true_random=False))
def test_every_history_that_has_an_order_is_accepted(made: list[Any], chance: random.Random) -> None:
    assert check(overlapping(made, chance), LAST, apply).kind == "linearizable"


@given(st.lists(calls, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_the_search_says_what_trying_all_orders_says(made: list[Any], chance: random.Random) -> None:
    """For small histories, some of whose answers were exchanged."""
    history = overlapping(made, chance)
    one, other = chance.sample(range(len(history)), 2)
    heard = history[other].result
    ended = FOREVER if heard is UNANSWERED else history[one].returned
    history[one] = history[one]._replace(result=heard, returned=ended)
    expected = "linearizable" if by_all_orders(history) else "violated"
    assert check(history, LAST, apply).kind == expected
