"""The network of a run of chaos: what stalls goes on where it stopped, and where nobody listens nobody waits."""

from __future__ import annotations

import asyncio
import struct

import pytest

from tests.support.server import free_port
from tests.support.tcp_proxy import TcpProxy

STARTUP = struct.pack("!II", 8, 196_608)
QUERY = b"Q" + struct.pack("!I", 4 + 9) + b"SELECT 1\0"
READY = b"Z" + struct.pack("!I", 5) + b"I"
MOMENT_S = 0.2
PATIENCE_S = 20.0


class Listener:
    """Answers every query that it is ready, and counts them."""

    def __init__(self) -> None:
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(STARTUP))
        while await reader.read(len(QUERY)):
            self.asked += 1
            writer.write(READY)
        writer.close()


async def has_come(answer: asyncio.Task[bytes]) -> bool:
    """Waits a moment for it."""
    done, _ = await asyncio.wait({answer}, timeout=MOMENT_S)
    return bool(done)


async def test_nothing_moves_while_it_stalls_and_everything_afterwards() -> None:
    """Neither on a connection that stands, nor on one that is made meanwhile; none of them is reset."""
    listener = Listener()
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, TcpProxy(f"postgresql://127.0.0.1:{port}/shop") as proxy, asyncio.timeout(PATIENCE_S):
        old = await asyncio.open_connection("127.0.0.1", proxy.port)
        old[1].write(STARTUP + QUERY)
        assert await old[0].readexactly(len(READY)) == READY
        proxy.stall()
        new = await asyncio.open_connection("127.0.0.1", proxy.port)
        old[1].write(QUERY)
        new[1].write(STARTUP + QUERY)
        answers = [asyncio.create_task(reader.readexactly(len(READY))) for reader, _ in (old, new)]
        assert [await has_come(answer) for answer in answers] == [False, False]
        assert listener.asked == 1
        proxy.resume()
        assert await asyncio.gather(*answers) == [READY, READY]
        for _, writer in (old, new):
            writer.close()


async def test_where_nobody_listens_a_caller_is_reset() -> None:
    """Postgres is away: its clients hear so at once, as they would without a proxy."""
    async with TcpProxy(f"postgresql://127.0.0.1:{free_port()}/shop") as proxy, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
