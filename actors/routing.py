"""Which mailbox a command goes to: key → slot → shard → mailbox.

Owns one mailbox per shard and the slot tables. A key's slot never changes; its shard is what the table says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from actors.mailbox import Mailbox
from actors.promise import Promise
from domain.ids import slot_of


class SlotTable:
    """One kind's slots: 1,024 shard names, and single keys that live elsewhere."""

    def __init__(self, slots: Sequence[str], overrides: Mapping[str, str]) -> None:
        self._slots = list(slots)
        self._overrides = dict(overrides)

    def shard_of(self, key: str) -> str:
        return self._overrides.get(key) or self._slots[slot_of(key)]

    @property
    def shards(self) -> list[str]:
        return sorted({*self._slots, *self._overrides.values()})

    def only_shard(self) -> str | None:
        """The shard that has all keys, if one has."""
        shards = self.shards
        return shards[0] if len(shards) == 1 else None


class Router:
    """The mailboxes to all shards of one kind."""

    def __init__(self, table: SlotTable, mailboxes: Mapping[str, Mailbox]) -> None:
        self.table = table
        self.mailboxes = dict(mailboxes)
        self._only = table.only_shard()

    def ask(self, key: str, command: Any) -> asyncio.Future[Any]:
        return self.mailboxes[self.table.shard_of(key)].ask(command)

    def ask_shard(self, shard: str, command: Any) -> asyncio.Future[Any]:
        return self.mailboxes[shard].ask(command)

    def ask_shard_lightly(self, shard: str, command: Any) -> Promise:
        return self.mailboxes[shard].ask_lightly(command)

    def split(self, keys: Mapping[str, int] | Sequence[str]) -> dict[str, list[str]]:
        """Keys by the shard that owns them."""
        if self._only is not None:
            return {self._only: list(keys)}
        parts: dict[str, list[str]] = {}
        for key in keys:
            parts.setdefault(self.table.shard_of(key), []).append(key)
        return parts

    async def close(self) -> None:
        for mailbox in self.mailboxes.values():
            await mailbox.close()
