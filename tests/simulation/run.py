"""One seed: a shop, its weather, its people; then calm, and the question whether everything is as it should be.

Owns the order of the acts: the shelves are filled in peace, then anything may go wrong for a few seconds, then
nothing does. Within `BOUND_S` of that every saga has ended or waits for its buyer; once all reservations are
over nothing is held, every answer given still holds, and the real audit finds nothing. Same seed, same run.
"""

from __future__ import annotations

import gc
import traceback
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Any

from domain import checkout_model as model
from domain.cart_model import Cart, Customer
from domain.checkout_actions import resting
from domain.messages import Key
from persistence.audit_replay import Rebuilt
from tests.simulation.audit import audit
from tests.simulation.chance import GRACE_MS, Installed
from tests.simulation.damage import fooled
from tests.simulation.database import Line, SimDatabase
from tests.simulation.fate import Fate
from tests.simulation.history import History
from tests.simulation.loop import Livelock, Process, Scheduler
from tests.simulation.network import Network
from tests.simulation.oracle import Oracle
from tests.simulation.people import People
from tests.simulation.processes import Incarnation, Premises, Processes
from tests.simulation.weather import FAULTS_S, NOT_PROMISED, Shop, Weather, draw_shop, draw_weather
from tests.simulation.workers import worker_builder

BOUND_S = 10.0  # of healthy running, within which every saga ends
LOOK_S = 0.05
FLUSHES = 4  # that may be under way when everything seems to be at rest
LATER_S = 3600.0  # the audit of what is at rest has no patience left
AUDITED = 0.2  # share of the seeds that are audited in mid-storm
DAMAGED = 0.2  # share of those whose stored state is damaged at the end
VIOLATIONS_MOST = 20
BUGS = ("decision failed", "writer broken", "action failed", "coordinator broken", "batch lost", "entity damaged")


@dataclass
class Result:
    """What a seed came to. ``digest`` is the same whenever the seed is run."""

    seed: int
    violations: list[str]
    digest: str
    counts: Counter[str]
    events: int
    trace: list[str] = field(default_factory=list)


class Simulation:
    """One run. ``without``: faults that it shall not have; ``only``: those that it shall have, and no others."""

    def __init__(
        self,
        seed: int,
        *,
        without: frozenset[str] = NOT_PROMISED,
        only: frozenset[str] = frozenset(),
        trace: bool = False,
        shop: Shop | None = None,
    ) -> None:
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.trace: list[str] | None = [] if trace else None
        self._digest = blake2b(digest_size=16)
        streams = Random(seed)
        draw = lambda: Random(streams.getrandbits(64))  # noqa: E731  # one stream a concern
        self.rng = draw()
        drawn = draw_shop(draw())
        self.shop = shop or drawn
        self._storm = draw_weather(draw(), without, only)
        self.weather = Weather()
        self.scheduler = Scheduler(self._failed)
        self.database = SimDatabase(*self._shards())
        self.database.now_s = self._now_s
        self.oracle = Oracle(self.database.book, self._now_s, self.note, self.violate)
        self.database.on_append = self.oracle.appended
        self.database.on_clash = lambda what: self.violate("written twice", what)
        self.processes = Processes(self.scheduler, self.weather, draw(), self.note, self._failed)
        self.network = Network(self.scheduler, self.weather, draw(), self.processes.deliver, self.note)
        self.processes.network = self.network
        self.processes.on_ready = self._ready
        self.line = Line(self.scheduler, self.weather, draw(), self.note)
        self.line.on_written = self.processes.strike_after_commit
        self.database.refuse = self.line.refuse
        self.premises = Premises(self.shop, self.processes, self.database, self.line, draw(), self.note)
        self.history = History(self.oracle, self.database.tables, self._now_s, self.note, self.violate)
        self.outside = Process("outside", self.scheduler)  # type: ignore[abstract]
        self.people = People(self.outside, self.network, self.history, self.shop, draw(), self.note)
        self._luck = draw()
        self.fate = Fate(
            self.scheduler, self.weather, self.shop, draw(), self.processes, self.network, self.line, self.note
        )

    def _ready(self, incarnation: Incarnation) -> None:
        """Only whom nobody has overtaken meanwhile has recovered its shard."""
        shard = self.database.shards.get(incarnation.name)
        if shard is not None and shard.epoch == incarnation.writer.lease.epoch:
            self.oracle.recovered(incarnation.name)

    def _now_s(self) -> float:
        return self.scheduler.now_s

    def _shards(self) -> list[str]:
        counts = {"stock": self.shop.stock_shards, "cart": self.shop.cart_shards, "checkout": self.shop.checkout_shards}
        return [f"{kind}-{n}" for kind, count in counts.items() for n in range(count)]

    # ── what is noted ───────────────────────────────────────────────────────────────────────────────────

    def note(self, kind: str, what: str, *details: Any) -> None:
        self.counts[f"{kind}: {what}"] += 1
        line = f"{self.scheduler.now_s:.6f} {kind} {what} {details}"
        self._digest.update(line.encode())
        if self.trace is not None:
            self.trace.append(line)
        if kind == "log" and what in BUGS:
            self.violate("bug", what)

    def violate(self, code: str, detail: str) -> None:
        line = f"{code}: {detail}"
        self.note("violation", code, detail)
        if len(self.violations) < VIOLATIONS_MOST:
            self.violations.append(f"{self.scheduler.now_s:.3f} s {line}")

    def _failed(self, where: str, error: BaseException | None) -> None:
        last = traceback.extract_tb(error.__traceback__)[-1] if error is not None and error.__traceback__ else None
        place = f" at {last.filename.rsplit('/', 1)[-1]}:{last.lineno}" if last else ""
        self.violate("error", f"{where}: {error!r}{place}")

    # ── the acts ────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> Result:
        with Installed() as chance:
            chance.rng, chance.note, chance.now_s = self.rng, self.note, self._now_s
            try:
                self._fill()
                self._storm_and_calm()
                self._let_time_pass()
                self._ask_again()
                self._judge()
            except Livelock as error:
                self.violate("livelock", str(error))
            finally:
                self._end()
        return Result(
            self.seed, self.violations, self._digest.hexdigest(), self.counts, self.scheduler.events, self.trace or []
        )

    def _fill(self) -> None:
        builds = {
            "stock": self.premises.build_stock,
            "cart": self.premises.build_cart,
            "checkout": self.premises.build_checkout,
        }
        for shard in self._shards():
            self.processes.add(shard, builds[shard.partition("-")[0]])
        self.processes.add("sandbox", self.premises.build_sandbox)
        for n in range(self.shop.workers):
            self.processes.add(f"api-{n}", worker_builder(self.premises))
        self.outside.run_until_complete(self.people.fill_shelves())

    def _storm_and_calm(self) -> None:
        self._befall()
        self.fate.calm()
        self.people.closed = True
        self.people.spawn(self.people.ask_again(self.history.unresolved(), BOUND_S))
        self._run_until("not_converged", BOUND_S, self._unfinished)

    def _befall(self) -> None:
        self.weather.__dict__.update(self._storm.__dict__)
        self.fate.plan()
        if self._luck.random() < AUDITED:
            self.scheduler.after(self._luck.uniform(0, FAULTS_S), self._audit)
        self.people.open_doors(FAULTS_S * 0.7)
        self.scheduler.run(self._now_s() + FAULTS_S)

    def _let_time_pass(self) -> None:
        """Reservations and steps that were left alone end by their time, with a minute of grace."""
        longest_ms = max(self.shop.hold_ttl_ms, self.shop.buyer_action_ms) + GRACE_MS
        bound_s = longest_ms / 1000 + BOUND_S
        self.people.spawn(self.people.follow_all(bound_s))
        self._run_until("not_at_rest", bound_s + 1, self._restless)

    def _run_until(self, code: str, seconds: float, open_: Any) -> None:
        """Run until nothing is left of what ``open_`` lists, at most so long."""
        end_s = self._now_s() + seconds
        while left := open_():
            if self._now_s() >= end_s:
                self.violate(code, f"after {seconds:g} s: {'; '.join(left[:5])}")
                return
            self.scheduler.run(min(self._now_s() + LOOK_S, end_s))

    def _ask_again(self) -> None:
        """Every command that was answered for good, once more: by now nothing stands in its way."""
        settled = self.history.settled()
        self.people.spawn(self.people.ask_again(settled, BOUND_S))
        self.people.spawn(self.people.reuse_key(self._luck.choice(settled)))
        self._run_until("repeat_unanswered", BOUND_S, lambda: ["repeats"] if self.people.busy else [])
        self._let_time_pass()  # a copy on its way since long may have begun anew what was told to come back

    # ── where it stands ─────────────────────────────────────────────────────────────────────────────────

    def _actors(self) -> list[tuple[str, Incarnation | None]]:
        return [(name, self.processes.present(name)) for name in self._shards()]

    def _unfinished(self) -> list[str]:
        """Who still has something to do, those aside who wait for a buyer."""
        found = ["people"] if self.people.busy else []
        for name, incarnation in self._actors():
            if incarnation is None or not incarnation.ready:
                found.append(f"{name} is not there")
                continue
            if incarnation.writer.queued:
                found.append(f"{name} has {incarnation.writer.queued} queued")
            for (kind, key), state in incarnation.writer.world.items():
                if kind == "checkout" and not _settled(state):
                    found.append(f"{key} is {state.phase}, owes {[entry.kind for entry in state.asked]}")
        return found

    def _restless(self) -> list[str]:
        """What is still held, or not at rest."""
        found = self._unfinished()
        for name, incarnation in self._actors():
            if incarnation is None or not incarnation.ready:
                continue
            for (kind, key), state in incarnation.writer.world.items():
                if kind == "hold" and state.live:
                    found.append(f"hold {key} is {state.status} on {name}")
                elif kind == "checkout" and not resting(state):
                    found.append(f"{key} is {state.phase}")
            if name.startswith("checkout") and incarnation.actor.live:
                found.append(f"{name} has {incarnation.actor.live} live")
        return found

    def _audit(self, later_s: float = 0.0) -> dict[str, dict[Key, Rebuilt]]:
        """At any instant, whatever is going wrong, the audit finds nothing; nor, at rest, however late it is."""
        self.note("audit", "at rest" if later_s else "live")
        report, rebuilt = audit(self.database, self._now_s() + later_s)
        for violation in report.violations:
            self.violate(f"audit {violation.code}", f"{violation.subject}: {violation.detail}")
        return rebuilt

    def _judge(self) -> None:
        rebuilt = self._audit(LATER_S)
        for _ in range(FLUSHES):
            if not self._disagreements(rebuilt):
                break
            self.scheduler.run(self._now_s() + LOOK_S)  # a tombstone is just being let go of
            rebuilt = self._audit(LATER_S)
        for disagreement in self._disagreements(rebuilt):
            self.violate("replay_disagrees", disagreement)
        states = {
            entry.state.id: entry.state
            for shard in rebuilt.values()
            for entry in shard.values()
            if isinstance(entry.state, model.Checkout)
        }
        self.history.check_promises(states)
        self._check_carts(rebuilt, list(states.values()))
        if self._luck.random() < DAMAGED and not self.violations:
            kind, taken_in = fooled(self.database, self._luck, self._now_s())
            self.note("damage", kind)
            for detail in taken_in:
                self.violate("damage_accepted", detail)

    def _check_carts(self, rebuilt: dict[str, dict[Key, Rebuilt]], checkouts: list[model.Checkout]) -> None:
        """A cart has one order at most; when a checkout has ended, its cart knows."""
        carts = {
            entry.state.id: entry.state
            for shard in rebuilt.values()
            for entry in shard.values()
            if isinstance(entry.state, Cart)
        }
        placed = Counter(state.cart_id for state in checkouts if state.cart_id and state.phase == "placed")
        for cart_id, orders in placed.items():
            if orders > 1 or not carts[cart_id].ordered:
                self.violate("cart_sold_twice", f"{cart_id} has {orders} orders, ordered: {carts[cart_id].ordered}")
        for state in checkouts:
            if state.cart_id in carts and state.id in carts[state.cart_id].checkouts:
                self.violate("cart_not_given_back", f"{state.cart_id} is still with {state.id}, which is {state.phase}")

    def _disagreements(self, rebuilt: dict[str, dict[Key, Rebuilt]]) -> list[str]:
        """Where an actor's memory is not what replaying its journal gives."""
        found = []
        for name, incarnation in self._actors():
            if incarnation is None or not incarnation.ready:
                continue
            memory, entries = incarnation.writer.world, rebuilt.get(name, {})
            for key, state in memory.items():
                if key not in entries or entries[key].state != state:
                    found.append(f"{name} has another {key} in memory than in its journal")
            for key, entry in entries.items():
                rests = isinstance(entry.state, model.Checkout | Cart | Customer)
                if entry.state is not None and key not in memory and not rests:
                    found.append(f"{name} has no {key} in memory")
        return found

    def _end(self) -> None:
        self._digest.update(f"{self.scheduler.now_s} {self.scheduler.events}".encode())
        for shard in self.database.shards.values():
            self._digest.update(f"{shard.epoch} {shard.head} {[row.crc for row in shard.journal.values()]}".encode())
        for incarnation in self.processes.living():
            incarnation.process.kill()
        self.outside.kill()


def _settled(state: model.Checkout) -> bool:
    if state.phase in ("open", "awaiting_buyer"):
        return not [entry for entry in state.asked if state.phase == "open"]
    return resting(state)


def simulate(
    seed: int,
    *,
    without: frozenset[str] = NOT_PROMISED,
    only: frozenset[str] = frozenset(),
    trace: bool = False,
) -> Result:
    """Run one seed. The collector rests meanwhile: what it would find belongs to the dead, and they are many."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return Simulation(seed, without=without, only=only, trace=trace).run()
    finally:
        if enabled:
            gc.enable()
