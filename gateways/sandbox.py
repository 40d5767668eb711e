"""The sandbox payment gateway: behaves like a real one, with latency, faults and a durable book of its own.

Owns the pace: latency, outages, silence, and the grouping of concurrent calls into few writes of its book.
What is allowed is decided in `gateways.sandbox_book`; what is true is what the book kept. Any number of
instances may run on one book: each answers from written facts only, and one that is behind is refused by the
book and judges again. Told its book, clock, sleep and randomness; knows no database. Called as a
`PaymentGateway`, and by operators.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import re
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, cast

import msgspec

from domain.payments import (
    Authorize,
    BookEntry,
    Declined,
    GatewayRequest,
    NotNow,
    Outcome,
    Retrieve,
    Retrieved,
    Unknown,
)
from gateways.sandbox_book import (
    SLOW,
    TIMEOUT_AFTER,
    TIMEOUT_BEFORE,
    Book,
    MemoryBook,
    Request,
    Resolve,
    SettingsBook,
    decide,
    idempotency_key,
    outcome_of,
    standing,
)

Mode = Literal["up", "down", "error"]

GROUP_LIMIT = 1000
"""Calls in one write of the book: bounds the statement, not the throughput."""

CONFLICT_LIMIT = 8
"""Lost races after which a call is told to come back; each lost race means that another instance moved on."""

TICK_MS = 10
"""Delayed calls wake together on this grid, so that they share a write and need no task of their own."""

_LATENCY = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?", re.ASCII)


class SandboxSettings(msgspec.Struct, frozen=True):
    mode: Mode
    latency_ms: str


def parse_latency_ms(text: str) -> tuple[int, int]:
    """`"1000-3000"`, `"500"` or `"0"` as (lowest, highest) in milliseconds; ValueError for anything else."""
    match = _LATENCY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"latency_ms must be one number or LOW-HIGH in milliseconds, not {text!r}")
    low_ms = int(match[1])
    high_ms = int(match[2] or match[1])
    if low_ms > high_ms:
        raise ValueError(f"latency_ms must rise from LOW to HIGH, not {text!r}")
    return low_ms, high_ms


class _Job:
    """One call on its way through the book."""

    __slots__ = ("answer", "conflicts", "request")

    def __init__(self, request: Request, answer: asyncio.Future[Outcome]) -> None:
        self.request = request
        self.answer = answer
        self.conflicts = 0


class Sandbox:
    """A `PaymentGateway` with a durable book.

    `settings_book`: where mode and latency are kept once they are `set`; without one they end with the instance.
    `no_answer_after_s`: how long a time-out token keeps silent before the sandbox gives the connection up.
    `remembered_payments`: histories kept in memory; the others are read from the book when asked about.
    """

    name = "sandbox"

    def __init__(
        self,
        book: Book,
        *,
        settings_book: SettingsBook | None = None,
        latency_ms: str = "0",
        no_answer_after_s: float = 5.0,
        remembered_payments: int = 20_000,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._book = book
        self._settings_book = settings_book or MemoryBook()
        self._settings = SandboxSettings("up", latency_ms)
        self._latency_range_ms = parse_latency_ms(latency_ms)
        self._no_answer_after_s = no_answer_after_s
        self._remembered_payments = remembered_payments
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._now_ms = now_ms
        self._known: OrderedDict[str, tuple[BookEntry, ...]] = OrderedDict()
        self._waiting: deque[_Job] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._delayed: dict[int, list[_Job]] = {}
        self._wakers: set[asyncio.Task[None]] = set()
        self._authorizing: Counter[str] = Counter()
        self._setting = asyncio.Lock()

    @property
    def settings(self) -> SandboxSettings:
        return self._settings

    async def restore(self) -> None:
        """Take up the mode and latency that were last set, if any were. OSError when the book is away."""
        kept = await self._settings_book.kept_settings()
        if kept is not None:
            mode, latency_ms = kept
            self.configure(mode=cast(Mode, mode), latency_ms=latency_ms)

    async def set(self, *, mode: Mode | None = None, latency_ms: str | None = None) -> SandboxSettings:
        """`configure`, durably. ValueError for a latency that is none; after an OSError nothing has changed."""
        async with self._setting:  # one change after another: each leaves what the one before has set
            wanted = self._changed(mode, latency_ms)
            await self._settings_book.keep_settings(wanted.mode, wanted.latency_ms)
            return self.configure(mode=wanted.mode, latency_ms=wanted.latency_ms)

    def configure(self, *, mode: Mode | None = None, latency_ms: str | None = None) -> SandboxSettings:
        """Change mode or latency for calls that arrive from now on. ValueError for a latency that is none."""
        self._settings = self._changed(mode, latency_ms)
        self._latency_range_ms = parse_latency_ms(self._settings.latency_ms)
        return self._settings

    def _changed(self, mode: Mode | None, latency_ms: str | None) -> SandboxSettings:
        if latency_ms is not None:
            parse_latency_ms(latency_ms)
        return SandboxSettings(mode or self._settings.mode, latency_ms or self._settings.latency_ms)

    async def call(self, request: GatewayRequest) -> Outcome:
        """Answer as a gateway would. Once let in, a request runs to its end even if the caller leaves."""
        return await self.begin(request)

    def begin(self, request: GatewayRequest) -> asyncio.Future[Outcome]:
        """`call` for whoever has many calls at a time: a task is made only for one that is to fail."""
        token = request.token if isinstance(request, Authorize) else ""
        if self._settings.mode != "up" or token in (TIMEOUT_BEFORE, TIMEOUT_AFTER):
            return asyncio.ensure_future(self._fail(request, self._settings.mode, token))
        return self._submit(request, self._draw_delay_ms(token))

    async def _fail(self, request: GatewayRequest, mode: Mode, token: str) -> Unknown:
        """A call that is refused, or answered too late."""
        if mode == "down":
            return Unknown("connection_refused")
        if mode == "error":
            return Unknown("http_500")
        if token == TIMEOUT_AFTER:
            await self._submit(request, self._draw_delay_ms(token))
        await self._sleep(self._no_answer_after_s)
        return Unknown("no_answer")

    async def resolve(
        self, payment_id: str, outcome: Literal["succeed", "fail"]
    ) -> Retrieved | Declined | Unknown | NotNow:
        """Stand for the buyer's 3-D Secure or redirect step, whatever mode and latency.

        Returns how the payment stands then; `Declined("not_pending")` if it waits for no step,
        `Declined("not_found")` if there is no such payment.
        """
        answer = await self._submit(Resolve(payment_id, outcome == "succeed"))
        assert isinstance(answer, Retrieved | Declined | Unknown | NotNow)
        return answer

    async def entries(self, after: int = 0, limit: int = 100) -> list[BookEntry]:
        """The book's listing in order of `seq`, from the first entry beyond `after`; [] at its end.

        OSError when the book cannot be reached.
        """
        return await self._book.entries(after, limit)

    async def close(self) -> None:
        """Reset the calls that still wait out their latency, as a crash would; finish the writes begun."""
        for task in self._wakers:
            task.cancel()
        for job in itertools.chain.from_iterable(self._delayed.values()):
            self._reply(job, Unknown("connection_reset"))
        self._delayed.clear()
        if self._writer is not None:
            await self._writer

    def _draw_delay_ms(self, token: str) -> int:
        if slow := SLOW.fullmatch(token):
            return int(slow[1])
        low_ms, high_ms = self._latency_range_ms
        return self._rng.randint(low_ms, high_ms) if high_ms else 0

    def _submit(self, request: Request, delay_ms: int = 0) -> asyncio.Future[Outcome]:
        # The job is in other hands from here on: a caller's time-out does not recall what was sent.
        job = _Job(request, asyncio.get_running_loop().create_future())
        if isinstance(request, Authorize):
            self._authorizing[request.payment_id] += 1
        if delay_ms:
            self._delay(job, delay_ms)
        else:
            self._enqueue(job)
        return job.answer

    def _delay(self, job: _Job, delay_ms: int) -> None:
        tick = math.ceil((asyncio.get_running_loop().time() * 1000 + delay_ms) / TICK_MS)
        if tick not in self._delayed:
            self._delayed[tick] = []
            task = asyncio.create_task(self._wake(tick))
            self._wakers.add(task)
            task.add_done_callback(self._wakers.discard)
        self._delayed[tick].append(job)

    async def _wake(self, tick: int) -> None:
        await self._sleep(tick * TICK_MS / 1000 - asyncio.get_running_loop().time())
        for job in self._delayed.pop(tick):
            self._enqueue(job)

    def _enqueue(self, job: _Job) -> None:
        self._waiting.append(job)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_groups())

    async def _write_groups(self) -> None:
        # One group at a time: what arrives while the book writes is the next group.
        while self._waiting:
            group = self._next_group()
            try:
                await self._write(group)
            except OSError:
                # Memory stays good: it is at worst a fact behind, which the next write finds out.
                for job in group:
                    self._reply(job, Unknown("http_500"))
            except Exception as error:  # a bug: its callers get it, the calls behind them go on
                for job in group:
                    self._reply(job, error)
        self._writer = None

    def _reply(self, job: _Job, outcome: Outcome | Exception) -> None:
        payment_id = job.request.payment_id
        if isinstance(job.request, Authorize):
            self._authorizing[payment_id] -= 1
            if not self._authorizing[payment_id]:
                del self._authorizing[payment_id]
        if job.answer.done():
            return  # the caller has left; what was asked has happened all the same
        if isinstance(outcome, Exception):
            job.answer.set_exception(outcome)
        else:
            job.answer.set_result(outcome)

    def _next_group(self) -> list[_Job]:
        """At most one job for a payment, so that each is judged on facts that are written."""
        group: dict[str, _Job] = {}
        later: list[_Job] = []
        while self._waiting and len(group) < GROUP_LIMIT:
            job = self._waiting.popleft()
            if job.request.payment_id in group:
                later.append(job)
            else:
                group[job.request.payment_id] = job
        self._waiting.extendleft(reversed(later))
        return list(group.values())

    async def _write(self, group: Sequence[_Job]) -> None:
        histories, keys = await self._recall(group)
        now_ms = self._now_ms()
        answers: list[tuple[_Job, Outcome]] = []
        writes: list[tuple[_Job, BookEntry]] = []
        for job in group:
            history = histories.get(job.request.payment_id, ())
            decided = decide(history, _earlier(history, keys, job.request), job.request, now_ms)
            if isinstance(decided, BookEntry):
                writes.append((job, decided))
            else:
                answers.append((job, self._in_flight(job.request, decided)))
        kept = await self._book.append([fact for _, fact in writes]) if writes else ()
        conflicts: list[_Job] = []
        for job, fact in writes:
            if fact.payment_id not in kept:
                conflicts.append(job)
                continue
            history = (*histories.get(fact.payment_id, ()), fact)
            self._remember(fact.payment_id, history)
            answers.append((job, standing(history) if isinstance(job.request, Resolve) else outcome_of(fact)))
        for job, outcome in answers:
            self._reply(job, outcome)
        self._judge_again(conflicts)

    async def _recall(self, group: Sequence[_Job]) -> tuple[dict[str, tuple[BookEntry, ...]], dict[str, BookEntry]]:
        """Histories of the group's payments, and who used their keys, as far as memory and one reading tell.

        An authorize is taken for the first fact about its payment without looking: the write finds out.
        """
        histories: dict[str, tuple[BookEntry, ...]] = {}
        unread: dict[str, str | None] = {}
        for job in group:
            request = job.request
            known = self._known.get(request.payment_id)
            must_be_fresh = bool(job.conflicts) or isinstance(request, Retrieve | Resolve)
            if known is not None and not must_be_fresh:
                histories[request.payment_id] = known
            elif must_be_fresh or not isinstance(request, Authorize):
                unread[request.payment_id] = idempotency_key(request)
        if not unread:
            return histories, {}
        facts = await self._book.recall(list(unread), [key for key in unread.values() if key])
        keys = {fact.idempotency_key: fact for fact in facts if fact.idempotency_key}
        for payment_id in unread:
            histories[payment_id] = ()
        for fact in facts:
            if fact.payment_id in unread:
                histories[fact.payment_id] += (fact,)
        for payment_id in unread:
            self._remember(payment_id, histories[payment_id])
        return histories, keys

    def _in_flight(self, request: Request, outcome: Outcome) -> Outcome:
        if (
            isinstance(outcome, Retrieved)
            and outcome.state in ("none", "declined")
            and request.payment_id in self._authorizing
        ):
            return msgspec.structs.replace(outcome, state="processing")
        return outcome

    def _judge_again(self, conflicts: Sequence[_Job]) -> None:
        for job in reversed(conflicts):
            job.conflicts += 1
            if job.conflicts < CONFLICT_LIMIT:
                self._waiting.appendleft(job)
            else:
                self._reply(job, NotNow(retry_after_ms=100, reason="conflict"))

    def _remember(self, payment_id: str, history: tuple[BookEntry, ...]) -> None:
        self._known[payment_id] = history
        self._known.move_to_end(payment_id)
        if len(self._known) > self._remembered_payments:
            self._known.popitem(last=False)


def _earlier(history: Sequence[BookEntry], keys: dict[str, BookEntry], request: Request) -> BookEntry | None:
    key = idempotency_key(request)
    if key is None:
        return None
    return keys.get(key) or next((fact for fact in history if fact.idempotency_key == key), None)
