"""An actor's tasks and deadlines: nothing is looked at early, nothing is forgotten, nothing ends unnoticed."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.timers import GRACE_MS, JUMP_MS, TICK_S, Deadlines, Tasks
from tests.support.virtual_time import idle, pass_time, until, virtual_time

TICK_MS = int(TICK_S * 1_000)


class Diary:
    """Deadlines that run, on a clock that a test may move, and what they have handed over when."""

    def __init__(self, most: int = 100) -> None:
        self.moved_ms = 0
        self.handed: list[tuple[int, list[str]]] = []
        self.deadlines = Deadlines(self.clock_ms, lambda due, now_ms: self.handed.append((now_ms, due)), most)
        self.running = asyncio.create_task(self.deadlines.run())

    def clock_ms(self) -> int:
        return round(asyncio.get_running_loop().time() * 1_000) + self.moved_ms

    @property
    def names(self) -> list[str]:
        return [name for _, due in self.handed for name in due]


TIMES_MS = st.lists(st.integers(0, 20 * TICK_MS), max_size=20)


@given(TIMES_MS, st.integers(1, 5))
@virtual_time
async def test_everything_is_handed_over_once_in_its_order_and_never_early(times_ms: list[int], most: int) -> None:
    """At most so many a tick; where there are no more, at the first tick that is not before its time."""
    diary = Diary(most)
    for n, at_ms in enumerate(times_ms):
        diary.deadlines.add(at_ms, str(n))
    await pass_time(20 * TICK_S * 3)
    expected = sorted(range(len(times_ms)), key=lambda n: times_ms[n])
    assert diary.names == [str(n) for n in expected]
    for now_ms, due in diary.handed:
        assert 0 < len(due) <= most
        assert all(times_ms[int(name)] <= now_ms for name in due)
        if most >= len(times_ms):
            assert all(times_ms[int(name)] > now_ms - TICK_MS or now_ms == TICK_MS for name in due)


@virtual_time
async def test_grace_puts_off_what_is_known_and_nothing_else() -> None:
    """What would be due after it keeps its time, and so does what comes to be known later."""
    diary = Diary()
    diary.deadlines.add(TICK_MS, "early")
    diary.deadlines.add(2 * GRACE_MS, "late")
    diary.deadlines.give_grace(0)
    diary.deadlines.add(2 * TICK_MS, "new")
    await until(lambda: len(diary.handed) == 3)
    assert diary.handed == [(2 * TICK_MS, ["new"]), (GRACE_MS, ["early"]), (2 * GRACE_MS, ["late"])]


@pytest.mark.parametrize(
    ("jump_ms", "grace"),
    [(JUMP_MS + 1, True), (-JUMP_MS - 2 * TICK_MS, True), (JUMP_MS - TICK_MS, False)],
    ids=["forward", "backward", "small"],
)
@virtual_time
async def test_after_a_jump_of_the_clock_there_is_grace(jump_ms: int, grace: bool) -> None:
    diary = Diary()
    diary.deadlines.add(JUMP_MS, "hold")
    await pass_time(TICK_S * 1.5)
    diary.moved_ms = jump_ms
    jumped_ms = 2 * TICK_MS + jump_ms  # as the next tick sees it
    await until(lambda: diary.names == ["hold"])
    assert diary.handed == [(jumped_ms + GRACE_MS * grace, ["hold"])]


class Broken(Exception):
    """What ends a task."""


@virtual_time
async def test_a_task_that_breaks_ends_its_process() -> None:
    """The other tasks may run on as if nothing had happened: nobody else would notice."""
    left: list[str] = []
    tasks = Tasks("toy-0", lambda: left.append("left"))
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()
        raise Broken

    tasks.spawn(work())
    tasks.spawn(pass_time(3_000))
    await idle()
    assert left == []
    gate.set()
    await idle()
    assert left == ["left"]
    await tasks.stop()


@virtual_time
async def test_tasks_that_are_stopped_have_ended_and_leave_nobody() -> None:
    left: list[str] = []
    ended: list[str] = []
    tasks = Tasks("toy-0", lambda: left.append("left"))

    async def work() -> None:
        try:
            await pass_time(3_000)
        finally:
            ended.append("ended")

    tasks.spawn(work())
    tasks.spawn(work())
    await idle()
    await tasks.stop()
    assert (ended, left) == (["ended"] * 2, [])
