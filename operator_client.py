"""The operator's side of the HTTP contract: catalogue and stock in batches, orders, ledger, audit.

Owns the one place that speaks to a Lastunit server as its operator. It is told a `Target` (URL and
operator token) and promises that a call either has its final answer or raises `TargetError` with a
sentence for people. Lost answers, 503 and 429 are asked again under the same idempotency key.
It never reads settings or files. Called by the imports and by the flash sale.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

BATCH_LIMIT = 1000
PAGE_LIMIT = 100
FIRST_CONTACT_S = 3.0
_ASK_AGAIN = frozenset({408, 429, 502, 503, 504})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """A server and the operator's JWT for it. `url` has no path, e.g. `http://127.0.0.1:8000`."""

    url: str
    token: str


class TargetError(Exception):
    """The server could not be used; the message says why, and what to do about it. `status` 0: no answer.

    `errors`: what the server objects to in the request, by place.
    """

    def __init__(self, message: str, status: int = 0, errors: Sequence[FieldProblem] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.errors = errors


class FieldProblem(msgspec.Struct, frozen=True):
    """One objection; `path` is a JSONPath into the request's body."""

    path: str = ""
    message: str = ""


class Problem(msgspec.Struct, frozen=True):
    """What is read of an RFC 9457 answer."""

    code: str = ""
    detail: str = ""
    errors: tuple[FieldProblem, ...] = ()


class BatchResult(msgspec.Struct, frozen=True):
    """The fate of one item of a batch; `index` is its place in the request."""

    index: int
    status: str
    code: str = ""
    message: str = ""


class StockAccount(msgspec.Struct, frozen=True):
    """`on_hand` unsold units, of which `reserved` are held; `sold` confirmed less canceled."""

    sku: str
    on_hand: int
    reserved: int
    available: int
    sold: int
    received: int


class OrderLine(msgspec.Struct, frozen=True):
    sku: str
    quantity: int


class OrderBuyer(msgspec.Struct, frozen=True):
    email: str = ""


class Total(msgspec.Struct, frozen=True):
    type: str
    amount: int


class Order(msgspec.Struct, frozen=True):
    """What is read of an order; amounts are in minor units. `buyer` is None once a person was erased."""

    id: str
    status: str
    checkout_id: str
    line_items: list[OrderLine]
    buyer: OrderBuyer | None
    totals: list[Total]

    @property
    def total(self) -> int:
        return next((entry.amount for entry in self.totals if entry.type == "total"), 0)


class LedgerEntry(msgspec.Struct, frozen=True):
    """One line of the sandbox gateway's own book; `amount` is in minor units."""

    id: str
    type: str
    status: str
    checkout_id: str
    amount: int


class Violation(msgspec.Struct, frozen=True):
    code: str
    subject: str
    detail: str = ""


class Audit(msgspec.Struct, frozen=True):
    consistent: bool
    checked: dict[str, int]
    violations: list[Violation]


class _Results(msgspec.Struct, frozen=True):
    results: list[BatchResult]


class _Page(msgspec.Struct, Generic[T], frozen=True):
    data: list[T]
    next_cursor: str | None = None


def pause_s(attempt: int, retry_after: str | None, longest_s: float = 2.0) -> float:
    """Seconds to wait before asking again: what the server says, else 0.1 s doubling, with jitter."""
    try:
        return max(0.0, float(retry_after)) if retry_after is not None else _backoff_s(attempt, longest_s)
    except ValueError:  # an HTTP date: legal, rare, and not worth trusting two clocks for
        return _backoff_s(attempt, longest_s)


def _backoff_s(attempt: int, longest_s: float) -> float:
    jitter = 0.5 + random.random() / 2
    return min(longest_s, 0.1 * float(2 ** min(attempt, 10))) * jitter


def problem_of(body: bytes) -> Problem:
    """The problem in an error answer; an empty one when the body is no problem document."""
    try:
        return msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        return Problem()


class OperatorClient:
    """Async context manager over one HTTP session; safe for concurrent calls."""

    def __init__(self, target: Target, *, patience_s: float = 60.0) -> None:
        self._url = target.url.rstrip("/")
        self._token = target.token
        self._patience_s = patience_s
        self._reached = False
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"}, timeout=aiohttp.ClientTimeout(total=90)
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def put_products(self, products: Sequence[dict[str, Any]], *, dry_run: bool = False) -> list[BatchResult]:
        """Create or replace up to `BATCH_LIMIT` products; one result an item, in order."""
        body: dict[str, Any] = {"products": list(products)}
        return await self._batch("/v1/ops/products/batch", body, len(products), dry_run)

    async def set_stock(
        self, items: Sequence[dict[str, Any]], reason: str, *, dry_run: bool = False
    ) -> list[BatchResult]:
        """Set `on_hand` (`{"sku","set"}`) of up to `BATCH_LIMIT` SKUs; one result an item, in order."""
        body: dict[str, Any] = {"items": list(items), "reason": reason}
        return await self._batch("/v1/ops/stock/batch", body, len(items), dry_run)

    async def set_sandbox(self, latency_ms: str) -> None:
        """Give the sandbox gateway a latency: `"0"`, `"250"` or a range `"1000-3000"`, in milliseconds."""
        await self.call("PUT", "/v1/ops/sandbox", {"mode": "up", "latency_ms": latency_ms})

    async def stock(self, sku: str) -> StockAccount:
        body = await self.call("GET", f"/v1/ops/stock/{quote(sku, safe='')}")
        return _decode(body, StockAccount)

    async def audit(self) -> Audit:
        return _decode(await self.call("GET", "/v1/ops/audit"), Audit)

    def orders(self) -> AsyncIterator[Order]:
        """Every order of the shop, a page at a time."""
        return self._entries("/v1/ops/orders", _Page[Order])

    def ledger(self) -> AsyncIterator[LedgerEntry]:
        """Every entry of the sandbox gateway's book, a page at a time."""
        return self._entries("/v1/ops/sandbox/ledger", _Page[LedgerEntry])

    async def call(
        self, method: str, path: str, body: object = None, *, headers: dict[str, str] | None = None
    ) -> bytes:
        """The body of a 2xx answer; anything else that is final raises `TargetError`."""
        if self._session is None:
            raise RuntimeError("OperatorClient is used outside its async with")
        sent = {"Content-Type": "application/json", **(headers or {})}
        if method == "POST":
            sent.setdefault("Idempotency-Key", secrets.token_hex(16))
        data = None if body is None else msgspec.json.encode(body)
        # A server that never answered is more likely a wrong URL than one that restarts.
        deadline = time.monotonic() + (self._patience_s if self._reached else FIRST_CONTACT_S)
        attempt = 0
        while True:
            status, payload, retry_after = await self._exchange(method, path, data, sent)
            self._reached = self._reached or status > 0
            if 200 <= status < 300:
                return payload
            wait_s = pause_s(attempt, retry_after)
            if not _may_ask_again(status, payload) or time.monotonic() + wait_s > deadline:
                sentence = _sentence(self._url, method, path, status, payload)
                raise TargetError(sentence, status, problem_of(payload).errors)
            attempt += 1
            await asyncio.sleep(wait_s)

    async def _exchange(
        self, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes, str | None]:
        assert self._session is not None
        try:
            async with self._session.request(method, self._url + path, data=data, headers=headers) as answer:
                return answer.status, await answer.read(), answer.headers.get("Retry-After")
        except aiohttp.InvalidURL as error:
            raise TargetError(f"{self._url} is not a URL: {error}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            return 0, str(error).encode(), None

    async def _batch(self, path: str, body: dict[str, Any], size: int, dry_run: bool) -> list[BatchResult]:
        if dry_run:
            body["dry_run"] = True
        results = _decode(await self.call("POST", path, body), _Results).results
        results.sort(key=lambda result: result.index)
        if [result.index for result in results] != list(range(size)):
            raise TargetError(f"POST {path} did not answer for each of its {size} items")
        return results

    async def _entries(self, path: str, page_of: type[_Page[T]]) -> AsyncIterator[T]:
        cursor: str | None = ""
        while cursor is not None:
            start = f"&cursor={quote(cursor, safe='')}" if cursor else ""
            page = _decode(await self.call("GET", f"{path}?limit={PAGE_LIMIT}{start}"), page_of)
            for entry in page.data:
                yield entry
            cursor = page.next_cursor


def _may_ask_again(status: int, payload: bytes) -> bool:
    return status == 0 or status in _ASK_AGAIN or problem_of(payload).code == "request_in_progress"


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise TargetError(f"an answer of the server was not understood: {error}") from error


def _sentence(url: str, method: str, path: str, status: int, payload: bytes) -> str:
    match status:
        case 0:
            return f"no answer from {url}: {payload.decode(errors='replace')}. Is the server up?"
        case 401:
            return f"{url} does not take the operator token (401); `lastunit token --ops` gives a new one"
        case 403:
            return f"the token may not do this at {url} (403): an operator's token is needed"
    problem = problem_of(payload)
    said = " ".join(part for part in (problem.code, problem.detail) if part)
    return f"{method} {path} answered {status} {said}".rstrip()
