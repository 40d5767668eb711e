"""What a sale tells people and programs: the table in the terminal, report.json, report.html.

Owns the document of which all three are views; `README.md` beside this file lists its keys. Promises that
report.html needs nothing but itself. Told a `SaleResult`, never asks the server. Called by the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from benchmarks.flash_sale.measure import (
    OUTCOMES,
    PERCENTILES,
    Recorder,
    bucket_width_s,
    buckets,
    by_outcome,
    duration_s,
    last_sold_s,
    latency_ms,
    percentile,
)
from benchmarks.flash_sale.page import render_page
from benchmarks.flash_sale.run import SaleResult
from benchmarks.flash_sale.verify import Check

SCHEMA = 1
_CURVE_PERCENTS = (*range(1, 99), 98.5, 99, 99.25, 99.5, 99.75, 99.9, 100)
_MARKS = {
    "held": "[green]✓ held[/]",
    "broken": "[bold red]✗ broken[/]",
    "not_checked": "[yellow]– not checked[/]",
}


def document(result: SaleResult) -> dict[str, Any]:
    """The whole report as JSON values. Latencies are in milliseconds, amounts in minor units."""
    recorder = result.recorder
    sold, refused, failed = recorder.counts()
    span_s = duration_s(recorder)
    requests = sum(len(samples) for samples in recorder.endpoints.values())
    return {
        "schema": SCHEMA,
        "run": result.plan.run,
        "started_at": result.started_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "verdict": "broken" if result.broken else "held",
        "exit_code": result.exit_code,
        "sale": _sale(result),
        "outcome": {
            "sold": sold,
            "refused": refused,
            "errors": failed,
            "refused_by_code": _sizes(recorder.refusals),
            "errors_by_code": _sizes(recorder.failures),
            "retries": dict(recorder.retries),
        },
        "speed": {
            "duration_s": round(span_s, 6),
            "orders_per_s": _rate(sold, span_s),
            "answers_per_s": _rate(sold + refused, span_s),
            "requests_per_s": _rate(requests, span_s),
            "last_order_after_s": last_sold_s(recorder),
        },
        "latency_ms": _latencies(recorder),
        "series": _series(recorder, bucket_width_s(span_s)),
        "invariants": [msgspec.to_builtins(check) for check in result.checks],
        "environment": {"client": result.environment, "server": result.stage.server},
    }


def write_reports(result: SaleResult, folder: Path) -> tuple[Path, Path]:
    """Write report.json and report.html into `folder`, which is made; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = document(result)
    as_json, as_html = folder / "report.json", folder / "report.html"
    as_json.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n")
    as_html.write_text(render_page(facts), encoding="utf-8")
    return as_json, as_html


def print_result(result: SaleResult, console: Console) -> None:
    """The sale in the terminal: outcome, latencies, and every promise with its verdict."""
    facts = document(result)
    console.print(Group(_outcome_table(facts), "", _latency_table(facts), "", _checks_table(result.checks)))
    if result.broken:
        names = ", ".join(check.name for check in result.broken)
        console.print(Text(f"Broken: {names}", style="bold red"))


def _sale(result: SaleResult) -> dict[str, Any]:
    config, plan = result.config, result.plan
    return {
        "url": config.url,
        "journey": config.journey,
        "buyers": len(plan.baskets),
        "units": plan.units,
        "skus": len(plan.products),
        "concurrency": config.concurrency,
        "client_processes": config.client_processes,
        "gateway_latency_ms": config.latency_ms,
        "baskets": config.baskets.name if config.baskets else None,
        "lines_per_basket": round(sum(map(len, plan.baskets)) / len(plan.baskets), 2),
        "currency": result.stage.currency,
        "shipping_option": result.stage.shipping_option,
        "seed": config.seed,
        "made_up": plan.made_up,
    }


def _latencies(recorder: Recorder) -> dict[str, Any]:
    outcomes = by_outcome(recorder)
    return {
        "journey": {
            "all": latency_ms(recorder.latency_us),
            **{outcome: latency_ms(outcomes[outcome]) for outcome in OUTCOMES},
        },
        "endpoints": {name: latency_ms(samples) for name, samples in recorder.endpoints.items()},
        "curves": {outcome: _curve(outcomes[outcome]) for outcome in OUTCOMES if outcomes[outcome]},
    }


def _series(recorder: Recorder, width_s: float) -> dict[str, Any]:
    points = [
        {
            "at_s": bucket.at_s,
            "orders": bucket.sold,
            "refusals": bucket.refused,
            "errors": bucket.failed,
            "p50_ms": bucket.p50_ms,
            "p95_ms": bucket.p95_ms,
            "p99_ms": bucket.p99_ms,
        }
        for bucket in buckets(recorder, width_s)
    ]
    return {"bucket_s": width_s, "points": points}


def _sizes(by_code: dict[str, list[int]]) -> dict[str, int]:
    sizes = {code: len(buyers) for code, buyers in by_code.items()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _rate(count: int, span_s: float) -> float:
    return round(count / span_s, 1) if span_s else 0.0


def _curve(samples: Sequence[int]) -> list[tuple[float, float]]:
    """The distribution as (percent, ms) pairs: so many percent took at most so long."""
    ordered = sorted(samples)
    return [(percent, percentile(ordered, percent) / 1000) for percent in _CURVE_PERCENTS]


def _outcome_table(facts: dict[str, Any]) -> Table:
    sale, outcome, speed = facts["sale"], facts["outcome"], facts["speed"]
    table = Table(title=_title(facts), title_justify="left", title_style="bold", show_header=False, box=None)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    units = f"{sale['units']:,} units of {sale['skus']:,} SKU{'' if sale['skus'] == 1 else 's'}"
    table.add_row("sold", f"{outcome['sold']:,}", f"orders; there were {units}")
    table.add_row("refused", f"{outcome['refused']:,}", _codes(outcome["refused_by_code"]))
    table.add_row("errors", f"{outcome['errors']:,}", _codes(outcome["errors_by_code"]))
    if outcome["retries"]:
        table.add_row("asked again", f"{sum(outcome['retries'].values()):,}", _codes(outcome["retries"]))
    table.add_row("orders/s", f"{speed['orders_per_s']:,.1f}", f"over {speed['duration_s']:,.2f} s")
    table.add_row("answers/s", f"{speed['answers_per_s']:,.1f}", f"{speed['requests_per_s']:,.1f} requests/s")
    if speed["last_order_after_s"] is not None:
        table.add_row("last order after", f"{speed['last_order_after_s']:,.2f} s", "")
    return table


def _latency_table(facts: dict[str, Any]) -> Table:
    table = Table(title="Latency in ms", title_justify="left", title_style="bold", box=None, header_style="dim")
    table.add_column("", no_wrap=True)
    for name in ("count", *PERCENTILES, "max"):
        table.add_column(name, justify="right")
    latency = facts["latency_ms"]
    rows = {f"buyers, {name}": figures for name, figures in latency["journey"].items()} | latency["endpoints"]
    for name, figures in rows.items():
        if figures["count"]:
            cells = [f"{figures[percent]:,.1f}" for percent in (*PERCENTILES, "max")]
            table.add_row(name, f"{figures['count']:,}", *cells)
    return table


def _checks_table(checks: Sequence[Check]) -> Table:
    table = Table(title="Promises", title_justify="left", title_style="bold", show_header=False, box=None)
    for check in checks:
        table.add_row(_MARKS[check.status], check.promise, Text(check.detail, style="dim"))
    return table


def _title(facts: dict[str, Any]) -> str:
    sale = facts["sale"]
    at = datetime.fromisoformat(facts["started_at"]).strftime("%Y-%m-%d %H:%M UTC")
    return f"Flash sale {facts['run']}: {sale['buyers']:,} buyers, {sale['journey']}, {at}"


def _codes(by_code: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {code}" for code, count in by_code.items())
