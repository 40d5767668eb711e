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
from actors.promise import Promise
from actors.timers import Deadlines, Tasks, Unasked
from domain import checkout_model as model
from domain import ids
from domain.checkout_actions import (
    Maker,
    deadline_ms,
    finished_holds,
    held_accounts,
    may_rest,
    next_steps,
    once_more,
    outlived,
)
from domain.messages import NOT_OUTCOMES, Key, Refusal

log = structlog.get_logger()

AGAIN_S = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0)
TOGETHER_S = 0.1  # so long an outcome waits for its saga's others
DUE_MOST = 5_000


class Ports(Protocol):
    """The coordinator's way to everybody else."""

    def start(self, action: model.Action) -> asyncio.Future[Any] | Promise:
        """Begin an action; its future is done with the outcome, or with a Refusal to be asked again."""
        ...

    def forget(self, hold_id: str, accounts: Sequence[str]) -> None:
        """The return has served: stock may forget it."""
        ...


class Watch(model.CheckoutCommand, frozen=True, kw_only=True, tag=True):
    """Reply with the checkout as soon as its version is above ``known_version``."""

    known_version: int


CoordinatorCommand = model.AnyCommand | Watch


class _Saga:
    """One that is not at rest: its durable state, the steps which that wants, and what is under way for it.

    ``outcomes`` wait to be fed back; ``tries`` counts how often a wanted action has come to nothing.
    """

    __slots__ = ("outcomes", "running", "state", "tries", "wanted")

    def __init__(self) -> None:
        self.state: model.Checkout
        self.wanted: Mapping[str, Maker] = {}
        self.running: set[str] = set()
        self.outcomes: list[tuple[str, Any]] = []
        self.tries: dict[str, int] = {}

    def more_to_come(self) -> bool:
        """Whether another wanted action is on its first try; for one that is tried again nobody waits."""
        if len(self.wanted) < 2:
            return False
        told = [name for name, _ in self.outcomes]
        return any(name in self.running and name not in self.tries for name in self.wanted if name not in told)


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
        self._ports = ports
        self._sagas: dict[str, _Saga] = {}
        self._recovering = True
        self._deadlines = Deadlines(clock_ms, self._on_due, DUE_MOST)
        self._watchers: dict[str, list[tuple[int, Ticket, model.Read]]] = {}
        self._tasks = Tasks(shard, on_fenced)

    @property
    def live(self) -> int:
        """Sagas that are not at rest."""
        return len(self._sagas)

    async def start(self) -> None:
        await self.writer.recover()
        self._recovering = False
        self._deadlines.give_grace(self.writer.recovered_at_ms)
        self._tasks.spawn(self.writer.run())
        self._tasks.spawn(self._deadlines.run())

    async def stop(self) -> None:
        await self._tasks.stop()

    def submit(self, command: CoordinatorCommand, ticket: Ticket) -> None:
        if isinstance(command, Watch):
            read = model.Read(command_id=b"", checkout_id=command.checkout_id, owner=command.owner)
            self.writer.submit(read, _Watching(self, command, ticket))
        else:
            self.writer.submit(command, ticket)

    # ── what is durable, and what it wants ──────────────────────────────────────────────────────────────

    def _note(self, changed: Mapping[Key, Any]) -> None:
        for (kind, key), state in changed.items():
            if kind != model.KIND:
                continue
            wanted = next_steps(state)
            if not wanted and may_rest(state):
                rested = self._sagas.pop(key, None)
                if rested is not None:
                    rested.wanted = wanted
                for hold_id in finished_holds(state):
                    self._ports.forget(hold_id, list(held_accounts(state)))
            else:
                saga = self._sagas.get(key)
                if saga is None:
                    saga = self._sagas[key] = _Saga()
                saga.state, saga.wanted = state, wanted
                due_ms = deadline_ms(state)
                if due_ms is not None:
                    self._deadlines.add(due_ms, key)
                self._pursue(saga)
            if key in self._watchers:
                self._tell_watchers(key, state.version)

    def _pursue(self, saga: _Saga) -> None:
        """Begin every wanted action that is not under way; one that was tried before, after a pause."""
        for name in saga.wanted:
            if name in saga.running:
                continue
            saga.running.add(name)
            tries = saga.tries.get(name, 0)
            if tries:
                pause_s = AGAIN_S[min(tries, len(AGAIN_S)) - 1]
                asyncio.get_running_loop().call_later(pause_s, self._begin_again, saga, name)
            else:
                # At recovery, the former incarnation may have begun it.
                self._begin(saga, name, again=self._recovering)

    def _begin_again(self, saga: _Saga, name: str) -> None:
        """After its pause, unless it is no longer wanted."""
        if name in saga.wanted:
            self._begin(saga, name, again=True)
        else:
            saga.running.discard(name)

    def _begin(self, saga: _Saga, name: str, *, again: bool) -> None:
        action = saga.wanted[name](saga.state, name)
        if again:
            action = once_more(action)
        outcome = outlived(action, self.writer.now_ms)
        if outcome is None:
            future = self._ports.start(action)
        else:
            future = Promise()
            future.set_result(outcome)
        future.add_done_callback(partial(self._ended, saga, action))

    def _ended(self, saga: _Saga, action: model.Action, future: asyncio.Future[Any] | Promise) -> None:
        """An outcome goes through the writer like any command; what is none is asked again."""
        if future.cancelled():
            return
        error = future.exception()
        result: Any = None if error is not None else future.result()
        if error is not None:
            log.error("action failed", action=action.name, checkout=saga.state.id, error=repr(error))
            self.stepped(saga, [action.name])
        elif isinstance(result, Refusal) and result.code in NOT_OUTCOMES:
            self.stepped(saga, [action.name])
        else:
            if isinstance(action, model.CallGateway):
                result = model.LegOutcome(action.leg, result)
            saga.outcomes.append((action.name, result))
            if len(saga.outcomes) == 1 and saga.more_to_come():
                asyncio.get_running_loop().call_later(TOGETHER_S, self._hand_in, saga, True)
            self._hand_in(saga)

    def _hand_in(self, saga: _Saga, late: bool = False) -> None:
        """What ran side by side for one saga comes back together: one command, one event, one look at its state.

        But nothing waits for what is ``late``: a gateway's answer must not hang on a cart that is silent.
        """
        if saga.outcomes and (late or not saga.more_to_come()):
            outcomes, saga.outcomes = saga.outcomes, []
            step = model.Stepped(command_id=b"", checkout_id=saga.state.id, outcomes=tuple(outcomes))
            self.writer.submit(step, _Stepping(self, saga, [name for name, _ in outcomes]))

    def stepped(self, saga: _Saga, names: Sequence[str]) -> None:
        """Outcomes are durable (or changed nothing): what is wanted still is begun again, after a pause."""
        saga.running.difference_update(names)
        if self._sagas.get(ids.body(saga.state.id)) is not saga:
            return
        for name in names:
            if name in saga.wanted:
                saga.tries[name] = saga.tries.get(name, 0) + 1
            else:
                saga.tries.pop(name, None)
        self._pursue(saga)
        self._hand_in(saga)  # some may have waited for what has just been told, or has come to nothing

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────

    def _on_due(self, keys: Sequence[str], now_ms: int) -> None:
        for key in keys:
            saga = self._sagas.get(key)
            due_ms = deadline_ms(saga.state) if saga is not None else None
            if saga is not None and due_ms is not None and due_ms <= now_ms:
                self.writer.submit(model.Due(command_id=b"", checkout_id=saga.state.id), Unasked())

    # ── watching ────────────────────────────────────────────────────────────────────────────────────────

    def watch(self, key: str, command: Watch, ticket: Ticket) -> None:
        """Keep the ticket until the checkout's version is above the known one."""
        read = model.Read(command_id=b"", checkout_id=command.checkout_id, owner=command.owner)
        saga = self._sagas.get(key)
        if saga is None or saga.state.version > command.known_version:
            # It changed, or came to its rest, between the reading and the answer; what rests is told as it is.
            self.writer.submit(read, ticket)
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


class _Stepping:
    """The ticket of outcomes."""

    __slots__ = ("coordinator", "names", "saga")

    def __init__(self, coordinator: CheckoutCoordinator, saga: _Saga, names: Sequence[str]) -> None:
        self.coordinator = coordinator
        self.saga = saga
        self.names = names

    def reply(self, reply: Any) -> None:
        self.coordinator.stepped(self.saga, self.names)

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
