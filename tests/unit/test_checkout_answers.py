"""What a buyer is told who does not wait: the work under way, or its end, and never how things stood before."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from api.checkout_answers import LAST_LOOK_S, result_or_interim
from cluster.engine_types import Answer, StillPending
from domain import checkout_refusals as no
from domain import checkout_views as views
from domain.checkout_model import CheckoutReply
from tests.support.placed_order import placed

COMPLETED = views.reply(placed())
UNDER_WAY = CheckoutReply(200, msgspec.structs.replace(COMPLETED.checkout, status="complete_in_progress"))
OPEN = CheckoutReply(200, msgspec.structs.replace(COMPLETED.checkout, status="ready_for_complete"))


class Script:
    """Says what it is given, in turn; an exception is raised."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.waited: list[float] = []

    def _next(self) -> Answer:
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Answer(reply)

    async def ask(self, seconds: float) -> Answer:
        self.waited.append(seconds)
        return self._next()

    async def read(self) -> Answer:
        return self._next()


async def told(asked: Script, found: Script) -> CheckoutReply:
    reply: CheckoutReply = (await result_or_interim(asked.ask, found.read, 0)).reply
    return reply


async def test_work_under_way_is_told_as_it_stands() -> None:
    asked = Script(StillPending())
    reply = await told(asked, Script(UNDER_WAY))
    assert (reply.status, reply.checkout.status) == (202, "complete_in_progress")
    assert asked.waited == [0]


@pytest.mark.parametrize("found", [OPEN, COMPLETED, no.NOT_FOUND], ids=["open", "completed", "not there"])
async def test_what_is_no_work_under_way_is_asked_for_once_more(found: Any) -> None:
    """The read overtook the command, or came after its end."""
    asked = Script(StillPending(), COMPLETED)
    assert await told(asked, Script(found)) is COMPLETED
    assert asked.waited == [0, LAST_LOOK_S]


async def test_a_read_that_overtook_the_command_is_repeated() -> None:
    reply = await told(Script(StillPending(), StillPending()), Script(OPEN, UNDER_WAY))
    assert (reply.status, reply.checkout.status) == (202, "complete_in_progress")


async def test_what_is_neither_there_nor_final_is_not_invented() -> None:
    with pytest.raises(StillPending):
        await told(Script(StillPending(), StillPending()), Script(no.NOT_FOUND, no.NOT_FOUND))
