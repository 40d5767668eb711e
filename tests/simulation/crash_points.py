"""The table of all crash points: every step that a saga can take, by every place where it can be cut.

Owns what a point is. The steps are read from the source of `domain.checkout_actions.next_steps`: the names that
it can give in each phase. So a new step has its points at once, and fails a test until some scenario passes
them. A step that this cannot read is an error, not an omission.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import NamedTuple, get_args

from domain import checkout_actions
from domain.checkout_state import Phase
from domain.payment_leg import Intent

CUTS = {
    "intent unwritten": "the coordinator dies before the statement that writes the intent executes",
    "intent lost": "the statement is lost on its way; nobody dies",
    "intent written": "it dies when that statement has executed, before its answer",
    "intent in doubt": "the statement has executed, its answer is lost; nobody dies",
    "not begun": "the answer is there, the coordinator dies before it begins the effect",
    "effect unmade": "whoever is to make the effect dies when the request arrives",
    "effect made": "it dies when its own statement has executed, before the answer to that",
    "effect in doubt": "its statement has executed, the answer to that is lost; nobody dies",
    "effect unanswered": "it dies when it has answered, and the answer with it",
    "answer lost": "the effect is made, its answer is lost on the way; nobody dies",
    "answer unheard": "the coordinator dies before the answer reaches it",
    "outcome unwritten": "the answer is there, the coordinator dies before the statement with it executes",
    "outcome lost": "the statement is lost on its way; nobody dies",
    "outcome written": "it dies when that statement has executed, before its answer",
    "outcome in doubt": "the statement has executed, its answer is lost; nobody dies",
}

WRITTEN = ("effect made", "effect in doubt")  # only where there is something to write

# What an heir asks of the database before it serves, or whoever lost an answer of it: a second crash may come there.
RECOVERY = ("take", "awake", "entities", "records", "was_written")
EXECUTED = "executed"

# With what a phase may be about a payment. Before the pivot nothing is captured, so nothing can be refunded; what
# is sent once more or given up in "paying" is an authorization, and an unwinding sends nothing but voids.
INTENTS: dict[str, tuple[Intent, ...]] = {
    "paying": ("authorize", "void"),
    "unwinding": ("void",),
    "placed": ("capture", "void", "refund"),
}
STEPS = "dict[str, Maker]"  # what a function gives that says what is wanted
DOUBT = "?"  # the step asks what a payment's last call has done


class Point(NamedTuple):
    """Where a crash can be: in this phase, at this step, cut like this."""

    phase: str
    step: str
    cut: str

    def __str__(self) -> str:
        return f"{self.phase}/{self.step} {self.cut}"


def crash_points() -> list[Point]:
    """All of them."""
    return [
        Point(phase, step, cut)
        for phase, step in saga_steps()
        for cut in CUTS
        if cut not in WRITTEN or not only_asks(step)
    ]


def recovery_points() -> list[Point]:
    """Where whoever recovers from a crash can meet the next."""
    return [Point("recovering", statement, EXECUTED) for statement in RECOVERY]


def only_asks(step: str) -> bool:
    """Its effect is none: nothing is written where it is carried out."""
    return step.endswith(DOUBT) or step == "buyer"


def step_of(name: str) -> str:
    """The step that an action's name is of: names have rounds, revisions, payments and tries in them."""
    fields = name.split(":")
    if not fields[0].startswith("pay_"):
        return fields[0]
    return fields[1] + (DOUBT if name.endswith(DOUBT) else "")


# ── read from the source ────────────────────────────────────────────────────────────────────────────────


def saga_steps() -> list[tuple[str, str]]:
    """Phase and step of everything that `next_steps` can want."""
    return list(dict.fromkeys(_Source(inspect.getsource(checkout_actions)).steps()))


class _Source:
    """`next_steps` and the functions that it asks; each gives a dict from names to makers."""

    def __init__(self, source: str) -> None:
        self._functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}

    def steps(self) -> Iterator[tuple[str, str]]:
        match = next(node for node in ast.walk(self._functions["next_steps"]) if isinstance(node, ast.Match))
        seen: set[str] = set()
        for case in match.cases:
            for phase in _phases(case.pattern):
                seen.add(phase)
                for name in self._names(case.body):
                    for step in _steps_of(name, phase):
                        yield phase, step
        assert seen == set(get_args(Phase)), f"next_steps has a case for {seen}"

    def _names(self, body: list[ast.stmt]) -> Iterator[str]:
        for node in (inner for statement in body for inner in ast.walk(statement)):
            match node:
                case ast.Dict(keys=keys):
                    yield from (self._name(key) for key in keys if key is not None)
                case ast.Assign(targets=[ast.Subscript(slice=key)]):
                    yield self._name(key)
                case ast.Call(func=ast.Name(id=called)) if self._gives_steps(called):
                    yield from self._names(self._functions[called].body)
                case _:
                    pass

    def _gives_steps(self, called: str) -> bool:
        function = self._functions.get(called)
        return function is not None and function.returns is not None and ast.unparse(function.returns) == STEPS

    def _name(self, key: ast.expr) -> str:
        """The name as text, with what is computed in braces; what is put behind the first colon does not matter."""
        match key:
            case ast.Constant(value=str() as name):
                return name
            case ast.JoinedStr(values=parts):
                return "".join(str(part.value) if isinstance(part, ast.Constant) else _braced(part) for part in parts)
            case ast.BinOp(left=left):
                return self._name(left)
            case ast.Call(func=ast.Name(id="_in_round"), args=[name, *_]):
                return self._name(name)
            case _:
                raise AssertionError(f"cannot read the step that is named by {ast.unparse(key)}")


def _braced(part: ast.expr) -> str:
    assert isinstance(part, ast.FormattedValue), ast.unparse(part)
    return "{" + ast.unparse(part.value) + "}"


def _phases(pattern: ast.pattern) -> list[str]:
    match pattern:
        case ast.MatchOr(patterns=patterns):
            return [phase for inner in patterns for phase in _phases(inner)]
        case ast.MatchValue(value=ast.Constant(value=str() as phase)):
            return [phase]
        case ast.MatchAs(name="never"):
            return []
        case _:
            raise AssertionError(f"cannot read the phase {ast.unparse(pattern)}")


def _steps_of(name: str, phase: str) -> list[str]:
    """A name that begins with a payment says next what is to be done with it."""
    fields = name.split(":")
    if not fields[0].startswith("{"):
        return fields[:1]
    if not fields[1].startswith("{"):
        return fields[1:2]
    return [intent + doubt for intent in INTENTS[phase] for doubt in ("", DOUBT)]
