"""Postgres 18 in a data directory, for machines that have none: the default of `lastunit up`.

`server.py` owns the process, `cluster.py` the files, `child_process.py` is what the process was before it
became Postgres. Called by the supervisor and by tests. Blocking throughout: not for an event loop. Never
touches a table.
"""

from persistence.embedded.cluster import EmbeddedPostgresError
from persistence.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
