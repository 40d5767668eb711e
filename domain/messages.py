"""What every pure core shares: commands, replies, refusals, decisions, and remembered answers.

A core is three functions over immutable states: ``decide`` (guards; returns a Decision), ``touches`` (which
entities an event concerns) and ``evolve`` (applies an event to one of them). The actor that runs it promises
that a reply leaves only after the events it rests on are durable.

Everything is immutable, free of cycles and therefore kept out of the garbage collector's sight (``gc=False``):
an actor holds millions of these, and walking them was most of its time.

A command's id is its idempotency key. With a fingerprint (the caller sent a key) its answer is kept for a
day; without one only long enough for the mailbox's own retries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

Key = tuple[str, str]  # (kind, id) of an entity

KEYED_ANSWER_MS = 24 * 3_600_000
KEYLESS_ANSWER_MS = 120_000
MOST_KEYED_ANSWERS = 200  # of one cart or checkout


class Command(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Base of every command. ``command_id`` is 16 bytes; an empty fingerprint means "no idempotency key"."""

    command_id: bytes
    fingerprint: bytes = b""


class FieldError(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of a refusal's ``errors``: where (JSONPath), what, and what to do; ``extra`` adds fields."""

    path: str
    code: str
    message: str
    extra: dict[str, Any] = {}


class Refusal(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="no"):
    """A business "no". ``code`` is stable and documented; the API turns it into a status in one place."""

    code: str
    detail: str = ""
    errors: tuple[FieldError, ...] = ()
    extra: dict[str, Any] = {}


TOO_MANY = Refusal("rate_limited", "Too many requests with keys were made here within a day. Try again later.")
KEY_REUSED = Refusal("idempotency_key_reused", "This key was used with another request. Send a new key.")
BUSY = Refusal("busy", "The service has more work than it can take on now. Ask again shortly.")
REJECTED = Refusal("internal_error", "This could not be carried out; nothing was changed.")
NOT_OUTCOMES = (BUSY.code, REJECTED.code)  # they say nothing about what was asked: whoever needs to know asks again


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first final answer to a command, kept in the entity that gave it. ``body`` is the encoded reply."""

    fingerprint: bytes
    at_ms: int
    body: bytes


class Replayed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="again"):
    """The kept answer of a repeated command; ``body`` decodes to the reply it was."""

    body: bytes


class World(Protocol):
    """The states a core may look at; ``None`` for what does not exist."""

    def get(self, kind: str, identifier: str) -> Any: ...


class Decision(NamedTuple):
    """What became of one command.

    ``reply`` None means "later": the actor keeps the asker waiting under the command's id until another
    decision names that id in ``answers``. ``rows`` ride in the same append as the events. ``after`` gives the
    states that the events lead to, where the core has evolved them already; it is never anything else.
    """

    events: Sequence[Any] = ()
    reply: Any = None
    answers: Sequence[tuple[bytes, Any]] = ()
    rows: Sequence[Any] = ()
    after: Mapping[Key, Any] | None = None


def remembered(answers: Mapping[bytes, Answer], command: Command) -> Answer | Refusal | None:
    """The kept answer of a repeated command; a refusal of its own when the body is another."""
    answer = answers.get(command.command_id)
    if answer is None:
        return None
    if answer.fingerprint != command.fingerprint:
        return KEY_REUSED
    return answer


def too_many(
    answers: Mapping[bytes, Answer], command: Command, now_ms: int, most: int = MOST_KEYED_ANSWERS
) -> Refusal | None:
    """Every kept answer is written again with each change: who asks for more than ``most`` a day has to wait."""
    if not command.fingerprint or len(answers) < most:
        return None
    kept = sum(now_ms - answer.at_ms < KEYED_ANSWER_MS for answer in answers.values() if answer.fingerprint)
    return TOO_MANY if kept >= most else None


def with_answer(
    answers: Mapping[bytes, Answer], command_id: bytes, fingerprint: bytes, at_ms: int, body: bytes
) -> dict[bytes, Answer]:
    """``answers`` with one more, less those whose time is over."""
    kept = {
        key: answer
        for key, answer in answers.items()
        if at_ms - answer.at_ms < (KEYED_ANSWER_MS if answer.fingerprint else KEYLESS_ANSWER_MS)
    }
    kept[command_id] = Answer(fingerprint, at_ms, body)
    return kept
