"""The checkout saga, top to bottom: which command and which outcome means what in which phase.

Owns the tables; what each entry does is told in `checkout_start`, `checkout_change`, `checkout_payment`,
`checkout_undo` and, past the pivot, `order_saga`. Promises: money moves only after every hold is pinned; the
order exists only when all money is authorized; what goes wrong before the pivot is undone newest first, what
goes wrong after it is retried forward; an unknown outcome is waited for, never guessed. Is told of outcomes
by `Stepped`; never does anything itself (see `checkout_actions.next_steps`).

    phase              Patch  Complete    Cancel      Replace    Confirm Due
    linking, holding   busy   busy        remembered  remembered –       –
    replacing          busy   busy        yes         yes        –       –
    open               yes    yes         yes         yes        –       expires
    changing, trimming busy   busy        remembered  remembered –       –
    pinning            busy   busy        remembered  no         busy    –
    paying             busy   busy        remembered  no         joins   –
    awaiting_buyer     busy   busy        yes         no         asks    expires
    unwinding          busy   busy        joins       joins*     –       –
    placed             no     same order  no          no         same    –
    canceled           no     no          same        yes        –       –

    busy: an answer that is not final. remembered: carried out when the phase has ended. joins: answered with
    the others. *: not while a declined attempt is unwound, for the buyer is about to try again.
"""

from __future__ import annotations

import msgspec

from domain import checkout_change as change
from domain import checkout_payment as payment
from domain import checkout_refusals as no
from domain import checkout_start as beginning
from domain import checkout_undo as undoing
from domain import checkout_views as views
from domain import ids, order_saga
from domain.checkout_actions import next_steps
from domain.checkout_events import CheckoutEvent, RulesPut
from domain.checkout_model import (
    Abandon,
    Accepted,
    AmendAddress,
    AnyCommand,
    Cancel,
    CancelOrder,
    CartBegun,
    CheckoutCommand,
    CheckoutReply,
    Complete,
    ConfirmPayment,
    DeliverOrder,
    Done,
    Due,
    GaveWay,
    LegOutcome,
    Patch,
    PutRules,
    Read,
    ReadRules,
    Replace,
    ReviewOrder,
    RulesReply,
    ShipOrder,
    Start,
    Stepped,
    StepResult,
)
from domain.checkout_state import KIND, Checkout, Policy, Rules
from domain.checkout_turn import Turn
from domain.checkout_turn import evolve as evolve_checkout
from domain.messages import KEY_REUSED, Decision, Key, Refusal, Replayed, World, remembered, too_many
from domain.stock_model import Held, HoldState, Shortage

RULES: Key = ("rules", "shop")
_NO_RULES = Rules()
_encode = msgspec.msgpack.Encoder().encode


def route(command: AnyCommand) -> str | None:
    """The storage key whose owner the command goes to; None for what every shard is told."""
    return ids.body(command.checkout_id) if isinstance(command, CheckoutCommand) else None


def decide(policy: Policy, world: World, command: AnyCommand, now_ms: int) -> Decision:
    """What becomes of a command. Checks: existence and owner, seen id, status, shape, amounts."""
    rules: Rules = world.get(*RULES) or _NO_RULES
    if not isinstance(command, CheckoutCommand):
        return _decide_rules(rules, command)
    state: Checkout | None = world.get(KIND, ids.body(command.checkout_id))
    if state is None:
        if isinstance(command, Start):
            return beginning.start(policy, rules, command, now_ms)
        return Decision(reply=no.NOT_FOUND)
    turn = Turn(state, policy, rules, now_ms, may_place=not isinstance(command, Abandon))
    if isinstance(command, Stepped):
        for action, result in command.outcomes:
            _stepped(turn, action, result)
        return turn.decision(Accepted())
    if isinstance(command, Due):
        undoing.due(turn)
        return turn.decision(Accepted())
    if not _opens(state, command):
        return Decision(reply=no.NOT_FOUND)
    before = _answered_before(state, command)
    if before is not None:
        return before
    refusal = too_many(state.answers, command, now_ms)
    return Decision(reply=refusal) if refusal is not None else _decide_known(turn, command)


def _decide_rules(rules: Rules, command: PutRules | ReadRules) -> Decision:
    if isinstance(command, ReadRules):
        return Decision(reply=RulesReply(rules))
    changed = Rules(command.shipping or rules.shipping, command.tax or rules.tax)
    return Decision([RulesPut(changed)] if changed != rules else [], RulesReply(changed))


def _opens(state: Checkout, command: CheckoutCommand) -> bool:
    """Whether the credentials open the checkout: its owner's, or none (an operator, or the system)."""
    if isinstance(command, Start):
        return command.owner == state.owner
    if isinstance(command, Replace):
        return True
    never_was = state.phase == "refused" or (state.undo is not None and state.undo.reason == "refused")
    return not never_was and command.owner in ("", state.owner)


def _answered_before(state: Checkout, command: CheckoutCommand) -> Decision | None:
    """The first answer again; for one still owed, one more asker waits for it."""
    for entry in state.asked:
        if entry.command_id != command.command_id:
            continue
        if entry.fingerprint != command.fingerprint:
            return Decision(reply=KEY_REUSED)
        if state.phase == "awaiting_buyer" and entry.kind in ("start", "complete"):
            return Decision(reply=CheckoutReply(202, views.view(state)))  # nothing will come by waiting
        return Decision(reply=None)
    seen = remembered(state.answers, command)
    if seen is None:
        return None
    if isinstance(seen, Refusal):
        return Decision(reply=seen)
    return Decision(reply=Replayed(seen.body or _encode(views.completed(state))))


def _decide_known(turn: Turn, command: CheckoutCommand) -> Decision:
    match command:
        case Start():
            return beginning.again(turn, command)
        case Read():
            return Decision(reply=views.reply(turn.state))
        case Patch():
            return change.patch(turn, command)
        case Complete():
            return payment.complete(turn, command)
        case Cancel():
            return undoing.cancel(turn, command)
        case Replace():
            return undoing.replace_by(turn, command)
        case ConfirmPayment():
            return payment.confirm(turn, command)
        case CancelOrder() | ShipOrder() | DeliverOrder() | ReviewOrder() | AmendAddress():
            return order_saga.decide(turn, command)
        case _:
            raise AssertionError(f"{type(command).__name__} is no command to a known checkout")


# ── outcomes ────────────────────────────────────────────────────────────────────────────────────────────


def _stepped(turn: Turn, name: str, result: StepResult) -> None:
    """Feed an outcome to its phase; one that is no longer wanted (a repeat, a late one) changes nothing."""
    if name not in next_steps(turn.state):
        return
    match turn.state.phase, result:
        case "linking", CartBegun() as begun:
            beginning.cart_begun(turn, begun)
        case "linking", Refusal() as refusal:
            undoing.refuse(turn, refusal)
        case "replacing", GaveWay() as answer:
            beginning.gave_way(turn, answer)
        case "replacing", Refusal():
            beginning.gave_way(turn, GaveWay())  # there is no such checkout, so it is out of the way
        case "holding", Held() as held:
            beginning.held(turn, held)
        case "holding", Shortage() as shortage:
            beginning.short(turn, shortage)
        case "holding", HoldState(refused="stale"):
            return  # too late on its way: the take is still wanted and is sent again
        case "holding", HoldState():
            undoing.undo(turn, "expired", no.EXPIRED)
        case "holding", Refusal() as refusal:
            undoing.undo(turn, "refused", refusal)  # some shard may have taken its part
        case "changing", (Held() | HoldState() | Shortage()) as answer:
            change.changed(turn, answer)
        case "trimming", HoldState():
            change.trimmed(turn)
        case "pinning", HoldState() as hold:
            payment.pinned(turn, hold)
        case "paying", LegOutcome() as outcome:
            payment.paid(turn, outcome)
        case "awaiting_buyer", LegOutcome() as outcome:
            payment.buyer_acted(turn, outcome)
        case "unwinding", (LegOutcome() | HoldState()) as answer:
            undoing.unwound(turn, answer)
        case "placed", _ if not turn.may_place:
            return  # past the pivot there is no way back: the step is tried again
        case "placed", LegOutcome() as outcome:
            order_saga.leg_answered(turn, outcome)
        case "placed" | "canceled" | "refused", (HoldState() | Done()) as answer:
            order_saga.step_done(turn, name, answer)
        case phase, _:
            raise AssertionError(f"{type(result).__name__} cannot be the outcome of {name} in {phase}")


# ── evolve ──────────────────────────────────────────────────────────────────────────────────────────────


def touches(event: CheckoutEvent) -> list[Key]:
    return [RULES] if isinstance(event, RulesPut) else [(KIND, event.checkout)]


def evolve(key: Key, state: Checkout | Rules | None, event: CheckoutEvent) -> Checkout | Rules:
    """The entity after the event. Applies, never judges."""
    if isinstance(event, RulesPut):
        return event.rules
    assert not isinstance(state, Rules), "rules have one event only"
    return evolve_checkout(state, event)
