"""What a buyer filled in, as the engine takes it: checked, normalized, sealed.

Owns the way from bodies to `Fields` and `Payments`, and the merging of a patch with what is there. Promises
that personal data leaves here sealed under the key of whom the checkout belongs to. Never asks the engine.
Called by the routes of checkouts and orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.context import AppContext
from api.errors import field_problem
from api.personal import BILLING_ADDRESS, BUYER, SHIPPING_ADDRESS, Opened, as_kept, seal_address, seal_buyer
from api.schemas.checkouts import CheckoutFields, CompleteCheckout, ExpressCheckout
from api.schemas.common import LineItem, given, merge_patch
from domain.checkout_model import CheckoutView, Fields, Payment, Payments, Wanted
from gateways.sandbox_book import is_token_for
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
    """What a merge patch (RFC 7396) of the checkout as `view` shows it makes other than it is.

    The same words sealed anew are other bytes, so that only here can be seen what stays as it is.
    """
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


def payments(context: AppContext, body: CompleteCheckout | ExpressCheckout) -> Payments:
    """How the buyer pays, for the engine. Problem: 422, one of the sandbox's tokens with a method it is not for."""
    if context.settings.sandbox_on:
        for i, payment in enumerate(body.payments):
            if not is_token_for(payment.method, payment.token):
                text = f"This test token does not go with the method {payment.method}."
                raise field_problem(f"$.payments[{i}].token", "invalid", text)
    asked = tuple(Payment(payment.method, payment.token, payment.amount) for payment in body.payments)
    return Payments(asked, body.expected_total)


def _fields(context: AppContext, key: DataKey | None, patch: Mapping[str, Any], present: Mapping[str, Any]) -> Fields:
    merged = {
        name: merge_patch(present.get(name), patch[name])
        for name in _NESTED
        if patch.get(name) is not None and key is not None
    }
    same = [name for name, fields in merged.items() if present.get(name) and as_kept(name, fields) == present[name]]
    changed = {name: fields for name, fields in merged.items() if name not in same}
    lines = patch.get("line_items")
    return Fields(
        given=tuple(name for name in (*_NESTED, OPTION) if name in patch and name not in same),
        buyer=seal_buyer(key, context.master_key, changed[BUYER]) if key and BUYER in changed else None,
        shipping_address=_address(key, SHIPPING_ADDRESS, changed),
        billing_address=_address(key, BILLING_ADDRESS, changed),
        selected_option=patch.get(OPTION),
        lines=tuple(Wanted(line["sku"], line["quantity"]) for line in lines) if lines is not None else None,
    )


def _address(key: DataKey | None, name: str, changed: Mapping[str, Any]) -> Any:
    return seal_address(key, name, changed[name]) if key is not None and name in changed else None
