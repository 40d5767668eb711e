"""What the buyers saw, raw, and the exact figures made of it.

`Recorder` takes every answer as it comes, in flat arrays, cheap enough to share two cores with a server.
The rest is pure: percentiles by nearest rank over all samples, never estimated, and time buckets.
Times inside are microseconds, as `_us`; reports give milliseconds. Written by the journeys, read by the
report.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["sold", "refused", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("sold", "refused", "failed")
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
_MAX_U32 = 2**32 - 1


@dataclass(slots=True)
class Recorder:
    """The answers of one client process. A buyer is one sample, an HTTP exchange another.

    `ended_us` counts from `started_s`, a reading of the machine's monotonic clock. `orders` holds what was
    acknowledged: (buyer's number, order id); `refusals` and `failures` the numbers of the buyers, by code.
    """

    started_s: float
    ended_us: array[int] = field(default_factory=lambda: array("Q"))
    latency_us: array[int] = field(default_factory=lambda: array("I"))
    outcome: array[int] = field(default_factory=lambda: array("B"))
    endpoints: dict[str, array[int]] = field(default_factory=dict)
    orders: list[tuple[int, str]] = field(default_factory=list)
    refusals: dict[str, list[int]] = field(default_factory=dict)
    failures: dict[str, list[int]] = field(default_factory=dict)
    retries: Counter[str] = field(default_factory=Counter)

    def exchange(self, endpoint: str, elapsed_s: float) -> None:
        samples = self.endpoints.get(endpoint)
        if samples is None:
            samples = self.endpoints[endpoint] = array("I")
        samples.append(min(int(elapsed_s * 1e6), _MAX_U32))

    def sold(self, buyer: int, order_id: str, began_s: float, ended_s: float) -> None:
        self.orders.append((buyer, order_id))
        self._ended(0, began_s, ended_s)

    def refused(self, buyer: int, code: str, began_s: float, ended_s: float) -> None:
        self.refusals.setdefault(code, []).append(buyer)
        self._ended(1, began_s, ended_s)

    def failed(self, buyer: int, code: str, began_s: float, ended_s: float) -> None:
        self.failures.setdefault(code, []).append(buyer)
        self._ended(2, began_s, ended_s)

    def counts(self) -> tuple[int, int, int]:
        """How many buyers were sold to, refused and failed, so far."""
        return len(self.orders), sum(map(len, self.refusals.values())), sum(map(len, self.failures.values()))

    def _ended(self, outcome: int, began_s: float, ended_s: float) -> None:
        self.ended_us.append(max(0, int((ended_s - self.started_s) * 1e6)))
        self.latency_us.append(min(int((ended_s - began_s) * 1e6), _MAX_U32))
        self.outcome.append(outcome)


def merged(recorders: Sequence[Recorder]) -> Recorder:
    """All processes' answers as one recorder's, on the clock of the first to start."""
    whole = Recorder(min(recorder.started_s for recorder in recorders))
    for part in recorders:
        shift_us = int((part.started_s - whole.started_s) * 1e6)
        whole.ended_us.extend(array("Q", (at + shift_us for at in part.ended_us)))
        whole.latency_us.extend(part.latency_us)
        whole.outcome.extend(part.outcome)
        for endpoint, samples in part.endpoints.items():
            whole.endpoints.setdefault(endpoint, array("I")).extend(samples)
        for theirs, ours in ((part.refusals, whole.refusals), (part.failures, whole.failures)):
            for code, buyers in theirs.items():
                ours.setdefault(code, []).extend(buyers)
        whole.retries += part.retries
        whole.orders += part.orders
    return whole


def percentile(ordered: Sequence[int], percent: float) -> int:
    """The nearest-rank percentile of ascending samples: the least one that `percent` % do not exceed."""
    if not ordered:
        raise ValueError("no samples have no percentile")
    rank = math.ceil(round(percent / 100 * len(ordered), 9))
    return ordered[max(rank, 1) - 1]


def latency_ms(samples: Sequence[int]) -> dict[str, float]:
    """`count`, the percentiles and `max` of samples in µs, in milliseconds; only a count of 0 when empty."""
    ordered = sorted(samples)
    if not ordered:
        return {"count": 0}
    figures = {name: percentile(ordered, percent) / 1000 for name, percent in PERCENTILES.items()}
    return {"count": len(ordered), **figures, "max": ordered[-1] / 1000}


def by_outcome(recorder: Recorder) -> dict[Outcome, list[int]]:
    """The journeys' latencies in µs, apart by how they ended."""
    parts: dict[Outcome, list[int]] = {outcome: [] for outcome in OUTCOMES}
    for outcome, latency in zip(recorder.outcome, recorder.latency_us, strict=True):
        parts[OUTCOMES[outcome]].append(latency)
    return parts


def duration_s(recorder: Recorder) -> float:
    """From the start of the sale to its last answer."""
    return max(recorder.ended_us, default=0) / 1e6


def last_sold_s(recorder: Recorder) -> float | None:
    """When the last order was answered, counted from the start; None if there was none."""
    sold = [at for at, outcome in zip(recorder.ended_us, recorder.outcome, strict=True) if outcome == 0]
    return max(sold) / 1e6 if sold else None


@dataclass(frozen=True, slots=True)
class Bucket:
    """The answers of one span of time, which begins at `at_s`; percentiles are None where it has none."""

    at_s: float
    sold: int
    refused: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


def buckets(recorder: Recorder, width_s: float) -> list[Bucket]:
    """The sale in spans of `width_s` seconds, without a gap."""
    width_us = round(width_s * 1e6)
    count = max(recorder.ended_us, default=0) // width_us + 1
    latencies: list[list[int]] = [[] for _ in range(count)]
    tallies = [[0, 0, 0] for _ in range(count)]
    for at, latency, outcome in zip(recorder.ended_us, recorder.latency_us, recorder.outcome, strict=True):
        latencies[at // width_us].append(latency)
        tallies[at // width_us][outcome] += 1
    spans = []
    for n, (samples, (sold, refused, failed)) in enumerate(zip(latencies, tallies, strict=True)):
        samples.sort()
        figures = [percentile(samples, percent) / 1000 if samples else None for percent in (50, 95, 99)]
        spans.append(Bucket(round(n * width_s, 6), sold, refused, failed, *figures))
    return spans


def bucket_width_s(span_s: float, about: int = 60) -> float:
    """A round width (1, 2 or 5 times a power of ten, from 50 ms) that cuts a span into about so many."""
    wanted = max(span_s / about, 0.05)
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(round(power * step, 6) for step in (1, 2, 5, 10) if power * step >= wanted * 0.999)
