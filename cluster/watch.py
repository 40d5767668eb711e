"""The eye on one actor: whether it answers, is being constructed, is hung, or is gone.

Owns what the looks so far say. Promises that an actor is called hung only after `HUNG_LOOKS` looks in a row
without an answer, and one that is being constructed only after `RECOVERY_LOOKS`. Counts looks, not time: a
watcher that was itself paused must not blame those it watched. Acts on nothing; the host does.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Literal

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError

LOOK_S = 5.0
# 20 s of silence. The loop of a healthy actor is held up longest by reading its shard again after a refused
# append, one to two seconds for the most that a journal may hold; a heavy load holds it up for less than that.
HUNG_LOOKS = 4
# 5 min. A construction answers nobody before it has replayed its journal and loaded all that is awake.
RECOVERY_LOOKS = 60

Sign = Literal["well", "constructing", "silent", "gone"]


class Eye:
    """Looks at the actor behind ``handle``; give it another one when the actor is created anew."""

    def __init__(self, kind: str, name: str, handle: Any) -> None:
        self.kind = kind
        self.name = name
        self.handle = handle
        self._pid: int | None = None  # of the process that answered last
        self._line: asyncio.Future[None] | None = None
        self._silent = 0

    @property
    def hung(self) -> bool:
        return self._silent >= (RECOVERY_LOOKS if self._line is None else HUNG_LOOKS)

    @property
    def pid(self) -> int | None:
        """Of the process that answered last, until Ray or `forgive` says that it has ended: an id is used again."""
        return None if self._line is None or self._line.done() else self._pid

    async def look(self) -> Sign:
        """Ask for a sign of life. "silent" is also said when Ray itself does not work."""
        try:
            status = await asyncio.wait_for(self.handle.status.remote(), LOOK_S)
        except ActorUnavailableError:
            return self._constructing()
        except ActorDiedError:
            self._constructing()
            return "gone"
        except (TimeoutError, RayError, ConnectionError):
            if self._line is not None and self._line.done():
                # Calls to an actor that is constructed again wait like those to a hung one; the line has told.
                return self._constructing()
            self._silent += 1
            return "silent"
        self._silent = 0
        self._pid = status.get("pid") if isinstance(status, dict) else None
        if self._line is None or self._line.done():
            self._line = asyncio.ensure_future(_until_it_ends(self.handle))
        return "well"

    def forgive(self) -> None:
        """Count anew, and forget the process: something was done about the silence."""
        self._silent = 0
        self._pid = None

    def close(self) -> None:
        if self._line is not None:
            self._line.cancel()

    def _constructing(self) -> Sign:
        self.close()
        self._line = None
        self._silent = 0
        return "constructing"


async def _until_it_ends(handle: Any) -> None:
    """Lasts as long as the process that answered last: Ray fails the call when it ends."""
    with suppress(RayError):
        await handle.stay.remote()
