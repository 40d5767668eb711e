"""The coordinator's way to stock, carts, other coordinators and gateways, through mailboxes.

Owns how an action becomes commands and how their answers become outcomes; nothing durable.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from actors.checkout_coordinator import within
from actors.mailbox import Mailbox
from actors.routing import Router
from actors.stock_port import StockPort
from domain import cart_model, ids
from domain import checkout_model as model
from domain.messages import Refusal
from domain.payments import GatewayRequest, Outcome


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
        self._gateway_timeout_s = gateway_timeout_s

    async def take(self, action: model.TakeStock) -> Any:
        return await self._stock.take(action)

    async def hold_step(self, action: model.HoldStep) -> Any:
        return await self._stock.step(action)

    async def begin_cart(self, action: model.BeginCart) -> Any:
        command = cart_model.BeginCheckout(
            command_id=_command_id(action.name, action.checkout_id),
            cart_id=action.cart_id,
            checkout_id=action.checkout_id,
            owner=action.owner,
        )
        return await self._carts.ask(ids.body(action.cart_id), command)

    async def end_cart(self, action: model.EndCart) -> Any:
        command = cart_model.EndCheckout(
            command_id=_command_id(action.name, action.checkout_id),
            cart_id=action.cart_id,
            checkout_id=action.checkout_id,
            ordered=action.ordered,
            previous=action.previous,
        )
        reply = await self._carts.ask(ids.body(action.cart_id), command)
        if isinstance(reply, Refusal) and reply.code == "busy":
            return reply
        return model.Done()  # a cart that is gone or has moved on needs no closing

    async def replace(self, action: model.AskToReplace) -> Any:
        command = model.Replace(
            command_id=_command_id(action.name, action.successor),
            checkout_id=action.previous,
            successor=action.successor,
        )
        reply = await self._checkouts.ask(ids.body(action.previous), command)
        if isinstance(reply, Refusal) and reply.code == "not_found":
            return model.GaveWay()
        return reply

    async def gateway(self, name: str, request: GatewayRequest) -> Outcome:
        return await within(self._gateway_timeout_s, self._gateways[name].ask(request))


def _command_id(action: str, checkout_id: str) -> bytes:
    """Carts remember answers by command id: the same step of the same checkout is the same command."""
    return blake2b(f"{action}:{checkout_id}".encode(), digest_size=16).digest()
