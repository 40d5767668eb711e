"""When an API is called hung, with servers that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from cluster import api_watch
from cluster.api_watch import HUNG_LOOKS, ApiEye

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_watch, "LOOK_S", 0.05)


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def stands_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until whoever asked has gone
    writer.close()


async def is_busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    writer.close()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def _is_hung(eye: ApiEye) -> bool:
    return eye.hung


async def test_who_says_nothing_for_some_looks_in_a_row_is_hung() -> None:
    eye = ApiEye()
    async with served(stands_still) as url:
        for _ in range(HUNG_LOOKS - 1):
            await eye.look(url)
        assert not _is_hung(eye)
        async with served(is_busy) as other:
            await eye.look(other)
        for _ in range(HUNG_LOOKS - 1):
            await eye.look(url)
        assert not _is_hung(eye), "it has answered in between"
        await eye.look(url)
    assert _is_hung(eye)
    eye.forgive()
    assert not _is_hung(eye)


@pytest.mark.parametrize("serve", [is_busy, hangs_up])
async def test_who_answers_anything_is_not_hung(serve: Serve) -> None:
    eye = ApiEye()
    async with served(serve) as url:
        for _ in range(HUNG_LOOKS):
            await eye.look(url)
    assert not _is_hung(eye)


async def test_a_port_where_nobody_is_is_not_hung() -> None:
    """Whoever should be there has died, and is started again for that."""
    eye = ApiEye()
    async with served(is_busy) as url:
        pass
    for _ in range(HUNG_LOOKS):
        await eye.look(url)
    assert not _is_hung(eye)
