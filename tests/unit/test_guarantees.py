"""docs/guarantees.md names only tests that exist, and every public bug that has a regression test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+(?:\.py)?(?:::\w+)?)`", PAGE.read_text())))


@pytest.mark.parametrize("name", NAMED)
def test_what_the_page_names_exists(name: str) -> None:
    path, _, test = name.partition("::")
    assert (ROOT / path).exists()
    if test:
        tree = ast.parse((ROOT / path).read_text())
        named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert test in named | assigned


def test_every_bug_that_has_a_case_is_on_the_page() -> None:
    """A case is named after its bug: `test_<project>_<number>_…`."""
    cases = re.compile(r"def test_[a-z0-9_]*?_(\d{3,6})_")
    numbers = {n for path in (ROOT / "tests/regressions").glob("test_*.py") for n in cases.findall(path.read_text())}
    assert numbers
    assert numbers <= set(re.findall(r"^\| [\w-]+#(\d+)", PAGE.read_text(), re.MULTILINE))
