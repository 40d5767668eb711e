"""The checker of chaos: it passes what is right, rejects each doctored history, and never passes what it cannot see."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.chaos.checker import Answer, Buyer, Entry, Level, Order, Reads, check

SKU, UNITS, PRICE = "tea", 2, 500
LOST, BUSY = Answer(0), Answer(503, "busy")
REFUSED = Answer(409, "out_of_stock")
BUYERS = (
    Buyer("ann", SKU, 1, (LOST, BUSY, Answer(200, order_id="ord_1"), Answer(200, order_id="ord_1"))),
    Buyer("bob", SKU, 1, (LOST, Answer(200, order_id="ord_2"))),
    Buyer("cyd", SKU, 1, (Answer(202), REFUSED, REFUSED)),
)
ORDERS = tuple(Order(f"ord_{n}", f"chk_{n}", "confirmed", PRICE, {SKU: 1}) for n in (1, 2))
BOOK = (
    *(Entry("authorize", f"chk_{n}", f"pay_{n}", PRICE) for n in (1, 2, 3)),
    *(Entry("capture", f"chk_{n}", f"pay_{n}", PRICE) for n in (1, 2)),
    Entry("void", "chk_3", "pay_3", PRICE),
)
LEVEL = Level(received=UNITS, on_hand=0, reserved=0, available=0, sold=UNITS)
READS = Reads(ORDERS, BOOK, {SKU: LEVEL}, ())

History = tuple[tuple[Buyer, ...], Reads]


def told(*answers: Answer) -> History:
    """As if the first buyer had been told this."""
    return (replace(BUYERS[0], answers=answers), *BUYERS[1:]), READS


def orders(*found: Order) -> History:
    return BUYERS, replace(READS, orders=found)


def book(*found: Entry) -> History:
    return BUYERS, replace(READS, book=found)


def level(**figures: int) -> History:
    return BUYERS, replace(READS, levels={SKU: replace(LEVEL, **figures)})


DOCTORED: dict[str, tuple[History, str]] = {
    "an acknowledged order is missing": (orders(ORDERS[0]), "bob: order ord_2 is lost"),
    "an order is there twice": (orders(*ORDERS, ORDERS[1]), "order ord_2 has 2 orders"),
    "a checkout has two orders": (
        orders(ORDERS[0], replace(ORDERS[1], checkout_id="chk_1")), "checkout chk_1 has 2 orders",
    ),
    "an acknowledged order is canceled": (
        orders(ORDERS[0], replace(ORDERS[1], status="canceled")), "bob: order ord_2 is canceled",
    ),
    "an order has other units": (orders(ORDERS[0], replace(ORDERS[1], units={SKU: 2})), "order ord_2 has {"),
    "an order that nobody was told of": (
        told(REFUSED), "order ord_1 was acknowledged to nobody",
    ),
    "one key, two orders": (
        told(Answer(200, order_id="ord_1"), Answer(200, order_id="ord_3")), "ann: answered in several ways",
    ),
    "sold, and then refused": (told(Answer(200, order_id="ord_1"), REFUSED), "ann: answered in several ways"),
    "one order, two buyers": (told(Answer(200, order_id="ord_2")), "acknowledged to ['ann', 'bob']"),
    "one key, two histories": (((*BUYERS, BUYERS[0]), READS), "ann: 2 histories"),
    "two captures": (book(*BOOK, Entry("capture", "chk_1", "pay_1", PRICE)), "chk_1: 2 captures"),
    "two captures, one given back": (
        book(*BOOK, Entry("capture", "chk_1", "pay_9", PRICE), Entry("refund", "chk_1", "pay_9", PRICE)),
        "chk_1: 2 captures",
    ),
    "an order that is not paid": (book(*BOOK[:4], BOOK[5]), "chk_2: 0 paid, 500 due"),
    "an order that is paid back": (
        book(*BOOK, Entry("refund", "chk_2", "pay_2", PRICE)), "chk_2: 0 paid, 500 due",
    ),
    "money for nothing": (book(*BOOK, Entry("capture", "chk_3", "pay_3", PRICE)), "chk_3: 500 paid, 0 due"),
    "money held for nothing": (book(*BOOK[:5]), "chk_3: pay_3 is still authorized"),
    "too little captured": (
        book(*BOOK[:4], replace(BOOK[4], amount=1), BOOK[5]), "chk_2: 1 paid, 500 due",
    ),
    "oversold by the orders": (level(received=1, sold=1), "tea: oversold: 2 in orders"),
    "oversold by the figures": (level(on_hand=-1, available=-1, sold=3), "tea: oversold"),
    "a unit vanished": (level(received=3), "tea: the figures do not add up"),
    "sold without an order": (level(received=3, sold=3), "tea: 3 sold, 2 in orders"),
    "held by nobody": (level(received=3, on_hand=1, reserved=1), "tea: 1 still reserved"),
    "named by the audit": ((BUYERS, replace(READS, audit=("fence",))), "audit: fence"),
}  # fmt: skip

UNSEEN: dict[str, tuple[History, str]] = {
    "a buyer without a final answer": (told(LOST, BUSY), "ann: no final answer"),
    "a buyer who is still being served": (told(Answer(409, "request_in_progress")), "ann: no final answer"),
    "a buyer who was never answered": (told(), "ann: no final answer"),
    "nobody": (((), Reads((), (), {}, ())), "nobody bought"),
    "no orders": ((BUYERS, replace(READS, orders=None)), "not read: orders"),
    "no book": ((BUYERS, replace(READS, book=None)), "not read: book"),
    "no audit": ((BUYERS, replace(READS, audit=None)), "not read: audit"),
    "no stock": ((BUYERS, replace(READS, levels={})), "not read: stock of tea"),
    "stock that could not be read": ((BUYERS, replace(READS, levels={SKU: None})), "not read: stock of tea"),
}


def test_what_is_right_passes() -> None:
    """Lost answers on the way are nobody's fault, once the final answer is known."""
    verdict = check(BUYERS, READS)
    assert (verdict.outcome, verdict.violations, verdict.unknown) == ("pass", [], [])


@pytest.mark.parametrize("name", DOCTORED)
def test_a_doctored_history_is_rejected(name: str) -> None:
    history, named = DOCTORED[name]
    verdict = check(*history)
    assert verdict.outcome == "fail"
    assert [violation for violation in verdict.violations if named in violation], verdict.violations


@pytest.mark.parametrize("name", UNSEEN)
def test_what_was_not_seen_is_unknown(name: str) -> None:
    """Neither passed nor blamed: an order of somebody who does not know yet is no violation."""
    history, named = UNSEEN[name]
    verdict = check(*history)
    assert (verdict.outcome, verdict.violations) == ("unknown", [])
    assert [missing for missing in verdict.unknown if named in missing], verdict.unknown


@pytest.mark.parametrize("name", UNSEEN)
def test_what_was_not_seen_excuses_nothing_that_was(name: str) -> None:
    buyers, reads = UNSEEN[name][0]
    twice = Buyer("dan", SKU, 1, (Answer(200, order_id="ord_8"), Answer(200, order_id="ord_9")))
    assert check((*buyers, twice), reads).outcome == "fail"
