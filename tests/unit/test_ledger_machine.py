"""The ledger against a naive model: any steps in any order, repeated and late, never lose or invent a unit.

The model keeps units in plain dictionaries and knows nothing of events. Whatever the ledger answers, the model
must agree whether the step was done, and both must hold the same figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain import ledger
from domain.ledger import STALE_TAKE_MS, TOMBSTONE_MS, Account, Hold, Refused

ACCOUNTS = ("a", "b", "c")
HOLDS = ("h1", "h2", "h3")
LIVE = ("held", "pinned")

holds = st.sampled_from(HOLDS)
revisions = st.integers(1, 4)
quantities = st.dictionaries(st.sampled_from(ACCOUNTS), st.integers(1, 4), min_size=1)


class Model:
    """What a hold is, in the simplest terms: a status, a revision, its units, and two times."""

    def __init__(self) -> None:
        self.on_hand: Counter[str] = Counter()
        self.sold: Counter[str] = Counter()
        self.holds: dict[str, dict[str, Any]] = {}

    def available(self, account: str) -> int:
        out = sum(hold["legs"][account] for hold in self.holds.values() if hold["status"] in LIVE)
        return self.on_hand[account] - out

    def take(self, name: str, revision: int, wanted: dict[str, int], until: int, pinned: bool, sent: int, now: int):
        hold = self.holds.get(name)
        if hold is None:
            if now - sent > STALE_TAKE_MS:
                return False
        elif hold["status"] not in LIVE or revision < hold["revision"]:
            return False
        had = hold["legs"] if hold else Counter()
        if any(units > had[key] and units - had[key] > self.available(key) for key, units in wanted.items()):
            return False
        grows = any(units > had[key] for key, units in wanted.items())
        if hold is None or grows or revision > hold["revision"]:
            status = "pinned" if pinned or (hold and hold["status"] == "pinned") else "held"
            keeps = had if hold and revision == hold["revision"] else Counter()
            legs = Counter({key: max(keeps[key], wanted.get(key, 0)) for key in ACCOUNTS})
            self.holds[name] = {
                "status": status, "revision": revision, "legs": legs, "until": until, "forgotten": 0
            }  # fmt: skip
        return True

    def end(self, name: str, status: str, now: int) -> None:
        hold = self.holds[name]
        if status == "confirmed":
            self.on_hand -= hold["legs"]
            self.sold += hold["legs"]
        hold |= {"status": status, "forgotten": now}


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000
        self.accounts: dict[str, Account] = {}
        self.real: dict[str, Hold | None] = {}
        self.model = Model()
        self.sent: list[Callable[[], None]] = []

    @initialize(stock=st.fixed_dictionaries({key: st.integers(0, 6) for key in ACCOUNTS}))
    def receive(self, stock: dict[str, int]) -> None:
        self.accounts = {key: Account(received=units) for key, units in stock.items()}
        self.model.on_hand = Counter(stock)

    def apply(self, step: ledger.Step) -> bool:
        """Evolve what the ledger decided; whether it was done."""
        if isinstance(step, Refused):
            return False
        for event in step:
            for key in ledger.accounts_of(event):
                self.accounts[key] = ledger.evolve_account(key, self.accounts[key], event)
            self.real[event.hold_id] = ledger.evolve_hold(self.real.get(event.hold_id), event)
        return True

    def send(self, message: Callable[[], None]) -> None:
        """Deliver a message now; it may come again at any time (see `late_duplicate`)."""
        self.sent.append(message)
        message()

    @rule(name=holds, revision=revisions, wanted=quantities, ttl=st.integers(1, 90_000), pinned=st.booleans())
    def take(self, name: str, revision: int, wanted: dict[str, int], ttl: int, pinned: bool) -> None:
        sent, until = self.now, self.now + ttl

        def message() -> None:
            step = ledger.take(
                self.accounts, self.real.get(name), name, revision, wanted,
                expires_at_ms=until, pinned=pinned, issued_at_ms=sent, now_ms=self.now,
            )  # fmt: skip
            assert self.apply(step) == self.model.take(name, revision, wanted, until, pinned, sent, self.now)

        self.send(message)

    @rule(name=holds, revision=revisions, keep=quantities)
    def trim(self, name: str, revision: int, keep: dict[str, int]) -> None:
        def message() -> None:
            hold = self.model.holds.get(name)
            fits = hold is not None and hold["status"] in LIVE and revision >= hold["revision"]
            assert self.apply(ledger.trim(self.real.get(name), revision, keep)) == fits
            if hold is not None and fits:
                legs = Counter({key: min(hold["legs"][key], keep.get(key, 0)) for key in ACCOUNTS})
                hold |= {"legs": legs, "revision": revision}

        self.send(message)

    @rule(name=holds, revision=revisions)
    def pin(self, name: str, revision: int) -> None:
        def message() -> None:
            hold = self.model.holds.get(name)
            status = hold["status"] if hold else None
            fits = status in ("pinned", "confirmed") or (
                hold is not None and status == "held" and revision >= hold["revision"]
            )
            assert self.apply(ledger.pin(self.real.get(name), revision)) == fits
            if hold is not None and fits and status in LIVE:
                hold |= {"status": "pinned", "revision": max(revision, hold["revision"])}

        self.send(message)

    @rule(name=holds, revision=revisions, ttl=st.integers(1, 90_000))
    def unpin(self, name: str, revision: int, ttl: int) -> None:
        until = self.now + ttl

        def message() -> None:
            hold = self.model.holds.get(name)
            overtaken = hold is not None and revision < hold["revision"]
            status = hold["status"] if hold else None
            fits = status == "held" or (status == "pinned" and not overtaken)
            assert self.apply(ledger.unpin(self.real.get(name), until, revision)) == fits
            if hold is not None and status == "pinned" and fits:
                hold |= {"status": "held", "until": until, "revision": revision}

        self.send(message)

    @rule(name=holds, revision=revisions, ttl=st.integers(1, 90_000))
    def extend(self, name: str, revision: int, ttl: int) -> None:
        until = self.now + ttl

        def message() -> None:
            hold = self.model.holds.get(name)
            overtaken = hold is not None and revision < hold["revision"]
            status = hold["status"] if hold else None
            fits = status == "pinned" or (status == "held" and not overtaken)
            assert self.apply(ledger.extend(self.real.get(name), until, revision)) == fits
            if hold is not None and status == "held" and fits:
                hold |= {"until": until, "revision": revision}

        self.send(message)

    @rule(name=holds)
    def confirm(self, name: str) -> None:
        def message() -> None:
            hold = self.model.holds.get(name)
            status = hold["status"] if hold else None
            fits = status in (None, "pinned", "confirmed")
            assert self.apply(ledger.confirm(self.real.get(name), self.now)) == fits
            if status == "pinned":
                self.model.end(name, "confirmed", self.now)

        self.send(message)

    @rule(name=holds)
    def release(self, name: str) -> None:
        def message() -> None:
            hold = self.model.holds.get(name)
            fits = hold is None or hold["status"] not in ("confirmed", "returned")
            assert self.apply(ledger.release(self.real.get(name), name, self.now)) == fits
            if hold is None:
                self.model.holds[name] = {
                    "status": "released", "revision": 0, "legs": Counter(), "until": 0, "forgotten": self.now
                }  # fmt: skip
            elif hold["status"] in LIVE:
                self.model.end(name, "released", self.now)

        self.send(message)

    @rule(ticket=st.sampled_from(("r1", "r2")), legs=quantities)
    def give_back(self, ticket: str, legs: dict[str, int]) -> None:
        sent = self.now

        def message() -> None:
            there = ticket in self.model.holds
            enough = all(self.model.sold[key] >= units for key, units in legs.items())
            fits = there or (enough and self.now - sent <= STALE_TAKE_MS)
            step = ledger.give_back(
                self.real.get(ticket), ticket, self.accounts, legs, issued_at_ms=sent, now_ms=self.now
            )
            assert self.apply(step) == fits
            if fits and not there:
                self.model.sold -= Counter(legs)
                self.model.on_hand += Counter(legs)
                self.model.holds[ticket] = {
                    "status": "returned", "revision": 0, "legs": Counter(), "until": 0, "forgotten": 0
                }  # fmt: skip

        self.send(message)

    @rule(name=st.sampled_from((*HOLDS, "r1", "r2")))
    def forget(self, name: str) -> None:
        hold = self.model.holds.get(name)
        live = hold is not None and hold["status"] in LIVE
        assert self.apply(ledger.forget(self.real.get(name), self.now)) != live
        if hold is not None and not live and not hold["forgotten"]:
            hold["forgotten"] = self.now

    @rule(passed_ms=st.sampled_from((1, 5_000, STALE_TAKE_MS, TOMBSTONE_MS)))
    def sweep(self, passed_ms: int) -> None:
        """Time passes; the actor's timer looks at everything that may be due."""
        self.now += passed_ms
        for name in (*HOLDS, "r1", "r2"):
            step = ledger.expire(self.real.get(name), self.now) or ledger.drop(self.real.get(name), self.now)
            assert self.apply(step)
            hold = self.model.holds.get(name)
            if hold is None:
                continue
            if hold["status"] == "held" and hold["until"] <= self.now:
                if any(hold["legs"].values()):
                    self.model.end(name, "expired", self.now)
                else:
                    del self.model.holds[name]
            elif hold["forgotten"] and self.now - hold["forgotten"] >= TOMBSTONE_MS:
                del self.model.holds[name]

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def late_duplicate(self, data: st.DataObject) -> None:
        """A message that was delivered before comes again, whatever has happened since."""
        index = data.draw(st.integers(0, len(self.sent) - 1))
        self.sent[index]()

    @invariant()
    def nothing_is_lost_or_oversold(self) -> None:
        for key, account in self.accounts.items():
            assert account.on_hand + account.confirmed == account.received
            assert account.available >= 0
            assert (account.on_hand, account.confirmed) == (self.model.on_hand[key], self.model.sold[key])
            assert account.available == self.model.available(key)

    @invariant()
    def what_is_held_is_what_the_holds_have(self) -> None:
        legs: Counter[str] = Counter()
        for hold in self.real.values():
            if hold is not None and hold.live:
                legs.update(hold.legs)
        assert legs == {key: account.held for key, account in self.accounts.items() if account.held}

    @invariant()
    def every_hold_stands_where_the_model_says(self) -> None:
        real = {name: hold.status for name, hold in self.real.items() if hold is not None}
        assert real == {name: hold["status"] for name, hold in self.model.holds.items()}


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
