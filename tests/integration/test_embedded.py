"""The embedded Postgres: durable, alone on its data directory, and back after whatever was killed."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import pytest

from persistence.embedded import EmbeddedPostgres, EmbeddedPostgresError, cluster

ROOT = Path(__file__).parents[2]

# Another process that owns a server, and then does nothing until it is killed.
OWNER = """
import sys
from pathlib import Path
from persistence.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
print(server.start(), server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that was started once, and stopped. Only to be copied, for initdb takes long."""
    data_dir = tmp_path_factory.mktemp("pristine") / "data"
    with EmbeddedPostgres(data_dir):
        return data_dir


def copied(pristine: Path, data_dir: Path) -> Path:
    subprocess.run(["cp", "-a", str(pristine), str(data_dir)], check=True)
    return data_dir


@pytest.fixture
def data_dir(pristine: Path, tmp_path: Path) -> Path:
    return copied(pristine, tmp_path / "data")


@pytest.fixture(scope="module")
def shared_dir(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(pristine, tmp_path_factory.mktemp("shared") / "data")


@pytest.fixture(scope="module")
def shared(shared_dir: Path) -> Iterator[EmbeddedPostgres]:
    """A server for tests that leave it as it was."""
    with EmbeddedPostgres(shared_dir) as server:
        yield server


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(data_dir) as server:
        yield server


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def value(dsn: str, query: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def processes_of(data_dir: Path) -> list[int]:
    """Postgres processes that work in this data directory's cluster; zombies are not counted."""
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == "postgres" and Path(process.cwd()).is_relative_to(data_dir):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def as_user(dsn: str, user: str, password: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}"))


async def test_the_server_is_a_durable_postgres_18(shared: EmbeddedPostgres) -> None:
    """What an acknowledged order rests on is switched on, and nobody else's machine can connect."""
    expected = {
        "data_checksums": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "listen_addresses": "127.0.0.1",
        "server_encoding": "UTF8",
        "server_version": shared.version,
        "is_superuser": "off",
    }
    shown = {name: await value(shared.dsn, f"SHOW {name}") for name in expected}
    assert shown == expected
    assert shared.version.startswith("18.")
    locale = "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = current_database()"
    assert await value(shared.dsn, locale) == "bC.UTF-8"


async def test_a_commit_survives_kill_9_of_the_postmaster(server: EmbeddedPostgres, data_dir: Path) -> None:
    """The same object starts again on the same port, and the row is there."""
    dsn, killed = server.dsn, server.pid
    await execute(dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: not server.running)
    assert server.start() == dsn
    assert server.pid not in (None, killed)
    assert await value(dsn, "SELECT n FROM kept") == 7
    server.stop()
    assert processes_of(data_dir) == []


async def test_a_server_that_does_nothing_any_more_is_known_and_started_again(server: EmbeddedPostgres) -> None:
    """Its postmaster lives, but whoever would serve or recover has ended and is not replaced."""
    assert not server.stuck
    dsn, postmaster = server.dsn, psutil.Process(server.pid)
    postmaster.suspend()  # so that it replaces nobody
    next(child for child in postmaster.children() if "walwriter" in child.cmdline()[0]).kill()
    wait_for(lambda: server.stuck)
    assert server.running
    assert server.restart() == dsn
    assert not postmaster.is_running()
    wait_for(lambda: not server.stuck)
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_kill_9_of_the_owner_takes_the_server_along(data_dir: Path) -> None:
    """No server outlives its owner; a successor that starts at once finds every commit and is alone."""
    command = [sys.executable, "-c", OWNER, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as owner:
        assert owner.stdout is not None
        dsn, orphan = owner.stdout.readline().split()
        await execute(dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
        owner.kill()
    with EmbeddedPostgres(data_dir) as successor:
        assert await value(successor.dsn, "SELECT n FROM kept") == 7
        assert successor.pid != int(orphan)
        assert int(orphan) not in processes_of(data_dir)
    assert processes_of(data_dir) == []


def test_a_server_without_successor_ends_with_its_owner(data_dir: Path) -> None:
    """After kill -9 of the owner the server shuts itself down."""
    command = [sys.executable, "-c", OWNER, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        assert processes_of(data_dir)
        owner.kill()
    wait_for(lambda: not processes_of(data_dir))


def test_one_data_directory_has_one_server(shared: EmbeddedPostgres, shared_dir: Path) -> None:
    """Starting again does nothing; another owner is refused by name and leaves the first alone."""
    dsn, pid = shared.dsn, shared.pid
    assert (shared.start(), shared.pid) == (dsn, pid)
    other = EmbeddedPostgres(shared_dir)
    with pytest.raises(EmbeddedPostgresError, match=f"in use by process {os.getpid()}"):
        other.start()
    other.stop()
    assert (shared.running, shared.pid) == (True, pid)


async def test_two_data_directories_have_two_servers(shared: EmbeddedPostgres, data_dir: Path) -> None:
    """Instances run side by side, each on a port of its own."""
    with EmbeddedPostgres(data_dir) as other:
        assert urlsplit(other.dsn).port != urlsplit(shared.dsn).port
        assert await value(other.dsn, "SELECT 1") == await value(shared.dsn, "SELECT 1") == 1


@pytest.mark.parametrize("mode", [0o700, 0o755], ids=oct)
def test_directories_above_keep_their_modes(pristine: Path, tmp_path: Path, mode: int) -> None:
    """A data directory below a closed one works, and nothing is opened for it."""
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(mode)
    with EmbeddedPostgres(copied(pristine, above / "data")) as server:
        assert server.running
    assert stat.S_IMODE(above.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to give up")
@pytest.mark.parametrize(
    ("closed", "capability"),
    [(None, 0), ("data", 1 << 2), ("programs", 1 << 2)],
    ids=["open", "data", "programs"],
)
def test_root_gives_postgres_no_more_than_it_needs(
    pristine: Path, closed: str | None, capability: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user, in no group of root's; one capability, to pass through directories, if one is closed."""
    with tempfile.TemporaryDirectory() as above:
        Path(above).chmod(0o755)
        for name in ("data", "programs"):
            Path(above, name).mkdir(mode=0o700 if name == closed else 0o755)
        if closed == "programs":
            programs = copied(cluster.program_directory().parent, Path(above, "programs", "postgres"))
            monkeypatch.setattr(cluster, "program_directory", lambda: programs / "bin")
        with EmbeddedPostgres(copied(pristine, Path(above, "data", "data"))) as server:
            lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    assert "0" not in status["Uid"].split()
    assert "0" not in status["Gid"].split() + status["Groups"].split()
    assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == capability


async def test_only_the_role_with_its_password_gets_in(shared: EmbeddedPostgres, shared_dir: Path) -> None:
    """A wrong password and the superuser are refused; the password is in one file, and in no log."""
    password = urlsplit(shared.dsn).password
    assert password is not None
    with pytest.raises(asyncpg.InvalidPasswordError):
        await value(as_user(shared.dsn, "lastunit", "wrong"), "SELECT 1")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await value(as_user(shared.dsn, "postgres", password), "SELECT 1")
    assert stat.S_IMODE((shared_dir / "postgres.json").stat().st_mode) == 0o600
    assert password in (shared_dir / "postgres.json").read_text()
    assert password not in (shared_dir / "logs" / "postgres.log").read_text()


async def test_a_lost_password_is_replaced(server: EmbeddedPostgres, data_dir: Path) -> None:
    """Without postgres.json the next start makes another password for the same data."""
    await execute(server.dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    former = urlsplit(server.dsn).password
    server.stop()
    (data_dir / "postgres.json").unlink()
    dsn = server.start()
    assert urlsplit(dsn).password != former
    assert await value(dsn, "SELECT n FROM kept") == 7


def test_a_taken_port_is_left_to_its_taker(server: EmbeddedPostgres) -> None:
    """The port stays the same from start to start, unless another program has it by then."""
    port = urlsplit(server.dsn).port
    server.stop()
    assert urlsplit(server.start()).port == port
    server.stop()
    with socket.create_server(("127.0.0.1", port or 0)):
        assert urlsplit(server.start()).port != port


def test_a_pid_file_may_name_a_stranger(server: EmbeddedPostgres, data_dir: Path) -> None:
    """After a reboot, the pid in a former postmaster.pid may be another process of the same user."""
    pid_file = data_dir / "postgres" / "postmaster.pid"
    text = pid_file.read_text()
    former, owner = str(server.pid), pid_file.stat()
    server.stop()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=owner.st_uid) as stranger:
        pid_file.write_text(text.replace(former, str(stranger.pid), 1))
        os.chown(pid_file, owner.st_uid, owner.st_gid)
        server.start()
        assert server.running
        assert stranger.poll() is None
        stranger.kill()


def test_an_interrupted_first_start_is_begun_anew(tmp_path: Path) -> None:
    """What a killed initdb left behind is not taken for a cluster."""
    data_dir = tmp_path / "deeper" / "data"
    half = data_dir / "postgres.new" / "base"
    half.mkdir(parents=True)
    (half.parent / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(data_dir) as server:
        assert server.running
    assert not half.exists()


def test_a_start_that_fails_says_why_and_can_be_tried_again(data_dir: Path) -> None:
    """The error carries the end of the log; nothing is left running or locked."""
    settings = data_dir / "postgres" / "postgresql.conf"
    good = settings.read_text()
    settings.write_text(good + "\nno_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        EmbeddedPostgres(data_dir).start()
    assert processes_of(data_dir) == []
    settings.write_text(good)
    with EmbeddedPostgres(data_dir) as other:
        assert other.running


def test_a_cluster_of_another_version_is_refused(data_dir: Path) -> None:
    """The sentence names both versions; the cluster is not touched."""
    (data_dir / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedPostgresError, match="Postgres 17, not 18"):
        EmbeddedPostgres(data_dir).start()


def test_a_data_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A file where the directory should be: a sentence, not a traceback of the operating system's."""
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="cannot be used"):
        EmbeddedPostgres(tmp_path / "file").start()
