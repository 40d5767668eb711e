"""A real `lastunit up` for tests: started, asked for its facts, crashed in parts or whole, started again.

Owns the processes it started. Promises that none of them is left when it stops, and that every wait has an
end. It knows the system as its users do, by the command line, HTTP and the process table.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import pytest

START_S = 150.0
STOP_S = 60.0
GONE_S = 3.0
POLL_S = 0.05
ROOT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """The condition's first true value. AssertionError naming `what` after `timeout_s`."""
    end_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(POLL_S)
    return found


async def eventually(condition: Callable[[], Awaitable[Any]], what: str, timeout_s: float = 20.0) -> Any:
    """`wait_until` for a condition that is awaited."""
    end_s = time.monotonic() + timeout_s
    while not (found := await condition()):
        assert time.monotonic() < end_s, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(POLL_S)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One instance on one data directory. Context manager; `start` works again after `crash` and `stop`."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.dashboard_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        self.ops_token = ""
        self._settings = {f"LASTUNIT_{name.upper()}": value for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ── its life ────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> str:
        """Start it and return what it wrote on standard output, once its last line says `ready`."""
        out = self.log.with_suffix(".out")
        arguments = ["up", "--no-demo", f"--port={self.port}", f"--dashboard-port={self.dashboard_port}"]
        with out.open("wb") as stdout, self.log.open("ab") as stderr:
            process = subprocess.Popen(
                self.command(*arguments), stdout=stdout, stderr=stderr, env=self._environment(), cwd=ROOT
            )
        self._process = process
        wait_until(lambda: "\nready " in out.read_text() or process.poll() is not None, "ready", START_S)
        assert process.poll() is None, self.log.read_text()[-4000:]
        self.ops_token = self.ops_token or self.run("token", "--ops").stdout.strip()
        return out.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it as a user would, and return its exit code. What it left behind is killed, and fails the test."""
        if self._process is None:
            return 0
        known = {process: _command_line(process) for process in self.processes()}
        self._process.send_signal(number)
        try:
            code = self._process.wait(STOP_S)
        finally:
            # The kernel may still be at work on those that were killed a moment ago.
            _, alive = psutil.wait_procs(known, GONE_S)
            left = [process for process in alive if not _is_zombie(process)]
            _kill(left)
            self._process = None
        assert not left, f"left behind: {[known[process] for process in left]}"
        return code

    def crash(self) -> None:
        """`kill -9` of everything: supervisor, Ray, actors, API, Postgres."""
        assert self._process is not None
        _kill(self.processes())
        self._process.wait(STOP_S)
        self._process = None
        _kill(self.strays())

    # ── its processes ───────────────────────────────────────────────────────────────────────────────────

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[psutil.Process]:
        """The supervisor and all its descendants."""
        supervisor = psutil.Process(self.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def strays(self) -> list[psutil.Process]:
        """Whoever works in this instance's directories, found without knowing its parents."""
        from cluster.host import ray_temp_dir

        places = (str(self.data_dir), str(ray_temp_dir(self.data_dir)))
        return [process for process in psutil.process_iter() if _works_in(process, places)]

    def actor(self, name: str) -> psutil.Process:
        """The process of the live actor of that class, such as `StockActor`."""
        return self._find(lambda line: line == f"ray::{name}", name)

    def postmaster(self) -> psutil.Process:
        return psutil.Process(int((self.data_dir / "postgres" / "postmaster.pid").read_text().split()[0]))

    def api_worker(self) -> psutil.Process:
        """A process that answers HTTP requests: a child of the API server."""
        server = self._find(lambda line: line.endswith("-m cli _api"), "the API server")
        return wait_until(lambda: _workers(server), "an API worker")[0]

    def _find(self, fits: Callable[[str], bool], what: str) -> psutil.Process:
        def found() -> psutil.Process | None:
            return next((process for process in self.processes() if fits(_command_line(process))), None)

        process: psutil.Process = wait_until(found, f"a process of {what}")
        return process

    # ── asking it ───────────────────────────────────────────────────────────────────────────────────────

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of `lastunit` on this data directory, to its end."""
        return subprocess.run(
            self.command(*arguments), env=self._environment(), cwd=ROOT, capture_output=True, text=True,
            timeout=START_S, check=False,
        )  # fmt: skip

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cli", *arguments, f"--data-dir={self.data_dir}"]

    def customer_token(self, name: str) -> str:
        return self.run("token", "--customer", name).stdout.strip()

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        return False

    def _environment(self) -> dict[str, str]:
        return os.environ | self._settings


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The one server that tests share: they keep to products of their own, and leave it as they found it."""
    with Server(tmp_path_factory.mktemp("shared") / "data") as started:
        yield started


def _workers(server: psutil.Process) -> list[psutil.Process]:
    return [child for child in server.children() if "resource_tracker" not in _command_line(child)]


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def _works_in(process: psutil.Process, places: tuple[str, ...]) -> bool:
    """By its arguments, its working directory or its open files."""
    if process.pid == os.getpid():
        return False
    try:
        traces = [" ".join(process.cmdline()), process.cwd(), *(file.path for file in process.open_files())]
    except psutil.Error:
        return False
    return any(place in trace for place in places for trace in traces)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=STOP_S)
