"""Columns as one text each: what cannot be told apart afterwards is refused before."""

from __future__ import annotations

import pytest

from persistence.columns import ABSENT, SEPARATOR, Unwritable, texts, texts_or_none


@pytest.mark.parametrize("text", [SEPARATOR, ABSENT, f"a{SEPARATOR}b", f"{ABSENT}a"])
@pytest.mark.parametrize("form", [texts, texts_or_none])
def test_a_text_that_would_be_read_as_something_else_is_refused(form, text: str) -> None:
    with pytest.raises(Unwritable):
        form(["before", text, "after"])


def test_a_missing_text_and_a_text_that_looks_like_it_do_not_make_up_for_each_other() -> None:
    with pytest.raises(Unwritable):
        texts_or_none([None, ABSENT])
