"""What the shop's clients asked and were told, and whether all of it was true and stayed so.

Owns the commands with a key, the first final answer to each, and the rules about answers: at once (it is
durable, a shortage was one) and at the end (the same key gets the same answer again, promises were kept).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from domain import cart_model, stock_model
from domain import checkout_model as model
from domain.checkout_refusals import is_final
from domain.messages import NOT_OUTCOMES, Command, Refusal
from tests.simulation.oracle import Oracle
from tests.support.memory_journal import OrderTables

NOT_FINAL = (*NOT_OUTCOMES, "request_in_progress", "completion_in_progress", "version_mismatch")
_encode = msgspec.msgpack.Encoder().encode


class Asked(NamedTuple):
    """A command, when it was asked first, and its final answer."""

    command: Command
    since_s: float
    final: Any = None


class Floor(NamedTuple):
    """What was durable when a command was sent: whether its subject was there, and in which version."""

    exists: bool
    version: int


class History:
    """``asked`` and ``told`` note; ``unresolved`` and ``settled`` say what is to be asked again."""

    def __init__(
        self,
        oracle: Oracle,
        tables: OrderTables,
        now_s: Callable[[], float],
        note: Callable[..., None],
        violate: Callable[[str, str], None],
    ) -> None:
        self._oracle = oracle
        self._tables = tables
        self._now_s = now_s
        self._note = note
        self._violate = violate
        self._asked: dict[bytes, Asked] = {}

    def asked(self, command: Command) -> Floor:
        if command.fingerprint and command.command_id not in self._asked:
            self._asked[command.command_id] = Asked(command, self._now_s())
        return Floor(self._oracle.exists(command), self._oracle.version_of(command))

    def told(self, command: Command, reply: Any, floor: Floor) -> None:
        self._note("answer", reply.code if isinstance(reply, Refusal) else type(reply).__name__)
        self._check_now(command, reply, floor)
        entry = self._asked.get(command.command_id)
        if entry is None or not final(reply):
            return
        if entry.final is None:
            self._asked[command.command_id] = entry._replace(final=reply)
            self._check_shortage(entry, reply)
        elif _encode(entry.final) != _encode(reply):
            text = f"{type(command).__name__}: first {_short(entry.final)}, then {_short(reply)}"
            self._violate("answer_changed", text)

    def reused(self, command: Command, reply: Any) -> None:
        """What the key of an answered command got that came with another body."""
        self._note("answer", reply.code if isinstance(reply, Refusal) else type(reply).__name__)
        if not isinstance(reply, Refusal) or reply.code != "idempotency_key_reused":
            self._violate("key_reused", f"{type(command).__name__} with another body: {_short(reply)}")

    def watched(self, known: int, reply: model.CheckoutReply) -> None:
        """Whoever waits for news hears of news only, or of a checkout that has ended."""
        if reply.checkout.version <= known and reply.checkout.status not in ("completed", "canceled"):
            self._violate("no_news", f"{reply.checkout.id} is still v{reply.checkout.version}")

    def missed(self, checkout_id: str) -> None:
        self._violate("news_missed", f"nobody told the watcher of {checkout_id}")

    def unresolved(self) -> list[Command]:
        return [entry.command for entry in self._asked.values() if entry.final is None]

    def settled(self) -> list[Command]:
        return [entry.command for entry in self._asked.values() if entry.final is not None]

    def answers(self) -> Iterator[tuple[Command, Any]]:
        """Commands with their final answers."""
        for entry in self._asked.values():
            if entry.final is not None:
                yield entry.command, entry.final

    # ── at once ─────────────────────────────────────────────────────────────────────────────────────────

    def _check_now(self, command: Command, reply: Any, floor: Floor) -> None:
        """Nothing is told that is not durable; nothing is read that was no longer so when it was asked for."""
        durable = self._oracle.version_of(command)
        known, fresh = True, True
        match reply:
            case model.CheckoutReply():
                known = reply.checkout.version <= durable
                known = known and (reply.order is None or reply.order.id in self._tables.orders)
                fresh = not isinstance(command, model.Read) or reply.checkout.version >= floor.version
            case model.OrderReply():
                known = reply.order.id in self._tables.orders
            case cart_model.CartReply():
                known = reply.cart.version <= durable
                fresh = not isinstance(command, cart_model.ReadCart) or reply.cart.version >= floor.version
            case stock_model.Levels() if isinstance(command, stock_model.Adjust):
                known = command.command_id in self._oracle.adjusted
            case Refusal(code="not_found") if floor.exists and self._oracle.exists(command):
                fresh = False
            case _:
                pass
        if not known:
            self._violate("told_before_durable", f"{type(command).__name__}: {_short(reply)}")
        if not fresh:
            self._violate("told_the_past", f"{type(command).__name__}: {_short(reply)}, was v{floor.version} before")

    def _check_shortage(self, entry: Asked, reply: Any) -> None:
        if not (isinstance(entry.command, model.Start) and isinstance(reply, Refusal) and reply.code == "out_of_stock"):
            return
        for error in reply.errors:
            account = stock_model.account_of(error.extra["sku"])
            if not self._oracle.was_short(account, error.extra["requested"], entry.since_s):
                text = f"{error.extra} was told, but it was never so since {entry.since_s:.3f} s"
                self._violate("shortage_untrue", text)

    # ── at the end ──────────────────────────────────────────────────────────────────────────────────────

    def check_promises(self, checkouts: dict[str, model.Checkout]) -> None:
        """``checkouts``: the final states by id."""
        received: dict[str, int] = {}
        for command, reply in self.answers():
            match command, reply:
                case stock_model.Adjust(delta=int() as delta), stock_model.Levels():
                    received[command.sku] = received.get(command.sku, 0) + delta
                case model.Cancel(), model.CheckoutReply():
                    self._expect(checkouts, reply.checkout.id, "canceled")
                case model.ShipOrder(), model.OrderReply():
                    self._expect_order(reply.order.id, "shipped", "delivered")
                case model.CancelOrder(), model.OrderReply():
                    self._expect_order(reply.order.id, "canceled")
                case _, model.CheckoutReply(order=order) if order is not None:
                    row = self._tables.orders.get(order.id)
                    if row is None or row.checkout_id != reply.checkout.id:
                        self._violate("order_lost", f"{order.id} was acknowledged")
                case _:
                    pass
        for sku, units in received.items():
            found = self._oracle.received[stock_model.account_of(sku)]
            if found != units and not any(isinstance(c, stock_model.Adjust) for c in self.unresolved()):
                self._violate("adjusted_twice_or_never", f"{sku}: {units} were acknowledged, {found} received")

    def _expect(self, checkouts: dict[str, model.Checkout], checkout_id: str, phase: str) -> None:
        state = checkouts.get(checkout_id)
        if state is None or state.phase != phase:
            self._violate("promise_broken", f"{checkout_id} was {phase}, is {state and state.phase}")

    def _expect_order(self, order_id: str, *statuses: str) -> None:
        row = self._tables.states.get(order_id)
        if row is None or row.status not in statuses:
            self._violate("promise_broken", f"{order_id} was {statuses[0]}, is {row and row.status}")


def final(reply: Any) -> bool:
    """Whether a repeat of the command must be answered like this for ever."""
    if isinstance(reply, Refusal):
        return reply.code not in NOT_FINAL
    return not isinstance(reply, model.CheckoutReply) or is_final(reply)


def _short(reply: Any) -> str:
    match reply:
        case Refusal():
            return reply.code
        case model.CheckoutReply():
            return f"{reply.status} {reply.checkout.status} v{reply.checkout.version}"
        case _:
            return repr(reply)[:200]
