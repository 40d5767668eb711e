"""Judges a sale by the shop's own books, read over HTTP: stock, orders, the gateway's ledger, the audit.

`gather` reads the books, `judge` is pure: what was planned and acknowledged against what they say.
Each check is one promise of the engine, held, broken, or not checked with the reason. The ledger is read
before the orders: what was captured by then must have its order by then. Called by the run, after the sale.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.flash_sale.config import MAX_LINES, Plan
from benchmarks.flash_sale.measure import Recorder
from operator_client import Audit, LedgerEntry, OperatorClient, Order, StockAccount, TargetError

_SHOWN = 5
_READS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: `name` is stable, `promise` a sentence, `detail` the figures or what is wrong."""

    name: str
    promise: str
    status: Literal["held", "broken", "not_checked"]
    detail: str


@dataclass(frozen=True, slots=True)
class Books:
    """What the shop says. `ledger` is None where there is none to be read, as with a real gateway."""

    stock: dict[str, StockAccount]
    ledger: list[LedgerEntry] | None
    orders: list[Order]
    audit: Audit


async def gather(operator: OperatorClient, plan: Plan) -> Books:
    """Read everything that the checks need. Raises `TargetError` when the shop does not show it."""
    try:
        ledger: list[LedgerEntry] | None = [entry async for entry in operator.ledger()]
    except TargetError as error:
        if error.status != 404:
            raise
        ledger = None
    orders = [order async for order in operator.orders()]
    turn = asyncio.Semaphore(_READS_AT_ONCE)

    async def account(sku: str) -> StockAccount:
        async with turn:
            return await operator.stock(sku)

    accounts = await asyncio.gather(*(account(product.sku) for product in plan.products))
    return Books({account.sku: account for account in accounts}, ledger, orders, await operator.audit())


def judge(plan: Plan, recorder: Recorder, books: Books) -> list[Check]:
    """Every promise, in the order in which a reader wants to know."""
    skus = {product.sku for product in plan.products}
    ours = [order for order in books.orders if any(line.sku in skus for line in order.line_items)]
    return [
        _check("never_oversold", "No SKU sold more than its units", *_never_oversold(plan, books, ours)),
        _all_sold(plan, recorder, books),
        _check("stock_adds_up", "Every SKU: on hand + sold = received", *_stock_adds_up(plan, books)),
        _check("orders_kept", "Every acknowledged order is there, once", *_orders_kept(recorder, ours)),
        _check("one_order_each", "No buyer has two orders", *_one_order_each(ours)),
        *_captures(books, ours),
        _check("baskets_limited", f"No order has over {MAX_LINES} lines", *_baskets_limited(ours)),
        _check("audit_clean", "The shop's own audit finds nothing", *_audit_clean(books.audit)),
    ]


def _check(name: str, promise: str, detail: str, faults: Sequence[str]) -> Check:
    if not faults:
        return Check(name, promise, "held", detail)
    more = f"; and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
    return Check(name, promise, "broken", "; ".join(faults[:_SHOWN]) + more)


def _never_oversold(plan: Plan, books: Books, ours: Sequence[Order]) -> tuple[str, list[str]]:
    ordered = _units_ordered(ours)
    faults = []
    for product in plan.products:
        account = books.stock[product.sku]
        sold = max(account.sold, ordered[product.sku])
        if sold > product.units:
            faults.append(f"{product.sku}: {sold:,} sold of {product.units:,}")
        if account.sold != ordered[product.sku]:
            faults.append(f"{product.sku}: stock says {account.sold:,} sold, orders {ordered[product.sku]:,}")
    return f"{ordered.total():,} units in orders, of {plan.units:,}", faults


def _all_sold(plan: Plan, recorder: Recorder, books: Books) -> Check:
    name, promise = "all_wanted_sold", "Every unit that was wanted was sold, as far as they went"
    uncertain = {number for numbers in recorder.failures.values() for number in numbers}
    wanted: Counter[str] = Counter()
    for number, basket in enumerate(plan.baskets, 1):
        if number not in uncertain and len(basket) <= MAX_LINES:
            wanted.update(dict(basket))
    scarce = any(product.units < wanted[product.sku] for product in plan.products)
    if scarce and any(len(basket) > 1 for basket in plan.baskets):
        return Check(name, promise, "not_checked", "a basket may rightly fail for the sake of another of its SKUs")
    faults, bound = [], 0
    for product in plan.products:
        least, sold = min(product.units, wanted[product.sku]), books.stock[product.sku].sold
        bound += least
        if sold < least:
            faults.append(f"{product.sku}: {sold:,} sold, {least:,} were there and wanted")
    return _check(name, promise, f"{bound:,} units were there and wanted", faults)


def _stock_adds_up(plan: Plan, books: Books) -> tuple[str, list[str]]:
    faults = []
    for product in plan.products:
        account = books.stock[product.sku]
        if account.on_hand + account.sold != account.received:
            parts = f"{account.on_hand:,} on hand + {account.sold:,} sold"
            faults.append(f"{product.sku}: {parts} ≠ {account.received:,} received")
        if account.received != product.units:
            faults.append(f"{product.sku}: {account.received:,} received, {product.units:,} were put there")
        if account.available != account.on_hand - account.reserved or account.available < 0:
            faults.append(f"{product.sku}: {account.available:,} available of {account.on_hand:,} on hand")
    return f"{len(plan.products):,} SKU{'' if len(plan.products) == 1 else 's'}", faults


def _orders_kept(recorder: Recorder, ours: Sequence[Order]) -> tuple[str, list[str]]:
    listed = Counter(order.id for order in ours)
    acknowledged = Counter(order_id for _, order_id in recorder.orders)
    faults = [f"{order} was acknowledged and is not there" for order in acknowledged if order not in listed]
    faults += [f"{order} is listed {count} times" for order, count in listed.items() if count > 1]
    faults += [f"{order} was given to {count} buyers" for order, count in acknowledged.items() if count > 1]
    strangers = [order for order in listed if order not in acknowledged]
    uncertain = sum(map(len, recorder.failures.values()))
    if len(strangers) > uncertain:
        faults += [f"{order} was never acknowledged" for order in strangers]
    return f"{len(acknowledged):,} acknowledged, {len(listed):,} there", faults


def _one_order_each(ours: Sequence[Order]) -> tuple[str, list[str]]:
    emails = Counter(order.buyer.email for order in ours if order.buyer)
    checkouts = Counter(order.checkout_id for order in ours)
    faults = [f"{email} has {count} orders" for email, count in emails.items() if count > 1]
    faults += [f"{checkout} has {count} orders" for checkout, count in checkouts.items() if count > 1]
    return f"{len(emails):,} buyers with an order", faults


def _captures(books: Books, ours: Sequence[Order]) -> Iterator[Check]:
    """Exactly one net capture for each confirmed order, of its total; none for anything else."""
    promises = (
        ("one_capture_each", "Each order is paid once, and in full"),
        ("no_capture_without_order", "Nobody paid for nothing"),
    )
    if books.ledger is None:
        for name, promise in promises:
            yield Check(name, promise, "not_checked", "the gateway shows no ledger: is it the sandbox?")
        return
    count: Counter[str] = Counter()
    amount: Counter[str] = Counter()
    for entry in books.ledger:
        if entry.status == "succeeded" and entry.type in ("capture", "refund"):
            sign = 1 if entry.type == "capture" else -1
            count[entry.checkout_id] += sign
            amount[entry.checkout_id] += sign * entry.amount
    faults = []
    for order in ours:
        due = 0 if order.status in ("canceled", "pending") else 1
        if count[order.checkout_id] != due:
            faults.append(f"{order.id}: {count[order.checkout_id]} captures")
        elif due and amount[order.checkout_id] != order.total:
            faults.append(f"{order.id}: {amount[order.checkout_id]:,} captured of {order.total:,}")
    captured = sum(count[order.checkout_id] for order in ours)
    yield _check(*promises[0], f"{captured:,} captures for {len(ours):,} orders", faults)
    known = {order.checkout_id for order in books.orders}
    orphans = [checkout for checkout, net in count.items() if net and checkout not in known]
    faults = [f"{checkout}: {count[checkout]} captures and no order" for checkout in orphans]
    yield _check(*promises[1], f"{len(books.ledger):,} lines of the gateway's ledger", faults)


def _baskets_limited(ours: Sequence[Order]) -> tuple[str, list[str]]:
    faults = [f"{order.id} has {len(order.line_items)}" for order in ours if len(order.line_items) > MAX_LINES]
    return f"the longest has {max((len(order.line_items) for order in ours), default=0)}", faults


def _audit_clean(audit: Audit) -> tuple[str, list[str]]:
    faults = [f"{each.code} {each.subject} {each.detail}".strip() for each in audit.violations]
    if not audit.consistent and not faults:
        faults = ["it says so, and names nothing"]
    return ", ".join(f"{count:,} {name}" for name, count in audit.checked.items()), faults


def _units_ordered(ours: Sequence[Order]) -> Counter[str]:
    units: Counter[str] = Counter()
    for order in ours:
        if order.status != "canceled":
            for line in order.line_items:
                units[line.sku] += line.quantity
    return units
