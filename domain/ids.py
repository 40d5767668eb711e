"""Identifiers: opaque, prefixed, sortable, unguessable.

An id is ``prefix_`` + 26 Crockford base-32 characters: ten of time (milliseconds) and sixteen of *body*
(80 bits). The body is derived from the command that creates the thing, so a repeated command always names
the same thing, whatever the time of the repeat; it is also the key under which the thing is stored and
routed. An order shares its checkout's body: one actor owns both.

Pure: digests and times come in as arguments.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from zlib import crc32

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, lower case
SLOTS = 1024

_BODY_CHARS = 16
_TIME_CHARS = 10
_VALID = frozenset(ALPHABET)
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]


def encode(number: int, chars: int) -> str:
    """The low ``5 * chars`` bits of ``number`` as text, most significant first; ``chars`` is even."""
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(5 * (chars - 2), -1, -10)])


def body_of_digest(digest: bytes) -> str:
    """A body from the first ten bytes of a keyed digest (at least 80 bits)."""
    return encode(int.from_bytes(digest[:10], "big"), _BODY_CHARS)


def derive_body(command_id: bytes, purpose: str) -> str:
    """The body of a thing that ``command_id`` (secret, 16 bytes) creates."""
    return body_of_digest(blake2b(purpose.encode(), key=command_id, digest_size=10).digest())


def make(prefix: str, at_ms: int, body: str) -> str:
    """``prefix_`` + time + body."""
    return f"{prefix}_{_time(at_ms)}{body}"


@lru_cache(maxsize=64)
def _time(at_ms: int) -> str:
    """Many things are made in the same millisecond."""
    return encode(at_ms, _TIME_CHARS)


def derived(prefix: str, at_ms: int, parent_body: str, *parts: object) -> str:
    """The id of a part of ``parent_body``: the same parts give the same body, at any time."""
    seed = "\x1f".join((parent_body, prefix, *map(str, parts)))
    # Sixteen hexadecimal digits are Crockford digits too; 64 bits are plenty among the parts of one thing.
    return make(prefix, at_ms, blake2b(seed.encode(), digest_size=8).hexdigest())


def body(identifier: str) -> str:
    """The storage key of an id: its last sixteen characters."""
    return identifier[-_BODY_CHARS:]


def is_id(prefix: str, identifier: str) -> bool:
    """Whether the text has the shape of an id with this prefix (not whether the thing exists)."""
    head, _, tail = identifier.partition("_")
    return head == prefix and len(tail) == _TIME_CHARS + _BODY_CHARS and _VALID.issuperset(tail)


def slot_of(key: str) -> int:
    """One of the 1,024 fixed slots of a storage key."""
    return crc32(key.encode()) % SLOTS


@lru_cache(maxsize=4096)  # asked for thrice while an order is placed
def order_number(order_id: str) -> str:
    """What a person reads out on the telephone: 60 bits of the order's id, ``XXXX-XXXX-XXXX``.

    Numbers are not unique by construction (nor need they be: a look-up takes the e-mail address too).
    """
    digest = blake2b(order_id.encode(), person=b"order-number", digest_size=8).digest()
    text = encode(int.from_bytes(digest, "big"), 12).upper()
    return f"{text[:4]}-{text[4:8]}-{text[8:]}"
