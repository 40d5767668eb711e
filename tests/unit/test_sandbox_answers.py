"""Whatever fails inside the sandbox, every call is answered: a lost answer would hold up all behind it for ever."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mailbox import Mailbox
from cluster import actor_classes, directory
from cluster.engine_types import ReadBook, SetSandbox
from cluster.messages import REPLIES, SandboxProblem
from domain.cart_model import CartPolicy
from domain.checkout_model import Policy
from domain.payments import Accepted, Authorize, BookEntry, Capture, GatewayRequest, Retrieve, Retrieved, Unknown
from gateways.sandbox import Sandbox
from gateways.sandbox_book import MemoryBook
from tests.support.virtual_time import virtual_time

# ── the sandbox itself ──────────────────────────────────────────────────────────────────────────────────


class FailingBook(MemoryBook):
    """Meets the planned errors one a call, before or after it has done what it was asked."""

    def __init__(self, errors: Sequence[tuple[bool, Exception | None]]) -> None:
        super().__init__()
        self._errors = deque(errors)

    async def recall(self, payment_ids: Sequence[str], keys: Sequence[str]) -> list[BookEntry]:
        return await self._meet(super().recall(payment_ids, keys))

    async def append(self, entries: Sequence[BookEntry]) -> Collection[str]:
        return await self._meet(super().append(entries))

    async def _meet(self, work: Any) -> Any:
        after, error = self._errors.popleft() if self._errors else (False, None)
        if error is not None and not after:
            work.close()
            raise error
        result = await work
        if error is not None:
            raise error
        return result


def authorize(payment_id: str, token: str = "pm_card_visa") -> Authorize:
    return Authorize(payment_id, "chk_1", 1_000, "USD", token, "card", f"{payment_id}:authorize")


PAYMENTS = st.sampled_from(["pay_1", "pay_2", "pay_3"])
CALLS = st.one_of(
    st.builds(authorize, PAYMENTS, st.sampled_from(["pm_card_visa", "pm_sandbox_slow_20", "pm_sandbox_error_once"])),
    st.builds(lambda payment_id: Capture(payment_id, 1_000, f"{payment_id}:capture"), PAYMENTS),
    st.builds(Retrieve, PAYMENTS),
)
ERRORS = st.sampled_from([None, ConnectionResetError(), KeyError("a bug"), ZeroDivisionError()])


@given(st.lists(CALLS, min_size=1, max_size=15), st.lists(st.tuples(st.booleans(), ERRORS), max_size=8))
@virtual_time
async def test_every_call_is_answered_whatever_the_book_meets(
    calls: list[GatewayRequest], errors: list[tuple[bool, Exception | None]]
) -> None:
    """With an outcome, or with the very error; and when it is over, nothing is thought to be on its way."""
    sandbox = Sandbox(FailingBook(errors))
    outcomes = await asyncio.gather(*map(sandbox.call, calls), return_exceptions=True)
    unforeseen = [error for _, error in errors if error is not None and not isinstance(error, OSError)]
    for outcome in outcomes:
        assert outcome in unforeseen or not isinstance(outcome, BaseException)
    for payment_id in ("pay_1", "pay_2", "pay_3"):
        while True:  # as many errors as are left
            try:
                found = await sandbox.call(Retrieve(payment_id))
            except (KeyError, ZeroDivisionError):
                continue
            if not isinstance(found, Unknown):
                break
        assert isinstance(found, Retrieved)
        assert found.state in ("none", "authorized", "captured")
    await sandbox.close()


# ── its process ─────────────────────────────────────────────────────────────────────────────────────────


class BrokenPool:
    """A pool of the sandbox's connections, on which every statement about the book fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[BrokenPool]:
        yield self

    async def fetchrow(self, *arguments: Any) -> None:
        return None  # no settings were kept

    async def fetch(self, *arguments: Any) -> Any:
        raise self._error

    async def execute(self, *arguments: Any) -> Any:
        raise self._error


async def gateway(monkeypatch: pytest.MonkeyPatch, error: Exception) -> actor_classes.SandboxGateway:
    async def open_pool(dsn: str, size: int, password_file: str | None) -> Any:
        return BrokenPool(error)

    async def namespace(pool: Any) -> str:
        return "shop"

    monkeypatch.setattr(actor_classes, "open_pool", open_pool)
    monkeypatch.setattr(directory, "namespace", namespace)
    monkeypatch.setattr(actor_classes, "spare_the_collector", lambda: None)
    config = actor_classes.ActorConfig(
        shard="sandbox",
        dsn="",
        namespace="shop",
        run="",
        policy=Policy(),
        cart_policy=CartPolicy(),
        gateway_timeout_s=10.0,
        sandbox_latency_ms="0",
        max_queue=100,
    )
    process = actor_classes.SandboxGateway.__new__(actor_classes.SandboxGateway)
    await process.__init__(config.encoded())  # type: ignore[misc]  # Ray awaits it too
    return process


@pytest.mark.parametrize("error", [ConnectionResetError(), RuntimeError("a bug")], ids=["outage", "bug"])
@virtual_time
async def test_the_sandbox_process_answers_every_request_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """One that fails is told so; those of its batch that do not need the book are answered as ever."""
    process = await gateway(monkeypatch, error)
    mailbox = Mailbox(process, REPLIES["sandbox"])
    requests = [
        authorize("pay_1"),
        authorize("pay_2", "pm_sandbox_slow_50"),
        Capture("pay_1", 1_000, "k"),
        Retrieve("pay_3"),
        ReadBook(0, 10),
        SetSandbox("down", None),
    ]
    replies = await asyncio.gather(*map(mailbox.ask, requests))
    assert [type(reply) for reply in replies] == [Unknown, Unknown, Unknown, Unknown, SandboxProblem, SandboxProblem]
    assert len(mailbox) == 0


def test_what_the_process_says_when_it_fails_can_be_written_down() -> None:
    """An answer that cannot be encoded would be none."""
    for reply in (Unknown("RuntimeError"), SandboxProblem("The sandbox cannot say now."), Accepted("auth_1")):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=REPLIES["sandbox"]) == reply
