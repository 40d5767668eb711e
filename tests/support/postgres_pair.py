"""Real Postgres servers that copy each other: a primary and its standby, a base backup, a restored copy.

Owns the servers that it starts; each is the embedded one, on a data directory of its own, with more lines in its
postgresql.conf. Promises that none of their processes outlives the `with` that they were started in, stopped ones
(SIGSTOP) and killed ones included. What it does to them an operator would do: pg_basebackup, pg_ctl, files, signals.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import psutil

from persistence.embedded import EmbeddedPostgres
from persistence.embedded.cluster import DATABASE, ROLE, Access, Cluster, free_port
from persistence.migrations_runner import migrate
from tests.support.databases import dsn_of
from tests.support.server import eventually, wait_until

STANDBY: Final = "standby"  # the name by which the primary knows it

# What the embedded server's role may not do. One statement a line; functions are granted in the database "postgres".
_MAY_REPLICATE: Final = f"""\
ALTER ROLE {ROLE} REPLICATION;
GRANT EXECUTE ON FUNCTION pg_create_restore_point(text), pg_switch_wal() TO {ROLE};
"""
_HBA: Final = f"host replication {ROLE} 127.0.0.1/32 scram-sha-256\n"


class Postgres:
    """One server, running or not. Whoever starts it calls `end`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.directory = data_dir / "postgres"
        self._cluster = Cluster(data_dir)
        self._server = EmbeddedPostgres(data_dir)

    @classmethod
    async def create(cls, data_dir: Path) -> Postgres:
        """A new cluster with a migrated database, not running, whose role may replicate."""
        with EmbeddedPostgres(data_dir) as server:
            await migrate(server.dsn)
        created = cls(data_dir)
        created._cluster._run_sql(created.directory, _MAY_REPLICATE)
        created._add("pg_hba.conf", _HBA)
        return created

    # ── its life ────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> str:
        """The DSN, once it takes connections; a standby takes them for reading."""
        return self._server.start()

    def kill(self) -> None:
        """`kill -9` of the postmaster and of everything it has started."""
        postmaster = self._server.pid
        for process in sorted(self._server._processes(), key=lambda each: each.pid != postmaster):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        wait_until(lambda: not self._server._processes(), "the end of a killed server")

    def end(self) -> None:
        """Leave no process behind, and do not wait for any: an orderly end would wait for a standby that is stopped."""
        self.kill()
        self._server.stop()

    def lose_disk(self) -> None:
        """The server and its files are gone, all at once."""
        self.end()
        shutil.rmtree(self.data_dir)

    # ── asking it ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def access(self) -> Access:
        return self._cluster.prepare()

    @property
    def dsn(self) -> str:
        return self.access.dsn

    async def value(self, query: str, *arguments: Any, database: str = DATABASE) -> Any:
        connection = await asyncpg.connect(dsn_of(self.dsn, database))
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    async def waiting_for_standby(self) -> int:
        """How many commits are written here and wait until the standby has them."""
        found: int = await self.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        return found

    # ── what operators do to it ─────────────────────────────────────────────────────────────────────────

    def configure(self, **settings: str) -> None:
        """For the next start. The last word on a setting counts."""
        self._add("postgresql.conf", "".join(f"{name} = '{value}'\n" for name, value in settings.items()))

    def base_backup(self, data_dir: Path) -> Postgres:
        """A copy of the running server's files, taken by pg_basebackup, without the WAL. Blocks."""
        copy = self._beside(data_dir)
        source = f"--dbname={dsn_of(self.dsn, '')}"
        arguments = [f"--pgdata={copy.directory}", "--checkpoint=fast", "--wal-method=none", source]
        self._cluster._run("pg_basebackup", arguments, copy.directory)
        return copy

    def copied(self, data_dir: Path) -> Postgres:
        """A copy of the files of a server that does not run."""
        copy = self._beside(data_dir)
        subprocess.run(["cp", "-a", f"{self.directory}/.", str(copy.directory)], check=True)
        return copy

    def recover_from(self, archive: Path, **target: str) -> None:
        """Start as the restored copy of a base backup, of which `target` says how far to go; it archives nothing.

        Returns when it takes writes. EmbeddedPostgresError: the archive does not lead to the target.
        """
        self.configure(
            archive_mode="off",
            restore_command=f"cp {archive}/%f %p",
            recovery_target_action="promote",
            hot_standby="off",  # or it would take connections before it is there
            **target,
        )
        self._add("recovery.signal", "")
        self.start()

    def follow(self, primary: Postgres) -> None:
        """Start as the standby of that server, of which this is a copy. Once promoted, it waits for no standby."""
        access = primary.access
        source = f"host=127.0.0.1 port={access.port} user={ROLE} password={access.password} application_name={STANDBY}"
        self.configure(primary_conninfo=source, synchronous_standby_names="")
        self._add("standby.signal", "")
        self.start()

    def promote(self) -> None:
        """Make a standby the primary; returns when it takes writes."""
        self._cluster._run("pg_ctl", ["promote", "--wait", f"--pgdata={self.directory}"], self.directory)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """A standby whose walreceiver is stopped: nothing arrives until the end of the `with`, or ever if it dies."""
        receiver = self._walreceiver()
        receiver.suspend()
        wait_until(lambda: receiver.status() == psutil.STATUS_STOPPED, "a stopped walreceiver")
        try:
            yield
        finally:
            if receiver.is_running():
                receiver.resume()

    def _walreceiver(self) -> psutil.Process:
        found: list[psutil.Process] = wait_until(
            lambda: [each for each in self._server._processes() if "walreceiver" in " ".join(each.cmdline())],
            "a walreceiver",
        )
        return found[0]

    def _beside(self, data_dir: Path) -> Postgres:
        """An empty cluster directory of the same owner, with a port of its own and the same password."""
        copy = Postgres(data_dir)
        copy.directory.mkdir(mode=0o700, parents=True)
        data_dir.chmod(0o711)
        self.give(copy.directory)
        copy._cluster.save(replace(self.access, port=free_port()))
        return copy

    def give(self, path: Path) -> None:
        """Make a file or a directory the server's."""
        owner = self.directory.stat()
        os.chown(path, owner.st_uid, owner.st_gid)

    def _add(self, name: str, lines: str) -> None:
        with (self.directory / name).open("a") as file:
            file.write(lines)
        self.give(self.directory / name)


def archiving_to(archive: Path) -> dict[str, str]:
    """Settings of a server that archives its WAL: a segment appears there whole and flushed, or not at all."""
    return {
        "archive_mode": "on",
        "archive_command": f"test ! -f {archive}/%f && cp %p {archive}/%f.new && sync {archive}/%f.new"
        f" && mv {archive}/%f.new {archive}/%f && sync {archive}",
    }


class Pair(NamedTuple):
    """A primary and the standby that streams from it."""

    primary: Postgres
    standby: Postgres

    @property
    def dsn(self) -> str:
        """Of both: whoever connects gets the one that takes writes."""
        primary, standby = self.primary.access, self.standby.access
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        return f"postgresql://{ROLE}:{primary.password}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    async def attached(self) -> None:
        """Wait until the standby streams."""
        streams = "SELECT count(*) FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming'"

        async def is_streaming() -> bool:
            return await self.primary.value(streams, STANDBY) == 1

        await eventually(is_streaming, "a streaming standby")


@asynccontextmanager
async def postgres_pair(pristine: Postgres, folder: Path, *, synchronous: bool = True) -> AsyncIterator[Pair]:
    """Two copies of `pristine`, the second the standby of the first. With `synchronous` no commit returns before both
    have flushed it; without, the standby follows when it can."""
    pair = Pair(pristine.copied(folder / "primary"), pristine.copied(folder / "standby"))
    try:
        pair.primary.configure(synchronous_standby_names=STANDBY if synchronous else "")
        pair.primary.start()
        pair.standby.follow(pair.primary)
        await pair.attached()
        yield pair
    finally:
        pair.primary.end()
        pair.standby.end()
