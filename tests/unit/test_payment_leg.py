"""One payment leg: what each answer of a gateway means for each intent, and what is sent next."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest

from domain import payment_leg, payments
from domain.payment_leg import Intent, PaymentError, PaymentLeg, after, intend, keyed, request
from domain.payments import (
    Accepted,
    ActionRequired,
    Declined,
    NotNow,
    Outcome,
    PaymentState,
    Retrieved,
    Unknown,
)

STEP = {"type": "redirect_to_url"}
NEW = PaymentLeg("pay_1", "card", "sandbox", "pm_card_visa", 1000)
AUTHORIZED = msgspec.structs.replace(NEW, status="authorized", intent="none", reference="auth_1")
CAPTURED = msgspec.structs.replace(AUTHORIZED, status="captured")
WAITING = msgspec.structs.replace(NEW, status="requires_action", intent="none", next_action=STEP)
UNKNOWN = msgspec.structs.replace(NEW, status="unknown", doubt=True)
SENT_TWICE = msgspec.structs.replace(UNKNOWN, resent=1)
CAPTURING = intend(AUTHORIZED, "capture")
VOIDING = intend(AUTHORIZED, "void")
REFUNDING = intend(CAPTURED, "refund")


def doubtful(leg: PaymentLeg, *, refused: bool = False) -> PaymentLeg:
    return msgspec.structs.replace(leg, doubt=True, refused=refused)


def told(leg: PaymentLeg | None) -> tuple[str, str, bool] | None:
    """What matters of a leg: status, intent, doubt."""
    return None if leg is None else (leg.status, leg.intent, leg.doubt)


def settled(status: str) -> tuple[str, str, bool]:
    return (status, "none", False)


class Case(NamedTuple):
    leg: PaymentLeg
    outcome: Outcome
    expected: tuple[str, str, bool] | None


DECLINED = Declined("insufficient_funds", True, "No funds.")
SENDING = {"authorize": NEW, "capture": CAPTURING, "void": VOIDING, "refund": REFUNDING}
ANSWERS = [
    Case(NEW, Accepted("auth_1"), settled("authorized")),
    Case(NEW, DECLINED, settled("declined")),
    Case(NEW, ActionRequired("auth_1", STEP), settled("requires_action")),
    Case(NEW, Unknown("reset"), ("unknown", "authorize", True)),
    Case(CAPTURING, Accepted("cap_1"), settled("captured")),
    Case(CAPTURING, DECLINED, ("authorized", "capture", True)),
    Case(CAPTURING, Unknown("reset"), ("authorized", "capture", True)),
    Case(VOIDING, Accepted("void_1"), settled("voided")),
    Case(VOIDING, DECLINED, ("authorized", "void", True)),
    Case(VOIDING, Unknown("reset"), ("authorized", "void", True)),
    Case(REFUNDING, Accepted("ref_1"), settled("refunded")),
    Case(REFUNDING, DECLINED, ("captured", "refund", True)),
    Case(REFUNDING, Unknown("reset"), ("captured", "refund", True)),
    *(Case(leg, NotNow(100, "conflict"), None) for leg in SENDING.values()),
    *(Case(doubtful(leg), Unknown("reset"), None) for leg in SENDING.values()),
    Case(WAITING, Unknown("reset"), None),
]

RETRIEVED: list[tuple[PaymentLeg, PaymentState, tuple[str, str, bool] | None]] = [
    (UNKNOWN, "authorized", settled("authorized")),
    (UNKNOWN, "captured", settled("authorized")),
    (UNKNOWN, "declined", settled("declined")),
    (UNKNOWN, "voided", settled("declined")),
    (UNKNOWN, "refunded", settled("declined")),
    (UNKNOWN, "requires_action", settled("requires_action")),
    (UNKNOWN, "none", ("unknown", "authorize", False)),
    (SENT_TWICE, "none", ("unknown", "void", False)),
    (WAITING, "authorized", settled("authorized")),
    (WAITING, "declined", settled("declined")),
    (WAITING, "requires_action", None),
    (WAITING, "none", None),
    (doubtful(CAPTURING), "captured", settled("captured")),
    (doubtful(CAPTURING), "authorized", ("authorized", "capture", False)),
    (doubtful(CAPTURING), "voided", settled("voided")),
    (doubtful(CAPTURING), "none", settled("voided")),
    (doubtful(CAPTURING), "refunded", settled("refunded")),
    (doubtful(CAPTURING, refused=True), "captured", settled("captured")),
    (doubtful(CAPTURING, refused=True), "authorized", settled("authorized")),
    (doubtful(VOIDING), "voided", settled("voided")),
    (doubtful(VOIDING), "declined", settled("voided")),
    (doubtful(VOIDING), "authorized", ("authorized", "void", False)),
    (doubtful(VOIDING), "none", ("authorized", "void", False)),
    (doubtful(VOIDING), "captured", ("captured", "refund", False)),
    (doubtful(VOIDING), "refunded", settled("refunded")),
    (doubtful(VOIDING, refused=True), "none", settled("voided")),
    (doubtful(VOIDING, refused=True), "authorized", settled("authorized")),
    (doubtful(VOIDING, refused=True), "requires_action", settled("voided")),
    (doubtful(VOIDING, refused=True), "captured", ("captured", "refund", False)),
    (doubtful(REFUNDING), "refunded", settled("refunded")),
    (doubtful(REFUNDING), "captured", ("captured", "refund", False)),
    (doubtful(REFUNDING), "authorized", ("authorized", "void", False)),
    (doubtful(REFUNDING), "voided", settled("voided")),
    (doubtful(REFUNDING, refused=True), "captured", settled("captured")),
    *((doubtful(leg), "processing", None) for leg in (NEW, CAPTURING, VOIDING, REFUNDING)),
]
FOUND = [Case(leg, Retrieved(state, "auth_1"), expected) for leg, state, expected in RETRIEVED]


def case_id(case: Case) -> str:
    outcome = case.outcome.state if isinstance(case.outcome, Retrieved) else type(case.outcome).__name__
    doubt = "?" if case.leg.doubt else ""
    refused = "!" if case.leg.refused else ""
    return f"{case.leg.intent}{doubt}{refused}-{case.leg.status}-{outcome}"


@pytest.mark.parametrize("case", [*ANSWERS, *FOUND], ids=case_id)
def test_what_an_answer_makes_of_a_leg(case: Case):
    """Every answer to every intent; None means that nothing is new and the question is put again."""
    assert told(after(case.leg, case.outcome)) == case.expected


@pytest.mark.parametrize("leg", [*SENDING.values()], ids=SENDING)
def test_an_unknown_outcome_is_never_sent_again_before_it_is_looked_up(leg: PaymentLeg):
    """Whatever the intent, silence is followed by a question, not by the same thing once more."""
    in_doubt = after(leg, Unknown("reset"))
    assert in_doubt is not None
    assert request(in_doubt, "chk_1", "USD") == payments.Retrieve("pay_1")


@pytest.mark.parametrize("intent", ["authorize", "capture", "void", "refund"])
def test_a_request_names_payment_intent_and_try(intent: Intent):
    """The idempotency key is the same for the same try, and another for another intent."""
    sent = request(intend(AUTHORIZED, intent), "chk_1", "USD")
    assert sent is not None
    assert not isinstance(sent, payments.Retrieve)
    assert sent.idempotency_key == f"pay_1:{intent}:0"
    assert type(sent).__name__.lower() == intent


def test_a_settled_leg_sends_nothing():
    assert request(AUTHORIZED, "chk_1", "USD") is None


def test_an_authorization_that_never_arrived_is_resent_once_under_its_key_then_voided():
    """It can happen once at most; only after a void has left its tombstone is the buyer told "declined"."""
    first = request(NEW, "chk_1", "USD")
    again = after(UNKNOWN, Retrieved("none"))
    assert again is not None
    assert request(again, "chk_1", "USD") == first
    silent = after(again, Unknown("reset"))
    assert silent is not None
    given_up = after(silent, Retrieved("none"))
    assert given_up is not None
    assert isinstance(request(given_up, "chk_1", "USD"), payments.Void)
    ended = after(given_up, Accepted(""))
    assert told(ended) == settled("declined")
    assert ended is not None
    assert ended.error is not None
    assert (ended.error.code, ended.error.retryable) == ("processing_error", True)


def test_a_capture_that_surely_did_not_happen_is_sent_under_a_new_key():
    """The gateway may remember the failure under the old one."""
    again = after(doubtful(CAPTURING), Retrieved("authorized"))
    assert again is not None
    sent = request(again, "chk_1", "USD")
    assert isinstance(sent, payments.Capture)
    assert sent.idempotency_key == "pay_1:capture:1"


def test_a_refused_capture_that_had_happened_counts_as_captured():
    """The answer to the first try was lost, the second is told "already captured": the books decide."""
    refused = after(CAPTURING, Declined("already_captured", False))
    assert refused is not None
    assert request(refused, "chk_1", "USD") == payments.Retrieve("pay_1")
    captured = after(refused, Retrieved("captured", captured_minor=1000))
    assert told(captured) == settled("captured")
    assert captured is not None
    assert captured.error is None


def test_a_refused_capture_keeps_its_reason():
    refused = after(CAPTURING, Declined("expired_card", False))
    assert refused is not None
    ended = after(refused, Retrieved("authorized"))
    assert ended is not None
    assert ended.error == PaymentError("expired_card", False)


def test_a_partial_refund_in_the_books_is_not_taken_for_a_whole_one():
    assert told(after(doubtful(REFUNDING), Retrieved("captured", captured_minor=1000, refunded_minor=999))) == (
        "captured",
        "refund",
        False,
    )
    assert told(after(doubtful(REFUNDING), Retrieved("captured", captured_minor=2000, refunded_minor=1000))) == (
        settled("refunded")
    )  # fmt: skip


def test_a_decline_tells_the_buyer_what_and_whether_to_retry():
    leg = after(NEW, DECLINED)
    assert leg is not None
    assert leg.error == PaymentError("insufficient_funds", True, "No funds.")
    found = after(UNKNOWN, Retrieved("declined", decline_code="expired_card"))
    assert found is not None
    assert found.error == PaymentError("expired_card", False)


@pytest.mark.parametrize(
    ("leg", "out"),
    [(NEW, False), (UNKNOWN, True), (WAITING, True), (AUTHORIZED, True), (CAPTURED, False)],
    ids=["pending", "unknown", "requires_action", "authorized", "captured"],
)
def test_money_that_may_be_out_must_be_given_back(leg: PaymentLeg, out: bool):
    """An unwinding voids whatever the gateway may have; what was never sent needs nothing."""
    assert leg.holds_money is out


def test_a_leg_remembers_since_when_its_idempotency_key_exists():
    """A new intent and a new try are new keys; an answer, or sending the same once more, is none."""
    first = keyed((), (NEW,), 1)
    again = keyed(first, (msgspec.structs.replace(first[0], resent=1),), 2)
    settled_, capturing = keyed(again, (AUTHORIZED,), 3), keyed((AUTHORIZED,), (CAPTURING,), 4)
    retried = keyed(capturing, (msgspec.structs.replace(capturing[0], tries=1),), 5)
    assert [legs[0].keyed_at_ms for legs in (first, again, settled_, capturing, retried)] == [1, 1, 3, 4, 5]
    assert [leg.keyed_at_ms for leg in keyed(first, (*first, NEW), 6)] == [1, 6]


def test_a_new_intent_begins_with_a_clean_slate():
    tried = msgspec.structs.replace(doubtful(CAPTURING, refused=True), tries=3)
    fresh = intend(tried, "void")
    assert (fresh.doubt, fresh.refused, fresh.tries) == (False, False, 0)
    assert payment_leg.RESENDS == 1
