"""The cheap sibling of a future, for the many replies that nobody awaits.

Owns one callback. Promises that it runs at the moment the reply comes, in the caller's turn of the loop, and that
one which fails concerns its own reply alone. Made by `actors.mailbox`; the coordinator is called back. (A future's
callback runs a turn of the loop later, when what it works on has left the processor's caches.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger()


class Promise:
    """What `actors.mailbox`, `actors.ports` and the coordinator use of a future; use on one event loop."""

    __slots__ = ("_callback", "_done", "_error", "_look", "_result")

    def __init__(self) -> None:
        self._callback: Callable[[Any], None] | None = None
        self._look: Callable[[Any], None] | None = None
        self._done = False
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        return self._done

    def cancelled(self) -> bool:
        return False

    def result(self) -> Any:
        return self._result

    def exception(self) -> BaseException | None:
        return self._error

    def seen_by(self, look: Callable[[Any], None]) -> Promise:
        """Show the reply to ``look`` before whoever is called back has it."""
        self._look = look
        return self

    def set_result(self, result: Any) -> None:
        self._result = result
        look, self._look = self._look, None
        if look is not None:
            look(result)
        self._finish()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._finish()

    def cancel(self) -> None:
        """Nobody is called back any more."""
        self._done = True
        self._look = self._callback = None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callback = callback
        if self._done:
            asyncio.get_running_loop().call_soon(callback, self)

    def _finish(self) -> None:
        self._done = True
        self._look = None
        # Let go of: whoever still holds this promise must not hold all that its callback works on.
        callback, self._callback = self._callback, None
        if callback is not None:
            try:
                callback(self)
            except Exception:
                # It concerns this reply; those behind it in the batch have askers of their own.
                log.exception("callback failed")
