"""The shard whose owner is killed: what it has to replay, and how soon it answers again.

Owns the kill. Between a SIGSTOP and the SIGKILL it stands in for the owner and journals baskets that were taken and
given back, until there are as many events as are asked for: a real load brings the journal to 80,000 at most,
whatever its pace, for snapshots follow it. The records are what the actor would have written, but no snapshot has
anything of them, so that each event has to be applied. Touches no process but the owner's.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg
import msgspec

from cluster.engine import RayEngine
from domain import ledger, stock
from persistence.journal import Flush, PostgresJournal

RECORD_EVENTS = 1_000
BASKET_SKUS = 3
HOLD_MS = 900_000
ANSWER_S = 120.0

_encode = msgspec.msgpack.Encoder().encode
_KEPT = "SELECT coalesce(sum(count), 0) FROM journal JOIN shard ON shard.id = shard WHERE shard = $1 AND seq >= tail"
_TAKEN = "SELECT extract(epoch FROM taken_at)::float8 FROM shard WHERE id = $1"


class Recovery(NamedTuple):
    """One kill, in seconds: until the next incarnation took the shard, from there to the first answer, both."""

    restart_s: float
    replay_s: float
    total_s: float
    events: int


class Shard:
    """The stock shard ``name`` with its ``skus``."""

    def __init__(self, name: str, skus: Sequence[str], engine: RayEngine, pool: asyncpg.Pool) -> None:
        self._name = name
        self._skus = skus
        self._engine = engine
        self._pool = pool
        self._random = random.Random(2)

    async def freeze(self, events: int) -> int:
        """Stop the owner, and bring the journal to so many events. The owner's process id."""
        pid: int = (await self._status())["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            await self._top_up(events)
        except BaseException:
            os.kill(pid, signal.SIGKILL)  # a stopped process would outlive its server
            raise
        return pid

    async def _top_up(self, events: int) -> None:
        journal = PostgresJournal(self._pool)
        lease = await journal.take(self._name)
        lacking = events - await self._pool.fetchval(_KEPT, self._name)
        head = lease.head
        while lacking > 1:
            count = min(lacking, RECORD_EVENTS) & ~1
            await journal.append(lease.epoch, self._record(head, count))
            head, lacking = head + 1, lacking - count

    async def kill(self, pid: int) -> Recovery:
        """Kill the owner and ask for a unit more of one SKU, as any caller would. Returns when that is answered."""
        sku = self._random.choice(self._skus)
        begun_s, begun_at_s = time.perf_counter(), time.time()
        os.kill(pid, signal.SIGKILL)
        adjust = stock.Adjust(command_id=secrets.token_bytes(16), sku=sku, delta=1, reason="benchmark")
        await self._engine.ask(adjust, ANSWER_S)
        total_s = time.perf_counter() - begun_s
        restart_s = await self._pool.fetchval(_TAKEN, self._name) - begun_at_s
        return Recovery(restart_s, total_s - restart_s, total_s, (await self._status())["replayed_events"])

    async def _status(self) -> dict[str, Any]:
        """The owner's own word. On a busy machine it may not come at the first asking."""
        async with asyncio.timeout(ANSWER_S):
            while True:
                for status in await self._engine.status():
                    if status["shard"] == self._name and "pid" in status:
                        return status

    def _record(self, head: int, count: int) -> Flush:
        now_ms = time.time_ns() // 1_000_000
        events: list[ledger.LedgerEvent] = []
        for _ in range(count // 2):
            hold_id = secrets.token_hex(13)
            legs = {stock.account_of(sku): 1 for sku in self._random.sample(self._skus, BASKET_SKUS)}
            events.append(ledger.Taken(hold_id, 1, legs, now_ms + HOLD_MS, False))
            events.append(ledger.Released(hold_id, legs, now_ms))
        return Flush(self._name, head, 0, now_ms, count, _encode(events), (), (), ())
