"""What the browser tests share: a headless Chromium, and the real application behind a real server.

The engine is the one in memory, so that a test can turn the clock and stop the gateway; everything from the
socket outwards is what buyers get.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
import pytest_asyncio
from granian.constants import Interfaces
from granian.server.embed import Server
from playwright.async_api import Browser, Page, async_playwright

from api.settings import ApiSettings
from demo import load_demo
from operator_client import OperatorClient, Target
from tests.support.server import free_port
from tests.support.shop import Shop, open_shop

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_MS = 15_000

OpenPage = Callable[..., Awaitable[Page]]


# One loop a module, for the browser belongs to the loop it was started in.
BROWSER_TESTS = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


class Site:
    """The served shop: where it is, and what is behind it."""

    def __init__(self, url: str, shop: Shop) -> None:
        self.url = url
        self.shop = shop

    @property
    def token(self) -> str:
        return self.shop.operator()["Authorization"].removeprefix("Bearer ")


@asynccontextmanager
async def served(shop: Shop) -> AsyncIterator[str]:
    """The application on a port of this machine, by the server that `lastunit up` uses."""
    port = free_port()
    server = Server(shop.app, port=port, interface=Interfaces.ASGINL, websockets=False, log_enabled=False)
    task = asyncio.create_task(server.serve())
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient() as client:
            await _answers(client, url)
        yield url
    finally:
        server.stop()
        await task


async def _answers(client: httpx.AsyncClient, url: str) -> None:
    end_s = time.monotonic() + PATIENCE_MS / 1000
    while True:
        try:
            await client.get(f"{url}/healthz")
        except httpx.TransportError:
            assert time.monotonic() < end_s, "the server does not listen"
            await asyncio.sleep(0.02)
        else:
            return


@pytest_asyncio.fixture(loop_scope="module")
async def site() -> AsyncIterator[Site]:
    """A shop with the demo goods, its clock at the time of day: the page counts down to it."""
    async with open_shop(ApiSettings(demo_on=True)) as shop:
        shop.engine.clock.now_ms = time.time_ns() // 1_000_000
        async with served(shop) as url:
            opened = Site(url, shop)
            async with OperatorClient(Target(url, opened.token)) as client:
                await load_demo(client)
            yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests of a module."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: `make debian`, or your package manager, installs one")
    async with async_playwright() as playwright:
        arguments = ["--disable-gpu", "--disable-quic", "--disable-background-networking"]
        sandboxed = os.geteuid() != 0  # Chromium's own sandbox refuses to run as root
        launched = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=arguments, chromium_sandbox=sandboxed
        )
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="module")
async def open_page(browser: Browser, site: Site) -> AsyncIterator[OpenPage]:
    """Opens pages as new visitors; fails the test when one of them had an error in its scripts or policy."""
    complaints: list[str] = []
    contexts = []

    async def open_one(path: str = "/", *, width: int = 1280, height: int = 900) -> Page:
        context = await browser.new_context(locale="en-US", viewport={"width": width, "height": height})
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if _is_fault(message) else None)
        await page.goto(site.url + path)
        return page

    yield open_one
    for context in contexts:
        await context.close()
    assert complaints == []


def _is_fault(message: object) -> bool:
    # The browser reports every refusal of the API as a failed load; those are what the tests provoke.
    text = str(getattr(message, "text", ""))
    return getattr(message, "type", "") == "error" and not text.startswith("Failed to load resource")
