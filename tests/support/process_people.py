"""The simulation's people where actors are processes: they ask in real time, and note what they were told.

Owns the first final answer to every command with a key, and what was answered otherwise later. Told how to ask.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, cast

import msgspec

from domain import ids
from domain.messages import Command
from tests.simulation.history import final
from tests.simulation.people import People
from tests.simulation.weather import Shop


class ProcessPeople(People):
    """``answers``: by command id, the command and its first final answer. ``changed``: the answers that differ."""

    def __init__(self, shop: Shop, ask: Callable[[Any], Awaitable[Any]]) -> None:
        nobody = cast(Any, None)  # of the simulation
        super().__init__(nobody, nobody, nobody, shop, Random(0), nobody)
        self.answers: dict[bytes, tuple[Command, Any]] = {}
        self.changed: list[str] = []
        self._ask = ask
        self._asked: set[asyncio.Future[Any]] = set()  # references: the loop keeps none

    def named(self, prefix: str, command_id: bytes) -> str:
        return ids.make(prefix, time.time_ns() // 1_000_000, ids.derive_body(command_id, prefix))

    async def ask(self, command: Any, wait_s: float) -> Any:
        """The reply, or None if it is late."""
        asked = asyncio.ensure_future(self._ask(command))
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        await asyncio.wait((asked,), timeout=wait_s)
        if not asked.done():
            return None
        self._told(command, asked.result())
        return asked.result()

    def _told(self, command: Any, reply: Any) -> None:
        if not getattr(command, "fingerprint", b"") or not final(reply):
            return
        _, first = self.answers.setdefault(command.command_id, (command, reply))
        if msgspec.msgpack.encode(first) != msgspec.msgpack.encode(reply):
            self.changed.append(f"{type(command).__name__}: first {first}, then {reply}")

    async def repeat_all(self, wait_s: float) -> list[str]:
        """Ask all that was answered for good once more; what was not answered again."""
        commands = [command for command, _ in self.answers.values()]
        replies = await asyncio.gather(*(self.ask(command, wait_s) for command in commands))
        return [repr(command) for command, reply in zip(commands, replies, strict=True) if reply is None]
