"""A real server whose parts hang or die by themselves: what the supervision does about it, and what stays."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from functools import partial

import httpx
import psutil
import pytest

from tests.support.client import Client
from tests.support.server import wait_until

SERVER = {"sandbox_latency_ms": "1-2"}
# Twenty seconds of silence, five in which Ray lets a process end by itself, and the heir's recovery; twice, for
# the machine may be busy.
BACK_WITHIN_S = 120.0  # about 30 when nothing else runs


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_a_hung_stock_actor_is_replaced(client: Client) -> None:
    """A stopped process neither answers nor ends: it is ended, its heir serves, and a buyer only had to wait."""
    server = client.server
    sku = client.product(3)
    client.ordered(sku)
    hung = server.actor("StockActor")
    hung.suspend()
    try:
        buying = asyncio.create_task(asyncio.to_thread(client.express, sku, key_is="bought-while-it-hung"))
        await asyncio.wait_for(asyncio.to_thread(hung.wait, BACK_WITHIN_S), BACK_WITHIN_S)
        await asyncio.wait_for(buying, BACK_WITHIN_S)
    finally:
        _resume(hung)
    assert client.express(sku, key_is="bought-while-it-hung").status_code == 200
    assert not hung.is_running()
    assert server.actor("StockActor").pid != hung.pid
    assert client.figures(sku) == (1, 0, 1, 2)
    audit = server.run("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_an_actor_that_died_comes_back_in_the_process_kept_in_reserve(client: Client) -> None:
    """No new one has to be brought up first; and soon there is another for the next."""
    server = client.server

    def reserve() -> set[int]:
        return {process.pid for process in server.processes() if process.name() == "ray::IDLE"}

    for _ in range(2):
        wait_until(reserve, "a process in reserve")
        spare, died = reserve(), server.actor("StockActor")
        died.kill()
        died.wait(10)
        client.stock(client.product(1))
        assert server.actor("StockActor").pid in spare
        wait_until(partial(_another, reserve, spare), "another process in reserve")


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_the_sandbox_stays_as_it_was_set_until_the_next_start(client: Client) -> None:
    """Its process may die; with the next `lastunit up` the settings speak again."""
    server = client.server
    as_started = {"mode": "up", "latency_ms": "1-2"}
    assert client.ops("PUT", "/v1/ops/sandbox", {}) == as_started
    as_set = client.ops("PUT", "/v1/ops/sandbox", {"mode": "error", "latency_ms": "20"})
    died = server.actor("SandboxGateway")
    died.kill()
    died.wait(10)
    assert client.ops("PUT", "/v1/ops/sandbox", {}) == as_set == {"mode": "error", "latency_ms": "20"}
    assert server.actor("SandboxGateway").pid != died.pid

    assert server.stop(signal.SIGTERM) == 0
    server.start()
    wait_until(server.is_ready, "ready")
    assert client.ops("PUT", "/v1/ops/sandbox", {}) == as_started


@pytest.mark.chaos
@pytest.mark.timeout(240)
async def test_an_orderly_stop_answers_who_is_being_served(client: Client) -> None:
    """Whoever pays at the moment of SIGTERM has the order, and no stack trace is in the log."""
    server = client.server
    sku = client.product(1)
    client.ops("PUT", "/v1/ops/sandbox", {"mode": "up", "latency_ms": "2000"})
    buying = asyncio.create_task(asyncio.to_thread(client.express, sku))
    await asyncio.to_thread(wait_until, lambda: client.stock(sku)["reserved"], "stock held for the payment")
    try:
        assert await asyncio.to_thread(server.stop) == 0
        assert (await buying).status_code == 200
        assert "SIGTERM received" not in server.log.read_text()
    finally:
        await asyncio.to_thread(server.start)


def _another(reserve: Callable[[], set[int]], known: set[int]) -> bool:
    return bool(reserve() - known)


def _resume(process: psutil.Process) -> None:
    """What was stopped may be dead by now, which is what the test is about."""
    try:
        process.resume()
    except psutil.NoSuchProcess:
        return


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_ray_without_its_raylet_is_started_anew(client: Client) -> None:
    """The rest of it goes on answering, but constructs no actor any more."""
    server = client.server
    sku = client.product(3)
    client.ordered(sku)
    next(process for process in server.processes() if process.name() == "raylet").kill()

    def bought() -> bool:
        try:
            return client.express(sku, key_is="bought-without-a-raylet").status_code == 200
        except httpx.TransportError:  # the API's workers are part of a Ray, and start again with the next
            return False

    wait_until(bought, "an order", BACK_WITHIN_S)
    assert client.figures(sku) == (1, 0, 1, 2)
    assert server.stop(signal.SIGTERM) == 0
    assert server.strays() == []
    server.start()
    wait_until(server.is_ready, "ready")
