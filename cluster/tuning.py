"""How the processes that hold many objects are tuned.

The states in an actor's memory are immutable and free of cycles, and there are millions of them. Python's
collector would walk them again and again to find nothing: measured at 4,000 checkouts in flight, it took
four fifths of a coordinator's time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG_OBJECTS = 200_000
YOUNG_ROUNDS = 50
MIDDLE_ROUNDS = 100


def spare_the_collector() -> None:
    """Leave what is alive now out of collection, and collect what comes later rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_ROUNDS, MIDDLE_ROUNDS)


@contextmanager
def uncollected() -> Iterator[None]:
    """What is made meanwhile is left out of collection for good, unseen: a look at it costs a tenth of a recovery."""
    spare_the_collector()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
