"""What the eye on an actor says of it, after which looks."""

from __future__ import annotations

import asyncio

import pytest
from ray.exceptions import ActorDiedError

from cluster.watch import HUNG_LOOKS, RECOVERY_LOOKS, Eye
from tests.support.fake_ray import Handle, unavailable
from tests.support.virtual_time import virtual_time


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


@pytest.mark.parametrize("error", [unavailable(), ActorDiedError(), None], ids=["constructing", "gone", "line broken"])
@virtual_time
async def test_a_process_that_has_ended_is_not_remembered(error: Exception | None) -> None:
    """From the moment in which Ray says so: the system gives its id to others."""
    handle, eye = await answering()
    pids = [eye.pid]
    if error is None:
        handle.end()
        await asyncio.sleep(0)
    else:
        handle.error = error
        await eye.look()
    pids.append(eye.pid)
    handle.error = None
    handle.pid += 1
    await eye.look()
    pids.append(eye.pid)
    assert pids == [handle.pid - 1, None, handle.pid]
