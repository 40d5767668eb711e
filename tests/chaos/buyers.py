"""Buyers over HTTP in a run of chaos: each has one key, asks until the answer is final, and keeps everything it heard.

Owns the histories. Buys one unit of whatever is on sale; more buyers come to a SKU than it has units. Never judges:
`checker` does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

import aiohttp

from tests.chaos.checker import Answer, Buyer
from tests.support.client import DETAILS, key, lines, pay_with

ANSWER_S = 40.0  # what a buyer waits for one answer
PATIENCE_S = 180.0  # and for the final one, while things are killed
PAUSE_S = 0.25  # between two tries, and before the next one comes


class Crowd:
    """`run` lets buyers come, so many at once, until `closing` is set; `ask_all` puts the final question."""

    def __init__(self, url: str, skus: Sequence[str], buyers_per_sku: int) -> None:
        self.histories: dict[str, tuple[str, list[Answer]]] = {}
        self.closing = asyncio.Event()
        self._url = url
        self._skus = skus
        self._per_sku = buyers_per_sku

    @property
    def answers(self) -> list[Answer]:
        return [answer for _, answers in self.histories.values() for answer in answers]

    @property
    def buyers(self) -> list[Buyer]:
        return [Buyer(name, sku, 1, answers) for name, (sku, answers) in self.histories.items()]

    @property
    def sold(self) -> int:
        return sum(bool(answers) and answers[-1].status == 200 for _, answers in self.histories.values())

    @property
    def sold_out(self) -> bool:
        return len(self.histories) >= self._per_sku * len(self._skus)

    async def run(self, at_once: int) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_S)) as session:
            await asyncio.gather(*(self._come(session) for _ in range(at_once)))

    async def ask_all(self, at_once: int) -> None:
        """Every key once more, to its final answer."""
        places = asyncio.Semaphore(at_once)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_S)) as session:

            async def one(name: str) -> None:
                async with places:
                    await self._until_final(session, name)

            await asyncio.gather(*(one(name) for name in self.histories))

    async def _come(self, session: aiohttp.ClientSession) -> None:
        """One after another."""
        while not self.closing.is_set():
            number = len(self.histories) // self._per_sku
            if number >= len(self._skus):
                return
            name = key()
            self.histories[name] = (self._skus[number], [])
            await self._until_final(session, name)
            await asyncio.sleep(PAUSE_S)

    async def _until_final(self, session: aiohttp.ClientSession, name: str) -> None:
        sku, answers = self.histories[name]
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            answer = await self._ask(session, name, sku)
            answers.append(answer)
            if answer.final:
                return
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, session: aiohttp.ClientSession, name: str, sku: str) -> Answer:
        body = {**lines((sku, 1)), **DETAILS, **pay_with()}
        begun_s = time.monotonic()
        try:
            async with session.post(
                f"{self._url}/v1/express-checkouts", json=body, headers={"Idempotency-Key": name}
            ) as response:
                found = json.loads(await response.read())
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError):
            return Answer(0, begun_s=begun_s, ended_s=time.monotonic())
        order_id = found["order"]["id"] if status == 200 else ""
        return Answer(status, found.get("code", ""), order_id, begun_s, time.monotonic())
