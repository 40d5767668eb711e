"""`lastunit up`: starts what is not given, in order, keeps it running, and stops it in the opposite order.

Owns the child processes (Postgres, the cluster process, the API server) and, in DATA_DIR, instance.json and
postgres.password. Promises that nothing it started outlives it, whether it ends by Ctrl-C or by SIGKILL, and
that a part that dies is started again, as often as it takes. Loses nothing by stopping: what was acknowledged
is in Postgres.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from cluster import api_watch
from cluster.host import HostConfig, ray_temp_dir
from cluster.lifeline import end_with_parent
from cluster.settings import Settings
from persistence.dsn import split_password
from persistence.embedded import EmbeddedPostgres, EmbeddedPostgresError

log = structlog.get_logger()

STOP_S = 15.0
RESTART_PAUSE_S = 0.5
INSTANCE_FILE = "instance.json"
PASSWORD_FILE = "postgres.password"
LOOK_S = 0.2
STUCK_LOOK_S = 2.0  # between two looks, each of which goes through all processes of the machine
STUCK_LOOKS = 5  # in a row: a Postgres that starts is without a process at work for a moment, too


class StartError(Exception):
    """A part did not come up. The message says which, and where its log is."""


class UpConfig(msgspec.Struct, frozen=True):
    """The options of `lastunit up`."""

    host: str
    port: int
    dashboard_port: int
    data_dir: str
    postgres_dsn: str | None
    ray_address: str | None
    demo: bool


class Child:
    """One child process of `lastunit`, its log on our standard error."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self._arguments = arguments
        self._environment = os.environ | environment
        self.process: asyncio.subprocess.Process | None = None
        self._rest: asyncio.Task[None] | None = None  # a reference: the loop keeps none

    async def start(self) -> str:
        """Start it, and return its first line of standard output: it is up. `StartError` if it ends instead.

        Whatever fails, it does not stay.
        """
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cli",
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # Ctrl-C at the terminal is for the supervisor to act on
            preexec_fn=end_with_parent,
        )

        try:
            return await self._first_line(self.process)
        except Exception:
            await self.stop()
            raise

    async def _first_line(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            code = await process.wait()
            raise StartError(f"The {self.name} process ended while starting (exit code {code}); see the log above.")
        self._rest = asyncio.create_task(_let_pass(process.stdout))
        return line.decode().strip()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def stop(self) -> None:
        if self.process is None or not self.running:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_S)
        except TimeoutError:
            log.warning("ending by force", part=self.name)
            await self.kill()

    async def kill(self) -> None:
        """End it and what it has started, at once."""
        if self.process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()


async def _let_pass(output: asyncio.StreamReader) -> None:
    """What Ray prints in a driver when an actor dies is in its logs too. Unread, it would one day stop who prints."""
    while await output.read(65_536):
        pass


class Supervisor:
    """The parts of one instance. ``ready`` is called once, with the instance's facts, when it serves."""

    def __init__(
        self,
        config: UpConfig,
        settings: Settings,
        postgres: EmbeddedPostgres | None,
        ready: Callable[[dict[str, Any]], Any],
    ) -> None:
        self._config = config
        self._postgres = postgres
        self._settings = settings
        self._ready = ready
        self._data_dir = Path(config.data_dir)
        self._stopping = asyncio.Event()
        self._cluster: Child | None = None
        self._api: Child | None = None
        self._serving = False  # the API has come up
        self._facts: dict[str, Any] = {}
        self._run = secrets.token_hex(8)
        self._next_try_s = 0.0
        self._next_look_s = 0.0
        self._stuck_looks = 0

    async def run(self, dsn: str) -> None:
        """Serve until SIGINT or SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        watching = asyncio.create_task(self._watch_api())
        try:
            await self._unless_stopped(self._start(dsn))
            if not self._stopping.is_set():
                await self._keep(dsn)
        finally:
            watching.cancel()
            await self._stop()

    async def _unless_stopped(self, work: Any) -> None:
        """Do the work, or give it up when we are told to stop meanwhile."""
        task = asyncio.ensure_future(work)
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            task.result()
        else:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _start(self, dsn: str) -> None:
        await self._start_cluster(dsn)
        await self._start_api(dsn)
        self._write_instance(dsn)
        await self._ready(self._facts)

    async def _start_cluster(self, dsn: str) -> None:
        host = HostConfig(
            dsn=dsn,
            data_dir=str(self._data_dir),
            settings=self._settings.model_dump_json(),
            run=self._run,
            ray_address=self._config.ray_address,
            dashboard_port=self._config.dashboard_port,
            password_file=self._share_password(dsn),
        )
        self._cluster = Child("cluster", ["_cluster"], self._environment(host=msgspec.json.encode(host).decode()))
        line = await self._started(self._cluster)
        try:
            self._facts |= json.loads(line)
        except ValueError:
            # Nobody would know where its Ray is.
            await self._cluster.kill()
            raise StartError(f"The cluster process says {line!r} instead of where it is.") from None

    def _share_password(self, dsn: str) -> str | None:
        """The file in which the actors find the DSN's password, for Ray keeps what they are constructed with.

        In somebody else's Ray cluster they may be on a machine that has no such file: there it stays in the DSN.
        """
        _, password = split_password(dsn)
        if password is None:
            return None
        if self._config.ray_address is not None:
            log.warning("the password of Postgres goes to the Ray cluster, see docs/settings.md")
            return None
        path = self._data_dir / PASSWORD_FILE
        _write_private(path, password)
        return str(path)

    async def _start_api(self, dsn: str) -> None:
        api = {
            "dsn": dsn,
            "data_dir": str(self._data_dir),
            "host": self._config.host,
            "port": self._config.port,
            "ray_address": self._facts["ray_address"],
            "dashboard_url": self._facts["dashboard_url"],
            "demo": self._config.demo,
            "settings": self._settings.model_dump_json(),
        }
        self._api, self._serving = Child("api", ["_api"], self._environment(api=json.dumps(api))), False
        self._facts["url"] = await self._started(self._api)
        self._serving = True

    async def _started(self, child: Child) -> str:
        """Its first line. What it rests on is looked after meanwhile: it would wait in vain for as long as it can."""
        starting = asyncio.ensure_future(child.start())
        try:
            while not (await asyncio.wait({starting}, timeout=LOOK_S))[0]:
                self._keep_postgres()
                if child is self._api and self._cluster is not None and not self._cluster.running:
                    raise StartError("The cluster process ended while the api process was starting; see the log above.")
            return starting.result()
        except Exception:
            await child.kill()  # whoever is told to stop meanwhile stops it in order
            raise
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)

    def _environment(self, **config: str) -> dict[str, str]:
        """A child's configuration goes by its environment: other users cannot read it, unlike arguments."""
        auth = "token" if self._settings.mode == "production" else "disabled"
        return {
            **{f"LASTUNIT_PRIVATE_{name.upper()}": value for name, value in config.items()},
            "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", auth),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # by default actors would yield to everything else on the machine
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }

    def _write_instance(self, dsn: str) -> None:
        facts = {**self._facts, "pid": os.getpid(), "postgres_dsn": dsn}
        _write_private(self._data_dir / INSTANCE_FILE, json.dumps(facts, indent=1))

    async def _keep(self, dsn: str) -> None:
        """Start again what dies, until told to stop."""
        while not self._stopping.is_set():
            self._keep_postgres()
            dead = [child.name for child in (self._cluster, self._api) if child is not None and not child.running]
            if not dead:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), LOOK_S)
                continue
            log.error("a part has died, starting it again", parts=dead)
            await self._unless_stopped(self._restart(dsn, dead))

    async def _restart(self, dsn: str, dead: Sequence[str]) -> None:
        """Without Ray the API is started anew too: it is its driver."""
        assert self._api is not None
        try:
            if "cluster" in dead:
                # Whoever it serves waits for actors of a Ray that is gone, and so would an orderly stop.
                await self._api.kill()
                await self._start_cluster(dsn)
            await self._start_api(dsn)
            self._write_instance(dsn)
        except Exception as error:  # whatever it is: nobody else would try again
            _could_not(error)
            await asyncio.sleep(RESTART_PAUSE_S)

    async def _watch_api(self) -> None:
        """An API that stands still is ended: then it is started again like any that has died."""
        eye: api_watch.ApiEye | None = None
        watched: Child | None = None
        while True:
            await asyncio.sleep(api_watch.LOOK_S)
            api = self._api if self._serving and self._api is not None and self._api.running else None
            if api is not watched:
                if eye is not None:
                    eye.close()
                watched, eye = api, None if api is None else api_watch.ApiEye(self._facts["url"])
            if eye is None or api is None:
                continue
            try:
                await eye.look()
            except Exception:  # nobody looks after this one
                log.exception("could not look at the API")
            if eye.hung and api is self._api:
                log.error("the API is hung, ending it")
                await api.kill()

    def _keep_postgres(self) -> None:
        """Bring it back under its old address if it has ended, or will never serve again by itself.

        In this thread, and blocking it until it serves: the server lives as long as its thread does.
        """
        if self._postgres is None or time.monotonic() < self._next_try_s:
            return
        try:
            if self._is_dead(self._postgres):
                log.error("a part has died, starting it again", parts=["postgres"])
                self._stuck_looks = 0
                self._postgres.restart()
        except Exception as error:  # nobody supervises the supervisor: the next try may do better
            _could_not(error)
            self._next_try_s = time.monotonic() + RESTART_PAUSE_S

    def _is_dead(self, postgres: EmbeddedPostgres) -> bool:
        if postgres.running and time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + STUCK_LOOK_S
            self._stuck_looks = self._stuck_looks + 1 if postgres.stuck else 0
        return not postgres.running or self._stuck_looks >= STUCK_LOOKS

    async def _stop(self) -> None:
        """The API first, so that nobody is cut off in mid-answer by a missing engine."""
        for child in (self._api, self._cluster):
            if child is not None:
                await child.stop()
        for name in (INSTANCE_FILE, PASSWORD_FILE):
            (self._data_dir / name).unlink(missing_ok=True)
        if self._config.ray_address is None:
            shutil.rmtree(ray_temp_dir(self._data_dir), ignore_errors=True)


def _could_not(error: Exception) -> None:
    expected = isinstance(error, StartError | EmbeddedPostgresError)
    log.error("could not start", error=str(error), exc_info=not expected)


def _write_private(path: Path, text: str) -> None:
    """A file that only this user may read, whole or not at all."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)  # one that a crash left keeps its mode otherwise
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
