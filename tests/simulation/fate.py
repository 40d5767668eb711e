"""What befalls the shop in a seed: deaths, splits, pauses, partitions, outages, clocks, the gateway's moods.

Owns when and whom. Everything is over when the calm begins: who is paused wakes, who has an heir is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.simulation.database import Line
from tests.simulation.loop import Scheduler
from tests.simulation.network import Network
from tests.simulation.processes import Processes
from tests.simulation.weather import FAULTS_S, Shop, Weather

AMID_RECOVERY = 0.4  # share of the zombies that are made while they recover
ACTORS = ("stock", "cart", "checkout", "sandbox")


class Fate:
    """`plan` at the beginning; `calm` at the end."""

    def __init__(
        self,
        scheduler: Scheduler,
        weather: Weather,
        shop: Shop,
        rng: Random,
        processes: Processes,
        network: Network,
        line: Line,
        note: Callable[..., None],
    ) -> None:
        self._scheduler = scheduler
        self._weather = weather
        self._shop = shop
        self._rng = rng
        self._processes = processes
        self._network = network
        self._line = line
        self._note = note

    def plan(self) -> None:
        for rate, strike in (
            (self._weather.crash_per_s, self._crash),
            (self._weather.split_per_s, self._split),
            (self._weather.pause_per_s, self._pause),
            (self._weather.zombie_per_s, self._make_zombie),
            (self._weather.partition_per_s, self._cut),
            (self._weather.outage_per_s, self._go_out),
            (self._weather.clock_jump_per_s, self._jump),
            (self._weather.gateway_trouble_per_s, self._upset_gateway),
        ):
            at_s = self._rng.expovariate(rate) if rate else FAULTS_S
            while at_s < FAULTS_S:
                self._scheduler.after(at_s, strike)
                at_s += self._rng.expovariate(rate)

    def calm(self) -> None:
        """Whatever is wrong ends now; a slow gateway is quick."""
        self._shop.latency_ms = "0"
        self._weather.calm()
        self._network.heal()
        self._line.come_back()
        for incarnation in self._processes.living():
            if not self._processes.is_newest(incarnation):
                self._processes.kill(incarnation)
            incarnation.process.skew_ms = 0
            incarnation.process.resume()
            if incarnation.name == "sandbox" and incarnation.ready:
                incarnation.actor.configure(mode="up", latency_ms="0")

    def _name(self) -> str:
        names = self._processes.names
        return self._rng.choice([name for name in names if not name.startswith("api")] * 2 + names)

    def _actor(self) -> str:
        return self._rng.choice([name for name in self._processes.names if name[0] in "sc" and name != "sandbox"])

    def _crash(self) -> None:
        self._processes.crash(self._name())

    def _split(self) -> None:
        """The name goes to a second process while the first lives on."""
        name = self._rng.choice((self._actor(), self._actor(), "sandbox"))  # the gateway needs no fence
        self._note("fate", "split", name)
        self._processes.start(name)

    def _pause(self) -> None:
        incarnation = self._processes.present(self._name())
        if incarnation is not None:
            self._note("fate", "pause", incarnation.name)
            incarnation.process.pause()
            self._scheduler.after(self._rng.uniform(0.01, 1.5), incarnation.process.resume)

    def _make_zombie(self) -> None:
        """Paused, replaced, and awake again after its heir serves."""
        name = self._actor()
        if self._rng.random() < AMID_RECOVERY:
            self._overtake(name)
            return
        incarnation = self._processes.present(name)
        if incarnation is not None and incarnation.ready:
            self._note("fate", "zombie", incarnation.name)
            incarnation.process.pause()
            self._scheduler.after(self._rng.uniform(0.01, 0.3), self._processes.start, incarnation.name)
            self._scheduler.after(self._rng.uniform(0.3, 1.2), incarnation.process.resume)

    def _overtake(self, name: str) -> None:
        """Whoever is just recovering is paused, and reads on when its heir has written."""
        self._processes.start(name)
        process = self._processes.present(name).process  # type: ignore[union-attr]
        self._note("fate", "overtaken in recovery", name)
        self._scheduler.after(self._rng.uniform(0.0, 0.003), process.pause)
        self._scheduler.after(self._rng.uniform(0.003, 0.01), self._processes.start, name)
        self._scheduler.after(self._rng.uniform(0.05, 1.0), process.resume)

    def _cut(self) -> None:
        """In one direction of asking; answers on that way are lost too."""
        names = self._processes.names
        source, to = self._rng.sample([*names, "outside"], 2)
        self._note("fate", "partition", source, to)
        self._network.cut(source, to, self._rng.uniform(0.05, 1.0))

    def _go_out(self) -> None:
        self._note("fate", "outage")
        self._line.go_out(self._rng.uniform(0.05, 0.8))

    def _jump(self) -> None:
        incarnation = self._processes.present(self._name())
        if incarnation is not None:
            self._note("fate", "clock jump", incarnation.name)
            incarnation.process.skew_ms = self._rng.choice((-700, -300, -100, 100, 300, 700))

    def _upset_gateway(self) -> None:
        incarnation = self._processes.present("sandbox")
        if incarnation is not None and incarnation.ready and incarnation.process.running:
            mode = self._rng.choice(("down", "error"))
            self._note("fate", f"gateway {mode}")
            incarnation.actor.configure(mode=mode)
            self._scheduler.after(self._rng.uniform(0.05, 1.0), lambda: incarnation.actor.configure(mode="up"))
