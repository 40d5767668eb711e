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
