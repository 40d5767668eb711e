"""The end of a checkout without an order: what its readers are told, and whoever waited for its payment."""

from __future__ import annotations

from typing import Any

import pytest

from domain import checkout_model as model
from domain.checkout_actions import next_actions
from tests.unit.checkout_phases import open_checkout
from tests.unit.checkout_world import Shop


def view_of(shop: Shop, checkout_id: str) -> model.CheckoutView:
    view: model.CheckoutView = shop.ask(shop.command(model.Read, checkout_id)).checkout
    return view


ENDS = [
    ("buyer", ("info", "checkout_canceled", "$"), ["checkout_canceled"]),
    ("replaced", ("info", "checkout_canceled", "$"), ["checkout_canceled"]),
    ("expired", ("error", "reservation_expired", "$"), ["reservation_expired"]),
    ("payment", ("error", "payment_failed", "$.payments"), ["payment_failed", "card_declined", "checkout_canceled"]),
    ("not recorded", ("error", "internal_error", "$"), ["internal_error"]),
]


@pytest.mark.parametrize(("cause", "message", "answer"), ENDS, ids=[cause for cause, *_ in ENDS])
def test_a_checkout_that_is_over_says_why(cause, message, answer):
    """One message, that nothing mends; whoever waited for the payment is told so, too."""
    shop = Shop(model.Policy(payment_attempts=1, buyer_action_ms=60_000), tea=5)
    checkout_id = open_checkout(shop)
    complete = shop.complete(checkout_id, "bad" if cause == "payment" else "3ds" if cause == "expired" else "ok")
    if cause == "replaced":
        shop.run(model.Replace(command_id=b"r", checkout_id=checkout_id, successor="chk_2"))
        told = shop.run(complete)
    else:
        told = end_while_paying(shop, complete, cause)
    view = view_of(shop, checkout_id)
    assert (view.status, view.cancel_reason) == ("canceled", "payment" if cause == "not recorded" else cause)
    [shown] = view.messages
    assert (shown.type, shown.code, shown.path, shown.severity) == (*message, "unrecoverable")
    assert [told.code, *(error.code for error in told.errors)] == answer
    assert not answer[1:] or told.errors[-1].message == shown.content


def end_while_paying(shop: Shop, complete: model.Complete, cause: str) -> Any:
    """What the completion is answered."""
    shop.ask(complete)
    match cause:
        case "buyer":
            shop.ask(shop.command(model.Cancel, complete.checkout_id))
        case "expired":
            shop.settle()
            shop.pass_time(60_000)
        case "not recorded":
            shop.step(complete.checkout_id)
            [action] = next_actions(shop.state(complete.checkout_id))
            outcomes = ((action.name, shop.do(action)),)
            shop.ask(model.Abandon(command_id=b"", checkout_id=complete.checkout_id, outcomes=outcomes))
    shop.settle()
    return shop.answer(complete)


def test_a_decline_of_what_was_canceled_meanwhile_invites_to_no_other_try():
    """402, for it was declined, but not retryable: the buyer's own cancel has ended the checkout."""
    shop = Shop(tea=5)
    complete = shop.complete(open_checkout(shop), "bad")
    shop.ask(complete)
    shop.step(complete.checkout_id)
    shop.run(shop.command(model.Cancel, complete.checkout_id))
    reply = shop.answer(complete)
    assert [(error.code, error.extra) for error in reply.errors] == [
        ("card_declined", {"retryable": False}),
        ("checkout_canceled", {}),
    ]
    assert view_of(shop, complete.checkout_id).cancel_reason == "buyer"
