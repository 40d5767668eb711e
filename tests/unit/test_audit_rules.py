"""The audit's rules: what they let pass at any instant of a healthy engine, and what they name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import ids
from domain.audit import StockTally, Violation
from domain.audit_money import Fact, add_up, book_violations, leg_violations, settlement_violations
from domain.audit_orders import row_violations
from domain.checkout_state import Buyer, Checkout, Wanted
from domain.ledger_events import Account, Hold
from domain.order import Order
from domain.payment_leg import PaymentLeg, intend
from domain.payments import Authorize, BookEntry, Capture, Refund, Void
from domain.pricing import PricedLine, Total
from gateways.sandbox_book import Resolve, decide, standing
from tests.support.placed_order import BODY, CHECKOUT, NOW_MS, ORDER, PAYMENT, TOTAL, leg, placed, rows_of

BOUND_MS = 10_000
replace = msgspec.structs.replace


def codes(violations: Sequence[Violation]) -> list[str]:
    return sorted(violation.code for violation in violations)


# ── stock ───────────────────────────────────────────────────────────────────────────────────────────────


def hold(status: str, legs: dict[str, int] | None = None, name: str = BODY, **changes: Any) -> Hold:
    found = Hold(name, status, 1, legs or {"sku:A": 2}, NOW_MS)  # type: ignore[arg-type]
    return replace(found, **changes)


def tallied(
    accounts: dict[str, Account],
    holds: Sequence[Hold],
    states: Sequence[Checkout],
    *,
    late: bool = True,
    now_ms: int = NOW_MS,
) -> list[str]:
    """The codes of everything the tally finds in a shop."""
    tally = StockTally()
    found: list[Violation] = []
    for sku, figures in accounts.items():
        tally.account(f"sku:{sku}", figures)
    for each in holds:
        found += tally.hold(each, now_ms, 0, BOUND_MS)
    for state in states:
        found += tally.checkout(state, late=late)
    return codes([*found, *tally.leftovers(), *tally.totals(orders_known=True)])


PAYING = placed(phase="paying", order=None, steps=(), legs=(leg("pending", "authorize"),))
UNCONFIRMED = placed(steps=())
CANCELED_ORDER = placed(order=Order(ORDER, NOW_MS, "canceled", NOW_MS), legs=(leg("refunded"),))
TICKET = f"r{BODY}"

INSTANTS = [
    ("nothing", Account(5), [], []),
    ("held, for a buyer who types", Account(5, 0, 2), [hold("held")], [placed(phase="open", order=None)]),
    ("pinned, while money moves", Account(5, 0, 2), [hold("pinned")], [PAYING]),
    ("placed, not sold yet", Account(5, 0, 2), [hold("pinned")], [UNCONFIRMED]),
    ("placed, sold, and only stock knows", Account(5, 2), [hold("confirmed")], [UNCONFIRMED]),
    ("placed, sold and forgotten, and its coordinator was away", Account(5, 2), [], [UNCONFIRMED]),
    ("placed and sold", Account(5, 2), [hold("confirmed")], [placed(steps=("confirm",))]),
    ("placed, sold and forgotten", Account(5, 2), [hold("confirmed", forgotten_at_ms=NOW_MS)], [placed()]),
    ("placed, sold, long ago", Account(5, 2), [], [placed()]),
    ("canceled, not given back yet", Account(5, 2), [hold("confirmed")], [CANCELED_ORDER]),
    (
        "canceled, given back, and only stock knows",
        Account(5),
        [hold("confirmed"), hold("returned", name=TICKET)],
        [CANCELED_ORDER],
    ),
    ("canceled and given back", Account(5), [], [replace(CANCELED_ORDER, steps=("confirm", "give_back"))]),
    ("released, not forgotten", Account(5), [hold("released")], [placed(phase="canceled", order=None)]),
]


@pytest.mark.parametrize(("figures", "holds", "states"), [row[1:] for row in INSTANTS], ids=[r[0] for r in INSTANTS])
def test_what_a_healthy_shop_shows_is_no_finding(figures: Account, holds: list[Hold], states: list[Checkout]) -> None:
    """At each instant of an order's life, as long as the bound is not over."""
    assert tallied({"A": figures}, holds, states, late=False) == []


STOCK_WRONGS = [
    ("oversold", Account(1, 2), [], [placed()], ["account_out_of_bounds"]),
    ("reserved for nobody", Account(5, 0, 1), [], [], ["held_mismatch"]),
    ("sold to nobody", Account(5, 1), [], [], ["sold_mismatch"]),
    ("an order of units that were not sold", Account(5), [], [placed()], ["sold_mismatch"]),
    ("an order whose hold is gone unsold", Account(5), [], [UNCONFIRMED], ["sold_mismatch"]),
    ("a hold without a checkout", Account(5, 0, 2), [hold("held")], [], ["hold_orphaned"]),
    (
        "a hold whose checkout was canceled",
        Account(5, 0, 2),
        [hold("held")],
        [placed(phase="canceled", order=None)],
        ["hold_orphaned"],
    ),
    (
        "a hold whose order was sold",
        Account(5, 2, 2),
        [hold("pinned")],
        [placed()],
        ["hold_orphaned"],
    ),
    ("money moves for what nobody holds", Account(5), [], [PAYING], ["hold_missing"]),
    ("money moves for what may expire", Account(5, 0, 2), [hold("held")], [PAYING], ["hold_missing"]),
    ("never sold", Account(5, 0, 2), [hold("pinned")], [UNCONFIRMED], ["units_not_confirmed"]),
    ("never given back", Account(5, 2), [], [CANCELED_ORDER], ["units_not_returned"]),
]


@pytest.mark.parametrize(
    ("figures", "holds", "states", "expected"), [r[1:] for r in STOCK_WRONGS], ids=[r[0] for r in STOCK_WRONGS]
)
def test_what_cannot_be_in_stock_is_named(
    figures: Account, holds: list[Hold], states: list[Checkout], expected: list[str]
) -> None:
    assert tallied({"A": figures}, holds, states) == expected


def test_an_account_that_only_holds_name_is_missing() -> None:
    assert tallied({}, [hold("pinned")], [PAYING]) == ["account_missing"]


def test_a_hold_over_several_shards_is_one_hold() -> None:
    """Each shard has its own part under the same name, sold by one and not yet by the other."""
    wanted = (Wanted("A", 2), Wanted("B", 1))
    state = replace(UNCONFIRMED, wanted=wanted)
    parts = [hold("confirmed", {"sku:A": 2}), hold("pinned", {"sku:B": 1})]
    assert tallied({"A": Account(5, 2), "B": Account(5, 0, 1)}, parts, [state], late=False) == []


@pytest.mark.parametrize(("late_ms", "expected"), [(69_999, []), (70_001, ["hold_overdue"])])
def test_an_expired_hold_has_a_minute_of_grace_and_the_bound(late_ms: int, expected: list[str]) -> None:
    states = [placed(phase="open", order=None, steps=())]
    assert tallied({"A": Account(5, 0, 2)}, [hold("held")], states, now_ms=NOW_MS + late_ms) == expected


# ── orders ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_rows_of_an_order_agree_with_its_state() -> None:
    assert codes([*row_violations(rows_of(placed()), placed())]) == []
    assert codes([*row_violations(rows_of(placed()), None)]) == []


def _body(**changes: Any) -> str:
    """The body of an order whose saga confirmed something else."""
    return rows_of(placed(**changes)).body


ORDER_WRONGS = [
    ("checksum", {"intact": False}, ["order_altered"]),
    ("total", {"total": 2499}, ["order_altered", "order_totals_wrong"]),
    ("owner", {"owner": "g:thief"}, ["order_altered"]),
    ("number", {"number": "AAAA-AAAA-AAAA"}, ["order_altered"]),
    ("checkout", {"checkout_id": ids.make("chk", NOW_MS, BODY[::-1])}, ["order_altered"]),
    ("time", {"placed_at_ms": NOW_MS + 1}, ["order_altered"]),
    ("unreadable body", {"body": "[]"}, ["order_altered"]),
    ("buyer", {"body": _body(buyer=Buyer(b"another", "hash"))}, ["order_altered"]),
    ("payment's amount", {"body": _body(legs=(replace(leg(), amount=1),))}, ["order_altered", "order_totals_wrong"]),
    (
        "line's amount",
        {"body": _body(lines=(PricedLine("li_1", "A", "The A", 2, 1000, 1999),))},
        ["order_altered", "order_totals_wrong"],
    ),
    (
        "subtotal",
        {"body": _body(totals=(Total("subtotal", 1999), Total("fulfillment", 501), Total("total", 2500)))},
        ["order_altered", "order_totals_wrong"],
    ),
    ("no state", {"state": None, "status": None, "payment_status": None, "version": None}, ["order_state_missing"]),
    ("unreadable state", {"state": "[]"}, ["order_state_altered"]),
    ("status", {"status": "shipped"}, ["order_state_altered"]),
    ("payment status", {"payment_status": "refunded"}, ["order_state_altered"]),
    ("a trail with a gap", {"entries": []}, ["order_event_missing"]),
    ("a trail with too much", {"entries": [1, 2]}, ["order_event_unexpected"]),
]


@pytest.mark.parametrize(("changes", "expected"), [r[1:] for r in ORDER_WRONGS], ids=[r[0] for r in ORDER_WRONGS])
def test_an_order_that_is_not_what_was_confirmed_is_named(changes: dict[str, Any], expected: list[str]) -> None:
    assert codes([*row_violations(rows_of(placed(), **changes), placed())]) == expected


def test_tax_that_prices_contain_is_not_added() -> None:
    totals = (Total("subtotal", 2000), Total("fulfillment", 500), Total("tax", 399, True), Total("total", 2500))
    state = placed(totals=totals)
    assert codes([*row_violations(rows_of(state), state)]) == []


def test_a_finding_shows_no_sealed_data() -> None:
    """Who reads the audit need not know whose order it is."""
    state = placed(order=Order(ORDER, NOW_MS, "confirmed", NOW_MS, ship_to=b"sealed address"))
    details = [violation.detail for violation in row_violations(rows_of(placed()), state)]
    assert details
    assert not any("sealed" in detail for detail in details)


# ── money ───────────────────────────────────────────────────────────────────────────────────────────────


def fact(n: int, kind: str, status: str = "succeeded", amount_minor: int = TOTAL) -> Fact:
    return Fact(PAYMENT, n, kind, status, amount_minor, "USD", CHECKOUT)


BOOKS = {
    "none": [],
    "declined": [fact(1, "authorization", "declined")],
    "requires_action": [fact(1, "authorization", "requires_action")],
    "authorized": [fact(1, "authorization")],
    "voided": [fact(1, "authorization"), fact(2, "void")],
    "captured": [fact(1, "authorization"), fact(2, "capture")],
    "refunded": [fact(1, "authorization"), fact(2, "capture"), fact(3, "refund")],
}

# What the book may say of a payment as we know it; anything else is a finding.
AGREEMENTS = [
    (leg("pending", "authorize"), {"none", "declined", "requires_action", "authorized"}),
    (leg("unknown", "authorize", doubt=True), {"none", "declined", "requires_action", "authorized"}),
    (leg("requires_action"), {"requires_action", "authorized", "declined"}),
    (leg("authorized"), {"authorized"}),
    (leg("authorized", "capture"), {"authorized", "captured"}),
    (leg("authorized", "void"), {"none", "declined", "requires_action", "authorized", "voided"}),
    (leg("captured"), {"captured"}),
    (leg("captured", "refund"), {"captured", "refunded"}),
    (leg("refunded"), {"refunded"}),
    (leg("voided"), {"voided", "declined", "none"}),
    (leg("declined"), {"voided", "declined", "none", "refunded"}),
]


@pytest.mark.parametrize(
    ("ours", "agreeing"), AGREEMENTS, ids=[f"{row[0].status}-{row[0].intent}" for row in AGREEMENTS]
)
def test_the_book_may_be_ahead_of_us_but_only_by_what_we_asked_for(ours: PaymentLeg, agreeing: set[str]) -> None:
    found = {state: codes([*leg_violations(placed(), ours, add_up(facts))]) for state, facts in BOOKS.items()}
    assert {state for state, named in found.items() if not named} == agreeing
    assert all(len(named) == 1 for state, named in found.items() if state not in agreeing)


def test_a_capture_may_arrive_while_its_canceled_order_is_voided() -> None:
    """It was asked for before the order was canceled. Of an order in force, or once the void is done, it may not."""
    book = add_up(BOOKS["captured"])
    assert codes([*leg_violations(CANCELED_ORDER, leg("authorized", "void"), book)]) == []
    assert codes([*leg_violations(placed(), leg("authorized", "void"), book)]) == ["capture_unexpected"]
    assert codes([*leg_violations(CANCELED_ORDER, leg("voided"), book)]) == ["capture_unexpected"]


MONEY_CODES = [
    ("captured", "none", "capture_missing"),
    ("captured", "authorized", "capture_missing"),
    ("authorized", "none", "authorization_missing"),
    ("voided", "authorized", "authorization_open"),
    ("declined", "requires_action", "authorization_open"),
    ("voided", "captured", "capture_unexpected"),
    ("refunded", "captured", "refund_missing"),
    ("captured", "refunded", "payment_mismatch"),
]


@pytest.mark.parametrize(("ours", "theirs", "code"), MONEY_CODES)
def test_a_disagreement_has_a_name_of_its_own(ours: str, theirs: str, code: str) -> None:
    assert codes([*leg_violations(placed(), leg(ours), add_up(BOOKS[theirs]))]) == [code]


BOOK_WRONGS = [
    ([*BOOKS["captured"], fact(3, "capture")], ["captured_twice"]),
    ([fact(1, "authorization", amount_minor=1), fact(2, "capture")], ["captured_too_much"]),
    ([fact(1, "capture")], ["captured_too_much"]),
    ([*BOOKS["voided"], fact(3, "capture")], ["captured_though_voided"]),
    ([*BOOKS["captured"], fact(3, "refund", amount_minor=TOTAL + 1)], ["refunded_too_much"]),
    ([fact(1, "authorization"), fact(3, "refund", amount_minor=0)], ["book_entry_missing"]),
]


@pytest.mark.parametrize(("facts", "expected"), BOOK_WRONGS)
def test_a_book_that_no_gateway_would_write_is_named(facts: list[Fact], expected: list[str]) -> None:
    assert codes([*book_violations(PAYMENT, add_up(facts))]) == expected


SETTLEMENTS = [
    ("captured", placed(), []),
    ("not captured", placed(legs=(intend(leg("authorized"), "capture"),)), ["order_not_captured"]),
    ("under review", placed(order=Order(ORDER, NOW_MS, "pending", None), legs=(leg("authorized"),)), []),
    ("canceled, not refunded", replace(CANCELED_ORDER, legs=(leg("captured"),)), ["money_not_returned"]),
    ("canceled and refunded", CANCELED_ORDER, []),
    (
        "given up, still authorized",
        placed(phase="canceled", order=None, legs=(leg("authorized"),)),
        ["money_not_returned"],
    ),
    ("being paid", PAYING, []),
    ("nothing to pay", placed(legs=()), []),
]


@pytest.mark.parametrize(("state", "expected"), [r[1:] for r in SETTLEMENTS], ids=[r[0] for r in SETTLEMENTS])
def test_money_that_should_have_moved_by_now_is_named(state: Checkout, expected: list[str]) -> None:
    """And nothing is, as long as the bound is not over."""
    assert codes([*settlement_violations(state, late=True, confirmed_late=True)]) == expected
    assert codes([*settlement_violations(state, late=False, confirmed_late=False)]) == []


TOKENS = [
    "pm_card_visa",
    "pm_card_chargeDeclined",
    "pm_card_authenticationRequired",
    "pm_sandbox_error_once",
]
REQUESTS = st.one_of(
    st.builds(lambda token, amount: ("authorize", token, amount), st.sampled_from(TOKENS), st.integers(0, 3)),
    st.builds(lambda amount: ("capture", "", amount), st.integers(0, 4)),
    st.builds(lambda amount: ("refund", "", amount), st.integers(0, 4)),
    st.sampled_from([("void", "", 0), ("resolve", "yes", 0), ("resolve", "no", 0)]),
)


def _request(n: int, asked: tuple[str, str, int]) -> Any:
    kind, word, amount_minor = asked
    match kind:
        case "authorize":
            return Authorize(PAYMENT, CHECKOUT, amount_minor, "USD", word, "card", f"k{n}")
        case "capture":
            return Capture(PAYMENT, amount_minor, f"k{n}")
        case "refund":
            return Refund(PAYMENT, amount_minor, f"k{n}")
        case "void":
            return Void(PAYMENT, f"k{n}")
        case _:
            return Resolve(PAYMENT, word == "yes")


@given(st.lists(REQUESTS, max_size=12))
def test_whatever_is_asked_of_the_sandbox_its_book_adds_up(asked: list[tuple[str, str, int]]) -> None:
    """Read without the gateway's own rules, the book says what the gateway says, and never what cannot be."""
    history: list[BookEntry] = []
    for n, request in enumerate(asked):
        decided = decide(history, None, _request(n, request), NOW_MS)
        if isinstance(decided, BookEntry):
            history.append(decided)
    book = add_up(
        [Fact(e.payment_id, e.n, e.type, e.status, e.amount_minor, e.currency, e.checkout_id) for e in history]
    )
    assert codes([*book_violations(PAYMENT, book)]) == []
    now = standing(history)
    assert (book.state, book.captured, book.refunded) == (now.state, now.captured_minor, now.refunded_minor)
