"""One sale as it looks in answers: the examples of the API's description, all of the same cart and order.

Owns texts only. A test holds them against the models that describe the answers. The models of bodies take the
same buyer.
"""

from __future__ import annotations

from typing import Any

_LINE = {
    "id": "li_01jd4x6p8rk2m5q7t9vbdfhkmn",
    "sku": "ROSE-RED-12",
    "title": "A dozen red roses",
    "quantity": 2,
    "unit_price": 1999,
    "amount": 3998,
}
BUYER: dict[str, Any] = {"email": "ada@example.com", "name": "Ada Lovelace"}
ADDRESS: dict[str, Any] = {
    "name": "Ada Lovelace",
    "line1": "1 Main St",
    "city": "Springfield",
    "region": "IL",
    "postal_code": "62701",
    "country": "US",
}
_TOTALS = [
    {"type": "subtotal", "amount": 3998},
    {"type": "fulfillment", "amount": 500},
    {"type": "tax", "amount": 281},
    {"type": "total", "amount": 4779},
]
_FIGURES = {"sku": "ROSE-RED-12", "on_hand": 42, "reserved": 2, "available": 40, "sold": 58, "received": 100}
_CHECKOUT_ID = "chk_01jd4x7b2nk5p8r0t3w6y9azcd"
_ORDER_ID = "ord_01jd4x8c4mk5p8r0t3w6y9azcd"
_STARTED = "2026-05-04T09:30:00.000Z"
_PLACED = "2026-05-04T09:31:12.480Z"

_CART = {
    "id": "cart_01jd4x6p8rk2m5q7t9vbdfhkmn",
    "version": 2,
    "status": "open",
    "currency": "USD",
    "customer_id": None,
    "line_items": [_LINE],
    "coupons": [],
    "totals": [{"type": "subtotal", "amount": 3998}, {"type": "total", "amount": 3998}],
    "messages": [],
    "expires_at": "2026-05-04T10:00:00.000Z",
    "created_at": _STARTED,
    "updated_at": _STARTED,
}
_CHECKOUT = {
    "id": _CHECKOUT_ID,
    "version": 3,
    "status": "ready_for_complete",
    "cart_id": _CART["id"],
    "currency": "USD",
    "line_items": [_LINE],
    "buyer": BUYER,
    "shipping_address": ADDRESS,
    "billing_address": None,
    "shipping_options": [{"id": "standard", "label": "Standard", "amount": 500, "min_days": 3, "max_days": 5}],
    "selected_shipping_option": "standard",
    "coupons": [],
    "totals": _TOTALS,
    "messages": [],
    "reservation": {"status": "held", "expires_at": "2026-05-04T09:45:40.112Z"},
    "payments": [],
    "created_at": _STARTED,
    "updated_at": "2026-05-04T09:30:40.112Z",
}
_PAYMENT = {
    "id": "pay_01jd4x8b1xk7m3p5r9t2vwyzab",
    "method": "card",
    "status": "authorized",
    "amount": 4779,
    "gateway": "sandbox",
}
_ORDER = {
    "id": _ORDER_ID,
    "number": "7K2M-Q9TV-BDFH",
    "status": "confirmed",
    "payment_status": "authorized",
    "checkout_id": _CHECKOUT_ID,
    "customer_id": None,
    "currency": "USD",
    "buyer": BUYER,
    "shipping_address": ADDRESS,
    "ship_to": ADDRESS,
    "amendments": [],
    "line_items": [_LINE],
    "totals": _TOTALS,
    "payments": [_PAYMENT],
    "created_at": _PLACED,
    "confirmed_at": _PLACED,
}
_COMPLETED = _CHECKOUT | {
    "version": 9,
    "status": "completed",
    "reservation": {"status": "pinned", "expires_at": None},
    "payments": [_PAYMENT],
    "order_id": _ORDER_ID,
    "updated_at": _PLACED,
}

# By the name of the model that describes the answer.
EXAMPLES: dict[str, dict[str, Any]] = {
    "Cart": _CART,
    "Checkout": _CHECKOUT,
    "Completion": {"checkout": _COMPLETED, "order": _ORDER},
    "Order": _ORDER,
    "OrderPage": {"data": [_ORDER], "next_cursor": None},
    "OrderEventPage": {
        "data": [
            {
                "at": _PLACED,
                "actor": "buyer",
                "type": "confirmed",
                "detail": {"total": 4779, "currency": "USD", "checkout_id": _CHECKOUT_ID},
            }
        ],
        "next_cursor": None,
    },
    "StockLevel": {"sku": "ROSE-RED-12", "available": 40},
    "StockLevels": {"data": [{"sku": "ROSE-RED-12", "available": 40}]},
    "StockFigures": _FIGURES,
    "StockAccount": {
        **_FIGURES,
        "owner": "stock-0",
        "epoch": 3,
        "holds": [
            {
                "id": "5p8r0t3w6y9azcd1",
                "checkout_id": _CHECKOUT_ID,
                "quantity": 2,
                "pinned": False,
                "expires_at": "2026-05-04T09:45:40.112Z",
            }
        ],
    },
    "ProductFacts": {
        "sku": "ROSE-RED-12",
        "title": "A dozen red roses",
        "prices": {"USD": 1999},
        "weight_g": 600,
        "tax_category": "standard",
        "category": None,
        "purchase_limit": None,
    },
    "BatchResults": {
        "results": [
            {"index": 0, "status": "created"},
            {"index": 1, "status": "error", "code": "missing", "message": "$.title: This is required."},
        ]
    },
    "SandboxState": {"mode": "up", "latency_ms": "1000-3000"},
    "LedgerPage": {
        "data": [
            {
                "id": "cap_01jd4x8b1xk7m3p5r9t2vwyzab_2",
                "type": "capture",
                "status": "succeeded",
                "authorization_id": "auth_01jd4x8b1xk7m3p5r9t2vwyzab_1",
                "payment_id": "pay_01jd4x8b1xk7m3p5r9t2vwyzab",
                "checkout_id": _CHECKOUT_ID,
                "amount": 4779,
                "currency": "USD",
                "idempotency_key": "pay_01jd4x8b1xk7m3p5r9t2vwyzab:capture:0",
                "token": "pm_card_visa",
                "created_at": _PLACED,
            }
        ],
        "next_cursor": None,
    },
    "Audit": {
        "consistent": True,
        "checked": {"accounts": 120, "payments": 58, "orders": 58, "journal_records": 944},
        "violations": [],
    },
}
