"""A whole shop in memory around the pure cores: two stock shards, carts, checkouts, and a naive gateway.

It does what the actors do, one step at a time and only when told, so that a test can choose the order, lose
answers, repeat messages and crash. Every event goes through its journal form, and every decision's `after` is
compared with what replaying its events gives.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from domain import cart, cart_model, checkout, ids, stock
from domain import checkout_model as model
from domain.catalog import Product
from domain.checkout_actions import finished_holds, next_actions, outlived, resting
from domain.messages import Decision, Key, Replayed
from tests.unit.naive_gateway import Gateway

PRICE = 1000
OWNER = "g:owner"
BUYER = model.Buyer(b"sealed buyer", "hash")
HOME = model.Address(b"sealed home", "US", "CA", "94107")
AWAY = model.Address(b"sealed away", "DE", None, "10115")
ALL = ("buyer", "shipping_address")
READY = model.Fields(given=ALL, buyer=BUYER, shipping_address=HOME)
CARD = model.Payments((model.Payment("card", "ok"),))


class Core:
    """One core with its world and its journal."""

    def __init__(self, decide: Callable[..., Decision], part: Any, event_type: Any) -> None:
        self._decide = decide
        self._part = part
        self._decode = msgspec.msgpack.Decoder(list[event_type]).decode
        self.states: dict[Key, Any] = {}
        self.journal: list[bytes] = []

    def get(self, kind: str, identifier: str) -> Any:
        return self.states.get((kind, identifier))

    def ask(self, command: Any, now_ms: int) -> Decision:
        decision = self._decide(self, command, now_ms)
        record = msgspec.msgpack.encode(list(decision.events))
        self._replay(record)
        if decision.events:
            self.journal.append(record)
        for key, state in (decision.after or {}).items():
            assert self.states[key] == state, f"{key} is not what its events lead to"
        return decision

    def _replay(self, record: bytes) -> None:
        for event in self._decode(record):
            for key in self._part.touches(event):
                self.states[key] = self._part.evolve(key, self.states.get(key), event)
                if self.states[key] is None:
                    del self.states[key]

    def crash(self) -> None:
        """Forget everything but the journal, and come back."""
        before, self.states = self.states, {}
        for record in self.journal:
            self._replay(record)
        assert self.states == before


class Shop:
    """The cores, the gateway, a clock, and everything that was answered so far."""

    def __init__(self, policy: model.Policy | None = None, *, price: int = PRICE, **units: int) -> None:
        self.policy = policy or model.Policy()
        self.now_ms = 1_700_000_000_000
        self.gateway = Gateway()
        self.rows: list[Any] = []
        self.replies: dict[bytes, list[Any]] = {}
        self._ids = count(1)
        self._sent: set[tuple[str, str]] = set()
        self.checkouts = Core(
            lambda world, command, now: checkout.decide(self.policy, world, command, now),
            checkout,
            model.CheckoutEvent,
        )
        carts = cart_model.CartPolicy(idle_ms=self.policy.cart_idle_ms)
        self.carts = Core(
            lambda world, command, now: cart.decide(carts, world, command, now), cart, cart_model.CartEvent
        )
        self.stocks = {name: Core(stock.decide, stock, stock.StockEvent) for name in "xy"}
        for sku, quantity in units.items():
            self.put(sku, Product(sku.title(), {"USD": price}), quantity)

    def new_id(self) -> bytes:
        return next(self._ids).to_bytes(16, "big")

    def put(self, sku: str, product: Product, quantity: int) -> None:
        shard = self.stocks[shard_of(stock.account_of(sku))]
        shard.ask(stock.PutProduct(command_id=b"", sku=sku, product=product), self.now_ms)
        adjust = stock.Adjust(command_id=self.new_id(), sku=sku, set_to=quantity)
        shard.ask(adjust, self.now_ms)

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, command: Any) -> Any:
        """The answer, or None where it comes later (see `replies`)."""
        decision = self.checkouts.ask(command, self.now_ms)
        self.rows += decision.rows
        if decision.reply is not None:
            self._note(command.command_id, decision.reply)
        for command_id, reply in decision.answers:
            self._note(command_id, reply)
        return decision.reply

    def _note(self, command_id: bytes, reply: Any) -> None:
        if isinstance(reply, Replayed):
            reply = msgspec.msgpack.decode(reply.body, type=model.Reply)
        self.replies.setdefault(command_id, []).append(reply)

    def answer(self, command: Any) -> Any:
        """The newest answer to a command."""
        return self.replies[command.command_id][-1]

    def state(self, checkout_id: str) -> model.Checkout:
        state: model.Checkout = self.checkouts.get("checkout", ids.body(checkout_id))
        return state

    def states(self) -> list[model.Checkout]:
        return [state for (kind, _), state in self.checkouts.states.items() if kind == "checkout"]

    # ── doing ───────────────────────────────────────────────────────────────────────────────────────────

    def do(self, action: model.Action) -> Any:
        """Perform an action of a saga; its result is to be delivered by `tell`."""
        match action:
            case model.BeginCart():
                return self._carts_answer(
                    cart_model.BeginCheckout,
                    action,
                    checkout_id=action.checkout_id,
                    owner=action.owner,
                    gone=action.gone,
                )
            case model.EndCart():
                self._carts_answer(
                    cart_model.EndCheckout,
                    action,
                    checkout_id=action.checkout_id,
                    ordered=action.ordered,
                )
                return model.Done()
            case model.AskToReplace():
                return self.ask(
                    model.Replace(
                        command_id=f"{action.name}:{action.successor}".encode(),
                        checkout_id=action.previous,
                        successor=action.successor,
                    )
                )
            case model.TakeStock():
                return self._take(action)
            case model.HoldStep():
                answers = self._on_shards(action, action.legs)
                return next((answer for answer in answers if answer.refused), answers[0])
            case model.CallGateway():
                result = outlived(action, self.now_ms) or self.gateway.call(action.request)
                return model.LegOutcome(action.leg, result)
            case _:
                raise AssertionError(action)

    def _carts_answer(self, kind: Any, action: Any, **fields: Any) -> Any:
        command_id = f"{action.name}:{action.checkout_id}".encode()
        command = kind(command_id=command_id, cart_id=action.cart_id, **fields)
        return self.carts.ask(command, self.now_ms).reply

    def _on_shards(self, action: Any, units: dict[str, int]) -> list[Any]:
        return [
            core.ask(stock_command(action, part, self.now_ms), self.now_ms).reply
            for name, core in self.stocks.items()
            if (part := {key: count for key, count in units.items() if shard_of(key) == name})
        ]

    def _take(self, action: model.TakeStock) -> Any:
        if (action.hold_id, action.name) in self._sent:
            action = msgspec.structs.replace(action, resent=True)
        self._sent.add((action.hold_id, action.name))
        answers = self._on_shards(action, action.wanted)
        refused = next((answer for answer in answers if isinstance(answer, stock.HoldState)), None)
        if refused is not None:
            return refused
        shortages = [answer for answer in answers if isinstance(answer, stock.Shortage)]
        short = {line.account: line for shortage in shortages for line in shortage.lines}
        if short:
            lines = tuple(short[account] for account in action.wanted if account in short)
            elsewhere = any(isinstance(answer, stock.Held) or answer.held_elsewhere for answer in answers)
            return stock.Shortage(lines, elsewhere)
        return stock.Held({key: product for answer in answers for key, product in answer.products.items()})

    def tell(self, checkout_id: str, name: str, result: Any) -> None:
        """Deliver the outcome of an action."""
        self.ask(model.Stepped(command_id=b"", checkout_id=checkout_id, outcomes=((name, result),)))

    def step(self, checkout_id: str) -> None:
        """Perform all that the checkout wants now, and deliver it."""
        for action in next_actions(self.state(checkout_id)):
            result = self.do(action)
            if result is not None:
                self.tell(checkout_id, action.name, result)

    def settle(self) -> None:
        """Let everybody go on until nothing changes any more."""
        for _ in range(500):
            before, faults = self.states(), len(self.gateway.faults)
            for state in before:
                self.step(state.id)
            if self.states() == before and len(self.gateway.faults) == faults:
                self._forget()
                return
        raise AssertionError("the sagas do not come to rest")

    def _forget(self) -> None:
        """Stock may forget the holds of those that rest."""
        for state in filter(resting, self.states()):
            forget = stock.Forget(command_id=b"", hold_ids=tuple(finished_holds(state)))
            for core in self.stocks.values():
                core.ask(forget, self.now_ms)

    def run(self, command: Any) -> Any:
        """Ask, let everything settle, and give the answer."""
        self.ask(command)
        self.settle()
        return self.answer(command)

    def pass_time(self, ms: int) -> None:
        """The clock moves, and the actors' timers look at what is due."""
        self.now_ms += ms
        for state in self.states():
            self.ask(model.Due(command_id=b"", checkout_id=state.id))
        for core in self.stocks.values():
            holds = tuple(key for kind, key in core.states if kind == "hold")
            core.ask(stock.Sweep(command_id=b"", hold_ids=holds), self.now_ms)

    def crash(self) -> None:
        for core in (self.checkouts, self.carts, *self.stocks.values()):
            core.crash()

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────

    def levels(self, sku: str) -> tuple[int, int, int]:
        """(on hand, reserved, sold)"""
        account = self.stocks[shard_of(stock.account_of(sku))].get("account", stock.account_of(sku)).figures
        return account.on_hand, account.held, account.confirmed

    def holds(self, checkout_id: str) -> list[Any]:
        """The parts of the checkout's hold that are live and have units."""
        found = [core.get("hold", ids.body(checkout_id)) for core in self.stocks.values()]
        return [hold for hold in found if hold is not None and hold.live and hold.legs]

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────

    def start(self, *, cart_id: str | None = None, express: model.Payments | None = None, **more: Any) -> model.Start:
        """A start of one `tea` unless ``lines`` says otherwise; ``fields`` as given."""
        command_id = self.new_id()
        lines = more.pop("lines", {"tea": 1})
        return model.Start(
            command_id=command_id,
            fingerprint=b"start",
            checkout_id=ids.make("chk", self.now_ms, ids.derive_body(command_id, "checkout")),
            owner=OWNER,
            root="root",
            customer=None,
            cart_id=cart_id,
            wanted=wanted(lines) if cart_id is None else (),
            currency="USD",
            fields=more.pop("fields", READY if express is not None else model.Fields()),
            express=express,
            **more,
        )

    def command(self, kind: Any, checkout_id: str, **fields: Any) -> Any:
        """A keyed command of the owner's."""
        return kind(
            command_id=self.new_id(),
            fingerprint=kind.__name__.encode(),
            checkout_id=checkout_id,
            owner=OWNER,
            **fields,
        )

    def complete(self, checkout_id: str, *tokens: str, amounts: tuple[int, ...] = (), **more: Any) -> model.Complete:
        """One payment a token; ``amounts`` for the first of them, the last takes the rest."""
        amount_of = dict(enumerate(amounts))
        payments = tuple(model.Payment("card", token, amount_of.get(i)) for i, token in enumerate(tokens))
        asked = model.Payments(payments, more.pop("expected_total", None))
        command: model.Complete = self.command(model.Complete, checkout_id, payments=asked, **more)
        return command

    def make_cart(self, lines: dict[str, int]) -> str:
        cart_id = ids.make("cart", self.now_ms, ids.derive_body(self.new_id(), "cart"))
        new = tuple(cart_model.NewLine(sku, quantity) for sku, quantity in lines.items())
        shown = tuple(cart_model.Shown(sku, sku.title(), PRICE) for sku in lines)
        create = cart_model.CreateCart(
            command_id=self.new_id(),
            cart_id=cart_id,
            owner=OWNER,
            customer=None,
            currency="USD",
            lines=new,
            shown=shown,
        )
        self.carts.ask(create, self.now_ms)
        return cart_id


def wanted(lines: dict[str, int]) -> tuple[model.Wanted, ...]:
    return tuple(model.Wanted(sku, quantity) for sku, quantity in lines.items())


def shard_of(account: str) -> str:
    """`m…` lives on another shard than all else."""
    return "y" if account.startswith("sku:m") else "x"


def stock_command(action: Any, part: dict[str, int], now_ms: int) -> stock.StockCommand:
    """The command that an action means for the accounts of one shard."""
    hold_id = action.hold_id
    if isinstance(action, model.TakeStock):
        return stock.Take(
            command_id=b"",
            hold_id=hold_id,
            revision=action.revision,
            wanted=part,
            expires_at_ms=action.expires_at_ms,
            issued_at_ms=now_ms,
            pinned=action.pinned,
            resent=action.resent,
        )
    revision, until_ms = action.revision, action.expires_at_ms
    match action.verb:
        case "pin":
            return stock.Pin(command_id=b"", hold_id=hold_id, revision=revision)
        case "unpin":
            return stock.Unpin(command_id=b"", hold_id=hold_id, expires_at_ms=until_ms, revision=revision)
        case "extend":
            return stock.Extend(command_id=b"", hold_id=hold_id, expires_at_ms=until_ms, revision=revision)
        case "trim":
            return stock.Trim(command_id=b"", hold_id=hold_id, revision=revision, target=part)
        case "confirm":
            return stock.Confirm(command_id=b"", hold_id=hold_id)
        case "release":
            return stock.Release(command_id=b"", hold_id=hold_id)
        case "give_back":
            return stock.GiveBack(command_id=b"", hold_id=hold_id, legs=part, issued_at_ms=now_ms)
        case _:
            raise AssertionError(action.verb)
