"""What a run has met, as a table; and what it should have met and has not.

Owns the list of what must come up: faults, phases of the saga, its steps, refusals, recovery paths. Phases, steps
and refusals are read from the code, so that a new one is missed here until the simulation meets it.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import get_args

import domain
from domain.checkout_state import Phase, UndoReason
from tests.simulation.crash_points import saga_steps
from tests.simulation.weather import NOT_PROMISED, WORST

ENOUGH = 100  # a path met less often than this is not tested

FAULTS = {
    "slow": "net: slow",
    "drop_request": "net: request lost",
    "drop_answer": "net: answer lost, executed",
    "late_request": "net: request late",
    "silent_duplicate": "net: silent duplicate",
    "db_slow": "db: slow",
    "db_fails_before": "db: fails before",
    "db_fails_after": "db: fails after",
    "db_late": "db: late",
    "db_refuses_order": "db: order refused",
    "crash_per_s": "life: killed",
    "crash_again": "life: killed in recovery",
    "crash_at_commit": "life: struck after its commit",
    "crash_at_step": "life: struck at a step",
    "split_per_s": "fate: split",
    "pause_per_s": "fate: pause",
    "zombie_per_s": "fate: zombie",
    "partition_per_s": "fate: partition",
    "outage_per_s": "fate: outage",
    "clock_jump_per_s": "fate: clock jump",
    "gateway_trouble_per_s": "fate: gateway down",
}
STEPS = (*dict.fromkeys(step for _, step in saga_steps()), "forget")
# Bounds that nobody here comes near; each has its cases in tests/unit.
OUT_OF_REACH = frozenset({"too_many_lines", "quantity_out_of_range", "rate_limited"})
RECOVERIES = (
    "life: left by itself", "life: recovery failed", "life: recovery overtaken", "db: executed for the dead",
    "net: callee died", "net: reaches the old one", "net: partition", "log: fenced", "log: append of unknown outcome",
    "log: append rejected", "log: command rejected by the database", "log: database unreachable",
    "log: actor unreachable, asking again", "http: lost", "http: gave up waiting",
)  # fmt: skip


def refusals() -> list[str]:
    """Every code with which `domain` refuses something."""
    codes: set[str] = set()
    for source in Path(domain.__path__[0]).glob("*.py"):
        tree = ast.parse(source.read_text())
        named = {
            target.id: _texts(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="Refusal"), args=[ast.Name(id=name), *_]):
                    codes |= named[name]
                case ast.Call(func=ast.Name(id="Refusal"), args=[code, *_]):
                    codes |= _texts(code)
                case _:
                    pass
    return sorted(codes - OUT_OF_REACH)


def _texts(node: ast.expr) -> set[str]:
    """What a constant, or a choice between constants, can be."""
    match node:
        case ast.Constant(value=str() as text):
            return {text}
        case ast.IfExp(body=one, orelse=other):
            return _texts(one) | _texts(other)
        case _:
            return set()


def expected() -> list[str]:
    """Everything that a run of some size must meet."""
    return [
        *(FAULTS[fault] for fault in WORST if fault not in NOT_PROMISED),
        *(f"phase: {phase}" for phase in get_args(Phase)),
        *(f"undo: {reason}" for reason in get_args(UndoReason)),
        *(f"step: {step}" for step in STEPS),
        *(f"answer: {code}" for code in refusals()),
        *RECOVERIES,
    ]


def rare(met: Counter[str], enough: int = ENOUGH) -> list[str]:
    """What came up too seldom for a verdict."""
    return [what for what in expected() if met[what] < enough]


def table(met: Counter[str]) -> list[str]:
    lines = [f"{count:10,}  {what}" for what, count in sorted(met.items())]
    missed = [f"{met[what]:10,}  {what}  (fewer than {ENOUGH})" for what in rare(met)]
    return [*lines, *(["", "met too seldom:", *missed] if missed else [])]
