"""The engine in memory: the real cores, the real sandbox gateway with its book in memory, one clock to turn.

`FakeEngine` is `cluster.engine_types.Engine` without Ray, Postgres or waiting. What a checkout wants done is
done at once, in tasks beside the caller, so that a gateway that hangs leaves a reply pending as it would in
life. An action whose outcome changes nothing is tried a few times and then left until `resume`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from actors.ports import MailboxPorts
from actors.promise import Promise
from actors.routing import Router, SlotTable
from actors.stock_port import StockPort
from cluster import engine_types as port
from cluster.engine_types import Answer, StillPending
from domain import cart, cart_model, checkout, ids, ledger, stock, stock_model
from domain import checkout_model as model
from domain.checkout_actions import deadline_ms, next_actions
from domain.checkout_views import view
from domain.messages import Command, Decision, Key, Replayed
from domain.order import OrderEventRow, OrderRow, OrderStateRow
from gateways.sandbox import Sandbox
from gateways.sandbox_book import MemoryBook
from tests.support.fake_orders import FakeOrders
from tests.support.promises import answered

TRIES = 3
ENDED = ("completed", "canceled")


class Clock:
    """Milliseconds since 1970, turned by hand."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Entities:
    """The states of one core; a world that is only read by `decide`."""

    def __init__(self, decide: Callable[..., Decision], touches: Any, evolve: Any, reply_type: Any) -> None:
        self.states: dict[Key, Any] = {}
        self._decide = decide
        self._touches = touches
        self._evolve = evolve
        self._decode = msgspec.msgpack.Decoder(reply_type).decode
        self.waiting: dict[bytes, list[asyncio.Future[Answer]]] = {}

    def get(self, kind: str, identifier: str) -> Any:
        return self.states.get((kind, identifier))

    def handle(self, command: Any, now_ms: int) -> Decision:
        """Decide and apply; whoever waits for one of the answers has it."""
        decision = self._decide(self, command, now_ms)
        for event in decision.events:
            for key in self._touches(event):
                state = self._evolve(key, self.states.get(key), event)
                if state is None:
                    self.states.pop(key, None)
                else:
                    self.states[key] = state
        for command_id, reply in decision.answers:
            for future in self.waiting.pop(command_id, ()):
                if not future.done():
                    future.set_result(self.answer(reply))
        return decision

    def answer(self, reply: Any) -> Answer:
        """A reply as the port promises it: a kept one decoded."""
        return Answer(self._decode(reply.body), True) if isinstance(reply, Replayed) else Answer(reply)


class _Box:
    """A mailbox without a way."""

    def __init__(self, ask: Callable[[Any], Any]) -> None:
        self._ask = ask

    def ask(self, command: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._ask(command))

    def ask_lightly(self, command: Any) -> Promise:
        """The same, for whoever is called back."""
        promise = Promise()
        self.ask(command).add_done_callback(lambda told: promise.set_result(told.result()))
        return promise


class FakeEngine:
    """See the module. `busy`: every ask is refused as overloaded. `is_ready`: what `ready` says."""

    def __init__(self, policy: model.Policy | None = None, cart_policy: cart_model.CartPolicy | None = None) -> None:
        policy, cart_policy = policy or model.Policy(), cart_policy or cart_model.CartPolicy()
        self.clock = Clock()
        self.orders = FakeOrders()
        self.gateway = Sandbox(MemoryBook(), no_answer_after_s=0.0)
        self.busy: port.Busy | None = None
        self.is_ready = True
        self.stock = Entities(stock.decide, stock.touches, stock.evolve, stock_model.StockReply)
        self.carts = Entities(
            lambda *args: cart.decide(cart_policy, *args), cart.touches, cart.evolve, cart_model.CartReplyType
        )
        self.checkouts = Entities(
            lambda *args: checkout.decide(policy, *args), checkout.touches, checkout.evolve, model.Reply
        )
        slots = {kind: SlotTable([kind] * ids.SLOTS, {}) for kind in ("stock", "cart", "checkout")}
        box: Any = _Box(self._reply)
        routers = {kind: Router(table, {kind: box}) for kind, table in slots.items()}
        gateways: Any = {"sandbox": _Box(self.gateway.call)}
        self._stock_port = StockPort(routers["stock"], self.clock)
        self._ports = MailboxPorts(self._stock_port, routers["cart"], routers["checkout"], gateways, 60.0)
        self._running: set[tuple[str, str]] = set()
        self._tries: Counter[tuple[str, str]] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self.watched = asyncio.Event()
        """Set once somebody has begun to watch a checkout."""
        self._watchers: dict[str, list[asyncio.Queue[model.CheckoutView]]] = {}

    # ── the port ────────────────────────────────────────────────────────────────────────────────────────

    async def ask(self, command: Command, wait_s: float = port.DEFAULT_WAIT_S) -> Answer:
        if self.busy is not None:
            raise self.busy
        future = self._send(command)
        if isinstance(command, stock_model.Inspect):
            return self._with_holds(command, await future)
        try:
            return await asyncio.wait_for(asyncio.shield(future), wait_s)
        except TimeoutError:
            raise StillPending from None

    async def quote(self, skus: Sequence[str]) -> list[stock_model.Offer]:
        return await self._stock_port.quote([stock_model.account_of(sku) for sku in skus])

    async def watch(self, checkout_id: str) -> AsyncIterator[model.CheckoutView]:
        key = ids.body(checkout_id)
        queue: asyncio.Queue[model.CheckoutView] = asyncio.Queue()
        self._watchers.setdefault(key, []).append(queue)
        self.watched.set()
        try:
            shown = view(self.checkouts.states[model.KIND, key])
            yield shown
            while shown.status not in ENDED:
                shown = await queue.get()
                yield shown
        finally:
            self._watchers[key].remove(queue)

    async def put_rules(self, command: model.PutRules) -> model.Rules:
        reply: model.RulesReply = (await self.ask(command)).reply
        return reply.rules

    async def sandbox(self, request: port.SandboxRequest) -> Any:
        match request:
            case port.SetSandbox():
                return self.gateway.configure(mode=request.mode, latency_ms=request.latency_ms)
            case port.ResolvePayment():
                return await self.gateway.resolve(request.payment_id, request.outcome)
            case port.ReadBook():
                return await self.gateway.entries(request.after, request.limit)

    async def audit(self) -> dict[str, Any]:
        checked = {"accounts": 0, "payments": 0, "orders": 0, "journal_records": 0}
        return {"consistent": True, "checked": checked, "violations": []}

    async def stock_owner(self, sku: str) -> tuple[str, int]:
        return "stock-0", 7

    async def ready(self) -> dict[str, Any]:
        return {"ready": self.is_ready, "shards": 3}

    # ── for tests ───────────────────────────────────────────────────────────────────────────────────────

    def resume(self) -> None:
        """Try again whatever was left, as a restarted coordinator would."""
        self._tries.clear()
        for kind, key in list(self.checkouts.states):
            if kind == model.KIND:
                self._pursue(key)

    async def reached(self, checkout_id: str, status: str) -> None:
        """Wait until the checkout has that status."""
        async for shown in self.watch(checkout_id):
            if shown.status == status:
                return

    async def advance(self, ms: int) -> None:
        """Turn the clock on; what is due then happens."""
        self.clock.now_ms += ms
        states = [state for (kind, _), state in self.checkouts.states.items() if kind == model.KIND]
        for state in states:
            due_ms = deadline_ms(state)
            if due_ms is not None and due_ms <= self.clock.now_ms:
                self._send(model.Due(command_id=b"", checkout_id=state.id))
        await self.settled()

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.gateway.close()

    # ── the machine ─────────────────────────────────────────────────────────────────────────────────────

    async def _reply(self, command: Any) -> Any:
        return (await self._send(command)).reply

    def _send(self, command: Any) -> asyncio.Future[Answer]:
        entities = self._owner_of(command)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        decision = entities.handle(command, self.clock())
        if decision.reply is None:
            answered = dict(decision.answers).get(command.command_id)
            if answered is not None:
                future.set_result(entities.answer(answered))
            else:
                entities.waiting.setdefault(command.command_id, []).append(future)
        else:
            future.set_result(entities.answer(decision.reply))
        if entities is self.checkouts and isinstance(command, model.CheckoutCommand):
            self._note(ids.body(command.checkout_id), decision)
        return future

    def _with_holds(self, command: stock_model.Inspect, answer: Answer) -> Answer:
        if not isinstance(answer.reply, stock_model.Levels):
            return answer
        account = stock_model.account_of(command.sku)
        holds = tuple(
            stock_model.HoldLine(hold.id, hold.legs[account], hold.status == "pinned", hold.expires_at_ms)
            for hold in holds_of(self).values()
            if account in hold.legs
        )
        return Answer(msgspec.structs.replace(answer.reply, holds=holds))

    def _owner_of(self, command: Any) -> Entities:
        if isinstance(command, stock_model.StockCommand):
            return self.stock
        return self.carts if isinstance(command, cart_model.CartCommandBase) else self.checkouts

    def _note(self, key: str, decision: Decision) -> None:
        self.orders.add([r for r in decision.rows if isinstance(r, OrderRow | OrderStateRow | OrderEventRow)])
        if decision.events:
            for queue in self._watchers.get(key, ()):
                queue.put_nowait(view(self.checkouts.states[model.KIND, key]))
        self._pursue(key)

    def _pursue(self, key: str) -> None:
        state = self.checkouts.get(model.KIND, key)
        for action in next_actions(state) if state is not None else ():
            name = (key, action.name)
            if name not in self._running and self._tries[name] < TRIES:
                self._running.add(name)
                self._tries[name] += 1
                task = asyncio.get_running_loop().create_task(self._perform(key, state.id, action))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _perform(self, key: str, checkout_id: str, action: model.Action) -> None:
        result = await self._outcome_of(action)
        self._running.discard((key, action.name))
        step = model.Stepped(command_id=b"", checkout_id=checkout_id, outcomes=((action.name, result),))
        await self._send(step)

    async def _outcome_of(self, action: model.Action) -> Any:
        result = await answered(self._ports.start(action))
        return model.LegOutcome(action.leg, result) if isinstance(action, model.CallGateway) else result


def holds_of(engine: FakeEngine) -> dict[str, ledger.Hold]:
    """The holds that are live."""
    return {key: state for (kind, key), state in engine.stock.states.items() if kind == "hold" and state.live}
