"""What an actor's process has in it when it is to be cut at a crash point: a way to the others, and three seams.

Owns nothing in the actor but what stands for Ray: bytes for other actors, and what is logged, go through the pipe to
the test. A coordinator says what it has decided and what it is about to begin, and waits to be told to go on: there it
can be killed. Statements are cut outside, in the proxy before Postgres. Loaded by `incarnation_process` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import structlog

from actors import checkout_coordinator, cores
from actors.mailbox import Unreachable
from cluster import actor_classes, transport
from domain import checkout_model as model
from domain import ids
from domain.checkout_actions import Maker, next_steps
from domain.messages import Decision
from tests.simulation.ablations import ABLATIONS
from tests.support.incarnation_process import Pipe


def fit_to_be_cut(pipe: Pipe, without: str = "") -> None:
    """``without``: a safeguard that is taken out, to see that it is missed."""
    if without:
        ABLATIONS[without](ExitStack())  # it comes back with the end of the process only
    for module, name, stand_in in (
        (transport, "RayTransport", partial(PipedTransport, pipe)),
        (actor_classes, "log_to_stderr", partial(log_to, pipe)),
        (checkout_coordinator, "CheckoutCore", partial(ToldCore, pipe)),
        (checkout_coordinator, "next_steps", partial(told_steps, pipe)),
    ):
        setattr(module, name, stand_in)


class PipedTransport:
    """Calls of one named actor, as `cluster.transport.RayTransport` has them."""

    def __init__(self, pipe: Pipe, name: str, namespace: str) -> None:
        self._pipe = pipe
        self._name = name

    async def deliver(self, client: str, blob: bytes) -> bytes:
        return await self._call("deliver", client, blob)

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        return await self._call("drain", client, incarnation, acknowledged, wait_s)

    async def _call(self, method: str, *arguments: Any) -> bytes:
        answer: bytes | str = await self._pipe.ask("carry", self._name, method, arguments)
        if isinstance(answer, str):
            raise Unreachable(answer)
        return answer


class ToldCore(cores.CheckoutCore):
    """The coordinator's core; the state before a decision and after it is told."""

    def __init__(self, pipe: Pipe, policy: model.Policy) -> None:
        super().__init__(policy)
        self._pipe = pipe

    def decide(self, world: Any, command: Any, now_ms: int) -> Decision:
        decision = super().decide(world, command, now_ms)
        if isinstance(command, model.CheckoutCommand) and decision.after is not None:
            key = ids.body(command.checkout_id)
            self._pipe.tell("decided", command, world.get(model.KIND, key), decision.after[model.KIND, key])
        return decision


def told_steps(pipe: Pipe, state: model.Checkout) -> Mapping[str, Maker]:
    """`next_steps`, of which each that is begun is told."""

    def begin(make: Maker, state: model.Checkout, name: str) -> model.Action:
        pipe.tell("begin", state, name)
        return make(state, name)

    return {name: partial(begin, make) for name, make in next_steps(state).items()}


def log_to(pipe: Pipe) -> None:
    def send(_: Any, __: str, event: Any) -> Any:
        pipe.send("log", dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.processors.format_exc_info, send])
