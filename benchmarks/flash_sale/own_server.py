"""A server of the sale's own: `lastunit up` on a directory that is given, ended when the sale is over."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

STOP_S = 60.0


class OwnServer(NamedTuple):
    url: str
    process: subprocess.Popen[str]


@contextmanager
def own_server(data_dir: Path, *options: str) -> Iterator[OwnServer]:
    """Yields once it is ready. RuntimeError when it does not come up; its log is on our standard error."""
    ports = [_free_port(), _free_port()]
    process = subprocess.Popen(
        [
            sys.executable, "-m", "cli", "up", "--data-dir", str(data_dir), "--no-demo",
            "--port", str(ports[0]), "--dashboard-port", str(ports[1]), *options,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        yield OwnServer(_ready_url(process), process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready "):
            return line.split()[1]
    raise RuntimeError(f"the server ended while starting (exit code {process.wait()})")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
