"""`python -m tests.chaos.takeovers --count 10000`: owners race for one shard on a real Postgres; prints the figures.

In every round several incarnations take the shard at about the same time while the former owner writes on; some die
in the middle, and of some a statement stays in the network until its heirs serve. Units are moved from one box to
another one by one, so that each acknowledgement names a number which no other may name; a trigger writes down every
record as it is written, whatever is cut later. Exit 1, and what was violated, if anything was.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import msgspec
import structlog

from persistence.embedded import EmbeddedPostgres
from persistence.journal import Fenced, Flush, Lease, PostgresJournal
from persistence.migrations_runner import migrate
from tests.support.prompt_snapshots import prompt_snapshots
from tests.support.shard_owner import ShardOwner, make_shard
from tests.support.tcp_proxy import Fault, Statement, TcpProxy, Way
from tests.unit.toy_shard import SHARD, Asked, Move, ToyCore

HEIR_WAITS_MOST_S = (
    10.0  # for the shard and its first reply; whoever held it up would be held itself until the heir serves
)
UNITS = 1_000_000  # in box A before the race; every move takes one to box B
WITNESS = """
    CREATE TABLE witness (seq bigint, epoch bigint, newest bigint, events bytea);
    CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO witness SELECT NEW.seq, NEW.epoch, epoch, NEW.events FROM shard WHERE id = NEW.shard;
        RETURN NULL;
    END $$;
    CREATE TRIGGER witness AFTER INSERT ON journal FOR EACH ROW EXECUTE FUNCTION witness();
"""


class Figures(msgspec.Struct):
    """What a race met. Times in milliseconds; `waits_ms` are from an heir's first word to its first reply."""

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    takes_ms: list[float] = msgspec.field(default_factory=list)
    waits_ms: list[float] = msgspec.field(default_factory=list)
    violations: list[str] = msgspec.field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        counted = [f"{what}: {self.counts[what]:,}" for what in sorted(self.counts)]
        times = [
            f"{what}: p50 {_quantile(ms, 0.5):.1f} ms, p99 {_quantile(ms, 0.99):.1f} ms, longest {max(ms):.1f} ms"
            for what, ms in (("to take the shard", self.takes_ms), ("an heir's first reply", self.waits_ms))
        ]
        return [*counted, *times, *(f"VIOLATED: {text}" for text in self.violations or ["nothing"])]


def _quantile(values: list[float], q: float) -> float:
    return sorted(values)[int(q * (len(values) - 1))]


class _Journal(PostgresJournal):
    """Counts takeovers and refused appends, and measures how long a takeover waits."""

    def __init__(self, pool: asyncpg.Pool, figures: Figures) -> None:
        super().__init__(pool)
        self._figures = figures

    async def take(self, shard: str, held: int | None = None) -> Lease:
        begun_s = time.perf_counter()
        lease = await super().take(shard, held)
        self._figures.takes_ms.append((time.perf_counter() - begun_s) * 1000)
        self._figures.counts["takeovers"] += 1
        return lease

    async def append(self, epoch: int, flush: Flush) -> None:
        try:
            await super().append(epoch, flush)
        except Fenced:
            self._figures.counts["appends fenced"] += 1
            raise


class Race:
    """One shard, many owners. `run` until so many takeovers have happened; `judge` says what was violated."""

    def __init__(self, direct: asyncpg.Pool, slow: asyncpg.Pool, proxy: TcpProxy, seed: int, most: int) -> None:
        self.figures = Figures()
        self._direct = direct
        self._proxy = proxy
        self._journals = (_Journal(direct, self.figures), _Journal(slow, self.figures))
        self._rng = Random(seed)
        self._most = most
        self._acknowledged: Counter[int] = Counter()
        self._serving: ShardOwner | None = None  # the owner that the next round overtakes
        self._serving_is_slow = False

    async def run(self, takeovers: int) -> None:
        await self._direct.execute(WITNESS)
        await make_shard(self._direct)
        first = await ShardOwner(self._journals[0]).start()
        await asyncio.gather(first.add("A", UNITS).answer(), first.add("B", 0).answer())
        self._serving = first
        while self.figures.counts["takeovers"] < takeovers and not self.figures.violations:
            await self._round()
        if self._serving is not None:
            await self._serving.crash()

    async def _round(self) -> None:
        late = self._hold_a_statement()
        contenders = [_Contender(self, self._rng) for _ in range(self._rng.randint(2, self._most))]
        former = self._serving
        writing = asyncio.create_task(self._write_on(former, late))
        await asyncio.gather(*(contender.race() for contender in contenders))
        if late is not None:
            late.release()
        await writing
        if late is not None and late.met.is_set():
            self.figures.counts["statements that arrived late"] += 1
            await late.over.wait()
        if former is not None:
            await former.crash()
        await self._choose(contenders)
        self.figures.counts["rounds"] += 1

    def _hold_a_statement(self) -> Fault | None:
        """The next append of an owner behind the proxy, let go at some time in the round, or at its end."""
        if not self._serving_is_slow:
            return None
        fault = self._proxy.plan(Way.LATE, _is_append)
        if self._rng.random() < 0.5:
            fault.release()
        return fault

    async def _write_on(self, former: ShardOwner | None, late: Fault | None) -> None:
        """The overtaken owner does not know it yet; one whose statement is held may be dead besides."""
        if former is None:
            return
        asked = move(former, self._rng.randint(1, 5))
        if late is not None and self._rng.random() < 0.5:
            await _first(late.met.wait(), former.left.wait())
            await former.crash()
        await self.answered(former, asked)

    async def _choose(self, contenders: list[_Contender]) -> None:
        """Whoever has the newest epoch goes on, and must have served; all others end."""
        newest = await self._direct.fetchval("SELECT epoch FROM shard WHERE id = $1", SHARD)
        self._serving = None
        for contender in contenders:
            owner = contender.owner
            if contender.gone or owner.writer.lease.epoch != newest:
                await owner.crash()
                continue
            if owner.left.is_set() or not contender.served:
                self.figures.violations.append(f"epoch {newest} was the newest, and did not serve")
            self._serving, self._serving_is_slow = owner, contender.slow
        if self._serving is None:
            self.figures.counts["rounds after which nobody was left"] += 1

    def owner(self, slow: bool) -> ShardOwner:
        return ShardOwner(self._journals[slow])

    async def answered(self, owner: ShardOwner, asked: list[Asked]) -> bool:
        """Whether all were answered; what was said is taken down either way."""
        if not owner.ended:
            await _first(_all_answered(asked), owner.left.wait())
        for one in asked:
            self._acknowledged.update(reply.total for reply in one.replies)
        return all(one.replies for one in asked)

    async def judge(self) -> None:
        """Compare what was said with what was written, and what was written with what an heir finds."""
        found = self.figures.violations
        rows = await self._direct.fetch("SELECT seq, epoch, newest, events FROM witness ORDER BY seq")
        shard = await self._direct.fetchrow("SELECT epoch, head, tail FROM shard WHERE id = $1", SHARD)
        if [row["seq"] for row in rows] != list(range(1, shard["head"] + 1)):
            found.append("the records ever written are not 1 to head, once each")
        found += [f"record {r['seq']} is of epoch {r['epoch']} under {r['newest']}" for r in rows if r[1] != r[2]]
        if [row["epoch"] for row in rows] != sorted(row["epoch"] for row in rows):
            found.append("an older epoch wrote after a newer one")
        if shard["epoch"] != self.figures.counts["takeovers"]:
            found.append(f"{self.figures.counts['takeovers']} takeovers made epoch {shard['epoch']}")
        moved = sum(len(msgspec.msgpack.decode(row["events"])) for row in rows[1:])
        found += [f"{total} was acknowledged {n} times" for total, n in self._acknowledged.items() if n > 1]
        found += [f"{total} was acknowledged, not written" for total in self._acknowledged if total < UNITS - moved]
        heir = await ShardOwner(PostgresJournal(self._direct)).start()
        if heir.totals() != {"A": UNITS - moved, "B": moved} or dict(heir.writer.world) != replayed(rows):
            found.append(f"{moved} units were moved, an heir finds {heir.totals()}")
        await heir.crash()
        counts = self.figures.counts
        counts["records written"] = shard["head"]
        counts["records cut"] = shard["tail"] - 1
        counts["moves written"] = moved
        counts["moves acknowledged"] = sum(self._acknowledged.values())


class _Contender:
    """One incarnation in one round."""

    def __init__(self, race: Race, rng: Random) -> None:
        self.slow = rng.random() < 0.25
        self.owner = race.owner(self.slow)
        self.served = False
        self.gone = False
        self._race = race
        self._pause, self._moves, self._waves = rng.randrange(40), rng.randint(1, 5), rng.randint(1, 3)
        self._dies = rng.random() < 0.1

    async def race(self) -> None:
        for _ in range(self._pause):
            await asyncio.sleep(0)  # not all in one moment, and in another order each time
        try:
            async with asyncio.timeout(HEIR_WAITS_MOST_S):
                await self._serve()
        except TimeoutError:
            self._race.figures.violations.append(f"an heir waited for more than {HEIR_WAITS_MOST_S:g} s")
            self.gone = True

    async def _serve(self) -> None:
        figures = self._race.figures
        begun_s = time.perf_counter()
        try:
            await self.owner.start()
        except Fenced:
            figures.counts["overtaken while recovering"] += 1
            self.gone = True
            return
        asked = move(self.owner, self._moves)
        if self._dies:
            await asyncio.sleep(0)  # until its append is under way
            await self.owner.crash()
            self.gone = True
            figures.counts["died with an append under way"] += 1
        self.served = await self._race.answered(self.owner, asked)
        if self.served:
            figures.waits_ms.append((time.perf_counter() - begun_s) * 1000)
        for _ in range(self._waves * self.served):
            await self._race.answered(self.owner, move(self.owner, self._moves))
        figures.counts["overtaken later"] += self.owner.left.is_set()


def move(owner: ShardOwner, count: int) -> list[Asked]:
    return [owner.ask(Move, "A", target="B") for _ in range(count)]


def replayed(rows: list[Any]) -> dict[Any, Any]:
    """All records that were ever written, in order."""
    core, world = ToyCore(), dict[Any, Any]()
    for row in rows:
        for event in msgspec.msgpack.decode(row["events"], type=list[ToyCore.event_type]):
            for key in core.touches(event):
                world[key] = core.evolve(key, world.get(key), event)
    return world


def _is_append(statement: Statement) -> bool:
    return "append_flush(" in statement.sql


async def _all_answered(asked: list[Asked]) -> None:
    for one in asked:
        await one.answer()


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def race(
    dsn: str, takeovers: int, *, seed: int = 0, most: int = 6, said: Callable[[str], None] = lambda line: None
) -> Figures:
    """So many takeovers on a migrated database, by up to ``most`` owners at once; figures, and what was violated."""
    async with TcpProxy(dsn) as proxy, asyncpg.create_pool(dsn, min_size=1, max_size=most + 1) as direct:
        slow = await asyncpg.create_pool(proxy.dsn, min_size=1, max_size=most)
        try:
            racing = Race(direct, slow, proxy, seed, most)
            begun_s = time.perf_counter()
            with prompt_snapshots():  # so that records are cut while owners race
                await racing.run(takeovers)
            said(f"{time.perf_counter() - begun_s:.0f} s")
            await racing.judge()
        finally:
            slow.terminate()
    return racing.figures


async def _migrated_race(dsn: str, options: argparse.Namespace) -> Figures:
    await migrate(dsn)
    return await race(dsn, options.count, seed=options.seed, most=options.owners, said=_say)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.takeovers", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="takeovers")
    parser.add_argument("--owners", type=int, default=6, help="at once, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    structlog.configure(processors=[_dropped])
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(Path(directory)) as server:
        figures = asyncio.run(_migrated_race(server.dsn, options))
    for line in figures.lines():
        _say(line)
    return bool(figures.violations)


def _dropped(*_: Any) -> Any:
    raise structlog.DropEvent  # every fenced owner says so, thousands of times


if __name__ == "__main__":
    sys.exit(main())
