"""The process of an embedded Postgres: started, waited for, shut down, never doubled.

Owns the postmaster it started and the lock DATA_DIR/postgres.lock. Promises one server a data directory,
whatever was killed before; that it takes connections when `start` returns; that nothing of it is left when
`stop` returns or soon after its parent is gone. Is told the data directory. Called by the supervisor and by
tests.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Final, Self

import psutil

from persistence.embedded.cluster import (
    ENVIRONMENT,
    Access,
    Cluster,
    EmbeddedPostgresError,
    free_port,
    installed_version,
    is_free,
    setting_arguments,
)

_POLL_S: Final = 0.02

# How a postmaster is asked to end (Postgres: fast, then immediate), and for how many seconds each is waited
# for. All three leave the database as the last commit left it.
_ENDINGS: Final = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))


class EmbeddedPostgres:
    """One server on one data directory, a child of the process that calls `start`.

    The kernel shuts the server down when the *thread* that called `start` ends, so call it from one that
    lives as long as the server shall: the main thread, as a rule.
    """

    def __init__(self, data_dir: Path, *, ready_timeout_s: float = 60.0) -> None:
        self._cluster = Cluster(data_dir)
        self._pid_path = self._cluster.directory / "postmaster.pid"
        self._ready_timeout_s = ready_timeout_s
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._access: Access | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None when it does not run."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def stuck(self) -> bool:
        """It runs, but no process of it serves or recovers: for a moment at every start, and for good when the disk
        was full in the midst of a recovery. Its postmaster goes on telling everybody to wait."""
        try:
            children = psutil.Process(self.pid).children() if self.pid is not None else []
            return self.running and not any(_at_work(child) for child in children)
        except psutil.NoSuchProcess:
            return False

    @property
    def dsn(self) -> str:
        """`postgresql://…`, password included. Raises EmbeddedPostgresError before the first `start`."""
        if self._access is None:
            raise EmbeddedPostgresError("the embedded Postgres has not been started")
        return self._access.dsn

    @property
    def version(self) -> str:
        """For instance "18.4"."""
        return installed_version()

    def start(self) -> str:
        """Bring the server up, after a crash too, and return its DSN once it takes connections.

        Does nothing while it runs. Port and password stay the same from start to start, but for a port that
        another program has taken. Raises EmbeddedPostgresError: the data directory is in use or not ours, or
        the server does not come up; the message ends with its log.
        """
        if self.running:
            return self.dsn
        self._take_lock()
        try:
            self._end_leftovers()
            self._access = self._launch(self._cluster.prepare())
        except BaseException:
            self.stop()
            raise
        return self.dsn

    def restart(self) -> str:
        """End a server that does not end by itself, as `kill -9` would, and start it again."""
        if self._process is not None and self.running:
            self._process.kill()
            self._process.wait()
        return self.start()

    def stop(self) -> None:
        """Roll back what is open, write everything, and return when no process is left."""
        if self._lock is None:
            return
        if self._process is not None:
            _end(self._process)
            self._process = None
        self._end_leftovers()
        self._lock.close()
        self._lock = None

    def _take_lock(self) -> None:
        """Held until `stop` or this process's end, whatever ends it."""
        if self._lock is not None:
            return
        data_dir = self._cluster.data_dir
        try:
            # Others may pass through: started by root, Postgres is one of them. What lies in it is closed to
            # them.
            data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
            self._cluster.log_path.parent.mkdir(mode=0o700, exist_ok=True)
            lock = (data_dir / "postgres.lock").open("a+")
        except OSError as error:
            raise EmbeddedPostgresError(f"the data directory cannot be used: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise EmbeddedPostgresError(
                f"{data_dir} is in use by process {holder}: stop it, or choose another data directory"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def _end_leftovers(self) -> None:
        """End what a killed predecessor left running.

        The kernel has told it to shut down already, and it would not die with us as our own child does: so it
        is ended, not adopted. Then its postmaster.pid goes, for the pid in it may by now be a zombie's or a
        stranger's, and Postgres would take either for a running server.
        """
        for number, patience_s in _ENDINGS:
            postmaster = _lines(self._pid_path)[:1]
            for process in self._processes():
                # To the postmaster's children SIGINT means other things than "shut down".
                if number != signal.SIGINT or [str(process.pid)] == postmaster:
                    process.send_signal(number)
            if _wait_until(lambda: not self._processes(), patience_s):
                self._pid_path.unlink(missing_ok=True)
                return
        raise EmbeddedPostgresError(f"a former Postgres on {self._cluster.directory} cannot be ended")

    def _processes(self) -> list[psutil.Process]:
        """Every live Postgres process of this cluster, known by its working directory."""
        directories = (str(self._cluster.directory), str(self._cluster.unfinished))
        found = []
        for process in psutil.process_iter(["name"]):
            try:
                if process.info["name"] == "postgres" and process.cwd() in directories:
                    found.append(process)
            except psutil.Error:
                continue  # ended meanwhile, a zombie, or another user's
        return found

    def _launch(self, access: Access) -> Access:
        """Start the server and wait until it is ready, on another port if this one is taken."""
        deadline = time.monotonic() + self._ready_timeout_s
        while True:
            if not is_free(access.port):
                access = replace(access, port=free_port())
                self._cluster.save(access)
            directory = str(self._cluster.directory)
            arguments = ["-D", directory, "-p", str(access.port), *setting_arguments()]
            with self._cluster.log_path.open("a") as log:
                log_start = log.tell()
                # In a session of its own: Ctrl-C at the terminal is the supervisor's to answer.
                self._process = subprocess.Popen(
                    self._cluster.command("postgres", arguments),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT, start_new_session=True,
                )  # fmt: skip
            _wait_until(lambda: self._ready() or not self.running, deadline - time.monotonic())
            if self._ready():
                return access
            if self.running:
                problem = f"Postgres was not ready within {self._ready_timeout_s:g} s"
            elif is_free(access.port):
                problem = "Postgres did not start"
            else:
                continue  # another program took the port in between
            raise EmbeddedPostgresError(f"{problem}:\n{self._cluster.log_since(log_start)}")

    def _ready(self) -> bool:
        """As `pg_ctl` finds out: by the last line of the postmaster's pid file."""
        lines = _lines(self._pid_path)
        return self.running and len(lines) == 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def _at_work(process: psutil.Process) -> bool:
    """Whether it writes the log of a server that serves, or recovers one that will."""
    try:
        return any(work in " ".join(process.cmdline()) for work in ("walwriter", "startup"))
    except psutil.Error:
        return False  # ended meanwhile


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, patience_s in _ENDINGS:
        process.send_signal(number)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
        return


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _lines(path: Path) -> list[str]:
    """The file's lines; none if there is no file."""
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []
