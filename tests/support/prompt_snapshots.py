"""Snapshots without the wait: for tests in which generations, rest and cuts have to come about in a few flushes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from actors import shard_memory, snapshots


@contextmanager
def prompt_snapshots() -> Iterator[None]:
    """Entities are written by the flushes that follow their change; nothing is left alone for a while first."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(snapshots, "WAIT_MS", 0)
        monkeypatch.setattr(shard_memory, "SLICE", 1)  # others go on between any two
        yield
