"""Takes that travel twice: the saga must hear of it, or a late copy holds units that nobody ever gives back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from actors.mailbox import Mailbox, Unreachable
from actors.routing import Router, SlotTable
from actors.stock_port import StockPort
from domain import stock
from domain.checkout_model import TakeStock
from tests.support.promises import answered

NOW_MS = 1_800_000_000_000
TAKE = TakeStock("take:1", "h", 1, {"sku:tea": 1}, 1_000, True)
SHORT = stock.Shortage((stock.ShortLine("sku:tea", 1, 0, True),))
HELD = stock.Held({})


class Shard:
    """Answers takes one after another as told; an `Unreachable` among the answers is a lost one."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[stock.Take] = []

    async def deliver(self, client: str, blob: bytes) -> bytes:
        replies = []
        for seq, command in msgspec.msgpack.decode(blob, type=list[tuple[int, stock.StockCommand]]):
            answer = self.answers.pop(0)
            if isinstance(answer, Unreachable):
                raise answer
            assert isinstance(command, stock.Take)
            self.asked.append(command)
            if isinstance(answer, stock.Shortage):
                answer = msgspec.structs.replace(answer, held_elsewhere=command.resent)
            replies.append((seq, answer))
        return msgspec.msgpack.encode(("me", replies))

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        raise AssertionError("takes are answered with their batch")


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses."""
    sleep: Callable[[float], Any] = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda pause_s: sleep(0))


def port_to(**shards: Shard) -> tuple[StockPort, Router]:
    """``tea`` is the first shard's, all else the last one's."""
    names = list(shards)
    table = SlotTable([names[-1]] * 1024, {"sku:tea": names[0]})
    router = Router(table, {name: Mailbox(shard, stock.StockReply) for name, shard in shards.items()})
    return StockPort(router, lambda: NOW_MS), router


@pytest.mark.parametrize(
    ("answers", "elsewhere"),
    [([SHORT], False), ([Unreachable("x"), SHORT], True), ([Unreachable("x"), Unreachable("x"), SHORT], True)],
    ids=["sent once", "sent twice", "sent thrice"],
)
@pytest.mark.usefixtures("no_pauses")
async def test_a_shortage_tells_that_a_copy_may_be_about(answers: list[Any], elsewhere: bool) -> None:
    port, router = port_to(x=Shard(*answers))
    reply = await answered(port.take(TAKE))
    await router.close()
    assert reply == stock.Shortage(SHORT.lines, elsewhere)


async def test_a_take_that_a_former_incarnation_may_have_sent_says_so() -> None:
    port, router = port_to(x=Shard(SHORT))
    reply = await answered(port.take(msgspec.structs.replace(TAKE, resent=True)))
    await router.close()
    assert reply == stock.Shortage(SHORT.lines, True)


@pytest.mark.usefixtures("no_pauses")
async def test_over_several_shards_a_copy_of_the_first_try_is_not_forgotten_by_the_last() -> None:
    """The first try's answer was lost; the tries that follow are new messages, sent once each."""
    x, y = Shard(Unreachable("x"), SHORT, SHORT, SHORT), Shard(*[stock.Shortage(())] * 3)
    port, router = port_to(x=x, y=y)
    reply = await answered(port.take(msgspec.structs.replace(TAKE, wanted={"sku:tea": 1, "sku:mug": 1})))
    await router.close()
    assert reply == stock.Shortage(SHORT.lines, True)
    assert all(take.resent for take in [*x.asked, *y.asked[1:]])


@pytest.mark.parametrize("ahead_ms", [300_000, -300_000], ids=["ahead", "behind"])
async def test_what_is_refused_for_its_date_is_dated_by_the_shards_clock_from_then_on(ahead_ms: int) -> None:
    """Else nothing is sold until the difference has passed. What is on its way keeps its date."""
    stale = stock.HoldState("unknown", "stale", NOW_MS + ahead_ms)
    x, y = Shard(stale, HELD, HELD), Shard(HELD)
    port, router = port_to(x=x, y=y)
    assert await answered(port.take(TAKE)) == stale
    assert await answered(port.take(TAKE)) == HELD
    assert await answered(port.take(msgspec.structs.replace(TAKE, wanted={"sku:tea": 1, "sku:mug": 1}))) == HELD
    await router.close()
    assert [take.issued_at_ms for take in x.asked] == [NOW_MS, NOW_MS + ahead_ms, NOW_MS + ahead_ms]
    assert [take.issued_at_ms for take in y.asked] == [NOW_MS]
