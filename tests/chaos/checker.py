"""What a run of chaos comes to: each buyer's history against the final reads. Pure.

Owns the verdict. Promises that "pass" is said only when nothing is violated and nothing that would have to be known
is missing; a missing read, or a buyer without a final answer, gives "unknown". Is told histories and reads as the
outside saw them; never asks anybody. Called by the chaos runner, and by its own tests with doctored histories.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

NOT_FINAL = (0, 202, 408, 429, 500, 502, 503, 504)  # 0: the connection was lost, or refused
NOT_FINAL_CODES = ("request_in_progress", "completion_in_progress")

Outcome = Literal["pass", "unknown", "fail"]


class Answer(msgspec.Struct, frozen=True):
    """One request and what came of it. ``order_id`` of a 200, ``code`` of a problem; times in seconds."""

    status: int
    code: str = ""
    order_id: str = ""
    begun_s: float = 0.0
    ended_s: float = 0.0

    @property
    def final(self) -> bool:
        return self.status not in NOT_FINAL and self.code not in NOT_FINAL_CODES

    @property
    def meaning(self) -> tuple[int, str, str]:
        """What must be the same whenever the key is used again."""
        return self.status, self.code, self.order_id


class Buyer(msgspec.Struct, frozen=True):
    """Everything one idempotency key was told, oldest first; the last answer is to the final question."""

    key: str
    sku: str
    units: int
    answers: Sequence[Answer]


class Order(msgspec.Struct, frozen=True):
    """One row of the list of orders. ``units``: by SKU."""

    id: str
    checkout_id: str
    status: str
    total: int
    units: Mapping[str, int]


class Entry(msgspec.Struct, frozen=True):
    """One line of the gateway's own book. Only what succeeded."""

    type: Literal["authorize", "capture", "void", "refund"]
    checkout_id: str
    payment_id: str
    amount: int


class Level(msgspec.Struct, frozen=True):
    """The stock of one SKU after the run."""

    received: int
    on_hand: int
    reserved: int
    available: int
    sold: int


class Reads(msgspec.Struct, frozen=True):
    """The final reads; None where one could not be had. ``audit``: what the audit names."""

    orders: Sequence[Order] | None
    book: Sequence[Entry] | None
    levels: Mapping[str, Level | None]
    audit: Sequence[str] | None


class Verdict(msgspec.Struct, frozen=True):
    violations: Sequence[str]
    unknown: Sequence[str]

    @property
    def outcome(self) -> Outcome:
        if self.violations:
            return "fail"
        return "unknown" if self.unknown else "pass"


def check(buyers: Sequence[Buyer], reads: Reads) -> Verdict:
    """Hold the histories against the reads. What is missing excuses nothing that is there."""
    unknown = list(_missing(buyers, reads))
    violations = [*_keys(buyers)]
    if reads.orders is not None:
        violations += _orders(buyers, reads.orders, everybody_known=all(_is_answered(buyer) for buyer in buyers))
        violations += _stock(reads.orders, reads.levels)
        if reads.book is not None:
            violations += _money(reads.orders, reads.book)
    if reads.audit:
        violations += [f"audit: {named}" for named in reads.audit]
    return Verdict(violations, unknown)


def _is_answered(buyer: Buyer) -> bool:
    return bool(buyer.answers) and buyer.answers[-1].final


def _missing(buyers: Sequence[Buyer], reads: Reads) -> Iterator[str]:
    if not buyers:
        yield "nobody bought"
    yield from (f"{buyer.key}: no final answer" for buyer in buyers if not _is_answered(buyer))
    for name in ("orders", "book", "audit"):
        if getattr(reads, name) is None:
            yield f"not read: {name}"
    for sku in sorted({buyer.sku for buyer in buyers} | reads.levels.keys()):
        if reads.levels.get(sku) is None:
            yield f"not read: stock of {sku}"


def _keys(buyers: Sequence[Buyer]) -> Iterator[str]:
    """A key has one final answer, and its order is nobody else's."""
    for key, times in Counter(buyer.key for buyer in buyers).items():
        if times > 1:
            yield f"{key}: {times} histories"
    owners: dict[str, set[str]] = defaultdict(set)
    for buyer in buyers:
        meanings = {answer.meaning for answer in buyer.answers if answer.final}
        if len(meanings) > 1:
            yield f"{buyer.key}: answered in several ways: {sorted(meanings)}"
        for status, _, order_id in meanings:
            if status == 200:
                owners[order_id].add(buyer.key)
    for order_id, keys in owners.items():
        if not order_id or len(keys) > 1:
            yield f"order {order_id!r} was acknowledged to {sorted(keys)}"


def _orders(buyers: Sequence[Buyer], orders: Sequence[Order], *, everybody_known: bool) -> Iterator[str]:
    """What was acknowledged is there once, as it was asked for; and nothing else is."""
    for name, found in (
        ("order", Counter(order.id for order in orders)),
        ("checkout", Counter(order.checkout_id for order in orders)),
    ):
        yield from (f"{name} {identifier} has {times} orders" for identifier, times in found.items() if times > 1)
    by_id = {order.id: order for order in orders}
    acknowledged: set[str] = set()
    for buyer in buyers:
        for order_id in {answer.order_id for answer in buyer.answers if answer.final and answer.status == 200}:
            acknowledged.add(order_id)
            order = by_id.get(order_id)
            if order is None:
                yield f"{buyer.key}: order {order_id} is lost"
            elif dict(order.units) != {buyer.sku: buyer.units}:
                yield f"{buyer.key}: order {order_id} has {dict(order.units)}"
            elif order.status != "confirmed":
                yield f"{buyer.key}: order {order_id} is {order.status}"
    if everybody_known:
        yield from (f"order {order_id} was acknowledged to nobody" for order_id in by_id.keys() - acknowledged)


def _stock(orders: Sequence[Order], levels: Mapping[str, Level | None]) -> Iterator[str]:
    """Nothing oversold, nothing held by those who have ended, and what was sold is in orders."""
    in_orders: Counter[str] = Counter()
    for order in orders:
        if order.status != "canceled":
            in_orders.update(order.units)
    for sku, level in levels.items():
        if level is None:
            continue
        if level.on_hand + level.sold != level.received or level.available != level.on_hand - level.reserved:
            yield f"{sku}: the figures do not add up: {level}"
        if level.available < 0 or in_orders[sku] > level.received:
            yield f"{sku}: oversold: {in_orders[sku]} in orders, {level}"
        if level.sold != in_orders[sku]:
            yield f"{sku}: {level.sold} sold, {in_orders[sku]} in orders"
        if level.reserved:
            yield f"{sku}: {level.reserved} still reserved"


def _money(orders: Sequence[Order], book: Sequence[Entry]) -> Iterator[str]:
    """Each live order is paid once and in full; nobody pays for nothing, for good or for the moment."""
    totals = {order.checkout_id: order.total for order in orders if order.status != "canceled"}
    captured: dict[str, list[int]] = defaultdict(list)
    net: Counter[str] = Counter()
    open_: set[tuple[str, str]] = set()
    for entry in book:
        match entry.type:
            case "authorize":
                open_.add((entry.checkout_id, entry.payment_id))
            case "capture":
                captured[entry.checkout_id].append(entry.amount)
                net[entry.checkout_id] += entry.amount
                open_.discard((entry.checkout_id, entry.payment_id))
            case "void":
                open_.discard((entry.checkout_id, entry.payment_id))
            case "refund":
                net[entry.checkout_id] -= entry.amount
    for checkout_id, amounts in captured.items():
        if len(amounts) > 1:
            yield f"{checkout_id}: {len(amounts)} captures: {amounts}"
    for checkout_id in totals.keys() | net.keys():
        due = totals.get(checkout_id, 0)
        if net[checkout_id] != due:
            yield f"{checkout_id}: {net[checkout_id]} paid, {due} due"
    yield from (f"{checkout_id}: {payment_id} is still authorized" for checkout_id, payment_id in sorted(open_))
