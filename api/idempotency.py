"""Idempotency keys: from a caller's header to the id of the command it stands for.

Owns the header's rules. Promises that one caller's key for one operation (a method and a path, the ids in it
included) is one command id, at any time and in any process, and that nobody can choose or guess an id. Never
remembers anything: the actor that carries a command out keeps its answer, and compares fingerprints. Called
by every route that writes.
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Any

import msgspec

from api.errors import Problem
from persistence.sealing import MasterKey

HEADER = "Idempotency-Key"
MIN_CHARS_WITHOUT_CALLER = 16

_ID_BYTES = 16
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_canonical = msgspec.json.Encoder(order="sorted").encode


class Intent(msgspec.Struct, frozen=True):
    """What a request means to do: `command_id` (16 bytes) names it, `fingerprint` (16 bytes) its body.

    Without a key the id is random, the fingerprint empty, and repeating the request does its work again.
    """

    command_id: bytes
    fingerprint: bytes
    keyed: bool


class IdempotencyKeys:
    """Derives intents; all processes with the same master key derive the same."""

    def __init__(self, master: MasterKey) -> None:
        self._secret = master.derive("command ids")

    def intent(
        self,
        key: str | None,
        *,
        operation: str,
        body: Any,
        owner: str | None,
        required: bool,
    ) -> Intent:
        """The intent of a request.

        `key`: the header; `operation`: method and path, "POST /v1/checkouts/chk_…/complete"; `body`: its
        decoded JSON, before defaults; `owner`: the caller's, None for a guest without a token.
        Problem: the key is required and missing, or malformed, or short for a caller nobody knows.
        """
        if key is None:
            if required:
                raise Problem("idempotency_key_required", f"Send an {HEADER} header: a new UUID per attempt.")
            return Intent(secrets.token_bytes(_ID_BYTES), b"", False)
        if _KEY.fullmatch(key) is None:
            raise Problem("idempotency_key_invalid", f"{HEADER} takes 1 to 255 visible ASCII characters.")
        if owner is None and len(key) < MIN_CHARS_WITHOUT_CALLER:
            # All guests share one space of keys: another's must not be hit by chance.
            raise Problem(
                "idempotency_key_invalid",
                f"Without credentials {HEADER} takes at least {MIN_CHARS_WITHOUT_CALLER} characters.",
            )
        command_id = self._digest(b"command", owner or "", operation, key)
        # Keyed, so that a stored fingerprint is no way to test guesses at somebody's address.
        fingerprint = self._digest(b"body", _canonical(body).decode())
        return Intent(command_id, fingerprint, True)

    def _digest(self, purpose: bytes, *parts: str) -> bytes:
        # Lengths, not separators, keep the parts apart: no choice of key makes two requests look alike.
        encoded = [part.encode() for part in parts]
        message = b"".join((purpose, *(len(part).to_bytes(4, "big") + part for part in encoded)))
        return hmac.digest(self._secret, message, "sha256")[:_ID_BYTES]
