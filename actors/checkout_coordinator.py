"""The checkout coordinator: runs the sagas of one shard and is the one writer of their orders.

Owns which actions are under way. Promises that an action is begun only when the state that wants it is durable
(intent before effect), that its outcome comes back as a command, and that whatever is still wanted is done
again, with growing pauses, until it is no longer wanted: after a crash simply everything is. Never decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import structlog

from actors.cores import CheckoutCore
from actors.event_sourced import EventSourced, Journal, Ticket
from actors.stock_actor import GRACE_MS, JUMP_MS, TICK_S, Deadlines, Unasked
from domain import checkout_model as model
from domain import ids
from domain.checkout_actions import deadline_ms, next_actions, resting
from domain.messages import Key, Refusal
from domain.payments import GatewayRequest, Outcome, Unknown

log = structlog.get_logger()

AGAIN_S = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0)
DUE_MOST = 500


class Ports(Protocol):
    """The coordinator's way to everybody else."""

    async def take(self, action: model.TakeStock) -> Any: ...
    async def hold_step(self, action: model.HoldStep) -> Any: ...
    async def begin_cart(self, action: model.BeginCart) -> Any: ...
    async def end_cart(self, action: model.EndCart) -> Any: ...
    async def replace(self, action: model.AskToReplace) -> Any: ...
    async def gateway(self, name: str, request: GatewayRequest) -> Outcome: ...


class Watch(model.CheckoutCommand, frozen=True, kw_only=True, tag=True):
    """Reply with the checkout as soon as its version is above ``known_version``."""

    known_version: int


CoordinatorCommand = model.AnyCommand | Watch


class CheckoutCoordinator:
    """`submit` commands; `start` recovers, takes up every unfinished saga, and runs."""

    def __init__(
        self,
        shard: str,
        journal: Journal,
        clock_ms: Callable[[], int],
        ports: Ports,
        policy: model.Policy,
        *,
        on_fenced: Callable[[], None] = lambda: None,
        max_queue: int = 20_000,
    ) -> None:
        self.writer = EventSourced(
            shard,
            CheckoutCore(policy),
            journal,
            clock_ms,
            on_commit=self._note,
            on_fenced=on_fenced,
            max_queue=max_queue,
        )
        self._clock_ms = clock_ms
        self._ports = ports
        self._durable: dict[str, model.Checkout] = {}
        self._running: dict[str, set[str]] = {}
        self._tries: dict[tuple[str, str], int] = {}
        self._deadlines = Deadlines()
        self._watchers: dict[str, list[tuple[int, Ticket, model.Read]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def live(self) -> int:
        """Sagas that are not at rest."""
        return len(self._durable)

    async def start(self) -> None:
        await self.writer.recover()
        self._deadlines.put_off(self.writer.recovered_at_ms + GRACE_MS)
        self._spawn(self.writer.run())
        self._spawn(self._tick())

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def submit(self, command: CoordinatorCommand, ticket: Ticket) -> None:
        if isinstance(command, Watch):
            read = model.Read(command_id=b"", checkout_id=command.checkout_id, owner=command.owner)
            self.writer.submit(read, _Watching(self, command, ticket))
        else:
            self.writer.submit(command, ticket)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── what is durable, and what it wants ──────────────────────────────────────────────────────────────

    def _note(self, changed: Mapping[Key, Any]) -> None:
        for (kind, key), state in changed.items():
            if kind != model.KIND:
                continue
            if resting(state):
                self._durable.pop(key, None)
                self._running.pop(key, None)
            else:
                self._durable[key] = state
                due_ms = deadline_ms(state)
                if due_ms is not None:
                    self._deadlines.add(due_ms, key)
                self._pursue(key, state)
            if key in self._watchers:
                self._tell_watchers(key, state.version)

    def _pursue(self, key: str, state: model.Checkout) -> None:
        """Begin every wanted action that is not under way."""
        running = self._running.setdefault(key, set())
        for action in next_actions(state):
            if action.name not in running:
                running.add(action.name)
                self._spawn(self._perform(key, state.id, action))

    async def _perform(self, key: str, checkout_id: str, action: model.Action) -> None:
        tries = self._tries.get((key, action.name), 0)
        if tries:
            await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S)) - 1])
        result = await self._outcome_of(action)
        self._tries[key, action.name] = tries + 1
        done = _StepDone(self, key, action.name)
        if isinstance(result, Refusal) and result.code in ("busy", "internal_error"):
            done.reply(result)  # not an outcome: it is asked again
        else:
            step = model.Stepped(command_id=b"", checkout_id=checkout_id, action=action.name, result=result)
            self.writer.submit(step, done)

    async def _outcome_of(self, action: model.Action) -> Any:
        match action:
            case model.TakeStock():
                return await self._ports.take(action)
            case model.HoldStep():
                return await self._ports.hold_step(action)
            case model.CallGateway():
                outcome = await self._ports.gateway(action.gateway, action.request)
                return model.LegOutcome(action.leg, outcome)
            case model.BeginCart():
                return await self._ports.begin_cart(action)
            case model.EndCart():
                return await self._ports.end_cart(action)
            case model.AskToReplace():
                return await self._ports.replace(action)
            case _:
                raise AssertionError(f"{action!r} is not an action")

    def step_done(self, key: str, name: str) -> None:
        """The outcome is durable (or changed nothing): what is wanted still is begun again, after a pause."""
        running = self._running.get(key)
        if running is not None:
            running.discard(name)
        state = self._durable.get(key)
        if state is None or name not in {action.name for action in next_actions(state)}:
            self._tries.pop((key, name), None)
        if state is not None:
            self._pursue(key, state)

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────

    async def _tick(self) -> None:
        ticked_ms = self._clock_ms()
        while True:
            await asyncio.sleep(TICK_S)
            now_ms = self._clock_ms()
            if abs(now_ms - ticked_ms) > JUMP_MS:
                self._deadlines.put_off(now_ms + GRACE_MS)
            ticked_ms = now_ms
            for key in self._deadlines.due(now_ms, DUE_MOST):
                state = self._durable.get(key)
                due_ms = deadline_ms(state) if state is not None else None
                if state is not None and due_ms is not None and due_ms <= now_ms:
                    self.writer.submit(model.Due(command_id=b"", checkout_id=state.id), Unasked())

    # ── watching ────────────────────────────────────────────────────────────────────────────────────────

    def watch(self, key: str, command: Watch, ticket: Ticket) -> None:
        """Keep the ticket until the checkout's version is above the known one."""
        read = model.Read(command_id=b"", checkout_id=command.checkout_id, owner=command.owner)
        self._watchers.setdefault(key, []).append((command.known_version, ticket, read))
        ticket.later()

    def _tell_watchers(self, key: str, version: int) -> None:
        waiting = self._watchers.pop(key)
        for known, ticket, read in waiting:
            if version > known:
                self.writer.submit(read, ticket)
            else:
                self._watchers.setdefault(key, []).append((known, ticket, read))


class _StepDone:
    """The ticket of an action's outcome."""

    __slots__ = ("coordinator", "key", "name")

    def __init__(self, coordinator: CheckoutCoordinator, key: str, name: str) -> None:
        self.coordinator = coordinator
        self.key = key
        self.name = name

    def reply(self, reply: Any) -> None:
        self.coordinator.step_done(self.key, self.name)

    def later(self) -> None:
        raise AssertionError("an outcome is never put off")


class _Watching:
    """The ticket of a watch: answered at once when there is news, else kept until there is."""

    def __init__(self, coordinator: CheckoutCoordinator, command: Watch, ticket: Ticket) -> None:
        self._coordinator = coordinator
        self._command = command
        self._ticket = ticket

    def reply(self, reply: Any) -> None:
        if isinstance(reply, model.CheckoutReply) and reply.checkout.version <= self._command.known_version:
            self._coordinator.watch(ids.body(self._command.checkout_id), self._command, self._ticket)
        else:
            self._ticket.reply(reply)

    def later(self) -> None:
        raise AssertionError("a read is never put off")


async def within(timeout_s: float, call: Awaitable[Outcome]) -> Outcome:
    """A gateway's answer, or `Unknown` when there is none in time: it may or may not have happened."""
    try:
        return await asyncio.wait_for(call, timeout_s)
    except TimeoutError:
        return Unknown(f"no answer within {timeout_s:g} s")
