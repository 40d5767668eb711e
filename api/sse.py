"""Server-sent events: a checkout's changes as a stream that proxies keep open.

Owns the framing and the heartbeat. Is told an iterator of views and how to render one; ends with it. Closing
the stream closes the iterator. Never decides what is shown to whom. Called by the route of checkout events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from domain.checkout_model import CheckoutView

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_HEARTBEAT = b": still here\n\n"


async def checkout_events(
    views: AsyncIterator[CheckoutView], render: Callable[[CheckoutView], Awaitable[bytes]], heartbeat_s: float
) -> AsyncIterator[bytes]:
    """`event: checkout` with the resource at each change; a comment whenever nothing was said for a while."""
    upcoming: asyncio.Future[CheckoutView] | None = None
    try:
        while True:
            # Waited for by a task: a heartbeat must not cancel the iterator in the middle of its step.
            upcoming = upcoming or asyncio.ensure_future(anext(views))
            done, _ = await asyncio.wait((upcoming,), timeout=heartbeat_s)
            if not done:
                yield _HEARTBEAT
                continue
            try:
                view = upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = None
            yield b"event: checkout\nid: %d\ndata: %b\n\n" % (view.version, await render(view))
    finally:
        if upcoming is not None:
            upcoming.cancel()
