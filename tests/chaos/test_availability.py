"""What the report of chaos says of the service under each kind of fault, alone and together with others."""

from __future__ import annotations

import pytest

from tests.chaos.availability import NEVER_S, Fault, Service, by_fault, late
from tests.chaos.checker import Answer


def answers(*entries: tuple[float, int]) -> list[Answer]:
    """Each took half a second."""
    return [Answer(status, begun_s=at_s - 0.5, ended_s=at_s) for at_s, status in entries]


def service(faults: int, requests: int, answered: int, longest_s: float) -> Service:
    """As `without_again` leaves it."""
    return Service(faults, requests, answered, longest_s, 0.5 if answered else 0.0)


def without_again(found: dict[str, Service]) -> dict[str, Service]:
    return {kind: service._replace(again_s=0.0) for kind, service in found.items()}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (answers((1, 200), (2, 409)), service(1, 2, 2, 0.0)),
        (answers((1, 200), (2, 0), (3, 503), (6, 200)), service(1, 4, 2, 5.0)),
        (answers((6, 200), (1, 200), (3, 503), (2, 0)), service(1, 4, 2, 5.0)),
        (answers((1, 500), (2, 200), (3, 200), (7, 500), (8, 200)), service(1, 5, 3, 5.0)),
        (answers((1, 200), (2, 0)), service(1, 2, 1, NEVER_S)),
        (answers((-1, 500), (-0.5, 200)), service(1, 0, 0, 0.0)),
    ],
    ids=["nothing failed", "an outage", "in whatever order", "the longest of two", "no end", "before the fault"],
)
def test_share_and_longest_outage(told: list[Answer], expected: Service) -> None:
    assert without_again(by_fault([Fault("kill", 0.0)], told)) == {"kill": expected}


def test_in_one_lane_a_request_counts_for_the_last_fault_before_its_end() -> None:
    """An outage that outlasts its fault is counted where it ended, with its whole length."""
    faults = [Fault("pause", 10.0), Fault("kill", 0.0), Fault("kill", 20.0)]
    found = by_fault(faults, answers((1, 200), (9, 0), (11, 0), (12, 200), (21, 200)))
    assert without_again(found) == {"kill": service(2, 3, 2, 0.0), "pause": service(1, 2, 1, 11.0)}


def test_what_faults_of_several_lanes_share_is_counted_for_each() -> None:
    """One outage during a kill in one lane and a pause in another; the pause's successor has no part in it."""
    faults = [Fault("kill", 0.0, lane="a"), Fault("pause", 2.0, lane="b"), Fault("cut", 10.0, lane="b")]
    found = by_fault(faults, answers((1, 200), (3, 0), (4, 200), (11, 200)))
    assert without_again(found) == {
        "kill": service(1, 4, 3, 3.0),
        "pause": service(1, 2, 1, 3.0),
        "cut": service(1, 1, 1, 0.0),
    }


def test_faults_that_begin_together_in_one_lane_last_together() -> None:
    faults = [Fault("one", 0.0), Fault("two", 0.0), Fault("three", 5.0)]
    found = by_fault(faults, answers((1, 200), (6, 503), (7, 200)))
    assert without_again(found) == {
        "one": service(1, 1, 1, 0.0),
        "two": service(1, 1, 1, 0.0),
        "three": service(1, 2, 1, 6.0),
    }


AGAIN: dict[str, tuple[Fault, list[Answer], float]] = {
    "who came after its end": (Fault("kill", 10.0, 12.0), answers((12.6, 200)), 2.6),
    "who came before its end is no sign": (Fault("kill", 10.0, 12.0), answers((12.4, 200), (15, 200)), 5.0),
    "a refusal is no purchase": (Fault("kill", 10.0, 12.0), answers((13, 409), (14, 503), (16, 200)), 6.0),
    "nobody": (Fault("kill", 10.0, 12.0), answers((9, 200), (13, 503)), NEVER_S),
    "it did not end": (Fault("kill", 10.0), answers((13, 200)), NEVER_S),
}


@pytest.mark.parametrize("name", AGAIN)
def test_a_shop_serves_again_when_somebody_buys_who_came_after_the_fault(name: str) -> None:
    fault, told, expected_s = AGAIN[name]
    assert by_fault([fault], told)["kill"].again_s == pytest.approx(expected_s)


def test_the_longest_time_until_it_serves_again_is_told() -> None:
    faults = [Fault("kill", 0.0, 1.0), Fault("kill", 10.0, 11.0)]
    assert by_fault(faults, answers((4, 200), (12, 200)))["kill"].again_s == pytest.approx(4.0)


@pytest.mark.parametrize(("bound_s", "named"), [(3.0, 1), (5.0, 0)])
def test_whoever_serves_again_too_late_is_named(bound_s: float, named: int) -> None:
    """Only kinds that have a bound."""
    faults = [Fault("kill", 0.0, 1.0), Fault("pause", 0.0, 1.0)]
    assert len(late(faults, answers((4, 200)), {"kill": bound_s})) == named


def test_whoever_never_serves_again_is_named() -> None:
    assert late([Fault("kill", 0.0, 1.0)], answers((1, 200)), {"kill": 60.0})


def test_a_fault_that_the_end_of_the_run_cut_short_is_not_blamed() -> None:
    """Why the run ended is told by itself."""
    assert late([Fault("kill", 0.0)], answers((1, 200)), {"kill": 60.0}) == []
