"""Past the pivot: capture, confirm and close until they succeed; review, ship, amend; and cancel, money and all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain import checkout_model as model
from domain.checkout_actions import next_actions, resting
from domain.order import OrderBody, OrderEventRow, OrderRow, OrderStateRow, OutboxRow
from domain.stock import HoldState
from domain.tax import TaxRate, TaxTable
from tests.unit.checkout_phases import open_checkout
from tests.unit.checkout_world import AWAY, CARD, HOME, PRICE, Shop


def ordered(shop: Shop, *, settled: bool = True) -> str:
    """A checkout with an order: at the pivot, or with everything done."""
    start = shop.start(express=CARD)
    shop.ask(start)
    while shop.state(start.checkout_id).order is None:
        shop.step(start.checkout_id)
    if settled:
        shop.settle()
    return start.checkout_id


def cancel(shop: Shop, checkout_id: str, reason: str = "") -> Any:
    return shop.command(model.CancelOrder, checkout_id, reason=reason, actor="buyer")


def ship(shop: Shop, checkout_id: str) -> Any:
    return shop.command(model.ShipOrder, checkout_id, carrier="ups", tracking_number="1Z", actor="ops")


def deliver(shop: Shop, checkout_id: str) -> Any:
    return shop.command(model.DeliverOrder, checkout_id, actor="ops")


def review(shop: Shop, checkout_id: str, approve: bool = True) -> Any:
    return shop.command(model.ReviewOrder, checkout_id, approve=approve, reason="why", actor="ops")


def amend(shop: Shop, checkout_id: str, address: model.Address = HOME) -> Any:
    return shop.command(model.AmendAddress, checkout_id, address=address)


def order_view(shop: Shop, checkout_id: str) -> Any:
    return shop.ask(shop.command(model.Read, checkout_id)).order


def told(shop: Shop) -> list[str]:
    """The audit trail."""
    return [row.type for row in shop.rows if isinstance(row, OrderEventRow)]


# ── the pivot ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_order_its_audit_entry_and_its_outbox_ride_in_the_pivots_append():
    """One immutable row, one state, one entry, one message a destination; later steps append, and count on."""
    shop = Shop(model.Policy(outbox_destinations=("mail", "hooks")), tea=5)
    checkout_id = ordered(shop, settled=False)
    kinds = [type(row) for row in shop.rows]
    assert kinds == [OrderRow, OrderStateRow, OrderEventRow, OutboxRow, OutboxRow]
    row = shop.rows[0]
    assert (row.checkout_id, row.total, row.email_hash) == (checkout_id, PRICE, "hash")
    assert [payment.status for payment in msgspec.json.decode(row.body, type=OrderBody).payments] == ["authorized"]
    shop.settle()
    entries = [row for row in shop.rows if isinstance(row, OrderEventRow)]
    assert [(entry.n, entry.type) for entry in entries] == [(1, "confirmed"), (2, "payment_captured")]
    outbox = {(row.order_id, row.n, row.destination) for row in shop.rows if isinstance(row, OutboxRow)}
    assert len(outbox) == 4
    states = [row for row in shop.rows if isinstance(row, OrderStateRow)]
    assert [(state.version, state.payment_status) for state in states] == [(1, "authorized"), (2, "paid")]


@pytest.mark.parametrize("faults", [["before"], ["after"], ["busy"], ["late"], ["before"] * 4])
def test_a_capture_is_retried_until_it_is_known_to_have_happened(faults):
    """Once, whatever is lost on the way."""
    shop = Shop(tea=5)
    checkout_id = ordered(shop, settled=False)
    shop.gateway.faults = list(faults)
    shop.settle()
    for request in shop.gateway.late:
        shop.gateway.do(request)
    [leg] = shop.state(checkout_id).legs
    assert (leg.status, shop.gateway.net(leg.id)) == ("captured", PRICE)
    assert order_view(shop, checkout_id).payment_status == "paid"
    assert [entry[0] for entry in shop.gateway.log] == ["authorize", "capture"]


def test_a_capture_that_overtakes_its_own_repeat_counts():
    """The repeat, under its new key, is told "already captured"; the books settle it, and the order stays."""
    shop = Shop(tea=5)
    checkout_id = ordered(shop, settled=False)
    shop.gateway.faults = ["late"]
    for _ in range(2):
        shop.step(checkout_id)
    [late] = shop.gateway.late
    shop.gateway.do(late)
    shop.settle()
    assert order_view(shop, checkout_id).status == "confirmed"
    assert order_view(shop, checkout_id).payment_status == "paid"


def test_a_capture_refused_for_good_cancels_the_order_and_restocks():
    """Nobody gets goods that nobody pays for; the authorization is voided, and the trail tells why."""
    shop = Shop(tea=5)
    checkout_id = ordered(shop, settled=False)
    shop.gateway.refuse = {"capture"}
    shop.settle()
    view = order_view(shop, checkout_id)
    assert (view.status, view.payment_status) == ("canceled", "voided")
    assert told(shop) == ["confirmed", "canceled", "payment_voided"]
    assert shop.levels("tea") == (5, 0, 0)
    assert resting(shop.state(checkout_id))
    [detail] = [row.detail for row in shop.rows if isinstance(row, OrderEventRow) and row.type == "canceled"]
    assert msgspec.json.decode(detail)["code"] == "capture_refused"


def test_an_authorization_that_lapsed_before_its_capture_cancels_the_order():
    shop = Shop(tea=5)
    checkout_id = ordered(shop, settled=False)
    [leg] = shop.state(checkout_id).legs
    del shop.gateway.found[leg.id]
    shop.settle()
    assert order_view(shop, checkout_id).status == "canceled"
    assert (shop.gateway.net(leg.id), shop.levels("tea")) == (0, (5, 0, 0))


def test_readers_see_when_the_units_are_sold():
    """The reservation is confirmed in a version of its own."""
    shop = Shop(tea=5)
    checkout_id = ordered(shop, settled=False)
    before = shop.ask(shop.command(model.Read, checkout_id)).checkout
    shop.tell(checkout_id, "confirm", HoldState("confirmed"))
    after = shop.ask(shop.command(model.Read, checkout_id)).checkout
    assert (before.reservation, after.reservation) == ("pinned", "confirmed")
    assert after.version == before.version + 1


def test_a_confirm_that_stock_refuses_is_tried_again():
    """It is forward only: the step stays wanted."""
    shop = Shop(tea=5)
    checkout_id = ordered(shop, settled=False)
    before = [action.name for action in next_actions(shop.state(checkout_id))]
    shop.tell(checkout_id, "confirm", HoldState("unknown", "unknown"))
    assert [action.name for action in next_actions(shop.state(checkout_id))] == before


# ── its life ────────────────────────────────────────────────────────────────────────────────────────────

STATUSES = ("pending", "confirmed", "shipped", "delivered", "canceled")
COMMANDS = {"review": review, "ship": ship, "deliver": deliver, "amend": amend, "cancel": cancel}
WRONG, SHIPPED = "invalid_order_status", "already_shipped"
LIFE = {
    "review": ("confirmed", WRONG, WRONG, WRONG, WRONG),
    "ship": (WRONG, "shipped", WRONG, WRONG, WRONG),
    "deliver": (WRONG, WRONG, "delivered", WRONG, WRONG),
    "amend": ("pending", "confirmed", SHIPPED, SHIPPED, "order_canceled"),
    "cancel": ("canceled", "canceled", SHIPPED, SHIPPED, "canceled"),
}


def order_in(shop: Shop, status: str) -> str:
    checkout_id = ordered(shop)
    road: dict[str, tuple[Any, ...]] = {
        "pending": (),
        "confirmed": (review,),
        "shipped": (review, ship),
        "delivered": (review, ship, deliver),
        "canceled": (cancel,),
    }
    for step in road[status]:
        shop.run(step(shop, checkout_id))
    assert order_view(shop, checkout_id).status == status
    return checkout_id


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("name", COMMANDS)
def test_what_may_be_done_with_an_order_in_each_status(name, status):
    """What is done leaves an entry; what is refused changes nothing; both are kept for their key."""
    shop = Shop(model.Policy(review_above_minor=1), tea=5)
    checkout_id = order_in(shop, status)
    entries = told(shop)
    command = COMMANDS[name](shop, checkout_id)
    reply = shop.run(command)
    expected = LIFE[name][STATUSES.index(status)]
    if isinstance(reply, model.OrderReply):
        assert reply.order.status == expected
        assert shop.answer(command) == reply
    else:
        assert reply.code == expected
        assert told(shop) == entries
    shop.ask(command)
    assert shop.answer(command) == reply
    assert order_view(shop, checkout_id).status == (expected if expected in STATUSES else status)


def test_what_is_not_paid_is_not_shipped():
    """The refusal is not final: the same key ships once the money is captured."""
    shop = Shop(tea=5)
    checkout_id = ordered(shop, settled=False)
    command = ship(shop, checkout_id)
    assert shop.ask(command).code == "request_in_progress"
    shop.settle()
    assert shop.run(command).order.tracking.tracking_number == "1Z"


def test_an_order_under_review_is_captured_only_when_it_is_approved():
    """Until then it is pending, its money authorized."""
    shop = Shop(model.Policy(review_above_minor=PRICE - 1), tea=5)
    checkout_id = ordered(shop)
    view = order_view(shop, checkout_id)
    assert (view.status, view.payment_status, view.confirmed_at_ms) == ("pending", "authorized", None)
    assert resting(shop.state(checkout_id))
    shop.now_ms += 5
    assert shop.run(review(shop, checkout_id)).order.confirmed_at_ms == shop.now_ms
    assert order_view(shop, checkout_id).payment_status == "paid"


def test_a_denied_order_is_voided_and_restocked():
    shop = Shop(model.Policy(review_above_minor=0), tea=5)
    checkout_id = ordered(shop)
    reply = shop.run(review(shop, checkout_id, approve=False))
    assert (reply.order.status, reply.order.payment_status) == ("canceled", "voided")
    assert shop.levels("tea") == (5, 0, 0)


def test_an_amendment_stands_beside_what_was_confirmed():
    """`shipping_address` stays, `ship_to` is the new one, and the price may not depend on it."""
    shop = Shop(tea=5)
    checkout_id = ordered(shop)
    elsewhere = msgspec.structs.replace(HOME, sealed=b"sealed elsewhere")
    order = shop.run(amend(shop, checkout_id, elsewhere)).order
    assert (order.shipping_address, order.ship_to) == (HOME.sealed, elsewhere.sealed)
    assert [amendment.sealed for amendment in order.amendments] == [elsewhere.sealed]


def test_an_amendment_must_not_change_the_price():
    """Another country, or a tax that differs there, is refused; tables that changed since are no reason."""
    shop = Shop(tea=5)
    checkout_id = ordered(shop)
    assert shop.run(amend(shop, checkout_id, AWAY)).code == "country_changed"
    rates = (TaxRate("US", "0.05", False), TaxRate("US", "0.08", False, region="NY"))
    shop.ask(model.PutRules(command_id=b"", tax=TaxTable(rates)))
    assert shop.run(amend(shop, checkout_id, msgspec.structs.replace(HOME, region="NY"))).code == "total_changed"
    assert isinstance(shop.run(amend(shop, checkout_id, HOME)), model.OrderReply)


def test_an_order_that_is_not_there_is_not_found():
    shop = Shop(tea=5)
    assert shop.run(ship(shop, open_checkout(shop))).code == "not_found"


# ── cancel ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_canceled_order_gives_back_units_and_money_before_it_is_answered():
    """Refunded, restocked, told; another cancel, with any key, is answered alike."""
    shop = Shop(tea=5)
    checkout_id = ordered(shop)
    command = cancel(shop, checkout_id, "too many")
    assert shop.ask(command) is None
    other = cancel(shop, checkout_id)
    assert shop.ask(other) is None
    shop.settle()
    for asked in (command, other, cancel(shop, checkout_id)):
        order = shop.run(asked).order
        assert (order.status, order.payment_status) == ("canceled", "refunded")
    [leg] = shop.state(checkout_id).legs
    assert (shop.gateway.net(leg.id), shop.levels("tea")) == (0, (5, 0, 0))
    assert told(shop) == ["confirmed", "payment_captured", "canceled", "payment_refunded"]


@pytest.mark.parametrize("last", ["give_back", "refund"])
def test_a_cancel_is_answered_when_both_units_and_money_are_back(last):
    shop = Shop(tea=5)
    checkout_id = ordered(shop)
    command = cancel(shop, checkout_id)
    shop.ask(command)
    for action in sorted(next_actions(shop.state(checkout_id)), key=lambda action: last in action.name):
        assert shop.replies.get(command.command_id) is None
        shop.tell(checkout_id, action.name, shop.do(action))
    assert shop.answer(command).order.payment_status == "refunded"


@pytest.mark.parametrize("done", ["", "confirm", "capture"])
@pytest.mark.parametrize("faults", [[], ["before"], ["after"], ["late"], ["", "after"], ["busy", "late", "before"]])
def test_a_cancel_that_meets_a_capture_on_its_way(done, faults):
    """Whatever became of the capture, in the end the buyer has paid nothing and the units are back."""
    shop = Shop(tea=5)
    checkout_id = ordered(shop, settled=False)
    for action in next_actions(shop.state(checkout_id)):
        if done and done in action.name:
            shop.tell(checkout_id, action.name, shop.do(action))
    capture = next((a for a in next_actions(shop.state(checkout_id)) if isinstance(a, model.CallGateway)), None)
    shop.gateway.faults = list(faults)
    result = shop.do(capture) if capture is not None else None
    command = cancel(shop, checkout_id)
    shop.ask(command)
    if capture is not None:
        shop.tell(checkout_id, capture.name, result)
    shop.settle()
    for request in shop.gateway.late:
        shop.gateway.do(request)
    shop.settle()
    [leg] = shop.state(checkout_id).legs
    assert shop.answer(command).order.payment_status in ("voided", "refunded")
    assert shop.gateway.state(leg.id) == leg.status
    assert (shop.gateway.net(leg.id), shop.levels("tea")) == (0, (5, 0, 0))
    assert resting(shop.state(checkout_id))


def test_a_refund_that_is_refused_for_good_is_told_and_left_to_people():
    """The cancel is answered with the truth: canceled, still paid; the audit trail names it."""
    shop = Shop(tea=5)
    checkout_id = ordered(shop)
    shop.gateway.refuse = {"refund"}
    order = shop.run(cancel(shop, checkout_id)).order
    assert (order.status, order.payment_status, order.payments[0].error) == ("canceled", "paid", "refund_refused")
    assert told(shop)[-1] == "refund_refused"
    assert resting(shop.state(checkout_id))


def test_one_of_two_payments_may_be_captured_when_the_other_is_refused():
    """What was captured is refunded, what was not is voided."""
    shop = Shop(tea=5)
    complete = shop.complete(open_checkout(shop), "ok", "ok", amounts=(400,))
    shop.ask(complete)
    while shop.state(complete.checkout_id).order is None:
        shop.step(complete.checkout_id)
    first, second = (a for a in next_actions(shop.state(complete.checkout_id)) if isinstance(a, model.CallGateway))
    shop.tell(complete.checkout_id, first.name, shop.do(first))
    shop.gateway.refuse = {"capture"}
    shop.tell(complete.checkout_id, second.name, shop.do(second))
    shop.settle()
    assert [leg.status for leg in shop.state(complete.checkout_id).legs] == ["refunded", "voided"]
    assert sum(shop.gateway.net(leg.id) for leg in shop.state(complete.checkout_id).legs) == 0
