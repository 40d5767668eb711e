"""The simulated database: `tests.support.memory_journal` and the gateway's book, at the end of a bad connection.

Owns when a statement executes and whether its sender hears of it. A statement is on its way like any message:
it executes also when whoever sent it is dead by then, or has been told that the connection broke.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from random import Random
from typing import Any, NamedTuple

import asyncpg

from domain.messages import Key
from domain.order import OrderRow
from domain.payments import BookEntry
from gateways.sandbox_book import MemoryBook
from persistence.journal import Flush, Lease, Snapshot
from tests.simulation.loop import Process, Scheduler
from tests.simulation.weather import Weather
from tests.support.memory_journal import Database, MemoryJournal

QUICK_S = (0.0002, 0.001)
SLOW_S = (0.02, 0.8)


class SimDatabase(Database):
    """``on_append`` is told of every flush that was written, at that instant; ``on_clash`` of one that would have
    written what is there already, which no owner of the shard ever tries."""

    def __init__(self, *shards: str) -> None:
        super().__init__(*shards)
        self.taken_at_s = dict.fromkeys(shards, 0.0)
        self.book = MemoryBook()
        self.on_append: Callable[[Flush], None] = lambda flush: None
        self.on_clash: Callable[[str], None] = lambda what: None
        self.now_s: Callable[[], float] = lambda: 0.0

    def take(self, name: str, held: int | None) -> Lease:
        lease = super().take(name, held)
        self.taken_at_s[name] = self.now_s()
        return lease

    def append(self, epoch: int, flush: Flush) -> None:
        try:
            super().append(epoch, flush)
        except asyncpg.UniqueViolationError as error:
            self.on_clash(str(error))
            raise
        self.on_append(flush)


class Statement(NamedTuple):
    """``subject``: what it is about, a flush for instance."""

    name: str
    run: Callable[[], Any]
    subject: Any = None


class Line:
    """The way to the database, with its faults."""

    def __init__(self, scheduler: Scheduler, weather: Weather, rng: Random, note: Callable[..., None]) -> None:
        self._scheduler = scheduler
        self._weather = weather
        self._rng = rng
        self._note = note
        self._out_until_s = 0.0
        self._refused: dict[str, bool] = {}
        self.on_written: Callable[[Process], None] = lambda process: None
        # Told of a statement whose sender lives: before it executes (True: it is lost), and after (its answer is).
        self.before: Callable[[Process, Statement], bool] = lambda process, statement: False
        self.after: Callable[[Process, Statement], bool] = lambda process, statement: False

    def go_out(self, seconds: float) -> None:
        self._out_until_s = self._scheduler.now_s + seconds

    def come_back(self) -> None:
        self._out_until_s = 0.0

    def refuse(self, row: Any) -> str | None:
        """Some orders are refused for good, as by a constraint that nobody thought of."""
        if not isinstance(row, OrderRow):
            return None
        if row.checkout_id not in self._refused:
            self._refused[row.checkout_id] = self._rng.random() < self._weather.db_refuses_order
        if self._refused[row.checkout_id]:
            self._note("db", "order refused")
            return "a constraint nobody thought of"
        return None

    def execute(self, process: Process, statement: Statement) -> asyncio.Future[Any]:
        future = process.create_future()
        weather, rng = self._weather, self._rng
        fate = rng.random()
        if self._out():
            self._fail(process, future, statement, "outage")
        elif fate < weather.db_fails_before:
            self._fail(process, future, statement, "fails before")
        elif fate < weather.db_fails_before + weather.db_late:
            # The connection breaks, the server goes on with what it was sent.
            self._fail(process, future, statement, "late")
            self._scheduler.after(rng.uniform(*SLOW_S), self._run, None, future, statement)
        else:
            self._scheduler.after(self._delay_s(), self._run, process, future, statement)
        return future

    def _run(self, process: Process | None, future: asyncio.Future[Any], statement: Statement) -> None:
        if self._out():
            if process is not None:
                self._fail(process, future, statement, "outage")
            return
        if process is not None and self._is_stopped(process, future, statement):
            return
        failed = False
        try:
            result = statement.run()
        except Exception as error:
            failed, result = True, error
        if process is not None:
            self._executed(process, future, statement, failed, result)

    def _is_stopped(self, process: Process, future: asyncio.Future[Any], statement: Statement) -> bool:
        """Whether the statement gets no further: it is lost, or its sender dies. What the dead have sent goes on."""
        if process.dead:
            return False
        lost = self.before(process, statement)
        if lost:
            self._fail(process, future, statement, "fails before")
        return lost or process.dead

    def _executed(
        self, process: Process, future: asyncio.Future[Any], statement: Statement, failed: bool, result: Any
    ) -> None:
        """Whether its sender hears of it."""
        if statement.name == "append" and not failed:
            self.on_written(process)
        lost = not process.dead and not failed and self.after(process, statement)
        if process.dead:
            self._note("db", "executed for the dead", statement.name)
        elif lost or (not failed and self._rng.random() < self._weather.db_fails_after):
            self._fail(process, future, statement, "fails after")
        else:
            when_s = self._scheduler.now_s + self._delay_s()
            self._scheduler.at(when_s, process, _settle, (future, failed, result))

    def _fail(self, process: Process, future: asyncio.Future[Any], statement: Statement, how: str) -> None:
        self._note("db", how, statement.name)
        when_s = self._scheduler.now_s + self._rng.uniform(*QUICK_S)
        self._scheduler.at(when_s, process, _settle, (future, True, ConnectionResetError(how)))

    def _delay_s(self) -> float:
        if self._weather.db_slow and self._rng.random() < self._weather.db_slow:
            self._note("db", "slow")
            return self._rng.uniform(*SLOW_S)
        return self._rng.uniform(*QUICK_S)

    def _out(self) -> bool:
        return self._scheduler.now_s < self._out_until_s


def _settle(future: asyncio.Future[Any], failed: bool, result: Any) -> None:
    if future.done():
        return
    if failed:
        future.set_exception(result)
    else:
        future.set_result(result)


class SimJournal(MemoryJournal):
    """The journal of one process."""

    def __init__(self, database: SimDatabase, line: Line, process: Process) -> None:
        super().__init__(database)
        self._line = line
        self._process = process

    async def entities(self, shard: str, keys: Sequence[Key]) -> list[Snapshot]:
        return await super().entities(shard, sorted(keys))  # callers have them in the order of a set

    async def _call(self, call: str, subject: Any, statement: Callable[[], Any]) -> Any:
        return await self._line.execute(self._process, Statement(call, statement, subject))


class SimBook:
    """The gateway's book as one process of the gateway reaches it."""

    def __init__(self, book: MemoryBook, line: Line, process: Process) -> None:
        self._book = book
        self._line = line
        self._process = process

    async def recall(self, payment_ids: Sequence[str], keys: Sequence[str]) -> list[BookEntry]:
        return await self._execute("recall", lambda: self._book.recall(payment_ids, keys))

    async def append(self, entries: Sequence[BookEntry]) -> Collection[str]:
        return await self._execute("book", lambda: self._book.append(entries))

    async def entries(self, after: int, limit: int) -> list[BookEntry]:
        return await self._execute("entries", lambda: self._book.entries(after, limit))

    async def _execute(self, name: str, statement: Callable[[], Awaitable[Any]]) -> Any:
        return await self._line.execute(self._process, Statement(name, lambda: at_once(statement())))


def at_once(work: Any) -> Any:
    """The result of a coroutine that waits for nothing but its turn."""
    try:
        while True:
            work.send(None)
    except StopIteration as end:
        return end.value
