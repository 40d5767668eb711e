"""Whom the host ends and whom it leaves alone, with actors and a Ray that do as they are told."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import psutil
import pytest
from ray.exceptions import ActorDiedError
from structlog.testing import capture_logs

from cluster import actor_classes, host, transport
from cluster.watch import HUNG_LOOKS, RECOVERY_LOOKS
from tests.support.fake_ray import Cluster, Remote, unavailable
from tests.support.virtual_time import virtual_time


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
async def test_the_process_of_a_hung_actor_is_signalled_once(cluster: Cluster) -> None:
    """Whoever is silent afterwards is another one, and may not even be ours."""
    await cluster.watch(1)
    cluster.handles["stock-0"].silent = True
    cluster.immortal = True
    await cluster.watch(3 * HUNG_LOOKS)
    assert cluster.killed == [("stock-0", False)] * 3
    assert cluster.signalled == [cluster.handles["stock-0"].pid]


@virtual_time
async def test_a_hung_construction_costs_no_other_process_its_life(cluster: Cluster) -> None:
    """The process that answered last has ended long ago."""
    await cluster.watch(1)
    hung = cluster.handles["stock-0"]
    hung.silent = True
    hung.end()
    await cluster.watch(RECOVERY_LOOKS + 1)
    assert cluster.killed == [("stock-0", False)]
    assert cluster.signalled == []


@virtual_time
async def test_one_spare_process_is_kept(cluster: Cluster) -> None:
    """Another is asked for when the last has become an actor, and not before that one answers."""
    await cluster.watch(5)
    assert cluster.spares == 1
    fallen = cluster.handles["stock-0"]
    fallen.error = unavailable()
    await cluster.watch(5)
    assert cluster.spares == 1, "it would be in the way of the recovery"
    fallen.error, fallen.pid = None, 4711
    await cluster.watch(5)
    assert cluster.spares == 2


@virtual_time
async def test_another_ray_cluster_keeps_its_own_reserve(cluster: Cluster) -> None:
    cluster.joins_another_ray()
    await cluster.watch(5)
    assert cluster.spares == 0


@virtual_time
async def test_a_process_in_another_ray_cluster_is_not_signalled(cluster: Cluster) -> None:
    """It may be on another machine."""
    cluster.joins_another_ray()
    await cluster.watch(1)
    cluster.handles["stock-0"].silent = True
    await cluster.watch(2 * HUNG_LOOKS)
    assert cluster.killed == [("stock-0", False)]
    assert cluster.signalled == []


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


class Dead:
    """A process of Ray's that was killed."""

    def name(self) -> str:
        return "raylet"

    def status(self) -> str:
        return psutil.STATUS_ZOMBIE

    def kill(self) -> None:
        raise psutil.NoSuchProcess(0)


@virtual_time
async def test_a_ray_that_ends_while_its_actors_are_created_is_lost(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be waited for five minutes."""
    monkeypatch.setattr(transport, "find_actor", _nobody)
    cluster.host._names = [(name[:-2], name) for name in cluster.handles]
    cluster.handles["stock-0"].silent = True
    cluster.host.owns([cast(Any, Dead())])
    ups: list[None] = []
    await asyncio.wait_for(cluster.host.keep(lambda: ups.append(None)), 60)
    assert ups == []


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


@virtual_time
async def test_ray_is_lost_when_it_fails_in_a_way_nobody_foresaw(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(name: str, namespace: str) -> Any:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(transport, "find_actor", fails)
    for handle in cluster.handles.values():
        handle.silent = True
    watching = asyncio.create_task(cluster.host.watch())
    done, _ = await asyncio.wait({watching}, timeout=60)
    assert done == {watching}
    assert cluster.killed == []


@virtual_time
async def test_a_look_that_fails_concerns_one_actor_only(cluster: Cluster) -> None:
    """In a way nobody foresaw, and in every round: the others are looked after all the same."""
    await cluster.watch(1)
    cluster.handles["stock-0"].silent = True
    cluster.handles["cart-0"].error = RuntimeError("unforeseen")
    with capture_logs() as logged:
        await cluster.watch(2 * HUNG_LOOKS)
    assert cluster.killed == [("stock-0", False)]
    assert ("could not look after the actor", "cart-0") in [(entry["event"], entry.get("actor")) for entry in logged]


async def test_an_actor_that_could_not_be_created_again_is_tried_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "WATCH_S", 0.001)  # a thread creates it, which virtual time does not wait for
    cluster.failures = [RuntimeError("unforeseen")]
    cluster.handles["stock-0"].error = ActorDiedError()
    await cluster.watch(3)
    assert cluster.failures == []
    assert cluster.created[:1] == ["stock-0"]


@virtual_time
async def test_an_actor_that_could_not_be_ended_is_tried_again(cluster: Cluster) -> None:
    """And whoever else is hung does not wait for that."""
    await cluster.watch(1)
    cluster.failures = [RuntimeError("unforeseen")]
    for handle in cluster.handles.values():
        handle.silent = True
    await cluster.watch(HUNG_LOOKS + 2)
    assert cluster.killed == [("cart-0", False), ("stock-0", False)]


@virtual_time
async def test_a_lost_call_to_an_actor_that_comes_up_is_asked_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one lost call would cost a whole start of Ray."""
    handle = cluster.handles["cart-0"]
    answer, handle.error = handle.status.remote, unavailable()

    def lost_once() -> asyncio.Future[Any]:
        lost = answer()
        handle.error = None
        return lost

    handle.status = Remote(lost_once)
    monkeypatch.setattr(transport, "find_actor", _nobody)
    cluster.host._names = [(name[:-2], name) for name in cluster.handles]
    await cluster.host.create_actors()
    assert cluster.created == list(cluster.handles)


async def _nobody(name: str, namespace: str) -> Any:
    raise ValueError(name)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("stock-0", None, "stock-0 has not recovered within 300 s"),
        ("cart-0", ActorDiedError(), "cart-0 cannot be constructed"),
        ("cart-0", unavailable(), "cart-0 cannot be constructed"),
    ],
)
@virtual_time
async def test_a_start_ends_when_an_actor_does_not_come_up(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception | None, says: str
) -> None:
    """It says which one, instead of waiting for ever."""
    monkeypatch.setattr(transport, "find_actor", _nobody)
    cluster.host._names = [(name[:-2], name) for name in cluster.handles]
    cluster.handles[name].silent = True
    cluster.handles[name].error = error
    with pytest.raises(host.NotCreated, match=says):
        await asyncio.wait_for(cluster.host.create_actors(), 3600)


@virtual_time
async def test_a_start_ends_when_an_actor_of_an_earlier_one_stays(cluster: Cluster) -> None:
    """Ray was told to end it, and its name is still taken."""
    cluster.host._names = [("stock", "stock-0")]
    cluster.handles["stock-0"].silent = True
    with pytest.raises(host.NotCreated, match="stock-0 of an earlier start"):
        await asyncio.wait_for(cluster.host.create_actors(), 3600)


def test_what_ray_keeps_of_an_actor_lacks_the_password(cluster: Cluster) -> None:
    """Who may ask Ray what an actor was constructed with is not told how to get at its database."""
    dsn = "postgresql://ada:secret@db/shop"
    cluster.host._config = msgspec.structs.replace(cluster.host._config, dsn=dsn, password_file="/data/password")
    cluster.host._create("stock", "stock-0")
    (told,) = cluster.configs
    assert b"secret" not in told
    config = msgspec.msgpack.decode(told, type=actor_classes.ActorConfig)
    assert (config.dsn, config.password_file) == ("postgresql://ada@db/shop", "/data/password")
