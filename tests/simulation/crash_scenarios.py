"""One buyer's way through the shop for each thing that a saga can do, so that every crash point is passed.

Owns the scenarios. Whoever plays in one insists: whatever dies on the way, the scenario comes to the end that it
would have had without (`expect`), or to one that is as good. Nothing here knows where the crashes are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from cluster.engine_types import ResolvePayment
from domain import cart_model, ids
from domain import checkout_model as model
from domain.messages import Command, Refusal
from domain.payments import Declined, Retrieved
from tests.simulation.people import BUYER, CARD, HOMES, KEYED, PRICE, People
from tests.simulation.weather import Shop

TRIES = 60  # two crashes and all that follows from them are over by then
DECLINED, ASKS_BUYER, SILENT = "pm_card_chargeDeclined", "pm_card_authenticationRequired", "pm_sandbox_timeout_before"
HERE, THERE = "sku-0", "sku-1"  # on different shards
UNITS = 5


class Scenario(NamedTuple):
    """``upset``: phase and step; the gateway fails for a while when it begins for the first time."""

    name: str
    play: Callable[[Buyer], Awaitable[None]]
    upset: tuple[str, str] | None = None
    reviewed: bool = False

    def shop(self) -> Shop:
        return Shop(
            stock_shards=2,
            checkout_shards=2,
            units={HERE: UNITS, THERE: UNITS},
            hold_ttl_ms=20_000,
            buyer_action_ms=10_000,
            payment_attempts=9,
            review_above_minor=0 if self.reviewed else None,
        )


class Buyer:
    """Insists on whatever is asked. ``checkout``: the one that was started last."""

    def __init__(self, people: People) -> None:
        self.owner = "g:buyer"
        self.checkout = ""
        self._people = people

    def _keyed(self) -> dict[str, Any]:
        return {"command_id": self._people.new_id(), "fingerprint": KEYED}

    async def _insist(self, command: Command) -> Any:
        return await self._people.insist(command, TRIES)

    async def cart(self, *lines: tuple[str, int]) -> str:
        keyed = self._keyed()
        command = cart_model.CreateCart(
            **keyed, cart_id=self._people.named("cart", keyed["command_id"]), owner=self.owner, customer=None,
            currency="USD", lines=tuple(cart_model.NewLine(*line) for line in lines),
            shown=tuple(cart_model.Shown(sku, sku, PRICE) for sku in (HERE, THERE)),
        )  # fmt: skip
        reply = await self._insist(command)
        assert isinstance(reply, cart_model.CartReply), reply
        return reply.cart.id

    async def start(self, cart_id: str | None, *lines: tuple[str, int], express: model.Payments | None = None) -> Any:
        keyed = self._keyed()
        checkout_id = self._people.named("chk", keyed["command_id"])
        command = model.Start(
            **keyed, checkout_id=checkout_id, owner=self.owner, root=ids.body(checkout_id), customer=None,
            cart_id=cart_id, wanted=tuple(model.Wanted(*line) for line in lines), currency="USD",
            fields=model.Fields(("buyer", "shipping_address"), BUYER, HOMES[0]), express=express,
        )  # fmt: skip
        reply = await self._insist(command)
        if isinstance(reply, model.CheckoutReply):
            self.checkout = reply.checkout.id
        return reply

    async def patch(self, fields: model.Fields) -> None:
        reply = await self._insist(
            model.Patch(**self._keyed(), checkout_id=self.checkout, owner=self.owner, fields=fields)
        )
        assert isinstance(reply, model.CheckoutReply), reply

    async def complete(self, *payments: model.Payment) -> Any:
        return await self._insist(
            model.Complete(
                **self._keyed(), checkout_id=self.checkout, owner=self.owner, payments=model.Payments(payments)
            )
        )

    async def pay(self) -> None:
        """A good card; with a new attempt where the gateway's silence has ended the one before."""
        reply = None
        while not (isinstance(reply, model.CheckoutReply) and reply.checkout.status == "completed"):
            reply = await self.complete(model.Payment("card", CARD))
            assert not isinstance(reply, Refusal) or reply.code == "payment_failed", reply

    async def act(self, payment_id: str) -> None:
        reply: Any = None
        while not isinstance(reply, Retrieved | Declined):  # declined: it was taken before, and the answer lost
            reply = await self._people.ask(ResolvePayment(payment_id, "succeed"), 1.0)
        confirm = model.ConfirmPayment(
            **self._keyed(), checkout_id=self.checkout, owner=self.owner, payment_id=payment_id
        )
        while not isinstance(reply, model.CheckoutReply) or reply.checkout.status == "requires_escalation":
            reply = await self._insist(confirm)

    async def cancel(self) -> None:
        reply = await self._insist(model.Cancel(**self._keyed(), checkout_id=self.checkout, owner=self.owner))
        assert isinstance(reply, model.CheckoutReply), reply

    async def cancel_order(self) -> None:
        reply = await self._insist(
            model.CancelOrder(
                **self._keyed(), checkout_id=self.checkout, owner=self.owner, reason="changed my mind", actor="buyer"
            )
        )
        assert isinstance(reply, model.OrderReply), reply

    async def deny(self) -> None:
        reply = await self._insist(
            model.ReviewOrder(**self._keyed(), checkout_id=self.checkout, approve=False, reason="seen", actor="ops")
        )
        assert isinstance(reply, model.OrderReply), reply


# ── the ways ────────────────────────────────────────────────────────────────────────────────────────────


async def _buys(buyer: Buyer) -> None:
    await buyer.start(await buyer.cart((HERE, 1), (THERE, 2)))
    await buyer.pay()


async def _starts_anew(buyer: Buyer) -> None:
    cart = await buyer.cart((HERE, 1))
    await buyer.start(cart)
    await buyer.start(cart)
    await buyer.pay()


async def _changes(buyer: Buyer) -> None:
    await buyer.start(None, (HERE, 2))
    await buyer.patch(model.Fields(("shipping_address",), None, HOMES[1]))
    await buyer.patch(model.Fields(("line_items",), lines=(model.Wanted(HERE, 1), model.Wanted(THERE, 1))))
    await buyer.pay()


async def _second_payment_fails(buyer: Buyer) -> None:
    await buyer.start(None, (HERE, 1), (THERE, 1))
    await buyer.complete(model.Payment("wallet", CARD, 300), model.Payment("card", DECLINED))
    await buyer.pay()


async def _cancels(buyer: Buyer) -> None:
    await buyer.start(await buyer.cart((HERE, 1), (THERE, 1)))
    await buyer.cancel()


async def _finds_too_few(buyer: Buyer) -> None:
    reply = await buyer.start(await buyer.cart((HERE, 1), (THERE, UNITS + 1)))
    assert isinstance(reply, Refusal), reply


async def _acts(buyer: Buyer) -> None:
    await buyer.start(None, (HERE, 1))
    reply = await buyer.complete(model.Payment("card", ASKS_BUYER))
    if isinstance(reply, model.CheckoutReply) and reply.checkout.status == "requires_escalation":
        await buyer.act(reply.checkout.payments[-1].id)
    else:  # the gateway was silent
        await buyer.pay()


async def _hears_nothing(buyer: Buyer) -> None:
    await buyer.start(None, (HERE, 1))
    await buyer.complete(model.Payment("card", SILENT))
    await buyer.pay()


async def _buys_at_once(buyer: Buyer) -> None:
    payments = model.Payments((model.Payment("wallet", CARD, 300), model.Payment("card", CARD)))
    reply = await buyer.start(None, (HERE, 1), (THERE, 1), express=payments)
    if not isinstance(reply, model.CheckoutReply) or reply.checkout.status != "completed":
        await buyer.pay()


async def _returns(buyer: Buyer) -> None:
    await _buys(buyer)
    await buyer.cancel_order()


async def _is_denied(buyer: Buyer) -> None:
    await _buys(buyer)
    await buyer.deny()


async def _two_at_once(buyer: Buyer) -> None:
    """Two starts of one cart race; the loser is gone, or was never."""
    cart = await buyer.cart((HERE, 1))
    await asyncio.gather(buyer.start(cart), buyer.start(cart))
    await buyer.start(cart)
    await buyer.pay()


SCENARIOS = (
    Scenario("buys", _buys),
    Scenario("starts anew", _starts_anew),
    Scenario("changes", _changes),
    Scenario("second payment fails", _second_payment_fails),
    Scenario("void is answered by an error", _second_payment_fails, upset=("unwinding", "void")),
    Scenario("cancels", _cancels),
    Scenario("finds too few", _finds_too_few),
    Scenario("acts", _acts),
    Scenario("hears nothing", _hears_nothing),
    Scenario("hears nothing of the void either", _hears_nothing, upset=("paying", "void")),
    Scenario("returns", _returns),
    Scenario("capture is answered by an error", _returns, upset=("placed", "capture")),
    Scenario("refund is answered by an error", _returns, upset=("placed", "refund")),
    Scenario("is denied", _is_denied, reviewed=True),
    Scenario("denial's void is answered by an error", _is_denied, upset=("placed", "void"), reviewed=True),
    Scenario("buys at once", _buys_at_once),
    Scenario("two at once", _two_at_once),
)
