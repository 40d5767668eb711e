"""Named SQL: each statement stands in a commented file of its name, read once."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def sql(name: str) -> str:
    """The statement in ``name.sql``."""
    return files(__package__).joinpath(f"{name}.sql").read_text()
