"""report.html: one page that shows a sale to people who were not there.

Pure: the document of report.json to a string of HTML that loads nothing and runs nothing. Whatever comes
from outside is escaped. Called by the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from benchmarks.flash_sale import charts
from benchmarks.flash_sale.charts import Series

_OUTCOMES = (("sold", "Sold", "orders"), ("refused", "Refused", "refusals"), ("failed", "Errors", "errors"))
_COLUMNS = ("count", "p50", "p90", "p95", "p99", "p999", "max")
_MARKS = {"held": "✓ held", "broken": "✗ broken", "not_checked": "– not checked"}
_JOURNEY_NAMES = {"all": "all buyers", "sold": "sold", "refused": "refused", "failed": "errors"}


def render_page(facts: Mapping[str, Any]) -> str:
    """The page for a document as `report.document` makes it."""
    template = Template((files(__package__) / "templates" / "report.html").read_text(encoding="utf-8"))
    series, counts = facts["series"], _counts(facts)
    points, width_s = series["points"], series["bucket_s"]
    at_s = [point["at_s"] for point in points]
    columns = [Series(name, css, [point[key] for point in points]) for css, name, key in _OUTCOMES]
    rows = [Series(name, name, [point[f"{name}_ms"] for point in points]) for name in ("p99", "p95", "p50")]
    curves = facts["latency_ms"]["curves"]
    drawn = [(name, css, curves[css]) for css, name, _ in _OUTCOMES if css in curves]
    return template.substitute(
        title=escape(f"Flash sale {facts['run']}"),
        run=escape(facts["run"]),
        when=datetime.fromisoformat(facts["started_at"]).strftime("%-d %B %Y, %H:%M UTC"),
        headline=escape(_headline(facts)),
        verdict=facts["verdict"],
        verdict_sentence=escape(_verdict(facts["invariants"])),
        tiles=_tiles(facts),
        outcome_bar=charts.outcome_bar([(name, css, counts[css]) for css, name, _ in _OUTCOMES]),
        outcome_legend=_outcome_legend(facts),
        throughput_note=escape(_throughput_note(facts)),
        throughput=charts.stacked_columns(at_s, width_s, columns, "Answers over time", _last_order(facts)),
        series_legend=_legend((css, name, "") for css, name, _ in _OUTCOMES if counts[css]),
        latency=charts.lines(at_s, width_s, rows, "Latency percentiles over time"),
        distribution=charts.distribution(drawn, "Distribution of latency"),
        curve_legend=_legend((css, name, "") for name, css, _ in drawn),
        latency_table=_latency_table(facts["latency_ms"]),
        checks="".join(_check_row(check) for check in facts["invariants"]),
        method=escape(_method(facts["sale"])),
        sale_facts=_fact_rows(_sale_facts(facts["sale"])),
        environment=_fact_rows(_environment(facts["environment"])),
    )


def _counts(facts: Mapping[str, Any]) -> dict[str, int]:
    outcome = facts["outcome"]
    return {"sold": outcome["sold"], "refused": outcome["refused"], "failed": outcome["errors"]}


def _headline(facts: Mapping[str, Any]) -> str:
    sale, sold = facts["sale"], facts["outcome"]["sold"]
    orders = f"{sold:,} order{'' if sold == 1 else 's'}"
    if sale["baskets"]:
        return f"{sale['buyers']:,} real baskets, {orders}"
    return f"{sale['buyers']:,} buyers, {sale['units']:,} units, {orders}"


def _verdict(checks: Sequence[Mapping[str, str]]) -> str:
    broken = [check["promise"] for check in checks if check["status"] == "broken"]
    if broken:
        return f"✗ {len(broken)} of {len(checks)} promises broken: {'; '.join(broken)}"
    held = sum(check["status"] == "held" for check in checks)
    return f"✓ {held} promises held" + (f", {len(checks) - held} not checked" if held < len(checks) else "")


def _tiles(facts: Mapping[str, Any]) -> str:
    sale, outcome, speed = facts["sale"], facts["outcome"], facts["speed"]
    journey = facts["latency_ms"]["journey"]["all"]
    last = speed["last_order_after_s"]
    tiles = [
        (
            "Orders",
            f"{outcome['sold']:,}",
            f"of {sale['units']:,} units" if not sale["baskets"] else "confirmed",
        ),
        ("Refused", f"{outcome['refused']:,}", "clearly"),
        ("Errors", f"{outcome['errors']:,}", "or no answer"),
        ("Answers", f"{speed['answers_per_s']:,.0f}/s", f"{speed['orders_per_s']:,.0f} orders/s"),
        ("Last order after", "–" if last is None else f"{last:,.2f} s", f"of {speed['duration_s']:,.2f} s"),
    ]
    if journey["count"]:
        tiles.append(("Median latency", _ms(journey["p50"]), f"99%: {_ms(journey['p99'])}"))
    return "".join(
        f"<div><dt>{name}</dt><dd>{escape(figure)}<small>{escape(more)}</small></dd></div>"
        for name, figure, more in tiles
    )


def _outcome_legend(facts: Mapping[str, Any]) -> str:
    outcome = facts["outcome"]
    codes = {"sold": {}, "refused": outcome["refused_by_code"], "failed": outcome["errors_by_code"]}
    return _legend((css, f"{_counts(facts)[css]:,} {name.lower()}", _codes(codes[css])) for css, name, _ in _OUTCOMES)


def _legend(entries: Iterable[tuple[str, str, str]]) -> str:
    return "".join(
        f'<li><i class="{css}"></i>{escape(name)}{f" <span>{escape(more)}</span>" if more else ""}</li>'
        for css, name, more in entries
    )


def _codes(by_code: Mapping[str, int]) -> str:
    if len(by_code) == 1:
        return f"({next(iter(by_code))})"
    return "(" + ", ".join(f"{count:,} {code}" for code, count in by_code.items()) + ")" if by_code else ""


def _last_order(facts: Mapping[str, Any]) -> tuple[float, str] | None:
    at_s = facts["speed"]["last_order_after_s"]
    return None if at_s is None else (at_s, f"last order, {at_s:,.2f} s")


def _throughput_note(facts: Mapping[str, Any]) -> str:
    note = f"Final answers to buyers, in steps of {facts['series']['bucket_s']:g} s."
    again = facts["outcome"]["retries"]
    if again:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in again.items())
        note += f" Requests sent again with their own key: {reasons}."
    return note


def _latency_table(latency: Mapping[str, Any]) -> str:
    head = "".join(f'<th scope="col">{"p99.9" if name == "p999" else name}</th>' for name in _COLUMNS)
    rows = {_JOURNEY_NAMES[name]: figures for name, figures in latency["journey"].items()} | latency["endpoints"]
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{_figure(figures[column])}</td>" for column in _COLUMNS)
        + "</tr>"
        for name, figures in rows.items()
        if figures["count"]
    )
    return f'<thead><tr><th scope="col">Journey, request</th>{head}</tr></thead><tbody>{body}</tbody>'


def _check_row(check: Mapping[str, str]) -> str:
    status, promise, detail = check["status"], escape(check["promise"]), escape(check["detail"])
    return (
        f'<tr><td><span class="mark {status}">{_MARKS[status]}</span></td>'
        f'<th scope="row">{promise}</th><td class="detail">{detail}</td></tr>'
    )


def _method(sale: Mapping[str, Any]) -> str:
    return (
        f"A closed loop: {sale['concurrency']:,} buyers at a time, each on a kept-alive connection; the next "
        "comes when one is done, so that the wait before that is in no latency. Percentiles are exact, over "
        f"every sample. Made up: {'; '.join(sale['made_up'])}."
    )


def _sale_facts(sale: Mapping[str, Any]) -> dict[str, object]:
    latency = sale["gateway_latency_ms"]
    return {
        "Journey": sale["journey"],
        "Buyers": f"{sale['buyers']:,}",
        "Units, SKUs": f"{sale['units']:,} of {sale['skus']:,}",
        "Lines in a basket": f"{sale['lines_per_basket']:,g} on average",
        "Baskets": sale["baskets"] or "one unit each",
        "Connections": f"{sale['concurrency']:,} in {sale['client_processes']}",
        "Gateway latency": "as the shop has it" if latency is None else f"{latency} ms",
        "Currency": sale["currency"],
        "Seed": sale["seed"],
        "Shop": sale["url"],
    }


def _environment(environment: Mapping[str, Mapping[str, str]]) -> dict[str, object]:
    client = {f"Client {name}": value for name, value in environment["client"].items()}
    return {**client, **{f"Shop {name}": value for name, value in environment["server"].items()}}


def _fact_rows(facts: Mapping[str, object]) -> str:
    return "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>' for name, value in facts.items()
    )


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _ms(value: float) -> str:
    return f"{value / 1000:,.2f} s" if value >= 1000 else f"{value:,.3g} ms"
