"""The supervisor with children that are no processes: what it starts again, and what it leaves in its folder."""

from __future__ import annotations

import asyncio
import stat
import sys
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from structlog.testing import capture_logs

from cluster import api_watch, supervisor
from cluster.host import HostConfig
from cluster.settings import Settings
from cluster.supervisor import Supervisor, UpConfig
from persistence.embedded import EmbeddedPostgresError
from tests.support.server import eventually

DSN = "postgresql://ada:secret@db/shop"


class Children:
    """What was started, newest last; `failures` are met by the next starts."""

    def __init__(self) -> None:
        self.started: list[Child] = []
        self.failures: list[Exception] = []
        self.nonsense: list[str] = []  # said by the next ones instead of where they are
        self.slow: asyncio.Event | None = None  # APIs say that they are up when it is set

    def __call__(self, name: str, arguments: list[str], environment: dict[str, str]) -> Child:
        return Child(self, name, environment)

    def named(self, name: str) -> list[Child]:
        return [child for child in self.started if child.name == name]


class Child:
    def __init__(self, siblings: Children, name: str, environment: dict[str, str]) -> None:
        self._siblings = siblings
        self.name = name
        self.environment = environment
        self.running = False

    async def start(self) -> str:
        if self._siblings.failures:
            raise self._siblings.failures.pop()
        self.running = True
        self._siblings.started.append(self)
        if self.name == "api" and self._siblings.slow is not None:
            await self._siblings.slow.wait()
        if self._siblings.nonsense:
            return self._siblings.nonsense.pop()
        return '{"ray_address": "r", "dashboard_url": "d"}' if self.name == "cluster" else "http://shop"

    async def stop(self) -> None:
        self.running = False

    async def kill(self) -> None:
        self.running = False


class Postgres:
    """An embedded one that does as it is told."""

    def __init__(self) -> None:
        self.running = True
        self.stuck_looks = 0  # so many looks find it stuck
        self.restarts = 0
        self.failures: list[Exception] = []  # met by the next restarts

    @property
    def stuck(self) -> bool:
        self.stuck_looks -= 1
        return self.stuck_looks >= 0

    def restart(self) -> str:
        if self.failures:
            raise self.failures.pop()
        self.running, self.stuck_looks = True, 0
        self.restarts += 1
        return DSN


class Instance:
    """`lastunit up` in a folder."""

    def __init__(self, folder: Path, ray_address: str | None = None, postgres: Postgres | None = None) -> None:
        config = UpConfig("127.0.0.1", 1, 2, str(folder), DSN, ray_address, demo=False)
        self._serving = asyncio.Event()
        self._supervisor = Supervisor(config, Settings(), cast(Any, postgres), self._serves)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._supervisor.run(DSN))
        await asyncio.wait_for(self._serving.wait(), 5)

    async def stop(self) -> None:
        """Raises what the supervision ended with, if it did so by itself."""
        assert self._task is not None
        self._supervisor._stopping.set()
        await asyncio.wait_for(self._task, 5)

    async def _serves(self, facts: dict[str, Any]) -> None:
        self._serving.set()


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    children = Children()
    monkeypatch.setattr(supervisor, "Child", children)
    monkeypatch.setattr(supervisor, "RESTART_PAUSE_S", 0.0)
    monkeypatch.setattr(supervisor, "LOOK_S", 0.001)
    return children


@pytest.mark.parametrize("name", ["cluster", "api"])
async def test_a_part_that_cannot_be_started_again_is_tried_until_it_can(
    children: Children, tmp_path: Path, name: str
) -> None:
    """Whatever stands in the way: nobody supervises the supervisor. Without Ray the API is started anew too."""
    instance = Instance(tmp_path)
    await instance.start()
    children.failures = [OSError("no process to be had"), RuntimeError("unforeseen")]
    children.named(name)[0].running = False

    async def all_run_again() -> bool:
        return len(children.started) > 2 and children.started[-1].name == "api" and children.started[-1].running

    with capture_logs() as logged:
        await eventually(all_run_again, f"{name} started again")
    assert [entry["error"] for entry in logged if "error" in entry] == ["unforeseen", "no process to be had"]
    assert [child.name for child in children.started[2:]] == (["cluster", "api"] if name == "cluster" else ["api"])
    await instance.stop()


async def test_what_a_part_prints_later_does_not_stop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a pipe holds, and nobody wants to know it."""
    done, program = tmp_path / "done", tmp_path / "part"
    program.write_text(f"#!/bin/sh\necho ready\nhead -c 2000000 /dev/zero\ntouch {done}\nexec sleep 60\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    child = supervisor.Child("api", [], {})
    assert await child.start() == "ready"
    try:
        await eventually(lambda: _so(done.exists()), "all printed")
    finally:
        await child.kill()


async def test_a_cluster_that_does_not_say_where_it_is_does_not_stay(children: Children, tmp_path: Path) -> None:
    """An API would look for the former one's Ray for ever."""
    instance = Instance(tmp_path)
    await instance.start()
    children.nonsense = ["(raylet) A worker died"]
    children.named("cluster")[0].running = False
    await eventually(lambda: _so(len(children.named("cluster")) == 3), "another cluster")
    await eventually(lambda: _so(children.named("api")[-1].running), "its API")
    assert [child.running for child in children.named("cluster")] == [False, False, True]
    await instance.stop()


async def test_what_fails_while_it_starts_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep the port, or the shards, of the one that is started in its place."""

    async def fails(child: supervisor.Child, process: asyncio.subprocess.Process) -> str:
        raise ValueError("a line without an end")

    monkeypatch.setattr(supervisor.Child, "_first_line", fails)
    child = supervisor.Child("api", ["--help"], {})
    with pytest.raises(ValueError, match="without an end"):
        await child.start()
    assert child.process is not None
    assert not child.running


async def test_ray_is_told_where_the_password_is_and_not_what(children: Children, tmp_path: Path) -> None:
    """It lies in a file that nobody else may read, for as long as there are actors to read it."""
    instance = Instance(tmp_path)
    await instance.start()
    password = tmp_path / "postgres.password"
    assert _host(children).password_file == str(password)
    assert password.read_text() == "secret"
    assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [0o600] * 2
    await instance.stop()
    assert list(tmp_path.iterdir()) == []


async def test_in_a_ray_of_others_the_password_stays_in_the_dsn(children: Children, tmp_path: Path) -> None:
    """Its actors may be on a machine that has no such file."""
    instance = Instance(tmp_path, "10.0.0.1:6379")
    await instance.start()
    assert _host(children).password_file is None
    assert [path.name for path in tmp_path.iterdir()] == ["instance.json"]
    await instance.stop()


def _host(children: Children) -> HostConfig:
    return msgspec.json.decode(children.named("cluster")[0].environment["LASTUNIT_PRIVATE_HOST"], type=HostConfig)


async def test_a_postgres_that_has_ended_or_never_serves_again_is_started_again(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that is without work for a moment, as each is that starts."""
    monkeypatch.setattr(supervisor, "STUCK_LOOK_S", 0.0)
    postgres = Postgres()
    instance = Instance(tmp_path, postgres=postgres)
    await instance.start()
    postgres.stuck_looks = supervisor.STUCK_LOOKS - 1
    await eventually(lambda: _so(postgres.stuck_looks < 0), "as many looks")
    assert postgres.restarts == 0
    postgres.stuck_looks = supervisor.STUCK_LOOKS
    await eventually(lambda: _so(postgres.restarts == 1), "a restart")
    postgres.running = False
    await eventually(lambda: _so(postgres.restarts == 2), "another restart")
    await instance.stop()
    assert len(children.started) == 2, "nobody else was started again"


async def test_a_postgres_that_cannot_be_started_again_is_tried_until_it_can(
    children: Children, tmp_path: Path
) -> None:
    postgres = Postgres()
    instance = Instance(tmp_path, postgres=postgres)
    await instance.start()
    postgres.failures = [OSError("no space left"), EmbeddedPostgresError("no answer")]
    with capture_logs() as logged:
        postgres.running = False
        await eventually(lambda: _so(postgres.restarts == 1), "a restart")
    assert [entry["error"] for entry in logged if "error" in entry] == ["no answer", "no space left"]
    await instance.stop()


async def _slowly_restarted_api(children: Children) -> asyncio.Event:
    """The API has died, and another is under way; it is up once the event is set."""
    children.slow = asyncio.Event()
    children.named("api")[0].running = False
    await eventually(lambda: _so(len(children.named("api")) == 2), "another API begun")
    return children.slow


async def test_a_postgres_that_ends_while_a_part_starts_is_brought_back_meanwhile(
    children: Children, tmp_path: Path
) -> None:
    """The part waits for it, and nobody would be served until it gives up."""
    postgres = Postgres()
    instance = Instance(tmp_path, postgres=postgres)
    await instance.start()
    slow = await _slowly_restarted_api(children)
    postgres.running = False
    await eventually(lambda: _so(postgres.restarts == 1), "a restart")
    assert not slow.is_set()
    slow.set()
    await instance.stop()
    assert len(children.named("api")) == 2, "and the part goes on"


async def test_an_api_that_waits_for_a_ray_that_is_gone_is_given_up(children: Children, tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    await instance.start()
    slow = await _slowly_restarted_api(children)
    children.named("cluster")[0].running = False
    await eventually(lambda: _so(len(children.named("api")) == 3), "an API of another cluster begun")
    assert [child.running for child in children.named("cluster")] == [False, True]
    assert [child.running for child in children.named("api")] == [False, False, True]
    slow.set()
    await instance.stop()


async def test_an_api_that_stands_still_is_ended_and_started_again(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and not while it comes up: nobody answers then either."""
    monkeypatch.setattr(api_watch, "LOOK_S", 0.001)
    monkeypatch.setattr(api_watch.ApiEye, "look", _silence)
    instance = Instance(tmp_path)
    await instance.start()
    children.slow = asyncio.Event()
    await eventually(lambda: _so(len(children.named("api")) == 2), "another API begun")
    assert not children.named("api")[0].running
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert children.named("api")[1].running
    await instance.stop()


async def _silence(eye: api_watch.ApiEye) -> None:
    eye._silent += 1


async def _so(what: bool) -> bool:
    return what
