"""The shop that a run of chaos disturbs: `lastunit up` with two shards of each kind, and a hold on what it rests on.

Owns the server, the proxy before its Postgres, the small disk under its data directory and its clocks. Promises
that nothing of them is left when it is closed. Tells which of them this machine does not allow: `left_out`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from cluster.host import ray_temp_dir
from persistence.embedded.cluster import Access
from tests.chaos import clocks, small_disk
from tests.chaos.clocks import Clocks
from tests.chaos.proxied_up import PORT_VARIABLE
from tests.chaos.small_disk import SmallDisk
from tests.support.server import STOP_S, Server
from tests.support.tcp_proxy import TcpProxy

DISK_BYTES = 1 << 29  # Postgres begins with 70 MB
SETTINGS = {"sandbox_latency_ms": "20-200", "stock_shards": "2", "cart_shards": "2", "checkout_shards": "2"}
LOG_MESSAGES, MESSAGE_BYTES = 64, 1 << 20  # more than the segments that Postgres has made in advance
CONNECT_S = 5.0
LOOK_S = 0.25
REPLACED_S = 120.0
# Per call between actors and from the API, in percent: some never arrive, of some the answer is lost.
LOST = {"CoreWorkerService.grpc_client.PushTask": {"num_failures": -1, "req_failure_prob": 1, "resp_failure_prob": 2}}
LOST_LINE = re.compile(r"Inject RPC (request|response) failure")

ACTORS = {
    "stock actor": "ray::StockActor",
    "cart actor": "ray::CartActor",
    "coordinator": "ray::CheckoutCoordinator",
    "sandbox gateway": "ray::SandboxGateway",
}
RAY = {"raylet": "raylet/raylet", "control store": "gcs_server"}
PARTS = (*ACTORS, *RAY, "API worker", "Postgres")


class NotBack(Exception):
    """A part was not there again in time, or nobody was served. The message says which."""


class _Network(TcpProxy):
    """Leads to wherever the data directory says that its Postgres is."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__("postgresql://127.0.0.1/lastunit")
        self._access = data_dir / "postgres.json"

    def _address(self) -> tuple[str, int]:
        return "127.0.0.1", json.loads(self._access.read_text())["port"]


class Shop(Server):
    """A `Server` that can be looked through. ``disk`` and ``clocks`` are None where the machine has no such thing."""

    def __init__(self, data_dir: Path, network: TcpProxy, disk: SmallDisk | None, own_clocks: Clocks | None) -> None:
        super().__init__(data_dir, **SETTINGS)
        self.network = network
        self.disk = disk
        self.clocks = own_clocks
        self.loses_answers = False

    @property
    def left_out(self) -> dict[str, str]:
        """Which faults cannot be had here, and why."""
        reasons = {}
        if self.disk is None:
            reasons["disk"] = "full disk: needs the right to mount"
        if self.clocks is None:
            reasons["clocks"] = "clocks: need a C compiler"
        return reasons

    def command(self, *arguments: str) -> list[str]:
        found = super().command(*arguments)
        return [part if part != "cli" or arguments[0] != "up" else "tests.chaos.proxied_up" for part in found]

    def _environment(self) -> dict[str, str]:
        more = {PORT_VARIABLE: str(self.network.port)}
        if self.clocks is not None:
            more |= self.clocks.environment
        if self.loses_answers:
            more["RAY_testing_rpc_failure"] = json.dumps(LOST)
        return super()._environment() | more

    def answers_lost(self) -> int:
        """How many calls between processes Ray says it has lost, since the server was started."""
        logs = (ray_temp_dir(self.data_dir) / "ray").glob("session_2*/logs/python-core-*.log")
        return sum(len(LOST_LINE.findall(log.read_text(errors="replace"))) for log in logs)

    def disk_errors(self) -> int:
        """How often Postgres has said that its disk is full."""
        log = self.data_dir / "logs" / "postgres.log"
        return log.read_text(errors="replace").count("No space left on device") if log.exists() else 0

    async def end_log_segment(self) -> None:
        """Have Postgres write to its log until that needs more of the disk. Any of its errors, where there is none."""
        access = Access(**json.loads((self.data_dir / "postgres.json").read_text()))
        connection = await asyncpg.connect(access.dsn, timeout=CONNECT_S)
        try:
            for _ in range(LOG_MESSAGES):
                await connection.execute(
                    "SELECT pg_logical_emit_message(false, 'chaos', repeat('x', $1))", MESSAGE_BYTES
                )
        finally:
            connection.terminate()

    def close(self) -> None:
        """Stop it in order; by force if that takes too long, and the error says so. It may have ended by itself."""
        try:
            code = self.stop()
            assert code == 0, f"lastunit up ended with {code}"
        except BaseException:
            strays = self.strays()
            for process in strays:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(strays, timeout=STOP_S)
            raise

    # ── its parts ───────────────────────────────────────────────────────────────────────────────────────

    def part(self, name: str) -> list[psutil.Process]:
        """The live processes of that part, none while it is down."""
        if name == "Postgres":
            try:
                return [self.postmaster()]
            except (OSError, ValueError, IndexError, psutil.Error):
                return []
        if name == "API worker":
            return self._that(lambda line, parents: "-m cli _api" in parents and "resource_tracker" not in line)
        if name in ACTORS:
            return self._that(lambda line, _: line.split(".")[0] == ACTORS[name])  # Ray adds what it is at
        return self._that(lambda line, _: line.split(" ")[0].endswith(RAY[name]))

    def _that(self, fits: Callable[[str, str], bool]) -> list[psutil.Process]:
        """By a process's command line and its parent's."""
        lines: dict[int, str] = {}
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.Error):
                lines[process.pid] = " ".join(process.cmdline()).strip()
        found = []
        for process in processes:
            with contextlib.suppress(psutil.Error):
                if lines.get(process.pid) and fits(lines[process.pid], lines.get(process.ppid(), "")):
                    found.append(process)
        return found

    async def standing(self, name: str) -> list[psutil.Process]:
        """The processes of the part, once there are any."""
        present: list[psutil.Process] = await self._until(lambda: self.part(name), f"{name}: not there")
        return present

    async def replaced(self, name: str, before: list[psutil.Process], victim: psutil.Process) -> None:
        """Returns when there are as many again, and the victim is none of them."""

        def again() -> bool:
            present = self.part(name)
            return victim not in present and len(present) >= len(before)

        await self._until(again, f"{name}: not replaced")

    async def _until(self, look: Callable[[], Any], problem: str) -> Any:
        end_s = time.monotonic() + REPLACED_S
        while time.monotonic() < end_s:
            with contextlib.suppress(psutil.Error):  # who is looked at may end meanwhile
                if found := await asyncio.to_thread(look):
                    return found
            await asyncio.sleep(LOOK_S)
        raise NotBack(f"{problem} within {REPLACED_S:g} s")


@asynccontextmanager
async def opened(folder: Path, keep: Path | None = None) -> AsyncIterator[Shop]:
    """A shop in that folder, started; stopped, and its disk and proxy gone, at the end.

    ``keep``: where its data directory and its log are copied to when it has stopped.
    """
    data_dir = folder / "data"
    async with AsyncExitStack() as stack:
        disk = small_disk.open_disk(data_dir, DISK_BYTES)
        if disk is not None:
            stack.enter_context(disk)
        network = await stack.enter_async_context(_Network(data_dir))
        shop = Shop(data_dir, network, disk, clocks.build(folder / "clocks"))
        try:
            # In threads: the server's own processes need this loop's proxy while they start and stop.
            await asyncio.to_thread(shop.start)
            yield shop
        finally:
            try:
                await asyncio.shield(asyncio.to_thread(shop.close))
            finally:
                # Most of all when it could not be stopped, because it has ended: the log says why.
                if keep is not None:
                    shutil.copytree(data_dir, keep / data_dir.name)
                    shutil.copy(shop.log, keep)
