"""What a checkout costs and how long it is reserved: `domain.pricing` asked about a saga's state.

Decides nothing; called by the parts of the saga.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain import ids
from domain.catalog import Line, Product
from domain.checkout_state import Address, Checkout, Policy, Rules, Wanted
from domain.pricing import Pricing, price


def expires_at_ms(policy: Policy, cart_id: str | None, now_ms: int) -> int:
    """The reservation's time after an action of the buyer's, which is an action in the cart, too: both idle from now
    on, and the reservation does not outlast the time at which the cart counts as idle."""
    lasts_ms = policy.hold_ttl_ms if cart_id is None else min(policy.hold_ttl_ms, policy.cart_idle_ms)
    return now_ms + lasts_ms


def price_lines(
    state: Checkout,
    rules: Rules,
    wanted: tuple[Wanted, ...],
    products: Mapping[str, Product],
    address: Address | None,
    chosen: str | None,
) -> Pricing:
    """These lines at the prices frozen in ``products``. A line's id is its SKU's, whatever its quantity."""
    key = ids.body(state.id)
    lines = [
        (
            Line(ids.derived("li", state.created_at_ms, key, line.sku), line.sku, line.quantity),
            products[line.sku],
        )
        for line in wanted
    ]
    place = address.place if address is not None else None
    return price(lines, state.currency, rules.shipping, rules.tax, place, chosen)


def priced(pricing: Pricing) -> dict[str, Any]:
    """The fields of the state that a pricing sets."""
    return {
        "lines": pricing.lines,
        "totals": pricing.totals,
        "total": pricing.total,
        "offers": pricing.offers,
        "selected": pricing.selected,
        "deliverable": pricing.deliverable,
    }


def total_to(state: Checkout, rules: Rules, address: Address | None) -> int:
    """The total if the checkout were shipped there by the option selected, by today's tables."""
    return price_lines(state, rules, state.wanted, state.products, address, state.selected).total
