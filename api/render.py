"""The engine's views as the resources of the API, and resources as answers.

Owns the shape of what `api/schemas` describes. Promises the same bytes for the same view, so that a
repeated request is answered as the first one was. Is told views and what opens their personal data. Never
decides a status. Called by the routes; carts, which are priced on the way out, are put together in
`api/cart_pricing.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.responses import Response

from api.personal import BILLING_ADDRESS, BUYER, SHIPPING_ADDRESS, Opened
from domain.catalog import Product
from domain.checkout_model import CheckoutView, Message, PaymentView
from domain.order import Amendment, OrderEventRow, OrderView, PaymentLine
from domain.payments import BookEntry
from domain.pricing import PricedLine, Total
from domain.stock_model import HoldLine, Levels

Document = dict[str, Any]

MEDIA_TYPE = "application/json"
# Answers hold tokens and personal data: no cache on the way may keep them.
PRIVATE = {"Cache-Control": "no-store"}

encode = msgspec.json.Encoder().encode


def answer(document: Any, status: int = 200, headers: Mapping[str, str] = PRIVATE) -> Response:
    """A document as an answer, `no-store` unless other headers are given."""
    return Response(encode(document), status, headers, MEDIA_TYPE)


def with_version(version: int, headers: Mapping[str, str] | None = None) -> dict[str, str]:
    """The headers of a versioned resource: what `If-Match` compares with, and more."""
    return {"ETag": f'"{version}"', **PRIVATE, **(headers or {})}


def rfc3339(at_ms: int) -> str:
    """Milliseconds since 1970 as UTC, to the millisecond."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def checkout(view: CheckoutView, opened: Opened, public_url: str = "") -> Document:
    """A checkout. `public_url` completes the relative links of gateways without pages of their own."""
    document: Document = {
        "id": view.id,
        "version": view.version,
        "status": view.status,
        "cart_id": view.cart_id,
        "currency": view.currency,
        "line_items": line_items(view.lines),
        "buyer": opened.document(BUYER, view.buyer),
        "shipping_address": opened.document(SHIPPING_ADDRESS, view.shipping_address),
        "billing_address": opened.document(BILLING_ADDRESS, view.billing_address),
        "shipping_options": [
            {
                "id": offer.id,
                "label": offer.label,
                "amount": offer.amount,
                "min_days": offer.min_days,
                "max_days": offer.max_days,
            }
            for offer in view.offers
        ],
        "selected_shipping_option": view.selected,
        "coupons": [],
        "totals": totals(view.totals),
        "messages": messages(view.messages),
        "reservation": {
            "status": view.reservation,
            "expires_at": _time(view.reservation_expires_at_ms),
        },
        "payments": _payments(view.payments),
        "created_at": rfc3339(view.created_at_ms),
        "updated_at": rfc3339(view.updated_at_ms),
    }
    if view.cancel_reason is not None:
        document["cancel_reason"] = view.cancel_reason
    if view.next_action is not None:
        document.update(_next_step(view.next_action, public_url))
    if view.order_id is not None:
        document["order_id"] = view.order_id
    return document


def order(view: OrderView, opened: Opened) -> Document:
    """An order: what was confirmed, and how it stands."""
    document: Document = {
        "id": view.id,
        "number": view.number,
        "status": view.status,
        "payment_status": view.payment_status,
        "checkout_id": view.checkout_id,
        "customer_id": opened.customer_id(view.customer),
        "currency": view.currency,
        "buyer": opened.document(BUYER, view.buyer),
        "shipping_address": opened.document(SHIPPING_ADDRESS, view.shipping_address),
        "ship_to": opened.document(SHIPPING_ADDRESS, view.ship_to),
        "amendments": [_amendment(entry, opened) for entry in view.amendments],
        "line_items": line_items(view.lines),
        "totals": totals(view.totals),
        "payments": _payments(view.payments),
        "created_at": rfc3339(view.created_at_ms),
        "confirmed_at": _time(view.confirmed_at_ms),
    }
    if view.tracking is not None:
        document["tracking"] = {
            "carrier": view.tracking.carrier,
            "tracking_number": view.tracking.tracking_number,
        }
    return document


def order_event(row: OrderEventRow, opened: Opened) -> Document:
    """One entry of an order's audit trail."""
    detail = opened.detail(msgspec.json.decode(row.detail))
    return {"at": rfc3339(row.at_ms), "actor": row.actor, "type": row.type, "detail": detail}


def line_items(lines: Iterable[PricedLine]) -> list[Document]:
    """Priced lines."""
    return [
        {
            "id": line.id,
            "sku": line.sku,
            "title": line.title,
            "quantity": line.quantity,
            "unit_price": line.unit_price,
            "amount": line.amount,
        }
        for line in lines
    ]


def totals(entries: Iterable[Total]) -> list[Document]:
    """Totals; `included` appears only where it is true."""
    return [
        {"type": entry.type, "amount": entry.amount, "included": True}
        if entry.included
        else {"type": entry.type, "amount": entry.amount}
        for entry in entries
    ]


def messages(entries: Iterable[Message]) -> list[Document]:
    """What the buyer must fix or should know."""
    return [
        {
            "type": entry.type,
            "code": entry.code,
            "path": entry.path,
            "content": entry.content,
            "severity": entry.severity,
        }
        for entry in entries
    ]


def product(sku: str, facts: Product) -> Document:
    """A product as it is stored."""
    return {
        "sku": sku,
        "title": facts.title,
        "prices": facts.prices,
        "weight_g": facts.weight_g,
        "tax_category": facts.tax_category,
        "category": facts.category,
        "purchase_limit": facts.purchase_limit,
    }


def stock_figures(levels: Levels) -> Document:
    """The figures of a SKU."""
    return {
        "sku": levels.sku,
        "on_hand": levels.on_hand,
        "reserved": levels.reserved,
        "available": levels.available,
        "sold": levels.sold,
        "received": levels.received,
    }


def hold(line: HoldLine, checkout_id: str) -> Document:
    """Units that a checkout holds; a pinned hold does not expire."""
    return {
        "id": line.id,
        "checkout_id": checkout_id,
        "quantity": line.quantity,
        "pinned": line.pinned,
        "expires_at": None if line.pinned else rfc3339(line.expires_at_ms),
    }


def ledger_entry(entry: BookEntry) -> Document:
    """One fact in the sandbox gateway's book."""
    return {
        "id": entry.id,
        "type": entry.type,
        "status": entry.status,
        "authorization_id": entry.authorization_id,
        "payment_id": entry.payment_id,
        "checkout_id": entry.checkout_id,
        "amount": entry.amount_minor,
        "currency": entry.currency,
        "idempotency_key": entry.idempotency_key,
        "token": entry.token,
        "created_at": rfc3339(entry.created_at_ms),
    }


def _payments(payments: Iterable[PaymentView | PaymentLine]) -> list[Document]:
    documents = []
    for payment in payments:
        document = {
            "id": payment.id,
            "method": payment.method,
            "status": payment.status,
            "amount": payment.amount,
            "gateway": payment.gateway,
        }
        if payment.error is not None:
            document["error"] = payment.error
        documents.append(document)
    return documents


def _next_step(next_action: Document, public_url: str) -> Document:
    redirect = next_action.get("redirect_to_url")
    if not isinstance(redirect, Mapping) or "url" not in redirect:
        return {"next_action": next_action}
    url = str(redirect["url"])
    if url.startswith("/"):
        url = public_url + url
    return {"next_action": {**next_action, "redirect_to_url": {**redirect, "url": url}}, "continue_url": url}


def _amendment(entry: Amendment, opened: Opened) -> Document:
    address = opened.document(SHIPPING_ADDRESS, entry.sealed)
    return {"at": rfc3339(entry.at_ms), "type": entry.type, "shipping_address": address}


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)
