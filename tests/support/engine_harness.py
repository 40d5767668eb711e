"""The whole engine in one process: the real actors, mailboxes, sandbox and Postgres, without Ray and HTTP.

Owns the composition that the cluster makes of processes. Commands and replies are those of the pure cores;
personal data is stand-in bytes, as it would be sealed. Tests crash and revive its actors; benchmarks load it.

    async with engine(dsn) as e:
        await e.put_product("A", price=1999)
        await e.adjust("A", 20)
        reply = await e.express({"A": 1})
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any, Literal

import asyncpg
import msgspec

from actors.cart_actor import CartActor
from actors.checkout_coordinator import CheckoutCoordinator
from actors.mailbox import Mailbox
from actors.ports import MailboxPorts
from actors.post_office import PostOffice
from actors.promise import Promise
from actors.routing import Router, SlotTable
from actors.stock_actor import StockActor
from actors.stock_port import StockPort
from cluster import directory
from cluster.messages import COMMANDS, REPLIES, SANDBOX
from domain import cart, cart_model, ids, stock
from domain import checkout_model as model
from domain.cart_model import CartPolicy
from domain.catalog import Product
from domain.checkout_model import Policy
from domain.messages import Command, Replayed
from gateways.sandbox import Sandbox
from persistence.audit import AuditReport, audit
from persistence.journal import PostgresJournal
from persistence.sandbox_book import SandboxBook
from tests.support.engine_node import Node, Stop

VISA = "pm_card_visa"
BUYER = model.Buyer(b"sealed buyer", "email-hash")
ADDRESS = model.Address(b"sealed address", "US", "CA", "94105")
DETAILS = model.Fields(("buyer", "shipping_address"), buyer=BUYER, shipping_address=ADDRESS)
GUEST = "g:guest"


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait until the condition holds. TimeoutError when it does not come to hold."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for does not know that it is
            await asyncio.sleep(0.005)


class _MortalPorts:
    """A coordinator's ports that end with it: a repeat that it put off does not happen after its death."""

    def __init__(self, ports: MailboxPorts) -> None:
        self.dead = False
        self._ports = ports

    def start(self, action: model.Action) -> asyncio.Future[Any] | Promise:
        return asyncio.get_running_loop().create_future() if self.dead else self._ports.start(action)

    def forget(self, hold_id: str, accounts: Sequence[str]) -> None:
        if not self.dead:
            self._ports.forget(hold_id, accounts)


class Engine:
    """Everything running. `nodes` are the actors by the names of their shards, and the sandbox."""

    def __init__(
        self,
        dsn: str,
        pool: asyncpg.Pool,
        tables: Mapping[str, SlotTable],
        *,
        policy: Policy,
        latency_ms: str,
        gateway_timeout_s: float,
    ) -> None:
        self.pool = pool
        self.policy = policy
        self.sandbox: Sandbox
        self._tables = tables
        self._latency_ms = latency_ms
        self._gateway_timeout_s = gateway_timeout_s
        self._numbers = itertools.count()
        builders = {"stock": self._stock, "cart": self._cart, "checkout": self._checkout}
        self.nodes = {
            shard: Node(shard, dsn, self._builder(builders[kind], shard))
            for kind, table in tables.items()
            for shard in table.shards
        }
        self.nodes[SANDBOX] = Node(SANDBOX, dsn, self._gateway)
        self._routers = self._new_routers()

    # ── composition ─────────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def _builder(build: Any, shard: str) -> Any:
        return lambda pool: build(shard, pool)

    def _new_routers(self) -> dict[str, Router]:
        """Mailboxes of one client to every shard."""
        return {
            kind: Router(table, {shard: Mailbox(self.nodes[shard], REPLIES[kind]) for shard in table.shards})
            for kind, table in self._tables.items()
        }

    async def _stock(self, shard: str, pool: asyncpg.Pool) -> tuple[Any, PostOffice, Stop]:
        actor = StockActor(shard, PostgresJournal(pool), clock_ms)
        office = PostOffice(actor.submit, COMMANDS["stock"])
        await actor.start()
        return actor, office, actor.stop

    async def _cart(self, shard: str, pool: asyncpg.Pool) -> tuple[Any, PostOffice, Stop]:
        actor = CartActor(shard, PostgresJournal(pool), clock_ms, CartPolicy(self.policy.cart_idle_ms))
        office = PostOffice(actor.submit, COMMANDS["cart"])
        await actor.start()
        return actor, office, actor.stop

    async def _checkout(self, shard: str, pool: asyncpg.Pool) -> tuple[Any, PostOffice, Stop]:
        routers = self._new_routers()
        gateway = Mailbox(self.nodes[SANDBOX], REPLIES[SANDBOX])
        ports = MailboxPorts(
            StockPort(routers["stock"], clock_ms),
            routers["cart"],
            routers["checkout"],
            {"sandbox": gateway},
            self._gateway_timeout_s,
        )
        mortal = _MortalPorts(ports)
        actor = CheckoutCoordinator(shard, PostgresJournal(pool), clock_ms, mortal, self.policy)
        office = PostOffice(actor.submit, COMMANDS["checkout"])

        async def stop() -> None:
            mortal.dead = True
            await actor.stop()
            await gateway.close()
            for router in routers.values():
                await router.close()

        await actor.start()
        return actor, office, stop

    async def _gateway(self, pool: asyncpg.Pool) -> tuple[Any, PostOffice, Stop]:
        sandbox = Sandbox(
            SandboxBook(pool),
            latency_ms=self._latency_ms,
            no_answer_after_s=2 * self._gateway_timeout_s,
        )
        self.sandbox = sandbox
        tasks: set[asyncio.Task[None]] = set()

        async def answer(request: Any, ticket: Any) -> None:
            ticket.later()
            ticket.reply(await sandbox.call(request))

        def submit(request: Any, ticket: Any) -> None:
            task = asyncio.get_running_loop().create_task(answer(request, ticket))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async def stop() -> None:
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await sandbox.close()

        return sandbox, PostOffice(submit, COMMANDS[SANDBOX]), stop

    # ── life and death ──────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        await asyncio.gather(*(node.start() for node in self.nodes.values() if not node.alive))

    async def kill(self, *names: str) -> None:
        """Kill these actors, or all of them, as a lost machine would."""
        await asyncio.gather(*(self.nodes[name].kill() for name in names or self.nodes))

    async def close(self) -> None:
        for router in self._routers.values():
            await router.close()
        await self.kill()

    @property
    def coordinators(self) -> list[CheckoutCoordinator]:
        return [self.nodes[shard].actor for shard in self._tables["checkout"].shards]

    async def settled(self, *, still_open: int = 0, timeout_s: float = 20.0) -> None:
        """Wait until all sagas are at rest but those of so many checkouts that wait for their buyers."""
        await until(lambda: sum(actor.live for actor in self.coordinators) == still_open, timeout_s)

    async def audit(self, *, later_ms: int = 0, bound_ms: int = 10_000) -> AuditReport:
        """What the audit says now, or would say so much later if nothing happened meanwhile."""
        return await audit(self.pool, clock_ms() + later_ms, bound_ms)

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────

    async def ask(self, command: Command) -> Any:
        """The reply; a kept answer comes as the reply it was."""
        kind, key = _address(command)
        reply = await self._routers[kind].ask(key, command)
        return msgspec.msgpack.decode(reply.body, type=REPLIES[kind]) if isinstance(reply, Replayed) else reply

    def command_id(self, key: str | None = None) -> bytes:
        """The id of a command under an idempotency key, or a new one."""
        text = key if key is not None else f"{id(self)}:{next(self._numbers)}"
        return blake2b(text.encode(), digest_size=16).digest()

    # ── the shop ────────────────────────────────────────────────────────────────────────────────────────

    async def put_product(self, sku: str, price: int = 1999, currency: str = "USD") -> Any:
        product = Product(f"The {sku}", {currency: price})
        return await self.ask(stock.PutProduct(command_id=self.command_id(), sku=sku, product=product))

    async def adjust(self, sku: str, units: int) -> Any:
        return await self.ask(stock.Adjust(command_id=self.command_id(), sku=sku, delta=units, reason="test"))

    async def shelve(self, units: Mapping[str, int], price: int = 1999) -> None:
        """Products with so many units each."""
        await asyncio.gather(*(self.put_product(sku, price) for sku in units))
        await asyncio.gather(*(self.adjust(sku, count) for sku, count in units.items()))

    async def levels(self, sku: str) -> stock.Levels:
        reply: stock.Levels = await self.ask(stock.Inspect(command_id=b"", sku=sku))
        return reply

    async def create_cart(self, lines: Mapping[str, int], owner: str = GUEST) -> str:
        command_id = self.command_id()
        cart_id = ids.make("cart", clock_ms(), ids.derive_body(command_id, "cart"))
        command = cart_model.CreateCart(
            command_id=command_id,
            cart_id=cart_id,
            owner=owner,
            customer=None,
            currency="USD",
            lines=tuple(cart_model.NewLine(sku, quantity) for sku, quantity in lines.items()),
            shown=tuple(cart_model.Shown(sku, f"The {sku}", 1999) for sku in lines),
        )
        reply = await self.ask(command)
        assert isinstance(reply, cart_model.CartReply), reply
        return cart_id

    # ── buying ──────────────────────────────────────────────────────────────────────────────────────────

    def start_command(
        self,
        lines: Mapping[str, int] | None = None,
        *,
        cart_id: str | None = None,
        fields: model.Fields = DETAILS,
        express: model.Payments | None = None,
        key: str | None = None,
        owner: str = GUEST,
    ) -> model.Start:
        command_id = self.command_id(key)
        body = ids.derive_body(command_id, "chk")
        return model.Start(
            command_id=command_id,
            fingerprint=b"" if key is None else key.encode(),
            checkout_id=ids.make("chk", clock_ms(), body),
            owner=owner,
            root=body,
            customer=None,
            cart_id=cart_id,
            wanted=tuple(model.Wanted(sku, quantity) for sku, quantity in (lines or {}).items()),
            currency="USD",
            fields=fields,
            express=express,
        )

    async def start_checkout(self, lines: Mapping[str, int] | None = None, **given: Any) -> Any:
        """A `CheckoutReply` 201, or a refusal."""
        return await self.ask(self.start_command(lines, **given))

    async def express(self, lines: Mapping[str, int], *tokens: str, **given: Any) -> Any:
        """Start and complete in one: the final answer."""
        return await self.ask(self.start_command(lines, express=card(*tokens), **given))

    async def complete(self, checkout_id: str, *tokens: str, key: str | None = None) -> Any:
        command_id = self.command_id(key)
        payments = card(*tokens)
        return await self.ask(
            model.Complete(command_id=command_id, checkout_id=checkout_id, owner=GUEST, payments=payments)
        )

    async def tell(self, command_type: Any, checkout_id: str, **given: Any) -> Any:
        """Any other command to a checkout or its order."""
        return await self.ask(command_type(command_id=self.command_id(), checkout_id=checkout_id, **given))

    async def read(self, checkout_id: str) -> Any:
        """A `CheckoutReply`, with the order if there is one."""
        return await self.tell(model.Read, checkout_id)

    async def resolve(self, payment_id: str, outcome: Literal["succeed", "fail"] = "succeed") -> Any:
        """The buyer's 3-D Secure step."""
        return await self.sandbox.resolve(payment_id, outcome)


def card(*tokens: str) -> model.Payments:
    """One payment of everything with the first token; what more there are pay one minor unit each."""
    first, *others = tokens or (VISA,)
    rest = tuple(model.Payment("card", token, 1) for token in others)
    return model.Payments((model.Payment("card", first), *rest))


def _address(command: Command) -> tuple[str, str]:
    """The kind and key of whoever takes the command."""
    match command:
        case model.CheckoutCommand():
            return "checkout", ids.body(command.checkout_id)
        case cart_model.CartCommandBase():
            return "cart", cart.route(command)
        case stock.PutProduct() | stock.Adjust() | stock.Inspect():
            return "stock", stock.account_of(command.sku)
        case _:
            raise TypeError(f"{type(command).__name__} has no address here")


@asynccontextmanager
async def engine(
    dsn: str,
    *,
    shards: Mapping[str, int] | None = None,
    policy: Policy | None = None,
    latency_ms: str = "0",
    gateway_timeout_s: float = 5.0,
) -> AsyncIterator[Engine]:
    """A running engine on a migrated database, new or used; killed at the end, like any process."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        await directory.ensure_shards(pool, {"stock": 1, "cart": 1, "checkout": 1, **(shards or {})})
        running = Engine(
            dsn,
            pool,
            await directory.load_tables(pool),
            policy=policy or Policy(),
            latency_ms=latency_ms,
            gateway_timeout_s=gateway_timeout_s,
        )
        await running.start()
        try:
            yield running
        finally:
            await running.close()
