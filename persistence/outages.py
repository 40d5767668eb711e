"""Errors that mean "Postgres cannot serve now": whoever may ask again waits and does.

Any other error of Postgres is a fault of ours that waiting does not mend, and is raised.
"""

from __future__ import annotations

from typing import Final

import asyncpg

OUTAGES: Final[tuple[type[Exception], ...]] = (
    asyncpg.PostgresConnectionError,  # the connection broke, or Postgres refused one
    asyncpg.OperatorInterventionError,  # it is starting, stopping, or was told to end our statement
    asyncpg.InsufficientResourcesError,  # of connections, memory or disk, until somebody gives some back
    asyncpg.TransactionRollbackError,  # the victim of a deadlock, say: its statement may be tried again
    asyncpg.InterfaceError,  # asyncpg's own word for a connection or pool that is closed
    asyncpg.InternalClientError,  # a connection that broke while it was handed back to its pool
    OSError,  # nobody listens, or nobody answers in time: TimeoutError is one
)

# A host that takes a connection and says nothing is tried again soon: the next attempt may well succeed.
CONNECT_S: Final = 5.0
