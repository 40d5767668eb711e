"""When an API is called hung, with servers that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from cluster import api_watch
from cluster.api_watch import HUNG_LOOKS, ApiEye
from tests.support.virtual_time import idle

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_watch, "LOOK_S", 0.05)


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await idle()  # both ends let go of what was closed


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until whoever asked has gone
    writer.close()


class Moody:
    """It answers, until it stands still."""

    def __init__(self) -> None:
        self.still = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            if not self.still:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()


async def looks(eye: ApiEye, times: int) -> bool:
    """Whether it is hung after so many more."""
    for _ in range(times):
        await eye.look()
    return eye.hung


async def test_who_has_answered_and_says_nothing_for_some_looks_in_a_row_is_hung() -> None:
    api = Moody()
    async with served(api) as url:
        eye = ApiEye(url)
        assert not await looks(eye, 1)
        api.still = True
        assert not await looks(eye, HUNG_LOOKS - 1)
        api.still = False
        assert not await looks(eye, 1)
        api.still = True
        assert not await looks(eye, HUNG_LOOKS - 1), "it has answered in between"
        assert await looks(eye, 1)
        eye.close()


@pytest.mark.parametrize("serve", [answers, hangs_up])
async def test_who_answers_anything_is_not_hung(serve: Serve) -> None:
    async with served(serve) as url:
        eye = ApiEye(url)
        assert not await looks(eye, 2 * HUNG_LOOKS)
        eye.close()


async def test_who_has_never_taken_our_connection_may_have_too_many() -> None:
    """Of its clients, who are served."""
    async with served(says_nothing) as url:
        eye = ApiEye(url)
        assert not await looks(eye, 2 * HUNG_LOOKS)
        eye.close()


async def test_a_port_where_nobody_is_is_not_hung() -> None:
    """Whoever should be there has died, and is started again for that."""
    async with served(answers) as url:
        pass
    assert not await looks(ApiEye(url), 2 * HUNG_LOOKS)
