"""What the stock actor does unasked: it gives back what has expired, and ends with the sweep that does so."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from actors import stock_actor
from actors.contracts import Ticket
from actors.stock_actor import StockActor
from actors.timers import GRACE_MS, TICK_S
from domain import stock
from domain.catalog import Product
from tests.support.memory_journal import Database, MemoryJournal
from tests.support.virtual_time import idle, pass_time, until, virtual_time
from tests.unit.coordinator_bench import now_s
from tests.unit.toy_shard import Asked, answers, new_id

EXPIRY_S = 5


class FailingClock:
    """The right time, until it is broken."""

    def __init__(self) -> None:
        self.broken = False

    def __call__(self) -> int:
        if self.broken:
            raise OSError("no clock")
        return time.time_ns() // 1_000_000


@virtual_time
async def test_a_broken_sweep_ends_the_process() -> None:
    """A shard whose sweep has ended would never give expired stock back: better that its heir does."""
    left = asyncio.Event()
    clock = FailingClock()
    actor = StockActor("stock-0", MemoryJournal(Database("stock-0")), clock, on_fenced=left.set)
    await actor.start()
    clock.broken = True
    try:
        assert await asyncio.wait_for(left.wait(), 5)
    finally:
        await actor.stop()


class Watched(StockActor):
    """Notes the sweeps that it asks of its writer: at which tick, and of how many holds."""

    def __init__(self, database: Database) -> None:
        super().__init__("stock-0", MemoryJournal(database), lambda: int(now_s() * 1_000))
        self.sweeps: list[tuple[int, int]] = []
        submit = self.writer.submit

        def note(command: Any, ticket: Ticket) -> None:
            if isinstance(command, stock.Sweep):
                self.sweeps.append((round(now_s() / TICK_S), len(command.hold_ids)))
            submit(command, ticket)

        self.writer.submit = note  # type: ignore[method-assign]

    async def ask(self, command: stock.StockCommand) -> Any:
        asked = Asked()
        self.submit(command, asked)
        return (await answers(asked))[0]

    async def hold(self, *hold_ids: str) -> None:
        """One unit each, until the fifth second."""
        await self.ask(stock.PutProduct(command_id=new_id(), sku="tea", product=Product("Tea", {"USD": 500})))
        await self.ask(stock.Adjust(command_id=new_id(), sku="tea", delta=10))
        for hold_id in hold_ids:
            take = stock.Take(
                command_id=b"",
                hold_id=hold_id,
                revision=1,
                wanted={stock.account_of("tea"): 1},
                expires_at_ms=EXPIRY_S * 1_000,
                issued_at_ms=int(now_s() * 1_000),
            )
            assert isinstance(await self.ask(take), stock.Held)

    async def levels(self) -> tuple[int, int]:
        """(available, reserved)"""
        found = await self.ask(stock.Inspect(command_id=b"", sku="tea"))
        return found.available, found.reserved


@virtual_time
async def test_a_mass_expiry_comes_in_small_commands_and_a_bounded_number_of_them_a_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever buys meanwhile waits for one small command at most; and all stock is back in the end."""
    monkeypatch.setattr(stock_actor, "SWEEP_MOST", 3)
    monkeypatch.setattr(stock_actor, "SWEEPS_A_TICK", 2)
    actor = Watched(Database("stock-0"))
    await actor.start()
    await actor.hold(*map(str, range(10)))
    assert await actor.levels() == (0, 10)
    await until(lambda: len(actor.sweeps) == 4)
    tick = actor.sweeps[0][0]
    assert actor.sweeps == [(tick, 3), (tick, 3), (tick + 1, 3), (tick + 1, 1)]
    assert tick * TICK_S == pytest.approx(EXPIRY_S, abs=2 * TICK_S)
    await idle()
    assert await actor.levels() == (10, 0)
    await actor.stop()


@virtual_time
async def test_after_a_recovery_no_hold_expires_for_a_while() -> None:
    """Its buyer could not reach us meanwhile: stock returns late rather than early."""
    database = Database("stock-0")
    actor = Watched(database)
    await actor.start()
    await actor.hold("h")
    await actor.stop()
    await pass_time(2 * EXPIRY_S)
    heir = Watched(database)
    await heir.start()
    recovered_s = now_s()
    await until(lambda: len(heir.sweeps) > 0)
    assert now_s() - recovered_s == pytest.approx(GRACE_MS / 1_000, abs=2 * TICK_S)
    await idle()
    assert await heir.levels() == (10, 0)
    await heir.stop()
