"""The cluster process: a local Ray (or an existing one joined), the actors, and the eye on them.

Owns the creation of actors and their supervision. Promises that a dead actor is back, recovered, within
seconds: Ray constructs it again, this process sees that it answers and creates it anew if Ray gave it up.
When Ray itself is gone the process exits with `RAY_LOST`; its parent starts another.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import ray
import structlog

from cluster import actor_classes, directory
from cluster.actor_classes import ActorConfig, open_pool
from cluster.messages import SANDBOX
from cluster.settings import Settings
from persistence.migrations_runner import migrate

log = structlog.get_logger()

RAY_LOST = 75
WATCH_S = 0.5
SILENT_S = 5.0
LOST_AFTER = 3  # looks in a row in which Ray itself did not answer


class HostConfig(msgspec.Struct, frozen=True):
    """What the cluster process is told: where Postgres and Ray are, and the shop's settings."""

    dsn: str
    data_dir: str
    settings: str  # JSON of `Settings`
    ray_address: str | None = None
    dashboard_port: int = 8265


def ray_temp_dir(data_dir: Path) -> Path:
    """Ray's own files: a short path (sockets have a limit), one per data directory and user."""
    digest = blake2b(str(data_dir.resolve()).encode(), digest_size=5).hexdigest()
    return Path(tempfile.gettempdir()) / f"lastunit-{os.getuid()}-{digest}"


def start_ray(config: HostConfig) -> dict[str, str]:
    """Join the cluster at ``ray_address``, or start one on this machine with its dashboard on loopback."""
    common: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "namespace": "lastunit"}
    if config.ray_address is not None:
        context: Any = ray.init(address=config.ray_address, **common)
    else:
        context = ray.init(
            num_cpus=max(2, os.cpu_count() or 2),
            object_store_memory=100 * 1024 * 1024,  # data passes inline; the store is Ray's own need
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=config.dashboard_port,
            _temp_dir=str(ray_temp_dir(Path(config.data_dir))),
            **common,
        )
    info = context.address_info
    url = info.get("webui_url") or ""
    return {"ray_address": info["gcs_address"], "dashboard_url": f"http://{url}" if url else ""}


class Host:
    """Creates the actors and keeps them."""

    def __init__(self, config: HostConfig) -> None:
        self._config = config
        self._settings = Settings(**json.loads(config.settings))
        self._names: list[tuple[str, str]] = []
        self._handles: dict[str, Any] = {}
        self._silent = 0

    async def prepare(self) -> None:
        """Migrations and shards, before anybody may own one."""
        await migrate(self._config.dsn)
        pool = await open_pool(self._config.dsn, 1)
        settings = self._settings
        counts = {
            "stock": settings.stock_shards,
            "cart": settings.cart_shards,
            "checkout": settings.checkout_shards,
        }
        await directory.ensure_shards(pool, counts)
        tables = await directory.load_tables(pool)
        await pool.close()
        self._names = [(kind, shard) for kind, table in tables.items() for shard in table.shards]
        self._names.append((SANDBOX, SANDBOX))

    async def create_actors(self) -> None:
        """All side by side; returns when every one has recovered and answers."""
        for kind, name in self._names:
            self._handles[name] = self._create(kind, name)
        await asyncio.gather(*(handle.status.remote() for handle in self._handles.values()))

    def _create(self, kind: str, name: str) -> Any:
        settings = self._settings
        return actor_classes.create(
            kind,
            name,
            ActorConfig(
                shard=name,
                dsn=self._config.dsn,
                policy=settings.policy(),
                cart_policy=settings.cart_policy(),
                gateway_timeout_s=settings.gateway_timeout_s,
                sandbox_latency_ms=settings.sandbox_latency_ms,
                max_queue=settings.max_queue,
            ),
        )

    async def watch(self) -> None:
        """Look after every actor until Ray itself is lost."""
        while self._silent < LOST_AFTER:
            await asyncio.sleep(WATCH_S)
            answers = await asyncio.gather(*(self._look(kind, name) for kind, name in self._names))
            self._silent = 0 if any(answers) else self._silent + 1
        log.error("Ray is gone")

    async def _look(self, kind: str, name: str) -> bool:
        """Whether Ray answers for this actor; one that is dead for good is created again."""
        try:
            await asyncio.wait_for(self._handles[name].status.remote(), SILENT_S)
        except ray.exceptions.ActorUnavailableError:
            return True  # it is being constructed again
        except ray.exceptions.ActorDiedError:
            log.warning("actor is gone, creating it again", actor=name)
            try:
                self._handles[name] = await asyncio.to_thread(self._create, kind, name)
            except Exception as error:
                log.warning("could not create the actor", actor=name, error=str(error))
                return False
            return True
        except (TimeoutError, ray.exceptions.RayError, ConnectionError) as error:
            log.warning("no sign of life", actor=name, error=type(error).__name__)
            return False
        return True


async def run(config: HostConfig) -> int:
    """Prepare, create, say so on standard output, watch. The exit code of the process."""
    host = Host(config)
    stopped = asyncio.Event()
    preparing = asyncio.create_task(host.prepare())
    addresses = await asyncio.to_thread(start_ray, config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):  # after ray.init, which sets handlers of its own
        loop.add_signal_handler(number, stopped.set)
    await preparing
    await host.create_actors()
    sys.stdout.write(json.dumps(addresses) + "\n")
    sys.stdout.flush()
    watching = asyncio.create_task(host.watch())
    await asyncio.wait({watching, asyncio.create_task(stopped.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if stopped.is_set():
        watching.cancel()
        if config.ray_address is not None:
            _end_actors(host)
        ray.shutdown()
        return 0
    return RAY_LOST


def _end_actors(host: Host) -> None:
    """In somebody else's Ray cluster nothing of ours stays behind."""
    for handle in host._handles.values():
        ray.kill(handle, no_restart=True)


def main(encoded: str) -> int:
    """Entry of the process; ``encoded`` is the JSON of a `HostConfig`."""
    config = msgspec.json.decode(encoded, type=HostConfig)
    try:
        return asyncio.run(run(config))
    finally:
        if ray.is_initialized():
            ray.shutdown()
