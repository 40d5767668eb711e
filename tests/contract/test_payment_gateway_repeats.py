"""Payment requests that come again, too late or side by side: each has one effect, whoever takes it.

Each case runs on the book in memory and on the one in Postgres.
"""

from __future__ import annotations

import asyncio

import pytest

from domain.payments import Accepted, Declined, GatewayRequest, Outcome, Unknown
from gateways.payment import with_deadline
from gateways.sandbox import Sandbox
from gateways.sandbox_book import Book
from tests.support.gateway_calls import authorize, capture, listing, no, ok, retrieve, void

REUSED = [
    ("another amount", authorize(amount_minor=1001)),
    ("another token", authorize("pm_card_mastercard")),
    ("another payment", authorize(payment_id="pay_2")),
    ("another kind of request", capture(key="a")),
    ("another kind of request about another payment", void(key="a", payment_id="pay_2")),
]


@pytest.mark.parametrize("request_", [row[1] for row in REUSED], ids=[row[0] for row in REUSED])
async def test_a_key_belongs_to_one_request(book: Book, request_: GatewayRequest) -> None:
    """Even when the gateway has forgotten who used it first."""
    first = Sandbox(book)
    await first.call(authorize())
    for sandbox in (first, Sandbox(book)):
        outcome = await sandbox.call(request_)
        assert isinstance(outcome, Declined)
        assert outcome.code == "idempotency_key_reused"
    assert len(await first.entries()) == 1


async def test_the_same_request_many_times_at_once_has_one_effect(book: Book) -> None:
    sandboxes = [Sandbox(book) for _ in range(3)]
    outcomes = await asyncio.gather(*(s.call(authorize()) for s in sandboxes for _ in range(10)))
    assert set(map(repr, outcomes)) == {repr(Accepted("auth_1_1"))}
    assert len(await sandboxes[0].entries()) == 1


async def test_an_error_served_once_stays_once_after_a_restart(book: Book) -> None:
    request = authorize("pm_sandbox_error_once")
    assert await Sandbox(book).call(request) == Unknown("http_500")
    restarted = Sandbox(book)
    assert await restarted.call(request) == ok("auth", 2)
    assert await listing(restarted) == [("authorization", "succeeded")]


async def test_a_request_that_timed_out_is_charged_once_however_often_it_is_sent(sandbox: Sandbox) -> None:
    for _ in range(2):
        assert await sandbox.call(authorize("pm_sandbox_timeout_after")) == Unknown("no_answer")
    assert await listing(sandbox) == [("authorization", "succeeded")]
    assert await sandbox.call(capture()) == ok("cap", 2)


class Sleeper:
    """Stands for `asyncio.sleep` and lasts until `wake` is set."""

    def __init__(self) -> None:
        self.asleep = asyncio.Event()
        self.wake = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asleep.set()
        await self.wake.wait()


async def test_a_deadline_makes_silence_unknown_and_recalls_nothing(book: Book) -> None:
    """The gateway is still processing when the caller has given up, and then it has charged."""
    sleeper = Sleeper()
    sandbox = Sandbox(book, sleep=sleeper)
    assert await with_deadline(sandbox, 0).call(authorize("pm_sandbox_slow_60000")) == Unknown("no_answer")
    assert (await retrieve(sandbox)).state == "processing"
    sleeper.wake.set()
    while (now := await retrieve(sandbox)).state == "processing":
        pass
    assert now.state == "authorized"


async def test_a_void_overtakes_a_slow_authorize(book: Book) -> None:
    """The tombstone declines what is still on its way, so nothing is held once the void is accepted."""
    sleeper = Sleeper()
    sandbox = Sandbox(book, sleep=sleeper)
    slow = asyncio.create_task(sandbox.call(authorize("pm_sandbox_slow_60000")))
    await sleeper.asleep.wait()
    assert await sandbox.call(void()) == ok("void", 1)
    sleeper.wake.set()
    assert await slow == no("payment_voided")
    assert (await retrieve(sandbox)).state == "voided"


async def test_a_deadline_in_time_changes_nothing(sandbox: Sandbox) -> None:
    gateway = with_deadline(sandbox, 60)
    assert gateway.name == sandbox.name == "sandbox"
    assert await gateway.call(authorize()) == ok("auth", 1)


async def test_two_instances_never_both_capture_and_void(book: Book) -> None:
    """Each payment ends captured or voided, as one caller was told and the other was refused."""
    one, other = Sandbox(book), Sandbox(book)
    payment_ids = [f"pay_{i}" for i in range(60)]
    for i, payment_id in enumerate(payment_ids):
        # Both know the authorization when they race, so neither looks before it writes.
        await one.call(authorize(key=f"a{i}", payment_id=payment_id))
        await retrieve(other, payment_id)

    async def race(i: int, payment_id: str) -> tuple[Outcome, Outcome]:
        first, second = (one, other) if i % 2 else (other, one)
        captured, voided = await asyncio.gather(
            first.call(capture(key=f"c{i}", payment_id=payment_id)),
            second.call(void(key=f"v{i}", payment_id=payment_id)),
        )
        return captured, voided

    results = await asyncio.gather(*(race(i, payment_id) for i, payment_id in enumerate(payment_ids)))
    for payment_id, (captured, voided) in zip(payment_ids, results, strict=True):
        assert [type(captured), type(voided)] in ([Accepted, Declined], [Declined, Accepted])
        state = (await retrieve(one, payment_id)).state
        assert state == ("captured" if isinstance(captured, Accepted) else "voided")


async def test_a_stale_instance_cannot_capture_twice(book: Book) -> None:
    stale, heir = Sandbox(book), Sandbox(book)
    await stale.call(authorize())
    assert await heir.call(capture(key="c1")) == ok("cap", 2)
    assert await stale.call(capture(key="c2")) == no("already_captured")
    assert await stale.call(capture(key="c1")) == ok("cap", 2)
    assert (await retrieve(stale)).captured_minor == 1000
