"""The clocks of a run of chaos: a process's wall clock is shifted, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.clocks import Clocks, build

TOLD = "import sys, time\nfor _ in sys.stdin: print(time.time(), time.monotonic(), flush=True)"
FOREIGN = """import ctypes, sys, time
def foreign_s():
    found = (ctypes.c_long * 2)()
    ctypes.CDLL(None).clock_gettime(time.CLOCK_REALTIME, found)
    return found[0] + found[1] / 1e9"""
FORKING = "import os\nif os.fork() == 0:\n print(os.getpid(), flush=True)\n " + TOLD.replace("\n", "\n ")
FORKING += "\nelse: os.wait()"
NEAR_S = 5.0  # a busy machine; the shifts are far from it

Asked = Callable[[], tuple[float, float]]
Started = Callable[[str], tuple[subprocess.Popen[str], Asked]]


@pytest.fixture
def clocks(tmp_path: Path) -> Clocks:
    built = build(tmp_path / "clocks")
    if built is None:
        pytest.skip("there is no C compiler")
    return built


@pytest.fixture
def started(clocks: Clocks) -> Iterator[Started]:
    """A Python process with those clocks, and how to ask it: how far its two clocks are from ours."""
    processes: list[subprocess.Popen[str]] = []

    def start(program: str) -> tuple[subprocess.Popen[str], Asked]:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | clocks.environment,
        )  # fmt: skip
        processes.append(process)

        def ask() -> tuple[float, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            wall_s, monotonic_s = map(float, process.stdout.readline().split())
            return wall_s - time.time(), monotonic_s - time.monotonic()

        return process, ask

    yield start
    for process in processes:
        process.communicate()


@pytest.mark.parametrize("by_ms", [600_000, -600_000, 30_999, -30_999])
def test_a_shift_is_seen_at_once_and_taken_back_at_once(clocks: Clocks, started: Started, by_ms: int) -> None:
    """The monotonic clock does not move with it."""
    process, ask = started(TOLD)
    assert ask() == pytest.approx((0, 0), abs=NEAR_S)
    clocks.shift([process.pid], by_ms)
    assert ask() == pytest.approx((by_ms / 1000, 0), abs=NEAR_S)
    clocks.shift([process.pid], 0)
    assert ask() == pytest.approx((0, 0), abs=NEAR_S)


def test_calls_from_without_the_interpreter_see_the_machines_clock(clocks: Clocks, started: Started) -> None:
    """Whoever waits in C++ until a point of time would wait for the shift besides."""
    program = TOLD.replace("import sys, time", FOREIGN).replace("time.time()", "foreign_s()")
    process, ask = started(program)
    assert ask() == pytest.approx((0, 0), abs=NEAR_S)
    clocks.shift([process.pid], 3_600_000)
    assert ask() == pytest.approx((0, 0), abs=NEAR_S)


def test_other_processes_keep_their_clocks(clocks: Clocks, started: Started) -> None:
    (process, _), (_, ask) = started(TOLD), started(TOLD)
    assert ask() == pytest.approx((0, 0), abs=NEAR_S)
    clocks.shift([process.pid], 3_600_000)
    assert ask() == pytest.approx((0, 0), abs=NEAR_S)


def test_a_forked_process_has_a_clock_of_its_own(clocks: Clocks, started: Started) -> None:
    """The API's workers are forked from its server."""
    parent, ask = started(FORKING)
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())
    clocks.shift([parent.pid], 3_600_000)
    assert ask() == pytest.approx((0, 0), abs=NEAR_S)
    clocks.shift([child_pid], 7_200_000)
    assert ask() == pytest.approx((7200, 0), abs=NEAR_S)


def test_who_has_ended_is_passed_over_and_who_does_not_listen_is_named(clocks: Clocks) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    clocks.shift([ended.pid], 1)
    with pytest.raises(FileNotFoundError):
        clocks.shift([os.getpid()], 1)
