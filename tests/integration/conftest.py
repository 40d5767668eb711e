"""Fixtures of the tests that talk to a running server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.client import Client
from tests.support.server import Server


@pytest.fixture(scope="session")
def shop(server: Server) -> Iterator[Client]:
    """A client of the shared server."""
    client = Client(server)
    yield client
    client.close()


@pytest.fixture(scope="module")
def server_of_its_own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that this module's tests may kill, started with the settings that the module names in `SERVER`."""
    with Server(tmp_path_factory.mktemp("own") / "data", **request.module.SERVER) as server:
        yield server


@pytest.fixture
def client(server_of_its_own: Server) -> Iterator[Client]:
    """A client of the module's own server."""
    client = Client(server_of_its_own)
    yield client
    client.close()
