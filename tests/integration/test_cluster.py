"""Hosts and callers on a real Ray: who finds whose actors, and what happens when Ray's control store is away."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import ray

from actors.mailbox import Unreachable
from cluster import connection, directory
from cluster.actor_classes import ActorConfig, AnotherInstallation, SandboxGateway
from cluster.engine import RayEngine
from cluster.engine_types import Busy, ReadBook, SetSandbox
from cluster.host import Host, HostConfig
from cluster.messages import SandboxProblem
from cluster.settings import Settings
from cluster.transport import RayTransport
from domain import stock
from domain.cart_model import CartPolicy
from domain.catalog import Product
from domain.checkout_model import Policy
from tests.support.databases import copied, dsn_of

SKU = "VASE"
STOPPED_S = 2.0
SLOWEST_TURN_S = 1.0

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


class Cluster:
    """A Ray cluster that belongs to no installation."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        context: Any = ray.init(
            num_cpus=4,
            object_store_memory=100 * 1024 * 1024,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=str(folder),
        )
        self.address: str = context.address_info["gcs_address"]

    @contextmanager
    def control_store_stopped(self) -> Iterator[None]:
        store = next(process for process in psutil.process_iter(["name", "cmdline"]) if self._is_store(process.info))
        store.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            store.send_signal(signal.SIGCONT)

    def _is_store(self, info: dict[str, Any]) -> bool:
        line = " ".join(info["cmdline"] or ())
        return info["name"].startswith("gcs_server") and str(self._folder) in line


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as environment, tempfile.TemporaryDirectory(prefix="ray-") as folder:
        environment.setenv("RAY_AUTH_MODE", "disabled")
        yield Cluster(Path(folder))
        ray.shutdown()


class Instance:
    """What `lastunit up --ray-address` makes of a cluster and a database, without its processes."""

    def __init__(self, host: Host, engine: RayEngine) -> None:
        self.host = host
        self.engine = engine

    async def pids(self) -> dict[str, int]:
        found = await self.engine.status()
        assert not [status for status in found if "error" in status]
        return {status["shard"]: status["pid"] for status in found}


Start = Callable[..., Any]


@pytest.fixture
async def start(cluster: Cluster) -> AsyncIterator[Start]:
    """Starts an instance on a database; at the end the actors of all of them are ended."""
    hosts: list[Host] = []

    @asynccontextmanager
    async def started(dsn: str, run: str = "first", **settings: Any) -> AsyncIterator[Instance]:
        config = HostConfig(dsn=dsn, data_dir="", settings=Settings(**settings).model_dump_json(), run=run)
        host = Host(config)
        hosts.append(host)
        await host.prepare()
        await host.create_actors()
        async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
            engine = await connection.connect(cluster.address, pool)
            try:
                yield Instance(host, engine)
            finally:
                await engine.close()

    yield started
    for host in hosts:
        host.end_actors()


@pytest.fixture
async def another_database(postgres_dsn: str, migrated_template: str) -> AsyncIterator[str]:
    """A second database, a copy of the same template as the first."""
    async with copied(postgres_dsn, migrated_template) as name:
        yield dsn_of(postgres_dsn, name)


async def put(engine: RayEngine, units: int) -> None:
    await engine.ask(stock.PutProduct(command_id=os.urandom(16), sku=SKU, product=Product(SKU, {"USD": 100})))
    await engine.ask(stock.Adjust(command_id=os.urandom(16), sku=SKU, delta=units, reason="test"))


async def available(engine: RayEngine) -> int:
    (offer,) = await engine.quote([SKU])
    return offer.available


async def test_two_installations_on_one_cluster_have_nothing_in_common(
    start: Start, database: str, another_database: str
) -> None:
    """Actors of their own, and what one sells the other does not."""
    async with start(database) as one, start(another_database) as other:
        await put(one.engine, 7)
        await put(other.engine, 1)
        assert (await available(one.engine), await available(other.engine)) == (7, 1)
        assert not set((await one.pids()).values()) & set((await other.pids()).values())


@pytest.mark.parametrize(
    "change",
    [{"run": "second"}, {"hold_ttl_s": 60}, {"sandbox_latency_ms": "10"}],
    ids=["of an earlier start", "hold_ttl_s", "sandbox_latency_ms"],
)
async def test_actors_of_another_configuration_are_made_anew(
    start: Start, database: str, change: dict[str, Any]
) -> None:
    """An instance that crashed leaves its actors in somebody else's cluster: they are ended, and nothing is lost."""
    async with start(database) as crashed:
        await put(crashed.engine, 7)
        before = await crashed.pids()
    async with start(database, **change) as again:
        after = await again.pids()
        assert before.keys() == after.keys()
        assert not set(before.values()) & set(after.values())
        assert await available(again.engine) == 7


async def test_actors_of_the_same_start_are_kept(start: Start, database: str) -> None:
    """When only the cluster process has died, nobody else has to."""
    async with start(database) as one:
        before = await one.pids()
    async with start(database) as again:
        assert await again.pids() == before


async def test_an_actor_refuses_the_database_of_another_installation(database: str) -> None:
    """One that was left behind does not fence those of the installation that has its address now."""
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        await directory.claim_namespace(pool)
    config = ActorConfig(
        shard="sandbox", dsn=database, namespace="lastunit-of-others", run="r", policy=Policy(),
        cart_policy=CartPolicy(1000), gateway_timeout_s=1.0, sandbox_latency_ms="0", max_queue=100,
    )  # fmt: skip
    actor = SandboxGateway.__new__(SandboxGateway)
    with pytest.raises(AnotherInstallation, match="lastunit-of-others"):
        await actor.__init__(config.encoded())  # type: ignore[misc]


async def test_an_installation_is_known_by_one_name_and_its_copy_by_another(postgres_dsn: str, database: str) -> None:
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        name = await directory.claim_namespace(pool)
        assert await directory.claim_namespace(pool) == await directory.namespace(pool) == name
    async with (
        copied(postgres_dsn, database.rpartition("/")[2]) as copy,
        asyncpg.create_pool(dsn_of(postgres_dsn, copy), min_size=1, max_size=1) as pool,
    ):
        assert await directory.namespace(pool) == name  # so far: nothing was started on it
        other = await directory.claim_namespace(pool)
        assert other != name
        assert await directory.claim_namespace(pool) == other


async def test_a_lookup_holds_nobody_up_while_the_control_store_is_away(
    cluster: Cluster, start: Start, database: str
) -> None:
    """Ray's own call waits for up to a minute; the loop turns all the while, and the answer comes afterwards."""
    async with start(database) as instance:
        transport = RayTransport("stock-0", instance.host.namespace)
        with cluster.control_store_stopped():
            call = asyncio.create_task(transport.drain("client", "", 0, 0.0))
            slowest_s = await _slowest_turn(STOPPED_S)
            assert not call.done()
        assert slowest_s < SLOWEST_TURN_S
        assert await asyncio.wait_for(call, 30)


async def test_who_does_not_exist_is_unreachable(cluster: Cluster) -> None:
    with pytest.raises(Unreachable, match="nobody"):
        await RayTransport("nobody", "nowhere").deliver("client", b"")


class _Gone:
    """A sandbox's mailbox whose every answer is that it cannot say."""

    def ask(self, request: Any) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(SandboxProblem("The sandbox cannot say now."))
        return future


@pytest.mark.parametrize("request_", [ReadBook(0, 10), SetSandbox("down")], ids=lambda r: type(r).__name__)
async def test_a_sandbox_that_cannot_say_is_busy(request_: Any) -> None:
    """Its book is away, say: the caller is to ask again."""
    nobody: Any = {"stock": None}
    gone: Any = _Gone()
    engine = RayEngine(nobody, gone, nobody, namespace="")
    with pytest.raises(Busy):
        await engine.sandbox(request_)


async def _slowest_turn(lasting_s: float) -> float:
    """How long the event loop was held up at most."""
    slowest_s = 0.0
    end_s = time.monotonic() + lasting_s
    while (began_s := time.monotonic()) < end_s:
        await asyncio.sleep(0.01)
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    return slowest_s
