"""One SKU as whoever buys it should see it: the sequential model that histories of real stock are held against.

Knows units and holds, and nothing of events, revisions, journals or actors: it is written from what the stock actor
promises, not from how it keeps it. A hold is held, pinned, confirmed or released; here none expires.
"""

from __future__ import annotations

from typing import NamedTuple


class Hold(NamedTuple):
    hold_id: str
    units: int


class Pin(NamedTuple):
    hold_id: str


class Confirm(NamedTuple):
    hold_id: str


class Release(NamedTuple):
    hold_id: str


class Receive(NamedTuple):
    units: int


class Read(NamedTuple):
    pass


Call = Hold | Pin | Confirm | Release | Receive | Read

# A hold's answer is "held", ("short", available), or how an ended one stands; a step's is (status, why it was refused
# or ""); of a read and a delivery it is (on_hand, reserved, available, sold).
Result = str | tuple[object, ...]


class Shelf(NamedTuple):
    """Units received and sold, and every hold ever made: (id, units, status)."""

    received: int = 0
    sold: int = 0
    holds: frozenset[tuple[str, int, str]] = frozenset()

    @property
    def reserved(self) -> int:
        return sum(units for _, units, status in self.holds if status in ("held", "pinned"))

    @property
    def figures(self) -> tuple[int, int, int, int]:
        on_hand = self.received - self.sold
        return on_hand, self.reserved, on_hand - self.reserved, self.sold


def apply(shelf: Shelf, call: Call) -> tuple[Shelf, Result]:
    """What becomes of the shelf, and what is answered."""
    match call:
        case Read():
            return shelf, shelf.figures
        case Receive():
            after = shelf._replace(received=shelf.received + call.units)
            return after, after.figures
        case Hold():
            return _hold(shelf, call)
        case _:
            return _step(shelf, call)


def _hold(shelf: Shelf, call: Hold) -> tuple[Shelf, Result]:
    status = _status(shelf, call.hold_id)
    if status in ("held", "pinned"):
        return shelf, "held"
    if status != "unknown":
        return shelf, (status, "finished")
    available = shelf.figures[2]
    if available < call.units:
        return shelf, ("short", available)
    return _with(shelf, call.hold_id, call.units, "held"), "held"


def _step(shelf: Shelf, call: Pin | Confirm | Release) -> tuple[Shelf, Result]:
    status, units = _status(shelf, call.hold_id), _units(shelf, call.hold_id)
    match call, status:
        case Pin(), "unknown":
            return shelf, ("unknown", "unknown")
        case Pin(), "held":
            return _with(shelf, call.hold_id, units, "pinned"), ("pinned", "")
        case Pin(), "pinned" | "confirmed":
            return shelf, ("pinned", "")
        case Confirm(), "pinned":
            sold = shelf._replace(sold=shelf.sold + units)
            return _with(sold, call.hold_id, units, "confirmed"), ("confirmed", "")
        case Confirm(), "confirmed" | "unknown":
            return shelf, ("confirmed", "")
        case Release(), "held" | "pinned" | "unknown":
            return _with(shelf, call.hold_id, units, "released"), ("released", "")
        case Release(), "released":
            return shelf, ("released", "")
        case _:
            return shelf, (status, "finished")


def _status(shelf: Shelf, hold_id: str) -> str:
    return next((status for name, _, status in shelf.holds if name == hold_id), "unknown")


def _units(shelf: Shelf, hold_id: str) -> int:
    return next((units for name, units, _ in shelf.holds if name == hold_id), 0)


def _with(shelf: Shelf, hold_id: str, units: int, status: str) -> Shelf:
    others = (hold for hold in shelf.holds if hold[0] != hold_id)
    return shelf._replace(holds=frozenset((*others, (hold_id, units, status))))
