"""Concurrent clients of one real stock shard, whose incarnations die and overlap; and what each of them heard.

Owns the incarnations (each a `Node` on real Postgres), the clients' mailboxes, and the record: per SKU, every call
with when it was made and when it was answered, by one counter. A client keeps to the incarnation it knows until that
one is unreachable, as a client of Ray does: so an old incarnation that lives on is still asked.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from typing import Any

import asyncpg
import msgspec

from actors.mailbox import Mailbox, Unreachable
from actors.post_office import PostOffice
from actors.stock_actor import StockActor
from cluster.messages import COMMANDS, REPLIES
from domain import stock
from domain.catalog import Product
from domain.messages import Replayed
from persistence.journal import PostgresJournal
from tests.support.engine_harness import clock_ms
from tests.support.engine_node import Node, Stop
from tests.support.linearizability import UNANSWERED, Operation
from tests.support.shelf import Call, Confirm, Hold, Pin, Read, Receive, Release

SHARD = "stock-0"
TTL_MS = 900_000
GIVES_UP = 0.1  # how often a client does not wait for an answer once an incarnation has died; each doubles the search


class StockShard:
    """The shard's incarnations; `current` is the newest, older ones may be alive."""

    def __init__(self, dsn: str) -> None:
        self.current: Node
        self.died = asyncio.Event()  # another one each time
        self.fenced = 0
        self._dsn = dsn
        self._nodes: list[Node] = []
        self._ends: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """One more incarnation. Whoever was the current one is fenced, and may not know it."""
        node = Node(SHARD, self._dsn, lambda pool: self._build(node, pool))
        await node.start()
        self._nodes.append(node)
        self.current = node

    async def crash(self) -> None:
        """The current one dies with all that is under way; then another one starts."""
        await self.current.kill()
        died, self.died = self.died, asyncio.Event()
        died.set()
        await self.start()

    async def close(self) -> None:
        await asyncio.gather(*self._ends, *(node.kill() for node in self._nodes))

    async def _build(self, node: Node, pool: asyncpg.Pool) -> tuple[Any, PostOffice, Stop]:
        actor = StockActor(SHARD, PostgresJournal(pool), clock_ms, on_fenced=lambda: self._leave(node))
        office = PostOffice(actor.submit, COMMANDS["stock"])
        await actor.start()
        return actor, office, actor.stop

    def _leave(self, node: Node) -> None:
        """A fenced actor ends its process."""
        self.fenced += 1
        task = asyncio.get_running_loop().create_task(node.kill())
        self._ends.add(task)


class Line:
    """A client's transport: to the incarnation it knows, until that is unreachable."""

    def __init__(self, shard: StockShard) -> None:
        self.calls = 0
        self._shard = shard
        self._node = shard.current
        self._open = asyncio.Event()
        self._open.set()

    def look_up(self) -> None:
        """Hear of the newest incarnation."""
        self._node = self._shard.current
        self._open.set()

    def pause(self) -> None:
        """Send nothing more until the newest incarnation is looked up; `calls` are still under way."""
        self._open.clear()

    async def deliver(self, client: str, blob: bytes) -> bytes:
        await self._open.wait()
        self.calls += 1
        try:
            return await self._node.deliver(client, blob)
        except Unreachable:
            self._node = self._shard.current
            raise
        finally:
            self.calls -= 1

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        raise AssertionError("stock puts no answer off")


class Record:
    """Every call and what was heard, per SKU."""

    def __init__(self) -> None:
        self.operations: dict[str, list[Operation]] = defaultdict(list)
        self.kinds: Counter[str] = Counter()
        self.news = asyncio.Event()  # a buyer has heard something; another one each time
        self._clock = itertools.count(1)

    @property
    def ended(self) -> int:
        return self.kinds.total()

    def begin(self) -> int:
        return next(self._clock)

    def end(self, sku: str, client: str, call: Call, begun: int, result: Any) -> None:
        if result is UNANSWERED:
            self.operations[sku].append(Operation(client, call, UNANSWERED, begun))
        else:
            self.operations[sku].append(Operation(client, call, result, begun, next(self._clock)))
        self.kinds[_kind(call, result)] += 1
        if call != Read():
            news, self.news = self.news, asyncio.Event()
            news.set()


class Client:
    """One buyer, or one who only looks. Does one thing after another, and says what it heard to the record."""

    def __init__(self, name: str, shard: StockShard, record: Record, chance: random.Random) -> None:
        self.name = name
        self.line = Line(shard)
        self._shard = shard
        self._record = record
        self._chance = chance
        self._mailbox = Mailbox(self.line, REPLIES["stock"])
        self._numbers = itertools.count()

    async def close(self) -> None:
        await self._mailbox.close()

    async def buys(self, skus: list[str], rounds: int) -> None:
        """Holds, and what becomes of them."""
        for _ in range(rounds):
            sku = self._chance.choice(skus)
            hold_id = f"{self.name}-{next(self._numbers)}"
            if await self.ask(sku, Hold(hold_id, self._chance.choice((1, 1, 2)))) == "held":
                for step in self._chance.choice(((Pin, Confirm), (Pin, Confirm), (Release,), (Pin, Release), ())):
                    await self.ask(sku, step(hold_id))
            elif self._chance.random() < 0.2:
                await self.ask(sku, Receive(self._chance.choice((1, 2))))

    async def looks(self, skus: list[str]) -> None:
        """Reads whenever a buyer has heard something, until cancelled: a read changes nothing, so none is missed."""
        while True:
            await self._record.news.wait()
            await self.ask(self._chance.choice(skus), Read())

    async def ask(self, sku: str, call: Call) -> Any:
        """The answer, or `UNANSWERED` from who did not wait for it."""
        begun = self._record.begin()
        answer = self._mailbox.ask(self._command(sku, call))
        if self._chance.random() < GIVES_UP:
            died = asyncio.ensure_future(self._shard.died.wait())
            await asyncio.wait({answer, died}, return_when=asyncio.FIRST_COMPLETED)
            died.cancel()
            if not answer.done():
                answer.cancel()
                self._record.end(sku, self.name, call, begun, UNANSWERED)
                return UNANSWERED
        result = _heard(await answer)
        self._record.end(sku, self.name, call, begun, result)
        return result

    def _command(self, sku: str, call: Call) -> stock.StockCommand:
        match call:
            case Hold():
                now_ms = clock_ms()
                return stock.Take(
                    command_id=b"", hold_id=call.hold_id, revision=1, wanted={stock.account_of(sku): call.units},
                    expires_at_ms=now_ms + TTL_MS, issued_at_ms=now_ms,
                )  # fmt: skip
            case Pin():
                return stock.Pin(command_id=b"", hold_id=call.hold_id)
            case Confirm():
                return stock.Confirm(command_id=b"", hold_id=call.hold_id)
            case Release():
                return stock.Release(command_id=b"", hold_id=call.hold_id)
            case Receive():
                name = f"{self.name}:{next(self._numbers)}".encode()
                return stock.Adjust(command_id=name.rjust(16), sku=sku, delta=call.units, reason="delivery")
            case Read():
                return stock.Inspect(command_id=b"", sku=sku)

    async def stocks(self, sku: str) -> None:
        product = stock.PutProduct(command_id=b"\0" * 16, sku=sku, product=Product(sku, {"USD": 100}))
        await self._mailbox.ask(product)


def _heard(reply: Any) -> Any:
    """A reply in the words of the model."""
    match reply:
        case Replayed():
            return _heard(msgspec.msgpack.decode(reply.body, type=REPLIES["stock"]))
        case stock.Held():
            return "held"
        case stock.Shortage():
            return "short", reply.lines[0].available
        case stock.HoldState():
            return reply.status, reply.refused
        case stock.Levels():
            return reply.on_hand, reply.reserved, reply.available, reply.sold
        case _:
            return reply


def _kind(call: Call, result: Any) -> str:
    name = type(call).__name__
    if result is UNANSWERED:
        return f"{name} unanswered"
    return f"{name} refused" if isinstance(call, Hold) and result != "held" else name
