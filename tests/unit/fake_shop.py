"""An in-memory shop behind the HTTP contract, just enough of it for buyers, operators and imports.

It is honest unless told of faults: each name in `faults` makes it break one promise of the engine, so that
a test can see who notices. Used by the tests of the flash sale and of the imports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

TOKEN = "operator-token"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(status: int, code: str, **more: Any) -> web.Response:
    body = {"type": "about:blank", "title": code, "status": status, "detail": "", "code": code, **more}
    return web.json_response(body, status=status, content_type="application/problem+json")


class FakeShop:
    """Faults: `oversell`, `lose_order`, `two_orders`, `double_capture`, `capture_without_order`,
    `half_capture`, `no_ledger`, `leak_stock`, `refuse_wrongly`, `audit_violation`. `moods` are taken one
    before each buyer's answer: `busy`, `pending`, `drop` (done, the answer lost), `crash` (500).
    """

    def __init__(self, *, faults: set[str] | None = None, moods: list[str] | None = None) -> None:
        self.faults = faults or set()
        self.token = TOKEN
        self.moods = list(moods or [])
        self.products: dict[str, dict[str, Any]] = {}
        self.on_hand: Counter[str] = Counter()
        self.sold: Counter[str] = Counter()
        self.orders: list[dict[str, Any]] = []
        self.ledger: list[dict[str, Any]] = []
        self.kept: dict[str, web.Response] = {}
        self.keys: Counter[str] = Counter()
        self.carts: dict[str, Any] = {}
        self.checkouts: dict[str, Any] = {}
        self.sandbox: list[dict[str, Any]] = []
        self.batches: list[tuple[str, dict[str, Any]]] = []

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """The shop on a free port of this machine; gives its URL."""
        app = web.Application(middlewares=[self._guard], client_max_size=4 << 20)
        app.add_routes(
            [
                web.get("/healthz", self._health),
                web.post("/v1/ops/products/batch", self._put_products),
                web.post("/v1/ops/stock/batch", self._set_stock),
                web.put("/v1/ops/sandbox", self._set_sandbox),
                web.get("/v1/ops/stock/{sku}", self._stock),
                web.get("/v1/ops/orders", self._orders),
                web.get("/v1/ops/sandbox/ledger", self._ledger),
                web.get("/v1/ops/audit", self._audit),
                web.post("/v1/carts", self._cart),
                web.post("/v1/checkouts", self._start),
                web.patch("/v1/checkouts/{id}", self._patch),
                web.post("/v1/checkouts/{id}/cancel", self._cancel),
                web.post("/v1/checkouts/{id}/complete", self._complete),
                web.post("/v1/express-checkouts", self._express),
            ]
        )
        server = TestServer(app)
        await server.start_server()
        try:
            yield str(server.make_url("")).rstrip("/")
        finally:
            await server.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/v1/ops"):
            authorized = request.headers.get("Authorization") == f"Bearer {self.token}"
            return await handler(request) if authorized else problem(401, "unauthorized")
        key = request.headers.get("Idempotency-Key", "")
        self.keys[key] += 1
        if self.moods and request.method == "POST" and "/carts" not in request.path:
            return await self._in_mood(self.moods.pop(0), key, request, handler)
        return await self._once(key, request, handler)

    async def _in_mood(self, mood: str, key: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        match mood:
            case "busy":
                return web.json_response({"code": "busy"}, status=503, headers={"Retry-After": "0"})
            case "crash":
                return web.Response(status=500)
        answer = await self._once(key, request, handler)
        if mood == "pending":
            return web.json_response({"checkout": {}}, status=202, headers={"Retry-After": "0"})
        if mood == "drop":
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _once(self, key: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not key:
            return await handler(request)
        if key not in self.kept:
            answer = await handler(request)
            assert isinstance(answer, web.Response)
            self.kept[key] = answer
        kept = self.kept[key]
        return web.Response(body=kept.body, status=kept.status, content_type=kept.content_type)

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": "fake"})

    async def _put_products(self, request: web.Request) -> web.Response:
        body = await self._batch(request)
        results: list[dict[str, Any]] = []
        for index, product in enumerate(body["products"]):
            if "4111" in product["title"]:
                path, message = f"$.products[{index}].title", "Looks like a card number."
                errors = [{"path": path, "code": "card_number_refused", "message": message}]
                return problem(422, "card_number_refused", detail=f"{path}: {message}", errors=errors)
        for index, product in enumerate(body["products"]):
            before = self.products.get(product["sku"])
            if product["title"] == "REFUSED":
                results.append({"index": index, "status": "error", "code": "invalid", "message": "not here"})
                continue
            status = "created" if before is None else "unchanged" if before == product else "replaced"
            if not body.get("dry_run"):
                self.products[product["sku"]] = product
            results.append({"index": index, "status": status})
        return web.json_response({"results": results})

    async def _set_stock(self, request: web.Request) -> web.Response:
        body = await self._batch(request)
        results = []
        for index, item in enumerate(body["items"]):
            sku, units = item["sku"], item["set"]
            if sku not in self.products:
                message = f"there is no product {sku}"
                results.append({"index": index, "status": "error", "code": "not_found", "message": message})
                continue
            status = "unchanged" if self.on_hand.get(sku) == units else "set"
            if not body.get("dry_run"):
                self.on_hand[sku] = units
            results.append({"index": index, "status": status})
        return web.json_response({"results": results})

    async def _batch(self, request: web.Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        self.batches.append((request.path, body))
        return body

    async def _set_sandbox(self, request: web.Request) -> web.Response:
        self.sandbox.append(await request.json())
        return web.json_response({})

    async def _stock(self, request: web.Request) -> web.Response:
        sku = request.match_info["sku"]
        sold, on_hand = self.sold[sku], self.on_hand[sku]
        received = on_hand + sold - (1 if "leak_stock" in self.faults else 0)
        return web.json_response(
            {
                "sku": sku,
                "on_hand": on_hand,
                "reserved": 0,
                "available": on_hand,
                "sold": sold,
                "received": received,
            }
        )

    async def _orders(self, request: web.Request) -> web.Response:
        return self._page(request, self.orders)

    async def _ledger(self, request: web.Request) -> web.Response:
        return problem(404, "not_found") if "no_ledger" in self.faults else self._page(request, self.ledger)

    def _page(self, request: web.Request, rows: list[dict[str, Any]]) -> web.Response:
        start, limit = int(request.query.get("cursor", "0")), int(request.query["limit"])
        end = start + limit
        cursor = str(end) if end < len(rows) else None
        return web.json_response({"data": rows[start:end], "next_cursor": cursor})

    async def _audit(self, _request: web.Request) -> web.Response:
        violations = [{"code": "stock_mismatch", "subject": "sku:1", "detail": "made up"}]
        shown = violations if "audit_violation" in self.faults else []
        checked = {"accounts": len(self.on_hand), "payments": len(self.ledger), "orders": len(self.orders)}
        return web.json_response({"consistent": not shown, "checked": checked, "violations": shown})

    async def _cart(self, request: web.Request) -> web.Response:
        lines = (await request.json()).get("line_items", [])
        if len(lines) > 50:
            return problem(422, "too_many_lines")
        cart = {"id": f"cart_{len(self.carts)}", "currency": "USD", "line_items": lines}
        self.carts[cart["id"]] = cart
        return web.json_response({**cart, "token": f"token-{cart['id']}"}, status=201)

    async def _start(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "cart_id" in body:
            if request.headers.get("Cart-Token") != f"token-{body['cart_id']}":
                return problem(404, "not_found")
            body |= {"line_items": self.carts[body["cart_id"]]["line_items"]}
        return self._hold(body) or self._opened(body)

    def _opened(self, body: dict[str, Any]) -> web.Response:
        checkout = {"id": f"chk_{len(self.checkouts)}", **body}
        self.checkouts[checkout["id"]] = checkout
        options = [
            {"id": "slow", "label": "Slow", "amount": 100},
            {"id": "fast", "label": "Fast", "amount": 900},
        ]
        return web.json_response({**checkout, "shipping_options": options, "token": "t"}, status=201)

    async def _patch(self, request: web.Request) -> web.Response:
        checkout = self.checkouts[request.match_info["id"]]
        checkout.update(await request.json())
        return web.json_response({"id": checkout["id"]})

    async def _cancel(self, request: web.Request) -> web.Response:
        checkout = self.checkouts[request.match_info["id"]]
        for line in checkout["line_items"]:
            self.on_hand[line["sku"]] += line["quantity"]
            self.sold[line["sku"]] -= line["quantity"]
        return web.json_response({"id": checkout["id"]})

    async def _complete(self, request: web.Request) -> web.Response:
        return self._pay(self.checkouts[request.match_info["id"]])

    async def _express(self, request: web.Request) -> web.Response:
        body = await request.json()
        if len(body["line_items"]) > 50:
            return problem(422, "too_many_lines")
        refused = self._hold(body)
        return refused or self._pay({"id": f"chk_{len(self.kept)}-{body['buyer']['email']}", **body})

    def _hold(self, body: dict[str, Any]) -> web.Response | None:
        lines = body["line_items"]
        if "refuse_wrongly" in self.faults and len(self.orders) == 5:
            return problem(409, "out_of_stock")
        short = [line for line in lines if self.on_hand[line["sku"]] < line["quantity"]]
        if short and "oversell" not in self.faults:
            return problem(409, "out_of_stock", errors=[{"code": "out_of_stock", "sku": short[0]["sku"]}])
        for line in lines:
            self.on_hand[line["sku"]] -= line["quantity"]
            self.sold[line["sku"]] += line["quantity"]
        return None

    def _pay(self, checkout: dict[str, Any]) -> web.Response:
        total = sum(
            line["quantity"] * next(iter(self.products[line["sku"]]["prices"].values()))
            for line in checkout["line_items"]
        )
        order = {
            "id": f"ord_{len(self.kept)}-{checkout['id']}",
            "status": "confirmed",
            "checkout_id": checkout["id"],
            "line_items": checkout["line_items"],
            "buyer": checkout["buyer"],
            "totals": [{"type": "subtotal", "amount": total}, {"type": "total", "amount": total}],
        }
        first = not self.orders
        if not (first and "lose_order" in self.faults):
            self.orders.append(order)
        if first and "two_orders" in self.faults:
            self.orders.append({**order, "id": "ord_second"})
        paid = total // 2 if "half_capture" in self.faults else total
        captures = 2 if first and "double_capture" in self.faults else 1
        for n in range(captures):
            self._book(f"cap_{order['id']}_{n}", checkout["id"], paid)
        if first and "capture_without_order" in self.faults:
            self._book("cap_stray", "chk_stray", 500)
        return web.json_response({"checkout": {"id": checkout["id"]}, "order": order, "token": "t"})

    def _book(self, entry_id: str, checkout_id: str, amount: int) -> None:
        entry = {"id": entry_id, "status": "succeeded", "checkout_id": checkout_id, "amount": amount}
        self.ledger.append({**entry, "type": "authorization"})
        self.ledger.append({**entry, "type": "capture"})
