"""What a recovery adds up instead of applying it: how the journal's events move the figures of accounts.

Owns, for each account that has a snapshot, the sum of what the snapshot lacks. Sums do not depend on the order in
which they are made up: hundreds of thousands of events cost an addition each, and each account is made anew once.
Promises the accounts that `domain.stock.evolve` makes event by event. For `actors.shard_memory` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from actors.contracts import Stored
from domain import ledger, stock
from domain.messages import Key

OLDER, NEWER, LACKED_BY_OLDER, LACKED_BY_NEWER, CONFIRMED, HELD = range(6)
OTHERS = (stock.ProductPut, stock.Received, stock.Answered)


class AccountSums:
    """`actors.contracts.Sums` of a stock shard."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._sums: dict[str, list[int]] = {}

    def add(self, seq: int, event: Any) -> Sequence[Key]:
        if isinstance(event, OTHERS):
            return stock.touches(event)
        legs, confirmed, held = ledger.moves(event)
        rest: list[Key] = [("hold", event.hold_id)]
        for account, units in legs.items():
            sums = self._sums.get(account)
            if sums is None:
                key = ("account", account)
                if key not in self._stored:
                    rest.append(key)  # it has to begin first
                    continue
                sums = self._sums[account] = [*self._stored[key], 0, 0, 0, 0]
            if seq > sums[OLDER] and not sums[LACKED_BY_OLDER]:
                sums[LACKED_BY_OLDER] = seq
            if seq > sums[NEWER]:
                sums[LACKED_BY_NEWER] = sums[LACKED_BY_NEWER] or seq
                if confirmed:
                    sums[CONFIRMED] += confirmed * units
                sums[HELD] += held * units
        return rest

    def apply(self, world: dict[Key, Any]) -> Iterator[tuple[Key, int, int]]:
        for account, (_, _, lacked_by_older, lacked_by_newer, confirmed, held) in self._sums.items():
            key = ("account", account)
            if lacked_by_newer:
                before: stock.Stock = world[key]
                figures = before.figures
                moved = ledger.Account(figures.received, figures.confirmed + confirmed, figures.held + held)
                world[key] = stock.Stock(moved, before.product, before.answers)
            if lacked_by_older:
                yield key, lacked_by_older, lacked_by_newer
