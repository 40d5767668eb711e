"""The eye on one API: whether it answers.

Owns one connection, kept from look to look: a server that has as many as it takes accepts no other, and is not hung.
Promises that an API is called hung only after `HUNG_LOOKS` looks in a row to which nothing came on a connection on
which it had answered before. Counts looks, not time, as `cluster.watch` does. Acts on nothing; the supervisor does.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

LOOK_S = 5.0  # for an answer, and between two looks
HUNG_LOOKS = 4

_QUESTION = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
_Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ApiEye:
    """Looks at the API that is at a URL; another API takes another eye."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._address = address.hostname, address.port
        self._line: _Line | None = None
        self._known = False  # it has answered on this connection
        self._silent = 0

    @property
    def hung(self) -> bool:
        return self._silent >= HUNG_LOOKS

    async def look(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                answered = await self._ask()
        except TimeoutError:
            if self._known:
                self._silent += 1
            else:
                self.close()  # perhaps one too many: nobody has taken it
            return
        except OSError:
            answered = False  # nobody is there, or has ended the connection: that is seen to elsewhere
        self._silent, self._known = 0, answered
        if not answered:
            self.close()

    async def _ask(self) -> bool:
        if self._line is None:
            self._line = await asyncio.open_connection(*self._address)
        reader, writer = self._line
        writer.write(_QUESTION)
        return bool(await reader.read(65_536))

    def close(self) -> None:
        if self._line is not None:
            self._line[1].close()
        self._line, self._known = None, False
