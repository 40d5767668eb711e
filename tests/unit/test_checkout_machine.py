"""The saga under fire: actions in any order, outcomes lost, doubled and late, crashes at any moment.

Hypothesis drives a whole shop in memory. Whatever it does meanwhile, once the faults end and everything has
settled: nobody paid twice or for nothing, no hold is orphaned, every order is whole, and every command's
first final answer is given again, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain import checkout_model as model
from domain.checkout_actions import may_rest, next_actions, resting
from domain.checkout_refusals import is_final
from domain.messages import Refusal, Replayed
from domain.stock import Shortage, account_of
from tests.unit.checkout_world import ALL, AWAY, BUYER, HOME, PRICE, READY, Shop, shard_of, stock_command, wanted

UNITS = {"tea": 4, "mug": 3, "milk": 2}
KEEP_MS = 100_000  # a message comes at most this late: less than a tombstone's life
FAULTS = ("before", "after", "late", "busy")
MOST = 6  # checkouts at a time: enough to be in each other's way
ORDER_COMMANDS: list[tuple[Any, dict[str, Any]]] = [
    (model.CancelOrder, {"reason": "", "actor": "buyer"}),
    (model.ReviewOrder, {"approve": True, "reason": "", "actor": "ops"}),
    (model.ReviewOrder, {"approve": False, "reason": "", "actor": "ops"}),
    (model.ShipOrder, {"carrier": "ups", "tracking_number": "1", "actor": "ops"}),
    (model.DeliverOrder, {"actor": "ops"}),
    (model.AmendAddress, {"address": HOME}),
]

tokens = st.sampled_from(("ok", "ok", "bad", "3ds"))
baskets = st.dictionaries(st.sampled_from((*UNITS, "hat")), st.integers(1, 3), min_size=1, max_size=3)
places = st.sampled_from((HOME, AWAY))


def one_of(data: st.DataObject, things: Sequence[Any]) -> Any:
    return things[data.draw(st.integers(0, len(things) - 1))]


class SagaMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shop = Shop()
        self.commands: list[Any] = []
        self.outcomes: list[tuple[str, str, Any]] = []
        self.messages: list[tuple[int, Any]] = []
        self.carts: list[str] = []

    @initialize(review=st.booleans(), attempts=st.integers(1, 3))
    def open_the_shop(self, review: bool, attempts: int) -> None:
        above = PRICE if review else None
        policy = model.Policy(review_above_minor=above, payment_attempts=attempts)
        self.shop = Shop(policy, **UNITS)
        self.carts = [self.shop.make_cart({"tea": 1, "mug": 1}), self.shop.make_cart({"milk": 2})]

    def send(self, command: Any) -> None:
        self.commands.append(command)
        self.shop.ask(command)

    def some_checkout(self, data: st.DataObject, *phases: str) -> model.Checkout:
        """One in these phases where there is one, or, now and then, any."""
        likely = [state for state in self.shop.states() if state.phase in phases]
        anyway = data.draw(st.integers(0, 4)) == 4
        return one_of(data, self.shop.states() if anyway or not likely else likely)

    # ── buyers and operators ────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: len(self.shop.states()) < MOST)
    @rule(lines=baskets, token=tokens, express=st.booleans(), shortage=st.sampled_from(("reject", "accept_available")))
    def start(self, lines: dict[str, int], token: str, express: bool, shortage: str) -> None:
        paid = model.Payments((model.Payment("card", token),)) if express else None
        self.send(self.shop.start(lines=lines, express=paid, fields=READY, on_shortage=shortage))

    @precondition(lambda self: len(self.shop.states()) < MOST)
    @rule(cart=st.sampled_from((0, 0, 1)), token=tokens, express=st.booleans())
    def start_from_cart(self, cart: int, token: str, express: bool) -> None:
        paid = model.Payments((model.Payment("card", token),)) if express else None
        self.send(self.shop.start(cart_id=self.carts[cart], express=paid, fields=READY))

    @precondition(lambda self: self.shop.states())
    @rule(data=st.data(), lines=st.none() | baskets, place=places)
    def patch(self, data: st.DataObject, lines: dict[str, int] | None, place: model.Address) -> None:
        fields = model.Fields(ALL, BUYER, place, lines=wanted(lines) if lines else None)
        self.send(self.shop.command(model.Patch, self.some_checkout(data, "open").id, fields=fields))

    @precondition(lambda self: self.shop.states())
    @rule(data=st.data(), paid=st.lists(tokens, min_size=1, max_size=2))
    def complete(self, data: st.DataObject, paid: list[str]) -> None:
        amounts = (PRICE // 2,) if len(paid) == 2 else ()
        self.send(self.shop.complete(self.some_checkout(data, "open").id, *paid, amounts=amounts))

    @precondition(lambda self: self.shop.states())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.send(self.shop.command(model.Cancel, self.some_checkout(data, "paying", "holding").id))

    @precondition(lambda self: any(state.order for state in self.shop.states()))
    @rule(data=st.data(), what=st.sampled_from(ORDER_COMMANDS))
    def handle_order(self, data: st.DataObject, what: tuple[Any, dict[str, Any]]) -> None:
        kind, fields = what
        self.send(self.shop.command(kind, self.some_checkout(data, "placed").id, **fields))

    @precondition(lambda self: any(state.phase == "awaiting_buyer" for state in self.shop.states()))
    @rule(data=st.data(), succeed=st.booleans(), says_so=st.booleans())
    def act(self, data: st.DataObject, succeed: bool, says_so: bool) -> None:
        state = one_of(data, [state for state in self.shop.states() if state.phase == "awaiting_buyer"])
        leg = next(leg for leg in state.legs if leg.status == "requires_action")
        self.shop.gateway.buyer_acts(leg.id, succeed)
        if says_so:
            self.send(self.shop.command(model.ConfirmPayment, state.id, payment_id=leg.id))

    @precondition(lambda self: self.commands)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """The same command once more: the same final answer, or one that is not final."""
        self.check_repeat(one_of(data, self.commands))

    def check_repeat(self, command: Any) -> None:
        finals = [reply for reply in self.shop.replies.get(command.command_id, []) if is_final(reply)]
        reply = self.shop.ask(command)
        if not finals or (isinstance(finals[0], Refusal) and finals[0].code == "not_found"):
            return  # what is not there may come to be
        assert isinstance(reply, Replayed)
        again = self.shop.answer(command)
        assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(finals[0])

    # ── the world ───────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: any(next_actions(state) for state in self.shop.states()))
    @rule(data=st.data(), fault=st.sampled_from(("", "", *FAULTS)), lost=st.booleans(), resent=st.booleans())
    def perform(self, data: st.DataObject, fault: str, lost: bool, resent: bool) -> None:
        """Do one wanted action. Its outcome is delivered at once, or later, or never."""
        state = one_of(data, [state for state in self.shop.states() if next_actions(state)])
        action = one_of(data, next_actions(state))
        if isinstance(action, model.CallGateway) and fault:
            self.shop.gateway.faults.append(fault)
        result = self.shop.do(action)
        if isinstance(result, Shortage) and resent:
            result = msgspec.structs.replace(result, held_elsewhere=True)
        if isinstance(action, model.HoldStep | model.TakeStock) and (resent or not isinstance(result, Shortage)):
            self.messages.append((self.shop.now_ms, action))
        if result is not None:
            self.outcomes.append((state.id, action.name, result))
            if not lost:
                self.shop.tell(state.id, action.name, result)

    @precondition(lambda self: self.shop.states())
    @rule(data=st.data(), steps=st.integers(1, 8), faults=st.lists(st.sampled_from(FAULTS), max_size=3))
    def advance(self, data: st.DataObject, steps: int, faults: list[str]) -> None:
        """One checkout goes on for a while; its gateway is not at its best."""
        state = self.some_checkout(data, "pinning", "paying", "unwinding", "placed")
        self.shop.gateway.faults += faults
        for _ in range(steps):
            self.shop.step(state.id)
        self.shop.gateway.faults.clear()

    @precondition(lambda self: self.outcomes)
    @rule(data=st.data())
    def deliver_outcome(self, data: st.DataObject) -> None:
        """An outcome arrives: for the first time or again, early or late."""
        self.shop.tell(*one_of(data, self.outcomes))

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def repeat_message(self, data: st.DataObject) -> None:
        """A message to stock arrives once more, as it was when it was sent."""
        sent_ms, action = one_of(data, self.messages)
        if self.shop.now_ms - sent_ms > KEEP_MS:
            return
        legs = action.wanted if isinstance(action, model.TakeStock) else action.legs
        for name, core in self.shop.stocks.items():
            part = {key: units for key, units in legs.items() if shard_of(key) == name}
            if part:
                core.ask(stock_command(action, part, sent_ms), self.shop.now_ms)

    @precondition(lambda self: self.shop.gateway.late)
    @rule(data=st.data())
    def deliver_late_payment(self, data: st.DataObject) -> None:
        """A request that was given up for lost reaches the gateway after all."""
        late = self.shop.gateway.late
        self.shop.gateway.do(late.pop(data.draw(st.integers(0, len(late) - 1))))

    @rule(refuses=st.booleans())
    def captures_are_refused(self, refuses: bool) -> None:
        """From now on, for good, or no longer."""
        self.shop.gateway.refuse = {"capture"} if refuses else set()

    @rule(ms=st.sampled_from((1, 1_000, 61_000, 900_000, 3_600_000)))
    def pass_time(self, ms: int) -> None:
        self.shop.pass_time(ms)

    @rule()
    def crash(self) -> None:
        """Everything in memory is gone; what was on its way may still arrive."""
        self.shop.crash()

    @rule()
    def settle(self) -> None:
        self.shop.settle()
        self.check_sagas()

    # ── what must hold ──────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def what_rests_owes_and_wants_nothing(self) -> None:
        """The short cut of `resting` leaves no saga in memory, and sends none that has something to do to its rest."""
        for state in self.shop.states():
            assert resting(state) == (may_rest(state) and not next_actions(state))

    def teardown(self) -> None:
        self.shop.gateway.faults.clear()
        self.shop.settle()
        for request in self.shop.gateway.late:
            self.shop.gateway.do(request)
        self.shop.settle()
        self.check_sagas()
        for command in self.commands:
            self.check_repeat(command)
        self.shop.settle()
        self.check_sagas()
        self.shop.pass_time(4_000_000)
        self.shop.settle()
        self.check_sagas()
        for state in self.shop.states():
            assert resting(state), f"{state.id} is {state.phase} and does not rest"
            assert not self.shop.holds(state.id)
        assert [self.shop.levels(sku)[1] for sku in UNITS] == [0] * len(UNITS)

    def check_sagas(self) -> None:
        """What is true whenever nothing is under way."""
        sold: Counter[str] = Counter()
        for state in self.shop.states():
            if state.order is None:
                self.check_without_order(state)
            else:
                self.check_order(state)
            if state.order is not None and state.order.status != "canceled":
                sold.update({line.sku: line.quantity for line in state.wanted})
        for sku, units in UNITS.items():
            on_hand, reserved, gone = self.shop.levels(sku)
            assert on_hand + gone == units
            assert 0 <= reserved <= on_hand
            assert gone == sold[sku]
        self.check_carts()

    def check_without_order(self, state: model.Checkout) -> None:
        waiting = state.phase == "awaiting_buyer"
        for leg in state.legs:
            found = self.shop.gateway.state(leg.id)
            assert self.shop.gateway.net(leg.id) == 0
            if not waiting:
                assert found in ("none", "declined", "voided", "refunded"), f"{leg.id} is {found}"
        held: Counter[str] = Counter()
        for hold in self.shop.holds(state.id):
            held.update(hold.legs)
        if state.phase in ("canceled", "refused"):
            assert not held
            assert not state.asked
        else:
            assert state.phase in ("open", "awaiting_buyer")
            if state.expires_at_ms > self.shop.now_ms or waiting:
                assert held == {account_of(line.sku): line.quantity for line in state.wanted}
                assert {hold.status for hold in self.shop.holds(state.id)} == {"pinned" if waiting else "held"}

    def check_order(self, state: model.Checkout) -> None:
        assert state.order is not None
        assert state.phase == "placed"
        for leg in state.legs[: state.attempt_start]:
            assert self.shop.gateway.state(leg.id) in ("none", "declined", "voided", "refunded")
        legs = state.legs[state.attempt_start :]
        assert sum(leg.amount for leg in legs) == state.total
        for leg in legs:
            found, net = self.shop.gateway.state(leg.id), self.shop.gateway.net(leg.id)
            match state.order.status:
                case "canceled":
                    assert (found in ("voided", "refunded"), net) == (True, 0)
                case "pending":
                    assert (found, net) == ("authorized", 0)
                case _:
                    assert (found, net, leg.status) == ("captured", leg.amount, "captured")
        rows = [row for row in self.shop.rows if getattr(row, "checkout_id", None) == state.id]
        assert len(rows) == 1, "an order has one row"

    def check_carts(self) -> None:
        for cart_id in self.carts:
            using = [state for state in self.shop.states() if state.cart_id == cart_id]
            live = [state for state in using if state.phase in ("open", "awaiting_buyer")]
            orders = [state for state in using if state.order is not None]
            assert len(live) + len(orders) <= 1, "a cart has one live checkout or one order"
            (cart,) = [c for (kind, _), c in self.shop.carts.states.items() if kind == "cart" and c.id == cart_id]
            assert cart.ordered == bool(orders)
            if live:
                assert cart.checkout_id == live[0].id


TestSaga = SagaMachine.TestCase
TestSaga.settings = settings(
    max_examples=120, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
