"""The saga's table: what each command is answered in each phase, and that everything comes to an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from domain import checkout_model as model
from domain.checkout_actions import deadline_ms, resting
from domain.messages import Refusal
from tests.unit.checkout_phases import REACHED
from tests.unit.checkout_world import HOME, Shop

BUSY, PAYING = "request_in_progress", "completion_in_progress"
OWED, GONE = "owed", "checkout_canceled"


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


# In the order of REACHED: what Patch, Complete, Cancel, Replace, ConfirmPayment and CancelOrder are answered.
ANSWERS = table(
    f"""
    {BUSY}    {BUSY}    owed               owed    not_found           not_found
    {BUSY}    {BUSY}    not_found          yes     not_found           not_found
    {BUSY}    {BUSY}    owed               owed    not_found           not_found
    owed      owed      owed               owed    not_found           not_found
    {BUSY}    {BUSY}    owed               owed    not_found           not_found
    {BUSY}    {BUSY}    owed               owed    not_found           not_found
    {PAYING}  {PAYING}  owed               no      {PAYING}            not_found
    {PAYING}  {PAYING}  owed               no      owed                not_found
    {PAYING}  {PAYING}  owed               no      owed                not_found
    {PAYING}  {PAYING}  owed               no      {PAYING}            not_found
    {GONE}    {GONE}    owed               owed    not_found           not_found
    checkout_completed 200 checkout_completed no   200                 owed
    {GONE}    {GONE}    200                yes     not_found           not_found
    not_found not_found not_found          yes     not_found           not_found
    """
)
COMMANDS: list[Callable[[Shop, str], Any]] = [
    lambda shop, checkout_id: shop.command(
        model.Patch, checkout_id, fields=model.Fields(("billing_address",), billing_address=HOME)
    ),
    lambda shop, checkout_id: shop.complete(checkout_id, "ok"),
    lambda shop, checkout_id: shop.command(model.Cancel, checkout_id),
    lambda shop, checkout_id: model.Replace(command_id=b"r", checkout_id=checkout_id, successor="chk_2"),
    lambda shop, checkout_id: shop.command(
        model.ConfirmPayment, checkout_id, payment_id=next((leg.id for leg in shop.state(checkout_id).legs), "pay_x")
    ),
    lambda shop, checkout_id: shop.command(model.CancelOrder, checkout_id, reason="", actor="buyer"),
]  # fmt: skip
NAMES = ("Patch", "Complete", "Cancel", "Replace", "ConfirmPayment", "CancelOrder")
CASES = [
    pytest.param(reach, command, expected, id=f"{name} {reach.__name__}")
    for reach, row in zip(REACHED, ANSWERS, strict=True)
    for name, command, expected in zip(NAMES, COMMANDS, row, strict=True)
]


def in_short(reply: Any) -> str:
    match reply:
        case Refusal():
            return reply.code
        case model.GaveWay():
            return "no" if reply.refused else "yes"
        case _:
            return str(reply.status)


@pytest.mark.parametrize(("reach", "command", "expected"), CASES)
def test_what_each_command_is_answered_in_each_phase(reach, command, expected):
    """At once with an answer or a refusal, or later ("owed"), as the table says."""
    shop = Shop(tea=5)
    asked = command(shop, reach(shop))
    shop.ask(asked)
    replies = shop.replies.get(asked.command_id, [])
    assert ([in_short(reply) for reply in replies] or [OWED]) == [expected]


@pytest.mark.parametrize("reach", REACHED, ids=lambda reach: reach.__name__)
@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_whatever_is_asked_and_when_everything_comes_to_an_end(reach, command):
    """No answer stays owed, nothing stays half done, and only what is open or sold keeps units."""
    shop = Shop(tea=5)
    checkout_id = reach(shop)
    asked = command(shop, checkout_id)
    shop.run(asked)
    shop.pass_time(4_000_000)
    shop.settle()
    assert shop.answer(asked) is not None
    assert all(resting(state) for state in shop.states())
    on_hand, reserved, sold = shop.levels("tea")
    assert (on_hand + sold, reserved) == (5, 0)
    live = [state for state in shop.states() if state.order and state.order.status != "canceled"]
    assert sold == sum(line.quantity for state in live for line in state.wanted)


@pytest.mark.parametrize("reach", REACHED, ids=lambda reach: reach.__name__)
def test_time_ends_only_what_waits_for_its_buyer(reach):
    """An open checkout and a payment step expire; while money or units are on their way nothing does."""
    shop = Shop(tea=5)
    checkout_id = reach(shop)
    before = shop.state(checkout_id)
    due_ms = deadline_ms(before)
    assert (due_ms is not None) == (before.phase in ("open", "awaiting_buyer"))
    shop.now_ms += 10_000_000
    shop.ask(model.Due(command_id=b"", checkout_id=checkout_id))
    after = shop.state(checkout_id)
    if due_ms is None:
        assert after == before
    else:
        assert (after.phase, after.undo and after.undo.reason) == ("unwinding", "expired")


@pytest.mark.parametrize("reach", REACHED, ids=lambda reach: reach.__name__)
def test_an_outcome_that_nobody_waits_for_changes_nothing(reach):
    """A repeated or late answer to a step that is over is read and dropped."""
    shop = Shop(tea=5)
    checkout_id = reach(shop)
    before = shop.state(checkout_id)
    shop.tell(checkout_id, "take:0", model.Done())
    assert shop.state(checkout_id) == before
