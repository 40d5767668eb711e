"""Buyers over HTTP in a run of chaos: each has one key, asks until the answer is final, and keeps everything it heard.

Owns the histories. Buyers come at an even pace, whatever becomes of those before them, for an outage must not keep
away those whom it would meet. Each buys one unit of what is on sale; more come to a SKU than it has units. Never
judges: `checker` does.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from tests.chaos.checker import Answer, Buyer
from tests.support.client import DETAILS, key, lines, pay_with

ANSWER_S = 40.0  # what a buyer waits for one answer
PATIENCE_S = 180.0  # and for the final one, while things are killed
PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0  # between two tries: each twice as long, and up to half as much by chance
MOST_INSIDE = 400  # at one time; then nobody comes until somebody has left
ON_SALE = 4  # SKUs at one time, so that they are of several shards


class Crowd:
    """`run` lets so many buyers a second come, until `closing` is set; `ask_all` puts the final question; then those
    whose payment failed `leave`."""

    def __init__(self, url: str, skus: Sequence[str], buyers_per_sku: int) -> None:
        self.histories: dict[str, tuple[str, list[Answer]]] = {}
        self.closing = asyncio.Event()
        self.sold = 0  # histories with an order
        self._url = url
        self._skus = [
            sku
            for first in range(0, len(skus), ON_SALE)
            for _ in range(buyers_per_sku)
            for sku in skus[first : first + ON_SALE]
        ]  # of each buyer that may come
        self._places = asyncio.Semaphore(MOST_INSIDE)
        self._unpaid: dict[str, tuple[str, str]] = {}  # checkout and token of a history whose payment has failed

    @property
    def answers(self) -> list[Answer]:
        return [answer for _, answers in self.histories.values() for answer in answers]

    @property
    def buyers(self) -> list[Buyer]:
        return [Buyer(name, sku, 1, answers) for name, (sku, answers) in self.histories.items()]

    async def run(self, a_second: float) -> None:
        async with self._session() as session, asyncio.TaskGroup() as group:
            for sku in self._skus:
                async with self._places:  # one is free, and is taken by the buyer who comes now
                    await asyncio.sleep(1 / a_second)
                if self.closing.is_set():
                    return
                name = key()
                self.histories[name] = (sku, [])
                group.create_task(self._come(session, name))

    async def ask_all(self, at_once: int) -> None:
        """Every key once more, to its final answer."""
        places = asyncio.Semaphore(at_once)
        async with self._session() as session:

            async def one(name: str) -> None:
                async with places:
                    await self._until_final(session, name)

            await asyncio.gather(*(one(name) for name in self.histories))

    async def leave(self, at_once: int) -> None:
        """Who was told that the payment failed might pay otherwise; until then, or for its time, the units are held.
        Nobody does: each of these checkouts is canceled, however often that has to be asked for."""
        places = asyncio.Semaphore(at_once)
        async with self._session() as session:

            async def one(checkout_id: str, token: str) -> None:
                url, mine = f"{self._url}/v1/checkouts/{checkout_id}/cancel", {"Cart-Token": token}
                end_s = time.monotonic() + PATIENCE_S
                async with places:
                    while time.monotonic() < end_s:
                        status, _ = await self._post(session, url, {}, mine)
                        if status == 200:
                            return
                        await asyncio.sleep(PAUSE_S)

            await asyncio.gather(*(one(*unpaid) for unpaid in self._unpaid.values()))

    async def _come(self, session: aiohttp.ClientSession, name: str) -> None:
        async with self._places:
            await self._until_final(session, name)
        self.sold += any(answer.status == 200 for answer in self.histories[name][1])

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(ANSWER_S), connector=aiohttp.TCPConnector(limit=MOST_INSIDE)
        )

    async def _until_final(self, session: aiohttp.ClientSession, name: str) -> None:
        sku, answers = self.histories[name]
        end_s = time.monotonic() + PATIENCE_S
        pause_s = PAUSE_S
        while time.monotonic() < end_s:
            answer = await self._ask(session, name, sku)
            answers.append(answer)
            if answer.final:
                return
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _ask(self, session: aiohttp.ClientSession, name: str, sku: str) -> Answer:
        body = {**lines((sku, 1)), **DETAILS, **pay_with()}
        begun_s = time.monotonic()
        status, found = await self._post(session, f"{self._url}/v1/express-checkouts", body, {"Idempotency-Key": name})
        if status == 402:
            self._unpaid[name] = found["checkout_id"], found["token"]
        order_id = found["order"]["id"] if status == 200 else ""
        return Answer(status, found.get("code", ""), order_id, begun_s, time.monotonic())

    async def _post(
        self, session: aiohttp.ClientSession, url: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """Status and body; status 0 for no answer."""
        try:
            async with session.post(url, json=body, headers=headers) as response:
                return response.status, json.loads(await response.read())
        except (aiohttp.ClientError, OSError, ValueError):
            return 0, {}
