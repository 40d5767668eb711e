"""`lastunit up` whose processes reach their own embedded Postgres by way of a proxy, on the port that is given.

Everything else is `lastunit up` itself: the supervisor starts, watches and restarts Postgres. It ends with the run
of chaos that started it, however that ends. Run as `python -m tests.chaos.proxied_up up …`.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit, urlunsplit

import cli
from cluster.lifeline import end_with_parent
from persistence import embedded

PORT_VARIABLE = "CHAOS_POSTGRES_PORT"


class ProxiedPostgres(embedded.EmbeddedPostgres):
    """Known to everybody by the proxy's address."""

    @property
    def dsn(self) -> str:
        """Without TLS, for the proxy could not read along."""
        own = urlsplit(super().dsn)
        netloc = f"{own.netloc.rpartition(':')[0]}:{os.environ[PORT_VARIABLE]}"
        return urlunsplit((own.scheme, netloc, own.path, "sslmode=disable", ""))


if __name__ == "__main__":
    end_with_parent()
    embedded.EmbeddedPostgres = ProxiedPostgres  # type: ignore[misc]
    cli.app()
