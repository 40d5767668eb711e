"""What all tests share: one embedded Postgres a session, a database of its own for each test that asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
import pytest_asyncio

from persistence.embedded import EmbeddedPostgres
from tests.support.databases import copied, dsn_of, execute
from tests.support.prompt_snapshots import prompt_snapshots

pytest_plugins = ("tests.support.server",)

# How long one example takes says more about the machine than about the code.
hypothesis.settings.register_profile("lastunit", deadline=None)
hypothesis.settings.load_profile("lastunit")


@pytest.fixture(scope="module")
def written_at_once() -> Iterator[None]:
    """Snapshots without the wait, for a whole module."""
    with prompt_snapshots():
        yield


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
    await execute(postgres_dsn, f"CREATE DATABASE {name}")
    await migrate(dsn_of(postgres_dsn, name))
    return name


@pytest_asyncio.fixture
async def database(postgres_dsn: str, migrated_template: str) -> AsyncIterator[str]:
    """The DSN of a fresh, migrated database, dropped after the test with whoever is still connected."""
    async with copied(postgres_dsn, migrated_template) as name:
        yield dsn_of(postgres_dsn, name)
