"""Who sees every passage of a crash point in a run, and cuts where it is told to.

Owns how a point is recognized at the seams of the simulation: what a coordinator decides (its core), what it
begins (the makers of its actions), statements on their way to the database, calls on their way to whoever makes
the effect. Product code has no hook for any of it. Judges nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from actors import checkout_coordinator, cores
from domain import checkout_model as model
from domain import ids
from domain.checkout_actions import Maker, next_steps
from domain.messages import Decision
from tests.simulation.crash_points import EXECUTED, RECOVERY, Point, only_asks, step_of
from tests.simulation.database import Line, Statement
from tests.simulation.loop import Process
from tests.simulation.network import Call
from tests.simulation.processes import Incarnation, Processes
from tests.simulation.surgery import replace

_read_events = msgspec.msgpack.Decoder(list[model.CheckoutEvent]).decode
CALLEES = {
    model.TakeStock: "stock",
    model.HoldStep: "stock",
    model.BeginCart: "cart",
    model.EndCart: "cart",
    model.AskToReplace: "checkout",
    model.CallGateway: "sandbox",
}


@dataclass
class _Decided:
    """What the next record of a checkout will make durable: that a step is wanted, or its outcome."""

    process: Process
    key: str
    what: str  # "intent" or "outcome"
    phase: str
    step: str


@dataclass
class _Begun:
    """An effect that is under way. ``callee``: who has been asked for it."""

    process: Process
    phase: str
    step: str
    to: str
    callee: Process | None = None


class Watch:
    """``targets``: where to cut, one after the other. ``passed``: the points since the last cut, as they came."""

    def __init__(
        self, processes: Processes, targets: Sequence[Point], on_begin: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self.targets = list(targets)
        self.passed: dict[Point, None] = {}
        self._cuts = 0
        self._processes = processes
        self._on_begin = on_begin
        self._decided: list[_Decided] = []
        self._begun: list[_Begun] = []

    def install(self, stack: ExitStack, line: Line) -> None:
        watch = self

        class Core(cores.CheckoutCore):
            def decide(self, world: Any, command: Any, now_ms: int) -> Decision:
                decision = super().decide(world, command, now_ms)
                watch.decided(world, command, decision)
                return decision

        replace(stack, checkout_coordinator, "CheckoutCore", Core)
        replace(stack, checkout_coordinator, "next_steps", self._watched_steps)
        line.before, line.after = self._before, self._after
        self._processes.on_call, self._processes.on_answer = self._on_call, self._on_answer

    def _passes(self, phase: str, step: str, cut: str, victim: Process | None) -> bool:
        """Whether it is cut here; the victim is dead then."""
        point = Point(phase, step, cut)
        if not self.targets or point != self.targets[0]:
            self.passed[point] = None
            return False
        del self.targets[0]
        self._cuts += 1
        self.passed.clear()
        if victim is not None:
            self._processes.strike_down(victim, f"{point}")
        return True

    # ── the coordinator ─────────────────────────────────────────────────────────────────────────────────

    def decided(self, world: Any, command: Any, decision: Decision) -> None:
        if not isinstance(command, model.CheckoutCommand) or decision.after is None:
            return
        process, key = _running(), ids.body(command.checkout_id)
        before, after = world.get(model.KIND, key), decision.after[model.KIND, key]
        had = next_steps(before) if before is not None else {}
        if isinstance(command, model.Stepped):
            for name in [name for name, _ in command.outcomes if name in had]:
                step = step_of(name)
                self._decided.append(_Decided(process, key, "outcome", before.phase, step))
                self._begun = [one for one in self._begun if (one.process, one.step) != (process, step)]
        for name in next_steps(after).keys() - had.keys():
            self._decided.append(_Decided(process, key, "intent", after.phase, step_of(name)))

    def _watched_steps(self, state: model.Checkout) -> dict[str, Maker]:
        return {name: partial(self._begin, make) for name, make in next_steps(state).items()}

    def _begin(self, make: Maker, state: model.Checkout, name: str) -> model.Action:
        action, process, step = make(state, name), _running(), step_of(name)
        self._on_begin(state.phase, step)
        if not process.dead and not self._passes(state.phase, step, "not begun", process):
            self._begun.append(_Begun(process, state.phase, step, CALLEES[type(action)]))
        return action

    # ── the database ────────────────────────────────────────────────────────────────────────────────────

    def _before(self, process: Process, statement: Statement) -> bool:
        for one in self._written_by(process, statement):
            if self._passes(one.phase, one.step, f"{one.what} unwritten", process):
                return False
            if self._passes(one.phase, one.step, f"{one.what} lost", None):
                return True
        return False

    def _after(self, process: Process, statement: Statement) -> bool:
        written = list(self._written_by(process, statement))
        self._decided = [one for one in self._decided if one not in written and not one.process.dead]
        for one in written:
            if self._passes(one.phase, one.step, f"{one.what} written", process):
                return False
            if self._passes(one.phase, one.step, f"{one.what} in doubt", None):
                return True
        if self._cuts and statement.name in RECOVERY:
            self._passes("recovering", statement.name, EXECUTED, process)
        elif statement.name in ("append", "book"):
            return self._made(process)
        return False

    def _written_by(self, process: Process, statement: Statement) -> Iterator[_Decided]:
        mine = [one for one in self._decided if one.process is process]
        if not mine or statement.name != "append":
            return
        keys = {getattr(event, "checkout", "") for event in _read_events(statement.subject.events)}
        yield from (one for one in mine if one.key in keys)

    def _made(self, process: Process) -> bool:
        for one in self._begun:
            if one.callee is not process or only_asks(one.step):
                continue
            if self._passes(one.phase, one.step, "effect made", process):
                return False
            if self._passes(one.phase, one.step, "effect in doubt", None):
                return True
        return False

    # ── whoever makes the effect ────────────────────────────────────────────────────────────────────────

    def _on_call(self, incarnation: Incarnation, call: Call) -> None:
        if call.method != "deliver":
            return
        for one in self._begun:
            if one.process is call.src and one.to == call.to.partition("-")[0]:
                one.callee = incarnation.process
                if self._passes(one.phase, one.step, "effect unmade", incarnation.process):
                    return

    def _on_answer(self, incarnation: Incarnation, call: Call, answer: bytes) -> bool:
        asked = [one for one in self._begun if one.process is call.src and one.callee is incarnation.process]
        if not asked or not _has_reply(call, answer):
            return False
        for one in asked:
            if self._passes(one.phase, one.step, "effect unanswered", incarnation.process):
                return False
            if self._passes(one.phase, one.step, "answer lost", None):
                return True
            if self._passes(one.phase, one.step, "answer unheard", call.src):
                return False
        return False


def _running() -> Process:
    """Who decides or begins is whose loop runs."""
    process: Any = asyncio.get_running_loop()
    assert isinstance(process, Process)
    return process


def _has_reply(call: Call, answer: bytes) -> bool:
    """Not only that it will come later."""
    _, entries = msgspec.msgpack.decode(answer)
    return bool(entries) if call.method == "drain" else any(reply is not None for _, reply in entries)
