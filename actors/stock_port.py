"""How a saga reaches stock: one step over all shards that own its accounts, side by side.

Owns the fan-out and the merging of answers, nothing durable: every step may be repeated. A take that some
shards refuse says so and names whether others hold their part; the saga then releases or cuts. Shards refuse what
is too old by their own clocks: what is sent anew after that is dated by theirs, so that clocks which differ cost one
repeat and not every sale; a copy on its way keeps its date.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from actors.promise import Promise
from actors.routing import Router
from domain import stock
from domain.checkout_model import HoldStep, TakeStock
from domain.messages import Refusal

TENTATIVE_RETRIES = 2  # another buyer's take may fail elsewhere and give its units back in a moment
TakeReply = stock.Held | stock.Shortage | stock.HoldState | Refusal

FORGET_AFTER_S = 0.2
_NO_ID = b""  # holds are idempotent by hold id


class StockPort:
    """Steps on holds, and quotes."""

    def __init__(self, router: Router, now_ms: Callable[[], int]) -> None:
        self._router = router
        self._now_ms = now_ms
        self._forgotten: dict[str, list[str]] = {}
        self._ahead_ms: dict[str, int] = {}  # of our time, by what a shard has said when it refused a date

    def _date_ms(self, shard: str) -> int:
        return self._now_ms() + self._ahead_ms.get(shard, 0)

    def _compare(self, shard: str, reply: Any) -> None:
        if isinstance(reply, stock.HoldState) and reply.now_ms:
            self._ahead_ms[shard] = reply.now_ms - self._now_ms()

    def take(self, action: TakeStock) -> asyncio.Future[TakeReply] | Promise:
        """Hold on every shard, or say what is short."""
        parts = self._router.split(action.wanted)
        if len(parts) == 1:
            return self._ask_lightly(next(iter(parts)), self._take(action, next(iter(parts)), action.wanted))
        return asyncio.ensure_future(self._take_on_shards(action, parts))

    def _ask_lightly(self, shard: str, command: stock.StockCommand) -> Promise:
        return self._router.ask_shard_lightly(shard, command).seen_by(partial(self._compare, shard))

    async def _ask_all(self, commands: Mapping[str, stock.StockCommand]) -> Sequence[Any]:
        """One command a shard, side by side; the replies in the order of the shards."""
        replies = await asyncio.gather(*(self._router.ask_shard(shard, command) for shard, command in commands.items()))
        for shard, reply in zip(commands, replies, strict=True):
            self._compare(shard, reply)
        return replies

    async def _take_on_shards(self, action: TakeStock, parts: Mapping[str, Sequence[str]]) -> TakeReply:
        for retry in range(TENTATIVE_RETRIES + 1):
            takes = {
                shard: self._take(action, shard, {key: action.wanted[key] for key in keys})
                for shard, keys in parts.items()
            }
            replies = await self._ask_all(takes)
            merged: TakeReply = _merge_takes(action, replies)
            if not isinstance(merged, stock.Shortage) or retry == TENTATIVE_RETRIES:
                return merged
            if merged.held_elsewhere:  # a copy that may be about now is about for all that follow
                action = msgspec.structs.replace(action, resent=True)
            await asyncio.sleep(random.uniform(0.005, 0.03) * (retry + 1))
        raise AssertionError("the last try returns")

    def _take(self, action: TakeStock, shard: str, wanted: Mapping[str, int]) -> stock.Take:
        return stock.Take(
            command_id=_NO_ID,
            hold_id=action.hold_id,
            revision=action.revision,
            wanted=dict(wanted),
            expires_at_ms=action.expires_at_ms,
            issued_at_ms=self._date_ms(shard),
            pinned=action.pinned,
            resent=action.resent,
        )

    def step(self, action: HoldStep) -> asyncio.Future[stock.HoldState | Refusal] | Promise:
        """The step on every shard that has a part; the first refusal speaks for all."""
        parts = self._router.split(action.legs)
        if len(parts) == 1:
            shard = next(iter(parts))
            return self._ask_lightly(shard, _command(action, action.legs, self._date_ms(shard)))
        return asyncio.ensure_future(self._step_on_shards(action, parts))

    async def _step_on_shards(self, action: HoldStep, parts: Mapping[str, Sequence[str]]) -> stock.HoldState | Refusal:
        replies = await self._ask_all(
            {
                shard: _command(action, {key: action.legs[key] for key in keys}, self._date_ms(shard))
                for shard, keys in parts.items()
            }
        )
        refused = next((r for r in replies if isinstance(r, Refusal) or r.refused), None)
        reply: stock.HoldState | Refusal = refused or (replies[0] if replies else stock.HoldState("released"))
        return reply

    def forget(self, hold_id: str, accounts: Sequence[str]) -> None:
        """The saga behind a return has ended: its shards are told soon, many at a time, and may forget it.

        Nothing hangs on it but memory: what a crash here leaves untold stays, a hundred bytes each.
        """
        for shard in self._router.split(accounts):
            gathered = self._forgotten.setdefault(shard, [])
            gathered.append(hold_id)
            if len(gathered) == 1:
                asyncio.get_running_loop().call_later(FORGET_AFTER_S, self._tell_forgotten, shard)

    def _tell_forgotten(self, shard: str) -> None:
        hold_ids = self._forgotten.pop(shard)
        self._router.ask_shard(shard, stock.Forget(command_id=_NO_ID, hold_ids=tuple(hold_ids)))

    async def quote(self, accounts: Sequence[str]) -> list[stock.Offer]:
        """Facts and availability in the order asked. May be stale."""
        parts = self._router.split(accounts)
        replies = await self._ask_all(
            {shard: stock.Quote(command_id=_NO_ID, accounts=tuple(keys)) for shard, keys in parts.items()}
        )
        offers = {offer.account: offer for reply in replies for offer in reply.offers}
        return [offers[account] for account in accounts]


def _command(action: HoldStep, legs: dict[str, int], now_ms: int) -> stock.StockCommand:
    hold_id, until_ms, revision = action.hold_id, action.expires_at_ms, action.revision
    match action.verb:
        case "pin":
            return stock.Pin(command_id=_NO_ID, hold_id=hold_id, revision=revision)
        case "unpin":
            return stock.Unpin(command_id=_NO_ID, hold_id=hold_id, expires_at_ms=until_ms, revision=revision)
        case "extend":
            return stock.Extend(command_id=_NO_ID, hold_id=hold_id, expires_at_ms=until_ms, revision=revision)
        case "confirm":
            return stock.Confirm(command_id=_NO_ID, hold_id=hold_id)
        case "release":
            return stock.Release(command_id=_NO_ID, hold_id=hold_id)
        case "trim":
            return stock.Trim(command_id=_NO_ID, hold_id=hold_id, revision=revision, target=legs)
        case "give_back":
            return stock.GiveBack(command_id=_NO_ID, hold_id=hold_id, legs=legs, issued_at_ms=now_ms)
        case _:
            raise AssertionError(f"{action.verb} is not a step on a hold")


def _merge_takes(action: TakeStock, replies: Sequence[Any]) -> Any:
    refused = next((r for r in replies if isinstance(r, (Refusal, stock.HoldState))), None)
    if refused is not None:
        return refused
    short = {line.account: line for r in replies if isinstance(r, stock.Shortage) for line in r.lines}
    if short:
        lines = tuple(short[account] for account in action.wanted if account in short)
        return stock.Shortage(lines, any(isinstance(r, stock.Held) or r.held_elsewhere for r in replies))
    products = {account: product for r in replies for account, product in r.products.items()}
    return stock.Held(products)
