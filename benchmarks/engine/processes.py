"""Where the processor time of an instance goes: seconds per kind of process, from the operating system's books."""

from __future__ import annotations

from collections import Counter

import psutil

KINDS = ("StockActor", "CartActor", "CheckoutCoordinator", "SandboxGateway", "postgres", "raylet", "gcs_server")


def cpu_seconds(root_pid: int) -> Counter[str]:
    """User and system time so far of the process tree below ``root_pid``, and of this process as "client"."""
    spent: Counter[str] = Counter()
    for process in psutil.Process(root_pid).children(recursive=True):
        try:
            times = process.cpu_times()
            title = " ".join(process.cmdline()) or process.name()
        except psutil.NoSuchProcess:
            continue
        kind = next((kind for kind in KINDS if kind in title), "other")
        spent[kind] += times.user + times.system
    own = psutil.Process().cpu_times()
    spent["client"] = own.user + own.system
    return spent


def per_order_us(before: Counter[str], after: Counter[str], orders: int) -> dict[str, int]:
    """Microseconds an order, by kind of process, dearest first."""
    spent = {kind: after[kind] - before[kind] for kind in after}
    return {kind: round(s * 1e6 / orders) for kind, s in sorted(spent.items(), key=lambda item: -item[1]) if s > 0}
