"""What all tests share: one embedded Postgres a session, a database of its own for each test that asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import hypothesis
import pytest
import pytest_asyncio

from persistence.embedded import EmbeddedPostgres

pytest_plugins = ("tests.support.server",)

# How long one example takes says more about the machine than about the code.
hypothesis.settings.register_profile("lastunit", deadline=None)
hypothesis.settings.load_profile("lastunit")


def dsn_of(server_dsn: str, name: str) -> str:
    """The DSN of another database on the same server."""
    return f"{server_dsn.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="session")
def postgres_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server, as `lastunit up` starts it."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("embedded")) as server:
        yield server.dsn


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_template(postgres_dsn: str) -> str:
    """The name of a database with every migration applied, to be copied. Nobody may stay connected to it."""
    from persistence.migrations_runner import migrate

    name = "migrated"
    await _execute(postgres_dsn, f"CREATE DATABASE {name}")
    await migrate(dsn_of(postgres_dsn, name))
    return name


@pytest_asyncio.fixture
async def database(postgres_dsn: str, migrated_template: str) -> AsyncIterator[str]:
    """The DSN of a fresh, migrated database, dropped after the test with whoever is still connected."""
    name = f"test_{uuid4().hex}"
    await _execute(postgres_dsn, f"CREATE DATABASE {name} TEMPLATE {migrated_template}")
    yield dsn_of(postgres_dsn, name)
    await _execute(postgres_dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
