"""What two incarnations of one actor are asked in the tests of fencing, kind by kind.

Each `Case` says what prepares the shard, the command whose append is cut, another that the heir may journal, one
that needs no event, and how to see what came of it. Commands carry their ids, so that asking again is a repeat.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from domain import cart_model, ids, stock
from domain import checkout_model as model
from domain.catalog import Product
from domain.messages import Replayed
from tests.unit.checkout_world import CARD, OWNER, Shop

UNITS = 10
SKU = "tea"


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


def new_id() -> bytes:
    return uuid.uuid4().bytes


class Case(Protocol):
    """``before`` is journaled first; ``write`` by one of the two; ``other`` by the heir; ``ask`` journals nothing."""

    kind: str
    with_order: bool  # it is the append with the order row that is cut
    units: tuple[int, int, int]  # what each of these three comes to
    before: Sequence[Any]
    write: Any
    other: Any
    ask: Any
    look: Any

    def do(self, action: model.Action) -> Any: ...
    def is_done(self, reply: Any) -> bool: ...
    def effect(self, reply: Any) -> int: ...


class _Alone:
    """An actor that begins nothing."""

    with_order = False

    def do(self, action: model.Action) -> Any:
        raise AssertionError(f"{action!r} was begun")


class StockCase(_Alone):
    """Somebody takes one unit, somebody else two, and a third what there is none of."""

    kind = "stock"
    units = (0, 1, 2)

    def __init__(self) -> None:
        self.before = (
            stock.PutProduct(command_id=new_id(), sku=SKU, product=Product("Tea", {"USD": 500})),
            stock.Adjust(command_id=new_id(), sku=SKU, set_to=UNITS),
        )
        self.write = self._take(1)
        self.other = self._take(2)
        self.ask = self._take(1, "gin")
        self.look = stock.Inspect(command_id=b"", sku=SKU)

    def _take(self, units: int, sku: str = SKU) -> stock.Take:
        now_ms = clock_ms()
        return stock.Take(
            command_id=b"", hold_id=uuid.uuid4().hex, revision=1, wanted={stock.account_of(sku): units},
            expires_at_ms=now_ms + 600_000, issued_at_ms=now_ms,
        )  # fmt: skip

    def is_done(self, reply: Any) -> bool:
        return isinstance(reply, stock.Held)

    def effect(self, reply: Any) -> int:
        """Units reserved."""
        return int(reply.reserved)


class CartCase(_Alone):
    """A tea, and then a mug, go into a cart; somebody reads another one that is not there."""

    kind = "cart"
    units = (0, 1, 2)

    def __init__(self) -> None:
        cart_id = ids.make("cart", clock_ms(), ids.derive_body(new_id(), "cart"))
        other_id = ids.make("cart", clock_ms(), ids.derive_body(new_id(), "cart"))
        shown = (cart_model.Shown("tea", "Tea", 500), cart_model.Shown("mug", "Mug", 700))
        self.before = (
            cart_model.CreateCart(
                command_id=new_id(), cart_id=cart_id, owner=OWNER, customer=None, currency="USD", lines=(), shown=shown
            ),
        )
        self.write, self.other = (
            cart_model.AddItem(
                command_id=new_id(), cart_id=cart_id, owner=OWNER, sku=sku, quantity=quantity, shown=shown
            )
            for sku, quantity in (("tea", 1), ("mug", 2))
        )
        self.ask = cart_model.ReadCart(command_id=b"", cart_id=other_id, owner=OWNER)
        self.look = cart_model.ReadCart(command_id=b"", cart_id=cart_id, owner=OWNER)

    def is_done(self, reply: Any) -> bool:
        return isinstance(reply, cart_model.CartReply | Replayed)

    def effect(self, reply: Any) -> int:
        """Pieces in the cart."""
        return sum(line.quantity for line in reply.cart.lines)


class CheckoutCase:
    """An express checkout, cut at its beginning; one shop and gateway do what both incarnations begin."""

    kind = "checkout"
    with_order = False
    units = (1, 1, 1)

    def __init__(self) -> None:
        self.shop = Shop(tea=UNITS)
        self.shop.now_ms = clock_ms()
        self.write, self.other, first, unknown = (self._start() for _ in range(4))
        self.before = (first,)
        self.ask = model.Read(command_id=b"", checkout_id=unknown.checkout_id, owner=OWNER)
        self.look = model.Read(command_id=b"", checkout_id=self.write.checkout_id, owner=OWNER)

    def _start(self) -> model.Start:
        start = self.shop.start(express=CARD)
        checkout_id = ids.make("chk", clock_ms(), ids.derive_body(command_id := new_id(), "checkout"))
        return msgspec.structs.replace(start, command_id=command_id, checkout_id=checkout_id)

    def do(self, action: model.Action) -> Any:
        result = self.shop.do(action)
        return result.outcome if isinstance(result, model.LegOutcome) else result

    def is_done(self, reply: Any) -> bool:
        if isinstance(reply, Replayed):
            reply = msgspec.msgpack.decode(reply.body, type=model.Reply)
        return isinstance(reply, model.CheckoutReply) and reply.order is not None

    def effect(self, reply: Any) -> int:
        """Units sold and paid for, in all checkouts."""
        captured = [payment for verb, payment, _ in self.shop.gateway.log if verb == "capture"]
        assert len(set(captured)) == len(captured)
        return min(self.shop.levels(SKU)[2], len(captured))


class OrderCase(CheckoutCase):
    """The same, cut at the pivot: the append that has the order row."""

    with_order = True
