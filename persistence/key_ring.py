"""The data keys of all persons: found or made by the group, cached, erased.

Owns the table `data_keys`. Promises that a key it returns for sealing is durable, and that everyone who asks
at once gets the same one. Is told subjects (`c:…` customers, `g:…` guests). Never writes a key in clear. Each
process that seals or opens holds one ring; an erasure reaches the caches of the others within `CACHE_TTL_S`.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

import asyncpg

from persistence.coalescer import Coalescer
from persistence.sealing import DataKey, ErasedError, MasterKey

CACHED_KEYS = 50_000
CACHE_TTL_S = 60.0

_MAX_BATCH = 2_000
_CLAIM = "SELECT subject, wrapped FROM claim_data_keys($1, $2)"
_ERASE = "DELETE FROM data_keys WHERE subject = $1 RETURNING subject"


class KeyRing:
    """Data keys by subject. Errors of asyncpg pass through: nothing was sealed, ask again."""

    def __init__(self, pool: asyncpg.Pool, master: MasterKey, now: Callable[[], float] = time.monotonic) -> None:
        """`now` is a clock in seconds that never goes back."""
        self._pool = pool
        self._master = master
        self._now = now
        self._cache: OrderedDict[str, tuple[float, DataKey]] = OrderedDict()
        self._erasures = 0
        self._claims: Coalescer[tuple[str, bool], DataKey | bytes | None] = Coalescer(self._claim, _MAX_BATCH)

    async def key(self, subject: str) -> DataKey:
        """The subject's key, made if it has none, to seal under."""
        key = self._cached(subject)
        while key is None:
            # None once more: it was erased by somebody between the insert and the look.
            erasures, claim = self._erasures, self._claims.submit((subject, True))
            key = self._taken(subject, await claim, erasures)
        return key

    async def keys(self, subjects: Iterable[str]) -> dict[str, DataKey]:
        """A key for every subject, made where it has none, to seal under."""
        wanted = frozenset(subjects)
        found = await self._find(wanted, create=True)
        while len(found) < len(wanted):
            # Erased by somebody between the insert and the look: the next round makes a new one.
            found |= await self._find(wanted - found.keys(), create=True)
        return found

    async def known_keys(self, subjects: Iterable[str]) -> dict[str, DataKey]:
        """The keys that exist, to open what was sealed; a subject left out was erased, or never had one."""
        return await self._find(frozenset(subjects), create=False)

    async def open(self, subject: str, field: str, sealed: bytes) -> bytes:
        """The plaintext of one sealed field.

        ErasedError: its key is gone. TamperedError: it is not what was sealed.
        """
        key = self._cached(subject) or (await self.known_keys((subject,))).get(subject)
        if key is None:
            raise ErasedError(field)
        return key.open(field, sealed)

    async def erase(self, subject: str) -> bool:
        """Delete the subject's key, and with it all that was sealed under it; whether there was one.

        What another process seals for the subject within `CACHE_TTL_S` may still use the deleted key: it is
        erased too. Later the subject gets a new key, which does not open the old values.
        """
        deleted = await self._pool.fetchval(_ERASE, subject)
        # After the delete, so that a claim that read the row before it does not bring the key back.
        self._erasures += 1
        self._cache.pop(subject, None)
        return deleted is not None

    async def _find(self, subjects: Iterable[str], create: bool) -> dict[str, DataKey]:
        found: dict[str, DataKey] = {}
        missing = []
        for subject in subjects:
            cached = self._cached(subject)
            if cached is not None:
                found[subject] = cached
            else:
                missing.append(subject)
        if missing:
            erasures = self._erasures
            claims = [self._claims.submit((subject, create)) for subject in missing]
            for subject, claimed in zip(missing, await asyncio.gather(*claims), strict=True):
                key = self._taken(subject, claimed, erasures)
                if key is not None:
                    found[subject] = key
        return found

    def _taken(self, subject: str, claimed: DataKey | bytes | None, erasures: int) -> DataKey | None:
        """What a claim brought. It is remembered unless a key was erased since: it may be that one."""
        if claimed is None:
            return None
        key = claimed if isinstance(claimed, DataKey) else self._master.unwrap(subject, claimed)
        if erasures == self._erasures:
            self._remember(subject, key)
        return key

    async def _claim(self, batch: list[tuple[str, bool]]) -> list[DataKey | bytes | None]:
        """Each subject's key: the one just made for it, else the stored one, still wrapped (it may not open)."""
        made = {subject: DataKey.generate(subject) for subject in {subject for subject, create in batch if create}}
        offers = {subject: self._master.wrap(key) for subject, key in made.items()}
        subjects = list({subject for subject, _ in batch})
        rows = await self._pool.fetch(_CLAIM, subjects, [offers.get(subject) for subject in subjects])
        stored: dict[str, bytes] = dict(rows)
        return [
            made[subject] if subject in made and stored.get(subject) == offers[subject] else stored.get(subject)
            for subject, _ in batch
        ]

    def _cached(self, subject: str) -> DataKey | None:
        entry = self._cache.get(subject)
        if entry is None:
            return None
        if entry[0] <= self._now():
            del self._cache[subject]
            return None
        self._cache.move_to_end(subject)
        return entry[1]

    def _remember(self, subject: str, key: DataKey) -> None:
        self._cache[subject] = (self._now() + CACHE_TTL_S, key)
        self._cache.move_to_end(subject)
        if len(self._cache) > CACHED_KEYS:
            self._cache.popitem(last=False)
