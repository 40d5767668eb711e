"""The processes of the shop: the real actors behind real post offices, started, killed and replaced as Ray does.

Owns who bears which name. Promises what Ray promises and no more: a dead actor is constructed again, calls wait
while it recovers, and two live instances of one actor do happen (`split`); then some callers still reach the
old one. What is built here is what `cluster.actor_classes` builds there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

from actors.cart_actor import CartActor
from actors.checkout_coordinator import CheckoutCoordinator
from actors.mailbox import Mailbox
from actors.ports import MailboxPorts
from actors.post_office import PostOffice
from actors.promise import Promise
from actors.routing import Router, SlotTable
from actors.stock_actor import StockActor
from actors.stock_port import StockPort
from cluster.engine_types import ReadBook, ResolvePayment, SetSandbox
from cluster.messages import COMMANDS, REPLIES, SANDBOX, BookPage, SandboxState
from domain import checkout_model as model
from domain.cart_model import CartPolicy
from domain.ids import SLOTS
from domain.payments import Unknown
from gateways.sandbox import Sandbox
from persistence.journal import Fenced
from tests.simulation.crash_points import step_of
from tests.simulation.database import Line, SimBook, SimDatabase, SimJournal
from tests.simulation.loop import Process, Scheduler
from tests.simulation.network import Call, Network, Wire
from tests.simulation.weather import Shop, Weather

EPOCH_MS = 1_800_000_000_000
EXIT_S = 0.1  # a fenced process takes so long to leave
RESTART_S = (0.05, 0.6)
GATEWAY_TIMEOUT_S = 1.0


class Incarnation:
    """One process that bears a name."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process
        self.office: PostOffice | None = None
        self.actor: Any = None
        self.number = 0  # among the bearers of its name
        self.ready = False
        self.waiting: list[Call] = []
        self.serving: dict[Call, asyncio.Task[bytes]] = {}

    @property
    def writer(self) -> Any:
        return self.actor.writer


Build = Callable[[Incarnation], Awaitable[None]]


class Processes:
    """Every process of one run."""

    def __init__(
        self,
        scheduler: Scheduler,
        weather: Weather,
        rng: Random,
        note: Callable[..., None],
        on_error: Callable[[str, BaseException | None], None],
    ) -> None:
        self.network: Network
        self.on_ready: Callable[[Incarnation], None] = lambda incarnation: None
        # Told of a call that reaches its callee, and of its answer (True: that is lost).
        self.on_call: Callable[[Incarnation, Call], None] = lambda incarnation, call: None
        self.on_answer: Callable[[Incarnation, Call, bytes], bool] = lambda incarnation, call, answer: False
        self._scheduler = scheduler
        self._weather = weather
        self._rng = rng
        self._note = note
        self._on_error = on_error
        self._builds: dict[str, Build] = {}
        self._living: dict[str, list[Incarnation]] = {}
        self._begun: Counter[str] = Counter()
        self._count = 0

    @property
    def names(self) -> list[str]:
        return list(self._builds)

    def add(self, name: str, build: Build) -> None:
        self._builds[name] = build
        self._living[name] = []
        self.start(name)

    def present(self, name: str) -> Incarnation | None:
        """The newest bearer of the name."""
        living = self._living[name]
        return living[-1] if living else None

    def is_newest(self, incarnation: Incarnation) -> bool:
        """No other has begun since, not even one that has died and is about to come back."""
        return incarnation.number == self._begun[incarnation.name]

    def living(self) -> list[Incarnation]:
        return [incarnation for bearers in self._living.values() for incarnation in bearers]

    # ── birth and death ─────────────────────────────────────────────────────────────────────────────────

    def start(self, name: str) -> None:
        self._count += 1
        self._begun[name] += 1
        process = Process(name, self._scheduler)  # type: ignore[abstract]
        incarnation = Incarnation(name, process)
        incarnation.number = self._begun[name]
        self._living[name].append(incarnation)
        self._note("life", "start", name)
        process.create_task(self._boot(incarnation))

    async def _boot(self, incarnation: Incarnation) -> None:
        try:
            await self._builds[incarnation.name](incarnation)
        except Exception as error:
            if not isinstance(error, OSError | Fenced):
                self._on_error(f"{incarnation.name} cannot recover", error)
            how = "overtaken" if isinstance(error, Fenced) else "failed"
            self._note("life", f"recovery {how}", incarnation.name)
            self.kill(incarnation)
            return
        if incarnation.process.dead:
            return
        incarnation.ready = True
        self.on_ready(incarnation)
        waiting, incarnation.waiting = incarnation.waiting, []
        for call in waiting:
            self._serve(incarnation, call)

    def kill(self, incarnation: Incarnation) -> None:
        """As by SIGKILL. Its name goes to a new one, unless it already has."""
        if incarnation.process.dead:
            return
        name = incarnation.name
        self._note("life", "killed" if incarnation.ready else "killed in recovery", name)
        was_present = self.present(name) is incarnation
        incarnation.process.kill()
        self._living[name].remove(incarnation)
        for call in [*incarnation.waiting, *incarnation.serving]:
            self.network.lose(call, "callee died")
        if was_present:
            pause_s = self._rng.uniform(*RESTART_S)
            self._scheduler.after(pause_s, self._start_unless_begun, name, self._begun[name])
            if self._rng.random() < self._weather.crash_again:
                self._scheduler.after(pause_s + self._rng.uniform(0, 0.004), self.crash, name)

    def _start_unless_begun(self, name: str, before: int) -> None:
        """Also beside a former bearer who lives on: nobody else would ever take over from one that is not asked."""
        if self._begun[name] == before:
            self.start(name)

    def crash(self, name: str) -> None:
        incarnation = self.present(name)
        if incarnation is not None:
            self.kill(incarnation)

    def strike(self, process: Process, chance: float, where: str) -> None:
        """Fate may wait for a process at a certain place."""
        if chance and self._rng.random() < chance:
            self.strike_down(process, where)

    def strike_down(self, process: Process, where: str) -> None:
        self._note("life", f"struck {where}", process.name)
        for incarnation in self.living():
            if incarnation.process is process:
                self.kill(incarnation)

    def strike_after_commit(self, process: Process) -> None:
        self.strike(process, self._weather.crash_at_commit, "after its commit")

    def strike_at_step(self, process: Process) -> None:
        """At the beginning of an action, or as soon as it is under way."""
        chance = self._weather.crash_at_step
        if chance:
            pause_s = self._rng.choice((0.0, 0.0005, 0.002, 0.005))
            self._scheduler.after(pause_s, self.strike, process, chance, "at a step")

    def leave(self, incarnation: Incarnation) -> None:
        """What a fenced or broken actor does: its process ends, a little later."""
        self._note("life", "left by itself", incarnation.name)
        incarnation.process.call_later(EXIT_S, self.kill, incarnation)

    # ── calls ───────────────────────────────────────────────────────────────────────────────────────────

    def deliver(self, call: Call) -> bool:
        bearers = self._living[call.to]
        if not bearers:
            return False
        incarnation = bearers[-1]
        if len(bearers) > 1 and self._rng.random() < 0.5:
            incarnation = bearers[0]
            self._note("net", "reaches the old one", call.to)
        self.on_call(incarnation, call)
        if incarnation.process.dead:
            return False
        if incarnation.ready:
            self._serve(incarnation, call)
        else:
            incarnation.waiting.append(call)
        return True

    def _serve(self, incarnation: Incarnation, call: Call) -> None:
        office = incarnation.office
        assert office is not None, "an actor that is ready has its office"
        task = incarnation.process.create_task(getattr(office, call.method)(*call.args))
        incarnation.serving[call] = task
        task.add_done_callback(lambda task: self._served(incarnation, call, task))

    def _served(self, incarnation: Incarnation, call: Call, task: asyncio.Task[bytes]) -> None:
        if incarnation.serving.get(call) is task:
            del incarnation.serving[call]
        error = task.exception()
        if error is not None:
            self._on_error(f"{call.method} failed at {incarnation.name}", error)
            self.network.lose(call, "failed")
        elif self.on_answer(incarnation, call, task.result()):
            self.network.lose(call, "answer lost, executed")
        elif incarnation.process.dead:
            self.network.lose(call, "callee died")
        else:
            self.network.reply(call, task.result())


# ── what runs in them ───────────────────────────────────────────────────────────────────────────────────


class Premises:
    """Everything an actor is built with: tables, ways, settings."""

    def __init__(
        self,
        shop: Shop,
        processes: Processes,
        database: SimDatabase,
        line: Line,
        rng: Random,
        note: Callable[..., None],
    ) -> None:
        self.shop = shop
        self._processes = processes
        self._database = database
        self._line = line
        self._rng = rng
        self._note = note
        counts = {"stock": shop.stock_shards, "cart": shop.cart_shards, "checkout": shop.checkout_shards}
        self.tables = {kind: slot_table(kind, count) for kind, count in counts.items()}
        self.policy = shop.policy
        self.cart_policy = CartPolicy(idle_ms=shop.cart_idle_ms)

    def clock_of(self, process: Process) -> Callable[[], int]:
        return lambda: EPOCH_MS + int(process.time() * 1000) + process.skew_ms

    def mailbox(self, process: Process, kind: str, name: str) -> Mailbox:
        return Mailbox(Wire(self._processes.network, process, name), REPLIES[kind])

    def router(self, process: Process, kind: str) -> Router:
        table = self.tables[kind]
        return Router(table, {shard: self.mailbox(process, kind, shard) for shard in table.shards})

    async def build_stock(self, incarnation: Incarnation) -> None:
        await self._start(incarnation, "stock", StockActor(*self._parts(incarnation), **self._ways_out(incarnation)))

    async def build_cart(self, incarnation: Incarnation) -> None:
        actor = CartActor(*self._parts(incarnation), self.cart_policy, **self._ways_out(incarnation))
        await self._start(incarnation, "cart", actor)

    async def build_checkout(self, incarnation: Incarnation) -> None:
        process = incarnation.process
        ports = MailboxPorts(
            StockPort(self.router(process, "stock"), lambda: incarnation.writer.now_ms),
            self.router(process, "cart"),
            self.router(process, "checkout"),
            {"sandbox": self.mailbox(process, SANDBOX, SANDBOX)},
            GATEWAY_TIMEOUT_S,
        )
        counted = CountedPorts(ports, self._note, process, self._processes.strike_at_step)
        actor = CheckoutCoordinator(*self._parts(incarnation), counted, self.policy, **self._ways_out(incarnation))
        await self._start(incarnation, "checkout", actor)

    async def build_sandbox(self, incarnation: Incarnation) -> None:
        process = incarnation.process
        sandbox = Sandbox(
            SimBook(self._database.book, self._line, process),
            latency_ms=self.shop.latency_ms,
            no_answer_after_s=2 * GATEWAY_TIMEOUT_S,
            rng=self._rng,
            now_ms=self.clock_of(process),
        )
        incarnation.actor = sandbox
        incarnation.office = PostOffice(Desk(process, sandbox).submit, COMMANDS[SANDBOX])

    def _parts(self, incarnation: Incarnation) -> tuple[str, SimJournal, Callable[[], int]]:
        journal = SimJournal(self._database, self._line, incarnation.process)
        return incarnation.name, journal, self.clock_of(incarnation.process)

    def _ways_out(self, incarnation: Incarnation) -> dict[str, Any]:
        return {"on_fenced": lambda: self._processes.leave(incarnation), "max_queue": self.shop.max_queue}

    async def _start(self, incarnation: Incarnation, kind: str, actor: Any) -> None:
        incarnation.actor = actor
        incarnation.office = PostOffice(actor.submit, COMMANDS[kind])
        await actor.start()


def slot_table(kind: str, count: int) -> SlotTable:
    shards = [f"{kind}-{n}" for n in range(count)]
    return SlotTable([shards[slot * count // SLOTS] for slot in range(SLOTS)], {})


class CountedPorts:
    """`Ports` that tells which steps the sagas take."""

    def __init__(
        self, ports: MailboxPorts, note: Callable[..., None], process: Process, began: Callable[[Process], None]
    ) -> None:
        self._ports = ports
        self._note = note
        self._process = process
        self._began = began

    def start(self, action: model.Action) -> asyncio.Future[Any] | Promise:
        if self._process.dead:  # as of this very instant
            return Promise()
        self._note("step", step_of(action.name))
        self._began(self._process)
        return self._ports.start(action)

    def forget(self, hold_id: str, accounts: Sequence[str]) -> None:
        self._note("step", "forget")
        self._ports.forget(hold_id, accounts)


class Desk:
    """The sandbox's way in, as `cluster.actor_classes.SandboxGateway` has it."""

    def __init__(self, process: Process, sandbox: Sandbox) -> None:
        self._process = process
        self._sandbox = sandbox

    def submit(self, request: Any, ticket: Any) -> None:
        self._process.create_task(self._answer(request, ticket))

    async def _answer(self, request: Any, ticket: Any) -> None:
        answer = asyncio.ensure_future(self._reply_to(request))
        if self._sandbox.settings.latency_ms != "0" or getattr(request, "token", "").startswith("pm_sandbox"):
            ticket.later()
        try:
            ticket.reply(await answer)
        except OSError as error:
            ticket.reply(Unknown(type(error).__name__))

    async def _reply_to(self, request: Any) -> Any:
        match request:
            case SetSandbox():
                settings = self._sandbox.configure(mode=request.mode, latency_ms=request.latency_ms)
                return SandboxState(settings.mode, settings.latency_ms)
            case ResolvePayment():
                return await self._sandbox.resolve(request.payment_id, request.outcome)
            case ReadBook():
                return BookPage(await self._sandbox.entries(request.after, request.limit))
            case _:
                return await self._sandbox.call(request)
