"""Columns of values as one text each, for the functions of migration 0008, which part them again.

Owns the form. The driver looks at each element of an array, whether it is an array itself: that was a tenth of the
processor time of whoever writes orders.
"""

from __future__ import annotations

from collections.abc import Sequence

# Control characters: JSON escapes them, and no id has them.
SEPARATOR = "\x1f"
ABSENT = "\x1e"


class Unwritable(ValueError):
    """A text has one of the two characters in it, and would be read back as something else."""


def texts(column: Sequence[str]) -> str:
    """Each with the separator before it; none at all are the empty text. Raises `Unwritable`."""
    return _joined(column, absent=0)


def texts_or_none(column: Sequence[str | None]) -> str:
    """The same where some may be missing."""
    return _joined([ABSENT if text is None else text for text in column], absent=column.count(None))


def _joined(column: Sequence[str], absent: int) -> str:
    if not column:
        return ""
    joined = SEPARATOR + SEPARATOR.join(column)
    if joined.count(SEPARATOR) != len(column) or joined.count(ABSENT) != absent:
        raise Unwritable("a text has a control character in it that parts texts")
    return joined


def numbers(column: Sequence[int]) -> str:
    """Whole numbers, or truth values, as Postgres writes an array of them."""
    return "{" + str(list(column))[1:-1] + "}"
