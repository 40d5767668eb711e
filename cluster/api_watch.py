"""The eye on the API: whether it answers anybody.

Owns the looks. Promises that an API is called hung only after `HUNG_LOOKS` looks in a row to which nothing came:
whoever refuses the connection, or answers whatever it is, is not hung. Counts looks, not time, as `cluster.watch`
does. Acts on nothing; the supervisor does.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

LOOK_S = 5.0
HUNG_LOOKS = 4  # 20 s of silence

_QUESTION = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class ApiEye:
    """Looks at the API that is at a URL."""

    def __init__(self) -> None:
        self._silent = 0

    @property
    def hung(self) -> bool:
        return self._silent >= HUNG_LOOKS

    def forgive(self) -> None:
        """Count anew: something was done about the silence."""
        self._silent = 0

    async def look(self, url: str) -> None:
        address = urlsplit(url)
        try:
            await asyncio.wait_for(_any_answer(address.hostname or "localhost", address.port or 80), LOOK_S)
        except TimeoutError:
            self._silent += 1
        except OSError:
            self._silent = 0  # nobody is there, or somebody who ends the connection: it is seen to elsewhere
        else:
            self._silent = 0


async def _any_answer(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_QUESTION)
        await reader.read(1)
    finally:
        writer.close()
