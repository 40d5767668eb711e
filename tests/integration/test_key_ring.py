"""The key ring on a real database: everybody seals under one key, and erasing it erases the person."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from persistence import key_ring
from persistence.key_ring import CACHE_TTL_S, KeyRing
from persistence.sealing import DataKey, ErasedError, MasterKey, TamperedError

MASTER = MasterKey(bytes(range(32)))


class Clock:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class CountingPool:
    """Passes statements on to a pool, and counts them."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.subjects_asked: list[int] = []

    async def fetch(self, statement: str, subjects: list[str], offers: list[bytes | None]):
        self.subjects_asked.append(len(subjects))
        return await self.pool.fetch(statement, subjects, offers)

    async def fetchval(self, statement: str, subject: str):
        return await self.pool.fetchval(statement, subject)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=8) as pool:
        yield pool


async def test_a_key_is_made_once_and_found_by_other_processes(pool: asyncpg.Pool) -> None:
    """What one ring sealed, another ring with the same master key opens."""
    sealed = (await KeyRing(pool, MASTER).key("c:ada")).seal("email", b"ada@example.com")
    assert await KeyRing(pool, MASTER).open("c:ada", "email", sealed) == b"ada@example.com"
    assert (await KeyRing(pool, MASTER).key("c:ada")).open("email", sealed) == b"ada@example.com"


async def test_all_who_ask_at_once_get_the_same_key(pool: asyncpg.Pool) -> None:
    """Eight processes and many requests in each, in different orders: one key a subject, and no deadlock."""
    subjects = [f"g:{number:03}" for number in range(100)]
    rings = [KeyRing(pool, MASTER) for _ in range(8)]
    found = await asyncio.gather(
        *(ring.keys(subjects if number % 2 else subjects[::-1]) for number, ring in enumerate(rings)),
        *(ring.keys([subject]) for ring in rings for subject in subjects[:10]),
    )
    for subject in subjects:
        keys = [keys[subject] for keys in found if subject in keys]
        sealed = keys[0].seal("email", b"x")
        assert {key.open("email", sealed) for key in keys} == {b"x"}
    assert await pool.fetchval("SELECT count(*) FROM data_keys") == 100


async def test_batches_in_different_orders_wait_in_line(pool: asyncpg.Pool) -> None:
    """Two processes that make the same keys at once never deadlock."""
    subjects = [f"g:{number:05}" for number in range(10_000)]
    orders = [subjects, subjects[::-1]] * 3
    claim = "SELECT count(*) FROM claim_data_keys($1, $2)"
    counts = await asyncio.gather(*(pool.fetchval(claim, order, [b"x"] * len(order)) for order in orders))
    assert counts == [10_000] * 6


async def test_concurrent_requests_share_statements(pool: asyncpg.Pool) -> None:
    """Whoever comes while a statement is in flight goes with the next one; the cache answers the rest."""
    counting = CountingPool(pool)
    ring = KeyRing(counting, MASTER)
    await asyncio.gather(*(ring.key(f"g:{number}") for number in range(500)))
    assert sum(counting.subjects_asked) == 500
    assert len(counting.subjects_asked) <= 2
    await asyncio.gather(*(ring.key(f"g:{number}") for number in range(500)))
    assert len(counting.subjects_asked) <= 2


async def test_looking_makes_no_key(pool: asyncpg.Pool) -> None:
    """Whoever only opens does not bring a key into being."""
    ring = KeyRing(pool, MASTER)
    await ring.key("c:ada")
    assert set(await ring.known_keys(["c:ada", "c:eve"])) == {"c:ada"}
    assert await pool.fetchval("SELECT count(*) FROM data_keys") == 1


async def test_a_wanted_and_a_looked_up_key_of_one_batch_are_the_same(pool: asyncpg.Pool) -> None:
    """One statement serves both, whichever came first."""
    ring = KeyRing(pool, MASTER)
    looked_up, wanted = await asyncio.gather(ring.known_keys(["c:ada"]), ring.keys(["c:ada"]))
    assert looked_up["c:ada"].open("name", wanted["c:ada"].seal("name", b"Ada")) == b"Ada"


async def test_erasing_a_key_erases_the_person(pool: asyncpg.Pool) -> None:
    """At once in this process; also for one who comes back later, whose new key opens only what is new."""
    ring = KeyRing(pool, MASTER)
    sealed = (await ring.key("c:ada")).seal("email", b"ada@example.com")
    assert await ring.erase("c:ada")
    assert not await ring.erase("c:ada")
    with pytest.raises(ErasedError):
        await ring.open("c:ada", "email", sealed)
    again = (await ring.key("c:ada")).seal("email", b"ada@example.org")
    assert await ring.open("c:ada", "email", again) == b"ada@example.org"
    with pytest.raises(ErasedError):
        await ring.open("c:ada", "email", sealed)


async def test_an_erasure_reaches_other_processes_in_a_minute(pool: asyncpg.Pool) -> None:
    """Their caches forget a key after `CACHE_TTL_S`, used or not."""
    clock = Clock()
    here, elsewhere = KeyRing(pool, MASTER), KeyRing(pool, MASTER, clock)
    sealed = (await elsewhere.key("c:ada")).seal("email", b"x")
    await here.erase("c:ada")
    clock.now += CACHE_TTL_S - 1
    assert await elsewhere.open("c:ada", "email", sealed) == b"x"
    clock.now += 1
    with pytest.raises(ErasedError):
        await elsewhere.open("c:ada", "email", sealed)


async def test_an_erased_key_does_not_come_back_with_a_late_answer(pool: asyncpg.Pool) -> None:
    """A look that read the row before it was deleted is not remembered."""

    class LatePool(CountingPool):
        asked, erased = asyncio.Event(), asyncio.Event()

        async def fetch(self, statement, subjects, offers):
            rows = await super().fetch(statement, subjects, offers)
            self.asked.set()
            await self.erased.wait()
            return rows

    sealed = (await KeyRing(pool, MASTER).key("c:ada")).seal("email", b"x")
    late = LatePool(pool)
    ring = KeyRing(late, MASTER)
    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(ring.open("c:ada", "email", sealed))
        await late.asked.wait()
        await ring.erase("c:ada")
        late.erased.set()
    assert await reader == b"x"
    with pytest.raises(ErasedError):
        await ring.open("c:ada", "email", sealed)


async def test_a_key_wrapped_by_another_master_key_harms_nobody_else(pool: asyncpg.Pool) -> None:
    """Its own reader is told; the others of the batch are served."""
    stranger = MasterKey(bytes(32)).wrap(DataKey.generate("c:eve"))
    await pool.execute("INSERT INTO data_keys (subject, wrapped) VALUES ('c:eve', $1)", stranger)
    ring = KeyRing(pool, MASTER)
    served, refused = await asyncio.gather(ring.key("c:ada"), ring.key("c:eve"), return_exceptions=True)
    assert isinstance(served, DataKey)
    assert isinstance(refused, TamperedError)


async def test_an_outage_is_the_callers_and_is_over_with_the_outage(pool: asyncpg.Pool) -> None:
    """The error passes through, and nothing of it is remembered."""

    class BrokenPool(CountingPool):
        broken = True

        async def fetch(self, statement, subjects, offers):
            if self.broken:
                raise asyncpg.PostgresConnectionError("gone")
            return await super().fetch(statement, subjects, offers)

    broken = BrokenPool(pool)
    ring = KeyRing(broken, MASTER)
    with pytest.raises(asyncpg.PostgresConnectionError):
        await ring.key("c:ada")
    broken.broken = False
    assert isinstance(await ring.key("c:ada"), DataKey)


async def test_the_cache_is_bounded(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that was not used for longest makes room."""
    monkeypatch.setattr(key_ring, "CACHED_KEYS", 2)
    counting = CountingPool(pool)
    ring = KeyRing(counting, MASTER)
    for subject in ("c:1", "c:2", "c:1", "c:3", "c:1"):
        await ring.key(subject)
    assert len(counting.subjects_asked) == 3
    await ring.key("c:2")
    assert len(counting.subjects_asked) == 4
