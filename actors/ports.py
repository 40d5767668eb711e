"""The coordinator's way to stock, carts, other coordinators and gateways, through mailboxes.

Owns how an action becomes commands and how their answers become outcomes; nothing durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from itertools import takewhile
from typing import Any

from actors.mailbox import Mailbox
from actors.promise import Promise
from actors.routing import Router
from actors.stock_port import StockPort
from domain import cart_model, ids
from domain import checkout_model as model
from domain.messages import NOT_OUTCOMES, Refusal
from domain.payments import Unknown


class MailboxPorts:
    """`Ports` over routers. ``gateways``: name → mailbox of the actor that talks to it."""

    def __init__(
        self,
        stock: StockPort,
        carts: Router,
        checkouts: Router,
        gateways: Mapping[str, Mailbox],
        gateway_timeout_s: float,
    ) -> None:
        self._stock = stock
        self._carts = carts
        self._checkouts = checkouts
        self._gateways = dict(gateways)
        self._silence = Silence(gateway_timeout_s)

    def start(self, action: model.Action) -> asyncio.Future[Any] | Promise:
        match action:
            case model.TakeStock():
                return self._stock.take(action)
            case model.HoldStep():
                return self._stock.step(action)
            case model.CallGateway():
                return self._silence.bounded(self._gateways[action.gateway].ask_lightly(action.request))
            case model.BeginCart():
                return self._carts.ask(ids.body(action.cart_id), _begin_checkout(action))
            case model.EndCart():
                return asyncio.ensure_future(self._end_cart(action))
            case model.AskToReplace():
                return asyncio.ensure_future(self._replace(action))
            case _:
                raise AssertionError(f"{action!r} is not an action")

    def forget(self, hold_id: str, accounts: Sequence[str]) -> None:
        self._stock.forget(hold_id, accounts)

    async def _end_cart(self, action: model.EndCart) -> Any:
        command = cart_model.EndCheckout(
            command_id=_command_id(action.name, action.checkout_id),
            cart_id=action.cart_id,
            checkout_id=action.checkout_id,
            ordered=action.ordered,
        )
        reply = await self._carts.ask(ids.body(action.cart_id), command)
        if isinstance(reply, Refusal) and reply.code in NOT_OUTCOMES:
            return reply
        return model.Done()  # a cart that is gone or has moved on needs no closing

    async def _replace(self, action: model.AskToReplace) -> Any:
        command = model.Replace(
            command_id=_command_id(action.name, action.successor),
            checkout_id=action.previous,
            successor=action.successor,
        )
        reply = await self._checkouts.ask(ids.body(action.previous), command)
        if isinstance(reply, Refusal) and reply.code == "not_found":
            return model.GaveWay()
        return reply


class Silence:
    """Turns a gateway's silence into `Unknown`: it may or may not have happened.

    All calls have the same time-out, so that the order in which they came is that of their time. An answered one is
    let go of at once: thousands that are kept until their time is over would crowd out what is worked on.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._until_s: dict[Promise, float] = {}
        self._watching = False

    def bounded(self, call: Promise) -> Promise:
        loop = asyncio.get_running_loop()
        self._until_s[call] = loop.time() + self._timeout_s
        if not self._watching:
            self._watching = True
            loop.call_later(self._timeout_s, self._look)
        return call.seen_by(partial(self._heard, call))

    def _heard(self, call: Promise, reply: Any) -> None:
        self._until_s.pop(call, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        late = list(takewhile(lambda call: self._until_s[call] <= now_s, self._until_s))
        for call in late:
            self._until_s.pop(call, None)
            if not call.done():  # one that has failed was not seen
                call.set_result(Unknown(f"no answer within {self._timeout_s:g} s"))
        self._watching = bool(self._until_s)
        if self._watching:
            loop.call_at(next(iter(self._until_s.values())), self._look)


def _begin_checkout(action: model.BeginCart) -> cart_model.BeginCheckout:
    return cart_model.BeginCheckout(
        # With another former checkout out of the way it is another question, not a repeat of the first.
        command_id=_command_id(f"{action.name}:{action.gone}", action.checkout_id),
        cart_id=action.cart_id,
        checkout_id=action.checkout_id,
        owner=action.owner,
        gone=action.gone,
    )


def _command_id(action: str, checkout_id: str) -> bytes:
    """Carts remember answers by command id: the same step of the same checkout is the same command."""
    return blake2b(f"{action}:{checkout_id}".encode(), digest_size=16).digest()
