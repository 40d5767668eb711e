"""What a scenario on real processes has come to: at rest or not, and whatever is wrong then.

Owns the questions: Postgres itself is asked what the actors would find there, the audit, the gateway's own ledger and
the buyers. Told a world in which nobody is struck any more; changes nothing in it but by asking again what was asked.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import asyncpg

from cluster.engine_types import ReadBook
from domain import checkout_model as model
from domain.cart_model import Cart
from domain.checkout_actions import resting
from domain.ledger_events import Hold
from domain.messages import Command
from domain.payments import BookEntry
from domain.stock_model import Stock, sku_of
from persistence.audit import audit
from persistence.audit_replay import CORES, Shard, ShardReplay
from persistence.sql import sql
from tests.support.process_world import ProcessWorld

REST_S = 10.0  # of healthy running, within which every saga ends
LATER_MS = 3_600_000  # the audit of what is at rest has no patience left
LOOK_S = 0.03
ANSWER_S = 10.0
BOOK_PAGE = 1_000

ORDERS = "SELECT order_id, checkout_id, total, status FROM orders JOIN order_state USING (order_id)"

States = dict[tuple[str, str], Any]  # by shard and key


async def judge(world: ProcessWorld) -> list[str]:
    """Wait until all is at rest, ask everything once more, and see what is wrong."""
    found = await _come_to_rest(world)
    found += [f"not answered again: {command}" for command in await world.people.repeat_all(ANSWER_S)]
    found += await _come_to_rest(world)
    states = await rebuilt(world.pool)
    book = (await world.gateway(ReadBook(0, BOOK_PAGE))).entries
    report = await audit(world.pool, _now_ms() + LATER_MS)
    found += [f"audit {named.code}: {named.subject}: {named.detail}" for named in report.violations]
    found += [f"answer changed: {change}" for change in world.people.changed]
    found += [f"bug: {bug}" for bug in world.bugs]
    orders = await world.pool.fetch(ORDERS)
    found += _carts(states)
    found += _stock(states, world.shop.units)
    found += _money(orders, book)
    found += _acknowledged(orders, world.people.answers.values())
    return list(dict.fromkeys(found))


async def _come_to_rest(world: ProcessWorld) -> list[str]:
    end_s = time.monotonic() + REST_S
    while left := list(_restless(await rebuilt(world.pool))):
        if time.monotonic() > end_s:
            return [f"not at rest after {REST_S:g} s: {what}" for what in left]
        await asyncio.sleep(LOOK_S)
    return []


def _restless(states: States) -> Iterator[str]:
    for (shard, key), state in states.items():
        match state:
            case Hold() if state.live:
                yield f"{key} on {shard} is {state.status}"
            case model.Checkout() if not resting(state):
                yield f"{key} on {shard} is {state.phase}"
            case _:
                pass


async def rebuilt(pool: asyncpg.Pool) -> States:
    """Every entity as an heir would find it now."""
    states: States = {}
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        for row in await connection.fetch(sql("audit_shards")):
            if row["kind"] in CORES:
                replay = ShardReplay(connection, Shard(**row), lambda violation: None)  # the audit names them
                await replay.read()
                async for page in replay.entities():
                    states |= {(row["id"], "/".join(entry.key)): entry.state for entry in page}
    return states


def _of(states: States, kind: type) -> Iterator[Any]:
    return (state for state in states.values() if isinstance(state, kind))


def _carts(states: States) -> Iterator[str]:
    """A cart has one order at most; when a checkout has ended, its cart knows."""
    checkouts = {state.id: state for state in _of(states, model.Checkout)}
    placed = Counter(state.cart_id for state in checkouts.values() if state.phase == "placed")
    for cart in _of(states, Cart):
        if placed[cart.id] != cart.ordered:
            yield f"{cart.id} has {placed[cart.id]} orders, ordered: {cart.ordered}"
        for checkout_id in cart.checkouts:
            yield f"{cart.id} is still with {checkout_id}, which is {checkouts[checkout_id].phase}"


def _stock(states: States, received: Mapping[str, int]) -> Iterator[str]:
    sold: Counter[str] = Counter()
    for state in _of(states, model.Checkout):
        if state.order is not None and state.order.status != "canceled":
            sold.update({line.sku: line.quantity for line in state.wanted})
    for (_, key), state in states.items():
        if isinstance(state, Stock):
            sku, figures = sku_of(key.partition("/")[2]), state.figures
            if (figures.received, figures.confirmed, figures.held) != (received[sku], sold[sku], 0):
                yield f"{sku}: {figures}, but {received[sku]} came and {sold[sku]} are in orders"


def _money(orders: Sequence[asyncpg.Record], book: Sequence[BookEntry]) -> Iterator[str]:
    """By the gateway's own ledger: each live order is paid once and in full, and nothing else is."""
    due = {row["checkout_id"]: row["total"] for row in orders if row["status"] != "canceled"}
    payments: dict[str, list[BookEntry]] = defaultdict(list)
    for entry in book:
        if entry.status == "succeeded":
            payments[entry.payment_id].append(entry)
    net: Counter[str] = Counter()
    for payment_id, entries in payments.items():
        checkout_id = entries[0].checkout_id
        done = Counter(entry.type for entry in entries)
        if done["authorization"] > 1 or done["capture"] > 1 or (done["capture"] and done["void"]):
            yield f"{payment_id} of {checkout_id}: {dict(done)}"
        if done["authorization"] and not (done["capture"] or done["void"]):
            yield f"{payment_id} of {checkout_id} is still authorized"
        net[checkout_id] += _sum(entries, "capture") - _sum(entries, "refund")
    for checkout_id in due.keys() | net.keys():
        if net[checkout_id] != due.get(checkout_id, 0):
            yield f"{checkout_id}: {net[checkout_id]} paid, {due.get(checkout_id, 0)} due"


def _sum(entries: Iterable[BookEntry], type_: str) -> int:
    return sum(entry.amount_minor for entry in entries if entry.type == type_)


def _acknowledged(orders: Sequence[asyncpg.Record], answers: Iterable[tuple[Command, Any]]) -> Iterator[str]:
    """Every order that a buyer was told of is there, and canceled if that was told."""
    there = {row["order_id"]: row for row in orders}
    for command, reply in answers:
        told = getattr(reply, "order", None)
        if told is None:
            continue
        row = there.get(told.id)
        if row is None or row["checkout_id"] != told.checkout_id:
            yield f"{told.id} was acknowledged to {type(command).__name__}, and is lost"
        elif isinstance(reply, model.OrderReply) and row["status"] != told.status:
            yield f"{told.id} was told to be {told.status}, and is {row['status']}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
