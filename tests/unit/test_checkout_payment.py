"""Paying, when it does not go well: declines, the buyer's step, silence, cancels in between, and the way back."""

from __future__ import annotations

from typing import Any

import pytest

from domain import checkout_model as model
from domain.checkout_actions import KEY_LIFE_MS, next_actions, resting
from domain.checkout_turn import Turn
from domain.messages import Refusal
from domain.payments import Authorize, NotNow, Retrieve, Retrieved, Void
from domain.stock import HoldState
from tests.unit.checkout_phases import awaiting_buyer, open_checkout, paying, pinning
from tests.unit.checkout_world import CARD, PRICE, READY, Shop


def card(token: str) -> model.Payments:
    return model.Payments((model.Payment("card", token),))


def view_of(shop: Shop, checkout_id: str) -> model.CheckoutView:
    view: model.CheckoutView = shop.ask(shop.command(model.Read, checkout_id)).checkout
    return view


def requests(shop: Shop, checkout_id: str) -> list[Any]:
    """What the checkout wants of its gateway now."""
    actions = next_actions(shop.state(checkout_id))
    return [action.request for action in actions if isinstance(action, model.CallGateway)]


# ── declines ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("express", [False, True], ids=["complete", "express"])
def test_after_a_decline_hold_and_fields_stay_and_another_attempt_succeeds(express):
    """402 with the reason; the reservation has its whole time again, and the failed payment stays in sight."""
    shop = Shop(tea=5)
    if express:
        first: Any = shop.start(express=card("bad"))
        checkout_id = first.checkout_id
    else:
        checkout_id = open_checkout(shop)
        first = shop.complete(checkout_id, "bad")
    shop.now_ms += 500_000
    reply = shop.run(first)
    assert (reply.code, reply.errors[0].code, reply.errors[0].extra) == (
        "payment_failed",
        "card_declined",
        {"retryable": True},
    )
    assert reply.extra["checkout_id"] == checkout_id
    view = view_of(shop, checkout_id)
    assert (view.status, view.reservation) == ("ready_for_complete", "held")
    assert view.reservation_expires_at_ms == shop.now_ms + shop.policy.hold_ttl_ms
    assert [message.code for message in view.messages] == ["payment_failed"]
    assert {hold.expires_at_ms for hold in shop.holds(checkout_id)} == {view.reservation_expires_at_ms}
    done = shop.run(shop.complete(checkout_id, "ok"))
    assert done.status == 200
    assert [payment.status for payment in done.checkout.payments] == ["declined", "authorized"]
    assert [payment.status for payment in done.order.payments] == ["authorized"]


def test_too_many_declines_end_the_checkout():
    """The last one's answer is 402 all the same; then it is canceled and its hold released."""
    shop = Shop(model.Policy(payment_attempts=3), tea=5)
    checkout_id = open_checkout(shop)
    replies = [shop.run(shop.complete(checkout_id, "bad")) for _ in range(4)]
    assert [reply.code for reply in replies] == ["payment_failed"] * 3 + ["checkout_canceled"]
    view = view_of(shop, checkout_id)
    assert (view.status, view.cancel_reason, view.reservation) == ("canceled", "payment", "released")
    assert shop.levels("tea") == (5, 0, 0)


def test_when_the_second_payment_is_declined_the_first_is_voided():
    """Newest first, before the buyer hears of it; the next attempt has payments of its own."""
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    reply = shop.run(shop.complete(checkout_id, "ok", "bad", amounts=(400,)))
    assert reply.code == "payment_failed"
    first, second = shop.state(checkout_id).legs
    assert (first.status, second.status) == ("voided", "declined")
    assert shop.gateway.state(first.id) == "voided"
    assert shop.run(shop.complete(checkout_id, "ok", "ok", amounts=(400,))).status == 200
    assert len({leg.id for leg in shop.state(checkout_id).legs}) == 4


def test_payments_are_given_back_newest_first():
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    shop.run(shop.complete(checkout_id, "ok", "ok", "bad", amounts=(400, 300)))
    first, second, _ = (leg.id for leg in shop.state(checkout_id).legs)
    assert [of for verb, of, _ in shop.gateway.log if verb == "void"] == [second, first]


def test_a_payment_that_was_never_sent_is_closed_without_asking_anybody():
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    shop.run(shop.complete(checkout_id, "bad", "ok", amounts=(400,)))
    first, second = shop.state(checkout_id).legs
    assert (first.status, second.status) == ("declined", "voided")
    assert shop.gateway.log == []


# ── the buyer's step ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("express", [False, True], ids=["complete", "express"])
@pytest.mark.parametrize(("succeed", "says_so"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_payment_that_needs_its_buyer(express, succeed, says_so):
    """202 with the step to take; the same key asks again; its answer comes whether or not the buyer says so."""
    shop = Shop(tea=5)
    first: Any = shop.start(express=card("3ds")) if express else shop.complete(open_checkout(shop), "3ds")
    reply = shop.run(first)
    assert (reply.status, reply.checkout.status) == (202, "requires_escalation")
    assert reply.checkout.next_action == {"type": "redirect"}
    again = shop.ask(first)
    assert (again.status, again.checkout) == (202, reply.checkout)

    payment_id = reply.checkout.payments[0].id
    shop.gateway.buyer_acts(payment_id, succeed)
    if says_so:
        confirmed = shop.run(shop.command(model.ConfirmPayment, first.checkout_id, payment_id=payment_id))
        assert in_short(confirmed) == ("200" if succeed else "payment_failed")
    shop.settle()
    assert in_short(shop.answer(first)) == ("200" if succeed else "payment_failed")
    late = shop.run(shop.command(model.ConfirmPayment, first.checkout_id, payment_id=payment_id))
    assert in_short(late) == ("200" if succeed else "payment_failed")


def in_short(reply: Any) -> str:
    return reply.code if isinstance(reply, Refusal) else str(reply.status)


def test_a_buyer_who_says_so_too_early_is_told_to_act():
    """202 again, and the step still stands; the same key asks again when it is taken."""
    shop = Shop(tea=5)
    checkout_id = awaiting_buyer(shop)
    leg = shop.state(checkout_id).legs[0]
    confirm = shop.command(model.ConfirmPayment, checkout_id, payment_id=leg.id)
    for outcome in (None, "busy", "before"):
        shop.gateway.faults = [outcome] if outcome else []
        assert in_short(shop.run(confirm)) == "202"
        assert shop.state(checkout_id).phase == "awaiting_buyer"
    shop.gateway.buyer_acts(leg.id, True)
    assert in_short(shop.run(confirm)) == "200"


def test_a_second_payment_follows_when_the_first_ones_buyer_has_acted():
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    complete = shop.complete(checkout_id, "3ds", "ok", amounts=(400,))
    shop.run(complete)
    first, second = shop.state(checkout_id).legs
    assert (first.status, second.status) == ("requires_action", "pending")
    shop.gateway.buyer_acts(first.id, True)
    shop.settle()
    assert shop.answer(complete).status == 200


def test_a_buyer_who_does_not_act_in_time_loses_the_reservation_and_no_money():
    """The payment is voided, then the hold released; the completion's key is told "expired"."""
    shop = Shop(model.Policy(buyer_action_ms=60_000), tea=5)
    complete = shop.complete(open_checkout(shop), "3ds")
    shop.run(complete)
    shop.pass_time(59_999)
    assert shop.state(complete.checkout_id).phase == "awaiting_buyer"
    shop.pass_time(1)
    shop.settle()
    assert shop.answer(complete).code == "reservation_expired"
    assert shop.gateway.state(shop.state(complete.checkout_id).legs[0].id) == "voided"
    assert view_of(shop, complete.checkout_id).cancel_reason == "expired"


# ── silence ─────────────────────────────────────────────────────────────────────────────────────────────

SILENCES = [
    (["after"], "ok", "200"),  # it happened: found by retrieving
    (["before"], "ok", "200"),  # it did not: sent again under its key
    (["before", "before", "busy", "before"], "ok", "200"),  # retrieving fails for a while
    (["after"], "bad", "payment_failed"),
    (["after"], "3ds", "202"),
    (["busy", "busy"], "ok", "200"),
    (["before", "", "before"], "ok", "payment_failed"),  # twice nothing: voided, then told
    (["before", "", "after"], "ok", "200"),
    (["before", "", "before", "", "after"], "ok", "payment_failed"),  # the void's answer is lost too
    (["before", "", "before", "", "before"], "ok", "payment_failed"),
]


@pytest.mark.parametrize(("faults", "token", "expected"), SILENCES)
def test_an_unknown_outcome_is_made_known_before_anything_else(faults, token, expected):
    """Whatever is lost on the way, the buyer is told the truth, and is charged once or not at all."""
    shop = Shop(tea=5)
    complete = shop.complete(open_checkout(shop), token)
    shop.gateway.faults = list(faults)
    assert in_short(shop.run(complete)) == expected
    [leg] = shop.state(complete.checkout_id).legs
    assert shop.gateway.net(leg.id) == (PRICE if expected == "200" else 0)
    if expected == "payment_failed":
        assert shop.gateway.state(leg.id) in ("voided", "declined")


def test_while_an_outcome_is_unknown_nothing_is_said_and_nothing_else_is_tried():
    """The payment shows as unknown, no answer is given, and the only thing that is sent is the question."""
    shop = Shop(tea=5)
    complete = shop.complete(open_checkout(shop), "ok")
    shop.ask(complete)
    shop.gateway.faults = ["before"] * 20
    for _ in range(10):
        shop.step(complete.checkout_id)
    assert [type(request) for request in requests(shop, complete.checkout_id)] == [Retrieve]
    assert shop.replies.get(complete.command_id) is None
    view = view_of(shop, complete.checkout_id)
    assert (view.status, view.payments[0].status) == ("complete_in_progress", "unknown")
    assert shop.ask(shop.complete(complete.checkout_id, "ok")).code == "completion_in_progress"


def test_a_gateway_that_still_processes_is_waited_for():
    shop = Shop(tea=5)
    checkout_id = paying(shop)
    [action] = next_actions(shop.state(checkout_id))
    shop.gateway.faults = ["before"]
    shop.step(checkout_id)
    [question] = next_actions(shop.state(checkout_id))
    assert question.name != action.name
    before = shop.state(checkout_id)
    shop.tell(checkout_id, question.name, model.LegOutcome(0, Retrieved("processing")))
    shop.tell(checkout_id, question.name, model.LegOutcome(0, NotNow(100, "busy")))
    assert shop.state(checkout_id) == before


def test_a_request_that_was_given_up_finds_a_tombstone_when_it_comes():
    """402 was told only after the void; the late authorization cannot take anything any more."""
    shop = Shop(tea=5)
    complete = shop.complete(open_checkout(shop), "ok")
    shop.gateway.faults = ["late", "", "late"]
    assert shop.run(complete).errors[0].code == "processing_error"
    assert [type(request) for request in shop.gateway.late] == [Authorize, Authorize]
    for request in shop.gateway.late:
        shop.gateway.do(request)
    [leg] = shop.state(complete.checkout_id).legs
    assert (shop.gateway.state(leg.id), shop.gateway.net(leg.id)) == ("voided", 0)


# ── cancels ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("token", ["ok", "bad", "3ds"])
@pytest.mark.parametrize("steps", range(5))
def test_a_cancel_at_any_moment_of_a_payment(token, steps):
    """Remembered until the outcome is known; then the money goes back, and both askers are told."""
    shop = Shop(tea=5)
    complete = shop.complete(open_checkout(shop), token)
    shop.ask(complete)
    for _ in range(steps):
        shop.step(complete.checkout_id)
    cancel = shop.command(model.Cancel, complete.checkout_id)
    shop.ask(cancel)
    shop.settle()
    state = shop.state(complete.checkout_id)
    if state.order is not None:
        assert shop.answer(cancel).code == "checkout_completed"
        return
    canceled = shop.answer(cancel)
    assert (canceled.status, canceled.checkout.status, canceled.checkout.cancel_reason) == (200, "canceled", "buyer")
    assert shop.answer(complete).code in ("checkout_canceled", "payment_failed" if token == "bad" else "")
    assert [shop.gateway.net(leg.id) for leg in state.legs] == [0]
    assert shop.gateway.state(state.legs[0].id) in ("none", "voided", "declined")
    assert (shop.levels("tea"), resting(state)) == ((5, 0, 0), True)


def test_a_cancel_before_any_money_moves_sends_nothing():
    """It came while the hold was being pinned."""
    shop = Shop(tea=5)
    checkout_id = pinning(shop)
    assert shop.run(shop.command(model.Cancel, checkout_id)).status == 200
    assert shop.gateway.found == {}


def test_a_void_that_is_refused_is_looked_up_and_not_repeated_for_ever():
    """The gateway will not let go: nothing is captured, so it lapses; the checkout comes to its end."""
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    shop.gateway.refuse = {"void"}
    assert shop.run(shop.complete(checkout_id, "ok", "bad", amounts=(400,))).code == "payment_failed"
    first = shop.state(checkout_id).legs[0]
    assert (first.status, first.settled, first.error and first.error.code) == ("authorized", True, "void_refused")


# ── what the database refuses ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("total", [0, PRICE])
def test_an_order_that_cannot_be_recorded_is_undone(total):
    """The same outcome comes again as `Abandon`: money and units go back instead."""
    shop = Shop(tea=5, price=total)
    checkout_id = open_checkout(shop)
    complete = shop.complete(checkout_id, *(["ok"] if total else []))
    shop.ask(complete)
    if total:
        shop.step(checkout_id)
    [action] = next_actions(shop.state(checkout_id))
    result = shop.do(action)
    shop.ask(model.Abandon(command_id=b"", checkout_id=checkout_id, outcomes=((action.name, result),)))
    assert [type(request) for request in requests(shop, checkout_id)] == [Void] * bool(total)
    shop.settle()
    assert shop.answer(complete).code == "internal_error"
    assert (shop.rows, shop.levels("tea")) == ([], (5, 0, 0))


def test_a_key_that_gateways_may_have_forgotten_is_never_sent_again():
    """The coordinator was away for a day: what became of its capture is looked up, and a new key is made."""
    shop = Shop(tea=5)
    checkout_id = paying(shop)
    shop.step(checkout_id)
    [old] = requests(shop, checkout_id)
    shop.now_ms += KEY_LIFE_MS + 1
    sent = len(shop.gateway.log)
    shop.step(checkout_id)
    assert len(shop.gateway.log) == sent
    assert requests(shop, checkout_id) == [Retrieve(old.payment_id)]
    shop.step(checkout_id)
    [new] = requests(shop, checkout_id)
    assert (type(new), new.idempotency_key != old.idempotency_key) == (type(old), True)
    shop.settle()
    assert shop.gateway.net(old.payment_id) == PRICE


def test_past_the_pivot_nothing_is_abandoned():
    """The step stays wanted and is tried again."""
    shop = Shop(tea=5)
    start = shop.start(express=CARD)
    shop.ask(start)
    shop.step(start.checkout_id)
    shop.step(start.checkout_id)
    before = shop.state(start.checkout_id)
    assert before.phase == "placed"
    for action in next_actions(before):
        result = shop.do(action)
        shop.ask(model.Abandon(command_id=b"", checkout_id=before.id, outcomes=((action.name, result),)))
    assert shop.state(start.checkout_id) == before


def test_a_late_unpin_does_not_let_the_next_attempts_hold_expire():
    """Its revision is older than that of the pin that came after it."""
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    shop.ask(shop.complete(checkout_id, "bad"))
    shop.step(checkout_id)
    shop.step(checkout_id)
    [unpin] = next_actions(shop.state(checkout_id))
    assert isinstance(unpin, model.HoldStep)
    shop.settle()
    shop.ask(shop.complete(checkout_id, "ok"))
    shop.step(checkout_id)
    assert shop.do(unpin) == HoldState("pinned", "stale")
    assert {hold.status for hold in shop.holds(checkout_id)} == {"pinned"}


def test_a_late_pin_does_not_keep_units_from_expiring():
    """The attempt that it belongs to has been declined, and its hold unpinned since."""
    shop = Shop(tea=5)
    checkout_id = open_checkout(shop)
    shop.ask(shop.complete(checkout_id, "bad"))
    [pin] = next_actions(shop.state(checkout_id))
    shop.settle()
    assert shop.do(pin) == HoldState("held", "stale")


def test_a_turn_without_anything_to_tell_writes_nothing():
    """No event, no state: the decision says "nothing changed"."""
    shop = Shop(tea=5)
    start = shop.start(fields=READY)
    shop.run(start)
    turn = Turn(shop.state(start.checkout_id), shop.policy, model.Rules(), shop.now_ms)
    decision = turn.decision()
    assert (list(decision.events), decision.after) == ([], None)
