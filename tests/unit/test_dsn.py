"""A DSN without its password says everything else that it said."""

from __future__ import annotations

import pytest

from persistence.dsn import split_password


@pytest.mark.parametrize(
    ("dsn", "bare", "password"),
    [
        ("postgresql://ada:secret@db:5432/shop", "postgresql://ada@db:5432/shop", "secret"),
        ("postgresql://ada:p%40ss%3Aword@db/shop", "postgresql://ada@db/shop", "p@ss:word"),
        ("postgresql://ada:secret@a:1,b:2/shop?ssl=on", "postgresql://ada@a:1,b:2/shop?ssl=on", "secret"),
        ("postgres://ada@db/shop?password=s%26t&sslmode=require", "postgres://ada@db/shop?sslmode=require", "s&t"),
        ("postgresql:///shop?host=/run/pg&password=secret", "postgresql:///shop?host=%2Frun%2Fpg", "secret"),
        ("postgresql://ada:first@db/shop?password=second", "postgresql://ada@db/shop", "first"),
        ("postgresql://ada@db/shop", "postgresql://ada@db/shop", None),
        ("postgresql:///shop?passfile=/etc/shop.pgpass", "postgresql:///shop?passfile=/etc/shop.pgpass", None),
    ],
)  # fmt: skip
def test_a_password_is_taken_out_of_a_dsn(dsn: str, bare: str, password: str | None) -> None:
    assert split_password(dsn) == (bare, password)
