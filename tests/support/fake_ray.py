"""A Ray in memory: actors that do as they are told, and a host that believes in them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import ray
from ray.exceptions import ActorUnavailableError

from cluster import actor_classes, host, spare, transport
from cluster.settings import Settings
from cluster.watch import Eye


class Remote:
    """A method of an actor's handle."""

    def __init__(self, answer: Callable[[], asyncio.Future[Any]]) -> None:
        self.remote = answer


class Handle:
    """An actor that answers its status, keeps silent, or is away; `end` breaks the calls under way."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.silent = False
        self.pid = 0
        self.stays: list[asyncio.Future[None]] = []
        self.status = Remote(self._status)
        self.stay = Remote(self._stay)

    def end(self) -> None:
        for line in self.stays:
            line.set_exception(unavailable())
        self.stays.clear()

    def _status(self) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        if self.error is not None:
            future.set_exception(self.error)
        elif not self.silent:
            future.set_result({"pid": self.pid})
        return future

    def _stay(self) -> asyncio.Future[None]:
        self.stays.append(asyncio.get_running_loop().create_future())
        return self.stays[-1]


def unavailable() -> ActorUnavailableError:
    return ActorUnavailableError("restarting", None)


class Cluster:
    """A host with two actors; `lookups` says whether Ray's control store answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lookups = True
        self.immortal = False
        self.killed: list[tuple[str, bool]] = []
        self.failures: list[Exception] = []  # of the next creations and kills
        self.created: list[str] = []
        self.configs: list[bytes] = []
        self.signalled: list[int] = []
        self.spares = 0
        self.handles = {"stock-0": Handle(), "cart-0": Handle()}
        for pid, handle in enumerate(self.handles.values(), start=100):
            handle.pid = pid
        config = host.HostConfig(dsn="", data_dir="", settings=Settings().model_dump_json(), run="r")
        self.host = host.Host(config)
        self.host._eyes = [Eye(name[:-2], name, handle) for name, handle in self.handles.items()]
        monkeypatch.setattr(transport, "find_actor", self._find)
        monkeypatch.setattr(ray, "kill", self._kill)
        monkeypatch.setattr(actor_classes, "create", self._create)
        monkeypatch.setattr(spare, "keep", self._keep_spare)
        monkeypatch.setattr(os, "kill", lambda pid, number: self.signalled.append(pid))

    def joins_another_ray(self) -> None:
        self.host._config = msgspec.structs.replace(self.host._config, ray_address="10.0.0.1:6379")

    async def _find(self, name: str, namespace: str) -> Any:
        if not self.lookups:
            await asyncio.get_running_loop().create_future()
        return self.handles.get(name)

    def _create(self, kind: str, name: str, config: actor_classes.ActorConfig) -> Handle:
        if self.failures:
            raise self.failures.pop()
        self.created.append(name)
        self.configs.append(config.encoded())
        return self.handles[name]

    def _keep_spare(self) -> None:
        self.spares += 1

    def _kill(self, handle: Handle, *, no_restart: bool) -> None:
        if self.failures:
            raise self.failures.pop()
        name = next(name for name, known in self.handles.items() if known is handle)
        self.killed.append((name, no_restart))
        handle.silent = self.immortal

    async def watch(self, looks: int) -> None:
        """Until each actor that answers was asked so often."""
        enough = asyncio.Event()
        handle = self.handles["cart-0"]
        answer, asked = handle.status.remote, 0

        def count() -> asyncio.Future[Any]:
            nonlocal asked
            asked += 1
            if asked > looks:
                enough.set()
            return answer()

        handle.status = Remote(count)
        watching = asyncio.create_task(self.host.watch())
        await enough.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
