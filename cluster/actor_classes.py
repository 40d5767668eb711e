"""The Ray actors: each puts one plain actor of `actors` behind a post office, in a process of its own.

Owns nothing but the composition: pool, journal, clock, ports. Construction is recovery: Ray runs it again in a
new process whenever the old one dies. A fenced actor ends its process at once; one that finds another
installation's database under its DSN refuses to be constructed.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import ray
import structlog

from actors.cart_actor import CartActor as Carts
from actors.checkout_coordinator import CheckoutCoordinator as Coordinator
from actors.patience import RETRY_S
from actors.ports import MailboxPorts
from actors.post_office import PostOffice
from actors.stock_actor import StockActor as Stock
from actors.stock_port import StockPort
from cluster import directory, transport
from cluster.engine_types import ReadBook, ResolvePayment, SetSandbox
from cluster.logs import log_to_stderr
from cluster.messages import COMMANDS, BookPage, SandboxProblem, SandboxState
from cluster.tuning import spare_the_collector, uncollected
from domain.cart_model import CartPolicy
from domain.checkout_model import Policy
from domain.payments import Unknown
from gateways.sandbox import Sandbox
from persistence import outages
from persistence.journal import PostgresJournal
from persistence.sandbox_book import SandboxBook

log = structlog.get_logger()


class ActorConfig(msgspec.Struct, frozen=True):
    """What an actor is constructed with; travels as bytes, for Ray keeps it for the next construction.

    ``namespace`` is the installation's, ``run`` names the `lastunit up` it was made by. ``password_file`` holds what
    the DSN lacks: what Ray keeps, others may read.
    """

    shard: str
    dsn: str
    namespace: str
    run: str
    policy: Policy
    cart_policy: CartPolicy
    gateway_timeout_s: float
    sandbox_latency_ms: str
    max_queue: int
    password_file: str | None = None

    def encoded(self) -> bytes:
        return msgspec.msgpack.encode(self)

    def digest(self) -> str:
        """Tells one configuration from another, and none of its secrets."""
        return blake2b(self.encoded(), digest_size=8).hexdigest()


class AnotherInstallation(Exception):
    """The database under an actor's DSN is not the one that the actor was made for."""


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


# An owner that is stopped, or whose network ends, in the midst of a request would hold its shard's row as long as
# its connection lives, and its heir would wait: its transaction is ended by the server. (Postgres 17 or newer.)
_OWNER = {"transaction_timeout": "10s"}


async def open_pool(dsn: str, size: int, password_file: str | None = None) -> asyncpg.Pool:
    """Connections that stay; every statement of ours is prepared once on each."""
    password = None if password_file is None else Path(password_file).read_text

    async def pool(settings: dict[str, str]) -> asyncpg.Pool:
        opened: asyncpg.Pool = await asyncpg.create_pool(
            dsn, password=password, min_size=1, max_size=size,
            timeout=outages.CONNECT_S, command_timeout=60, server_settings=settings,
        )  # fmt: skip
        return opened

    try:
        return await pool(_OWNER)
    except asyncpg.UndefinedObjectError:
        return await pool({})


async def _opened_patiently(config: ActorConfig, connections: int) -> asyncpg.Pool:
    while True:
        try:
            return await open_pool(config.dsn, connections, config.password_file)
        except (ConnectionError, asyncpg.CannotConnectNowError) as error:
            log.warning("database unreachable", shard=config.shard, error=str(error))
            await asyncio.sleep(RETRY_S)


class _Process:
    """What all actors of ours have: a configuration, a post office, and a line that breaks with the process."""

    config: ActorConfig
    office: PostOffice

    async def _open(self, config: bytes, connections: int) -> asyncpg.Pool:
        """Take the configuration, and connections to the database that it was made for.

        Waits while nobody listens there: whoever gave up would be constructed again at once, in another process.
        """
        log_to_stderr()
        self.config = msgspec.msgpack.decode(config, type=ActorConfig)
        own = self.config
        pool = await _opened_patiently(own, connections)
        found = await directory.namespace(pool)
        if found != self.config.namespace:
            await pool.close()
            raise AnotherInstallation(f"{self.config.shard} is of {self.config.namespace}, its database of {found}")
        return pool

    async def deliver(self, client: str, blob: bytes) -> bytes:
        return await self.office.deliver(client, blob)

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        return await self.office.drain(client, incarnation, acknowledged, wait_s)

    async def stay(self) -> None:
        """Never answered: Ray fails the call when this process ends."""
        await asyncio.get_running_loop().create_future()

    def _identity(self) -> dict[str, Any]:
        return {"shard": self.config.shard, "pid": os.getpid(), "config": self.config.digest()}


class _Posted(_Process):
    """The event-sourced actors: a writer, its facts, and a way to leave."""

    actor: Stock | Carts | Coordinator

    async def _serve(self, kind: str) -> None:
        """The end of a construction: recover. Nobody is answered before."""
        self.office = PostOffice(self.actor.submit, COMMANDS[kind])
        with uncollected():
            await self.actor.start()

    async def status(self) -> dict[str, Any]:
        """Static and live facts for `lastunit status`; also the sign of life that supervision asks for."""
        writer = self.actor.writer
        return {
            **self._identity(),
            "epoch": writer.lease.epoch,
            "head": writer.lease.head,
            "tail": writer.lease.tail,
            "queued": writer.queued,
            "entities": len(writer.world),
            "replayed_events": writer.replayed_events,
        }

    def _leave(self) -> None:
        """Fenced, or broken: end the process. Ray constructs the actor again only if it was the present one."""
        log.warning("leaving", shard=self.config.shard)
        # Not by way of Ray: it would end whoever bears this actor's name now, and that may be the heir.
        threading.Timer(0.1, os._exit, (1,)).start()

    def __repr__(self) -> str:
        name = type(self).__name__
        actor = getattr(self, "actor", None)
        epoch = actor.writer.lease.epoch if actor is not None else "?"
        return f"{name}(shard={self.config.shard}, epoch={epoch})" if hasattr(self, "config") else name


class StockActor(_Posted):
    async def __init__(self, config: bytes) -> None:  # type: ignore[misc]  # Ray awaits it
        pool = await self._open(config, 2)
        self.actor = Stock(
            self.config.shard,
            PostgresJournal(pool),
            clock_ms,
            on_fenced=self._leave,
            max_queue=self.config.max_queue,
        )
        await self._serve("stock")


class CartActor(_Posted):
    async def __init__(self, config: bytes) -> None:  # type: ignore[misc]  # Ray awaits it
        pool = await self._open(config, 3)
        self.actor = Carts(
            self.config.shard,
            PostgresJournal(pool),
            clock_ms,
            self.config.cart_policy,
            on_fenced=self._leave,
            max_queue=self.config.max_queue,
        )
        await self._serve("cart")


class CheckoutCoordinator(_Posted):
    async def __init__(self, config: bytes) -> None:  # type: ignore[misc]  # Ray awaits it
        pool = await self._open(config, 3)
        namespace = self.config.namespace
        routers = transport.routers(await directory.load_tables(pool), namespace)
        ports = MailboxPorts(
            StockPort(routers["stock"], lambda: self.actor.writer.now_ms),
            routers["cart"],
            routers["checkout"],
            {"sandbox": transport.sandbox_mailbox(namespace)},
            self.config.gateway_timeout_s,
        )
        self.actor = Coordinator(
            self.config.shard,
            PostgresJournal(pool),
            clock_ms,
            ports,
            self.config.policy,
            on_fenced=self._leave,
            max_queue=self.config.max_queue,
        )
        await self._serve("checkout")


class SandboxGateway(_Process):
    """The sandbox in a process of its own, as a real gateway would be."""

    async def __init__(self, config: bytes) -> None:  # type: ignore[misc]  # Ray awaits it
        pool = await self._open(config, 2)
        book = SandboxBook(pool, self.config.run)
        self._sandbox = Sandbox(
            book,
            settings_book=book,
            latency_ms=self.config.sandbox_latency_ms,
            no_answer_after_s=2 * self.config.gateway_timeout_s,
        )
        await self._sandbox.restore()
        self.office = PostOffice(self._submit, COMMANDS["sandbox"])
        self._answers: set[asyncio.Future[Any]] = set()  # references: the loop keeps none
        spare_the_collector()

    async def status(self) -> dict[str, Any]:
        return {**self._identity(), **msgspec.to_builtins(self._sandbox.settings)}

    def _submit(self, request: Any, ticket: Any) -> None:
        """Replies travel on their own: one that has to wait does not hold up its batch."""
        if isinstance(request, SetSandbox | ResolvePayment | ReadBook):
            answer: asyncio.Future[Any] = asyncio.ensure_future(self._operate(request))
        else:
            answer = self._sandbox.begin(request)
        self._answers.add(answer)
        answer.add_done_callback(partial(self._answered, request, ticket))
        if self._sandbox.settings.latency_ms != "0" or getattr(request, "token", "").startswith("pm_sandbox"):
            ticket.later()

    def _answered(self, request: Any, ticket: Any, answer: asyncio.Future[Any]) -> None:
        self._answers.discard(answer)
        error = answer.exception()
        if error is None:
            ticket.reply(answer.result())
            return
        # Its own book is away, say: an answer all the same, or everybody behind this one would wait.
        log.error("sandbox failed", request=type(request).__name__, error=repr(error))
        own = isinstance(request, SetSandbox | ReadBook)
        ticket.reply(SandboxProblem("The sandbox cannot say now.") if own else Unknown(type(error).__name__))

    async def _operate(self, request: SetSandbox | ResolvePayment | ReadBook) -> Any:
        match request:
            case SetSandbox():
                try:
                    settings = await self._sandbox.set(mode=request.mode, latency_ms=request.latency_ms)
                except ValueError as error:
                    return SandboxProblem(str(error))
                return SandboxState(settings.mode, settings.latency_ms)
            case ResolvePayment():
                return await self._sandbox.resolve(request.payment_id, request.outcome)
            case ReadBook():
                return BookPage(await self._sandbox.entries(request.after, request.limit))

    def __repr__(self) -> str:
        return "SandboxGateway()"


CLASSES: dict[str, Any] = {
    "stock": StockActor,
    "cart": CartActor,
    "checkout": CheckoutCoordinator,
    "sandbox": SandboxGateway,
}


def create(kind: str, name: str, config: ActorConfig) -> Any:
    """The actor of that name: the one there is, or a new one. Detached: it outlives whoever created it."""
    return (
        ray.remote(CLASSES[kind])
        .options(
            name=name,
            namespace=config.namespace,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,  # a call that may have executed is repeated by the mailbox, never by Ray
            max_concurrency=10_000,
            enable_task_events=False,
        )
        .remote(config.encoded())
    )
