"""One turn of the saga: events are collected and evolved as they are decided, so that each line of a decision
sees what the lines before it did. The turn is thrown away; only its `Decision` leaves it.

Owns `evolve` (which applies, never judges) and the bookkeeping of answers owed and given.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from domain import ids, order
from domain.checkout_model import (
    KIND,
    Answered,
    AnsweredForNow,
    Asked,
    AskedFor,
    AskKind,
    Changes,
    Checkout,
    CheckoutEvent,
    LegsChanged,
    Moved,
    OrderChanged,
    OrderPlaced,
    Phase,
    Policy,
    Reply,
    Rules,
    RulesPut,
    Started,
    StepDone,
)
from domain.messages import Command, Decision, with_answer
from domain.order import Order, OutboxRow
from domain.payment_leg import PaymentLeg

_encode = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder()
_replace = msgspec.structs.replace


def evolve(state: Checkout | None, event: CheckoutEvent) -> Checkout:
    """The checkout after the event."""
    if isinstance(event, Started):
        return event.state
    assert state is not None, f"{type(event).__name__} concerns a checkout that does not exist"
    match event:
        case Moved():
            changes = {
                name: value
                for name in event.changes.__struct_fields__
                if (value := getattr(event.changes, name)) is not msgspec.UNSET
            }
            return _replace(
                state, phase=event.phase, version=state.version + 1, updated_at_ms=event.at_ms, **changes
            )
        case LegsChanged():
            legs = state.legs[: event.first] + event.legs
            return _replace(state, legs=legs, version=state.version + 1, updated_at_ms=event.at_ms)
        case OrderPlaced():
            return _replace(
                state,
                phase="placed",
                order=event.order,
                legs=state.legs[: state.attempt_start] + event.legs,
                version=state.version + 1,
                placed_version=state.version + 1,
                updated_at_ms=event.at_ms,
            )
        case OrderChanged():
            return _replace(state, order=event.order, version=state.version + 1, updated_at_ms=event.at_ms)
        case AskedFor():
            return _replace(state, asked=(*state.asked, event.asked))
        case Answered():
            return _replace(
                state,
                asked=_without(state.asked, event.command_id),
                answers=with_answer(
                    state.answers, event.command_id, event.fingerprint, event.at_ms, event.body
                ),
            )
        case AnsweredForNow():
            return _replace(state, asked=_without(state.asked, event.command_id))
        case StepDone():
            return _replace(state, steps=(*state.steps, event.step))
        case RulesPut():
            raise AssertionError("rules are not part of a checkout")
        case never:
            assert_never(never)


def _without(asked: tuple[Asked, ...], command_id: bytes) -> tuple[Asked, ...]:
    return tuple(entry for entry in asked if entry.command_id != command_id)


class Turn:
    """A decision in the making over one checkout, which exists."""

    def __init__(
        self, state: Checkout, policy: Policy, rules: Rules, now_ms: int, *, is_new: bool = False
    ) -> None:
        self.state = state
        self.policy = policy
        self.rules = rules
        self.now_ms = now_ms
        self.key = ids.body(state.id)
        self.events: list[CheckoutEvent] = [Started(self.key, state)] if is_new else []
        self.answers: list[tuple[bytes, Reply]] = []
        self.rows: list[Any] = []

    def apply(self, event: CheckoutEvent) -> None:
        self.events.append(event)
        self.state = evolve(self.state, event)

    def move(self, phase: Phase, **changes: Any) -> None:
        self.apply(Moved(self.key, self.now_ms, phase, Changes(**changes)))

    def legs(self, first: int, legs: tuple[PaymentLeg, ...]) -> None:
        self.apply(LegsChanged(self.key, self.now_ms, first, legs))

    def done(self, step: str) -> None:
        if step not in self.state.steps:
            self.apply(StepDone(self.key, step))

    def owe(self, kind: AskKind, command: Command) -> None:
        """Note that the command's answer comes later."""
        self.apply(AskedFor(self.key, Asked(kind, command.command_id, command.fingerprint)))

    def owes(self, kind: AskKind) -> bool:
        return any(entry.kind == kind for entry in self.state.asked)

    def answer(self, kind: AskKind, reply: Reply, *, final: bool = True, body: bytes | None = None) -> None:
        """Give every owed answer of this kind; a final one is remembered (``body``: what to remember)."""
        for entry in [entry for entry in self.state.asked if entry.kind == kind]:
            if final:
                kept = _encode(reply) if body is None else body
                self.apply(Answered(self.key, entry.command_id, entry.fingerprint, self.now_ms, kept))
            else:
                self.apply(AnsweredForNow(self.key, entry.command_id))
            self.answers.append((entry.command_id, reply))

    def remember(self, command: Command, reply: Reply) -> None:
        """Keep a final answer that is given at once."""
        self.apply(Answered(self.key, command.command_id, command.fingerprint, self.now_ms, _encode(reply)))

    def order(self, changed: Order, kind: str, actor: str, detail: dict[str, Any]) -> None:
        """Change the order, append to its audit trail, and tell the outbox: one entry, all rows with it."""
        changed = _replace(changed, events=changed.events + 1)
        self.apply(OrderChanged(self.key, self.now_ms, changed))
        self.tell(kind, actor, detail)

    def tell(self, kind: str, actor: str, detail: dict[str, Any]) -> None:
        placed = self.state.order
        assert placed is not None, "only an order has an audit trail"
        legs = self.state.legs[self.state.attempt_start :]
        self.rows.append(order.state_row(placed, legs, self.now_ms))
        self.rows.append(order.event_row(placed, self.now_ms, actor, kind, detail))
        payload = _json.encode({"type": f"order.{kind}", "order_id": placed.id, "at_ms": self.now_ms})
        self.rows += [
            OutboxRow(placed.id, placed.events, name, payload) for name in self.policy.outbox_destinations
        ]

    def decision(self, reply: Reply | None = None) -> Decision:
        after = {(KIND, self.key): self.state} if self.events else None
        return Decision(self.events, reply, self.answers, self.rows, after)
