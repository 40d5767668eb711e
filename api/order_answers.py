"""Orders as answers, for buyers and operators alike: one, a page, the audit trail, and what a change came to.

Owns the paging of orders, the names under which callers stand in audit trails, and what of these a buyer may
see. Promises that a change which takes longer than one waits is told as 202 with the order as it stands.
Called by the routes of orders.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.responses import Response

from api import render
from api.auth import Caller
from api.checkout_answers import RETRY, opened_for
from api.context import AppContext, context_of
from api.dispatch import accepted, false_cursor, not_found, number_cursor, replay_headers, require_id, wait_s
from api.personal import Opened
from cluster.engine_types import Answer, StillPending
from domain import ids
from domain.checkout_model import CheckoutCommand, CheckoutReply, OrderReply, Read
from domain.order import OrderView

OPERATOR = "operator"
_OPERATORS_OWN = ("decision", "reason")

Page = Callable[[str | None, int], Awaitable[list[OrderView]]]


def actor_of(caller: Caller) -> str:
    """The caller in an audit trail, which must hold no personal data."""
    return f"{OPERATOR}:{caller.owners[0][2:10]}" if caller.is_operator else "buyer"


async def find(context: AppContext, caller: Caller, order_id: str) -> OrderView:
    """The order if it is the caller's, or anybody's for an operator. Problem: 404."""
    require_id("ord", order_id)
    owners = None if caller.is_operator else caller.owners
    view = await context.orders.by_id(order_id, owners) if owners is None or owners else None
    if view is None:
        raise not_found()
    return view


async def one(context: AppContext, view: OrderView, headers: dict[str, str] | None = None) -> Response:
    """An order as an answer."""
    opened = await opened_for(context, view)
    return render.answer(render.order(view, opened), headers={**render.PRIVATE, **(headers or {})})


async def page(context: AppContext, fetch: Page, cursor: str | None, limit: int) -> Response:
    """A page of orders as an answer. `fetch` takes the last order seen and a count. Problem: false cursor."""
    if cursor is not None and not ids.is_id("ord", cursor):
        raise false_cursor()
    views = await fetch(cursor, limit + 1)
    shown = views[:limit]
    keys = await context.key_ring.known_keys({view.owner for view in shown})
    data = [render.order(view, Opened(keys.get(view.owner))) for view in shown]
    return render.answer({"data": data, "next_cursor": shown[-1].id if len(views) > limit else None})


async def trail(context: AppContext, caller: Caller, view: OrderView, cursor: str | None, limit: int) -> Response:
    """A page of the order's audit trail as an answer, as the caller may see it. Problem: a false cursor."""
    rows = await context.orders.events(view.id, number_cursor(cursor, most_digits=9), limit + 1)
    shown = rows[:limit]
    opened = await opened_for(context, view)
    data = [render.order_event(row, opened) for row in shown]
    if not caller.is_operator:
        data = [_without_operator(entry) for entry in data]
    return render.answer({"data": data, "next_cursor": str(shown[-1].n) if len(rows) > limit else None})


def _without_operator(entry: render.Document) -> render.Document:
    """For the buyer: what was done to the order, but neither by whom of the shop nor why, which may be a suspicion."""
    if not entry["actor"].startswith(OPERATOR):
        return entry
    detail = {name: value for name, value in entry["detail"].items() if name not in _OPERATORS_OWN}
    return entry | {"actor": OPERATOR, "detail": detail}


async def change(request: Request, command: CheckoutCommand) -> Response:
    """Tell the saga to change its order; what came of it, or how it stands, as an answer. Problem: its no."""
    context = context_of(request)
    try:
        answer = accepted(await context.engine.ask(command, wait_s(request, context.settings.wait_s)))
    except StillPending:
        return await _interim(context, command)
    reply: OrderReply = answer.reply
    return await one(context, reply.order, replay_headers(answer))


async def _interim(context: AppContext, command: CheckoutCommand) -> Response:
    read = Read(command_id=b"", checkout_id=command.checkout_id, owner=command.owner)
    answer: Answer = accepted(await context.engine.ask(read))
    reply: CheckoutReply = answer.reply
    assert reply.order is not None, "only a placed order is changed"
    opened = await opened_for(context, reply.order)
    return render.answer(render.order(reply.order, opened), 202, render.PRIVATE | RETRY)
