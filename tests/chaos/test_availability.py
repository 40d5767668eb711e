"""What the report of chaos says of the service under each kind of fault."""

from __future__ import annotations

import pytest

from tests.chaos.availability import Fault, Service, by_fault
from tests.chaos.checker import Answer


def answers(*entries: tuple[float, int]) -> list[Answer]:
    return [Answer(status, begun_s=at_s - 0.5, ended_s=at_s) for at_s, status in entries]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (answers((1, 200), (2, 409)), Service(1, 2, 2, 0.0, 0.5)),
        (answers((1, 200), (2, 0), (3, 503), (6, 200)), Service(1, 4, 2, 5.0, 0.5)),
        (answers((6, 200), (1, 200), (3, 503), (2, 0)), Service(1, 4, 2, 5.0, 0.5)),
        (answers((1, 500), (2, 200), (3, 200), (7, 500), (8, 200)), Service(1, 5, 3, 5.0, 0.5)),
        (answers((-1, 500)), Service(1, 0, 0, 0.0, 0.0)),
    ],
    ids=["nothing failed", "an outage", "in whatever order", "the longest of two", "before the fault"],
)
def test_share_and_longest_outage(told: list[Answer], expected: Service) -> None:
    assert by_fault([Fault("kill", 0.0)], told) == {"kill": expected}


def test_a_request_counts_for_the_last_fault_before_its_end() -> None:
    """An outage that outlasts its fault is counted where it ended, with its whole length."""
    faults = [Fault("pause", 10.0), Fault("kill", 0.0), Fault("kill", 20.0)]
    found = by_fault(faults, answers((1, 200), (9, 0), (11, 0), (12, 200), (21, 200)))
    assert found == {"kill": Service(2, 3, 2, 0.0, 0.5), "pause": Service(1, 2, 1, 11.0, 0.5)}
