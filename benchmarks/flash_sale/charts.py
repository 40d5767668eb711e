"""Hand-written SVG for the report: an outcome bar, columns over time, lines over time, a distribution.

Pure: figures to a string of SVG. Colours are CSS classes of the page, so that one drawing serves light and
dark. Every drawing has a title and a description for readers who do not see it, and no script.
Called by the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 960, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 56, 16, 44
_PLOT_W, _PLOT_H = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Series:
    """A named row of values; `css` is the class that colours it. None leaves a gap."""

    name: str
    css: str
    values: Sequence[float | None]


def outcome_bar(parts: Sequence[tuple[str, str, int]]) -> str:
    """(name, css class, count) as one bar; whatever is not zero can be seen, however small its share."""
    total = sum(count for _, _, count in parts) or 1
    least = 6.0
    shown = [part for part in parts if part[2]]
    spare = WIDTH - sum(least for part in shown)
    drawn, x = [], 0.0
    for name, css, count in shown:
        width = least + spare * count / total
        share = f"{name}: {count:,} ({_percent(count, total)})"
        drawn.append(
            f'<rect class="{css}" x="{x:.1f}" y="0" width="{max(width - 2, 2):.1f}" height="36" rx="4">'
            f"<title>{escape(share)}</title></rect>"
        )
        x += width
    told = ", ".join(f"{count:,} {name.lower()}" for name, _, count in parts)
    return _svg("What became of the buyers", f"{told}.", "".join(drawn), height=36)


def stacked_columns(
    at_s: Sequence[float],
    width_s: float,
    series: Sequence[Series],
    title: str,
    event: tuple[float, str] | None,
) -> str:
    """Counts per bucket, stacked, as rates per second; `event` marks an instant (seconds, name)."""
    sums = [sum(row.values[n] or 0 for row in series) / width_s for n in range(len(at_s))]
    top, ticks = _nice_ticks(max(sums, default=0) or 1)
    end = len(at_s) * width_s
    x, y = _linear(0, end, _LEFT, _LEFT + _PLOT_W), _linear(0, top, _TOP + _PLOT_H, _TOP)
    drawn = [_time_axis(x, end), _value_axis(y, ticks, "per second")]
    gap = 1.0 if _PLOT_W / max(len(at_s), 1) > 4 else 0.0
    for n, start in enumerate(at_s):
        base, cells = 0.0, []
        for row in series:
            rate = (row.values[n] or 0) / width_s
            if rate:
                upper = y(base + rate)
                cells.append(
                    f'<rect class="{row.css}" x="{x(start):.2f}" y="{upper:.2f}" '
                    f'width="{x(start + width_s) - x(start) - gap:.2f}" height="{y(base) - upper:.2f}"/>'
                )
                base += rate
        told = ", ".join(f"{(row.values[n] or 0) / width_s:,.0f} {row.name.lower()}" for row in series)
        drawn.append(f"<g><title>{start:g} s: {escape(told)} a second</title>{''.join(cells)}</g>")
    if event is not None:
        drawn.append(_event(x(event[0]), event[1]))
    peak = f"Highest: {max(sums, default=0):,.0f} answers a second, over {end:g} seconds."
    return _svg(title, peak, "".join(drawn))


def lines(at_s: Sequence[float], width_s: float, series: Sequence[Series], title: str) -> str:
    """Milliseconds over time, on a logarithmic axis when they span more than a factor of 30."""
    known = [value for row in series for value in row.values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if low > 0 and high / low > 30:
        ticks = _decades(low, high)
        y = _log(ticks[0], ticks[-1], _TOP + _PLOT_H, _TOP)
    else:
        top, ticks = _nice_ticks(high or 1)
        y = _linear(0, top, _TOP + _PLOT_H, _TOP)
    end = len(at_s) * width_s
    x = _linear(0, end, _LEFT, _LEFT + _PLOT_W)
    drawn = [_time_axis(x, end), _value_axis(y, ticks, "milliseconds")]
    labels: list[tuple[float, Series]] = []
    for row in series:
        points = [
            (x(start + width_s / 2), y(value))
            for start, value in zip(at_s, row.values, strict=True)
            if value is not None
        ]
        drawn.append(_polyline(points, row.css))
        if points:
            labels.append((points[-1][1], row))
    drawn.append(_end_labels(labels))
    told = ", ".join(f"{row.name} up to {_ms(max(filter(None, row.values), default=0))}" for row in series)
    return _svg(title, f"{told}.", "".join(drawn))


def distribution(curves: Sequence[tuple[str, str, Sequence[tuple[float, float]]]], title: str) -> str:
    """(name, css, (percent, ms) pairs) as cumulative curves over logarithmic milliseconds."""
    known = [ms for _, _, curve in curves for _, ms in curve if ms > 0]
    ticks = _decades(min(known, default=1), max(known, default=10))
    x = _log(ticks[0], ticks[-1], _LEFT, _LEFT + _PLOT_W)
    y = _linear(0, 100, _TOP + _PLOT_H, _TOP)
    drawn = [_value_axis(y, [0, 25, 50, 75, 100], "percent of the buyers answered")]
    drawn += [
        f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" y2="{_TOP + _PLOT_H}"/>'
        + _text(x(tick), HEIGHT - 24, _ms(tick), "middle")
        for tick in ticks
    ]
    drawn.append(_text(_LEFT + _PLOT_W / 2, HEIGHT - 6, "latency of the whole journey", "middle"))
    told = []
    for name, css, curve in curves:
        drawn.append(_polyline([(x(max(ms, ticks[0])), y(percent)) for percent, ms in curve], css))
        half, most = (next(ms for percent, ms in curve if percent >= mark) for mark in (50, 99))
        for mark, ms in ((50, half), (99, most)):
            drawn.append(
                f'<circle class="{css} dot" cx="{x(max(ms, ticks[0])):.1f}" cy="{y(mark):.1f}" r="4">'
                f"<title>{escape(name)}: {mark}% within {_ms(ms)}</title></circle>"
            )
        told.append(f"{name}: half within {_ms(half)}, 99% within {_ms(most)}")
    return _svg(title, "; ".join(told) + ".", "".join(drawn))


def _svg(title: str, description: str, drawn: str, height: int = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}. {escape(description)}">'
        f"<desc>{escape(description)}</desc>{drawn}</svg>"
    )


def _time_axis(x: Scale, end: float) -> str:
    _, ticks = _nice_ticks(end, about=8)
    marks = "".join(_text(x(tick), HEIGHT - 24, f"{tick:g} s", "middle") for tick in ticks if tick <= end)
    return marks + _text(_LEFT + _PLOT_W / 2, HEIGHT - 6, "since the sale began", "middle")


def _value_axis(y: Scale, ticks: Sequence[float], unit: str) -> str:
    marks = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _PLOT_W}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        + _text(_LEFT - 8, y(tick) + 4, f"{tick:,g}", "end")
        for tick in ticks
    )
    place = f'transform="translate(12 {_TOP + _PLOT_H / 2}) rotate(-90)"'
    return f'{marks}<text class="label" text-anchor="middle" {place}>{unit}</text>'


def _event(x: float, name: str) -> str:
    """An instant as a dotted line, its name on the side that has room."""
    anchor, gap = ("start", 7) if x < _LEFT + _PLOT_W * 0.75 else ("end", -7)
    line = f'<line class="event" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + _PLOT_H}"/>'
    place = f'x="{x + gap:.1f}" y="{_TOP + 10}" text-anchor="{anchor}"'
    return f'{line}<text class="event-name" {place}>{escape(name)}</text>'


def _end_labels(labels: Sequence[tuple[float, Series]]) -> str:
    """Names at the right end of their lines, pushed down where they would lie on each other."""
    drawn, last = [], _TOP - 11.0
    for at, row in sorted(labels, key=lambda label: label[0]):
        last = max(at + 4, last + 15)
        drawn.append(f'<text class="name {row.css}" x="{_LEFT + _PLOT_W + 8}" y="{last:.1f}">{escape(row.name)}</text>')
    return "".join(drawn)


def _polyline(points: Sequence[tuple[float, float]], css: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{css} line" points="{joined}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _linear(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _log(low: float, high: float, start: float, end: float) -> Scale:
    linear = _linear(math.log10(low), math.log10(high), start, end)
    return lambda value: linear(math.log10(value))


def _nice_ticks(most: float, about: int = 4) -> tuple[float, list[float]]:
    """The top of an axis that holds `most`, and its ticks, all round numbers."""
    rough = most / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    count = math.ceil(most / step - 1e-9)
    return step * count, [round(step * n, 9) for n in range(count + 1)]


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … from just below `low` to just above `high`, at least two of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = [round(10.0**power * factor, 9) for power in range(first, last + 1) for factor in (1, 2, 5)]
    start = max(n for n, step in enumerate(steps) if step <= low)
    stop = min(n for n, step in enumerate(steps) if step >= high)
    return steps[start : max(stop, start + 1) + 1]


def _ms(value: float) -> str:
    return f"{value / 1000:,.3g} s" if value >= 1000 else f"{value:.3g} ms"


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.3g}%"
