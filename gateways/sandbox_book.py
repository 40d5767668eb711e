"""The rules of the sandbox gateway's book, and the port of the store that keeps it.

Owns what each test token means and which facts may follow which: `decide` judges a request against the facts
about its payment, `outcome_of` reads an answer out of a fact, `standing` adds the facts up; all are pure.
The book only grows, and the store refuses a fact whose place or idempotency key is taken: whoever judged on
old facts writes nothing. Called by `gateways.sandbox`; the composition root fills the `Book` port, and the
HTTP edge asks which tokens go with a method.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, assert_never

import msgspec

from domain.payments import (
    Accepted,
    ActionRequired,
    Authorize,
    BookEntry,
    Capture,
    Declined,
    EntryStatus,
    EntryType,
    GatewayRequest,
    Outcome,
    PaymentState,
    Refund,
    Retrieve,
    Retrieved,
    Unknown,
    Void,
)

PAYPAL = "pm_sandbox_paypal"
WALLET = "pm_sandbox_wallet"
TIMEOUT_BEFORE = "pm_sandbox_timeout_before"
TIMEOUT_AFTER = "pm_sandbox_timeout_after"
ERROR_ONCE = "pm_sandbox_error_once"
SLOW = re.compile(r"pm_sandbox_slow_(\d{1,6})", re.ASCII)

MAX_AMOUNT_MINOR = 10**15

RETRYABLE_CODES = frozenset({"insufficient_funds", "authentication_failed"})

_TOKENS: dict[str, tuple[EntryStatus, str]] = {
    "pm_card_visa": ("succeeded", ""),
    "pm_card_mastercard": ("succeeded", ""),
    "pm_card_chargeDeclined": ("declined", "card_declined"),
    "pm_card_chargeDeclinedInsufficientFunds": ("declined", "insufficient_funds"),
    "pm_card_authenticationRequired": ("requires_action", ""),
    PAYPAL: ("requires_action", ""),
    WALLET: ("succeeded", ""),
    TIMEOUT_AFTER: ("succeeded", ""),
    ERROR_ONCE: ("succeeded", ""),
}

# Why a payment that stands so takes no authorization; otherwise it takes its first, or one after a decline.
_CLOSED: dict[PaymentState, str] = {
    "requires_action": "authentication_pending",
    "authorized": "already_authorized",
    "captured": "already_captured",
    "refunded": "already_captured",
    "voided": "payment_voided",
}

_ID_PREFIXES: dict[EntryType, str] = {
    "authorization": "auth",
    "capture": "cap",
    "void": "void",
    "refund": "ref",
    "resolution": "res",
    "fault": "fault",
}

History = Sequence[BookEntry]
"""All facts about one payment, in order of `n`."""


class Resolve(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The buyer passed or failed the step that an authorization waits for."""

    payment_id: str
    succeed: bool


Request = GatewayRequest | Resolve


class Book(Protocol):
    """Where the facts are kept. Any method raises OSError when the store cannot be reached."""

    async def recall(self, payment_ids: Sequence[str], keys: Sequence[str]) -> list[BookEntry]:
        """All facts about these payments and the facts that used these keys, in order of payment and `n`."""
        ...

    async def append(self, entries: Sequence[BookEntry]) -> Collection[str]:
        """Keep, in one commit, each fact whose place (payment, n) and key are free; one a payment at most.

        Returns the payment ids of the facts kept. After an OSError they may be kept or not.
        """
        ...

    async def entries(self, after: int, limit: int) -> list[BookEntry]:
        """The listing: up to `limit` entries with `seq` > `after`, in order, resolutions folded in."""
        ...


class SettingsBook(Protocol):
    """Where the gateway's mode and latency are kept. Any method raises OSError when the store cannot be reached."""

    async def kept_settings(self) -> tuple[str, str] | None:
        """The mode and latency last kept; None if there are none, or only those of another run."""
        ...

    async def keep_settings(self, mode: str, latency_ms: str) -> None:
        """Keep them for the next instance. After an OSError they may be kept or not."""
        ...


class Verdict(NamedTuple):
    type: EntryType
    status: EntryStatus
    code: str
    amount_minor: int


def is_token_for(method: str, token: str) -> bool:
    """Whether a buyer who pays like this could bring this token. A wallet holds cards, PayPal is by itself; the tokens
    that stand for a gateway's troubles are anybody's."""
    if method == "paypal":
        return token != WALLET and not token.startswith("pm_card_")
    return token != PAYPAL


def decide(history: History, earlier: BookEntry | None, request: Request, now_ms: int) -> BookEntry | Outcome:
    """The fact to write, whose answer holds once it is written; or, with nothing to write, the answer.

    `earlier` is the fact that used the request's idempotency key before, for whatever payment.
    """
    if earlier is not None:
        if earlier.fingerprint != fingerprint(request):
            return Declined("idempotency_key_reused", False, "This key was used with another request.")
        return outcome_of(earlier)
    now = standing(history)
    match request:
        case Authorize():
            return _entry(history, now, request, _judge_authorize(history, now, request), now_ms)
        case Capture():
            return _entry(history, now, request, _judge_capture(now, request), now_ms)
        case Void():
            if now.state == "voided":
                return Accepted(next(fact.id for fact in history if _voids(fact)))
            return _entry(history, now, request, _judge_void(now), now_ms)
        case Refund():
            return _entry(history, now, request, _judge_refund(now, request), now_ms)
        case Resolve():
            if not history:
                return Declined("not_found", False, "There is no such payment.")
            if now.state != "requires_action":
                return Declined("not_pending", False, f"The payment is {now.state}, it waits for no step.")
            return _entry(history, now, request, _judge_resolve(history, request), now_ms)
        case Retrieve():
            return now
    assert_never(request)


def outcome_of(fact: BookEntry) -> Outcome:
    """The answer given when this fact was written, the same at each repeat."""
    if fact.type == "fault":
        return Unknown(fact.code)
    match fact.status:
        case "succeeded":
            return Accepted(fact.id)
        case "declined":
            return Declined(fact.code, fact.code in RETRYABLE_CODES)
        case "requires_action":
            return ActionRequired(fact.id, next_action(fact.payment_id))
    assert_never(fact.status)


def standing(history: History) -> Retrieved:
    """What the facts about one payment add up to."""
    now = Retrieved(state="none")
    for fact in history:
        now = _after(now, fact)
    return now


def next_action(payment_id: str) -> dict[str, Any]:
    """In Stripe's shape. The sandbox has no page: the URL is the call that stands for the buyer's step."""
    url = f"/v1/ops/sandbox/payments/{payment_id}/resolve"
    return {"type": "redirect_to_url", "redirect_to_url": {"url": url}}


def fingerprint(request: Request) -> bytes:
    return hashlib.blake2b(msgspec.msgpack.encode(request), digest_size=16).digest()


def _voids(fact: BookEntry) -> bool:
    return fact.type == "void" and fact.status == "succeeded"


def _after(now: Retrieved, fact: BookEntry) -> Retrieved:
    match fact.type, fact.status:
        case "authorization" | "resolution", "succeeded":
            return Retrieved("authorized", fact.authorization_id or fact.id, authorized_minor=fact.amount_minor)
        case "authorization", "requires_action":
            return Retrieved("requires_action", fact.id, next_action=next_action(fact.payment_id))
        case "authorization" | "resolution", "declined" if fact.type == "resolution" or now.state not in _CLOSED:
            retryable = fact.code in RETRYABLE_CODES
            reference = fact.authorization_id or fact.id
            return Retrieved("declined", reference, decline_code=fact.code, retryable=retryable)
        case "capture", "succeeded":
            return msgspec.structs.replace(now, state="captured", captured_minor=fact.amount_minor)
        case "void", "succeeded":
            return msgspec.structs.replace(now, state="voided", next_action=None)
        case "refund", "succeeded":
            refunded_minor = now.refunded_minor + fact.amount_minor
            state = "refunded" if refunded_minor == now.captured_minor else "captured"
            return msgspec.structs.replace(now, state=state, refunded_minor=refunded_minor)
        case _:
            return now  # a refused capture, void, refund or second authorize, or a fault: nothing moved


def _judge_authorize(history: History, now: Retrieved, request: Authorize) -> Verdict:
    amount_minor = request.amount_minor
    if closed := _CLOSED.get(now.state):
        return Verdict("authorization", "declined", closed, amount_minor)
    if not 0 < amount_minor <= MAX_AMOUNT_MINOR:
        return Verdict("authorization", "declined", "amount_invalid", 0)
    if request.token == ERROR_ONCE and not any(fact.type == "fault" for fact in history):
        # Written down, so that "once" stays once when the gateway restarts.
        return Verdict("fault", "declined", "http_500", 0)
    if SLOW.fullmatch(request.token):
        return Verdict("authorization", "succeeded", "", amount_minor)
    status, code = _TOKENS.get(request.token, ("declined", "invalid_payment_method"))
    return Verdict("authorization", status, code, amount_minor)


def _judge_capture(now: Retrieved, request: Capture) -> Verdict:
    match now.state:
        case "captured" | "refunded":
            return Verdict("capture", "declined", "already_captured", 0)
        case "voided":
            return Verdict("capture", "declined", "payment_voided", 0)
        case "authorized" if request.amount_minor > now.authorized_minor:
            return Verdict("capture", "declined", "amount_too_large", 0)
        case "authorized" if request.amount_minor <= 0:
            return Verdict("capture", "declined", "amount_invalid", 0)
        case "authorized":
            return Verdict("capture", "succeeded", "", request.amount_minor)
        case _:
            return Verdict("capture", "declined", "not_authorized", 0)


def _judge_void(now: Retrieved) -> Verdict:
    if now.state in ("captured", "refunded"):
        return Verdict("void", "declined", "already_captured", 0)
    return Verdict("void", "succeeded", "", now.authorized_minor)


def _judge_refund(now: Retrieved, request: Refund) -> Verdict:
    if now.state == "refunded":
        return Verdict("refund", "declined", "already_refunded", 0)
    if now.state != "captured":
        return Verdict("refund", "declined", "not_captured", 0)
    if request.amount_minor <= 0:
        return Verdict("refund", "declined", "amount_invalid", 0)
    if now.refunded_minor + request.amount_minor > now.captured_minor:
        return Verdict("refund", "declined", "amount_too_large", 0)
    return Verdict("refund", "succeeded", "", request.amount_minor)


def _judge_resolve(history: History, request: Resolve) -> Verdict:
    waiting = next(fact for fact in reversed(history) if fact.status == "requires_action")
    if not request.succeed:
        return Verdict("resolution", "declined", "authentication_failed", waiting.amount_minor)
    return Verdict("resolution", "succeeded", "", waiting.amount_minor)


def _entry(history: History, now: Retrieved, request: Request, verdict: Verdict, now_ms: int) -> BookEntry:
    n = len(history) + 1
    if isinstance(request, Authorize):
        authorization_id = None
        checkout_id, currency = request.checkout_id, request.currency
        # A token we do not know may be anything, a card number included: it is not kept.
        known = request.token in _TOKENS or SLOW.fullmatch(request.token)
        token = request.token if known else "unknown"
    else:
        authorization_id = now.reference or None
        authorization = next((fact for fact in history if fact.id == authorization_id), None)
        checkout_id = authorization.checkout_id if authorization else ""
        currency = authorization.currency if authorization else ""
        token = authorization.token if authorization else ""
    # A fault must not use up the key: the same key again succeeds.
    key = None if verdict.type == "fault" else idempotency_key(request)
    return BookEntry(
        payment_id=request.payment_id,
        n=n,
        id=f"{_ID_PREFIXES[verdict.type]}_{request.payment_id.removeprefix('pay_')}_{n}",
        type=verdict.type,
        status=verdict.status,
        code=verdict.code,
        authorization_id=authorization_id,
        checkout_id=checkout_id,
        amount_minor=verdict.amount_minor,
        currency=currency,
        token=token,
        idempotency_key=key,
        fingerprint=fingerprint(request) if key else b"",
        created_at_ms=now_ms,
    )


def idempotency_key(request: Request) -> str | None:
    return None if isinstance(request, Retrieve | Resolve) else request.idempotency_key


class MemoryBook:
    """A `Book` and `SettingsBook` for tests and simulations: the real one's conflicts, forgotten with the process."""

    def __init__(self) -> None:
        self._facts: dict[tuple[str, int], BookEntry] = {}
        self._keys: dict[str, BookEntry] = {}
        self._seq = itertools.count(1)
        self._settings: tuple[str, str] | None = None

    async def recall(self, payment_ids: Sequence[str], keys: Sequence[str]) -> list[BookEntry]:
        await asyncio.sleep(0)
        found = {(fact.payment_id, fact.n): fact for key in keys if (fact := self._keys.get(key))}
        found.update((fact_at, fact) for payment_id in payment_ids for fact_at, fact in self._of(payment_id))
        return [found[fact_at] for fact_at in sorted(found)]

    async def append(self, entries: Sequence[BookEntry]) -> Collection[str]:
        await asyncio.sleep(0)
        kept: set[str] = set()
        for entry in entries:
            fact = msgspec.structs.replace(entry, seq=next(self._seq))
            key = fact.idempotency_key
            if (fact.payment_id, fact.n) in self._facts or (key is not None and key in self._keys):
                continue
            self._facts[fact.payment_id, fact.n] = fact
            if key is not None:
                self._keys[key] = fact
            kept.add(fact.payment_id)
        return kept

    async def entries(self, after: int, limit: int) -> list[BookEntry]:
        await asyncio.sleep(0)
        resolutions = {f.authorization_id: f for f in self._facts.values() if f.type == "resolution"}
        page = (f for f in self._facts.values() if f.seq > after and f.type not in ("resolution", "fault"))
        return [_resolved(fact, resolutions.get(fact.id)) for fact in itertools.islice(page, limit)]

    async def kept_settings(self) -> tuple[str, str] | None:
        await asyncio.sleep(0)
        return self._settings

    async def keep_settings(self, mode: str, latency_ms: str) -> None:
        await asyncio.sleep(0)
        self._settings = (mode, latency_ms)

    def _of(self, payment_id: str) -> Iterable[tuple[tuple[str, int], BookEntry]]:
        n = 1
        while fact := self._facts.get((payment_id, n)):
            yield (payment_id, n), fact
            n += 1


def _resolved(fact: BookEntry, resolution: BookEntry | None) -> BookEntry:
    if resolution is None:
        return fact
    return msgspec.structs.replace(fact, status=resolution.status, code=resolution.code)
