"""Columns as one text each: Postgres reads back what was meant, whatever it is."""

from __future__ import annotations

import asyncio

import asyncpg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from persistence.columns import numbers, texts, texts_or_none

TEXT = st.text(st.characters(exclude_characters="\x00\x1e\x1f", codec="utf-8"), max_size=20)
READ = "SELECT parts($1), parts($2), $3::text::bigint[], $4::text::boolean[]"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(rows=st.lists(st.tuples(TEXT, st.none() | TEXT, st.integers(-(2**63), 2**63 - 1), st.booleans())))
@example(rows=[("", None, 0, True)])
@example(rows=[("NULL", "{}", 1, False), (',"', "\\", -1, True)])
@example(rows=[])
def test_what_is_joined_is_parted_as_it_was(database: str, rows: list[tuple[str, str | None, int, bool]]) -> None:
    sure, maybe = [row[0] for row in rows], [row[1] for row in rows]
    integers, truths = [row[2] for row in rows], [row[3] for row in rows]

    async def read() -> list[object]:
        connection = await asyncpg.connect(database)
        try:
            columns = texts(sure), texts_or_none(maybe), numbers(integers), numbers(truths)
            return list(await connection.fetchrow(READ, *columns))
        finally:
            await connection.close()

    assert asyncio.run(read()) == [sure, maybe, integers, truths]
