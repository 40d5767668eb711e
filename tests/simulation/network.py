"""The simulated network: calls between processes that are slow, lost either way, carried twice, or cut off.

Owns which messages arrive, when and how often. A caller whose call is lost learns it after a while, as from a
broken connection, and never whether it was executed. Told of rates by the seed's weather; knows bytes only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from actors.mailbox import Unreachable
from tests.simulation.loop import Process, Scheduler
from tests.simulation.weather import Weather

QUICK_S = (0.0002, 0.002)
SLOW_S = (0.01, 1.2)
LATE_S = ((0.01, 0.3), (0.01, 1.0), (0.1, 5.0))  # when a call arrives that its caller has given up
NOTICED_S = (0.005, 0.4)  # until a caller is told that the connection is gone


class Call:
    """One call of a process to a name; answered once, whatever else arrives."""

    __slots__ = ("args", "future", "method", "src", "to")

    def __init__(self, src: Process, to: str, method: str, args: tuple[Any, ...]) -> None:
        self.src = src
        self.to = to
        self.method = method
        self.args = args
        self.future: asyncio.Future[bytes] = src.create_future()

    def answer(self, result: bytes) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, reason: str) -> None:
        if not self.future.done():
            self.future.set_exception(Unreachable(reason))


class Network:
    """``deliver``: how a call that arrives reaches whoever bears the name now; False when nobody does."""

    def __init__(
        self,
        scheduler: Scheduler,
        weather: Weather,
        rng: Random,
        deliver: Callable[[Call], bool],
        note: Callable[..., None],
    ) -> None:
        self._scheduler = scheduler
        self._weather = weather
        self._rng = rng
        self._deliver = deliver
        self._note = note
        self._cut: dict[tuple[str, str], float] = {}  # source and name → until when nothing passes

    def delay_s(self) -> float:
        rng = self._rng
        if self._weather.slow and rng.random() < self._weather.slow:
            self._note("net", "slow")
            return rng.uniform(*SLOW_S)
        return rng.uniform(*QUICK_S)

    def cut(self, source: str, to: str, seconds: float) -> None:
        self._cut[source, to] = self._scheduler.now_s + seconds

    def heal(self) -> None:
        self._cut.clear()

    def send(self, src: Process, to: str, method: str, args: tuple[Any, ...]) -> asyncio.Future[bytes]:
        call = Call(src, to, method, args)
        weather, rng = self._weather, self._rng
        if self._is_cut(call):
            self.lose(call, "partition")
        elif rng.random() < weather.drop_request:
            self.lose(call, "request lost")
        elif rng.random() < weather.late_request:
            self.lose(call, "request late")
            self._scheduler.after(rng.uniform(*rng.choice(LATE_S)), self._arrive, call)
        else:
            self._scheduler.after(self.delay_s(), self._arrive, call)
            if rng.random() < weather.silent_duplicate:
                self._note("net", "silent duplicate", to)
                self._scheduler.after(self.delay_s(), self._arrive, call)
        return call.future

    def reply(self, call: Call, result: bytes) -> None:
        """The callee has answered; whether that reaches the caller is another matter."""
        if self._is_cut(call):
            self.lose(call, "partition, executed")
        elif self._rng.random() < self._weather.drop_answer:
            self.lose(call, "answer lost, executed")
        else:
            now_s = self._scheduler.now_s
            self._scheduler.at(now_s + self.delay_s(), call.src, call.answer, (result,))

    def lose(self, call: Call, reason: str) -> None:
        self._note("net", reason, call.to, call.method)
        when_s = self._scheduler.now_s + self._rng.uniform(*NOTICED_S)
        self._scheduler.at(when_s, call.src, call.fail, (reason,))

    def _is_cut(self, call: Call) -> bool:
        until_s = self._cut.get((call.src.name, call.to))
        return until_s is not None and self._scheduler.now_s < until_s

    def _arrive(self, call: Call) -> None:
        if not self._deliver(call):
            self.lose(call, "nobody there")


class Wire:
    """`actors.mailbox.Transport` of one process to one name."""

    def __init__(self, network: Network, process: Process, to: str) -> None:
        self._network = network
        self._process = process
        self._to = to

    async def deliver(self, client: str, blob: bytes) -> bytes:
        return await self._network.send(self._process, self._to, "deliver", (client, blob))

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        arguments = (client, incarnation, acknowledged, wait_s)
        return await self._network.send(self._process, self._to, "drain", arguments)
