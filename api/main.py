"""The API server's process: Granian and, in each worker, the application wired to the engine.

Owns the composition of an API worker (pools, keys, mailboxes). Is told by the environment of its supervisor.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import asyncpg
import uvloop
from fastapi import FastAPI
from granian.constants import Interfaces, Loops
from granian.server import Server

from api.app import create_app
from api.context import AppContext
from api.settings import ApiSettings
from api.tokens import DevelopmentKey, Jwks, Verifier
from cluster import connection
from cluster.lifeline import end_with_parent
from cluster.logs import log_to_stderr
from cluster.settings import Settings
from cluster.tuning import spare_the_collector
from persistence.key_ring import KeyRing
from persistence.order_queries import OrderQueries
from persistence.outages import CONNECT_S
from persistence.sealing import MasterKey, load_or_create_secret

CONFIG_VARIABLE = "LASTUNIT_PRIVATE_API"
POOL_SIZE = 8
LISTEN_WITHIN_S = 60.0


def master_key_path(data_dir: Path, settings: Settings) -> Path:
    return settings.master_key_file or data_dir / "master.key"


def development_key(data_dir: Path) -> DevelopmentKey:
    """The key of development mode's tokens: in the data directory, so that tokens survive a restart."""
    return DevelopmentKey(load_or_create_secret(data_dir / "development-jwt.key", "development-jwt-key"))


def verifier_of(data_dir: Path, settings: Settings) -> Verifier:
    """Production asks the identity provider's keys; development has one of its own in the data directory."""
    if settings.mode == "development":
        return Verifier([development_key(data_dir)])
    # load_settings demands all three.
    return Verifier([Jwks(str(settings.jwks_url), str(settings.jwt_issuer), str(settings.jwt_audience))])


def worker() -> FastAPI:
    """What Granian loads in each worker process."""
    # A worker must not outlive its server: it would keep the port, and an engine that nobody supervises.
    end_with_parent(signal.SIGKILL)
    log_to_stderr()
    config = json.loads(os.environ[CONFIG_VARIABLE])
    settings = Settings.model_validate_json(config["settings"])
    data_dir = Path(config["data_dir"])
    master_key = MasterKey.load_or_create(master_key_path(data_dir, settings))

    # What the engine is made of exists only once the worker's event loop runs; no request comes before.
    not_yet = cast(Any, None)
    context = AppContext(
        engine=not_yet,
        orders=not_yet,
        key_ring=not_yet,
        master_key=master_key,
        verifier=verifier_of(data_dir, settings),
        settings=ApiSettings(
            mode=settings.mode,
            currency=settings.currency,
            rate_limits_on=settings.rate_limits_on,
            sandbox_on=settings.mode == "development",
            max_body_bytes=settings.max_body_bytes,
            public_url=f"http://{config['host']}:{config['port']}",
            dashboard_url=config["dashboard_url"],
            demo_on=config["demo"],
        ),
    )

    @asynccontextmanager
    async def engaged(app: FastAPI) -> AsyncIterator[None]:
        pool = await asyncpg.create_pool(
            config["dsn"], min_size=1, max_size=POOL_SIZE, timeout=CONNECT_S, command_timeout=30
        )
        engine = await connection.connect(config["ray_address"], pool)
        spare_the_collector()
        app.state.context = replace(
            context, engine=engine, orders=OrderQueries(pool), key_ring=KeyRing(pool, master_key)
        )
        try:
            yield
        finally:
            await engine.close()
            await pool.close()

    return create_app(context, engaged)


def serve() -> int:
    """Run the server until SIGTERM; print its URL on standard output once it takes requests."""
    config = json.loads(os.environ[CONFIG_VARIABLE])
    settings = Settings.model_validate_json(config["settings"])
    uvloop.install()
    url = f"http://{config['host']}:{config['port']}"
    threading.Thread(target=_announce, args=(url,), daemon=True).start()
    Server(
        "api.main:worker",
        address=config["host"],
        port=config["port"],
        interface=Interfaces.ASGI,
        factory=True,
        loop=Loops.uvloop,
        workers=settings.api_workers,
        backlog=4096,
        websockets=False,
        respawn_failed_workers=True,
        respawn_interval=0.2,
        workers_kill_timeout=10,
        log_dictconfig=_LOG_TO_STDERR,
    ).serve()
    return 0


def _announce(url: str) -> None:
    """Ready is when the engine behind the application is, not when the port is open."""
    end_s = time.monotonic() + LISTEN_WITHIN_S
    while time.monotonic() < end_s:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310 (our own URL)
                if answer.status == 200:
                    sys.stdout.write(url + "\n")
                    sys.stdout.flush()
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    logging.getLogger("lastunit").error("the API is not ready after %s s", LISTEN_WITHIN_S)
    os.kill(os.getpid(), signal.SIGTERM)


_LOG_TO_STDERR: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {"_granian": {"level": "WARNING"}, "granian.access": {"level": "WARNING"}},
}
