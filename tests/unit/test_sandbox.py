"""The sandbox gateway without a database: the rules of its book, its pace, its faults and its grouping."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.payments import (
    Accepted,
    Authorize,
    BookEntry,
    Capture,
    Declined,
    NotNow,
    Outcome,
    Refund,
    Retrieve,
    Retrieved,
    Unknown,
    Void,
)
from gateways.sandbox import CONFLICT_LIMIT, TICK_MS, Sandbox, SandboxSettings, parse_latency_ms
from gateways.sandbox_book import MemoryBook, Request, Resolve, decide, idempotency_key, outcome_of, standing


def authorize(payment_id: str = "pay_1", token: str = "pm_card_visa", key: str = "") -> Authorize:
    return Authorize(payment_id, "chk_1", 1000, "USD", token, "card", key or f"{payment_id}:authorize")


class Sleeper:
    """Stands for `asyncio.sleep`: notes what is asked for and lasts until `wake` is set."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []
        self.asleep = asyncio.Event()
        self.wake = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked_s.append(seconds)
        self.asleep.set()
        await self.wake.wait()


class CountingBook(MemoryBook):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.group_sizes: list[int] = []

    async def recall(self, payment_ids: Sequence[str], keys: Sequence[str]) -> list[BookEntry]:
        self.reads += 1
        return await super().recall(payment_ids, keys)

    async def append(self, entries: Sequence[BookEntry]) -> Collection[str]:
        self.group_sizes.append(len(entries))
        return await super().append(entries)


# The rules, as one growing history.


def play(history: list[BookEntry], request: Request) -> Outcome:
    key = idempotency_key(request)
    earlier = next((fact for fact in history if key and fact.idempotency_key == key), None)
    decided = decide(history, earlier, request, now_ms=0)
    if isinstance(decided, BookEntry):
        history.append(decided)
        return outcome_of(decided)
    return decided


TOKENS = [
    "pm_card_visa",
    "pm_card_chargeDeclined",
    "pm_card_authenticationRequired",
    "pm_sandbox_error_once",
    "pm_sandbox_slow_20",
    "no such token",
]
KEYS = st.sampled_from(["k1", "k2", "k3", "k4"])
AMOUNTS = st.sampled_from([-1, 0, 300, 700, 1000, 1001])
REQUESTS = st.one_of(
    st.builds(
        Authorize,
        payment_id=st.just("pay_1"),
        checkout_id=st.just("chk_1"),
        amount_minor=AMOUNTS,
        currency=st.just("USD"),
        token=st.sampled_from(TOKENS),
        method=st.just("card"),
        idempotency_key=KEYS,
    ),
    st.builds(Capture, payment_id=st.just("pay_1"), amount_minor=AMOUNTS, idempotency_key=KEYS),
    st.builds(Void, payment_id=st.just("pay_1"), idempotency_key=KEYS),
    st.builds(Refund, payment_id=st.just("pay_1"), amount_minor=AMOUNTS, idempotency_key=KEYS),
    st.builds(Resolve, payment_id=st.just("pay_1"), succeed=st.booleans()),
    st.builds(Retrieve, payment_id=st.just("pay_1")),
)


@given(st.lists(REQUESTS, max_size=12))
def test_no_order_of_requests_moves_more_than_was_authorized(requests: list[Request]) -> None:
    """Captured ≤ authorized, refunded ≤ captured, one capture, and never a capture beside a void."""
    history: list[BookEntry] = []
    for request in requests:
        play(history, request)
        now = standing(history)
        assert 0 <= now.refunded_minor <= now.captured_minor <= now.authorized_minor
        spent = [f for f in history if f.type in ("capture", "void") and f.status == "succeeded"]
        assert len(spent) <= 1
    assert [fact.n for fact in history] == list(range(1, len(history) + 1))


@given(st.lists(REQUESTS, max_size=12))
def test_a_repeated_request_gets_its_first_answer(requests: list[Request]) -> None:
    """Whatever came between; only an error served once is answered anew, because it used up no key."""
    history: list[BookEntry] = []
    first: dict[bytes | str, tuple[Request, Outcome]] = {}
    for request in requests:
        outcome = play(history, request)
        key = idempotency_key(request)
        if key and any(fact.idempotency_key == key for fact in history):
            first.setdefault(key, (request, outcome))
    for request, outcome in first.values():
        length = len(history)
        assert play(history, request) == outcome
        assert len(history) == length


# Latency, outages and silence.


@pytest.mark.parametrize(
    ("text", "expected"), [("0", (0, 0)), ("500", (500, 500)), ("1000-3000", (1000, 3000)), (" 7 ", (7, 7))]
)
def test_latency_is_one_number_or_a_range(text: str, expected: tuple[int, int]) -> None:
    assert parse_latency_ms(text) == expected


@pytest.mark.parametrize("text", ["", "-5", "3000-1000", "1.5", "1s", "1-2-3", "٣", "10000000"])
def test_a_wrong_latency_is_refused_and_changes_nothing(text: str) -> None:
    sandbox = Sandbox(MemoryBook(), latency_ms="20")
    with pytest.raises(ValueError, match="latency_ms must"):
        sandbox.configure(latency_ms=text, mode="down")
    assert sandbox.settings == SandboxSettings("up", "20")


async def test_latency_is_drawn_from_the_range_and_all_calls_share_it() -> None:
    """Authorize, capture, void, refund and retrieve alike; a call wakes on the grid, never early."""
    sleeper = Sleeper()
    sleeper.wake.set()
    sandbox = Sandbox(MemoryBook(), latency_ms="1000-3000", sleep=sleeper, rng=random.Random(7))
    for request in (authorize(), Capture("pay_1", 1000, "c"), Refund("pay_1", 1, "r"), Retrieve("pay_1")):
        await sandbox.call(request)
    assert len(sleeper.asked_s) == 4
    assert len(set(sleeper.asked_s)) > 1
    assert all(1.0 <= asked_s <= 3.0 + TICK_MS / 1000 for asked_s in sleeper.asked_s)


async def test_a_slow_token_sets_its_own_latency() -> None:
    sleeper = Sleeper()
    sleeper.wake.set()
    sandbox = Sandbox(MemoryBook(), sleep=sleeper)
    assert isinstance(await sandbox.call(authorize(token="pm_sandbox_slow_20000")), Accepted)
    (asked_s,) = sleeper.asked_s
    assert 20.0 <= asked_s <= 20.0 + TICK_MS / 1000


async def test_no_latency_means_no_sleep() -> None:
    sleeper = Sleeper()
    sandbox = Sandbox(MemoryBook(), latency_ms="0", sleep=sleeper)
    assert isinstance(await sandbox.call(authorize()), Accepted)
    assert sleeper.asked_s == []


async def test_calls_due_together_share_one_write() -> None:
    sleeper = Sleeper()
    book = CountingBook()
    sandbox = Sandbox(book, latency_ms="500", sleep=sleeper)
    calls = [asyncio.create_task(sandbox.call(authorize(f"pay_{i}"))) for i in range(50)]
    await sleeper.asleep.wait()
    sleeper.wake.set()
    assert all(isinstance(outcome, Accepted) for outcome in await asyncio.gather(*calls))
    assert len(book.group_sizes) <= len(sleeper.asked_s) < 50


@pytest.mark.parametrize(("mode", "reason"), [("down", "connection_refused"), ("error", "http_500")])
async def test_an_outage_is_unknown_to_the_caller_and_writes_nothing(mode: str, reason: str) -> None:
    book = CountingBook()
    sandbox = Sandbox(book)
    sandbox.configure(mode=mode)  # type: ignore[arg-type]
    for request in (authorize(), Capture("pay_1", 1, "c"), Void("pay_1", "v"), Retrieve("pay_1")):
        assert await sandbox.call(request) == Unknown(reason)
    assert book.group_sizes == []
    sandbox.configure(mode="up")
    assert isinstance(await sandbox.call(authorize()), Accepted)


async def test_closing_resets_calls_that_have_not_reached_the_book() -> None:
    sleeper = Sleeper()
    book = CountingBook()
    sandbox = Sandbox(book, latency_ms="500", sleep=sleeper)
    call = asyncio.create_task(sandbox.call(authorize()))
    await sleeper.asleep.wait()
    await sandbox.close()
    assert await call == Unknown("connection_reset")
    assert book.group_sizes == []


# Grouping, memory and lost races.


async def test_concurrent_calls_share_writes() -> None:
    """What arrives while the book writes is the next group, and an authorize is never looked up first."""
    book = CountingBook()
    sandbox = Sandbox(book)
    outcomes = await asyncio.gather(*(sandbox.call(authorize(f"pay_{i}")) for i in range(500)))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    outcomes = await asyncio.gather(*(sandbox.call(Capture(f"pay_{i}", 1000, f"pay_{i}:capture")) for i in range(500)))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert sum(book.group_sizes) == 1000
    assert len(book.group_sizes) <= 4
    assert book.reads == 0


async def test_calls_for_one_payment_are_judged_one_after_another() -> None:
    book = CountingBook()
    sandbox = Sandbox(book)
    authorized, captured, voided = await asyncio.gather(
        sandbox.call(authorize()), sandbox.call(Capture("pay_1", 1000, "c")), sandbox.call(Void("pay_1", "v"))
    )
    assert (authorized, captured) == (Accepted("auth_1_1"), Accepted("cap_1_2"))
    assert voided == Declined("already_captured", retryable=False)
    assert book.group_sizes == [1, 1, 1]


async def test_forgotten_payments_are_read_again() -> None:
    """Memory is bounded and holds no truth: with room for one payment everything still holds."""
    book = CountingBook()
    sandbox = Sandbox(book, remembered_payments=1)
    payment_ids = [f"pay_{i}" for i in range(20)]
    first = await asyncio.gather(*(sandbox.call(authorize(p)) for p in payment_ids))
    again = await asyncio.gather(*(sandbox.call(authorize(p)) for p in payment_ids))
    assert again == first
    captures = await asyncio.gather(*(sandbox.call(Capture(p, 1000, f"{p}:c")) for p in payment_ids))
    assert all(isinstance(outcome, Accepted) for outcome in captures)
    assert book.reads > 0


class AwayBook(MemoryBook):
    """Its settings cannot be kept."""

    async def keep_settings(self, mode: str, latency_ms: str) -> None:
        await super().keep_settings(mode, latency_ms)
        raise ConnectionError


async def test_what_is_set_is_there_in_the_next_instance() -> None:
    """Each change leaves what the one before has set; what nobody set is as the instance was told."""
    book = MemoryBook()
    first = Sandbox(MemoryBook(), settings_book=book, latency_ms="20")
    await first.restore()
    assert first.settings == SandboxSettings("up", "20")
    set_both = await asyncio.gather(first.set(mode="error"), first.set(latency_ms="1000-3000"))
    assert set_both[-1] == first.settings == SandboxSettings("error", "1000-3000")
    heir = Sandbox(MemoryBook(), settings_book=book, latency_ms="20")
    await heir.restore()
    assert heir.settings == SandboxSettings("error", "1000-3000")
    assert await heir.call(authorize()) == Unknown("http_500")


async def test_what_cannot_be_kept_is_not_set() -> None:
    """An operator's change that was acknowledged is there after a crash; one that was not changes nothing."""
    sandbox = Sandbox(MemoryBook(), settings_book=AwayBook(), latency_ms="20")
    with pytest.raises(ConnectionError):
        await sandbox.set(mode="down")
    assert sandbox.settings == SandboxSettings("up", "20")
    assert await sandbox.call(authorize()) != Unknown("connection_refused")


@pytest.mark.parametrize("text", ["fast", "3000-1000", "-1"])
async def test_a_latency_that_is_none_is_not_kept(text: str) -> None:
    book = MemoryBook()
    with pytest.raises(ValueError, match="latency_ms"):
        await Sandbox(MemoryBook(), settings_book=book).set(latency_ms=text)
    assert await book.kept_settings() is None


class LosingBook(MemoryBook):
    """Refuses every append, as if another instance were always first."""

    async def append(self, entries: Sequence[BookEntry]) -> Collection[str]:
        return set()


async def test_a_call_that_keeps_losing_its_race_is_told_to_come_back() -> None:
    assert CONFLICT_LIMIT > 1
    assert await Sandbox(LosingBook()).call(authorize()) == NotNow(retry_after_ms=100, reason="conflict")


class FailingBook(MemoryBook):
    """Fails the next append with `error`, before or after it has kept its facts."""

    def __init__(self, error: Exception, kept: bool) -> None:
        super().__init__()
        self._error: Exception | None = error
        self._kept = kept

    async def append(self, entries: Sequence[BookEntry]) -> Collection[str]:
        error, self._error = self._error, None
        if error is None or self._kept:
            kept = await super().append(entries)
        if error is not None:
            raise error
        return kept


@pytest.mark.parametrize("kept", [False, True], ids=["before the commit", "after the commit"])
async def test_a_lost_connection_to_the_book_is_unknown_and_the_same_key_finds_out(kept: bool) -> None:
    sandbox = Sandbox(FailingBook(ConnectionResetError(), kept))
    assert await sandbox.call(authorize()) == Unknown("http_500")
    state = "authorized" if kept else "none"
    assert (await retrieve(sandbox)).state == state
    assert await sandbox.call(authorize()) == Accepted("auth_1_1")
    assert len(await sandbox.entries()) == 1


async def test_a_bug_in_the_book_reaches_its_callers_and_stops_nobody_else() -> None:
    sandbox = Sandbox(FailingBook(KeyError("bug"), kept=False))
    with pytest.raises(KeyError, match="bug"):
        await sandbox.call(authorize())
    assert isinstance(await sandbox.call(authorize()), Accepted)


async def test_a_fault_is_served_once_even_to_two_instances_that_know_nothing() -> None:
    book = MemoryBook()
    request = authorize(token="pm_sandbox_error_once")
    outcomes = [await Sandbox(book).call(request) for _ in range(3)]
    assert outcomes == [Unknown("http_500"), Accepted("auth_1_2"), Accepted("auth_1_2")]


async def retrieve(sandbox: Sandbox, payment_id: str = "pay_1") -> Retrieved:
    outcome = await sandbox.call(Retrieve(payment_id))
    assert isinstance(outcome, Retrieved)
    return outcome
