"""Checkouts as answers: the resource, the outcome of a completion, and "still under way".

Owns the statuses 200, 201 and 202 of checkouts. Promises that a 202 shows the checkout as it stands, and
that what has become final meanwhile is told instead. Is told replies of the engine. Called by the routes of
checkouts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response

from api import render
from api.context import AppContext
from api.dispatch import accepted, is_not_found, replay_headers
from api.personal import Opened
from cluster.engine_types import Answer, StillPending
from domain.checkout_model import CheckoutReply, CheckoutView
from domain.order import OrderView

RETRY = {"Retry-After": "1"}
LAST_LOOK_S = 1.0
OPEN_STATUSES = ("incomplete", "ready_for_complete")


async def opened_for(context: AppContext, *views: CheckoutView | OrderView | None) -> Opened:
    """What opens these views of one owner; no key is looked for where nothing is sealed."""
    for view in views:
        if view is not None and _is_sealed(view):
            keys = await context.key_ring.known_keys((view.owner,))
            return Opened(keys.get(view.owner))
    return Opened(None)


def _is_sealed(view: CheckoutView | OrderView) -> bool:
    more = view.billing_address if isinstance(view, CheckoutView) else view.customer
    return bool(view.buyer or view.shipping_address or more)


async def document(context: AppContext, view: CheckoutView) -> render.Document:
    """The resource."""
    opened = await opened_for(context, view)
    return render.checkout(view, opened, context.settings.public_url)


async def resource(
    context: AppContext,
    answer: Answer,
    told: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """The whole checkout, with the status of the reply; `told` are members to add."""
    reply: CheckoutReply = answer.reply
    body = await document(context, reply.checkout) | (told or {})
    more = replay_headers(answer) | (headers or {}) | (RETRY if reply.status == 202 else {})
    return render.answer(body, reply.status, render.with_version(reply.checkout.version, more))


async def completion(context: AppContext, answer: Answer, told: dict[str, str]) -> Response:
    """`{"checkout", "order"?, "token"?}`: 200 once there is an order, until then 202."""
    reply: CheckoutReply = answer.reply
    view, order = reply.checkout, reply.order
    opened = await opened_for(context, order, view)
    body: dict[str, Any] = {"checkout": render.checkout(view, opened, context.settings.public_url)}
    if order is None:
        return render.answer(body | told, 202, render.with_version(view.version, RETRY))
    body["order"] = render.order(order, opened)
    return render.answer(body | told, 200, render.with_version(view.version, replay_headers(answer)))


async def result_or_interim(
    again: Callable[[float], Awaitable[Answer]], read: Callable[[], Awaitable[Answer]], wait_s: float
) -> Answer:
    """The engine's reply to `again` within `wait_s`, else a 202 with the checkout as `read` finds it.

    A checkout that is not there (any more, or yet), that has its order, or that waits for its buyer as if nothing had
    been asked is no interim state: the reply is asked for once more. StillPending: it is neither there nor final.
    """
    try:
        return await again(wait_s)
    except StillPending:
        found = await read()
    if not _is_interim(found.reply):
        try:
            return await again(LAST_LOOK_S)
        except StillPending:
            found = await read()
    if is_not_found(found.reply):
        raise StillPending
    accepted(found)
    return Answer(CheckoutReply(202, found.reply.checkout, None))


def _is_interim(reply: Any) -> bool:
    """Whether the reply shows work under way. The read may have overtaken the command, or come after its end."""
    if not isinstance(reply, CheckoutReply):
        return not is_not_found(reply)
    return reply.order is None and reply.checkout.status not in OPEN_STATUSES
