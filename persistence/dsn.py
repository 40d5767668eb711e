"""A DSN and its password, apart.

Owns the knowledge of where a DSN may hold a password. Promises that what is left still says everything else.
Called by whoever passes a DSN on to where others can read it. Opens nothing.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit


def split_password(dsn: str) -> tuple[str, str | None]:
    """The DSN without its password, and the password; one that holds none stays as it is."""
    parts = urlsplit(dsn)
    credentials, at, hosts = parts.netloc.partition("@") if "@" in parts.netloc else ("", "", parts.netloc)
    user, _, quoted = credentials.partition(":")
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    # As asyncpg reads it: before the host, else among the parameters, and there the last.
    password = unquote(quoted) or dict(parameters).get("password")
    if not password:
        return dsn, None
    query = urlencode([pair for pair in parameters if pair[0] != "password"], quote_via=quote)
    bare = f"{parts.scheme}://{user}{at}{hosts}{parts.path}"
    return f"{bare}?{query}" if query else bare, password
