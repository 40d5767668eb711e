"""Reading entities that have left memory: patiently, and so that a damaged one concerns nobody else."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from actors.contracts import Journal
from actors.patience import patiently
from domain.messages import Key
from persistence.journal import Corrupt, Snapshot

log = structlog.get_logger()


async def read_entities(journal: Journal, shard: str, keys: Sequence[Key]) -> tuple[list[Snapshot], set[Key]]:
    """Those of the entities that are stored, and the keys of those that are damaged."""
    if not keys:
        return [], set()
    try:
        return await patiently(shard, lambda: journal.entities(shard, keys)), set()
    except Corrupt as error:
        if len(keys) == 1:
            log.error("entity damaged", shard=shard, error=str(error))
            return [], set(keys)
    found, damaged = list[Snapshot](), set[Key]()
    for key in keys:
        one, broken = await read_entities(journal, shard, [key])
        found += one
        damaged |= broken
    return found, damaged
