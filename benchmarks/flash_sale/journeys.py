"""What a buyer does over HTTP, from the first request to an order, a refusal or a failure.

Owns the dialogue and its retries: after a lost connection, a 202, a 503 or a 429 the buyer asks again
with the same key, as a real client would, until the answer is final or their patience is used up.
Promises that every buyer ends in exactly one of sold, refused and failed. It never looks at the shop
from the operator's side. Called by the run, once in each client process.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import msgspec
from yarl import URL

from benchmarks.flash_sale.buyers import Letters, key_of
from benchmarks.flash_sale.config import Basket, Journey
from benchmarks.flash_sale.measure import Recorder
from operator_client import pause_s, problem_of

EXPRESS = "POST /v1/express-checkouts"
CART = "POST /v1/carts"
START = "POST /v1/checkouts"
PATCH = "PATCH /v1/checkouts/{id}"
COMPLETE = "POST /v1/checkouts/{id}/complete"

_ANSWER_LIMIT_S = 75.0  # the server itself answers 202 within 60 s
_ASK_AGAIN = {202: "pending", 408: "timed_out", 429: "rate_limited", 502: "bad_gateway", 503: "busy"}
_IN_PROGRESS = frozenset({"request_in_progress", "completion_in_progress"})


T = TypeVar("T")


class _Id(msgspec.Struct):
    id: str


class _Completed(msgspec.Struct):
    order: _Id


class _Opened(msgspec.Struct):
    id: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The last answer to a request. `trouble` names why it is not final; status 0: there was none."""

    status: int
    body: bytes
    trouble: str | None = None


class _EndedError(Exception):
    """A journey is over before its order: refused, or failed. Raised and caught within this module."""

    def __init__(self, code: str, *, refused: bool) -> None:
        super().__init__(code)
        self.code = code
        self.refused = refused


class Buyers:
    """The buyers of one client process on its keep-alive connections. An async context manager."""

    def __init__(
        self, url: str, letters: Letters, recorder: Recorder, *, run: str, connections: int, patience_s: float
    ) -> None:
        self._base = URL(url)
        self._express_url = self._base / "v1/express-checkouts"
        self._letters = letters
        self._recorder = recorder
        self._run = run
        self._patience_s = patience_s
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_ANSWER_LIMIT_S),
            headers={"Content-Type": "application/json"},
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )

    async def __aenter__(self) -> Buyers:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._session.close()

    async def buy(self, journey: Journey, number: int, basket: Basket) -> None:
        """Take one buyer through their journey and record how it ended."""
        travel = self._one_shot if journey == "one-shot" else self._full
        began = time.monotonic()
        try:
            order_id = await travel(number, basket)
        except _EndedError as end:
            record = self._recorder.refused if end.refused else self._recorder.failed
            record(number, end.code, began, time.monotonic())
        else:
            self._recorder.sold(number, order_id, began, time.monotonic())

    async def _one_shot(self, number: int, basket: Basket) -> str:
        headers = {"Idempotency-Key": key_of(self._run, number, "express")}
        body = self._letters.one_shot(number, basket)
        answer = await self._ask(EXPRESS, "POST", self._express_url, body, headers)
        return _read(answer, _Completed).order.id

    async def _full(self, number: int, basket: Basket) -> str:
        def keyed(step: str) -> dict[str, str]:
            return {**credentials, "Idempotency-Key": key_of(self._run, number, step)}

        credentials: dict[str, str] = {}
        letters = self._letters
        answer = await self._ask(CART, "POST", self._base / "v1/carts", letters.cart(basket), keyed("cart"))
        cart = _read(answer, _Opened)
        if cart.token:
            credentials["Cart-Token"] = cart.token
        url = self._base / "v1/checkouts"
        checkout = _read(await self._ask(START, "POST", url, letters.start(cart.id), keyed("start")), _Id)
        url /= checkout.id
        answer = await self._ask(PATCH, "PATCH", url, letters.details(number), credentials)
        if answer.status != 200:
            raise _end_of(answer)
        answer = await self._ask(COMPLETE, "POST", url / "complete", letters.complete(), keyed("complete"))
        return _read(answer, _Completed).order.id

    async def _ask(self, endpoint: str, method: str, url: URL, body: bytes, headers: dict[str, str]) -> Answer:
        """One request, sent again with its own key until its answer is final or patience is used up."""
        deadline = time.monotonic() + self._patience_s
        attempt = 0
        while True:
            retry_after = None
            began = time.monotonic()
            try:
                async with self._session.request(method, url, data=body, headers=headers) as response:
                    status, payload = response.status, await response.read()
                    retry_after = response.headers.get("Retry-After")
                self._recorder.exchange(endpoint, time.monotonic() - began)
                trouble = _ASK_AGAIN.get(status)
                if status == 409 and (code := problem_of(payload).code) in _IN_PROGRESS:
                    trouble = code
            except (aiohttp.ClientError, TimeoutError):
                status, payload, trouble = 0, b"", "connection_lost"
            if trouble is None:
                return Answer(status, payload)
            wait_s = pause_s(attempt, retry_after)
            if time.monotonic() + wait_s > deadline:
                return Answer(status, payload, trouble)
            self._recorder.retries[trouble] += 1
            attempt += 1
            await asyncio.sleep(wait_s)


def _read(answer: Answer, kind: type[T]) -> T:
    """What a 200 or 201 says; any other answer ends the journey."""
    if answer.trouble is None and answer.status in (200, 201):
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.MsgspecError as error:
            raise _EndedError("answer_not_understood", refused=False) from error
    raise _end_of(answer)


def _end_of(answer: Answer) -> _EndedError:
    """A clear 4xx, that is one with a code, is a refusal; anything else is a failure."""
    if answer.trouble is not None:
        return _EndedError(answer.trouble, refused=False)
    if 400 <= answer.status < 500:
        code = problem_of(answer.body).code
        return _EndedError(code or f"http_{answer.status}_without_code", refused=bool(code))
    return _EndedError(f"http_{answer.status}", refused=False)
