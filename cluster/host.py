"""The cluster process: a local Ray (or an existing one joined), the actors, and the eye on them.

Owns the creation of actors and their supervision. Promises that a dead actor is back, recovered, within
seconds, and a hung one within a minute: Ray constructs it again, this process sees that it answers, creates it
anew if Ray gave it up, and ends it if it is silent for too long. An actor of an earlier start is not taken over
but ended. When Ray itself is gone the process exits with `RAY_LOST`; its parent starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, TextIO

import msgspec
import psutil
import ray
import structlog

from cluster import actor_classes, directory, spare, transport
from cluster.actor_classes import ActorConfig, open_pool
from cluster.messages import SANDBOX
from cluster.settings import Settings
from cluster.watch import LOOK_S, RECOVERY_LOOKS, Eye
from persistence.dsn import split_password
from persistence.migrations_runner import migrate

log = structlog.get_logger()

RAY_LOST = 75
# A call that was cut off fails when Ray knows why, or after this time, looked at every so often. By default that is a
# second each: whoever calls would hear of an actor's end two seconds late, and of its return as late again.
QUICK_FAILURES = {"timeout_ms_task_wait_for_death_info": 100, "core_worker_internal_heartbeat_ms": 100}
# A batch travels in its call. What is larger than 100 kB by default, as busy batches are, would go by way of the object
# store: a detour over the raylet there and back, and one more that has to live.
INLINE = {"max_direct_call_object_size": 8 * 1024 * 1024}
WATCH_S = 0.5
SPARE_ROUNDS = 60  # between two looks at the reserve: asking for one may have failed
LOOKUP_S = 2.0
LOST_AFTER = 3  # rounds in a row in which no actor and not even Ray itself answered
NAME_FREE_S = 30.0
RAY_PROCESSES = ("raylet", "gcs_server")  # without either no actor is placed, though the rest goes on answering
CONSTRUCTION_S = RECOVERY_LOOKS * LOOK_S  # an actor is given as long at the start as when it is replaced


class NotCreated(Exception):
    """An actor did not come up. The message names it."""


class HostConfig(msgspec.Struct, frozen=True):
    """What the cluster process is told: where Postgres and Ray are, and the shop's settings.

    ``run`` names this `lastunit up`: it stays the same when the cluster process is started again.
    ``password_file``: where the actors find the password that is in the DSN; None leaves it in theirs.
    """

    dsn: str
    data_dir: str
    settings: str  # JSON of `Settings`
    run: str
    ray_address: str | None = None
    dashboard_port: int = 8265
    password_file: str | None = None


def ray_temp_dir(data_dir: Path) -> Path:
    """Where Ray keeps its own files: a short path (sockets have a limit), one per data directory and user."""
    digest = blake2b(str(data_dir.resolve()).encode(), digest_size=5).hexdigest()
    return Path(tempfile.gettempdir()) / f"lastunit-{os.getuid()}-{digest}"


def _private(folder: Path) -> Path:
    """A folder that is ours alone, for Ray lets everybody write in its own. PermissionError if it is another's."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    folder.chmod(0o700)
    return folder


def start_ray(config: HostConfig) -> dict[str, str]:
    """Join the cluster at ``ray_address``, or start one on this machine with its dashboard on loopback."""
    common: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if config.ray_address is not None:
        context: Any = ray.init(address=config.ray_address, **common)
    else:
        context = ray.init(
            num_cpus=max(2, os.cpu_count() or 2),
            object_store_memory=100 * 1024 * 1024,  # data passes inline; the store is Ray's own need
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=config.dashboard_port,
            _system_config=QUICK_FAILURES | INLINE,
            _temp_dir=str(_private(ray_temp_dir(Path(config.data_dir))) / "ray"),
            **common,
        )
    info = context.address_info
    url = info.get("webui_url") or ""
    return {"ray_address": info["gcs_address"], "dashboard_url": f"http://{url}" if url else ""}


class Host:
    """Creates the actors and keeps them."""

    def __init__(self, config: HostConfig) -> None:
        self._config = config
        self._settings = Settings.model_validate_json(config.settings)
        self.namespace = ""
        self.own_ray: list[psutil.Process] = []  # the processes of a Ray that we have started
        self._vital: list[psutil.Process] = []  # of them those without which it is none
        self._names: list[tuple[str, str]] = []
        self._eyes: list[Eye] = []
        self._spared_for: list[int | None] = []  # the actors' processes when the reserve was last seen to
        self._rounds = 0

    def owns(self, ray_processes: list[psutil.Process]) -> None:
        """These are of a Ray that we have started, and end with it."""
        self.own_ray = ray_processes
        self._vital = [process for process in ray_processes if process.name() in RAY_PROCESSES]

    async def prepare(self) -> None:
        """Migrations, the installation's name and shards, before anybody may own one."""
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
        self.namespace = await directory.claim_namespace(pool)
        await pool.close()
        self._names = [(kind, shard) for kind, table in tables.items() for shard in table.shards]
        self._names.append((SANDBOX, SANDBOX))

    async def create_actors(self) -> None:
        """All side by side; returns when every one has recovered and answers. NotCreated: one does not."""
        await asyncio.gather(*(self._clear(name) for _, name in self._names))
        self._eyes = [Eye(kind, name, self._create(kind, name)) for kind, name in self._names]
        await asyncio.gather(*(self._constructed(eye) for eye in self._eyes))

    def end_actors(self) -> None:
        """In somebody else's Ray cluster nothing of ours stays behind."""
        for eye in self._eyes:
            ray.kill(eye.handle, no_restart=True)

    def _create(self, kind: str, name: str) -> Any:
        return actor_classes.create(kind, name, self._actor_config(name))

    def _actor_config(self, name: str) -> ActorConfig:
        settings = self._settings
        dsn, password_file = self._config.dsn, self._config.password_file
        return ActorConfig(
            shard=name,
            dsn=dsn if password_file is None else split_password(dsn)[0],
            password_file=password_file,
            namespace=self.namespace,
            run=self._config.run,
            policy=settings.policy(),
            cart_policy=settings.cart_policy(),
            gateway_timeout_s=settings.gateway_timeout_s,
            sandbox_latency_ms=settings.sandbox_latency_ms,
            max_queue=settings.max_queue,
        )

    async def _constructed(self, eye: Eye, asks: int = 3) -> None:
        """A call may get lost, so that it is asked some times."""
        try:
            await asyncio.wait_for(eye.handle.status.remote(), CONSTRUCTION_S)
        except TimeoutError:
            raise NotCreated(f"The actor {eye.name} has not recovered within {CONSTRUCTION_S:g} s.") from None
        except ray.exceptions.RayError as error:
            if asks == 1 or not isinstance(error, ray.exceptions.ActorUnavailableError):
                raise NotCreated(f"The actor {eye.name} cannot be constructed: {error}") from error
            await asyncio.sleep(WATCH_S)
            await self._constructed(eye, asks - 1)

    async def _clear(self, name: str) -> None:
        """End an actor of this name that is there already, unless it is configured as we would configure it."""
        try:
            found = await transport.find_actor(name, self.namespace)
        except ValueError:
            return
        with contextlib.suppress(TimeoutError, ray.exceptions.RayError):
            status = await asyncio.wait_for(found.status.remote(), LOOK_S)
            if status["config"] == self._actor_config(name).digest():
                return
        log.warning("ending an actor of an earlier start", actor=name)
        ray.kill(found, no_restart=True)
        try:
            async with asyncio.timeout(NAME_FREE_S):
                while await self._is_named(name):  # noqa: ASYNC110 - Ray does not tell
                    await asyncio.sleep(WATCH_S / 10)
        except TimeoutError:
            raise NotCreated(f"The actor {name} of an earlier start is still there after {NAME_FREE_S:g} s.") from None

    async def _is_named(self, name: str) -> bool:
        try:
            await transport.find_actor(name, self.namespace)
        except ValueError:
            return False
        return True

    async def keep(self, up: Callable[[], None]) -> None:
        """Create the actors, say that they are ``up``, and look after them until Ray itself is lost."""
        creating = asyncio.create_task(self.create_actors())
        try:
            while not (await asyncio.wait({creating}, timeout=WATCH_S))[0]:
                if self._ray_has_ended():
                    break  # nobody can be placed any more, and whoever waits for an actor would wait for minutes
            else:
                if not self._ray_has_ended():  # else that is why it failed
                    creating.result()
                    up()
                    await self.watch()
        finally:
            creating.cancel()
            await asyncio.gather(creating, return_exceptions=True)
        log.error("Ray is gone")
        for process in self.own_ray:  # what is left of it must not linger beside the next one
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _ray_has_ended(self) -> bool:
        return any(map(_has_ended, self._vital))

    async def watch(self) -> None:
        """Look after every actor until Ray itself is lost."""
        lost = 0
        while lost < LOST_AFTER and not self._ray_has_ended():
            await asyncio.sleep(WATCH_S)
            answers = await asyncio.gather(*(self._look(eye) for eye in self._eyes))
            if all(answers):
                lost = 0
                self._keep_spare()
            elif await self._ray_answers():
                lost = 0
                await self._end_hung()
            else:
                lost = 0 if any(answers) else lost + 1

    def _keep_spare(self) -> None:
        """Soon after the last spare has become an actor that answers, and not before: it would be in its way."""
        self._rounds += 1
        if self._config.ray_address is not None:
            return  # who keeps it keeps its reserve
        pids = [eye.pid for eye in self._eyes]
        if None not in pids and (pids != self._spared_for or self._rounds % SPARE_ROUNDS == 0):
            self._spared_for = pids
            spare.keep()

    async def _look(self, eye: Eye) -> bool:
        """Whether Ray answers for this actor; one that is dead for good is created again."""
        try:
            sign = await eye.look()
            if sign == "gone":
                log.warning("actor is gone, creating it again", actor=eye.name)
                eye.handle = await asyncio.to_thread(self._create, eye.kind, eye.name)
        except Exception:  # whatever it is, the next round tries again: there is nobody else to look after it
            log.exception("could not look after the actor", actor=eye.name)
            return False
        if sign == "silent":
            log.warning("no sign of life", actor=eye.name)
        return sign != "silent"

    async def _ray_answers(self) -> bool:
        try:
            await asyncio.wait_for(self._is_named(SANDBOX), LOOKUP_S)
        except Exception as error:  # of whatever kind: one that fails in every round is what a lost Ray looks like
            log.warning("Ray does not answer", error=repr(error))
            return False
        return True

    async def _end_hung(self) -> None:
        for eye in self._eyes:
            if eye.hung:
                log.error("actor is hung, ending its process", actor=eye.name)
                try:
                    self._end(eye)
                except Exception:  # the next round tries again; the others are ended all the same
                    log.exception("could not end the actor's process", actor=eye.name)

    def _end(self, eye: Eye) -> None:
        """Ray ends the process, a stopped one too, and constructs the actor again: its epoch fences the old one."""
        ray.kill(eye.handle, no_restart=False)  # only sends: it does not wait, not even for a lost Ray
        if self._config.ray_address is None and eye.pid is not None:
            # A stopped process that others wait for has been seen to outlive Ray's own attempt.
            with contextlib.suppress(ProcessLookupError):
                os.kill(eye.pid, signal.SIGKILL)
        eye.forgive()


def _has_ended(process: psutil.Process) -> bool:
    """A child of ours that has ended is a zombie until we end, for Ray does not wait for it."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def run(config: HostConfig, told: TextIO) -> int:
    """Prepare, create, say so to whoever started us, watch. The exit code of the process."""
    host = Host(config)
    stopped = asyncio.Event()
    preparing = asyncio.create_task(host.prepare())
    addresses = await asyncio.to_thread(start_ray, config)
    if config.ray_address is None:
        host.owns(psutil.Process().children(recursive=True))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):  # after ray.init, which sets handlers of its own
        loop.add_signal_handler(number, stopped.set)
    await preparing
    keeping = asyncio.create_task(host.keep(lambda: _say(addresses, told)))
    await asyncio.wait({keeping, asyncio.create_task(stopped.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if stopped.is_set():
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        if config.ray_address is not None:
            host.end_actors()
        ray.shutdown()
        return 0
    try:
        await keeping
    except NotCreated:
        host.end_actors()
        raise
    # Without a farewell to Ray: it would wait for processes that are dead.
    os._exit(RAY_LOST)


def _say(addresses: dict[str, str], told: TextIO) -> None:
    told.write(json.dumps(addresses) + "\n")
    told.flush()


def main(encoded: str) -> int:
    """Entry of the process; ``encoded`` is the JSON of a `HostConfig`."""
    config = msgspec.json.decode(encoded, type=HostConfig)
    # Standard output is for one line of ours. Ray prints there when an actor dies; that would be taken for the line,
    # and later nobody reads it, so that one day a print would wait for ever.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        return asyncio.run(run(config, told))
    except NotCreated as error:
        log.error("could not start", error=str(error))
        return 1
    finally:
        if ray.is_initialized():
            ray.shutdown()
