"""Idempotency keys: one caller's key for one operation is one command, and no other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.errors import Problem
from api.idempotency import IdempotencyKeys, Intent
from persistence.sealing import MasterKey

KEYS = IdempotencyKeys(MasterKey(bytes(range(32))))
START, EXPRESS = "POST /v1/checkouts", "POST /v1/express-checkouts"
KEY = "0b7d6b1e-8a0f-4d5e-9a53-0c1f6f0d3c11"
BODY = {"line_items": [{"sku": "A", "quantity": 1}], "buyer": {"name": "Zoë", "email": "zoe@example.com"}}


def intent(key: str | None = KEY, keys: IdempotencyKeys = KEYS, **changes: Any) -> Intent:
    request: dict[str, Any] = {
        "operation": START,
        "body": BODY,
        "owner": "c:ada",
        "required": True,
    }
    return keys.intent(key, **(request | changes))


def test_a_repeated_request_is_the_same_intent_in_every_process() -> None:
    """Derived from the master key alone: after a restart, too."""
    assert intent() == intent(keys=IdempotencyKeys(MasterKey(bytes(range(32)))))
    assert intent().keyed
    assert len(intent().command_id) == len(intent().fingerprint) == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "another"},
        {"owner": "c:eve"},
        {"owner": None},
        {"operation": EXPRESS},
        {"operation": f"{START}/chk_1/cancel"},
        {"keys": IdempotencyKeys(MasterKey(bytes(32)))},
    ],
    ids=["key", "caller", "no caller", "operation", "resource", "master key"],
)
def test_scopes_keep_keys_apart(changes: dict[str, Any]) -> None:
    """A key is its caller's, for one operation; and nobody without the master key can work out an id."""
    assert intent(**changes).command_id != intent().command_id


@pytest.mark.parametrize(
    "changes",
    [
        {"body": {**BODY, "on_shortage": "reject"}},
        {"body": {**BODY, "buyer": None}},
        {"body": None},
    ],
)
def test_another_request_under_the_same_key_shows_in_the_fingerprint(changes: dict[str, Any]) -> None:
    """The command is the same, its fingerprint is not: that is how reuse is found."""
    assert intent(**changes).command_id == intent().command_id
    assert intent(**changes).fingerprint != intent().fingerprint


def test_the_order_of_members_does_not_matter() -> None:
    """A client may write its JSON anew for a retry; the order of lists does matter."""
    shuffled = {"buyer": {"email": "zoe@example.com", "name": "Zoë"}, "line_items": BODY["line_items"]}
    assert list(shuffled) != list(BODY)
    assert intent(body=shuffled) == intent()
    assert intent(body=[1, 2]).fingerprint != intent(body=[2, 1]).fingerprint


@example(parts=["a|b", "c", "d", "a", "b|c", "d"])
@given(parts=st.lists(st.text("ab|\x1f /", max_size=6), min_size=6, max_size=6))
def test_no_choice_of_parts_makes_two_requests_look_alike(parts: list[str]) -> None:
    """Moving characters between owner, operation and key never gives the same command."""
    one = KEYS._digest(b"x", *parts[:3])
    other = KEYS._digest(b"x", *parts[3:])
    assert (one == other) is (parts[:3] == parts[3:])


def test_without_a_key_every_request_is_its_own() -> None:
    """Where a key is not required, leaving it out means to do the work again."""
    first, second = intent(None, required=False), intent(None, required=False)
    assert not first.keyed
    assert first.fingerprint == b""
    assert first.command_id != second.command_id


@pytest.mark.parametrize(
    ("key", "owner", "code"),
    [
        (None, "c:ada", "idempotency_key_required"),
        ("", "c:ada", "idempotency_key_invalid"),
        ("a b", "c:ada", "idempotency_key_invalid"),
        ("é", "c:ada", "idempotency_key_invalid"),
        ("a\x00", "c:ada", "idempotency_key_invalid"),
        ("a\n", "c:ada", "idempotency_key_invalid"),
        ("a" * 256, "c:ada", "idempotency_key_invalid"),
        ("a" * 15, None, "idempotency_key_invalid"),
    ],
)
def test_a_key_that_will_not_do_is_refused(key: str | None, owner: str | None, code: str) -> None:
    """400, and the sentence says what would do."""
    with pytest.raises(Problem) as refused:
        intent(key, owner=owner)
    assert refused.value.code == code
    assert refused.value.status == 400


@pytest.mark.parametrize(("key", "owner"), [("a", "c:ada"), ("~" * 255, "g:1"), ("a" * 16, None)])
def test_the_shortest_and_longest_keys_will_do(key: str, owner: str | None) -> None:
    """One visible character for a known caller, sixteen for others, 255 at most."""
    assert intent(key, owner=owner).keyed
