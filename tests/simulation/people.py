"""Buyers and operators, who speak to API workers as over HTTP: they lose answers, repeat, hurry and give up.

Owns the workload. Everybody keeps to the contract: a repeat is the same command under the same key, a new
attempt takes a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from actors.checkout_coordinator import Watch
from actors.mailbox import Unreachable
from cluster.engine_types import ResolvePayment
from domain import cart_model, ids, stock
from domain import checkout_model as model
from domain.catalog import Product
from domain.messages import BUSY, Command, Refusal
from tests.simulation.history import History, final
from tests.simulation.loop import Process
from tests.simulation.network import Network
from tests.simulation.processes import EPOCH_MS
from tests.simulation.weather import Shop

CARD = "pm_card_visa"
TOKENS = (
    (CARD, 10),
    ("pm_card_chargeDeclined", 5),
    ("pm_card_authenticationRequired", 3),
    ("pm_sandbox_timeout_before", 1),
    ("pm_sandbox_timeout_after", 2),
    ("pm_sandbox_error_once", 2),
    ("pm_sandbox_slow_400", 1),
    ("pm_sandbox_slow_1300", 1),
    ("pm_sandbox_slow_2800", 1),
)
# Whose gateway leaves a call unanswered, twice if it comes to that: nine seconds of a saga's ten.
SILENT = frozenset(
    {"pm_sandbox_timeout_before", "pm_sandbox_timeout_after", "pm_sandbox_slow_1300", "pm_sandbox_slow_2800"}
)
BUYER = model.Buyer(b"sealed", "hash")
HOMES = (model.Address(b"home", "US", "CA", "94107"), model.Address(b"work", "US", "NY", "10001"))
ABROAD = model.Address(b"abroad", "CA", "QC", "H2X 1Y4")
PATIENCE_S = 60.0  # of who follows a checkout from its beginning to its end
ENDED = ("completed", "canceled")
WAIT_S = (0.05, 1.5)
KEYED, OTHER = b"body", b"other body"
PRICE = 1000


class People:
    """Everybody outside. Use on the loop of a process that never dies."""

    def __init__(
        self,
        outside: Process,
        network: Network,
        history: History,
        shop: Shop,
        rng: Random,
        note: Callable[..., None],
    ) -> None:
        self.closed = False  # nobody begins anything new
        self.history = history
        self._outside = outside
        self._network = network
        self._shop = shop
        self._rng = rng
        self._note = note
        self._seen: dict[str, model.CheckoutView] = {}
        self._followers: list[asyncio.Task[None]] = []
        self._orders: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def busy(self) -> bool:
        return any(not task.done() for task in self._tasks)

    def spawn(self, work: Any) -> None:
        self._tasks.append(self._outside.create_task(work))

    def open_doors(self, for_s: float) -> None:
        for _ in range(self._shop.buyers):
            self.spawn(self._buyer(self._rng.uniform(0, for_s)))
        for _ in range(self._shop.operators):
            self.spawn(self._operator())

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────

    def new_id(self) -> bytes:
        return self._rng.randbytes(16)

    async def ask(self, command: Any, wait_s: float) -> Any:
        """The reply, or None if it is lost or late."""
        floor = self.history.asked(command) if isinstance(command, Command) else None
        to = f"api-{self._rng.randrange(self._shop.workers)}"
        future = self._network.send(self._outside, to, "ask", (command,))
        future.add_done_callback(lambda done: done.exception())  # also when nobody waits any more
        await asyncio.wait((future,), timeout=wait_s)
        if not future.done():
            self._note("http", "gave up waiting")
            return None
        if future.exception() is not None:
            assert isinstance(future.exception(), Unreachable)
            self._note("http", "lost")
            return None
        reply = future.result()
        if floor is not None:
            self.history.told(command, reply, floor)
        return reply

    async def insist(self, command: Command, tries: int = 6) -> Any:
        """Ask until there is a final answer, or patience is at an end; the newest answer then."""
        reply = None
        for _ in range(tries):
            reply = await self.ask(command, self._rng.uniform(*WAIT_S)) or reply
            if reply is not None and (final(reply) or _needs_buyer(reply)):
                break
            await asyncio.sleep(self._rng.uniform(0.0, 0.3))
            command = self._renamed(command)
        return reply

    def _renamed(self, command: Command) -> Command:
        """A repeat as the edge makes it: the same thing, by an id of another time."""
        match command:
            case model.Start():
                return msgspec.structs.replace(command, checkout_id=self.named("chk", command.command_id))
            case cart_model.CreateCart():
                return msgspec.structs.replace(command, cart_id=self.named("cart", command.command_id))
            case _:
                return command

    async def ask_again(self, commands: Sequence[Command], wait_s: float) -> None:
        await asyncio.gather(*(self._ask_patiently(command, wait_s) for command in commands))

    async def _ask_patiently(self, command: Command, wait_s: float) -> Any:
        reply = await self.ask(command, wait_s)
        while reply == BUSY:
            await asyncio.sleep(self._rng.uniform(0.01, 0.1))
            reply = await self.ask(command, wait_s)
        return reply

    async def reuse_key(self, command: Command) -> None:
        """The key of a command that was answered, with another body."""
        other = msgspec.structs.replace(command, fingerprint=OTHER)
        reply: Any = BUSY
        while reply == BUSY:
            reply = await self._network.send(self._outside, "api-0", "ask", (other,))
        self.history.reused(command, reply)

    # ── operators ───────────────────────────────────────────────────────────────────────────────────────

    async def fill_shelves(self) -> None:
        for sku, units in self._shop.units.items():
            product = Product(sku, {"USD": PRICE})
            put = stock.PutProduct(command_id=b"", sku=sku, product=product)
            await self.ask(put, 10)
            await self.ask(self._adjust(sku, units), 10)

    def _adjust(self, sku: str, delta: int) -> Command:
        return stock.Adjust(command_id=self.new_id(), fingerprint=KEYED, sku=sku, delta=delta, reason="count")

    async def _operator(self) -> None:
        rng = self._rng
        while not self.closed:
            await asyncio.sleep(rng.uniform(0.05, 0.5))
            if not self._orders or rng.random() < 0.3:
                sku = rng.choice(list(self._shop.units))
                await self.insist(self._adjust(sku, rng.choice((-2, -1, 1, 1, 2))))
                continue
            await self.insist(self._order_command(rng.choice(self._orders)))

    def _order_command(self, checkout_id: str) -> Command:
        common: dict[str, Any] = {"command_id": self.new_id(), "fingerprint": KEYED, "checkout_id": checkout_id}
        match self._rng.randrange(6):
            case 5:
                return model.AmendAddress(**common, address=self._rng.choice((*HOMES, ABROAD)))
            case 0:
                return model.CancelOrder(**common, reason="damaged", actor="ops")
            case 1:
                return model.DeliverOrder(**common, actor="ops")
            case 2:
                return model.ReviewOrder(**common, approve=self._rng.random() < 0.7, reason="seen", actor="ops")
            case _:
                return model.ShipOrder(**common, carrier="dhl", tracking_number="1", actor="ops")

    # ── buyers ──────────────────────────────────────────────────────────────────────────────────────────

    async def _buyer(self, comes_at_s: float) -> None:
        await asyncio.sleep(comes_at_s)
        owner = f"g:{self._rng.getrandbits(64):016x}"
        cart_id = None
        while not self.closed:
            if self._rng.random() < 0.5:
                cart_id = await self._fill_cart(owner, cart_id)
            checkout = await self._begin(owner, cart_id)
            if checkout is not None:
                await self._finish(owner, checkout)
            if self._rng.random() < 0.4:
                return
            await asyncio.sleep(self._rng.uniform(0, 0.5))

    def _lines(self) -> tuple[model.Wanted, ...]:
        skus = list(self._shop.units)
        chosen = self._rng.sample(skus, self._rng.randint(1, min(2, len(skus))))
        return tuple(model.Wanted(sku, self._rng.choice((1, 1, 1, 2))) for sku in chosen)

    async def _fill_cart(self, owner: str, cart_id: str | None) -> str | None:
        if cart_id is not None and self._rng.random() < 0.6:
            line = self._lines()[0]
            command: Command = cart_model.AddItem(
                command_id=self.new_id(), fingerprint=KEYED, cart_id=cart_id, owner=owner,
                sku=line.sku, quantity=line.quantity, shown=self._shown(),
            )  # fmt: skip
        else:
            command_id = self.new_id()
            wanted = self._lines() if self._rng.random() < 0.95 else ()
            lines = tuple(cart_model.NewLine(line.sku, line.quantity) for line in wanted)
            cart_id = self.named("cart", command_id)
            if self._rng.random() < 0.3:
                point = cart_model.SetOpenCart(command_id=b"", cart_id=cart_id, owner=owner)
                await self.ask(point, 1.0)
            command = cart_model.CreateCart(
                command_id=command_id, fingerprint=KEYED, cart_id=cart_id, owner=owner,
                customer=None, currency="USD", lines=lines, shown=self._shown(),
            )  # fmt: skip
        reply = await self.insist(command)
        if cart_id is not None and self._rng.random() < 0.3:
            await self.ask(cart_model.ReadCart(command_id=b"", cart_id=cart_id, owner=owner), 1.0)
        if cart_id is not None and _is_expired(reply):
            await self._restore(owner, cart_id)
            return cart_id
        return reply.cart.id if isinstance(reply, cart_model.CartReply) else None

    async def _restore(self, owner: str, cart_id: str) -> None:
        command_id = self.new_id()
        await self.insist(
            cart_model.RestoreCart(command_id=command_id, fingerprint=KEYED, cart_id=cart_id, owner=owner)
        )

    def _shown(self) -> tuple[cart_model.Shown, ...]:
        """What the edge has looked up of every SKU."""
        return tuple(cart_model.Shown(sku, sku, PRICE) for sku in self._shop.units)

    def named(self, prefix: str, command_id: bytes) -> str:
        now_ms = EPOCH_MS + int(self._outside.time() * 1000)
        return ids.make(prefix, now_ms, ids.derive_body(command_id, prefix))

    def _start(self, owner: str, cart_id: str | None) -> model.Start:
        rng, command_id = self._rng, self.new_id()
        express = self._payments() if rng.random() < 0.3 else None
        given = ("buyer", "shipping_address") if express is not None or rng.random() < 0.7 else ()
        fields = model.Fields(given, BUYER, HOMES[0]) if given else model.Fields()
        checkout_id = self.named("chk", command_id)
        return model.Start(
            command_id=command_id, fingerprint=KEYED, checkout_id=checkout_id, owner=owner,
            root=ids.body(checkout_id), customer=None, cart_id=cart_id,
            wanted=() if cart_id is not None else self._lines(), currency="USD", fields=fields,
            on_shortage=rng.choice(("reject", "reject", "accept_available")), express=express,
        )  # fmt: skip

    async def _begin(self, owner: str, cart_id: str | None) -> model.CheckoutView | None:
        """Start a checkout, now and then two of one cart at once."""
        starts = [self._start(owner, cart_id)]
        if cart_id is not None and self._rng.random() < 0.3:
            starts.append(self._start(owner, cart_id))
            self._note("buyer", "two at once")
        replies = await asyncio.gather(*(self.insist(start, self._rng.randint(1, 6)) for start in starts))
        if cart_id is not None and any(
            isinstance(reply, Refusal) and reply.code == "cart_expired" for reply in replies
        ):
            # At once: what was refused may still be on its way to a cart that is open again.
            await self._restore(owner, cart_id)
            replies.append(await self.insist(self._start(owner, cart_id)))
        views = [reply.checkout for reply in replies if isinstance(reply, model.CheckoutReply)]
        return self._rng.choice(views) if views else None

    async def _finish(self, owner: str, checkout: model.CheckoutView) -> None:
        rng = self._rng
        common: dict[str, Any] = {"fingerprint": KEYED, "checkout_id": checkout.id, "owner": owner}
        reply: Any = None
        self._seen[checkout.id] = checkout
        if rng.random() < 0.3:
            self._followers.append(self._outside.create_task(self._follow(checkout, PATIENCE_S)))
        for _ in range(rng.randint(1, 4)):
            if self.closed or checkout.status in ENDED:
                break
            unready = isinstance(reply, Refusal) and reply.code == "checkout_not_ready"
            match "address" if unready else rng.choices(("complete", "patch", "cancel", "leave"), (12, 6, 1, 1))[0]:
                case "complete":
                    command: Command = model.Complete(command_id=self.new_id(), payments=self._payments(), **common)
                case "patch":
                    command = model.Patch(command_id=self.new_id(), fields=self._fields(), **common)
                case "address":
                    fields = model.Fields(("buyer", "shipping_address"), BUYER, HOMES[0])
                    command = model.Patch(command_id=self.new_id(), fields=fields, **common)
                case "cancel":
                    command = model.Cancel(command_id=self.new_id(), **common)
                case _:
                    self._note("buyer", "left")
                    return
            if rng.random() < 0.1:
                self.spawn(self.insist(model.Cancel(command_id=self.new_id(), **common), 2))
            if rng.random() < 0.2:
                self.spawn(self.insist(self._in_another_tab(common), 2))
            if rng.random() < 0.1:
                seen = await self.ask(model.Read(command_id=b"", checkout_id=checkout.id, owner=owner), 1.0)
                now = seen.checkout if isinstance(seen, model.CheckoutReply) else checkout
                await self.insist(self._blunder(now, common), 2)
            reply = await self.insist(command)
            if isinstance(reply, model.CheckoutReply):
                checkout = reply.checkout
            match rng.randrange(6):
                case 0 | 1:
                    await self.ask(model.Read(command_id=b"", checkout_id=checkout.id, owner=owner), 1.0)
                case 2:
                    await self.watch(owner, checkout)
            if _needs_buyer(reply):
                checkout = await self._act(owner, checkout) or checkout
        if checkout.status == "completed":
            await self._bought(owner, checkout.id)

    def _in_another_tab(self, common: dict[str, Any]) -> Command:
        if self._rng.random() < 0.5:
            return model.Complete(command_id=self.new_id(), payments=self._payments(), **common)
        return model.Patch(command_id=self.new_id(), fields=self._fields(), **common)

    def _blunder(self, checkout: model.CheckoutView, common: dict[str, Any]) -> Command:
        """What a hasty client sends: another total, a sum that does not add up, an old version, what is not sold or not
        offered, a step that nobody waits for, a checkout that never was."""
        rng, new = self._rng, self.new_id()
        card = model.Payment("card", CARD)
        match rng.randrange(9):
            case 0:
                return model.Complete(command_id=new, payments=model.Payments((card,), expected_total=1), **common)
            case 1:
                one_too_much = (card, model.Payment("card", CARD, 10**9))
                return model.Complete(command_id=new, payments=model.Payments(one_too_much), **common)
            case 2:
                barter = model.Payments((model.Payment("barter", CARD),))
                return model.Complete(command_id=new, payments=barter, **common)
            case 3:
                return model.Patch(command_id=new, fields=self._fields(), expected_version=0, **common)
            case 4:
                return model.Cancel(command_id=new, expected_version=0, **common)
            case 5:
                unsold = model.Fields(("line_items",), lines=(model.Wanted("nowhere", 1),))
                return model.Patch(command_id=new, fields=unsold, **common)
            case 6:
                never = model.Fields(("selected_shipping_option",), selected_option="yesterday")
                return model.Patch(command_id=new, fields=never, **common)
            case 7 if checkout.payments:
                payment_id = rng.choice(checkout.payments).id
                return model.ConfirmPayment(command_id=new, payment_id=payment_id, **common)
            case _:
                nobodys = common | {
                    "checkout_id": self.named("chk", new),
                    "fingerprint": b"",
                }
                return model.Cancel(command_id=new, **nobodys)

    async def watch(self, owner: str, checkout: model.CheckoutView, wait_s: float = 0.5) -> Any:
        """Wait for another version than the one seen."""
        known = checkout.version
        watch = Watch(command_id=b"", checkout_id=checkout.id, owner=owner, known_version=known)
        reply = await self.ask(watch, wait_s)
        if isinstance(reply, model.CheckoutReply):
            self.history.watched(known, reply)
        return reply

    async def follow_all(self, wait_s: float) -> None:
        """Stay with every checkout that is open: its end, by time, is news that nobody must miss."""
        await asyncio.gather(*(self._follow(checkout, wait_s) for checkout in self._seen.values()), *self._followers)

    async def _follow(self, checkout: model.CheckoutView, wait_s: float) -> None:
        read = model.Read(command_id=b"", checkout_id=checkout.id, owner=checkout.owner)
        reply = await self._ask_patiently(read, wait_s)
        until_s = self._outside.time() + wait_s
        while isinstance(reply, model.CheckoutReply) and not _over(reply.checkout):
            if self._outside.time() >= until_s:
                self.history.missed(checkout.id)
                return
            reply = await self.watch(checkout.owner, reply.checkout, until_s - self._outside.time()) or reply

    async def _bought(self, owner: str, checkout_id: str) -> None:
        self._orders.append(checkout_id)
        if self._rng.random() < 0.1:
            late = model.Cancel(command_id=self.new_id(), fingerprint=KEYED, checkout_id=checkout_id, owner=owner)
            await self.insist(late, 2)
        if self._rng.random() < 0.35:
            cancel = model.CancelOrder(
                command_id=self.new_id(), fingerprint=KEYED, checkout_id=checkout_id, owner=owner,
                reason="changed my mind", actor="buyer",
            )  # fmt: skip
            await self.insist(cancel)

    def _payments(self) -> model.Payments:
        tokens, weights = zip(*TOKENS, strict=True)
        token = self._rng.choices(tokens, weights)[0]
        payments = [model.Payment("card", token)]
        if self._rng.random() < 0.2:
            other = self._rng.choices(tokens, weights)[0]
            if not {token, other} <= SILENT:
                payments.insert(0, model.Payment("wallet", other, 300))
        return model.Payments(tuple(payments))

    def _fields(self) -> model.Fields:
        if self._rng.random() < 0.5:
            return model.Fields(("buyer", "shipping_address"), BUYER, self._rng.choice(HOMES))
        return model.Fields(("line_items",), lines=self._lines())

    async def _act(self, owner: str, checkout: model.CheckoutView) -> model.CheckoutView | None:
        """The buyer's 3-D Secure step: taken, failed, or never."""
        payment = next((entry for entry in checkout.payments if entry.status == "requires_action"), None)
        if payment is None or self._rng.random() < 0.3:
            return None
        outcome = self._rng.choice(("succeed", "succeed", "fail"))
        await self.ask(ResolvePayment(payment.id, outcome), 1.0)  # type: ignore[arg-type]
        confirm = model.ConfirmPayment(
            command_id=self.new_id(), fingerprint=KEYED, checkout_id=checkout.id, owner=owner, payment_id=payment.id
        )
        reply = await self.insist(confirm)
        return reply.checkout if isinstance(reply, model.CheckoutReply) else None


def _over(checkout: model.CheckoutView) -> bool:
    """Nothing more will be told: its units are sold or back."""
    return checkout.status in ENDED and checkout.reservation in ("confirmed", "released", "expired")


def _is_expired(reply: Any) -> bool:
    return isinstance(reply, Refusal) and reply.code == "cart_expired"


def _needs_buyer(reply: Any) -> bool:
    return isinstance(reply, model.CheckoutReply) and reply.checkout.status == "requires_escalation"
