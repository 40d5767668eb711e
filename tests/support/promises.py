"""Awaiting what calls back."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.promise import Promise


async def answered(call: asyncio.Future[Any] | Promise) -> Any:
    """The result of either; an error is raised."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    call.add_done_callback(lambda _: done.set_result(None))
    await done
    error = call.exception()
    if error is not None:
        raise error
    return call.result()
