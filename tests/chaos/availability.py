"""How a shop was served while it was disturbed: per kind of fault, the share of requests answered and the outages.

Pure. Several faults may be on at once, each in a lane of its own: a fault's time lasts from its begin to the begin of
the next one in its lane, and a request, or an outage, counts for every fault in whose time it ended. So what several
faults share is counted for each of them. Answered is whatever is neither a 5xx nor a lost connection; an outage lasts
from one answered request to the next, if any failed between them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.chaos.checker import Answer

NEVER_S = float("inf")
WIDTH = 14  # of a column


class Fault(NamedTuple):
    """``ended_s``: when what was stopped went on, or when what was killed had an heir. None: it is still on."""

    kind: str
    begun_s: float
    ended_s: float | None = None
    lane: str = ""


class Service(NamedTuple):
    """``longest_s``: the longest outage, zero if no request failed. ``slowest_s``: of all answers.

    ``again_s``: the longest time from a fault's begin to a purchase by somebody who came after its end.
    """

    faults: int
    requests: int
    answered: int
    longest_s: float
    slowest_s: float
    again_s: float = 0.0

    @property
    def share(self) -> float:
        return self.answered / self.requests if self.requests else 0.0


class _Outage(NamedTuple):
    ended_s: float
    length_s: float


def is_answered(answer: Answer) -> bool:
    return 0 < answer.status < 500


def _outages(ordered: Sequence[Answer]) -> list[_Outage]:
    """In order of their ends. One that is not over with the last request is not over for anybody: endless."""
    found = []
    up_s, failed_s = (ordered[0].begun_s if ordered else 0.0), None
    for answer in ordered:
        if not is_answered(answer):
            failed_s = answer.ended_s
            continue
        if failed_s is not None:
            found.append(_Outage(answer.ended_s, answer.ended_s - up_s))
        up_s, failed_s = answer.ended_s, None
    if failed_s is not None:
        found.append(_Outage(failed_s, NEVER_S))
    return found


def _until_s(faults: Sequence[Fault]) -> list[float]:
    """For each fault when its time is over. Those of one lane that begin together last together."""
    begins: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        begins[fault.lane].append(fault.begun_s)
    return [min((s for s in begins[fault.lane] if s > fault.begun_s), default=NEVER_S) for fault in faults]


def again_s(fault: Fault, ordered: Sequence[Answer], ends: Sequence[float]) -> float:
    """From its begin until somebody who came after its end had bought; endless if nobody did."""
    if fault.ended_s is None:
        return NEVER_S
    for answer in ordered[bisect_left(ends, fault.ended_s) :]:
        if answer.status == 200 and answer.begun_s >= fault.ended_s:
            return answer.ended_s - fault.begun_s
    return NEVER_S


def by_fault(faults: Sequence[Fault], answers: Iterable[Answer]) -> dict[str, Service]:
    """Of each kind; requests that ended before the first fault are left out."""
    ordered = sorted(answers, key=lambda answer: answer.ended_s)
    ends = [answer.ended_s for answer in ordered]
    outages = _outages(ordered)
    outage_ends = [outage.ended_s for outage in outages]
    found = {fault.kind: Service(0, 0, 0, 0.0, 0.0) for fault in faults}
    for fault, until_s in zip(faults, _until_s(faults), strict=True):
        own = ordered[bisect_left(ends, fault.begun_s) : bisect_left(ends, until_s)]
        down = outages[bisect_left(outage_ends, fault.begun_s) : bisect_left(outage_ends, until_s)]
        good = [answer.ended_s - answer.begun_s for answer in own if is_answered(answer)]
        so_far = found[fault.kind]
        found[fault.kind] = Service(
            so_far.faults + 1,
            so_far.requests + len(own),
            so_far.answered + len(good),
            max([so_far.longest_s, *(outage.length_s for outage in down)]),
            max([so_far.slowest_s, *good]),
            max(so_far.again_s, again_s(fault, ordered, ends)),
        )
    return found


def late(faults: Iterable[Fault], answers: Iterable[Answer], bounds_s: dict[str, float]) -> list[str]:
    """Every fault after whose end it took longer to serve again than its kind may take, counted from its begin."""
    ordered = sorted(answers, key=lambda answer: answer.ended_s)
    ends = [answer.ended_s for answer in ordered]
    took = [(fault.kind, again_s(fault, ordered, ends)) for fault in faults if fault.kind in bounds_s and fault.ended_s]
    return [
        f"{kind}: served again after {took_s:.1f} s, not within {bounds_s[kind]:g} s"
        for kind, took_s in took
        if took_s > bounds_s[kind]
    ]


def lines(found: dict[str, Service]) -> list[str]:
    """A table for people."""
    columns = ("times", "requests", "answered", "longest outage", "longest wait", "served again")
    head = f"{'fault':<36}" + "".join(f" {column:>{WIDTH}}" for column in columns)
    return [head] + [
        f"{kind:<36} {s.faults:>{WIDTH}} {s.requests:>{WIDTH}} {s.share:>{WIDTH}.2%}"
        f" {s.longest_s:>{WIDTH - 2}.1f} s {s.slowest_s:>{WIDTH - 2}.1f} s {s.again_s:>{WIDTH - 2}.1f} s"
        for kind, s in sorted(found.items())
    ]
