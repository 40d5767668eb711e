"""The flash sale's figures, its verdict on the shop's books, and its reports."""

from __future__ import annotations

import io
import json
import math
import re
from array import array
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.flash_sale import SaleConfig, SaleFailedError, print_result, run_sale, write_reports
from benchmarks.flash_sale.charts import distribution, outcome_bar
from benchmarks.flash_sale.measure import (
    Recorder,
    bucket_width_s,
    buckets,
    duration_s,
    latency_ms,
    merged,
    percentile,
)
from benchmarks.flash_sale.run import SaleResult
from tests.unit.fake_shop import TOKEN, FakeShop

samples = st.lists(st.integers(0, 10**7), min_size=1, max_size=300)


@given(samples, st.floats(0.1, 100))
def test_a_percentile_is_the_least_sample_that_enough_do_not_exceed(values: list[int], percent: float) -> None:
    """Exact nearest rank: at least that share lies at or below it, and no smaller sample will do."""
    ordered = sorted(values)
    found = percentile(ordered, percent)
    enough = percent / 100 * len(ordered) - 1e-6
    assert sum(value <= found for value in ordered) >= enough
    assert all(sum(value <= smaller for value in ordered) < enough + 2e-6 for smaller in ordered if smaller < found)


def test_latency_figures_are_milliseconds() -> None:
    """1 ms to 1000 ms, one sample each: the percentiles are their own numbers."""
    figures = latency_ms([n * 1000 for n in range(1, 1001)])
    assert figures == {
        "count": 1000, "p50": 500, "p90": 900, "p95": 950, "p99": 990, "p999": 999, "max": 1000,
    }  # fmt: skip
    assert latency_ms([]) == {"count": 0}


def recorder_of(*answers: tuple[str, float, float], started_s: float = 0.0) -> Recorder:
    """(outcome, began, ended) in seconds after `started_s`."""
    recorder = Recorder(started_s)
    for number, (outcome, began, ended) in enumerate(answers, 1):
        getattr(recorder, outcome)(number, f"{outcome}-{number}", started_s + began, started_s + ended)
    return recorder


@given(st.lists(st.tuples(st.sampled_from(["sold", "refused", "failed"]), st.floats(0, 9), st.floats(0, 9))))
def test_buckets_lose_nobody(answers: list[tuple[str, float, float]]) -> None:
    """Whatever the width, the buckets' sums are the sale's, and they have no gap."""
    recorder = recorder_of(*((outcome, at, at + more) for outcome, at, more in answers))
    width_s = bucket_width_s(duration_s(recorder))
    spans = buckets(recorder, width_s)
    totals = tuple(sum(getattr(span, name) for span in spans) for name in ("sold", "refused", "failed"))
    assert totals == recorder.counts()
    assert [span.at_s for span in spans] == pytest.approx([n * width_s for n in range(len(spans))])


@pytest.mark.parametrize(
    ("span_s", "width_s"), [(0, 0.05), (3, 0.05), (4.5, 0.1), (60, 1), (61, 2), (900, 20), (7200, 200)]
)
def test_bucket_widths_are_round(span_s: float, width_s: float) -> None:
    """About sixty buckets, each 1, 2 or 5 times a power of ten wide."""
    assert bucket_width_s(span_s) == width_s


def test_processes_are_merged_on_one_clock() -> None:
    """A process that started later has its answers later, and nothing is lost."""
    early = recorder_of(("sold", 0.0, 1.0), started_s=100.0)
    late = recorder_of(("refused", 0.0, 0.5), ("sold", 0.0, 0.25), started_s=100.5)
    early.exchange("POST /x", 0.001)
    late.exchange("POST /x", 0.002)
    whole = merged([late, early])
    assert sorted(whole.ended_us) == [750_000, 1_000_000, 1_000_000]
    assert whole.counts() == (2, 1, 0)
    assert whole.endpoints == {"POST /x": array("I", [2000, 1000])}


async def hold_sale(shop: FakeShop, **options: object) -> SaleResult:
    asked: dict[str, object] = {"buyers": 60, "units": 20, "concurrency": 8, "settle_s": 0.0}
    async with shop.serve() as url:
        return await run_sale(SaleConfig(url, TOKEN, **{**asked, **options}))  # type: ignore[arg-type]


@pytest.mark.parametrize("journey", ["one-shot", "full"])
@pytest.mark.parametrize("skus", [1, 7])
async def test_an_honest_shop_keeps_every_promise(journey: str, skus: int) -> None:
    """Sixty buyers, twenty units: every unit sold once, everybody else refused, exit code 0."""
    shop = FakeShop()
    result = await hold_sale(shop, journey=journey, skus=skus)
    assert {check.name: check.status for check in result.checks if check.status != "held"} == {}
    assert result.exit_code == 0
    sold, refused, failed = result.recorder.counts()
    assert (sold + refused, failed) == (60, 0)
    assert sold == len(shop.orders)
    assert set(result.recorder.refusals) == {"out_of_stock"}


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ("oversell", {"never_oversold", "stock_adds_up"}),
        ("lose_order", {"orders_kept", "never_oversold", "no_capture_without_order"}),
        ("two_orders", {"one_order_each", "orders_kept", "never_oversold"}),
        ("double_capture", {"one_capture_each"}),
        ("half_capture", {"one_capture_each"}),
        ("capture_without_order", {"no_capture_without_order"}),
        ("leak_stock", {"stock_adds_up"}),
        ("audit_violation", {"audit_clean"}),
    ],
)
async def test_a_broken_promise_is_named_and_fails_the_run(fault: str, broken: set[str]) -> None:
    """Each way to cheat is noticed by the checks that are there for it, and by no other."""
    result = await hold_sale(FakeShop(faults={fault}))
    assert {check.name for check in result.broken} == broken
    assert result.exit_code == 1
    output = io.StringIO()
    print_result(result, Console(file=output, width=200))
    assert all(name in output.getvalue() for name in broken)


async def test_a_shop_without_a_ledger_is_judged_by_the_rest() -> None:
    """A real gateway shows no book: what rests on it is said not to be checked, and nothing breaks."""
    result = await hold_sale(FakeShop(faults={"no_ledger"}))
    unchecked = [check.name for check in result.checks if check.status == "not_checked"]
    assert unchecked == ["one_capture_each", "no_capture_without_order"]
    assert result.exit_code == 0


async def test_a_rough_sale_ends_with_every_unit_sold() -> None:
    """Lost answers, busy servers and pending orders cost nobody an order and nothing twice."""
    moods = ["drop", "busy", "pending", "busy"] * 10
    result = await hold_sale(FakeShop(moods=moods))
    assert result.broken == []
    assert result.recorder.counts() == (20, 40, 0)
    assert result.recorder.retries == {"connection_lost": 10, "busy": 20, "pending": 10}


async def test_units_left_over_are_noticed() -> None:
    """A shop that refuses while it has stock oversells nothing and yet breaks a promise."""
    result = await hold_sale(FakeShop(faults={"refuse_wrongly"}))
    assert {check.name for check in result.broken} == {"all_wanted_sold"}


async def test_a_buyer_without_an_answer_is_no_broken_promise() -> None:
    """Who never learned how it ended may or may not have an order; either is consistent."""
    result = await hold_sale(FakeShop(moods=["crash"]), buyers=10)
    assert result.broken == []
    assert list(result.recorder.failures) == ["http_500"]
    result = await hold_sale(FakeShop(moods=["drop"]), buyers=10, patience_s=0.0)
    assert result.broken == []
    assert list(result.recorder.failures) == ["connection_lost"]


async def test_real_baskets_are_sold_whole_and_long_ones_refused(tmp_path: Path) -> None:
    """With stock enough, every basket up to 50 lines is an order, and the longer ones say why not."""
    path = tmp_path / "baskets.csv"
    long = ",".join(f"L{n}" for n in range(51))
    path.write_text(f"A,B,A\n{long}\nB,C\n{','.join(f'L{n}' for n in range(50))}\n", encoding="utf-8")
    shop = FakeShop()
    result = await hold_sale(shop, baskets=path, buyers=None, units=None)
    assert result.broken == []
    assert result.recorder.counts() == (3, 1, 0)
    assert list(result.recorder.refusals) == ["too_many_lines"]
    assert sum(shop.sold.values()) == 55


async def test_scarce_baskets_have_no_lower_bound(tmp_path: Path) -> None:
    """Where baskets compete for several SKUs, what must be sold cannot be told, and that is said."""
    path = tmp_path / "baskets.csv"
    path.write_text("A,B\n" * 10, encoding="utf-8")
    result = await hold_sale(FakeShop(), baskets=path, buyers=None, units=4)
    assert [check.name for check in result.checks if check.status == "not_checked"] == ["all_wanted_sold"]
    assert result.recorder.counts() == (4, 6, 0)
    assert result.exit_code == 0


async def test_the_gateways_latency_is_set_before_the_sale() -> None:
    """`latency_ms` reaches the sandbox; without it the gateway is left alone."""
    shop = FakeShop()
    await hold_sale(shop, buyers=1, latency_ms="1000-3000")
    assert shop.sandbox == [{"mode": "up", "latency_ms": "1000-3000"}]
    await hold_sale(shop, buyers=1)
    assert len(shop.sandbox) == 1


async def test_several_client_processes_make_one_sale() -> None:
    """Buyers dealt out to two processes end in one result, with everybody in it."""
    result = await hold_sale(FakeShop(), client_processes=2)
    assert result.broken == []
    assert result.recorder.counts() == (20, 40, 0)
    assert len({number for number, _ in result.recorder.orders}) == 20


async def test_no_server_is_no_sale() -> None:
    """A wrong URL ends in a sentence that asks whether the server is up."""
    with pytest.raises(SaleFailedError, match="Is the server up"):
        await run_sale(SaleConfig("http://127.0.0.1:9", TOKEN, buyers=1))


async def test_a_wrong_token_is_no_sale() -> None:
    """A token that is not an operator's is named, with the command that gives one."""
    async with FakeShop().serve() as url:
        with pytest.raises(SaleFailedError, match="lastunit token --ops"):
            await run_sale(SaleConfig(url, "wrong", buyers=1))


async def test_reports_agree_and_stand_alone(tmp_path: Path) -> None:
    """report.json has the documented keys; report.html loads and runs nothing, and its SVG is well-formed."""
    result = await hold_sale(FakeShop(faults={"double_capture"}), buyers=30)
    as_json, as_html = write_reports(result, tmp_path / "out")
    facts = json.loads(as_json.read_bytes())
    assert list(facts) == [
        "schema", "run", "started_at", "verdict", "exit_code", "sale", "outcome", "speed", "latency_ms",
        "series", "invariants", "environment",
    ]  # fmt: skip
    assert (facts["verdict"], facts["exit_code"]) == ("broken", 1)
    assert facts["outcome"]["sold"] == 20
    assert facts["outcome"]["refused_by_code"] == {"out_of_stock": 10}
    assert sum(point["orders"] for point in facts["series"]["points"]) == 20
    assert facts["latency_ms"]["journey"]["all"]["count"] == 30
    assert facts["environment"]["server"]["version"] == "fake"
    page = as_html.read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img|iframe|object)\b|\bsrc=|url\(|@import", page)
    assert "$" not in page
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert "nan" not in drawing
    assert "1 of 9 promises broken: Each order is paid once" in page


async def test_what_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    """A server's word about itself cannot become markup."""
    result = await hold_sale(FakeShop(), buyers=1)
    result.stage.server["version"] = "<script>alert(1)</script>"
    _, as_html = write_reports(result, tmp_path)
    assert "<script" not in as_html.read_text(encoding="utf-8")


async def test_a_sale_to_nobody_can_be_shown(tmp_path: Path) -> None:
    """No unit, no order, no curve of orders: the report says so and does not break."""
    result = await hold_sale(FakeShop(), units=0, buyers=3)
    as_json, _ = write_reports(result, tmp_path)
    facts = json.loads(as_json.read_bytes())
    assert facts["speed"]["last_order_after_s"] is None
    assert set(facts["latency_ms"]["curves"]) == {"refused"}


def test_a_small_share_can_still_be_seen() -> None:
    """One order among a million refusals has a visible place in the bar, and none has none."""
    drawing = outcome_bar([("Sold", "sold", 1), ("Refused", "refused", 10**6), ("Errors", "failed", 0)])
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="36" rx', drawing)]
    assert len(widths) == 2
    assert min(widths) >= 4


@given(samples)
def test_curves_stay_within_their_plot(values: list[int]) -> None:
    """Any latencies, zero and huge ones too, are drawn inside the frame."""
    curve = [
        (percent, max(value, 0) / 1000) for percent, value in zip((1, 50, 99, 100), sorted(values) * 4, strict=False)
    ]
    drawing = distribution([("Sold", "sold", curve)], "Latency")
    points = re.findall(r'polyline class="\S+ line" points="([^"]*)"', drawing)[0].split()
    places = [tuple(map(float, point.split(","))) for point in points]
    assert all(math.isfinite(x) and 63 <= x <= 905 and 15 <= y <= 257 for x, y in places)
