"""Ray's own split: a node that Ray takes for dead while its actor lives on, and what the fence makes of the two.

Ray has no fencing token: with its raylet stopped, a node is declared dead and its actor is constructed again on
another one, and the first goes on running. It has no callers any more; but it has holds that expire, and so it
appends by itself.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.mailbox import Mailbox
from cluster import directory, transport
from cluster.actor_classes import ActorConfig, StockActor
from domain import stock
from domain.cart_model import CartPolicy
from domain.catalog import Product
from domain.checkout_model import Policy
from tests.support.server import eventually

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.timeout(180)]

SHARD, SKU = "stock-0", "VASE"
UNITS = 3
EXPIRY_MS = 40_000  # long enough that the heir serves before
HEIR_WITHIN_S = 35.0
PATIENCE_S = 60.0
# A dead node is known after about three seconds, instead of Ray's minute.
QUICK = {"health_check_initial_delay_ms": 1_000, "health_check_period_ms": 1_000, "health_check_timeout_ms": 1_000,
         "health_check_failure_threshold": 3}  # fmt: skip
SMALL: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 80 * 1024 * 1024, "include_dashboard": False}


class TwoNodes:
    """A head, and a node whose raylet may be stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = Cluster(
            initialize_head=True, head_node_args={**SMALL, "temp_dir": str(folder), "_system_config": QUICK}
        )
        ray.init(address=self.cluster.address, log_to_driver=False, configure_logging=False)
        self.node = self.cluster.add_node(**SMALL)
        self.cluster.wait_for_nodes()
        (raylet,) = self.node.all_processes["raylet"]
        self.raylet = psutil.Process(raylet.process.pid)

    def create(self, config: ActorConfig) -> Any:
        """The stock actor as the cluster creates it, first on the node beside the head."""
        return (
            ray.remote(StockActor)
            .options(
                name=config.shard, namespace=config.namespace, lifetime="detached", num_cpus=0, max_restarts=-1,
                max_task_retries=0, max_concurrency=10_000, enable_task_events=False,
                scheduling_strategy=NodeAffinitySchedulingStrategy(self.node.node_id, soft=True),
            )
            .remote(config.encoded())
        )  # fmt: skip

    async def first_beside_the_head(self, config: ActorConfig) -> Any:
        """An actor whose process is the stoppable node's: Ray prefers that node only once it knows it everywhere."""
        while True:
            handle = self.create(config)
            process = psutil.Process((await handle.status.remote())["pid"])
            if self.raylet in process.parents():
                return handle
            ray.kill(handle)
            await eventually(lambda: _is_free(config), "the name free", HEIR_WITHIN_S)

    def said(self, pid: int) -> str:
        """What the process of that id has logged."""
        return "".join(path.read_text() for path in self.folder.glob(f"session_2*/logs/worker-*-{pid}.err"))

    def close(self) -> None:
        ray.shutdown()
        workers = self.raylet.children() if self.raylet.is_running() else []
        if self.raylet.is_running() and self.raylet.status() == psutil.STATUS_STOPPED:
            self.raylet.resume()
        self.cluster.shutdown()
        for process in workers:
            if process.is_running():
                process.kill()


async def _is_free(config: ActorConfig) -> bool:
    try:
        await transport.find_actor(config.shard, config.namespace)
    except ValueError:
        return True
    return False


@pytest.fixture
def nodes() -> Iterator[TwoNodes]:
    with pytest.MonkeyPatch.context() as environment, tempfile.TemporaryDirectory(prefix="ray-") as folder:
        environment.setenv("RAY_AUTH_MODE", "disabled")
        made = TwoNodes(Path(folder))
        yield made
        made.close()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as pool:
        await directory.ensure_shards(pool, dict.fromkeys(directory.KINDS, 1))
        yield pool


def take(units: int, lasting_ms: int) -> stock.Take:
    now_ms = time.time_ns() // 1_000_000
    return stock.Take(
        command_id=b"", hold_id=os.urandom(8).hex(), revision=1, wanted={stock.account_of(SKU): units},
        expires_at_ms=now_ms + lasting_ms, issued_at_ms=now_ms,
    )  # fmt: skip


async def owner(pool: asyncpg.Pool) -> int:
    return int(await pool.fetchval("SELECT epoch FROM shard WHERE id = $1", SHARD))


async def test_the_actor_of_a_node_that_ray_gave_up_is_fenced_at_its_next_append(
    nodes: TwoNodes, database: str, pool: asyncpg.Pool
) -> None:
    """Two live stock actors; the older one's sweep writes nothing and ends it, the newer one has every unit."""
    namespace = await directory.claim_namespace(pool)
    config = ActorConfig(
        shard=SHARD, dsn=database, namespace=namespace, run="test", policy=Policy(), cart_policy=CartPolicy(),
        gateway_timeout_s=5.0, sandbox_latency_ms="0", max_queue=1_000,
    )  # fmt: skip
    handle = await nodes.first_beside_the_head(config)
    buyer = transport.mailbox("stock", SHARD, namespace)
    await put(buyer)
    held = take(1, EXPIRY_MS)
    assert isinstance(await buyer.ask(held), stock.Held)
    status = await handle.status.remote()
    old = psutil.Process(status["pid"])
    assert nodes.raylet in old.parents()

    nodes.raylet.send_signal(signal.SIGSTOP)
    await eventually(lambda: overtaken(pool, status["epoch"]), "a second instance", HEIR_WITHIN_S)
    # Nothing that it would have to journal: with its record there, the head alone would stop the other.
    assert isinstance(await buyer.ask(take(UNITS, 600_000)), stock.Shortage)
    assert is_alive(old), "Ray ended the first instance itself"
    head = await pool.fetchval("SELECT head FROM shard WHERE id = $1", SHARD)

    async def has_left() -> bool:
        return not is_alive(old)

    await eventually(has_left, "the first instance at its end", EXPIRY_MS / 1_000 + PATIENCE_S)
    assert "fenced" in nodes.said(old.pid)
    late = "SELECT count(*) FROM journal WHERE shard = $1 AND epoch = $2 AND seq > $3"
    assert await pool.fetchval(late, SHARD, status["epoch"], head) == 0
    assert await owner(pool) == status["epoch"] + 1
    assert isinstance(await buyer.ask(take(UNITS - 1, 600_000)), stock.Held)
    levels = await buyer.ask(stock.Inspect(command_id=b"", sku=SKU))
    assert (levels.on_hand, levels.reserved) == (UNITS, UNITS)
    await buyer.close()


async def put(buyer: Mailbox) -> None:
    await buyer.ask(stock.PutProduct(command_id=os.urandom(16), sku=SKU, product=Product(SKU, {"USD": 100})))
    await buyer.ask(stock.Adjust(command_id=os.urandom(16), sku=SKU, set_to=UNITS, reason="test"))


async def overtaken(pool: asyncpg.Pool, epoch: int) -> bool:
    return await owner(pool) > epoch


def is_alive(process: psutil.Process) -> bool:
    """Its stopped parent does not reap it."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
