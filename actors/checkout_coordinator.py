"""The checkout coordinator: runs the sagas of one shard and is the one writer of their orders.

Owns which actions are under way. Promises that an action is begun only when the state that wants it is durable
(intent before effect), that its outcome comes back as a command, and that whatever is still wanted is done
again, with growing pauses, until it is no longer wanted: after a crash simply everything is. Never decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import structlog

from actors.contracts import Journal, Ticket
from actors.cores import CheckoutCore
from actors.event_sourced import EventSourced
from actors.stock_actor import GRACE_MS, JUMP_MS, TICK_S, Deadlines, Unasked
from domain import checkout_model as model
from domain import ids
from domain.checkout_actions import deadline_ms, finished_holds, held_accounts, next_actions, once_more, resting
from domain.messages import Key, Refusal

log = structlog.get_logger()

AGAIN_S = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0)
DUE_MOST = 5_000
NOT_OUTCOMES = ("busy", "internal_error")  # refusals that say nothing about the step itself


class Ports(Protocol):
    """The coordinator's way to everybody else."""

    def start(self, action: model.Action) -> asyncio.Future[Any]:
        """Begin an action; its future is done with the outcome, or with a Refusal to be asked again."""
        ...

    def forget(self, hold_id: str, accounts: Sequence[str]) -> None:
        """The hold has served: stock may forget it."""
        ...


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
        self._on_fenced = on_fenced
        self._ports = ports
        self._durable: dict[str, model.Checkout] = {}
        self._running: dict[str, set[str]] = {}
        self._tries: dict[tuple[str, str], int] = {}
        self._recovering = True
        self._deadlines = Deadlines()
        self._watchers: dict[str, list[tuple[int, Ticket, model.Read]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def live(self) -> int:
        """Sagas that are not at rest."""
        return len(self._durable)

    async def start(self) -> None:
        await self.writer.recover()
        self._recovering = False
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
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        """The writer and the timer never end by themselves: without one of them the process is of no use."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("coordinator broken", shard=self.writer.shard, error=repr(task.exception()))
            self._on_fenced()

    # ── what is durable, and what it wants ──────────────────────────────────────────────────────────────

    def _note(self, changed: Mapping[Key, Any]) -> None:
        for (kind, key), state in changed.items():
            if kind != model.KIND:
                continue
            actions = next_actions(state)
            if not actions and resting(state):
                self._durable.pop(key, None)
                self._running.pop(key, None)
                for hold_id in finished_holds(state):
                    self._ports.forget(hold_id, list(held_accounts(state)))
            else:
                self._durable[key] = state
                due_ms = deadline_ms(state)
                if due_ms is not None:
                    self._deadlines.add(due_ms, key)
                self._pursue(key, state, actions)
            if key in self._watchers:
                self._tell_watchers(key, state.version)

    def _pursue(self, key: str, state: model.Checkout, actions: Sequence[model.Action]) -> None:
        """Begin every wanted action that is not under way; one that was tried before, after a pause."""
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = set()
        for action in actions:
            if action.name in running:
                continue
            running.add(action.name)
            tries = self._tries.get((key, action.name), 0)
            # At recovery, the former incarnation may have begun it.
            begun = once_more(action) if tries or self._recovering else action
            if tries:
                pause_s = AGAIN_S[min(tries, len(AGAIN_S)) - 1]
                asyncio.get_running_loop().call_later(pause_s, self._begin, key, state.id, begun)
            else:
                self._begin(key, state.id, begun)

    def _begin(self, key: str, checkout_id: str, action: model.Action) -> None:
        future = self._ports.start(action)
        future.add_done_callback(partial(self._ended, key, checkout_id, action))

    def _ended(self, key: str, checkout_id: str, action: model.Action, future: asyncio.Future[Any]) -> None:
        """An outcome goes through the writer like any command; what is none is asked again."""
        if future.cancelled():
            return
        done = _StepDone(self, key, action.name)
        error = future.exception()
        result: Any = None if error is not None else future.result()
        if error is not None:
            log.error("action failed", action=action.name, checkout=checkout_id, error=repr(error))
            done.reply(None)
        elif isinstance(result, Refusal) and result.code in NOT_OUTCOMES:
            done.reply(result)
        else:
            if isinstance(action, model.CallGateway):
                result = model.LegOutcome(action.leg, result)
            step = model.Stepped(command_id=b"", checkout_id=checkout_id, action=action.name, result=result)
            self.writer.submit(step, done)

    def step_done(self, key: str, name: str) -> None:
        """The outcome is durable (or changed nothing): what is wanted still is begun again, after a pause."""
        running = self._running.get(key)
        if running is None:
            self._tries.pop((key, name), None)
            return
        running.discard(name)
        state = self._durable[key]
        actions = next_actions(state)
        if any(action.name == name for action in actions):
            self._tries[key, name] = self._tries.get((key, name), 0) + 1
            self._pursue(key, state, actions)
        else:
            self._tries.pop((key, name), None)

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
        state = self._durable.get(key)
        if state is not None and state.version > command.known_version:
            self.writer.submit(read, ticket)  # it changed between the reading and the answer
            return
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
