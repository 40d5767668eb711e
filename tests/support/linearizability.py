"""Could a sequential machine have given this history of calls that overlapped in time?

Wing and Gong's search: take any operation that no other one had ended before, apply it to the model, see whether it
answers what was heard, go on with the rest, come back if stuck; with Lowe's memo of what was tried: the operations
taken and the state they led to. Knows neither what is modelled nor who recorded it. A call without an answer may have
taken effect at any time after it was made, or never. What the search cannot decide within its bound is "undecided",
never "linearizable".

G. Lowe, Testing for linearizability (2017); J. Wing and C. Gong, Testing and verifying concurrent objects (1993).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

FOREVER = 2**62
UNANSWERED = object()  # the result of a call whose answer nobody heard

# (state, call) → (state, result). The state is hashable and never changed; results are compared by ==.
Model = Callable[[Any, Any], tuple[Any, Any]]


class Operation(NamedTuple):
    """One call of one client. Times are of any clock that never stands still, `invoked` < `returned`."""

    client: str
    call: Any
    result: Any
    invoked: int
    returned: int = FOREVER


class Verdict(NamedTuple):
    """`order`: a sequence that explains the history, or the longest that explains some of it. `stuck`: what might
    come next in it, and does not fit."""

    kind: Literal["linearizable", "violated", "undecided"]
    order: tuple[Operation, ...]
    stuck: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        shown = [f"… {len(self.order)} operations explained, the last of them:", *map(str, self.order[-5:])]
        return "\n".join([self.kind, *shown, "then none of:", *map(str, self.stuck)])


def check(history: Iterable[Operation], initial: Hashable, model: Model, *, most_states: int = 500_000) -> Verdict:
    """Whether the history is linearizable. ValueError for an operation that ends before it begins, or unanswered."""
    ops = sorted(history, key=lambda op: op.invoked)
    if any(op.returned <= op.invoked for op in ops):
        raise ValueError("an operation ends before it begins")
    if any(op.result is UNANSWERED and op.returned != FOREVER for op in ops):
        raise ValueError("an operation ends without an answer")
    answered = sum(1 << i for i, op in enumerate(ops) if op.result is not UNANSWERED)
    seen = {(0, initial)}
    path: list[int] = []
    longest: list[int] = []
    pending: list[tuple[Any, int, Iterator[int]]] = [(initial, 0, iter(_next(ops, 0)))]
    while pending and pending[-1][1] & answered != answered:
        state, taken, choices = pending[-1]
        place = next((found for i in choices if (found := _take(ops, i, state, taken, model)) is not None), None)
        if place is None:
            pending.pop()
            del path[-1:]
            continue
        if place[:2] in seen:
            continue
        if len(seen) >= most_states:
            return Verdict("undecided", tuple(ops[i] for i in longest), _stuck(ops, longest))
        taken, state, i = place
        seen.add((taken, state))
        path.append(i)
        if len(path) > len(longest):
            longest = path[:]
        pending.append((state, taken, iter(_next(ops, taken))))
    if pending:
        return Verdict("linearizable", tuple(ops[i] for i in path))
    return Verdict("violated", tuple(ops[i] for i in longest), _stuck(ops, longest))


def _take(ops: Sequence[Operation], i: int, state: Any, taken: int, model: Model) -> tuple[int, Any, int] | None:
    """Where operation `i` leads from here; None when the model would have answered something else.

    A call without an answer that would change nothing is no step: it may as well never have happened.
    """
    after, result = model(state, ops[i].call)
    heard = ops[i].result
    fits = after != state if heard is UNANSWERED else heard == result
    return (taken | 1 << i, after, i) if fits else None


def _next(ops: Sequence[Operation], taken: int) -> list[int]:
    """The operations that may come next: those begun before any other that is left had ended; first ended first."""
    found: list[int] = []
    horizon = FOREVER
    first = (taken + 1 & ~taken).bit_length() - 1  # all before it are taken
    for i in range(first, len(ops)):
        if taken >> i & 1:
            continue
        if ops[i].invoked > horizon:
            break
        horizon = min(horizon, ops[i].returned)
        found.append(i)
    return sorted(found, key=lambda i: ops[i].returned)


def _stuck(ops: Sequence[Operation], order: Sequence[int]) -> tuple[Operation, ...]:
    return tuple(ops[i] for i in _next(ops, sum(1 << i for i in order)))
