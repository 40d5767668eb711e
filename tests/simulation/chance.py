"""What is drawn or read from the machine elsewhere, put into the seed's hands.

Owns the replacements of `random`, `secrets`, `time` and the loggers inside `actors` and of the long times there
and in `domain` (a minute of grace, say), which a run of seconds has to see pass. Installed once a process; each
run brings its own chance.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from random import Random
from types import ModuleType
from typing import Any

import actors
import actors.shard_memory
import actors.snapshots
import actors.timers
import domain.ledger

GRACE_MS = 2_000
JUMP_MS = 500
STALE_TAKE_MS = 1_500
SNAPSHOT_WAIT_MS = 200


class _Chance:
    """Stands for the modules `random` and `secrets`, and for a logger that counts."""

    def __init__(self) -> None:
        self.rng = Random(0)
        self.note: Callable[..., None] = lambda *parts: None
        self.now_s: Callable[[], float] = lambda: 0.0

    def uniform(self, low: float, high: float) -> float:
        return self.rng.uniform(low, high)

    def token_hex(self, octets: int) -> str:
        return f"{self.rng.getrandbits(8 * octets):0{2 * octets}x}"

    def monotonic(self) -> float:
        return self.now_s()

    def info(self, event: str, **fields: Any) -> None:
        self.note("log", event)

    warning = error = exception = info


CHANCE = _Chance()

_LONG = [
    (actors.shard_memory, "SLICE", 1),
    (actors.snapshots, "WAIT_MS", SNAPSHOT_WAIT_MS),
    (actors.timers, "GRACE_MS", GRACE_MS),
    (actors.timers, "JUMP_MS", JUMP_MS),
    (domain.ledger, "STALE_TAKE_MS", STALE_TAKE_MS),
    (domain.ledger, "TOMBSTONE_MS", 2 * STALE_TAKE_MS),
]


def _replaced() -> list[tuple[ModuleType, str, Any]]:
    modules = [import_module(found.name) for found in iter_modules(actors.__path__, "actors.")]
    sources = ("random", "secrets", "time", "log")
    return [(module, name, CHANCE) for module in modules for name in sources if hasattr(module, name)] + _LONG


_REPLACED = _replaced()


class Installed:
    """A context in which chance is the seed's; what was there before comes back."""

    def __enter__(self) -> _Chance:
        self._before = [(module, name, getattr(module, name)) for module, name, _ in _REPLACED]
        for module, name, value in _REPLACED:
            setattr(module, name, value)
        return CHANCE

    def __exit__(self, *_: object) -> None:
        for module, name, value in self._before:
            setattr(module, name, value)
