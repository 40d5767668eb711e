"""What a buyer filled in, as the engine takes it: checked, normalized, sealed.

Owns the way from bodies to `Fields` and `Payments`, and the merging of a patch with what is there. Promises
that personal data leaves here sealed under the key of whom the checkout belongs to. Never asks the engine.
Called by the routes of checkouts and orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.context import AppContext
from api.personal import BILLING_ADDRESS, BUYER, SHIPPING_ADDRESS, Opened, seal_address, seal_buyer
from api.schemas.checkouts import CheckoutFields, CompleteCheckout, ExpressCheckout
from api.schemas.common import LineItem, given, merge_patch
from domain.checkout_model import CheckoutView, Fields, Payment, Payments, Wanted
from persistence.sealing import DataKey

OPTION = "selected_shipping_option"
_NESTED = (BUYER, SHIPPING_ADDRESS, BILLING_ADDRESS)


def has_personal_data(body: CheckoutFields) -> bool:
    """Whether anything of it must be sealed, or merged with what is there."""
    return any(name in body.model_fields_set for name in _NESTED)


async def new_fields(context: AppContext, owner: str, body: CheckoutFields) -> Fields:
    """The fields of a checkout that does not exist yet."""
    key = await context.key_ring.key(owner) if has_personal_data(body) else None
    return _fields(context, key, given(body), {})


async def patched_fields(context: AppContext, view: CheckoutView, body: CheckoutFields) -> Fields:
    """The fields after a merge patch (RFC 7396) of the checkout as `view` shows it."""
    if not has_personal_data(body):
        return _fields(context, None, given(body), {})
    key = await context.key_ring.key(view.owner)
    opened = Opened(key)
    present = {
        BUYER: opened.fields(BUYER, view.buyer),
        SHIPPING_ADDRESS: opened.fields(SHIPPING_ADDRESS, view.shipping_address),
        BILLING_ADDRESS: opened.fields(BILLING_ADDRESS, view.billing_address),
    }
    return _fields(context, key, given(body), present)


def wanted(lines: list[LineItem] | None) -> tuple[Wanted, ...]:
    """Lines, merged by their schema, for the engine."""
    return tuple(Wanted(line.sku, line.quantity) for line in lines or ())


def payments(body: CompleteCheckout | ExpressCheckout) -> Payments:
    """How the buyer pays, for the engine."""
    asked = tuple(Payment(payment.method, payment.token, payment.amount) for payment in body.payments)
    return Payments(asked, body.expected_total)


def _fields(context: AppContext, key: DataKey | None, patch: Mapping[str, Any], present: Mapping[str, Any]) -> Fields:
    merged = {
        name: merge_patch(present.get(name), patch[name])
        for name in _NESTED
        if patch.get(name) is not None and key is not None
    }
    lines = patch.get("line_items")
    return Fields(
        given=tuple(name for name in (*_NESTED, OPTION) if name in patch),
        buyer=seal_buyer(key, context.master_key, merged[BUYER]) if key and BUYER in merged else None,
        shipping_address=_address(key, SHIPPING_ADDRESS, merged),
        billing_address=_address(key, BILLING_ADDRESS, merged),
        selected_option=patch.get(OPTION),
        lines=tuple(Wanted(line["sku"], line["quantity"]) for line in lines) if lines is not None else None,
    )


def _address(key: DataKey | None, name: str, merged: Mapping[str, Any]) -> Any:
    return seal_address(key, name, merged[name]) if key is not None and name in merged else None
