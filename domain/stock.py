"""The pure core of the stock actor: product facts and the ledger accounts beside them.

Owns, per SKU, what it is (title, prices, weight, tax category) and how many there are; and the holds on
them. Promises everything `domain.ledger` promises, and that a take answers with the product facts, so that
one round trip freezes price and stock. Never knows buyers, carts or money. Its shapes are in `stock_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, assert_never

import msgspec

from domain import ledger
from domain.catalog import Product
from domain.ledger import Account, Hold, LedgerEvent
from domain.messages import Decision, FieldError, Key, Refusal, Replayed, World, remembered, too_many, with_answer
from domain.stock_model import (
    ALWAYS_ADMITTED,
    KIND,
    STALE_READS,
    Adjust,
    Answered,
    Claim,
    Claimed,
    Confirm,
    Extend,
    Forget,
    GiveBack,
    Held,
    HoldLine,
    HoldState,
    Inspect,
    Levels,
    Offer,
    Pin,
    ProductPut,
    ProductStored,
    PutProduct,
    Quote,
    Quotes,
    Received,
    Release,
    Shortage,
    ShortLine,
    Stock,
    StockCommand,
    StockEvent,
    StockReply,
    Sweep,
    Take,
    Trim,
    Unpin,
    account_of,
    sku_of,
)

__all__ = [
    "ALWAYS_ADMITTED",
    "KIND",
    "STALE_READS",
    "Accounts",
    "Adjust",
    "Answered",
    "Claim",
    "Claimed",
    "Confirm",
    "Extend",
    "Forget",
    "GiveBack",
    "Held",
    "HoldLine",
    "HoldState",
    "Inspect",
    "Levels",
    "Offer",
    "Pin",
    "ProductPut",
    "ProductStored",
    "PutProduct",
    "Quote",
    "Quotes",
    "Received",
    "Release",
    "ShortLine",
    "Shortage",
    "Stock",
    "StockCommand",
    "StockEvent",
    "StockReply",
    "Sweep",
    "Take",
    "Trim",
    "Unpin",
    "account_of",
    "decide",
    "evolve",
    "route",
    "sku_of",
    "touches",
]

MOST_ANSWERS = 2_000  # a day to the keyed commands about one SKU, which may be counted every minute

_encode = msgspec.msgpack.Encoder().encode


def route(command: StockCommand) -> str | None:
    """The account whose owner gets the command; None for what may concern several (its caller splits it)."""
    match command:
        case PutProduct() | Adjust() | Inspect():
            return account_of(command.sku)
        case Claim():
            return _claims_of(command.owner)
        case _:
            return None


def _claims_of(owner: str) -> str:
    """The account that counts nothing: it keeps an owner's claims, a day each."""
    return "claims:" + owner


# ── decide ──────────────────────────────────────────────────────────────────────────────────────────────


class Accounts(Mapping[str, Account]):
    """The ledger's view of a world: figures by account."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getitem__(self, account: str) -> Account:
        stock: Stock | None = self._world.get("account", account)
        return stock.figures if stock is not None else Account()

    def __iter__(self) -> Iterator[str]:
        raise TypeError("accounts are looked up, not listed")

    def __len__(self) -> int:
        raise TypeError("accounts are looked up, not counted")


def decide(world: World, command: StockCommand, now_ms: int) -> Decision:
    """What becomes of a command. Pure: the world is only read."""
    match command:
        case Take():
            return _take(world, command, now_ms)
        case Quote():
            return Decision(reply=Quotes(tuple(_offer(world, account) for account in command.accounts)))
        case Trim():
            return _step(ledger.trim(_hold(world, command.hold_id), command.revision, command.target), "held")
        case Pin():
            return _step(ledger.pin(_hold(world, command.hold_id), command.revision), "pinned")
        case Unpin():
            hold = _hold(world, command.hold_id)
            return _step(ledger.unpin(hold, command.expires_at_ms, command.revision), "held")
        case Extend():
            hold = _hold(world, command.hold_id)
            return _step(ledger.extend(hold, command.expires_at_ms, command.revision), "held")
        case Confirm():
            return _step(ledger.confirm(_hold(world, command.hold_id), now_ms), "confirmed")
        case Release():
            hold = _hold(world, command.hold_id)
            return _step(ledger.release(hold, command.hold_id, now_ms), "released")
        case GiveBack():
            return _give_back(world, command, now_ms)
        case Forget():
            return _each(command.hold_ids, lambda hold_id: ledger.forget(_hold(world, hold_id), now_ms))
        case Sweep():
            return _each(command.hold_ids, lambda hold_id: _sweep_one(world, hold_id, now_ms))
        case PutProduct():
            return _put_product(world, command, now_ms)
        case Adjust():
            return _adjust(world, command, now_ms)
        case Claim():
            return _claim(world, command, now_ms)
        case Inspect():
            stock = _stock(world, account_of(command.sku))
            return Decision(reply=_levels(command.sku, stock.figures) if stock.product else _no_such_sku(command.sku))
        case never:
            assert_never(never)


def _hold(world: World, hold_id: str) -> Hold | None:
    hold: Hold | None = world.get("hold", hold_id)
    return hold


def _stock(world: World, account: str) -> Stock:
    stock: Stock | None = world.get("account", account)
    return stock if stock is not None else Stock()


def _offer(world: World, account: str) -> Offer:
    stock: Stock | None = world.get("account", account)
    if stock is None:
        return Offer(account, None, 0)
    return Offer(account, stock.product, stock.figures.available)


def _take(world: World, command: Take, now_ms: int) -> Decision:
    products: dict[str, Product] = {}
    for account in command.wanted:
        stock: Stock | None = world.get("account", account)
        if stock is not None and stock.product is not None:
            products[account] = stock.product
    if len(products) < len(command.wanted):
        return Decision(reply=_shortage_with_unknown(world, command, products))
    step = ledger.take(
        Accounts(world),
        _hold(world, command.hold_id),
        command.hold_id,
        command.revision,
        command.wanted,
        expires_at_ms=command.expires_at_ms,
        pinned=command.pinned,
        issued_at_ms=command.issued_at_ms,
        now_ms=now_ms,
    )
    if isinstance(step, ledger.Refused):
        if step.reason == "short":
            short = tuple(ShortLine(line.account, line.requested, line.available, True) for line in step.short)
            return Decision(reply=Shortage(short, held_elsewhere=command.resent))
        return _refused(step, now_ms)
    return Decision(step, Held(products))


def _shortage_with_unknown(world: World, command: Take, products: Mapping[str, Product]) -> Shortage:
    """Every line that cannot be had: those without a product, and those with too few units."""
    hold = _hold(world, command.hold_id)
    has = hold.legs if hold is not None and hold.live else {}
    lines: list[ShortLine] = []
    for account, wanted in command.wanted.items():
        available = Accounts(world)[account].available + has.get(account, 0)
        if account not in products:
            lines.append(ShortLine(account, wanted, 0, False))
        elif available < wanted:
            lines.append(ShortLine(account, wanted, available, True))
    return Shortage(tuple(lines), held_elsewhere=command.resent)


def _step(step: ledger.Step, status: str, now_ms: int = 0) -> Decision:
    return _refused(step, now_ms) if isinstance(step, ledger.Refused) else Decision(step, HoldState(status))


def _refused(step: ledger.Refused, now_ms: int) -> Decision:
    return Decision(reply=HoldState(step.status, step.reason, now_ms if step.reason == "stale" else 0))


def _give_back(world: World, command: GiveBack, now_ms: int) -> Decision:
    step = ledger.give_back(
        _hold(world, command.hold_id),
        command.hold_id,
        Accounts(world),
        command.legs,
        issued_at_ms=now_ms if command.issued_at_ms is None else command.issued_at_ms,
        now_ms=now_ms,
    )
    return _step(step, "returned", now_ms)


def _sweep_one(world: World, hold_id: str, now_ms: int) -> ledger.Step:
    hold = _hold(world, hold_id)
    return ledger.expire(hold, now_ms) or ledger.drop(hold, now_ms)


def _each(hold_ids: Iterable[str], step_of: Callable[[str], ledger.Step]) -> Decision:
    events: list[LedgerEvent] = []
    refused = ""
    for hold_id in dict.fromkeys(hold_ids):
        step = step_of(hold_id)
        if isinstance(step, ledger.Refused):
            refused = step.reason
        else:
            events += step
    return Decision(events, HoldState("", refused))


def _answered_before(stock: Stock, command: StockCommand) -> Decision | None:
    seen = remembered(stock.answers, command)
    if seen is None:
        return None
    return Decision(reply=seen if isinstance(seen, Refusal) else Replayed(seen.body))


def _answered_at_once(stock: Stock, command: Adjust | PutProduct, now_ms: int) -> Decision | None:
    """As before, or that too much is kept for the SKU already."""
    before = _answered_before(stock, command)
    if before is not None:
        return before
    refusal = too_many(stock.answers, command, now_ms, MOST_ANSWERS)
    return Decision(reply=refusal) if refusal is not None else None


def _answer(
    account: str, command: StockCommand, now_ms: int, reply: StockReply, events: Sequence[StockEvent]
) -> Decision:
    """Reply, and remember the reply where somebody may ask again: after a change, or under a key."""
    if not (events or command.fingerprint):
        return Decision(reply=reply)
    kept = Answered(account, command.command_id, command.fingerprint, now_ms, _encode(reply))
    return Decision([*events, kept], reply)


def _put_product(world: World, command: PutProduct, now_ms: int) -> Decision:
    account = account_of(command.sku)
    stock = _stock(world, account)
    changed = stock.product != command.product
    reply = ProductStored(command.sku, command.product, stock.product is None, changed)
    events = [ProductPut(command.sku, command.product, stock.product is None)] if changed else []
    if not command.fingerprint:
        return Decision(events, reply)  # to put the same again changes nothing
    return _answered_at_once(stock, command, now_ms) or _answer(account, command, now_ms, reply, events)


def _adjust(world: World, command: Adjust, now_ms: int) -> Decision:
    account = account_of(command.sku)
    stock = _stock(world, account)
    before = _answered_at_once(stock, command, now_ms)
    if before is not None:
        return before
    if stock.product is None:
        return _answer(account, command, now_ms, _no_such_sku(command.sku), ())
    figures = stock.figures
    units = command.delta if command.delta is not None else (command.set_to or 0) - figures.on_hand
    if figures.available + units < 0:
        return _answer(account, command, now_ms, _below_reserved(command, figures), ())
    after = Account(figures.received + units, figures.confirmed, figures.held)
    events = [Received(command.sku, units, command.reason, command.actor)] if units else []
    return _answer(account, command, now_ms, _levels(command.sku, after, moved=units), events)


def _claim(world: World, command: Claim, now_ms: int) -> Decision:
    account = _claims_of(command.owner)
    return _answered_before(_stock(world, account), command) or _answer(account, command, now_ms, Claimed(), ())


def _below_reserved(command: Adjust, figures: Account) -> Refusal:
    path = "$.set" if command.delta is None else "$.delta"
    return Refusal(
        "below_reserved",
        f"{figures.held} of {figures.on_hand} units are reserved; that many must stay on hand.",
        (FieldError(path, "below_reserved", "Choose a larger number."),),
        {"on_hand": figures.on_hand, "reserved": figures.held},
    )


def _levels(sku: str, figures: Account, *, moved: int = 0) -> Levels:
    return Levels(
        sku,
        figures.on_hand,
        figures.held,
        figures.available,
        figures.confirmed,
        figures.received,
        moved=moved,
    )


def _no_such_sku(sku: str) -> Refusal:
    return Refusal("not_found", "There is no such SKU.")


# ── evolve ──────────────────────────────────────────────────────────────────────────────────────────────


def touches(event: StockEvent) -> list[Key]:
    """The entities the event concerns, in the order they are to be evolved."""
    match event:
        case ProductPut() | Received():
            return [("account", account_of(event.sku))]
        case Answered():
            return [("account", event.account)]
        case _:
            keys: list[Key] = [("account", account) for account in ledger.accounts_of(event)]
            keys.append(("hold", event.hold_id))
            return keys


def evolve(key: Key, state: Any, event: StockEvent) -> Any:
    """The entity after the event; None deletes it. Applies, never judges."""
    kind, identifier = key
    if kind == "hold":
        return ledger.evolve_hold(state, event)  # type: ignore[arg-type]
    stock: Stock = state if state is not None else Stock()
    match event:
        case ProductPut():
            return Stock(stock.figures, event.product, stock.answers)
        case Received():
            figures = stock.figures
            return Stock(
                Account(figures.received + event.units, figures.confirmed, figures.held),
                stock.product,
                stock.answers,
            )
        case Answered():
            answers = with_answer(stock.answers, event.command_id, event.fingerprint, event.at_ms, event.body)
            return Stock(stock.figures, stock.product, answers)
        case _:
            return Stock(ledger.evolve_account(identifier, stock.figures, event), stock.product, stock.answers)
