"""What stands behind a port in its contract's tests: memory, and the embedded Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateways.sandbox import Sandbox
from gateways.sandbox_book import Book, MemoryBook
from persistence.sandbox_book import SandboxBook


@pytest.fixture(params=["memory", "postgres"])
def dsn(request: pytest.FixtureRequest) -> str | None:
    """A fresh database, or None for memory."""
    return request.getfixturevalue("database") if request.param == "postgres" else None


@pytest.fixture
async def book(dsn: str | None) -> AsyncIterator[Book]:
    if dsn is None:
        yield MemoryBook()
        return
    async with asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool:
        yield SandboxBook(pool)


@pytest.fixture
async def sandbox(book: Book) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(book, no_answer_after_s=0)
    yield sandbox
    await sandbox.close()
