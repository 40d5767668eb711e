"""A TCP proxy before a real Postgres: it reads the protocol along, and cuts, stalls or loses what a test names.

Owns the sockets between the clients of its `dsn` and the server, nothing else: Postgres and the client are the real
ones. Promises that a planned fault meets exactly the statement it was planned for, and that a statement which it lets
through is executed by the server before the fault shows, a commit included. Never changes what it passes on.

    async with TcpProxy(dsn) as proxy:
        fault = proxy.plan(Way.ANSWER_LOST, lambda statement: "append_flush" in statement.sql)
        ...                      # a client of proxy.dsn
        await fault.met.wait()
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple, Self
from urllib.parse import urlsplit, urlunsplit

_UNANSWERED = (b"P", b"B", b"D", b"E", b"C")  # frames that a client sends ahead of the one that asks for an answer
_READY = b"Z"
_RST = struct.pack("ii", 1, 0)  # SO_LINGER of no time: the other side hears of a reset, not of an orderly end


class Way(enum.Enum):
    """How a statement goes wrong."""

    ANSWER_LOST = "answer lost"
    """The server has answered, the connection is reset before the client hears any of it."""
    ANSWER_TORN = "answer torn"
    """Reset in the middle of the answer."""
    REQUEST_LOST = "request lost"
    """Reset before the server hears of the statement: it never arrives."""
    LATE = "late"
    """Reset for the client; the statement arrives all the same once the fault is let go."""
    STALLED = "stalled"
    """Nothing is reset and nothing moves until the fault is let go: then the statement arrives."""


class Statement(NamedTuple):
    """What a client asks to be executed; ``arguments`` are as on the wire, None for NULL."""

    sql: str
    arguments: tuple[bytes | None, ...] = ()


Matches = Callable[[Statement], bool]


class Fault:
    """One planned fault: what became of it, and the way to let a held statement go."""

    def __init__(self, way: Way, matches: Matches, nth: int) -> None:
        self.way = way
        self.met = asyncio.Event()  # its statement has come by
        self.over = asyncio.Event()  # the server has answered it, or will never get it
        self._released = asyncio.Event()
        self._matches = matches
        self._to_come = nth

    def release(self) -> None:
        """Let the statement go on to the server."""
        self._released.set()

    async def released(self) -> None:
        await self._released.wait()

    def concerns(self, statement: Statement) -> bool:
        """Whether this is the statement; each one may be shown once."""
        if self.met.is_set() or not self._matches(statement):
            return False
        self._to_come -= 1
        if self._to_come:
            return False
        self.met.set()
        return True


class TcpProxy:
    """Listens on a port of this machine; ``dsn`` leads through it."""

    def __init__(self, dsn: str) -> None:
        self._target = urlsplit(dsn)
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._faults: list[Fault] = []
        self._moves = asyncio.Event()
        self._moves.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links.values():
            link.end()
        await asyncio.gather(*self._links)

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def dsn(self) -> str:
        """The server's own DSN but for host and port. Without TLS, for the proxy could not read along."""
        credentials, at, _ = self._target.netloc.rpartition("@")
        netloc = f"{credentials}{at}127.0.0.1:{self.port}"
        return urlunsplit((self._target.scheme, netloc, self._target.path, "sslmode=disable", ""))

    def plan(self, way: Way, matches: Matches, nth: int = 1) -> Fault:
        """Let the ``nth`` statement from now on that matches go wrong, once; one that another plan has met is not
        counted, so that plans made in a row meet statements in a row."""
        fault = Fault(way, matches, nth)
        self._faults.append(fault)
        return fault

    def cut(self) -> None:
        """Reset every connection there is, as a restart of the network's equipment would."""
        for link in self._links.values():
            link.reset()

    def stall(self) -> None:
        """Nothing moves any more on any connection, and none is reset, until `resume`."""
        self._moves.clear()

    def resume(self) -> None:
        self._moves.set()

    def _address(self) -> tuple[str | None, int | None]:
        """Where the server is now."""
        return self._target.hostname, self._target.port

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        # An end of either side is an end of both, and no error of the proxy's.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._moves.wait()
            try:
                server = await asyncio.open_connection(*self._address())
            except OSError:
                _reset(writer)  # nobody listens there: whoever called here must not wait either
                raise
            link = self._links[task] = _Link((reader, writer), server, self._fault_of, self._moves)
            try:
                await link.run()
            finally:
                link.reset()
                del self._links[task]

    def _fault_of(self, statement: Statement) -> Fault | None:
        met = None
        for fault in self._faults:
            if met is None and fault.concerns(statement):
                met = fault
        return met


def _reset(client: asyncio.StreamWriter) -> None:
    if not client.is_closing():
        client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        client.transport.abort()


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection: frames go to and fro, those of a statement with a fault as it says."""

    def __init__(
        self, client: _Ends, server: _Ends, fault_of: Callable[[Statement], Fault | None], moves: asyncio.Event
    ) -> None:
        self._client, self._to_client = client
        self._server, self._to_server = server
        self._fault_of = fault_of
        self._moves = moves
        self._prepared: dict[bytes, str] = {}
        self._statement: Statement | None = None
        self._fault: Fault | None = None  # of the statement that the server is about to answer
        self._directions: list[asyncio.Task[None]] = []

    def end(self) -> None:
        """Reset, also where a statement is held for somebody who has gone."""
        self.reset()
        for direction in self._directions:
            direction.cancel()

    def reset(self) -> None:
        _reset(self._to_client)
        self._to_server.transport.abort()

    async def run(self) -> None:
        await self._introduce()
        self._directions = [asyncio.create_task(self._ask()), asyncio.create_task(self._answer())]
        await asyncio.wait(self._directions, return_when=asyncio.FIRST_COMPLETED)
        for direction in self._directions:
            direction.cancel()
        for outcome in await asyncio.gather(*self._directions, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def _introduce(self) -> None:
        """The first frame has no type: a start-up, or a request to cancel another connection's statement."""
        header = await self._client.readexactly(4)
        self._to_server.write(header + await self._client.readexactly(struct.unpack("!I", header)[0] - 4))

    # ── to the server ───────────────────────────────────────────────────────────────────────────────────

    async def _ask(self) -> None:
        """Frames gather until the client wants an answer; then they go on together, or do not."""
        gathered = bytearray()
        while True:
            kind, frame = await _frame(self._client)
            await self._moves.wait()
            gathered += frame
            self._read_along(kind, frame[5:])
            if kind in _UNANSWERED:
                continue
            statement, self._statement = self._statement, None
            fault = self._fault_of(statement) if statement is not None else None
            if fault is not None:
                await self._ask_under(fault, bytes(gathered))
            else:
                self._to_server.write(gathered)
                await self._to_server.drain()
            gathered = bytearray()

    async def _ask_under(self, fault: Fault, request: bytes) -> None:
        if fault.way is Way.REQUEST_LOST:
            fault.over.set()
            raise ConnectionResetError
        if fault.way is Way.LATE:
            _reset(self._to_client)
        if fault.way in (Way.LATE, Way.STALLED):
            await fault.released()
        self._fault = fault
        self._to_server.write(request)
        # The client may have gone away: the server is to execute the statement before its connection ends.
        await fault.over.wait()

    def _read_along(self, kind: bytes, body: bytes) -> None:
        match kind:
            case b"P":
                name, sql, _ = body.split(b"\0", 2)
                self._prepared[name] = sql.decode()
            case b"B":
                _, name, rest = body.split(b"\0", 2)
                self._statement = Statement(self._prepared[name], _arguments(rest))
            case b"Q":
                self._statement = Statement(body[:-1].decode())

    # ── to the client ───────────────────────────────────────────────────────────────────────────────────

    async def _answer(self) -> None:
        kept = bytearray()
        while True:
            kind, frame = await _frame(self._server)
            await self._moves.wait()
            if self._fault is None:
                self._to_client.write(frame)
                await self._to_client.drain()
                continue
            kept += frame
            if kind == _READY:  # the server has committed
                await self._answer_under(self._fault, bytes(kept))
                kept = bytearray()

    async def _answer_under(self, fault: Fault, answer: bytes) -> None:
        self._fault = None
        fault.over.set()
        if fault.way is Way.ANSWER_TORN:
            self._to_client.write(answer[: len(answer) // 2])
            await self._to_client.drain()
            self._to_client.close()  # in order: what was written arrives before the end
            await self._to_client.wait_closed()
        if fault.way is not Way.STALLED:
            raise ConnectionResetError
        self._to_client.write(answer)
        await self._to_client.drain()


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A frame's type, and the whole frame."""
    header = await reader.readexactly(5)
    return header[:1], header + await reader.readexactly(struct.unpack("!I", header[1:])[0] - 4)


def _arguments(body: bytes) -> tuple[bytes | None, ...]:
    """Of a Bind frame, from its parameters' formats on."""
    (formats,) = struct.unpack_from("!H", body)
    at = 2 + 2 * formats
    (count,) = struct.unpack_from("!H", body, at)
    at += 2
    arguments: list[bytes | None] = []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", body, at)
        at += 4
        arguments.append(body[at : at + size] if size >= 0 else None)
        at += max(size, 0)
    return tuple(arguments)
