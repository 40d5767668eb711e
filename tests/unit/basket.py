"""One cart core with its world, for tests: its commands, and what it answers."""

from __future__ import annotations

from typing import Any

import msgspec

from domain import cart
from domain.cart_model import (
    AddItem,
    CartEvent,
    CartPolicy,
    CartReplyType,
    CreateCart,
    NewLine,
    ReadCart,
    SetQuantity,
    Shown,
)
from domain.messages import Key, Replayed

CART = "cart_01hf7yat00aaaaaaaaaaaaaaaa"
OWNER = "g:owner"
POLICY = CartPolicy(idle_ms=1000)
TEA = (Shown("tea", "Tea", 500),)


class Basket:
    """One cart core with its world; every event goes through its journal form."""

    def __init__(self, *lines: tuple[str, int], create: bool = True) -> None:
        self.world: dict[Key, Any] = {}
        self.now_ms = 1_000_000
        self.keys = 0
        if create:
            new = tuple(NewLine(sku, quantity) for sku, quantity in lines)
            shown = tuple(Shown(sku, sku.title(), 500) for sku, _ in lines)
            self.ask(CreateCart, customer=None, currency="USD", lines=new, shown=shown)

    def get(self, kind: str, identifier: str) -> Any:
        return self.world.get((kind, identifier))

    def command(self, kind: Any, **fields: Any) -> Any:
        self.keys += 1
        common = {"cart_id": CART, "owner": OWNER, "command_id": self.keys.to_bytes(16, "big"), "fingerprint": b"f"}
        return kind(**(common | fields))

    def send(self, command: Any) -> Any:
        decision = cart.decide(POLICY, self, command, self.now_ms)
        journal = msgspec.msgpack.encode(list(decision.events))
        for event in msgspec.msgpack.decode(journal, type=list[CartEvent]):
            for key in cart.touches(event):
                self.world[key] = cart.evolve(key, self.world.get(key), event)
        return decision.reply

    def ask(self, kind: Any, **fields: Any) -> Any:
        return self.send(self.command(kind, **fields))

    def add(self, sku: str, quantity: int = 1, **fields: Any) -> Any:
        return self.ask(AddItem, sku=sku, quantity=quantity, shown=(Shown(sku, sku.title(), 600),), **fields)

    def line(self, sku: str) -> Any:
        return next(line for line in self.read().lines if line.sku == sku)

    def read(self) -> Any:
        return self.ask(ReadCart).cart


def quantities(reply: Any) -> dict[str, int]:
    return {line.sku: line.quantity for line in reply.cart.lines}


def replayed(reply: Any) -> Any:
    assert isinstance(reply, Replayed)
    return msgspec.msgpack.decode(reply.body, type=CartReplyType)


def writes(basket: Basket) -> list[Any]:
    """One of each kind of a buyer's write."""
    return [
        basket.command(AddItem, sku="tea", quantity=1, shown=TEA),
        basket.command(SetQuantity, line_id=basket.line("tea").id, quantity=3),
    ]
