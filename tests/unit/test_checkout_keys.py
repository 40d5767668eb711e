"""Keys, versions and credentials: who is answered what, how often, and for how long."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain import checkout
from domain import checkout_model as model
from domain.messages import KEY_REUSED, Replayed
from domain.shipping import ShippingTable
from tests.unit.checkout_phases import canceled, changing, lines_patch, open_checkout, paying, placed
from tests.unit.checkout_world import CARD, HOME, READY, Shop, wanted


def a_patch(shop: Shop, checkout_id: str) -> Any:
    return shop.command(model.Patch, checkout_id, fields=model.Fields())


def a_completion(shop: Shop, checkout_id: str) -> Any:
    return shop.complete(checkout_id, "ok")


def a_cancel(shop: Shop, checkout_id: str) -> Any:
    return shop.command(model.Cancel, checkout_id)


def a_confirmation(shop: Shop, checkout_id: str) -> Any:
    return shop.command(model.ConfirmPayment, checkout_id, payment_id="pay_x")


def replayed(shop: Shop, command: Any) -> Any:
    reply = shop.ask(command)
    assert isinstance(reply, Replayed)
    return msgspec.msgpack.decode(reply.body, type=model.Reply)


def test_a_completion_is_answered_alike_for_ever():
    """Byte for byte, also after the order was amended, shipped, delivered, and everything else moved on."""
    shop = Shop(tea=5)
    start = shop.start(fields=READY)
    opened = shop.run(start)
    checkout_id = start.checkout_id
    bad = shop.complete(checkout_id, "bad")
    declined = shop.run(bad)
    good = shop.complete(checkout_id, "ok")
    done = shop.run(good)
    moved = msgspec.structs.replace(HOME, sealed=b"sealed elsewhere")
    for kind, fields in (
        (model.AmendAddress, {"address": moved}),
        (model.ShipOrder, {"carrier": "ups", "tracking_number": "1Z", "actor": "ops"}),
        (model.DeliverOrder, {"actor": "ops"}),
    ):
        shop.now_ms += 1000
        assert isinstance(shop.run(shop.command(kind, checkout_id, **fields)), model.OrderReply)
    shop.crash()
    for command, first in ((start, opened), (bad, declined), (good, done)):
        assert msgspec.msgpack.encode(replayed(shop, command)) == msgspec.msgpack.encode(first)
    assert shop.ask(shop.complete(checkout_id, "ok")).order.status == "delivered"


@pytest.mark.parametrize("review_above", [None, 1])
def test_an_express_completion_is_answered_alike_for_ever(review_above):
    """Also one that was pending and has been canceled since, in the very millisecond it was placed."""
    shop = Shop(model.Policy(review_above_minor=review_above), tea=5)
    start = shop.start(express=CARD)
    first = shop.run(start)
    assert first.order.status == ("confirmed" if review_above is None else "pending")
    cancel = shop.command(model.CancelOrder, start.checkout_id, reason="changed my mind", actor="buyer")
    assert shop.run(cancel).order.status == "canceled"
    assert replayed(shop, start) == first


@pytest.mark.parametrize(
    ("reach", "command", "code"),
    [
        (placed, a_patch, "checkout_completed"),
        (placed, a_cancel, "checkout_completed"),
        (canceled, a_patch, "checkout_canceled"),
        (canceled, a_completion, "checkout_canceled"),
        (open_checkout, lambda shop, checkout_id: shop.complete(checkout_id, "ok", expected_total=1), "total_changed"),
        (open_checkout, lines_patch, "validation_failed"),
        (open_checkout, a_confirmation, "not_found"),
    ],
)
def test_every_final_refusal_of_a_keyed_command_is_kept(reach, command, code):
    """The same key gets the same "no", even when the answer would be another by now."""
    shop = Shop(tea=5)
    checkout_id = reach(shop)
    asked = command(shop, checkout_id)
    first = shop.run(asked)
    assert first.code == code
    shop.run(shop.command(model.Cancel, checkout_id))
    assert replayed(shop, asked) == first


@pytest.mark.parametrize(
    ("reach", "command", "code"),
    [
        (changing, a_patch, "request_in_progress"),
        (paying, a_completion, "completion_in_progress"),
        (
            open_checkout,
            lambda shop, checkout_id: shop.command(model.Patch, checkout_id, fields=READY, expected_version=99),
            "version_mismatch",
        ),
    ],
)
def test_a_refusal_that_is_not_final_is_judged_anew(reach, command, code):
    """ "In progress" and "stale" are not remembered: the same key gets on when its time has come."""
    shop = Shop(tea=5)
    checkout_id = reach(shop)
    asked = command(shop, checkout_id)
    assert shop.ask(asked).code == code
    shop.settle()
    assert not isinstance(shop.ask(asked), Replayed)


def test_a_command_that_is_still_owed_is_not_begun_again():
    """A second asker under the same key waits for the same answer; both get it, and only one thing happens."""
    shop = Shop(tea=5)
    start = shop.start(express=CARD)
    assert [shop.ask(start), shop.ask(start), shop.ask(start)] == [None, None, None]
    shop.settle()
    assert len(shop.states()) == 1
    assert len(shop.gateway.log) == 2


@pytest.mark.parametrize("late", [False, True], ids=["while it is owed", "after it was answered"])
def test_a_key_with_another_body_is_refused(late):
    shop = Shop(tea=5)
    start = shop.start()
    shop.ask(start)
    if late:
        shop.settle()
    assert shop.ask(msgspec.structs.replace(start, fingerprint=b"other")) == KEY_REUSED


@pytest.mark.parametrize("owner", ["g:other", "c:somebody"])
def test_a_stranger_finds_nothing(owner):
    """Neither by a new command nor by somebody's key; an operator (no owner) finds everything."""
    shop = Shop(tea=5)
    checkout_id = placed(shop)
    for command in (shop.command(model.Read, checkout_id), a_patch(shop, checkout_id)):
        assert shop.ask(msgspec.structs.replace(command, owner=owner)).code == "not_found"
    assert shop.ask(msgspec.structs.replace(shop.command(model.Read, checkout_id), owner="")).status == 200


def test_versions_rise_with_everything_a_reader_can_see():
    """The answer to a write has the version that a read right after it has; the next write may name it."""
    shop = Shop(tea=5)
    start = shop.start()
    versions = [shop.run(start).checkout.version]
    for patch in (READY, model.Fields(("line_items",), lines=wanted({"tea": 2}))):
        command = shop.command(model.Patch, start.checkout_id, fields=patch, expected_version=versions[-1])
        versions.append(shop.run(command).checkout.version)
        assert shop.ask(shop.command(model.Read, start.checkout_id)).checkout.version == versions[-1]
    assert versions == sorted(set(versions))
    before = shop.run(shop.complete(start.checkout_id, "ok", expected_version=versions[-1])).checkout
    after = shop.ask(shop.command(model.Read, start.checkout_id)).checkout
    assert (before.reservation, after.reservation) == ("pinned", "confirmed")
    assert after.version > before.version


def test_rules_are_everybodys_and_routes_say_so():
    """Tables go to all shards; a checkout's commands to the owner of its body."""
    shop = Shop(tea=5)
    put = model.PutRules(command_id=b"", shipping=ShippingTable(()))
    assert checkout.route(put) is None
    assert checkout.route(shop.start()) is not None
    assert shop.ask(put) == shop.ask(model.ReadRules(command_id=b""))


def test_an_unknown_checkout_is_not_found():
    assert Shop().ask(Shop().command(model.Read, "chk_00000000000000000000000000")).code == "not_found"
