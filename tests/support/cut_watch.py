"""The simulation's watch over crash points, for actors that are real processes on a real Postgres.

Owns how the seams of such a process become those that `tests.simulation.crash_watch` knows: what it decides and begins
(it says so and waits), its statements as a proxy before Postgres reads them, its calls as the test carries them. So a
point is the same there and here. Whoever is struck dies by SIGKILL at that instant; judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, cast

from cluster.actor_classes import ActorConfig
from domain import checkout_model as model
from domain import ids
from domain.checkout_actions import next_steps
from tests.simulation import crash_watch
from tests.simulation.crash_points import Point
from tests.simulation.database import Statement
from tests.simulation.surgery import replace
from tests.support import tcp_proxy
from tests.support.incarnation import Incarnation
from tests.support.incarnation_process import Fit
from tests.support.tcp_proxy import TcpProxy, Way

EVENTS = 6  # their place among the arguments of `append_flush`
NAMES = {
    "append_flush(": "append",
    "sandbox_add(": "book",
    "sandbox_append(": "book",
    "take_shard(": "take",
}


class Listener(Protocol):
    """Whoever the incarnations speak to."""

    watch: CutWatch

    def heard(self, incarnation: Cuttable, what: str, *details: Any) -> None: ...
    def ended(self, incarnation: Cuttable) -> None: ...
    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...


class Cuttable(Incarnation):
    """One that can be struck down. ``process`` and ``dead`` are what the simulation's watch asks for."""

    def __init__(self, name: str, config: ActorConfig, fit: Fit, proxy: TcpProxy, listener: Listener) -> None:
        self.dead = False
        self.process = self
        self._sent: tcp_proxy.Fault | None = None  # the statement that it waits for
        self._listener = listener
        self._watch = listener.watch
        proxy.plan(Way.REQUEST_LOST, self._loses_request)
        self._doubt = proxy.plan(Way.ANSWER_LOST, self._loses_answer)
        super().__init__(name.partition("-")[0], name, config, fit)

    def hear(self, what: str, *details: Any) -> None:
        self._listener.heard(self, what, *details)

    def ended(self) -> None:
        self.dead = True
        self._listener.ended(self)

    def strike_down(self) -> None:
        """Dead, as far as anybody is concerned; where Postgres is to have its statement first, a moment later."""
        self.dead = True
        if self._sent is None:
            self.kill()
        else:
            self.stop()  # so that it hears nothing of it
            self._listener.spawn(self._die_after(self._sent))

    async def _die_after(self, statement: tcp_proxy.Fault) -> None:
        await statement.over.wait()
        self.kill()

    def _loses_request(self, statement: tcp_proxy.Statement) -> bool:
        """Told of every statement before it is passed on."""
        known = _known(statement)
        return known is not None and not self.dead and (self._watch.before(self, known) or self.dead)

    def _loses_answer(self, statement: tcp_proxy.Statement) -> bool:
        """As well, of those that are; what it says is done when Postgres has answered."""
        known = _known(statement)
        if known is None or self.dead:
            return False
        self._sent = self._doubt
        try:
            return self._watch.after(self, known) or self.dead
        finally:
            self._sent = None


def _known(statement: tcp_proxy.Statement) -> Statement | None:
    """As the simulation has it, if it is one in which a saga can be cut."""
    name = next((name for part, name in NAMES.items() if part in statement.sql), None)
    if name is None:
        return None
    events = statement.arguments[EVENTS] if name == "append" else b""
    return Statement(name, lambda: None, SimpleNamespace(events=events))


class Call(NamedTuple):
    """``src``: None where a buyer calls."""

    src: Cuttable | None
    to: str
    method: str


class CutWatch(crash_watch.Watch):
    """`Watch` for processes that say themselves where they are."""

    def __init__(self, targets: Sequence[Point], on_begin: Callable[[str, str], None]) -> None:
        super().__init__(cast(Any, self), targets, on_begin)

    def strike_down(self, victim: Cuttable, where: str) -> None:
        victim.strike_down()

    def decides(self, process: Cuttable, command: model.CheckoutCommand, before: Any, after: Any) -> None:
        key = (model.KIND, ids.body(command.checkout_id))
        world = SimpleNamespace(get=lambda *asked: before if asked == key else None)
        with _speaking(process):
            self.decided(world, command, cast(Any, SimpleNamespace(after={key: after})))

    def begins(self, process: Cuttable, state: model.Checkout, name: str) -> None:
        with _speaking(process):
            self._begin(next_steps(state)[name], state, name)

    def before(self, process: Cuttable, statement: Statement) -> bool:
        return self._before(cast(Any, process), statement)

    def after(self, process: Cuttable, statement: Statement) -> bool:
        return self._after(cast(Any, process), statement)

    def called(self, callee: Cuttable, call: Call) -> None:
        self._on_call(cast(Any, callee), cast(Any, call))

    def answered(self, callee: Cuttable, call: Call, answer: bytes) -> bool:
        """Whether the answer is lost."""
        return self._on_answer(cast(Any, callee), cast(Any, call), answer)


def _speaking(process: Cuttable) -> ExitStack:
    """Who decides or begins is who has just said so; in the simulation, it is whose loop runs."""
    stack = ExitStack()
    replace(stack, crash_watch, "_running", lambda: process)
    return stack
