"""Whom the host ends and whom it leaves alone, with actors and a Ray that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError

from cluster import host, transport
from cluster.settings import Settings
from cluster.watch import HUNG_LOOKS, RECOVERY_LOOKS, Eye
from tests.support.virtual_time import virtual_time


class Remote:
    """A method of an actor's handle."""

    def __init__(self, answer: Callable[[], asyncio.Future[Any]]) -> None:
        self.remote = answer


class Handle:
    """An actor that answers its status, keeps silent, or is away; `end` breaks the calls under way."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.silent = False
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
            future.set_result({})
        return future

    def _stay(self) -> asyncio.Future[None]:
        self.stays.append(asyncio.get_running_loop().create_future())
        return self.stays[-1]


def unavailable() -> ActorUnavailableError:
    return ActorUnavailableError("restarting", None)


async def looks(eye: Eye, count: int) -> list[str]:
    return [await eye.look() for _ in range(count)]


async def answering() -> tuple[Handle, Eye]:
    """An actor that has answered once."""
    handle = Handle()
    eye = Eye("stock", "stock-0", handle)
    assert await eye.look() == "well"
    await asyncio.sleep(0)  # the line is taken up
    return handle, eye


@virtual_time
async def test_an_actor_is_hung_after_some_silent_looks_in_a_row() -> None:
    """Not one look sooner, and an answer in between counts."""
    handle, eye = await answering()
    handle.silent = True
    assert await looks(eye, HUNG_LOOKS - 1) == ["silent"] * (HUNG_LOOKS - 1)
    assert not eye.hung
    handle.silent = False
    assert await eye.look() == "well"
    handle.silent = True
    await looks(eye, HUNG_LOOKS - 1)
    assert not eye.hung
    await eye.look()
    assert eye.hung


@virtual_time
async def test_an_actor_that_recovers_is_given_time() -> None:
    """Its process has ended, so its silence is that of a construction, however Ray words it."""
    handle, eye = await answering()
    handle.end()
    handle.silent = True
    await asyncio.sleep(0)
    assert await looks(eye, 2) == ["constructing", "silent"]
    await looks(eye, RECOVERY_LOOKS - 2)
    assert not eye.hung
    await eye.look()
    assert eye.hung


@pytest.mark.parametrize("former", [True, False], ids=["a new actor", "one that Ray calls unavailable"])
@virtual_time
async def test_an_actor_that_has_not_answered_yet_is_given_time(former: bool) -> None:
    handle = Handle()
    eye = Eye("stock", "stock-0", handle)
    if not former:
        handle.error = unavailable()
        assert await eye.look() == "constructing"
        handle.error = None
    handle.silent = True
    await looks(eye, HUNG_LOOKS)
    assert not eye.hung


@virtual_time
async def test_the_heir_is_watched_as_strictly_as_its_predecessor() -> None:
    handle, eye = await answering()
    handle.end()
    await asyncio.sleep(0)
    assert await eye.look() == "well"
    await asyncio.sleep(0)
    assert len(handle.stays) == 1
    handle.silent = True
    await looks(eye, HUNG_LOOKS)
    assert eye.hung


@virtual_time
async def test_an_actor_that_ray_gave_up_is_gone() -> None:
    handle, eye = await answering()
    handle.error = ActorDiedError()
    assert await eye.look() == "gone"
    assert not eye.hung


class Cluster:
    """A host with two actors; `lookups` says whether Ray's control store answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lookups = True
        self.immortal = False
        self.killed: list[tuple[str, bool]] = []
        self.handles = {"stock-0": Handle(), "cart-0": Handle()}
        config = host.HostConfig(dsn="", data_dir="", settings=Settings().model_dump_json(), run="r")
        self.host = host.Host(config)
        self.host._eyes = [Eye(name[:-2], name, handle) for name, handle in self.handles.items()]
        monkeypatch.setattr(transport, "find_actor", self._find)
        monkeypatch.setattr(ray, "kill", self._kill)

    async def _find(self, name: str, namespace: str) -> Any:
        if not self.lookups:
            await asyncio.get_running_loop().create_future()
        return self.handles.get(name)

    def _kill(self, handle: Handle, *, no_restart: bool) -> None:
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


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


@virtual_time
async def test_a_hung_actor_is_ended_and_may_be_constructed_again(cluster: Cluster) -> None:
    """Once: its heir answers."""
    await cluster.watch(1)
    cluster.handles["stock-0"].silent = True
    await cluster.watch(2 * HUNG_LOOKS)
    assert cluster.killed == [("stock-0", False)]


@virtual_time
async def test_who_stays_silent_is_ended_again(cluster: Cluster) -> None:
    """After as many looks as the first time: what Ray was told may have been lost."""
    await cluster.watch(1)
    cluster.handles["stock-0"].silent = True
    cluster.immortal = True
    await cluster.watch(2 * HUNG_LOOKS)
    assert cluster.killed == [("stock-0", False)] * 2


@virtual_time
async def test_nobody_is_ended_while_ray_does_not_answer(cluster: Cluster) -> None:
    """Who is silent then may be well: nothing can be said of it, and nothing could be done."""
    await cluster.watch(1)
    cluster.handles["stock-0"].silent = True
    cluster.lookups = False
    await cluster.watch(3 * HUNG_LOOKS)
    assert cluster.killed == []


@virtual_time
async def test_ray_is_lost_when_neither_it_nor_an_actor_answers(cluster: Cluster) -> None:
    """The watch ends; its parent starts another Ray."""
    cluster.lookups = False
    for handle in cluster.handles.values():
        handle.silent = True
    watching = asyncio.create_task(cluster.host.watch())
    done, _ = await asyncio.wait({watching}, timeout=60)
    assert done == {watching}
    assert cluster.killed == []


@virtual_time
async def test_ray_is_not_lost_while_it_answers_for_actors_that_recover(cluster: Cluster) -> None:
    """After everything has died at once, the slowest recovery may take minutes."""
    for handle in cluster.handles.values():
        handle.silent = True
    watching = asyncio.create_task(cluster.host.watch())
    done, _ = await asyncio.wait({watching}, timeout=60)
    watching.cancel()
    assert done == set()
    assert cluster.killed == []
