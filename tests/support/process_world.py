"""A shop whose every actor is an operating-system process on a real Postgres, for one scenario that is cut by a crash.

Owns the processes, who bears which name, and what is carried between them: the test is the network, Ray and the buyer.
Promises what Ray promises: whoever dies is constructed again, and calls wait until it is. Told what to cut where; the
watch decides when, and nothing here judges what came of it.

    async with world(dsn, scenario, [point]) as shop:
        await scenario.play(Buyer(shop.people))
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, cast

import asyncpg

from actors.mailbox import Mailbox, Unreachable
from actors.routing import Router, SlotTable
from cluster import directory
from cluster.actor_classes import ActorConfig
from cluster.engine_types import SetSandbox
from cluster.messages import REPLIES, SANDBOX
from domain.cart_model import CartPolicy
from tests.simulation.crash_points import Point
from tests.simulation.crash_run import UPSET_S
from tests.simulation.crash_scenarios import Scenario
from tests.simulation.run import BUGS
from tests.simulation.workers import Worker
from tests.support.cut_process import fit_to_be_cut
from tests.support.cut_watch import Call, Cuttable, CutWatch
from tests.support.incarnation_process import GO
from tests.support.process_people import ProcessPeople
from tests.support.tcp_proxy import TcpProxy

GATEWAY_TIMEOUT_S = 1.5  # an answer takes milliseconds; where everybody waits for the processor, much longer
BORN_DEAD_S = 0.05  # before another is born for one that did not live to serve
DEATHS_MOST = 20  # then nobody is born any more: something is wrong with all of them


class ProcessWorld:
    """``bugs``: what an actor has logged that none should, and what has gone wrong here. ``deaths``: of how many
    processes, however they came about."""

    def __init__(
        self, dsn: str, scenario: Scenario, targets: Sequence[Point], without: str, stack: AsyncExitStack
    ) -> None:
        self.shop = scenario.shop()
        self.watch = CutWatch(targets, self._on_begin)
        self.people = ProcessPeople(self.shop, self.ask)
        self.bugs: list[str] = []
        self.deaths = 0
        self.pool: asyncpg.Pool
        self._dsn = dsn
        self._fit = partial(fit_to_be_cut, without=without)
        self._stack = stack
        self._upset = scenario.upset
        self._upset_now = False
        self._closing = False
        self._living: dict[str, Cuttable] = {}
        self._all: list[Cuttable] = []
        self._serving: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._tables: dict[str, SlotTable]
        self._namespace: str
        self._worker: Worker
        self._mailboxes: list[Mailbox] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._gateway: Mailbox

    async def open(self) -> None:
        self.pool = await self._stack.enter_async_context(asyncpg.create_pool(self._dsn, min_size=1, max_size=2))
        self._tables = await directory.load_tables(self.pool)
        self._namespace = await directory.namespace(self.pool)
        self._worker = Worker(cast(Any, self), cast(Any, None))
        self._gateway = self.mailbox(None, SANDBOX, SANDBOX)
        names = [name for table in self._tables.values() for name in table.shards]
        await asyncio.gather(*(self._incarnate(name) for name in [*names, SANDBOX]))

    async def close(self) -> None:
        self._closing = True
        for mailbox in self._mailboxes:
            await mailbox.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for incarnation in self._all:
            incarnation.kill()
        for incarnation in self._all:
            incarnation.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.bugs.append(f"the test itself: {task.exception()!r}")

    # ── who bears which name ────────────────────────────────────────────────────────────────────────────

    async def _incarnate(self, name: str) -> None:
        proxy = await self._stack.enter_async_context(TcpProxy(self._dsn))
        config = ActorConfig(
            shard=name, dsn=proxy.dsn, namespace=self._namespace, run="test", policy=self.shop.policy,
            cart_policy=CartPolicy(idle_ms=self.shop.cart_idle_ms), gateway_timeout_s=GATEWAY_TIMEOUT_S,
            sandbox_latency_ms="0", max_queue=self.shop.max_queue,
        )  # fmt: skip
        incarnation = self._living[name] = Cuttable(name, config, self._fit, proxy, self)
        self._all.append(incarnation)
        try:
            await incarnation.ready()
        except Unreachable:
            return  # another one is on its way
        self._serving[name].set()

    def ended(self, incarnation: Cuttable) -> None:
        name = incarnation.name
        if not self._closing and self._living[name] is incarnation:
            self.deaths += 1
            lived = self._serving[name].is_set()
            self._serving[name].clear()
            if self.deaths < DEATHS_MOST:
                self.spawn(self._replace(name, 0.0 if lived else BORN_DEAD_S))

    async def _replace(self, name: str, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self._incarnate(name)

    def standing(self) -> list[str]:
        """For people: who is there, and how."""
        return [
            f"{name}: {incarnation.standing}, {'serves' if self._serving[name].is_set() else 'does not serve'}"
            for name, incarnation in self._living.items()
        ]

    # ── what they say ───────────────────────────────────────────────────────────────────────────────────

    def heard(self, incarnation: Cuttable, what: str, *details: Any) -> None:
        match what:
            case "decided" | "begin" if incarnation.dead:
                pass
            case "decided":
                self.watch.decides(incarnation, *details)
                incarnation.send(*GO)
            case "begin":
                self.watch.begins(incarnation, *details)
                if self._upset_now:
                    self.spawn(self._upset_gateway(incarnation))
                elif not incarnation.dead:
                    incarnation.send(*GO)
            case "carry":
                self.spawn(self._carry_for(incarnation, *details))
            case "log":
                self._note(incarnation, *details)
            case _:
                raise AssertionError(f"{incarnation.name} says {what} {details}")

    def _note(self, incarnation: Cuttable, entry: dict[str, Any]) -> None:
        if entry["event"] in BUGS:
            self.bugs.append(f"{incarnation.name}: {entry}")

    def _on_begin(self, phase: str, step: str) -> None:
        if self._upset == (phase, step):
            self._upset, self._upset_now = None, True

    async def _upset_gateway(self, incarnation: Cuttable) -> None:
        """It fails for a while, from before the step that is just beginning."""
        self._upset_now = False
        await self._gateway.ask(SetSandbox(mode="error"))
        incarnation.send(*GO)
        await asyncio.sleep(UPSET_S)
        await self._gateway.ask(SetSandbox(mode="up"))

    # ── what is carried between them ────────────────────────────────────────────────────────────────────

    async def _carry_for(self, source: Cuttable, number: int, to: str, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            answer: bytes | str = await self.carry(source, to, method, *arguments)
        except Unreachable as error:
            answer = str(error)
        source.send("end", number, answer)

    async def carry(self, source: Cuttable | None, to: str, method: str, *arguments: Any) -> bytes:
        """A call to whoever bears the name as soon as somebody serves. Raises `Unreachable`."""
        await self._serving[to].wait()
        callee, call = self._living[to], Call(source, to, method)
        self.watch.called(callee, call)
        answer = await callee.call(method, *arguments)
        if self.watch.answered(callee, call, answer):
            raise Unreachable(f"the answer of {to} is lost")
        if callee.dead:
            raise Unreachable(f"{to} died with its answer")
        return answer

    def mailbox(self, source: Cuttable | None, kind: str, name: str) -> Mailbox:
        """A buyer's; the actors have theirs."""
        mailbox = Mailbox(Wire(self, source, name), REPLIES[kind])
        self._mailboxes.append(mailbox)
        return mailbox

    def router(self, source: Cuttable | None, kind: str) -> Router:
        table = self._tables[kind]
        return Router(table, {shard: self.mailbox(source, kind, shard) for shard in table.shards})

    async def ask(self, command: Any) -> Any:
        """As an API worker does; a kept answer comes as the reply it was."""
        return await self._worker.ask(command)

    async def gateway(self, request: Any) -> Any:
        return await self._gateway.ask(request)


class Wire:
    """A mailbox's transport."""

    def __init__(self, world: ProcessWorld, source: Cuttable | None, to: str) -> None:
        self._world = world
        self._source = source
        self._to = to

    async def deliver(self, client: str, blob: bytes) -> bytes:
        return await self._world.carry(self._source, self._to, "deliver", client, blob)

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        return await self._world.carry(self._source, self._to, "drain", client, incarnation, acknowledged, wait_s)


@asynccontextmanager
async def world(
    dsn: str, scenario: Scenario, targets: Sequence[Point], without: str = ""
) -> AsyncIterator[ProcessWorld]:
    """All actors of a database that has its shards; none of their processes is left at the end.

    ``without``: a safeguard that is missing in all of them.
    """
    async with AsyncExitStack() as stack:
        opened = ProcessWorld(dsn, scenario, targets, without, stack)
        try:
            await opened.open()
            await opened.people.fill_shelves()
            yield opened
        finally:
            await opened.close()
