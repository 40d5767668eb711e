"""A base backup and the archived WAL: a shop whose only disk is gone is restored to a point in time, and sells on.

The backup is taken by pg_basebackup while the real engine sells; the archive is filled by Postgres itself. Nothing of
the server that made them is left when a copy is restored.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
import pytest_asyncio

from cluster import directory
from persistence.embedded import EmbeddedPostgresError
from tests.support.engine_facts import assert_consistent, moved, sold
from tests.support.engine_harness import engine
from tests.support.postgres_pair import Postgres, archiving_to
from tests.support.server import eventually
from tests.support.unending_sale import SKU, Answers, bought_again, order_ids, unending_sale


class History(NamedTuple):
    """What was kept of a shop, and the answers that its buyers were given, by key, until certain moments.

    `at_rest` is a named restore point, set when no order was under way, and lies in the file `segment` of the archive.
    `in_mid_sale` is a time, read while buyers bought: those in `by_then` had their answers by then, those in
    `afterwards` asked later.
    """

    backup: Postgres
    archive: Path
    at_rest: str
    segment: str
    before: Answers
    in_mid_sale: str
    by_then: Answers
    afterwards: Answers
    all: Answers
    namespace: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def history(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[History]:
    folder = tmp_path_factory.mktemp("backup")
    server = await Postgres.create(folder / "data")
    archive = folder / "archive"
    archive.mkdir()
    server.give(archive)
    server.configure(**archiving_to(archive))
    server.start()
    try:
        yield await _history(server, folder / "backup", archive)
    finally:
        server.end()


async def _history(server: Postgres, backup_dir: Path, archive: Path) -> History:
    async with engine(server.dsn, latency_ms="1-10") as e:
        namespace = await directory.claim_namespace(e.pool)
        await e.shelve({SKU: 10_000})
        async with unending_sale(e, "early") as sale:
            await sale.answered(10)
            backup = await asyncio.to_thread(server.base_backup, backup_dir)
            await sale.answered(10)
            before = await sale.close()
            await e.settled()
        point = "SELECT pg_walfile_name(pg_create_restore_point('at rest'))"
        segment = await server.value(point, database="postgres")
        async with unending_sale(e, "middle") as sale:
            by_then = before | await sale.answered(10)
            in_mid_sale = await server.value("SELECT clock_timestamp()::text")
            async with unending_sale(e, "late") as late:
                await late.answered(10)
                afterwards = await late.close()
            everything = before | await sale.close() | afterwards
        await e.settled()
    await _archive_all(server)
    server.lose_disk()
    return History(backup, archive, "at rest", segment, before, in_mid_sale, by_then, afterwards, everything, namespace)


async def _archive_all(server: Postgres) -> None:
    segment = await server.value("SELECT pg_walfile_name(pg_switch_wal())", database="postgres")

    async def is_archived() -> bool:
        last = await server.value("SELECT last_archived_wal FROM pg_stat_archiver")
        return last is not None and last >= segment

    await eventually(is_archived, f"{segment} in the archive")


@contextmanager
def restored(history: History, folder: Path, **target: str) -> Iterator[Postgres]:
    """A copy of the base backup, started to recover as far as the target says."""
    copy = history.backup.copied(folder / "restored")
    try:
        copy.recover_from(history.archive, **target)
        yield copy
    finally:
        copy.end()


@pytest.fixture(scope="module")
def whole(history: History, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A copy restored from all that there is, in which nobody sells."""
    with restored(history, tmp_path_factory.mktemp("whole")) as server:
        yield server


async def stored_orders(server: Postgres) -> set[str]:
    return set(await server.value("SELECT coalesce(array_agg(order_id), '{}') FROM orders"))


async def sells_on(server: Postgres, kept: Answers, lost: Answers) -> None:
    """An engine recovers there. Who is in the copy is told the same again, who is not can buy anew; everybody has paid
    once, as the book of the sandbox in the same database knows, and the audit finds nothing."""
    async with engine(server.dsn) as e:
        await e.settled()
        await assert_consistent(e)
        assert await bought_again(e, kept) == kept
        assert order_ids(await bought_again(e, lost)).isdisjoint(order_ids(kept))
        await e.settled()
        orders = await e.pool.fetchval("SELECT count(*) FROM orders")
        assert await sold(e, SKU) == (orders, 0)
        assert await moved(e) == {"authorization": orders, "capture": orders}
        await assert_consistent(e)


# ── to a point in time ──────────────────────────────────────────────────────────────────────────────────


async def test_a_named_point_restores_the_orders_acknowledged_before_it_and_no_other(
    history: History, tmp_path: Path
) -> None:
    with restored(history, tmp_path, recovery_target_name=history.at_rest) as server:
        assert await stored_orders(server) == order_ids(history.before)
        lost = {key: answer for key, answer in history.all.items() if key not in history.before}
        await sells_on(server, history.before, lost)


async def test_a_time_in_mid_sale_restores_what_was_acknowledged_by_then(history: History, tmp_path: Path) -> None:
    """And nothing that was asked for later. Of the orders under way at that time some are there; their sagas end."""
    with restored(history, tmp_path, recovery_target_time=history.in_mid_sale) as server:
        found = await stored_orders(server)
        assert order_ids(history.by_then) <= found
        assert found.isdisjoint(order_ids(history.afterwards))
        await sells_on(server, history.by_then, history.afterwards)


async def test_without_a_point_everything_that_was_archived_is_restored(history: History, whole: Postgres) -> None:
    assert await stored_orders(whole) == order_ids(history.all)


async def test_a_restored_copy_is_the_same_installation_until_it_is_told_otherwise(
    history: History, whole: Postgres
) -> None:
    """It takes the place of what was lost. One that runs beside the original is told that it is at home elsewhere: then
    the actors of the original refuse it."""
    async with asyncpg.create_pool(whole.dsn, min_size=1, max_size=1) as pool:
        assert await directory.claim_namespace(pool) == history.namespace
        await pool.execute("UPDATE installation SET home = 'a copy'")
        assert await directory.claim_namespace(pool) != history.namespace


# ── what is not whole ───────────────────────────────────────────────────────────────────────────────────


def test_a_hole_in_the_archive_is_an_error_and_no_earlier_state(history: History, tmp_path: Path) -> None:
    """The server does not start, rather than serve what there was before the hole."""
    holed = tmp_path / "archive"
    shutil.copytree(history.archive, holed)
    (holed / history.segment).unlink()
    with (
        pytest.raises(EmbeddedPostgresError, match="recovery ended before configured recovery target was reached"),
        restored(history._replace(archive=holed), tmp_path, recovery_target_name=history.at_rest),
    ):
        pass
