"""A small sale over HTTP while things are killed: buyers who ask again with their key, and what they were told."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.client import DETAILS, key, lines, pay_with
from tests.support.server import eventually

PATIENCE_S = 120.0
AGAIN = (202, 408, 429, 503)
AGAIN_CODES = ("request_in_progress", "completion_in_progress")


@dataclass
class Sale:
    """Buyers of one unit each. `sold` maps a buyer's key to the body of the 200 they were given."""

    url: str
    sku: str
    token: str = "pm_card_visa"
    sold: dict[str, bytes] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    interim: Counter[str] = field(default_factory=Counter)

    @property
    def ended(self) -> int:
        return len(self.sold) + self.refused.total() + len(self.strange)

    def orders(self) -> dict[str, dict[str, Any]]:
        """What was acknowledged, by order id."""
        return {body["order"]["id"]: body for body in map(json.loads, self.sold.values())}

    async def run(self, buyers: int, concurrency: int = 48) -> None:
        """Every buyer to their end: an order, a refusal, or something strange."""
        places = asyncio.Semaphore(concurrency)
        connector = aiohttp.TCPConnector(limit=concurrency)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one() -> None:
                async with places:
                    await self._buy(session, key())

            await asyncio.gather(*(one() for _ in range(buyers)))

    async def repeat(self) -> dict[str, bytes]:
        """Ask again with every key that bought; what comes this time, by key."""
        async with aiohttp.ClientSession() as session:
            again = Sale(self.url, self.sku, self.token)
            for chosen in self.sold:
                await again._buy(session, chosen)
        return again.sold

    async def _buy(self, session: aiohttp.ClientSession, chosen: str) -> None:
        body = {**lines((self.sku, 1)), **DETAILS, **pay_with(self.token)}

        async def is_final() -> bool:
            return await self._ask(session, chosen, body)

        try:
            await eventually(is_final, "a final answer", PATIENCE_S)
        except AssertionError as late:
            self.strange.append(f"{chosen}: {late}")

    async def _ask(self, session: aiohttp.ClientSession, chosen: str, body: dict[str, Any]) -> bool:
        """Whether this answer is final."""
        headers = {"Idempotency-Key": chosen}
        try:
            async with session.post(f"{self.url}/v1/express-checkouts", json=body, headers=headers) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            self.interim[type(error).__name__] += 1
            return False
        if answer.status == 200:
            self.sold[chosen] = content
            return True
        code = json.loads(content).get("code", "")
        if answer.status in AGAIN or code in AGAIN_CODES:
            self.interim[f"{answer.status} {code}"] += 1
            return False
        if (answer.status, code) == (409, "out_of_stock"):
            self.refused[code] += 1
        else:
            self.strange.append(f"{answer.status} {content.decode()}")
        return True
