"""An event loop whose time passes only when nobody has anything to do: pauses cost nothing and are exact.

Owns the loop and the decorator that runs a test on it. Promises that a test which waits for something that
cannot come ends with `Stuck` instead of hanging. Knows no sockets, threads or processes.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

LIMIT_S = 3_600.0  # more than any test waits: what polls for ever gets here quickly


class Stuck(BaseException):
    """Everybody waits and nothing is due. Not an Exception: nobody on the loop may swallow it."""


class _Clock(selectors.SelectSelector):
    """Instead of waiting for a timer it lets the time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._limit_s = LIMIT_S

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or self.now_s > self._limit_s:
            self._limit_s = self.now_s + LIMIT_S  # so that the tasks can be cancelled
            raise Stuck(f"nothing can happen any more at {self.now_s:.3f} s")
        self.now_s += max(timeout, 0.0)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._passing = _Clock()
        super().__init__(self._passing)

    def time(self) -> float:
        return self._passing.now_s


def virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test, or a property's body, on a loop of its own that starts at 0 s."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def pass_time(seconds: float) -> None:
    """Let so much time pass, and with it all that is due."""
    await asyncio.sleep(seconds)


async def idle() -> None:
    """Return once everybody who could do something without time passing has done it."""
    await pass_time(1e-6)


async def until(condition: Callable[[], bool]) -> None:
    """Let time pass until the condition holds."""
    while not condition():
        await pass_time(0.01)
