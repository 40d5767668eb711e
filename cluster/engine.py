"""The engine as an API worker has it: mailboxes to every actor, and the routing of commands by their key.

Owns this process's mailboxes. Promises what `engine_types.Engine` does; knows of Ray only through them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec
import ray

from actors.checkout_coordinator import Watch
from actors.mailbox import Mailbox
from actors.routing import Router
from actors.stock_port import StockPort
from cluster import messages
from cluster.engine_types import DEFAULT_WAIT_S, Answer, Busy, ReadBook, SandboxRequest, StillPending
from cluster.transport import find_actor
from domain import cart, cart_model, ids, stock
from domain import checkout_model as model
from domain.messages import Command, Refusal, Replayed
from persistence.audit import audit

SIGN_OF_LIFE_S = 2.0
MOST_UNANSWERED = 50_000  # commands of this process to one shard
ENDED = ("completed", "canceled")


class RayEngine:
    """`Engine` over Ray actors. Use on one event loop; `close` when done."""

    def __init__(self, routers: Mapping[str, Router], sandbox: Mailbox, pool: asyncpg.Pool, *, namespace: str) -> None:
        self._routers = routers
        self._sandbox = sandbox
        self._pool = pool
        self._namespace = namespace
        self._stock = StockPort(routers["stock"], lambda: time.time_ns() // 1_000_000)
        self._decoders = {kind: msgspec.msgpack.Decoder(reply) for kind, reply in messages.REPLIES.items()}

    async def close(self) -> None:
        for router in self._routers.values():
            await router.close()
        await self._sandbox.close()

    async def ask(self, command: Command, wait_s: float | None = DEFAULT_WAIT_S) -> Answer:
        kind, key = _address(command)
        router = self._routers[kind]
        shard = router.table.shard_of(key) if key is not None else router.table.shards[0]
        if len(router.mailboxes[shard]) >= MOST_UNANSWERED:
            raise Busy
        reply = await _within(router.ask_shard(shard, command), wait_s)
        if reply is None:
            raise StillPending
        if isinstance(reply, Refusal) and reply.code == "busy":
            raise Busy
        if isinstance(reply, Replayed):
            return Answer(self._decoders[kind].decode(reply.body), True)
        return Answer(reply)

    async def quote(self, skus: Sequence[str]) -> list[stock.Offer]:
        try:
            return await asyncio.wait_for(self._stock.quote([stock.account_of(sku) for sku in skus]), DEFAULT_WAIT_S)
        except TimeoutError:
            raise Busy from None

    async def watch(self, checkout_id: str) -> AsyncIterator[model.CheckoutView]:
        """The checkout now, and again at each change, until it has ended."""
        known = 0
        while True:
            command = Watch(command_id=b"", checkout_id=checkout_id, known_version=known)
            try:
                answer = await self.ask(command, None)
            except Busy as busy:
                await asyncio.sleep(busy.retry_after_s)
                continue
            if not isinstance(answer.reply, model.CheckoutReply):
                return
            view = answer.reply.checkout
            known = view.version
            yield view
            if view.status in ENDED:
                return

    async def put_rules(self, command: model.PutRules) -> model.Rules:
        router = self._routers["checkout"]
        replies = await asyncio.wait_for(
            asyncio.gather(*(router.ask_shard(shard, command) for shard in router.table.shards)),
            DEFAULT_WAIT_S,
        )
        for reply in replies:
            if not isinstance(reply, model.RulesReply):
                raise Busy
        rules: model.Rules = replies[0].rules
        return rules

    async def sandbox(self, request: SandboxRequest) -> Any:
        reply = await _within(self._sandbox.ask(request), DEFAULT_WAIT_S)
        if reply is None or isinstance(reply, messages.SandboxProblem):
            raise Busy
        return reply.entries if isinstance(request, ReadBook) else reply

    async def audit(self) -> dict[str, Any]:
        report = await audit(self._pool, time.time_ns() // 1_000_000)
        return report.as_dict()

    async def stock_owner(self, sku: str) -> tuple[str, int]:
        shard = self._routers["stock"].table.shard_of(stock.account_of(sku))
        status = await self._status(shard)
        return shard, status.get("epoch", 0)

    async def status(self) -> list[dict[str, Any]]:
        """Every actor's own word on how it is; one that does not answer says so."""
        names = [(kind, shard) for kind, router in self._routers.items() for shard in router.table.shards]
        names.append((messages.SANDBOX, messages.SANDBOX))
        found = await asyncio.gather(*(self._status(name) for _, name in names))
        return [{"kind": kind, **status} for (kind, _), status in zip(names, found, strict=True)]

    async def ready(self) -> dict[str, Any]:
        actors = await self.status()
        away = [actor["shard"] for actor in actors if "error" in actor]
        return {"ready": not away, "actors": len(actors), "away": away}

    async def _status(self, name: str) -> dict[str, Any]:
        """An actor's status, or why there is none."""
        try:
            async with asyncio.timeout(SIGN_OF_LIFE_S):
                handle = await find_actor(name, self._namespace)
                return dict(await handle.status.remote())
        except (ray.exceptions.RayError, ValueError, TimeoutError) as error:
            return {"shard": name, "error": type(error).__name__}


async def _within(future: asyncio.Future[Any], wait_s: float | None) -> Any:
    """The reply, or None when it takes longer. Giving up waiting takes nothing back of what is on its way.

    What `asyncio.wait` does for one future, at a third of the price: this is on the way of every request.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    future.add_done_callback(lambda _: _wake(waiter))
    timer = loop.call_later(wait_s, _wake, waiter) if wait_s is not None else None
    try:
        await waiter
    finally:
        if timer is not None:
            timer.cancel()
    return future.result() if future.done() else None


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _address(command: Command) -> tuple[str, str | None]:
    """The kind and key of whoever takes the command; no key: any shard of the kind."""
    if isinstance(command, model.CheckoutCommand):
        return "checkout", ids.body(command.checkout_id)
    if isinstance(command, model.PutRules | model.ReadRules):
        return "checkout", None
    if isinstance(command, cart_model.CartCommandBase):
        return "cart", cart.route(command)
    return "stock", stock.route(command)  # type: ignore[arg-type]
