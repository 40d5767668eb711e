"""The flash sale from end to end: plan, set the stage, sell, let the books settle, judge.

Owns the order of these and nothing else. A pure client of the HTTP contract: what it knows of the shop it
was told over HTTP. Promises a `SaleResult` whose exit code is 1 if a promise of the engine was broken, or
`SaleFailedError` if no sale could be held. Called by the command line and by benchmarks.
"""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import subprocess
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.flash_sale.buyers import make_plan
from benchmarks.flash_sale.clients import sell
from benchmarks.flash_sale.config import Plan, SaleConfig, SaleFailedError, Stage
from benchmarks.flash_sale.measure import Recorder
from benchmarks.flash_sale.stage import set_stage
from benchmarks.flash_sale.verify import Check, gather, judge
from operator_client import OperatorClient, Target, TargetError

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class SaleResult:
    """What was planned, what the buyers saw, and what the shop's books say about it."""

    config: SaleConfig
    plan: Plan
    stage: Stage
    recorder: Recorder
    checks: list[Check]
    started_at: datetime
    environment: dict[str, str]

    @property
    def broken(self) -> list[Check]:
        return [check for check in self.checks if check.status == "broken"]

    @property
    def exit_code(self) -> int:
        return 1 if self.broken else 0


async def run_sale(config: SaleConfig) -> SaleResult:
    """Hold one sale. Raises `SaleFailedError` when it could not be held or its books not be read."""
    config = replace(config, url=config.url.rstrip("/"))
    plan = make_plan(config, "".join(secrets.choice(_ALPHABET) for _ in range(8)))
    started_at = datetime.now(UTC)
    try:
        async with OperatorClient(Target(config.url, config.token), patience_s=config.patience_s) as operator:
            stage = await set_stage(operator, config, plan)
            recorder = await sell(config, plan, stage)
            checks = await _settle(operator, config, plan, recorder)
    except TargetError as error:
        raise SaleFailedError(str(error)) from error
    return SaleResult(config, plan, stage, recorder, checks, started_at, environment())


async def _settle(operator: OperatorClient, config: SaleConfig, plan: Plan, recorder: Recorder) -> list[Check]:
    """The checks, once all hold or `settle_s` have passed: captures follow their orders by a few seconds."""
    deadline = time.monotonic() + config.settle_s
    while True:
        checks = judge(plan, recorder, await gather(operator, plan))
        if time.monotonic() >= deadline or all(check.status != "broken" for check in checks):
            return checks
        await asyncio.sleep(_LOOK_AGAIN_S)


def environment() -> dict[str, str]:
    """The machine and code of the load generator; of a local server too."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": str(os.cpu_count()),
        "memory": f"{memory:.1f} GiB",
    }


def _commit() -> str:
    """The commit of this code, with `+` when files were changed since; `unknown` outside a repository."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
