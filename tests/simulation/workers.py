"""The API workers: processes that take a command to whoever owns its key, as `cluster.engine` does.

Owns the mailboxes of its process; dies like any. Knows nothing of HTTP: who asks is outside.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from actors.routing import Router
from cluster.engine_types import ResolvePayment
from cluster.messages import REPLIES, SANDBOX
from domain import cart, cart_model, ids, stock
from domain import checkout_model as model
from domain.messages import Command, Replayed
from tests.simulation.loop import Process
from tests.simulation.processes import Incarnation, Premises

_decoders = {kind: msgspec.msgpack.Decoder(reply).decode for kind, reply in REPLIES.items()}


class Worker:
    """One API worker: takes a command to whoever owns its key."""

    def __init__(self, premises: Premises, process: Process) -> None:
        self._routers: dict[str, Router] = {
            kind: premises.router(process, kind) for kind in ("stock", "cart", "checkout")
        }
        self._sandbox = premises.mailbox(process, SANDBOX, SANDBOX)

    async def ask(self, command: Any) -> Any:
        if isinstance(command, ResolvePayment):
            return await self._sandbox.ask(command)
        kind, key = _address(command)
        reply = await self._routers[kind].ask(key, command)
        return _decoders[kind](reply.body) if isinstance(reply, Replayed) else reply


def _address(command: Command) -> tuple[str, str]:
    match command:
        case model.CheckoutCommand():
            return "checkout", ids.body(command.checkout_id)
        case cart_model.CartCommandBase():
            return "cart", cart.route(command)
        case _:
            return "stock", stock.route(command) or ""  # type: ignore[arg-type]


def worker_builder(premises: Premises) -> Callable[[Incarnation], Awaitable[None]]:
    async def build(incarnation: Incarnation) -> None:
        incarnation.office = Worker(premises, incarnation.process)  # type: ignore[assignment]

    return build
