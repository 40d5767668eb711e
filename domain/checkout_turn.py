"""One turn of the saga: events are collected and evolved as they are decided, so that each line of a decision
sees what the lines before it did. The turn is thrown away; only its `Decision` leaves it.

Owns `evolve` (which applies, never judges) and the bookkeeping of answers owed and given.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from domain import ids, order, payment_leg
from domain.checkout_events import (
    Answered,
    AnsweredForNow,
    AskedFor,
    Changes,
    CheckoutEvent,
    Moved,
    OrderChanged,
    OrderPlaced,
    RulesPut,
    Started,
    StepDone,
)
from domain.checkout_model import Reply
from domain.checkout_refusals import is_final
from domain.checkout_state import KIND, Asked, AskKind, Checkout, Phase, Policy, Rules
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
            return _moved(state, event.at_ms, event.phase, _set_fields(event.changes))
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
            answers = with_answer(state.answers, event.command_id, event.fingerprint, event.at_ms, event.body)
            return _replace(state, asked=_without(state.asked, event.command_id), answers=answers)
        case AnsweredForNow():
            return _replace(state, asked=_without(state.asked, event.command_id))
        case StepDone():
            # Readers see one of them: the reservation is "confirmed" from then on.
            version = state.version + (event.step == "confirm")
            return _replace(state, steps=(*state.steps, event.step), version=version)
        case RulesPut():
            raise AssertionError("rules are not part of a checkout")
        case never:
            assert_never(never)


def _moved(state: Checkout, at_ms: int, phase: Phase, changes: dict[str, Any]) -> Checkout:
    return _replace(state, phase=phase, version=state.version + 1, updated_at_ms=at_ms, **changes)


def _set_fields(changes: Changes) -> dict[str, Any]:
    values = ((name, getattr(changes, name)) for name in changes.__struct_fields__)
    return {name: value for name, value in values if value is not msgspec.UNSET}


def _without(asked: tuple[Asked, ...], command_id: bytes) -> tuple[Asked, ...]:
    return tuple([entry for entry in asked if entry.command_id != command_id])


class Turn:
    """A decision in the making over one checkout, which exists.

    ``may_place`` is False once the database has refused to record the order: the pivot is out of reach.
    """

    def __init__(
        self,
        state: Checkout,
        policy: Policy,
        rules: Rules,
        now_ms: int,
        *,
        is_new: bool = False,
        may_place: bool = True,
    ) -> None:
        self.state = state
        self.policy = policy
        self.rules = rules
        self.now_ms = now_ms
        self.may_place = may_place
        self.key = ids.body(state.id)
        self.answers: list[tuple[bytes, Reply]] = []
        self.rows: list[Any] = []
        self._events: list[CheckoutEvent] = [Started(self.key, state)] if is_new else []
        self._moving: dict[str, Any] | None = None

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, event: CheckoutEvent) -> None:
        self._end_move()
        self._events.append(event)
        self.state = evolve(self.state, event)

    def move(self, phase: Phase, **changes: Any) -> None:
        """Go to a phase and set fields. Moves in a row become one event: a turn shows where it led to."""
        if "legs" in changes:
            changes["legs"] = payment_leg.keyed(self.state.legs, changes["legs"], self.now_ms)
        if self._moving is None:
            self._moving = changes
            self.state = _moved(self.state, self.now_ms, phase, changes)
        else:
            self._moving |= changes
            self.state = _replace(self.state, phase=phase, **changes)

    def _end_move(self) -> None:
        if self._moving is not None:
            self._events.append(Moved(self.key, self.now_ms, self.state.phase, Changes(**self._moving)))
            self._moving = None

    def set(self, **changes: Any) -> None:
        """Set fields, within the phase."""
        self.move(self.state.phase, **changes)

    def set_leg(self, index: int, leg: PaymentLeg) -> None:
        legs = self.state.legs
        self.set(legs=(*legs[:index], leg, *legs[index + 1 :]))

    def done(self, step: str) -> None:
        if step not in self.state.steps:
            self.apply(StepDone(self.key, step))

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────

    def owe(self, kind: AskKind, command: Command) -> None:
        """Note that the command's answer comes later."""
        self.apply(AskedFor(self.key, Asked(kind, command.command_id, command.fingerprint)))

    def owes(self, kind: AskKind) -> bool:
        return kind in [entry.kind for entry in self.state.asked]

    def answer(self, *kinds: AskKind, reply: Reply, body: bytes | None = None) -> None:
        """Give every answer owed to these kinds, and remember a final one (as ``body``, if that is given)."""
        for entry in self._owed(kinds):
            if is_final(reply):
                kept = _encode(reply) if body is None else body
                self.apply(Answered(self.key, entry.command_id, entry.fingerprint, self.now_ms, kept))
            else:
                self.apply(AnsweredForNow(self.key, entry.command_id))
            self.answers.append((entry.command_id, reply))

    def inform(self, *kinds: AskKind, reply: Reply) -> None:
        """Tell those who wait how things stand. Their answer is still owed: the same command takes it up."""
        self.answers += [(entry.command_id, reply) for entry in self._owed(kinds)]

    def _owed(self, kinds: tuple[AskKind, ...]) -> list[Asked]:
        return [entry for entry in self.state.asked if entry.kind in kinds]

    def reply(self, command: Command, reply: Reply) -> Decision:
        """Answer at once. A final answer is remembered when the command has changed something, so that a
        repeat does not change it again, and always when the caller sent a key."""
        self._end_move()
        if (command.fingerprint or self._events) and is_final(reply):
            body = _encode(reply)
            self.apply(Answered(self.key, command.command_id, command.fingerprint, self.now_ms, body))
        return self.decision(reply)

    # ── the order ───────────────────────────────────────────────────────────────────────────────────────

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
        destinations = self.policy.outbox_destinations
        if destinations:
            payload = _json.encode({"type": f"order.{kind}", "order_id": placed.id, "at_ms": self.now_ms})
            self.rows += [OutboxRow(placed.id, placed.events, name, payload) for name in destinations]

    def decision(self, reply: Reply | None = None) -> Decision:
        self._end_move()
        after = {(KIND, self.key): self.state} if self._events else None
        return Decision(self._events, reply, self.answers, self.rows, after)
