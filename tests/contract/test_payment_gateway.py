"""What the saga may rely on at the payment port, held by the sandbox on each of its books.

Each case runs on the book in memory and on the one in Postgres; both must tell the same story.
"""

from __future__ import annotations

from typing import Any

import pytest

from domain.payments import Accepted, ActionRequired, Declined, GatewayRequest, Outcome, Retrieved, Unknown
from gateways.sandbox import Sandbox
from gateways.sandbox_book import Book
from tests.support.gateway_calls import authorize, capture, listing, no, ok, refund, retrieve, void

TOKENS: list[tuple[str, type[Outcome], str, str, list[tuple[str, str]]]] = [
    ("pm_card_visa", Accepted, "", "authorized", [("authorization", "succeeded")]),
    ("pm_card_mastercard", Accepted, "", "authorized", [("authorization", "succeeded")]),
    ("pm_sandbox_wallet", Accepted, "", "authorized", [("authorization", "succeeded")]),
    ("pm_sandbox_slow_1", Accepted, "", "authorized", [("authorization", "succeeded")]),
    ("pm_card_chargeDeclined", Declined, "card_declined", "declined", [("authorization", "declined")]),
    (
        "pm_card_chargeDeclinedInsufficientFunds",
        Declined,
        "insufficient_funds",
        "declined",
        [("authorization", "declined")],
    ),
    (
        "pm_card_authenticationRequired",
        ActionRequired,
        "",
        "requires_action",
        [("authorization", "requires_action")],
    ),
    ("pm_sandbox_paypal", ActionRequired, "", "requires_action", [("authorization", "requires_action")]),
    ("pm_sandbox_timeout_before", Unknown, "no_answer", "none", []),
    ("pm_sandbox_timeout_after", Unknown, "no_answer", "authorized", [("authorization", "succeeded")]),
    ("pm_sandbox_error_once", Unknown, "http_500", "none", []),
    ("pm_card_unheard_of", Declined, "invalid_payment_method", "declined", [("authorization", "declined")]),
    (
        "\x00 4242424242424242",
        Declined,
        "invalid_payment_method",
        "declined",
        [("authorization", "declined")],
    ),
]


@pytest.mark.parametrize(("token", "kind", "code", "state", "entries"), TOKENS, ids=[row[0] for row in TOKENS])
async def test_each_token_does_what_it_says(
    sandbox: Sandbox, token: str, kind: type[Outcome], code: str, state: str, entries: list[tuple[str, str]]
) -> None:
    """The answer, how the payment stands afterwards, and what the gateway's own book shows."""
    outcome = await sandbox.call(authorize(token))
    assert isinstance(outcome, kind)
    assert getattr(outcome, "code", getattr(outcome, "reason", "")) == code
    assert (await retrieve(sandbox)).state == state
    assert await listing(sandbox) == entries


@pytest.mark.parametrize(
    ("token", "retryable"),
    [
        ("pm_card_chargeDeclined", False),
        ("pm_card_chargeDeclinedInsufficientFunds", True),
        ("pm_card_unheard_of", False),
    ],
)
async def test_a_decline_says_whether_another_attempt_is_worth_it(
    sandbox: Sandbox, token: str, retryable: bool
) -> None:
    outcome = await sandbox.call(authorize(token))
    assert isinstance(outcome, Declined)
    now = await retrieve(sandbox)
    assert (now.decline_code, now.retryable) == (outcome.code, retryable)
    assert outcome.retryable is retryable


STORIES: dict[str, tuple[list[tuple[GatewayRequest, Outcome]], str]] = {
    "authorize, capture, refund in parts": (
        [
            (authorize(), ok("auth", 1)),
            (capture(), ok("cap", 2)),
            (refund(400, "r1"), ok("ref", 3)),
            (refund(601, "r2"), no("amount_too_large")),
            (refund(600, "r3"), ok("ref", 5)),
            (refund(1, "r4"), no("already_refunded")),
        ],
        "refunded",
    ),
    "capture less than authorized": ([(authorize(), ok("auth", 1)), (capture(1), ok("cap", 2))], "captured"),
    "capture more than authorized": (
        [(authorize(), ok("auth", 1)), (capture(1001), no("amount_too_large"))],
        "authorized",
    ),
    "capture nothing": ([(authorize(), ok("auth", 1)), (capture(0), no("amount_invalid"))], "authorized"),
    "capture twice": (
        [
            (authorize(), ok("auth", 1)),
            (capture(key="c1"), ok("cap", 2)),
            (capture(key="c2"), no("already_captured")),
        ],
        "captured",
    ),
    "capture what nobody authorized": ([(capture(), no("not_authorized"))], "none"),
    "capture what was declined": (
        [(authorize("pm_card_chargeDeclined"), no("card_declined")), (capture(), no("not_authorized"))],
        "declined",
    ),
    "void, then capture": (
        [(authorize(), ok("auth", 1)), (void(), ok("void", 2)), (capture(), no("payment_voided"))],
        "voided",
    ),
    "void twice": (
        [(authorize(), ok("auth", 1)), (void("v1"), ok("void", 2)), (void("v2"), ok("void", 2))],
        "voided",
    ),
    "void what is captured": (
        [(authorize(), ok("auth", 1)), (capture(), ok("cap", 2)), (void(), no("already_captured"))],
        "captured",
    ),
    "void before the authorize arrives": (
        [(void(), ok("void", 1)), (authorize(), no("payment_voided"))],
        "voided",
    ),
    "refund what is not captured": (
        [(authorize(), ok("auth", 1)), (refund(1), no("not_captured"))],
        "authorized",
    ),
    "authorize twice": (
        [(authorize(key="a1"), ok("auth", 1)), (authorize(key="a2"), no("already_authorized"))],
        "authorized",
    ),
    "authorize again after a decline": (
        [
            (authorize("pm_card_chargeDeclined", "a1"), no("card_declined")),
            (authorize("pm_card_visa", "a2"), ok("auth", 2)),
        ],
        "authorized",
    ),
    "authorize nothing": ([(authorize(amount_minor=0), no("amount_invalid"))], "declined"),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
async def test_what_may_follow_what(book: Book, story: tuple[list[tuple[GatewayRequest, Outcome]], str]) -> None:
    """Each story gets the same answers told once, told again, and told again to a gateway that restarted."""
    steps, state = story
    for sandbox in (teller := Sandbox(book), teller, Sandbox(book)):
        for request, expected in steps:
            outcome = await sandbox.call(request)
            assert _without_message(outcome) == expected, request
    assert (await retrieve(sandbox)).state == state


def _without_message(outcome: Outcome) -> Outcome:
    return Declined(outcome.code, outcome.retryable) if isinstance(outcome, Declined) else outcome


@pytest.mark.parametrize("token", ["pm_card_authenticationRequired", "pm_sandbox_paypal"])
async def test_the_buyers_step_decides_the_authorization(book: Book, token: str) -> None:
    """Its entry shows the result, wherever the step is taken; a repeated request gets its first answer."""
    sandbox, other = Sandbox(book), Sandbox(book)
    assert (await retrieve(other)).state == "none"
    outcome = await sandbox.call(authorize(token))
    assert isinstance(outcome, ActionRequired)
    assert outcome.next_action["type"] == "redirect_to_url"
    assert await sandbox.call(capture(key="early")) == no("not_authorized")

    now = await other.resolve("pay_1", "succeed")
    assert isinstance(now, Retrieved)
    assert (now.state, now.reference, now.authorized_minor) == ("authorized", outcome.reference, 1000)
    assert (await listing(sandbox))[0] == ("authorization", "succeeded")
    assert await sandbox.call(authorize(token)) == outcome
    assert isinstance(await sandbox.call(capture()), Accepted)


async def test_a_failed_step_declines_and_another_attempt_is_welcome(sandbox: Sandbox) -> None:
    await sandbox.call(authorize("pm_card_authenticationRequired", "a1"))
    now = await sandbox.resolve("pay_1", "fail")
    assert isinstance(now, Retrieved)
    assert (now.state, now.decline_code, now.retryable) == ("declined", "authentication_failed", True)
    assert await listing(sandbox) == [("authorization", "declined")]
    assert await sandbox.call(capture()) == no("not_authorized")
    assert isinstance(await sandbox.call(authorize(key="a2")), Accepted)


@pytest.mark.parametrize(
    "before",
    [
        [authorize()],
        [authorize("pm_card_chargeDeclined")],
        [authorize("pm_card_authenticationRequired"), void()],
    ],
    ids=["authorized", "declined", "given up"],
)
async def test_a_step_nobody_waits_for_is_refused(sandbox: Sandbox, before: list[GatewayRequest]) -> None:
    for request in before:
        await sandbox.call(request)
    state = (await retrieve(sandbox)).state
    outcome = await sandbox.resolve("pay_1", "succeed")
    assert isinstance(outcome, Declined)
    assert outcome.code == "not_pending"
    assert (await retrieve(sandbox)).state == state


async def test_a_step_of_a_payment_that_is_not_there_is_told_apart(sandbox: Sandbox) -> None:
    """It is not one whose step is over, and it leaves nothing behind."""
    outcome = await sandbox.resolve("pay_1", "succeed")
    assert isinstance(outcome, Declined)
    assert outcome.code == "not_found"
    assert (await retrieve(sandbox)).state == "none"


async def test_the_listing_has_pages_and_leaves_out_the_gateways_own_notes(sandbox: Sandbox) -> None:
    await sandbox.call(authorize("pm_sandbox_error_once"))
    await sandbox.call(authorize("pm_sandbox_error_once"))
    await sandbox.call(capture(400))
    await sandbox.call(authorize("pm_card_authenticationRequired", "a2", "pay_2"))
    await sandbox.resolve("pay_2", "succeed")
    await sandbox.call(void("v2", "pay_2"))
    await sandbox.call(authorize("4242424242424242", "a3", "pay_3"))

    found: list[dict[str, Any]] = []
    after = 0
    while page := await sandbox.entries(after, 2):
        assert len(page) <= 2
        assert all(entry.seq > after for entry in page)
        after = page[-1].seq
        found += [{field: getattr(entry, field) for field in entry.__struct_fields__} for entry in page]

    assert [(e["payment_id"], e["type"], e["status"], e["amount_minor"], e["token"]) for e in found] == [
        ("pay_1", "authorization", "succeeded", 1000, "pm_sandbox_error_once"),
        ("pay_1", "capture", "succeeded", 400, "pm_sandbox_error_once"),
        ("pay_2", "authorization", "succeeded", 1000, "pm_card_authenticationRequired"),
        ("pay_2", "void", "succeeded", 1000, "pm_card_authenticationRequired"),
        ("pay_3", "authorization", "declined", 1000, "unknown"),
    ]
    assert found[1]["authorization_id"] == found[0]["id"]
    assert {e["checkout_id"] for e in found} == {"chk_1"}
    assert {e["currency"] for e in found} == {"USD"}
