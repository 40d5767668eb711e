"""A client of a running server for tests: keyed calls, short names for what buyers and operators do."""

from __future__ import annotations

import itertools
import uuid
from typing import Any
from urllib.parse import quote

import httpx

from tests.support.server import Server, wait_until

BUYER = {"email": "grace.hopper@example.org", "name": "Grace Brewster Hopper"}
ADDRESS = {
    "name": "Grace Brewster Hopper",
    "line1": "77 Compiler Crescent",
    "city": "Springfield",
    "region": "IL",
    "postal_code": "62701",
    "country": "US",
}
DETAILS = {"buyer": BUYER, "shipping_address": ADDRESS}
PRICE = 1999

Answer = httpx.Response
Headers = dict[str, str]
_numbers = itertools.count()


def key() -> str:
    return str(uuid.uuid4())


def new_sku(prefix: str = "SKU") -> str:
    """A SKU no other test knows."""
    return f"{prefix}-{next(_numbers)}-{uuid.uuid4().hex[:6]}"


def pay_with(token: str = "pm_card_visa", method: str = "card", **more: Any) -> dict[str, Any]:
    return {"payments": [{"method": method, "token": token, **more}]}


def lines(*pairs: tuple[str, int]) -> dict[str, Any]:
    return {"line_items": [{"sku": sku, "quantity": quantity} for sku, quantity in pairs]}


def code_of(answer: Answer) -> tuple[int, str]:
    """Status and problem code: what most refusals are checked by."""
    return answer.status_code, answer.json()["code"]


def total_of(resource: dict[str, Any], kind: str = "total") -> int | None:
    return next((entry["amount"] for entry in resource["totals"] if entry["type"] == kind), None)


class Client:
    """Calls of one server. `key` None sends no Idempotency-Key; left out, every POST has one of its own."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.url, timeout=75)
        self.operator = {"Authorization": f"Bearer {server.ops_token}"}

    def close(self) -> None:
        self.http.close()

    def get(self, path: str, headers: Headers | None = None, **params: Any) -> Answer:
        return self.http.get(path, headers=headers, params=params or None)

    def send(
        self, method: str, path: str, body: Any = None, headers: Headers | None = None, *, key_is: str | None = ""
    ) -> Answer:
        more = dict(headers or {})
        if key_is is not None and method == "POST":
            more.setdefault("Idempotency-Key", key_is or key())
        return self.http.request(method, path, json=body, headers=more)

    def post(self, path: str, body: Any = None, headers: Headers | None = None, *, key_is: str | None = "") -> Answer:
        return self.send("POST", path, body, headers, key_is=key_is)

    # ── the operator ────────────────────────────────────────────────────────────────────────────────────

    def ops(self, method: str, path: str, body: Any = None) -> Any:
        """An operator's call that must succeed; its document."""
        answer = self.send(method, path, body, self.operator)
        assert answer.is_success, answer.text
        return answer.json()

    def ship(self, order_id: str) -> Any:
        """The shipped order. Until its payment is captured, the operator is told to ask again shortly."""

        def shipped() -> Any:
            tracking = {"carrier": "UPS", "tracking_number": "1Z"}
            answer = self.send("POST", f"/v1/ops/orders/{order_id}/ship", tracking, self.operator)
            if answer.status_code == 409 and answer.json()["code"] == "request_in_progress":
                return None
            assert answer.is_success, answer.text
            return answer.json()

        return wait_until(shipped, "shipped")

    def product(self, units: int = 10, price: int = PRICE, sku: str = "") -> str:
        """A product that is in stock."""
        sku = sku or new_sku()
        path = quote(sku, safe="")
        self.ops("PUT", f"/v1/ops/products/{path}", {"title": f"The {sku}", "prices": {"USD": price}})
        self.ops("POST", f"/v1/ops/stock/{path}/adjustments", {"set": units, "reason": "test"})
        return sku

    def stock(self, sku: str) -> dict[str, Any]:
        document: dict[str, Any] = self.ops("GET", f"/v1/ops/stock/{quote(sku, safe='')}")
        return document

    def figures(self, sku: str) -> tuple[int, int, int, int]:
        """on_hand, reserved, available, sold; and what must always hold of them does."""
        found = self.stock(sku)
        assert found["on_hand"] + found["sold"] == found["received"]
        assert found["available"] == found["on_hand"] - found["reserved"] >= 0
        return found["on_hand"], found["reserved"], found["available"], found["sold"]

    def ledger(self) -> list[dict[str, Any]]:
        """The gateway's whole book."""
        return self.pages("/v1/ops/sandbox/ledger")

    def pages(self, path: str, headers: Headers | None = None) -> list[dict[str, Any]]:
        """All entries of a list, page by page."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = self.get(path, headers or self.operator, limit=100, **cursor)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}

    def money(self, checkout_id: str) -> list[tuple[str, str, int]]:
        """What the gateway's book says of one checkout: type, status, amount."""
        return [
            (entry["type"], entry["status"], entry["amount"])
            for entry in self.ledger()
            if entry["checkout_id"] == checkout_id
        ]

    def resolve(self, payment_id: str, outcome: str = "succeed") -> None:
        self.ops("POST", f"/v1/ops/sandbox/payments/{payment_id}/resolve", {"outcome": outcome})

    # ── the buyer ───────────────────────────────────────────────────────────────────────────────────────

    def start(self, sku: str, quantity: int = 1, **fields: Any) -> Checkout:
        """A guest's checkout, ready to be completed."""
        answer = self.post("/v1/checkouts", {**lines((sku, quantity)), **DETAILS, **fields})
        assert answer.status_code == 201, answer.text
        return Checkout(self, answer)

    def express(
        self, sku: str, token: str = "pm_card_visa", quantity: int = 1, *, key_is: str = "", **fields: Any
    ) -> Answer:
        body = {**lines((sku, quantity)), **DETAILS, **pay_with(token), **fields}
        return self.post("/v1/express-checkouts", body, key_is=key_is)

    def ordered(self, sku: str, **fields: Any) -> tuple[str, Headers]:
        """A placed order: its path and what opens it."""
        answer = self.express(sku, **fields)
        assert answer.status_code == 200, answer.text
        return f"/v1/orders/{answer.json()['order']['id']}", {"Cart-Token": answer.json()["token"]}


class Checkout:
    """One checkout of a guest, by its path and token."""

    def __init__(self, client: Client, answer: Answer) -> None:
        document = answer.json()
        self.client = client
        self.id: str = document["id"]
        self.path = f"/v1/checkouts/{self.id}"
        self.headers = {"Cart-Token": document["token"]}
        self.total = total_of(document)

    def read(self) -> dict[str, Any]:
        answer = self.client.get(self.path, self.headers)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def patch(self, body: Any, **headers: str) -> Answer:
        return self.client.send("PATCH", self.path, body, self.headers | headers)

    def complete(
        self, token: str = "pm_card_visa", *, key_is: str = "", method: str = "card", **headers: str
    ) -> Answer:
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.client.post(f"{self.path}/complete", pay_with(token, method), sent, key_is=key_is)

    def confirm(self, payment_id: str) -> Answer:
        return self.client.post(f"{self.path}/payments/{payment_id}/confirm", None, self.headers)

    def cancel(self, **headers: str) -> Answer:
        return self.client.post(f"{self.path}/cancel", None, self.headers | headers)

    def until(self, status: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Its document once it has this status."""
        found: dict[str, Any] = {}

        def arrived() -> bool:
            found.update(self.read())
            return bool(found["status"] == status)

        wait_until(arrived, f"checkout {status}", timeout_s)
        return found
