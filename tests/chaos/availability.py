"""How a shop was served while it was disturbed: per kind of fault, the share of requests answered and the outages.

Pure. A request counts for the fault that came last before it ended. Answered is whatever is neither a 5xx nor a lost
connection; an outage lasts from one answered request to the next, if any failed between them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.chaos.checker import Answer


class Fault(NamedTuple):
    kind: str
    at_s: float


class Service(NamedTuple):
    """``longest_s``: the longest outage, zero if no request failed. ``slowest_s``: of all answers."""

    faults: int
    requests: int
    answered: int
    longest_s: float
    slowest_s: float

    @property
    def share(self) -> float:
        return self.answered / self.requests if self.requests else 0.0


def is_answered(answer: Answer) -> bool:
    return 0 < answer.status < 500


def by_fault(faults: Sequence[Fault], answers: Iterable[Answer]) -> dict[str, Service]:
    """Of each kind; requests that ended before the first fault are left out."""
    ordered = sorted(faults, key=lambda fault: fault.at_s)
    times = [fault.at_s for fault in ordered]
    found = {kind: Service(sum(f.kind == kind for f in ordered), 0, 0, 0.0, 0.0) for kind in {f.kind for f in ordered}}
    up_s = times[0] if times else 0.0  # when somebody was answered last
    failing = False
    for answer in sorted(answers, key=lambda answer: answer.ended_s):
        index = bisect_right(times, answer.ended_s) - 1
        if index < 0:
            continue
        kind, good = ordered[index].kind, is_answered(answer)
        faults_, requests, answered, longest_s, slowest_s = found[kind]
        if good and failing:
            longest_s = max(longest_s, answer.ended_s - up_s)
        if good:
            slowest_s = max(slowest_s, answer.ended_s - answer.begun_s)
        found[kind] = Service(faults_, requests + 1, answered + good, longest_s, slowest_s)
        failing = not good
        if good:
            up_s = answer.ended_s
    return found


def lines(found: dict[str, Service]) -> list[str]:
    """A table for people."""
    head = f"{'fault':<40} {'times':>5} {'requests':>8} {'answered':>8} {'longest outage':>14} {'longest wait':>12}"
    return [head] + [
        f"{kind:<40} {s.faults:>5} {s.requests:>8} {s.share:>8.2%} {s.longest_s:>12.1f} s {s.slowest_s:>10.1f} s"
        for kind, s in sorted(found.items())
    ]
