"""Virtual time and simulated processes: asyncio in one thread, without a clock, a selector or chance.

Owns the order in which everything runs. A `Process` is an event loop of its own, as each actor has one: what
belongs to a process is what was scheduled on its loop. So a crash is exact (nothing of it ever runs again, not
even a `finally`), and a pause is too (it runs later, with its timers overdue). Callbacks of one instant run in
the order they were scheduled, as asyncio promises; what differs from seed to seed are the delays that whoever
uses this draws. Existing loops of this kind want Python 3.12 and know one process. Context variables are not kept
apart between tasks: no actor has any.
"""

from __future__ import annotations

import asyncio
import heapq
import inspect
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

EVENTS_MOST = 400_000  # callbacks a run: more mean that somebody asks in circles without letting time pass


class Livelock(Exception):
    """The run does not come to an end."""


class Handle:
    """A callback to come; what asyncio needs of it is `cancel`."""

    __slots__ = ("args", "callback", "process")

    def __init__(self, process: Process | None, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.process = process
        self.callback: Callable[..., Any] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None


class Scheduler:
    """What runs next, in all processes. ``on_error`` is told of exceptions that nobody caught."""

    def __init__(self, on_error: Callable[[str, BaseException | None], None]) -> None:
        self.now_s = 0.0
        self.events = 0
        self.on_error = on_error
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._count = 0

    def soon(self, process: Process | None, callback: Callable[..., Any], args: tuple[Any, ...]) -> Handle:
        handle = Handle(process, callback, args)
        self._ready.append(handle)
        return handle

    def at(self, when_s: float, process: Process | None, callback: Callable[..., Any], args: tuple[Any, ...]) -> Handle:
        handle = Handle(process, callback, args)
        self._count += 1
        heapq.heappush(self._timers, (when_s, self._count, handle))
        return handle

    def after(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Handle:
        """Call somebody who is no process (the network, the database, fate) in so many seconds."""
        return self.at(self.now_s + delay_s, None, callback, args)

    def again(self, backlog: deque[Handle]) -> None:
        """What a process missed while it was paused."""
        self._ready.extend(backlog)

    def run(self, until_s: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass up to ``until_s``, or until ``done`` at the end of an instant."""
        timers, ready = self._timers, self._ready
        while True:
            self._run_ready()
            if done():
                return
            if not timers or timers[0][0] > until_s:
                self.now_s = max(self.now_s, until_s)
                return
            self.now_s = max(self.now_s, timers[0][0])
            while timers and timers[0][0] <= self.now_s:
                handle = heapq.heappop(timers)[2]
                if handle.callback is not None:
                    ready.append(handle)

    def _run_ready(self) -> None:
        ready = self._ready
        running: Process | None = None
        try:
            while ready:
                handle = ready.popleft()
                callback = handle.callback
                if callback is None:
                    continue
                process = handle.process
                if process is not None and not process.running:
                    process.miss(handle)
                    continue
                if process is not running:
                    asyncio._set_running_loop(process)
                    running = process
                self.events += 1
                try:
                    callback(*handle.args)
                except Exception as error:
                    self.on_error(f"callback of {process and process.name}", error)
            if self.events > EVENTS_MOST:
                raise Livelock(f"{self.events} callbacks by {self.now_s:.3f} s")
        finally:
            asyncio._set_running_loop(None)


class Process(asyncio.AbstractEventLoop):
    """One operating system process with its event loop; `running` unless it is dead or paused."""

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        self.name = name
        self.running = True
        self.dead = False
        self.skew_ms = 0
        self._scheduler = scheduler
        self._missed: deque[Handle] = deque()

    # ── fate ────────────────────────────────────────────────────────────────────────────────────────────

    def kill(self) -> None:
        self.dead, self.running = True, False
        for task in asyncio.all_tasks(self):
            work = task.get_coro()
            if isinstance(work, Coroutine) and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
                work.close()  # or Python would warn that it was never awaited
        self._missed.clear()

    def pause(self) -> None:
        self.running = False

    def resume(self) -> None:
        if not self.dead:
            self.running = True
            self._scheduler.again(self._missed)
            self._missed = deque()

    def miss(self, handle: Handle) -> None:
        if not self.dead:
            self._missed.append(handle)

    # ── what asyncio asks of a loop ─────────────────────────────────────────────────────────────────────

    def time(self) -> float:
        return self._scheduler.now_s

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return self._scheduler.soon(self, callback, args)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return self._scheduler.at(self._scheduler.now_s + delay, self, callback, args)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return self._scheduler.at(when, self, callback, args)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self)
        if self.dead:  # as of this very instant: what is still said in it comes to nothing
            coro.close()
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A task that ended by an exception which nobody has looked at. What dies with its process says nothing."""
        if not self.dead and context.get("exception") is not None:
            self._scheduler.on_error(f"{self.name}: {context['message']}", context["exception"])

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.dead

    def run_until_complete(self, future: Any) -> Any:
        """Run everything until this coroutine of ours is done; for what looks on from outside."""
        task = future if isinstance(future, asyncio.Future) else self._spawn(future)
        self._scheduler.run(float("inf"), task.done)
        return task.result()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.Task(work, loop=self)
